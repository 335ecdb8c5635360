"""What stands before the audio of a row: the head of a conversation, with its system prompt, or of a turn.

A system prompt stands where the template puts it, in the first row of a conversation alone. Each distinct
one is rendered once. What it spells never becomes a special token: as targets are, it is tokenised in its
place.
"""

import datetime
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import audio_token_id
from speechrows.text.in_context import StretchEncoder
from speechrows.text.messages import SYSTEM
from speechrows.text.messages import target
from speechrows.text.turn_shape import Refusal
from speechrows.text.turn_shape import TurnShape
from speechrows.text.turn_shape import cut
from speechrows.text.turn_shape import first_special
from speechrows.text.turn_shape import last_special
from speechrows.text.turn_shape import render_turns
from speechrows.text.turn_shape import turn_shape
from speechrows.types import Fields
from speechrows.types import Int32

PLAIN_SYSTEM = f"System: {SYSTEM}\n"  # before the plain form's "User: "


class Head(NamedTuple):
    """What stands before the audio: its text, and its ids int32 [T]."""

    text: str
    ids: Int32


class Heads:
    """The heads of a tokenizer's rows whose turns have a `shape`; `user` is the user's message."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        user: str,
        date: datetime.date,
        shape: TurnShape,
        *,
        whole: bool,
    ) -> None:
        self._tokenizer, self._audio = tokenizer, audio_token(tokenizer)
        self._user, self._date, self._whole = user, date, whole
        self._shape = shape
        self._is_plain = tokenizer.chat_template is None
        self._slot: tuple[str, str] | None = None  # the text before and after a system prompt
        self._first: dict[str | None, Head] = {}  # by system prompt
        self._encoders: dict[tuple[str | None, str], StretchEncoder] = {}  # by the special tokens around it
        self._later: dict[int, Head] = {}  # by the number of the turn, where the template writes it

    def of(self, row: Fields) -> Head:
        """The head of a row whose system prompt is prepared."""
        if not row.number:
            return self._first[row.system]
        number = row.number if len(self._shape.head_later) > 1 else 1
        if number not in self._later:
            text = self._shape.head(number)
            self._later[number] = Head(text, self._ids(text))
        return self._later[number]

    def pieces(self, row: Fields) -> list[tuple[str, bool]]:
        """The text of a row's head, cut around its system prompt; true marks the prompt."""
        text = self.of(row).text
        if row.number or row.system is None or self._slot is None:
            return [(text, False)]
        before, after = self._slot
        if text != before + row.system + after:
            return [(text, False)]
        return [(before, False), (row.system, True), (after, False)]

    def prepare(self, systems: Iterable[str | None]) -> None:
        """Make the heads of conversations with these system prompts; None is a conversation without.

        Raises:
            TemplateError: the template demands one, takes none, or does not write it at its head.
        """
        new = [system for system in dict.fromkeys(systems) if system not in self._first]
        if None in new:
            text = self._bare_head()
            self._first[None] = Head(text, self._ids(text, bos=self._is_plain))
        prompts = [system for system in new if system is not None]
        if prompts:
            before, after = self._slot = self._slot or self._find_slot()
            for system, text in zip(prompts, self._heads_with(prompts), strict=True):
                ids = self._ids_around(before, system, after) if text == before + system + after else None
                self._first[system] = Head(text, self._ids(text) if ids is None else ids)

    def _bare_head(self) -> str:
        """The head of a conversation without a system prompt."""
        if SYSTEM not in self._shape.head_first:
            return self._shape.head_first
        return self._other_shape(with_system=False).head_first

    def _find_slot(self) -> tuple[str, str]:
        """The text before and after any system prompt in the head of a conversation."""
        if self._is_plain:
            before, _, after = (PLAIN_SYSTEM + self._shape.head_first).partition(SYSTEM)
            return before, after
        shape = self._shape
        if SYSTEM not in shape.head_first:
            shape = self._other_shape(with_system=True)
        before, _, after = shape.head_first.partition(SYSTEM)
        return before, after

    def _other_shape(self, *, with_system: bool) -> TurnShape:
        """The shape with, or without, a system prompt, seen to differ from ours in its first head alone."""
        shape = turn_shape(
            self._tokenizer, self._user, self._date, whole=self._whole, with_system=with_system
        )
        if replace(shape, head_first=self._shape.head_first) != self._shape:
            raise Refusal(self._tokenizer)("writes turns otherwise where there is a system prompt")
        return shape

    def _heads_with(self, systems: list[str]) -> list[str]:
        """The heads of conversations with these system prompts, as the template writes each."""
        before, after = self._slot or ("", "")
        expected = [before + system + after for system in systems]
        if self._is_plain:
            return expected
        form = self._shape.form
        chats = [form.conversation(self._user, 1, system) for system in systems]
        texts = render_turns(self._tokenizer, chats, self._date)
        turn = f"{form.audio(0, self._audio, self._user)}{self._shape.between}{target(0)}"
        return [
            head if str(text).startswith(head + turn) else self._changed_head(system, text)
            for system, head, text in zip(systems, expected, texts, strict=True)
        ]

    def _changed_head(self, system: str, text: str | Exception) -> str:
        """The head of a conversation whose system prompt the template does not write as it stands."""
        refuse = Refusal(self._tokenizer, f"Leave the system prompt {system!r:.80} out, or change it")
        if isinstance(text, Exception):
            raise refuse(f"fails on a system prompt ({text})") from text
        spelled = first_special(self._tokenizer, system)
        if spelled:
            raise refuse(f"changes a system prompt that spells {spelled}")
        head, between, _ = cut(refuse, text, [self._shape.form.audio(0, self._audio, self._user)])
        if between != self._shape.between:
            raise refuse("writes turns otherwise where there is this system prompt")
        return head

    def _ids(self, text: str, *, bos: bool = False) -> Int32:
        """The ids of constant text before the audio, with `bos` behind the BOS of the tokenizer itself."""
        tokenizer = self._tokenizer
        ids = constant_ids(tokenizer, text + self._audio)
        before = ids[: ids.index(audio_token_id(tokenizer))]
        return np.array([*(own_bos(tokenizer) if bos else []), *before], np.int32)

    def _ids_around(self, before: str, system: str, after: str) -> Int32:
        """The ids of a head in which a system prompt stands between constant texts."""
        tokenizer = self._tokenizer
        special, start = last_special(tokenizer, before)
        end = first_special(tokenizer, after + self._audio) or self._audio
        gap, _, rest = (after + self._audio).partition(end)
        encode = self._encoders.setdefault((special, end), StretchEncoder(tokenizer, special, end))
        (stretch,) = encode([before[start:] + system + gap])
        bos = own_bos(tokenizer) if self._is_plain else []
        first, last = constant_ids(tokenizer, before[:start]), constant_ids(tokenizer, end + rest)
        return np.array([*bos, *first, *stretch.ids, *last[:-1]], np.int32)


def own_bos(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The BOS that a tokenizer itself puts before a text, if it does."""
    own: list[int] = tokenizer("")["input_ids"][:1]  # pyright: ignore[reportAssignmentType]
    return own if own and own[0] == tokenizer.bos_token_id else []


def constant_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The ids of constant text, in which special tokens are special."""
    return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []  # pyright: ignore[reportReturnType]
