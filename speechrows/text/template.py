"""Which form a task's rows have: a chat under the tokenizer's template, or a script of its own."""

import datetime
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from speechrows.text.chat import DEFAULT_DATE
from speechrows.text.chat import compile_chat
from speechrows.text.segments import compile_segments
from speechrows.types import Task
from speechrows.types import Template


def compile_template(tokenizer: PreTrainedTokenizerFast, task: Task, options: Mapping[str, Any]) -> Template:
    """Compile a task for a tokenizer. `options` are a build's recipe, or what its index kept of it.

    Raises:
        TemplateError: the template, or the tokenizer, leaves no place for what is supervised.
    """
    if not is_chat(task):
        return compile_segments(tokenizer, task, supervise_eos=bool(options.get("supervise_eos", True)))
    date = options.get("date")
    return compile_chat(tokenizer, task, datetime.date.fromisoformat(date) if date else DEFAULT_DATE)


def is_chat(task: Task) -> bool:
    """Whether a task is written as a chat, with `<audio>` in the user's turn."""
    return task.segments[0].role is not None


def template_options(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a build's recipe `compile_template` asks for: the index keeps it."""
    return {name: recipe[name] for name in ("date", "supervise_eos") if name in recipe}
