"""Compile a task for a tokenizer: under its chat template, or as segments of the task's own."""

from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.text.chat import compile_chat
from speechrows.text.options import TemplateOptions
from speechrows.text.prompted import compile_prompted
from speechrows.text.segments import compile_segments
from speechrows.types import Task
from speechrows.types import Template


def compile_template(tokenizer: PreTrainedTokenizerFast, task: Task, options: TemplateOptions) -> Template:
    """Compile a task for a tokenizer.

    Raises:
        TemplateError: the template, or the tokenizer, leaves no place for what is supervised, or for a
            system prompt.
        UsageError: there is a system prompt, and the task is no chat.
    """
    if is_chat(task):
        compile_ = compile_prompted if task.takes_text else compile_chat
        return compile_(tokenizer, task, options.date, options.system)
    if options.system is not None:
        raise UsageError(
            f"{task.name}: found a system prompt; expected none: its rows are written by a script of their "
            "own, which has no place for one"
        )
    return compile_segments(tokenizer, task, supervise_eos=options.supervise_eos is not False)


def is_chat(task: Task) -> bool:
    """True for a task that is written as a chat, of user and assistant."""
    return task.segments[0].role is not None
