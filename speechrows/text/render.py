"""Run a tokenizer's chat template: in a process of its own, within a deadline, on a fixed date."""

import contextlib
import datetime
import json
import os
import resource
import select
import signal
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

DEADLINE_S = 10.0  # a template takes milliseconds
MAX_CHARS = 1 << 20  # of a rendered conversation of a few words
_MORE_MEMORY = 1 << 30  # that a template may take, in bytes
_TOO_MUCH_MEMORY = "takes more memory than a template may"
_OUT_OF_MEMORY, _TOO_LATE = 3, 4  # exit codes of the process that runs a template

Chat = Sequence[Mapping[str, Any]]  # messages: role, content


class RenderError(Exception):
    """What a template raised, or did in place of rendering."""


def render_chats(
    tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat], date: datetime.date
) -> list[str | RenderError]:
    """The text of each conversation, or why there is none.

    A template comes from whoever published the tokenizer: one that never ends, or writes without end, is
    stopped. That takes a process: nothing ends a loop in this one.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:  # the child: no cleanup of what is the parent's
        code = 1
        try:
            os.close(read_end)
            _limit_memory()
            texts = [_render(tokenizer, chat, date) for chat in chats]
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(json.dumps(texts).encode("utf-8", "surrogatepass"))
            code = 0
        except MemoryError:
            code = _OUT_OF_MEMORY
        finally:
            os._exit(code)
    os.close(write_end)
    data, code = _read(read_end, pid)
    if code:
        return [RenderError(_death(code))] * len(chats)
    return [text if isinstance(text, str) else RenderError(text[0]) for text in json.loads(data)]


def _limit_memory() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):  # not on Linux: the deadline alone bounds it
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_MEMORY, size + _MORE_MEMORY))


def _read(pipe: int, pid: int) -> tuple[bytes, int]:
    """What the child writes until it ends, and its exit code; it is killed where the deadline comes first."""
    deadline, data, has_ended = time.monotonic() + DEADLINE_S, bytearray(), False
    try:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(pipe, 1 << 16)
            if not piece:
                has_ended = True
                break
            data += piece
    finally:
        os.close(pipe)
        if not has_ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return bytes(data), os.waitstatus_to_exitcode(status) if has_ended else _TOO_LATE


def _death(code: int) -> str:
    """Why the child ended without the texts; below 0, `code` is the signal that killed it."""
    if code == _TOO_LATE:
        return f"does not end within {DEADLINE_S:g} s"
    if code == _OUT_OF_MEMORY:
        return _TOO_MUCH_MEMORY
    if code < 0:
        return f"the process that ran it was killed by signal {-code}, {signal.strsignal(-code)}"
    return f"the process that ran it ended with exit code {code}"


def _render(tokenizer: PreTrainedTokenizerFast, chat: Chat, date: datetime.date) -> str | list[str]:
    """The text, or in a list why there is none."""
    try:
        text = str(
            tokenizer.apply_chat_template(
                [dict(message) for message in chat],
                tokenize=False,
                add_generation_prompt=False,
                chat_template=_strftime_macro(date) + tokenizer.get_chat_template(),
                enable_thinking=False,
                date_string=date.strftime("%d %b %Y"),
            )
        )
    except MemoryError:
        return [_TOO_MUCH_MEMORY]
    except Exception as error:  # jinja2's own errors, and whatever a template raises
        return [str(error)]
    return text if len(text) <= MAX_CHARS else [f"writes {len(text)} characters for a few words"]


def _strftime_macro(date: datetime.date) -> str:
    """Jinja that hides the `strftime_now` of transformers, which says today, behind a fixed date.

    A macro, because transformers hands plain data to templates: a function becomes its repr.
    """
    values = {f"%{letter}": date.strftime(f"%{letter}") for letter in "aAbBdeFHIjmMpSTuUwWxXyY"}
    values |= {f"%-{code[1]}": value.lstrip("0 ") or "0" for code, value in values.items()}
    return (
        "{%- macro strftime_now(format) -%}{%- set date = namespace(text=format) -%}"
        f"{{%- for code, value in {[*values.items()]} -%}}"
        "{%- set date.text = date.text.replace(code, value) -%}{%- endfor -%}{{ date.text }}{%- endmacro -%}"
    )
