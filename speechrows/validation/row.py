"""Checks of what a single row promises: each is a function that returns what is wrong, or None."""

import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.codec import num_audio_tokens
from speechrows.corpora.traits import AGES
from speechrows.corpora.traits import EMOTIONS
from speechrows.corpora.traits import GENDERS
from speechrows.corpora.traits import PACES
from speechrows.corpora.traits import VOLUMES
from speechrows.errors import UsageError
from speechrows.rows.conversation import ClipCount
from speechrows.rows.tasks import CORRESPOND
from speechrows.text.audio_token import audio_token
from speechrows.text.normalise import normalise
from speechrows.text.template import is_chat
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import TRAITS
from speechrows.types import Fields
from speechrows.types import Rendered
from speechrows.types import Task
from speechrows.types import Template

_CLOSED = {"emotion": EMOTIONS, "gender": GENDERS, "age": AGES, "pace": PACES, "volume": VOLUMES}
NULLABLE = ("codec", "codec_targets", "target_audio", "domain", "system", "start_s", *TRAITS)
OF_SOUND = ("audio", "sampling_rate", "num_samples")  # null, all of them, in a row of text alone

_NO_UNIT = 32_767  # beyond any that a tokenizer has
_UNIT = re.compile(r"<\|unit(\d+)\|>")

RowDict = Mapping[str, Any]


@dataclass(frozen=True)
class RowContext:
    """What rows are checked against."""

    task: Task
    split: str
    tokenizer: PreTrainedTokenizerFast
    tokens_per_second: Fraction
    template: Template
    audio_id: int
    pad_id: int
    special_ids: frozenset[int]
    renderings: Mapping[str, Rendered | None] = field(default_factory=dict[str, Rendered | None])
    clips_before: Mapping[str, int] = field(default_factory=dict[str, int])  # of rows, in their conversation


def fields(row: RowDict, context: RowContext) -> str | None:
    """What every row has is there, and says the same everywhere."""
    missing = _missing(row, context)
    if missing:
        return f"{', '.join(missing)} is null"
    for trait, words in _CLOSED.items():
        if row[trait] not in (None, *words):
            return f"found {trait} {row[trait]!r}, expected one of {', '.join(words)}"
    if row["task"] != context.task.name:
        return f"found task {row['task']!r}, expected {context.task.name!r}"
    if row["role"] not in ("user", "assistant"):
        return f"found role {row['role']!r}, expected user or assistant"
    ending = f"/{context.split}/{row['clip_id']}/{context.task.name}"
    if not row["row_id"].endswith(ending) or not row["clip_id"].startswith(row["conversation_id"] + "/"):
        return f"found clip_id {row['clip_id']!r}; expected row_id to end in {ending!r}"
    return None


def _missing(row: RowDict, context: RowContext) -> list[str]:
    """The columns, or parts of them, that are null and may not be."""
    missing = [name for name, value in row.items() if value is None and name not in NULLABLE]
    if missing == [*OF_SOUND] and context.task.takes_text:
        missing = []
    if missing:
        return missing
    if row["audio"] is not None and None in (row["audio"]["bytes"], row["audio"]["path"]):
        missing.append("audio")
    if row["target_audio"] is not None and row["target_audio"]["bytes"] is None:
        missing.append("target_audio")
    if len(row["messages"]) != 2 or any(None in message.values() for message in row["messages"]):
        missing.append("messages, or one of the two,")
    return missing


def padding(row: RowDict, context: RowContext) -> str | None:
    """The padded length is the next multiple; pads are pad tokens without loss."""
    length, tokens, multiple = len(row["input_ids"]), row["num_tokens"], context.task.pad_to_multiple_of
    if length % multiple or not tokens <= length < tokens + multiple:
        return f"{length} ids for {tokens} tokens; expected the next multiple of {multiple}"
    if row["input_ids"][tokens:].count(context.pad_id) != length - tokens:
        return f"ids after the first {tokens} are not all pads ({context.pad_id})"
    pads = row["labels"][tokens:]
    if pads.count(IGNORE_INDEX) != len(pads):
        return "pads take loss"
    return None


def labels(row: RowDict, _context: RowContext) -> str | None:
    """Labels are as many as the ids, and each is the id itself or -100."""
    ids, marks = np.array(row["input_ids"]), np.array(row["labels"])
    if len(ids) != len(marks):
        return f"{len(ids)} input_ids, {len(marks)} labels"
    wrong = np.flatnonzero((marks != IGNORE_INDEX) & (marks != ids))
    if len(wrong):
        return f"label {marks[wrong[0]]} at place {wrong[0]}, where the id is {ids[wrong[0]]}"
    return None


def target(row: RowDict, context: RowContext) -> str | None:
    """The supervised tokens decode to the assistant's text, and end with a special token."""
    supervised = [label for label in row["labels"] if label != IGNORE_INDEX]
    expected = row["messages"][1]["content"]
    if not supervised:
        return "no token takes loss"
    if not is_chat(context.task):  # supervised in several places: `rendering` compares them
        return None
    # What `decode` without clean-up is, without its overhead a row.
    decoded = context.tokenizer.backend_tokenizer.decode(supervised, skip_special_tokens=True)
    if decoded not in (expected, " " + expected):
        return f"supervised tokens decode to {decoded!r:.80}, expected {expected!r:.80}"
    may_be_cut = context.task.needs == "answer"  # where no end was written, none is learnt
    if supervised[-1] not in context.special_ids and not may_be_cut:
        return f"the last supervised token is {supervised[-1]}, expected an end token"
    return None


def _num_audio_tokens(row: RowDict, context: RowContext) -> int:
    if row["audio"] is None:
        return 0
    return num_audio_tokens(row["num_samples"], row["sampling_rate"], context.tokens_per_second)


def placeholders(row: RowDict, context: RowContext) -> str | None:
    """There are as many `<audio>` ids as the clip is long; none where units stand for it."""
    count = row["input_ids"].count(context.audio_id)
    expected = _num_audio_tokens(row, context)
    if not is_chat(context.task):
        expected = 0
    name = audio_token(context.tokenizer)
    return None if count == expected else f"{count} {name} ids, the clip's length asks for {expected}"


def messages(row: RowDict, context: RowContext) -> str | None:
    """Exactly user and assistant; `<audio>` once in the user's; the text is their rendering."""
    roles = [message["role"] for message in row["messages"]]
    if roles != ["user", "assistant"]:
        return f"found roles {roles}, expected user and assistant"
    user, assistant = (message["content"] for message in row["messages"])
    if context.task.takes_text:
        return _own_message(row, user)
    if user != context.template.user:
        return f"the user's content is {user!r}, expected {context.template.user!r}"
    spoken = normalise(row["transcript"], lower_case=context.task.lower_case)
    if context.task.segments[-1].text == "{transcript}" and assistant != spoken:
        return f"the assistant's content is {assistant!r:.80}, expected {spoken!r:.80}"
    after = row["text"].partition(audio_token(context.tokenizer))[2] if is_chat(context.task) else row["text"]
    if assistant not in after:
        return "text is not the rendering of messages"
    return None


def _own_message(row: RowDict, user: str) -> str | None:
    """A user's own message is normalised text, with `<audio>` once if there is a clip."""
    count = int(row["audio"] is not None)
    if user.count(AUDIO_TOKEN) != count:
        return f"the user's content is {user!r:.80}, expected {AUDIO_TOKEN} {count} times in it"
    return None if user and user == normalise(user) else f"the user's {user!r:.80} is not normalised text"


def system(row: RowDict, context: RowContext) -> str | None:
    """A system prompt is normalised text, in chats alone; `rendering` sees that the text holds it."""
    prompt = row["system"]
    if prompt is None:
        return None
    if not is_chat(context.task):
        return f"found the system prompt {prompt!r:.80}, expected none in {context.task.name} rows"
    return None if prompt and prompt == normalise(prompt) else f"{prompt!r:.80} is not normalised text"


def codes(row: RowDict, context: RowContext) -> str | None:
    """Codec targets are [K, F], in the codec's range; there where the task needs them."""
    codec, values = row["codec"], row["codec_targets"]
    if (codec is None) != (values is None):
        return "one of codec and codec_targets is null, the other is not"
    if codec is None:
        return "codec_targets is null" if context.task.needs in ("codes", "units") else None
    if context.task.codec_targets is None:
        return f"found codes of {codec}, expected none in {context.task.name} rows"
    return check(values, CODECS[codec]) if codec in CODECS else None


def with_renderings(rows: Sequence[RowDict], context: RowContext, clips: ClipCount) -> RowContext:
    """The context of these rows, rendered anew in one batch, which is far faster than one by one.

    `clips` counts those of a shard's rows.
    """
    counts = [clips.before(row["turn_number"], has_clip=row["num_samples"] is not None) for row in rows]
    context = replace(context, clips_before=dict(zip([row["row_id"] for row in rows], counts, strict=True)))
    names = dict.fromkeys(row["row_id"] for row in rows)
    if len(names) != len(rows):  # ids that came twice: one by one
        return replace(context, renderings={})
    try:
        rendered = context.template.fill([_fields(row, context, is_cut=False) for row in rows])
    except UsageError:  # units that the tokenizer does not have, of one of them
        return replace(context, renderings={})
    return replace(context, renderings=dict(zip(names, rendered, strict=True)))


def rendering(row: RowDict, context: RowContext) -> str | None:
    """Text, ids and labels are what the messages give under the saved tokenizer, made anew."""
    spaces = _num_audio_tokens(row, context)
    wrong = "the tokenizer does not give back the assistant's content"
    for is_cut in (False, True) if context.task.needs == "answer" else (False,):
        try:
            if is_cut or row["row_id"] not in context.renderings:
                (rendered,) = context.template.fill([_fields(row, context, is_cut=is_cut)])
            else:
                rendered = context.renderings[row["row_id"]]
        except UsageError as error:  # units that the tokenizer does not have
            return str(error)
        if rendered is None:
            continue
        if row["text"] != rendered.text():
            return f"text is {row['text']!r:.80}, not the rendering of messages"
        length = max(len(row["input_ids"]), rendered.num_tokens(spaces))
        ids, marks = rendered.assemble(spaces, length=length)
        if row["input_ids"] == ids.tolist() and row["labels"] == marks.tolist():
            return None
        name = "labels" if row["input_ids"] == ids.tolist() else "input_ids"
        wrong = f"{name} are not those of the messages under the saved tokenizer"
    return wrong


def _fields(row: RowDict, context: RowContext, *, is_cut: bool) -> Fields:
    """What a row's segments were filled with, taken from its columns."""
    task = context.task
    reply = row["messages"][1]["content"]
    if is_chat(task):
        return Fields(
            transcript=reply,
            answer=reply,
            answer_is_cut=is_cut,
            number=row["turn_number"] if task.whole else 0,
            last=not task.whole or row["turn_number"] == row["num_turns"] - 1,
            system=row["system"],
            prompt=row["messages"][0]["content"],
            clips_before=context.clips_before.get(row["row_id"]),
        )
    units = [min(int(unit), _NO_UNIT) for unit in _UNIT.findall(row["text"].partition(CORRESPOND)[0])]
    answer_units = (row["codec_targets"] or [[]])[0]  # the check `codes` reports what is missing
    return Fields(
        transcript=row["transcript"],
        answer=reply,
        units=np.array(units, np.int16),
        answer_units=np.array(answer_units, np.int16),
    )


CHECKS: dict[str, Callable[[RowDict, RowContext], str | None]] = {
    "required fields": fields,
    "padding": padding,
    "labels align": labels,
    "target decodes": target,
    "placeholders": placeholders,
    "messages": messages,
    "system": system,
    "codes": codes,
    "rendering": rendering,
}
