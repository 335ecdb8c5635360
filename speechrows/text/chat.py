"""Chat templates: rendered once a build with sentinels, split there, tokenised apart.

A template is a program; what it writes around a turn is found by running it, never by guessing:
before `<audio>` · audio · between · target · end token · tail. Prefix arithmetic (render with
and without the answer, subtract) fails on templates that think first, trim, or write no end.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from speechrows.errors import TemplateError
from speechrows.text.normalise import normalise
from speechrows.text.options import DEFAULT_DATE
from speechrows.text.tokenizers import pad_id
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import Fields
from speechrows.types import Int32
from speechrows.types import Task

_AUDIO, _TARGET = "SpeechRowsAudio", "SpeechRowsTarget"  # mixed case: a template that changes it is seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """A text that every row has, and its token ids, int32 [T]."""

    text: str
    ids: Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatTemplate:
    """A task's template, compiled for a tokenizer.

    A row is `before` (`before_first` at turn 0 of a whole conversation and in every row of
    other tasks, `before_later` after it: no BOS, no system header) · `<audio>` ids · `between`
    · `lead` + target · `gap` · `end` · `tail`. Target and `end` are supervised. `lead` is one
    space where the template writes one before the target: it belongs to the target's first
    token, as it does when the whole text is tokenised.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Task
    before_first: Constant
    before_later: Constant
    between: Constant
    lead: str
    gap: Constant
    end: Constant
    tail: Constant
    audio_id: int
    pad_id: int

    @property
    def user(self) -> str:
        """The user's message."""
        return self.task.segments[0].text

    def fill(self, fillings: Sequence[Fields]) -> list["RenderedChat | None"]:
        """Tokenise the targets in one batch; None where the tokenizer does not give one back."""
        text, lower_case = self.task.segments[1].text, self.task.lower_case
        texts = [text.format(transcript=fields.transcript, answer=fields.answer) for fields in fillings]
        targets = [normalise(text, lower_case=lower_case) for text in texts]
        return [
            None if ids is None else RenderedChat(self, target, ids, fields.answer_is_cut)
            for fields, target, ids in zip(fillings, targets, self.encode(targets), strict=True)
        ]

    def render(self, target: str, *, first: bool) -> str:
        """Return the text of a row, with one `<audio>` before the target."""
        before = self.before_first if first else self.before_later
        return (
            f"{before.text}{AUDIO_TOKEN}{self.between.text}{self.lead}{target}"
            f"{self.gap.text}{self.end.text}{self.tail.text}"
        )

    def encode(self, targets: Sequence[str]) -> list[Int32 | None]:
        """Return the ids of each target, int32 [T]; None where decoding them does not give it back.

        Corpus text never becomes a special token: a transcript that spells `<|im_end|>` or
        `<audio>` stays text.
        """
        if not targets:
            return []
        encoded = self.tokenizer(
            [self.lead + target for target in targets],
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        decoded = self.tokenizer.batch_decode(
            encoded, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [
            np.array(ids, np.int32) if text in (target, self.lead + target) else None
            for ids, text, target in zip(encoded, decoded, targets, strict=True)
        ]

    def num_tokens(self, num_target_ids: int, num_audio_tokens: int, *, first: bool) -> int:
        """Return the number of tokens of a row before padding."""
        before = self.before_first if first else self.before_later
        constants = (before, self.between, self.gap, self.end, self.tail)
        return num_audio_tokens + num_target_ids + sum(len(piece.ids) for piece in constants)

    def assemble(
        self, target_ids: Int32, num_audio_tokens: int, *, first: bool, length: int, ends: bool = True
    ) -> tuple[Int32, Int32]:
        """Return `input_ids` and `labels` of a row, int32 [length], padded on the right.

        Where a target does not end, but was cut, its end token takes no loss.
        """
        before = (self.before_first if first else self.before_later).ids
        input_ids = np.full(length, self.pad_id, np.int32)
        labels = np.full(length, IGNORE_INDEX, np.int32)
        at = len(before)
        input_ids[:at] = before
        input_ids[at : at + num_audio_tokens] = self.audio_id
        at += num_audio_tokens
        for ids, supervised in (
            (self.between.ids, False),
            (target_ids, True),
            (self.gap.ids, False),
            (self.end.ids, ends),
            (self.tail.ids, False),
        ):
            stop = at + len(ids)
            input_ids[at:stop] = ids
            if supervised:
                labels[at:stop] = ids
            at = stop
        return input_ids, labels


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A target under its chat template."""

    template: ChatTemplate
    target: str
    ids: Int32
    is_cut: bool

    def num_tokens(self, num_audio_tokens: int, *, first: bool) -> int:
        """Return the number of tokens of the row before padding."""
        return self.template.num_tokens(len(self.ids), num_audio_tokens, first=first)

    def assemble(self, num_audio_tokens: int, *, first: bool, length: int) -> tuple[Int32, Int32]:
        """Return `input_ids` and `labels`, int32 [length], padded on the right."""
        ends = not self.is_cut
        return self.template.assemble(self.ids, num_audio_tokens, first=first, length=length, ends=ends)

    def text(self, *, first: bool) -> str:
        """Return the text of the row."""
        return self.template.render(self.target, first=first)


def compile_chat(
    tokenizer: PreTrainedTokenizerFast, task: Task, date: datetime.date = DEFAULT_DATE
) -> ChatTemplate:
    """Compile a task's segments under the tokenizer's template, or in the plain form without one.

    Raises:
        TemplateError: the template writes the target never, twice, or with words after it.
    """
    user = task.segments[0].text
    if tokenizer.chat_template is None:
        before, after = user.split(AUDIO_TOKEN)
        pieces = (f"User: {before}", f"User: {before}", f"{after}\nAssistant: ", "")
        return _from_pieces(tokenizer, task, pieces, leading=_bos(tokenizer))
    return _from_pieces(tokenizer, task, _split(tokenizer, user, date), leading=[])


def _bos(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the BOS that the tokenizer itself puts before a text, if it does."""
    ids: list[int] = tokenizer("")["input_ids"]
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _from_pieces(
    tokenizer: PreTrainedTokenizerFast, task: Task, pieces: tuple[str, str, str, str], leading: list[int]
) -> ChatTemplate:
    first, later, between, suffix = pieces
    lead = " " if between.endswith(" ") else ""
    gap, end, tail = _cut_suffix(tokenizer, suffix)

    def constant(text: str, before: Sequence[int] = ()) -> Constant:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return Constant(text=text, ids=np.array([*before, *ids], np.int32))

    end_id: Any = tokenizer.convert_tokens_to_ids(end) if end else tokenizer.eos_token_id
    return ChatTemplate(
        tokenizer=tokenizer,
        task=task,
        before_first=constant(first, leading),
        before_later=constant(later),
        between=constant(between[: len(between) - len(lead)]),
        lead=lead,
        gap=constant(gap),
        end=Constant(text=end, ids=np.array([end_id], np.int32)),
        tail=constant(tail),
        audio_id=int(tokenizer.get_vocab()[AUDIO_TOKEN]),
        pad_id=pad_id(tokenizer),
    )


def _cut_suffix(tokenizer: PreTrainedTokenizerFast, suffix: str) -> tuple[str, str, str]:
    """Cut what follows the target into gap, end token and tail.

    Without an end token, eos is put right after the target: it is supervised, not rendered.
    """
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    matches = [(suffix.find(token), -len(token), token) for token in specials if token in suffix]
    if not matches:
        if suffix.strip():
            raise _refusal(tokenizer, f"writes {suffix!r} after the target, and no special token")
        return "", "", suffix
    at, _, end = min(matches)
    if suffix[:at].strip():
        raise _refusal(tokenizer, f"writes {suffix[:at]!r} between the target and {end}")
    return suffix[:at], end, suffix[at + len(end) :]


def _refusal(tokenizer: PreTrainedTokenizerFast, what: str) -> TemplateError:
    return TemplateError(
        f"the chat template of {tokenizer.name_or_path or 'this tokenizer'} {what}; expected "
        "user text, target and end token in this order. Give a tokenizer with another template, "
        "or one without (the plain form)"
    )


def _render(tokenizer: PreTrainedTokenizerFast, contents: Sequence[str], date: datetime.date) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=False,
                chat_template=_strftime_macro(date) + tokenizer.get_chat_template(),
                enable_thinking=False,
                date_string=date.strftime("%d %b %Y"),
            )
        )
    except Exception as error:  # jinja2's own errors, and whatever a template raises
        raise _refusal(tokenizer, f"fails on a plain user/assistant pair ({error})") from error


def _strftime_macro(date: datetime.date) -> str:
    """Return Jinja that hides the `strftime_now` of transformers, which says today, behind a fixed date.

    A macro, because transformers hands plain data to templates: a function becomes its repr.
    """
    replaced = "format"
    for letter in "aAbBdeFHIjmMpSTuUwWxXyY":
        value = date.strftime(f"%{letter}")
        replaced += f".replace('%{letter}', '{value}').replace('%-{letter}', '{value.lstrip('0 ') or 0}')"
    return f"{{%- macro strftime_now(format) -%}}{{{{ {replaced} }}}}{{%- endmacro -%}}"


def _split(tokenizer: PreTrainedTokenizerFast, user: str, date: datetime.date) -> tuple[str, str, str, str]:
    """Split a rendered chat: before the audio (first and later turn), between it and the target, after."""
    audio, target = (_AUDIO + "ONE", _AUDIO + "TWO"), (_TARGET + "ONE", _TARGET + "TWO")
    questions = [user.replace(AUDIO_TOKEN, sentinel) for sentinel in audio]
    first, between, suffix = _cut(
        tokenizer, _render(tokenizer, (questions[0], target[0]), date), audio[0], target[0]
    )
    bos = str(tokenizer.bos_token or "")
    try:
        both = _render(tokenizer, (questions[0], target[0], questions[1], target[1]), date)
        middle, _, _ = _cut(tokenizer, both.partition(target[0])[2], audio[1], target[1])
    except TemplateError:  # a template for one turn only: a later turn is a first one without BOS
        return first, first.removeprefix(bos), between, suffix
    if middle.startswith(suffix):
        # What ends a turn only where another follows is the end token that _cut_suffix adds.
        later = middle[len(suffix) :].removeprefix("" if suffix else str(tokenizer.eos_token))
    else:
        later = next(first[at:] for at in range(len(first) + 1) if middle.endswith(first[at:]))
    return first, later.removeprefix(bos), between, suffix


def _cut(tokenizer: PreTrainedTokenizerFast, text: str, audio: str, target: str) -> tuple[str, str, str]:
    if text.count(audio) != 1 or text.count(target) != 1 or text.find(audio) > text.find(target):
        raise _refusal(
            tokenizer,
            f"writes the user's text {text.count(audio)} times and the target {text.count(target)} times",
        )
    before, _, rest = text.partition(audio)
    between, _, after = rest.partition(target)
    return before, between, after
