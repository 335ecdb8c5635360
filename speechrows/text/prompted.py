"""Chats whose users' messages are the corpus' own: words, a clip, or a clip among words.

A template that numbers its clips (`Audio 2: `) is given the number of the clip.
"""

import datetime
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import audio_token_id
from speechrows.text.chat import Ending
from speechrows.text.chat import ending_of
from speechrows.text.chat import plain_shape
from speechrows.text.heads import Heads
from speechrows.text.heads import own_bos
from speechrows.text.messages import target
from speechrows.text.normalise import normalise
from speechrows.text.options import DEFAULT_DATE
from speechrows.text.pieces import Piece
from speechrows.text.pieces import PieceEncoder
from speechrows.text.pieces import PieceTokens
from speechrows.text.tokenizers import decoded
from speechrows.text.tokenizers import pad_id
from speechrows.text.turn_shape import Refusal
from speechrows.text.turn_shape import TurnShape
from speechrows.text.turn_shape import last_special
from speechrows.text.turn_shape import render_turns
from speechrows.text.turn_shape import turn_shape
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import PROMPT
from speechrows.types import Fields
from speechrows.types import Int32
from speechrows.types import Task

_WORDS = ("SpeechRowsBeforeX", "SpeechRowsAfterX")  # around a clip, in a message that is rendered once


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptedChat:
    """A task's template for users' own messages, compiled for a tokenizer.

    Turns of text have the shape `of_text`, turns with a clip `of_audio`: the same, but for what is written
    right before and after the clip.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Task
    of_text: TurnShape
    of_audio: TurnShape
    heads: Heads
    inner: Ending
    last: Ending
    audio_id: int
    pad_id: int
    encode: PieceEncoder

    @property
    def user(self) -> str:
        """The user's message: each row has one of its own."""
        return PROMPT

    def fill(self, rows: Sequence[Fields]) -> list["RenderedPrompt | None"]:
        """Fill in rows, in one batch; None where the tokenizer does not give the target back.

        Raises:
            TemplateError: a system prompt has no place.
        """
        if not rows:
            return []
        self.heads.prepare(row.system for row in rows if not row.number)
        pieces = [[*self._pieces(row)] for row in rows]
        rendered = [
            self._rendered(row, of_row, tokens)
            for row, of_row, tokens in zip(rows, pieces, self.encode(pieces), strict=True)
        ]
        texts = decoded(self.tokenizer, [row.ids[row.is_target].tolist() for row in rendered])
        return [
            row if text in (row.target, " " + row.target) else None
            for row, text in zip(rendered, texts, strict=True)
        ]

    def _ending(self, row: Fields) -> Ending:
        return self.last if row.last else self.inner

    def _pieces(self, row: Fields) -> Iterator[Piece]:
        """The text of a row up to its end token, which is a piece of its own if the template writes one."""
        for text, is_system in self.heads.pieces(row):
            yield Piece(text, own=is_system)
        before, audio, after = row.prompt.partition(AUDIO_TOKEN)
        if not audio:
            yield Piece(before, own=True)
        else:
            prefix, suffix = _around_audio(self.of_text, self.of_audio, row.number, row.clips_before)
            if self.of_audio.form.user_in_parts:  # parts are texts of their own
                before, after = before.strip(), after.strip()
            yield Piece(before, own=True)
            yield Piece(prefix + audio_token(self.tokenizer) + suffix)
            yield Piece(after, own=True)
        ending = self._ending(row)
        yield Piece(self.of_text.between)
        yield Piece(self._target(row), own=True, is_target=True)
        yield Piece(ending.gap)
        yield Piece(ending.end)

    def _target(self, row: Fields) -> str:
        text = self.task.segments[-1].text.format(transcript=row.transcript, answer=row.answer)
        return normalise(text, lower_case=self.task.lower_case)

    def _rendered(self, row: Fields, pieces: Sequence[Piece], tokens: PieceTokens) -> "RenderedPrompt":
        is_plain, ending = self.tokenizer.chat_template is None, self._ending(row)
        bos = own_bos(self.tokenizer) if is_plain and not row.number else []
        eos = [] if ending.end else ending.end_ids
        return RenderedPrompt(
            template=self,
            fields=row,
            target=self._target(row),
            whole_text="".join(piece.text for piece in pieces) + ending.tail,
            ids=np.concatenate([np.array(bos, np.int32), tokens.ids, np.array(eos, np.int32)]),
            is_target=np.pad(tokens.is_target, (len(bos), len(eos))),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedPrompt:
    """A row up to its end token, the audio token once: `ids` int32 [T], of which `is_target` bool [T]."""

    template: PromptedChat
    fields: Fields
    target: str
    whole_text: str
    ids: Int32
    is_target: npt.NDArray[np.bool_]

    @property
    def _tail_ids(self) -> Int32:
        return (self.template.last if self.fields.last else self.template.inner).tail_ids

    @property
    def has_audio(self) -> bool:
        """Whether it has a clip."""
        return AUDIO_TOKEN in self.fields.prompt

    def num_tokens(self, num_audio_tokens: int) -> int:
        """The length of the row before padding."""
        return len(self.ids) + len(self._tail_ids) + (num_audio_tokens - 1 if self.has_audio else 0)

    def assemble(self, num_audio_tokens: int, *, length: int) -> tuple[Int32, Int32]:
        """`input_ids` and `labels`, int32 [length], padded on the right.

        Where a target does not end, but was cut, its end token takes no loss.
        """
        supervised = self.is_target.copy()
        supervised[-1] = not self.fields.answer_is_cut
        counts = np.where(self.ids == self.template.audio_id, num_audio_tokens, 1)
        input_ids = np.full(length, self.template.pad_id, np.int32)
        labels = np.full(length, IGNORE_INDEX, np.int32)
        ids = np.concatenate([np.repeat(self.ids, counts), self._tail_ids])
        input_ids[: len(ids)] = ids
        stop = len(ids) - len(self._tail_ids)
        labels[:stop] = np.where(np.repeat(supervised, counts), ids[:stop], IGNORE_INDEX)
        return input_ids, labels

    def text(self) -> str:
        """The text of the row, with one audio token where it has a clip."""
        return self.whole_text


def compile_prompted(
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    date: datetime.date = DEFAULT_DATE,
    system: str | None = None,
) -> PromptedChat:
    """Compile a task whose users' messages are the corpus' own, under the tokenizer's template.

    `system` is the system prompt of most conversations: templates may demand one. Rows may have others.

    Raises:
        TemplateError: as for any chat; or it writes turns of text otherwise than turns with a clip.
    """
    if tokenizer.chat_template is None:
        of_text, of_audio = plain_shape(PROMPT), plain_shape(AUDIO_TOKEN)
    else:
        of_text, of_audio = (
            turn_shape(tokenizer, user, date, whole=task.whole, with_system=system is not None)
            for user in (PROMPT, AUDIO_TOKEN)
        )
        _check_mixed(tokenizer, of_text, of_audio, date, system)
    heads = Heads(tokenizer, PROMPT, date, of_text, whole=task.whole)
    heads.prepare([system])
    before = last_special(tokenizer, of_text.between)[0]
    inner, last = (
        ending_of(tokenizer, before or audio_token(tokenizer), text)
        for text in (of_text.end_inner, of_text.end_last)
    )
    return PromptedChat(
        tokenizer=tokenizer,
        task=task,
        of_text=of_text,
        of_audio=of_audio,
        heads=heads,
        inner=inner,
        last=last,
        audio_id=audio_token_id(tokenizer),
        pad_id=pad_id(tokenizer),
        encode=PieceEncoder(tokenizer),
    )


def _around_audio(
    of_text: TurnShape, of_audio: TurnShape, number: int, clips_before: int | None = None
) -> tuple[str, str]:
    """What is written right before and after the clip of a turn, beside what is written around words."""
    head = of_audio.head(number)
    if number and clips_before is not None:
        head = str(clips_before + 1).join(of_audio.head_later)
    prefix = head.removeprefix(of_text.head(number))
    return prefix, of_audio.between.removesuffix(of_text.between)


def _check_mixed(
    tokenizer: PreTrainedTokenizerFast,
    of_text: TurnShape,
    of_audio: TurnShape,
    date: datetime.date,
    system: str | None,
) -> None:
    """Raise TemplateError where a clip among words is not written as a clip and words are."""
    refuse = Refusal(tokenizer)
    token = audio_token(tokenizer)
    user = f"{_WORDS[0]}{AUDIO_TOKEN}{_WORDS[1]}"
    form = of_audio.form
    chat = form.conversation(user, 1, system)
    (text,) = render_turns(tokenizer, [chat], date)
    prefix, suffix = _around_audio(of_text, of_audio, 0)
    message = _WORDS[0] + prefix + form.audio(0, token, user) + suffix + _WORDS[1]
    expected = f"{message}{of_text.between}{target(0)}{of_text.end_last}"
    same = replace(of_audio, head_first=of_text.head_first, head_later=of_text.head_later) == replace(
        of_text, between=of_audio.between, form=form, user=of_audio.user
    )
    begins = all(of_audio.head(number).startswith(of_text.head(number)) for number in (0, 1))
    if not (same and begins and str(text).endswith(expected)):
        raise refuse("writes a clip among words otherwise than the two alone")
