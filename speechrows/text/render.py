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
        try:
            os.close(read_end)
            _limit_memory()
            texts = [_render(tokenizer, chat, date) for chat in chats]
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(json.dumps(texts).encode("utf-8", "surrogatepass"))
        finally:
            os._exit(0)
    os.close(write_end)
    data = _read(read_end, pid)
    if data is None:
        return [RenderError(f"does not end within {DEADLINE_S:g} s")] * len(chats)
    if not data:
        return [RenderError("takes more memory than a template may")] * len(chats)
    return [text if isinstance(text, str) else RenderError(text[0]) for text in json.loads(data)]


def _limit_memory() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):  # not on Linux: the deadline alone bounds it
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_MEMORY, size + _MORE_MEMORY))


def _read(pipe: int, pid: int) -> bytes | None:
    """What the child writes until it ends; None where the deadline comes first."""
    deadline, data = time.monotonic() + DEADLINE_S, bytearray()
    try:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(pipe, 1 << 16)
            if not piece:
                return bytes(data)
            data += piece
        return None
    finally:
        os.close(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


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
        return ["takes more memory than a template may"]
    except Exception as error:  # jinja2's own errors, and whatever a template raises
        return [str(error)]
    return text if len(text) <= MAX_CHARS else [f"writes {len(text)} characters for a few words"]


def _strftime_macro(date: datetime.date) -> str:
    """Jinja that hides the `strftime_now` of transformers, which says today, behind a fixed date.

    A macro, because transformers hands plain data to templates: a function becomes its repr.
    """
    replaced = "format"
    for letter in "aAbBdeFHIjmMpSTuUwWxXyY":
        value = date.strftime(f"%{letter}")
        replaced += f".replace('%{letter}', '{value}').replace('%-{letter}', '{value.lstrip('0 ') or 0}')"
    return f"{{%- macro strftime_now(format) -%}}{{{{ {replaced} }}}}{{%- endmacro -%}}"
