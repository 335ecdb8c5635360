"""Compile a task for a tokenizer: under its chat template, or as segments of the task's own."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from speechrows.text.chat import DEFAULT_DATE
from speechrows.text.chat import compile_chat
from speechrows.text.segments import compile_segments
from speechrows.types import Task
from speechrows.types import Template


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateOptions:
    """A build's choices that templates are compiled with; its index keeps them.

    `date` is the one that chat templates write. `supervise_eos` is None in builders without that choice.
    """

    date: datetime.date = DEFAULT_DATE
    supervise_eos: bool | None = None

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TemplateOptions":
        """Read the options among a config's values, or what `to_json` gave; other keys are passed over.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        date = datetime.date.fromisoformat(values["date"])
        return TemplateOptions(date=date, supervise_eos=values.get("supervise_eos"))

    def to_json(self) -> dict[str, Any]:
        """The options as plain values; those that a builder does not have are left out."""
        supervise_eos = {} if self.supervise_eos is None else {"supervise_eos": self.supervise_eos}
        return {"date": self.date.isoformat(), **supervise_eos}


def compile_template(tokenizer: PreTrainedTokenizerFast, task: Task, options: TemplateOptions) -> Template:
    """Compile a task for a tokenizer.

    Raises:
        TemplateError: the template, or the tokenizer, leaves no place for what is supervised.
    """
    if is_chat(task):
        return compile_chat(tokenizer, task, options.date)
    return compile_segments(tokenizer, task, supervise_eos=options.supervise_eos is not False)


def is_chat(task: Task) -> bool:
    """True for a task that is written as a chat, with `<audio>` in the user's turn."""
    return task.segments[0].role is not None
