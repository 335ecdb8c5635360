"""A row's tokens as pieces to look at: what takes loss, what does not, the audio's places, padding."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from typing import Literal

from transformers import PreTrainedTokenizerFast

from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX

Kind = Literal["supervised", "masked", "audio", "padding", "wrong"]
KINDS: Mapping[Kind, str] = {
    "supervised": "takes loss",
    "masked": "is read, takes no loss",
    "audio": "the clip's frames stand here",
    "padding": "fills the row up",
    "wrong": "its label is another token",
}
MAX_PIECES = 6_000  # of a row; a browser slows down beyond


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A token, or a run of placeholders or pads: its text, and what hovering over it tells."""

    kind: Kind
    text: str
    title: str


def pieces(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> list[Piece]:
    """The tokens of a row in order; runs of audio placeholders and of pads are one piece each."""
    ids: Sequence[int] = row["input_ids"]
    audio_id = tokenizer.get_vocab()[AUDIO_TOKEN]

    def kind(place: int) -> Kind:
        # A label beats all else: what takes loss is shown as that, be it a pad.
        if (label := row["labels"][place]) != IGNORE_INDEX:
            return "supervised" if label == ids[place] else "wrong"
        if place >= row["num_tokens"]:
            return "padding"
        return "audio" if ids[place] == audio_id else "masked"

    found: list[Piece] = []
    for what, run in groupby(range(len(ids)), kind):
        places = list(run)
        if what in ("audio", "padding"):
            found.append(_run(what, [ids[place] for place in places], tokenizer))
        else:
            found += [_piece(what, ids[place], row["labels"][place], tokenizer) for place in places]
    return found


def counts(row: Mapping[str, Any], shown: Sequence[Piece]) -> dict[Kind, int]:
    """How many tokens there are of each kind."""
    num_pads = len(row["input_ids"]) - row["num_tokens"]
    found: dict[Kind, int] = {kind: sum(piece.kind == kind for piece in shown) for kind in KINDS}
    single = found["supervised"] + found["masked"] + found["wrong"]
    found["padding"] = num_pads if found["padding"] else 0
    found["audio"] = len(row["input_ids"]) - single - found["padding"]
    return found


def _run(kind: Kind, ids: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> Piece:
    piece = str(tokenizer.convert_ids_to_tokens(ids[0]))
    names = "pad" if kind == "padding" else piece
    return Piece(
        kind=kind, text=f"{names} × {len(ids)}", title=f"id {ids[0]} · {piece} · {len(ids)} in a row, no loss"
    )


def _piece(kind: Kind, token: int, label: int, tokenizer: PreTrainedTokenizerFast) -> Piece:
    piece = str(tokenizer.convert_ids_to_tokens(token))
    text = str(tokenizer.decode([token]))
    if not text or "\N{REPLACEMENT CHARACTER}" in text:  # a part of a character
        text = piece
    loss = {"supervised": "takes loss", "wrong": f"its label is {label}"}.get(kind, "no loss")
    return Piece(kind=kind, text=text, title=f"id {token} · {piece} · {loss}")
