r"""Scripts: texts of many segments that no chat template writes, as USDM's, tokenised piece by piece.

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
    """What of a segment is tokenised in one go. `ids` int32 [T] are a constant's, None where a row fills it.

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

    def fill(self, fillings: Sequence[Fields]) -> list["RenderedPieces | None"]:
        """Rows to be, in one batch; None where the tokenizer does not give a text back."""
        fields = [
            {
                "transcript": self._normalise(one.transcript),
                "answer": self._normalise(one.answer),
                "units": one.units,
                "answer_units": one.answer_units,
            }
            for one in fillings
        ]
        texts = [piece for piece in self.pieces if piece.ids is None and not _is_units(piece)]
        said = [(piece, piece.text.format_map(mine)) for mine in fields for piece in texts]
        encoded = iter(self._encode(said))
        filled: list[RenderedPieces | None] = []
        for one, mine in zip(fillings, fields, strict=True):
            ids = {piece.text: next(encoded) for piece in texts}
            ids["{units}"], ids["{answer_units}"] = self._units(one.units), self._units(one.answer_units)
            parts = [ids[piece.text] if piece.ids is None else piece.ids for piece in self.pieces]
            there = tuple(part for part in parts if part is not None)
            row = RenderedPieces(script=self, fields=mine, parts=there) if len(there) == len(parts) else None
            filled.append(row)
        return filled

    def _normalise(self, text: str) -> str:
        """A text as rows of other tasks have it, but on one line: a line break ends a script's part."""
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

    def _encode(self, said: Sequence[tuple[Piece, str]]) -> list[Int32 | None]:
        """Ids of each text, int32 [T]; None where decoding them does not give it back.

        Corpus text never becomes a special token: a transcript that spells `<|correspond|>` or
        `<|unit1|>` stays text.
        """
        if not said:
            return []
        cues = {cue: _tokens(self.tokenizer, [cue])[0] for cue in {piece.cue for piece, _ in said}}
        encoded = _tokens(self.tokenizer, [piece.cue + text for piece, text in said], split=True)
        own = [_after(cues[piece.cue], ids) for (piece, _), ids in zip(said, encoded, strict=True)]
        decoded = self.tokenizer.batch_decode(
            [ids or [] for ids in own], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [
            np.array(ids, np.int32) if ids is not None and back in (text, " " + text) else None
            for ids, back, (_, text) in zip(own, decoded, said, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedPieces:
    """A script with a row's texts and units; `parts` are the ids of its pieces."""

    script: PiecesTemplate
    fields: dict[str, str | Int16 | None]
    parts: tuple[Int32, ...]

    @property
    def target(self) -> str:
        """What the assistant says."""
        return str(self.fields["answer"])

    def num_tokens(self, num_audio_tokens: int, *, first: bool) -> int:  # noqa: ARG002
        """The length before padding. Units stand for the audio: there are no placeholders."""
        return len(self.script.leading) + sum(map(len, self.parts)) + 1

    def assemble(self, num_audio_tokens: int, *, first: bool, length: int) -> tuple[Int32, Int32]:  # noqa: ARG002
        """`input_ids` and `labels`, int32 [length], padded on the right."""
        input_ids = np.full(length, self.script.pad_id, np.int32)
        labels = np.full(length, IGNORE_INDEX, np.int32)
        at = len(self.script.leading)
        input_ids[:at] = self.script.leading
        for piece, ids in zip(self.script.pieces, self.parts, strict=True):
            input_ids[at : at + len(ids)] = ids
            if piece.supervised:
                labels[at : at + len(ids)] = ids
            at += len(ids)
        input_ids[at] = labels[at] = self.script.eos_id
        labels[at + 1 - self.script.num_unsupervised : at + 1] = IGNORE_INDEX
        return input_ids, labels

    def text(self, *, first: bool) -> str:  # noqa: ARG002
        """The text, its units spelled, to the end token."""
        return "".join(map(self._spell, self.script.pieces)) + str(self.script.tokenizer.eos_token)

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
    specials = {str(one): i for i, one in tokenizer.added_tokens_decoder.items() if one.special}
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
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    return PiecesTemplate(
        tokenizer=tokenizer,
        pieces=tuple(pieces),
        lower_case=task.lower_case,
        num_unsupervised=0 if supervise_eos else 1 + _num_own(tokenizer, pieces[-1]),
        leading=np.array(bos if bos == [tokenizer.bos_token_id] else [], np.int32),
        unit_ids=unit_ids,
        eos_id=int(eos),  # pyright: ignore[reportArgumentType]
        pad_id=int(eos if pad is None else pad),  # pyright: ignore[reportArgumentType]
    )


def _unit_table(tokenizer: PreTrainedTokenizerFast, specials: dict[str, int]) -> Int32:
    """The ids of `<|unit0|>`, `<|unit1|>` and on, by number."""
    found = {int(match[1]): i for name, i in specials.items() if (match := _UNIT.fullmatch(name))}
    missing = next(i for i in range(len(found) + 1) if i not in found)
    if missing < max(len(found), 1):
        raise _refusal(
            tokenizer, f"has no special token <|unit{missing}|>", "add all units as special tokens"
        )
    return np.array([found[i] for i in range(missing)], np.int32)


def _constant(tokenizer: PreTrainedTokenizerFast, before: str, text: str) -> Int32:
    """The ids of a text that every row has, as they are after `before`."""
    (cue,), (whole,) = _tokens(tokenizer, [before]), _tokens(tokenizer, [before + text])
    ids = _after(cue, whole)
    if ids is None:  # merged with what is before it
        (ids,) = _tokens(tokenizer, [text])
    back = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    if back not in (text, " " + text):
        raise _refusal(
            tokenizer, f"gives back {back!r} for the script's {text!r}", "give one that keeps text"
        )
    return np.array(ids, np.int32)


def _cue(tokenizer: PreTrainedTokenizerFast, before: str) -> str:
    """What to tokenise a text after, so that its ids are those it has after `before`: probed."""
    (cue,), (line,) = _tokens(tokenizer, [before]), _tokens(tokenizer, [_BREAK])
    here = [_after(cue, ids) for ids in _tokens(tokenizer, [before + probe for probe in _PROBES])]
    going_on = [_after(line, ids) for ids in _tokens(tokenizer, [_BREAK + probe for probe in _PROBES])]
    starting = _tokens(tokenizer, _PROBES)
    return _BREAK if here != starting and here == going_on else ""


def _num_own(tokenizer: PreTrainedTokenizerFast, piece: Piece) -> int:
    """How many of a constant's last ids are its text: all but a space that the tokenizer adds."""
    ids = [] if piece.ids is None else piece.ids.tolist()
    counts = range(1, len(ids) + 1)
    texts = (tokenizer.decode(ids[-n:], clean_up_tokenization_spaces=False) for n in counts)
    return next((n for n, text in zip(counts, texts, strict=True) if text == piece.text), len(ids))


def _tokens(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, split: bool = False
) -> list[list[int]]:
    """Ids of each text alone; with `split`, of special tokens that it spells as of any text."""
    return tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=split,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def _after(cue: list[int], ids: list[int]) -> list[int] | None:
    """The ids that follow those of a cue; None where they do not begin with it."""
    return ids[len(cue) :] if ids[: len(cue)] == cue else None


def _is_units(piece: Piece) -> bool:
    return piece.text in ("{units}", "{answer_units}")


def _refusal(tokenizer: PreTrainedTokenizerFast, what: str, remedy: str) -> TemplateError:
    name = tokenizer.name_or_path or "this tokenizer"
    return TemplateError(f"{name} {what}; expected a tokenizer that can write the script. Fix: {remedy}")
