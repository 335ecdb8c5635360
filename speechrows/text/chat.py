"""Chat templates: cut around a turn once a build, then filled with targets.

A row's ids are those that its tokenizer gives for its text, but that its audio token stands there once a
frame, and that corpus text never becomes a special token.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import audio_token_id
from speechrows.text.heads import Head
from speechrows.text.heads import Heads
from speechrows.text.heads import constant_ids
from speechrows.text.in_context import StretchEncoder
from speechrows.text.normalise import normalise
from speechrows.text.options import DEFAULT_DATE
from speechrows.text.tokenizers import decoded
from speechrows.text.tokenizers import pad_id
from speechrows.text.turn_shape import Refusal
from speechrows.text.turn_shape import TurnShape
from speechrows.text.turn_shape import first_special
from speechrows.text.turn_shape import last_special
from speechrows.text.turn_shape import turn_shape
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import PROMPT
from speechrows.types import Fields
from speechrows.types import Int32
from speechrows.types import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What follows a target: `gap` · `end` · `tail`, with the ids of end token and tail, int32 [T].

    The gap is white space that `encode` tokenises with the target. Where the template renders no end
    token, `end` is empty and its id is eos.
    """

    gap: str
    end: str
    tail: str
    end_ids: Int32
    tail_ids: Int32
    encode: StretchEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatTemplate:
    """A task's template, compiled for a tokenizer.

    A row is head · audio token · `between` · target · gap · end token · tail: target and end token are
    supervised. `last` is what ends a conversation's last turn, and rows that are no conversations; `inner`
    that of the others. `lead` is what of `between` is tokenised with the target, as in the whole text;
    `between_ids` are the ids up to there.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Task
    shape: TurnShape
    heads: Heads
    between_ids: Int32
    lead: str
    inner: Ending
    last: Ending
    audio_id: int
    pad_id: int

    @property
    def user(self) -> str:
        """The user's message."""
        return self.task.segments[0].text

    def fill(self, rows: Sequence[Fields]) -> list["RenderedChat | None"]:
        """Fill in rows, in one batch; None where the tokenizer does not give the target back."""
        if not rows:
            return []
        self.heads.prepare(row.system for row in rows if not row.number)
        text, lower_case = self.task.segments[1].text, self.task.lower_case
        targets = [
            normalise(text.format(transcript=row.transcript, answer=row.answer), lower_case=lower_case)
            for row in rows
        ]
        rendered: list[RenderedChat | None] = [None] * len(rows)
        start = len(self.lead)
        first = start - self.lead.endswith(" ")  # a space before the target is of its first token, or learnt
        for is_last, ending in ((True, self.last), (False, self.inner)):
            places = [i for i, row in enumerate(rows) if row.last == is_last]
            stretches = ending.encode([f"{self.lead}{targets[i]}{ending.gap}" for i in places])
            for i, stretch in zip(places, stretches, strict=True):
                rendered[i] = RenderedChat(
                    template=self,
                    fields=rows[i],
                    target=targets[i],
                    ids=stretch.ids,
                    is_target=stretch.within(first, start + len(targets[i])),
                    head=self.heads.of(rows[i]),
                    ending=ending,
                )
        return self._those_that_come_back(rendered)

    def _those_that_come_back(self, rendered: Sequence["RenderedChat | None"]) -> list["RenderedChat | None"]:
        """Rows whose supervised ids decode to the target; its first token may hold a space before it."""
        texts = decoded(self.tokenizer, [row.ids[row.is_target].tolist() for row in rendered if row])
        lead = " " if self.lead.endswith(" ") else ""
        return [
            row if row and text in (row.target, lead + row.target) else None
            for row, text in zip(rendered, texts, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedChat:
    """A target in its chat: `ids` int32 [T] of lead, target and gap; `is_target` bool [T]."""

    template: ChatTemplate
    fields: Fields
    target: str
    ids: Int32
    is_target: npt.NDArray[np.bool_]
    head: Head
    ending: Ending

    def num_tokens(self, num_audio_tokens: int) -> int:
        """The length of the row before padding."""
        before, after = len(self.head.ids) + len(self.template.between_ids), self.ending
        return before + num_audio_tokens + len(self.ids) + len(after.end_ids) + len(after.tail_ids)

    def assemble(self, num_audio_tokens: int, *, length: int) -> tuple[Int32, Int32]:
        """`input_ids` and `labels`, int32 [length], padded on the right.

        Where a target does not end, but was cut, its end token takes no loss.
        """
        template, ending = self.template, self.ending
        input_ids = np.full(length, template.pad_id, np.int32)
        labels = np.full(length, IGNORE_INDEX, np.int32)
        at = len(self.head.ids)
        input_ids[:at] = self.head.ids
        input_ids[at : at + num_audio_tokens] = template.audio_id
        at += num_audio_tokens
        for ids, supervised in (
            (template.between_ids, False),
            (self.ids, self.is_target),
            (ending.end_ids, not self.fields.answer_is_cut),
            (ending.tail_ids, False),
        ):
            stop = at + len(ids)
            input_ids[at:stop] = ids
            if supervised is not False:
                labels[at:stop] = np.where(supervised, ids, IGNORE_INDEX)
            at = stop
        return input_ids, labels

    def text(self) -> str:
        """The text of the row, with one audio token."""
        between, ending = self.template.shape.between, self.ending
        token = audio_token(self.template.tokenizer)
        return f"{self.head.text}{token}{between}{self.target}{ending.gap}{ending.end}{ending.tail}"


def compile_chat(
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    date: datetime.date = DEFAULT_DATE,
    system: str | None = None,
) -> ChatTemplate:
    """Compile a task's segments under the tokenizer's template, or in the plain form without one.

    `system` is the system prompt of most conversations: templates may demand one. Rows may have others.

    Raises:
        TemplateError: the template writes the target never, twice, or with words after it; or it demands a
            system prompt, or takes none.
    """
    user = task.segments[0].text
    if tokenizer.chat_template is None:
        shape = plain_shape(user)
    else:
        shape = turn_shape(tokenizer, user, date, whole=task.whole, with_system=system is not None)
    heads = Heads(tokenizer, user, date, shape, whole=task.whole)
    heads.prepare([system])
    before, between_ids, lead = _cut_lead(tokenizer, shape.between)
    last = ending_of(tokenizer, before, shape.end_last)
    is_alike = shape.end_inner == shape.end_last
    inner = last if is_alike else ending_of(tokenizer, before, shape.end_inner)
    return ChatTemplate(
        tokenizer=tokenizer,
        task=task,
        shape=shape,
        heads=heads,
        between_ids=between_ids,
        lead=lead,
        inner=inner,
        last=last,
        audio_id=audio_token_id(tokenizer),
        pad_id=pad_id(tokenizer),
    )


def plain_shape(user: str) -> TurnShape:
    """The shape of the plain form, that of tokenizers without a template, around a user's message."""
    before, after = user.split(PROMPT if user == PROMPT else AUDIO_TOKEN)
    head, between = f"User: {before}", f"{after}\nAssistant: "
    return TurnShape(
        head_first=head, head_later=(head,), between=between, end_inner="", end_last="", user=user
    )


def _cut_lead(tokenizer: PreTrainedTokenizerFast, between: str) -> tuple[str, Int32, str]:
    """The last special token before a target, the ids between the audio and there, and the text behind it."""
    token = audio_token(tokenizer)
    before, start = last_special(tokenizer, token + between)
    ids = constant_ids(tokenizer, (token + between)[:start])
    return before or token, np.array(ids[1:], np.int32), (token + between)[start:]


def ending_of(tokenizer: PreTrainedTokenizerFast, before: str, text: str) -> Ending:
    """What follows the target, cut into gap, end token and tail; `before` is the special token before it.

    Without an end token, eos is put right after the target: it is supervised, not rendered.
    """
    refuse, end = Refusal(tokenizer), first_special(tokenizer, text)
    gap, _, tail = text.partition(end) if end else ("", "", text)
    if end is None and tail.strip():
        raise refuse(f"writes {tail!r} after the target, and no special token")
    if gap.strip():
        raise refuse(f"writes {gap!r} between the target and {end}")
    ids = constant_ids(tokenizer, (end or "") + tail)
    if end is None:
        ids.insert(0, int(str(tokenizer.eos_token_id)))
    return Ending(
        gap=gap,
        end=end or "",
        tail=tail,
        end_ids=np.array(ids[:1], np.int32),
        tail_ids=np.array(ids[1:], np.int32),
        encode=StretchEncoder(tokenizer, before, end),
    )
