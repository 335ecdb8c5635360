"""A row's tokens as spans to look at: what takes loss, what does not, audio placeholders, padding."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from typing import Literal

from transformers import PreTrainedTokenizerFast

from speechrows.text.audio_token import audio_token_id
from speechrows.types import IGNORE_INDEX

Kind = Literal["supervised", "masked", "audio", "padding", "wrong"]
KINDS: Mapping[Kind, str] = {
    "supervised": "takes loss",
    "masked": "is read, takes no loss",
    "audio": "the clip's frames stand here",
    "padding": "fills the row up",
    "wrong": "its label is another token",
}
MAX_SPANS = 6_000  # of a row; a browser slows down beyond


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A token, or a run of placeholders or pads: its text, and the title that hovering over it shows."""

    kind: Kind
    text: str
    title: str


def spans(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> list[Span]:
    """Return the tokens of a row in order; runs of audio placeholders and of pads are one span each."""
    ids: Sequence[int] = row["input_ids"]
    audio_id = audio_token_id(tokenizer)

    def kind_at(position: int) -> Kind:
        # A label beats all else: what takes loss is shown as that, be it a pad.
        if (label := row["labels"][position]) != IGNORE_INDEX:
            return "supervised" if label == ids[position] else "wrong"
        if position >= row["num_tokens"]:
            return "padding"
        return "audio" if ids[position] == audio_id else "masked"

    row_spans: list[Span] = []
    for kind, run in groupby(range(len(ids)), kind_at):
        positions = list(run)
        if kind in ("audio", "padding"):
            row_spans.append(_run_span(kind, [ids[position] for position in positions], tokenizer))
        else:
            row_spans += [
                _token_span(kind, ids[position], row["labels"][position], tokenizer) for position in positions
            ]
    return row_spans


def counts(row: Mapping[str, Any], row_spans: Sequence[Span]) -> dict[Kind, int]:
    """Count the tokens of each kind."""
    num_pads = len(row["input_ids"]) - row["num_tokens"]
    by_kind: dict[Kind, int] = {kind: sum(span.kind == kind for span in row_spans) for kind in KINDS}
    single = by_kind["supervised"] + by_kind["masked"] + by_kind["wrong"]
    by_kind["padding"] = num_pads if by_kind["padding"] else 0
    by_kind["audio"] = len(row["input_ids"]) - single - by_kind["padding"]
    return by_kind


def _run_span(kind: Kind, ids: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> Span:
    token = str(tokenizer.convert_ids_to_tokens(ids[0]))
    name = "pad" if kind == "padding" else token
    return Span(
        kind=kind, text=f"{name} × {len(ids)}", title=f"id {ids[0]} · {token} · {len(ids)} in a row, no loss"
    )


def token_text(token_id: int, tokenizer: PreTrainedTokenizerFast) -> str:
    """Return what a token says; its piece, where that is a part of a character."""
    text = str(tokenizer.decode([token_id]))
    is_part = not text or "\N{REPLACEMENT CHARACTER}" in text
    return str(tokenizer.convert_ids_to_tokens(token_id)) if is_part else text


def _token_span(kind: Kind, token_id: int, label: int, tokenizer: PreTrainedTokenizerFast) -> Span:
    token = str(tokenizer.convert_ids_to_tokens(token_id))
    text = token_text(token_id, tokenizer)
    loss = {"supervised": "takes loss", "wrong": f"its label is {label}"}.get(kind, "no loss")
    return Span(kind=kind, text=text, title=f"id {token_id} · {token} · {loss}")
