"""Compile a task for a tokenizer: under its chat template, or as segments of the task's own."""

from transformers import PreTrainedTokenizerFast

from speechrows.text.chat import compile_chat
from speechrows.text.options import TemplateOptions
from speechrows.text.segments import compile_segments
from speechrows.types import Task
from speechrows.types import Template


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
