r"""Templates of many segments that no chat template writes, as USDM's script, tokenised piece by piece.

A mask found in the ids of the whole text is right only while a tokenizer keeps segments apart, and
many merge ".\n" or "\n\n". So each segment is tokenised on its own, as between its neighbours:
sentencepiece writes a space where a text begins or, some of them, after a special token, and none
where it goes on after a line break. Where no token straddles two segments, the ids are those of
the whole text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from transformers import PreTrainedTokenizerFast

from speechrows.errors import TemplateError
from speechrows.errors import UsageError
from speechrows.text.normalise import normalise
from speechrows.text.tokenizers import decoded
from speechrows.text.tokenizers import pad_id
from speechrows.text.tokenizers import text_ids
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import Fields
from speechrows.types import Int16
from speechrows.types import Int32
from speechrows.types import Task

_APART = re.compile(r"(\{(?:units|answer_units)\}|<\|\w+\|>)")  # units and special tokens, apart from text
_UNIT = re.compile(r"<\|unit(\d+)\|>")
_BREAK = "\n"
_BREAKS = re.compile(r"\s*[\r\n]+\s*")
_PROBES = ("a", "the", "1", "?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A text that is tokenised in one go; `ids` int32 [T] are a constant's, None where a row fills it.

    `cue` is written before a text that is tokenised, and its ids taken off again: a line break, where
    the tokenizer writes a space that is not the text's at the start of one, and does not here.
    """

    text: str
    supervised: bool
    ids: Int32 | None = None
    cue: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PiecesTemplate:
    """A task's segments, compiled for a tokenizer.

    A row is `leading` (BOS, where the tokenizer writes it) · the pieces · eos. `unit_ids` are the ids
    of `<|unit0|>` and on. The last `num_unsupervised` ids take no loss, whatever their piece says.
    """

    tokenizer: PreTrainedTokenizerFast
    pieces: tuple[Piece, ...]
    lower_case: bool
    num_unsupervised: int
    leading: Int32
    unit_ids: Int32
    eos_id: int
    pad_id: int
    user: str = field(default=AUDIO_TOKEN, init=False)

    def fill(self, rows: Sequence[Fields]) -> list["RenderedPieces | None"]:
        """Tokenise rows in one batch; None where the tokenizer does not give a text back."""
        values = [
            {
                "transcript": self._normalise(fields.transcript),
                "answer": self._normalise(fields.answer),
                "units": fields.units,
                "answer_units": fields.answer_units,
            }
            for fields in rows
        ]
        text_pieces = [piece for piece in self.pieces if piece.ids is None and not _is_units(piece)]
        texts = [(piece, piece.text.format_map(row)) for row in values for piece in text_pieces]
        encoded = iter(self._encode(texts))
        rendered: list[RenderedPieces | None] = []
        for fields, row in zip(rows, values, strict=True):
            ids_of = {piece.text: next(encoded) for piece in text_pieces}
            ids_of["{units}"] = self._units(fields.units)
            ids_of["{answer_units}"] = self._units(fields.answer_units)
            all_ids = [ids_of[piece.text] if piece.ids is None else piece.ids for piece in self.pieces]
            piece_ids = tuple(ids for ids in all_ids if ids is not None)
            complete = len(piece_ids) == len(all_ids)
            rendered.append(
                RenderedPieces(template=self, fields=row, piece_ids=piece_ids) if complete else None
            )
        return rendered

    def _normalise(self, text: str) -> str:
        """Normalise a text as other tasks do, and to one line: a line break ends a segment."""
        return normalise(_BREAKS.sub(" ", text.strip()), lower_case=self.lower_case)

    def _units(self, units: Int16 | None) -> Int32:
        if units is None or not len(units):
            return np.empty(0, np.int32)
        low, high = int(units.min()), int(units.max())
        if low < 0 or high >= len(self.unit_ids):
            raise UsageError(
                f"found units from {low} to {high}; the tokenizer has <|unit0|> to "
                f"<|unit{len(self.unit_ids) - 1}|>. Add those that are missing as special tokens"
            )
        return self.unit_ids[units]

    def _encode(self, texts: Sequence[tuple[Piece, str]]) -> list[Int32 | None]:
        """Return the ids of each text, int32 [T]; None where decoding them does not give it back.

        Corpus text never becomes a special token: a transcript that spells `<|correspond|>` or
        `<|unit1|>` stays text.
        """
        if not texts:
            return []
        cues = {cue: text_ids(self.tokenizer, [cue])[0] for cue in {piece.cue for piece, _ in texts}}
        encoded = text_ids(self.tokenizer, [piece.cue + text for piece, text in texts], split=True)
        own = [_after(cues[piece.cue], ids) for (piece, _), ids in zip(texts, encoded, strict=True)]
        decodings = decoded(self.tokenizer, [ids or [] for ids in own])
        return [
            np.array(ids, np.int32) if ids is not None and back in (text, " " + text) else None
            for ids, back, (_, text) in zip(own, decodings, texts, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedPieces:
    """A row's texts and units under the template; `piece_ids` are the ids of its pieces."""

    template: PiecesTemplate
    fields: dict[str, str | Int16 | None]
    piece_ids: tuple[Int32, ...]

    @property
    def target(self) -> str:
        """The text that the assistant says."""
        return str(self.fields["answer"])

    def num_tokens(self, num_audio_tokens: int) -> int:  # noqa: ARG002
        """Return the number of tokens before padding. Units stand for audio: there are no placeholders."""
        return len(self.template.leading) + sum(map(len, self.piece_ids)) + 1

    def assemble(self, num_audio_tokens: int, *, length: int) -> tuple[Int32, Int32]:  # noqa: ARG002
        """Return `input_ids` and `labels`, int32 [length], padded on the right."""
        input_ids = np.full(length, self.template.pad_id, np.int32)
        labels = np.full(length, IGNORE_INDEX, np.int32)
        at = len(self.template.leading)
        input_ids[:at] = self.template.leading
        for piece, ids in zip(self.template.pieces, self.piece_ids, strict=True):
            input_ids[at : at + len(ids)] = ids
            if piece.supervised:
                labels[at : at + len(ids)] = ids
            at += len(ids)
        input_ids[at] = labels[at] = self.template.eos_id
        labels[at + 1 - self.template.num_unsupervised : at + 1] = IGNORE_INDEX
        return input_ids, labels

    def text(self) -> str:
        """Return the text, its units spelled, to the end token."""
        return "".join(map(self._spell, self.template.pieces)) + str(self.template.tokenizer.eos_token)

    def _spell(self, piece: Piece) -> str:
        if not _is_units(piece):
            return piece.text if piece.ids is not None else piece.text.format_map(self.fields)
        units = self.fields[piece.text[1:-1]]
        return "" if units is None else "".join(f"<|unit{unit}|>" for unit in units)


def compile_segments(
    tokenizer: PreTrainedTokenizerFast, task: Task, *, supervise_eos: bool
) -> PiecesTemplate:
    """Compile a task's segments for a tokenizer.

    Without `supervise_eos` the last segment and eos take no loss, as USDM was published. A space that
    sentencepiece writes between the last unit and that segment does: USDM's inference stops there.

    Raises:
        TemplateError: the tokenizer lacks a special token of the script, or can not write its text.
    """
    specials = {str(token): i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    unit_ids = _unit_table(tokenizer, specials)
    pieces: list[Piece] = []
    before = ""
    for segment in task.segments:
        for text in filter(None, _APART.split(segment.text)):
            ids, cue = None, ""
            if text in ("{units}", "{answer_units}"):
                before = "<|unit0|>"
            elif _APART.fullmatch(text):
                if text not in specials:
                    raise _refusal(tokenizer, f"has no special token {text}", "add it as one")
                ids, before = np.array([specials[text]], np.int32), text
            elif "{" in text:
                cue, before = _cue(tokenizer, before), text[-1]
            else:
                ids, before = _constant(tokenizer, before, text), text[-1]
            pieces.append(Piece(text=text, supervised=segment.supervised, ids=ids, cue=cue))
    bos: list[int] = tokenizer("")["input_ids"][:1]
    return PiecesTemplate(
        tokenizer=tokenizer,
        pieces=tuple(pieces),
        lower_case=task.lower_case,
        num_unsupervised=0 if supervise_eos else 1 + _num_own(tokenizer, pieces[-1]),
        leading=np.array(bos if bos == [tokenizer.bos_token_id] else [], np.int32),
        unit_ids=unit_ids,
        eos_id=int(str(tokenizer.eos_token_id)),
        pad_id=pad_id(tokenizer),
    )


def _unit_table(tokenizer: PreTrainedTokenizerFast, specials: dict[str, int]) -> Int32:
    """Return the ids of `<|unit0|>`, `<|unit1|>` and on, by number."""
    ids = {int(match[1]): i for name, i in specials.items() if (match := _UNIT.fullmatch(name))}
    missing = next(number for number in range(len(ids) + 1) if number not in ids)
    if missing < max(len(ids), 1):
        raise _refusal(
            tokenizer, f"has no special token <|unit{missing}|>", "add all units as special tokens"
        )
    return np.array([ids[number] for number in range(missing)], np.int32)


def _constant(tokenizer: PreTrainedTokenizerFast, before: str, text: str) -> Int32:
    """Return the ids of a text that every row has, as they are after `before`."""
    (cue,), (whole,) = text_ids(tokenizer, [before]), text_ids(tokenizer, [before + text])
    ids = _after(cue, whole)
    if ids is None:  # merged with what is before it
        (ids,) = text_ids(tokenizer, [text])
    back = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    if back not in (text, " " + text):
        raise _refusal(
            tokenizer, f"gives back {back!r} for the script's {text!r}", "give one that keeps text"
        )
    return np.array(ids, np.int32)


def _cue(tokenizer: PreTrainedTokenizerFast, before: str) -> str:
    """Probe for what to tokenise a text after, so that its ids are those that it has after `before`."""
    (cue,), (line,) = text_ids(tokenizer, [before]), text_ids(tokenizer, [_BREAK])
    in_place = [_after(cue, ids) for ids in text_ids(tokenizer, [before + probe for probe in _PROBES])]
    after_break = [_after(line, ids) for ids in text_ids(tokenizer, [_BREAK + probe for probe in _PROBES])]
    at_start = text_ids(tokenizer, _PROBES)
    return _BREAK if in_place != at_start and in_place == after_break else ""


def _num_own(tokenizer: PreTrainedTokenizerFast, piece: Piece) -> int:
    """Count the last ids of a constant that are its text: all but a space that the tokenizer adds."""
    ids = [] if piece.ids is None else piece.ids.tolist()
    counts = range(1, len(ids) + 1)
    texts = (tokenizer.decode(ids[-n:], clean_up_tokenization_spaces=False) for n in counts)
    return next((n for n, text in zip(counts, texts, strict=True) if text == piece.text), len(ids))


def _after(cue: list[int], ids: list[int]) -> list[int] | None:
    """Return the ids that follow those of a cue; None where they do not begin with it."""
    return ids[len(cue) :] if ids[: len(cue)] == cue else None


def _is_units(piece: Piece) -> bool:
    return piece.text in ("{units}", "{answer_units}")


def _refusal(tokenizer: PreTrainedTokenizerFast, what: str, remedy: str) -> TemplateError:
    name = tokenizer.name_or_path or "this tokenizer"
    return TemplateError(f"{name} {what}; expected a tokenizer that can write the script. Fix: {remedy}")
