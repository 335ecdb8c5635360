"""A conversation in full duplex: both channels on one time axis, the frame grid, each side's tokens on it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from speechrows.conversations.duplex_tokens import SpecialIds
from speechrows.conversations.duplex_tokens import TimedText
from speechrows.conversations.duplex_tokens import plain
from speechrows.conversations.duplex_tokens import token_channel
from speechrows.conversations.frames import FrameGrid
from speechrows.conversations.placing import arranged
from speechrows.conversations.records import Record
from speechrows.conversations.special import special_ids
from speechrows.conversations.turns import TURN_TASKS
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.turns import turns_of
from speechrows.errors import UsageError
from speechrows.preview.tokens import token_text
from speechrows.text.tokenizers import text_ids

FRAME_S = 0.08
GAP_S = 0.2  # where rows tell no times, as the view has it
_MAX_FRAMES = 7_500  # ten minutes
_SPECIAL = SpecialIds(bos=-1, eos=-2, pad=-3)  # shown as signs, whatever the tokenizer calls them
_SIGNS = {_SPECIAL.bos: ("bos", "a turn begins"), _SPECIAL.eos: ("eos", "a turn ends")}


def duplex(
    task: str, rows: Sequence[tuple[int, Mapping[str, Any]]], tokenizer: PreTrainedTokenizerFast
) -> dict[str, Any] | None:
    """Return the channels of a conversation's rows, numbered; None where rows are no turns, or too long."""
    if task not in TURN_TASKS:
        return None
    turns = [turn for row, cells in rows for turn in turns_of(_record(row, cells), is_turn=True)]
    at = arranged(turns, [turn.role for turn in turns], GAP_S)
    grid = FrameGrid(frame_length_s=FRAME_S, rate_hz=at.rate_hz)
    if grid.hop < 1 or not 0 < (num_frames := grid.frame_at(at.num_samples / at.rate_hz)) <= _MAX_FRAMES:
        return None
    ids = text_ids(tokenizer, [plain(turn.text) for turn in turns], split=True)
    texts = [
        TimedText(text=turns[number].text, ids=ids[number], start_s=start_s, stop_s=stop_s)
        for number, (start_s, stop_s) in zip(at.order, at.times(), strict=True)
    ]
    lanes, num_cut = list[dict[str, Any]](), 0
    for role in ("user", "assistant"):
        own = [i for i, number in enumerate(at.order) if turns[number].role == role]
        tokens, cut_here = token_channel([texts[i] for i in own], num_frames, grid, _SPECIAL, "cut", "")
        num_cut += cut_here
        lanes.append({
            "role": role,
            "clips": [_clip(turns[at.order[i]], texts[i]) for i in own],
            "tokens": [
                _token(frame, token, tokenizer)
                for frame, token in enumerate(tokens.tolist())
                if token != _SPECIAL.pad
            ],
        })  # fmt: skip
    return {
        "lanes": lanes,
        "frames": num_frames,
        "seconds": [(second, second / FRAME_S) for second in range(int(at.num_samples / at.rate_hz) + 1)],
        "has_times": all(turn.start_s is not None for turn in turns),
        "num_cut": num_cut,
        "num_turns": len(turns),
        "fault": _fault(tokenizer),
    }


def _record(row: int, cells: Mapping[str, Any]) -> Record:
    """A row as conversations are made of; its clips are heard elsewhere."""
    return {"start_s": None, **cells, "audio": None, "target_audio": None, "row": row}


def _clip(turn: SpokenTurn, text: TimedText) -> dict[str, Any]:
    return {
        "row": turn.row,
        "left": text.start_s / FRAME_S,
        "width": (text.stop_s - text.start_s) / FRAME_S,
        "title": f"{turn.speaker or turn.role}, {text.start_s:.2f} to {text.stop_s:.2f} s: {turn.text}",
    }


def _token(frame: int, token: int, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    when = f"frame {frame}, {frame * FRAME_S:.2f} s"
    if token in _SIGNS:
        sign, meaning = _SIGNS[token]
        return {"frame": frame, "text": sign, "kind": sign, "title": f"{when}: {meaning}"}
    text = token_text(token, tokenizer)
    return {"frame": frame, "text": text, "kind": "text", "title": f"{when}: id {token}, {text!r}"}


def _fault(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """Return why load_duplex does not take the tokenizer, if it does not."""
    try:
        special_ids(tokenizer, FRAME_S)
    except UsageError as error:
        return str(error)
    return None
