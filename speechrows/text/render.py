"""Run a tokenizer's chat template: in a process of its own, within a deadline, on a fixed date."""

import contextlib
import datetime
import json
import os
import resource
import select
import signal
import struct
import threading
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

DEADLINE_S = 10.0  # a template takes milliseconds
MAX_CHARS = 1 << 20  # of a rendered conversation of a few words
_MORE_MEMORY = 1 << 30  # that a template may take, in bytes
_TOO_MUCH_MEMORY = "takes more memory than a template may"
_OUT_OF_MEMORY, _TOO_LATE, _RESTED = 3, 4, 5  # exit codes of the process that runs templates
_REST_S = 10.0  # without a template, after which it ends: what this process frees, it would hold
_SIZE = struct.Struct("<Q")  # of a message between the two

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
    template = str(tokenizer.get_chat_template())
    if "strftime_now" in template:
        template = _strftime_macro(date) + template
    words = {**tokenizer.special_tokens_map, "date_string": date.strftime("%d %b %Y")}
    request = json.dumps([template, words, chats], default=str).encode("utf-8", "surrogatepass")
    answer, code = _process.ask(request)
    if answer is None:
        return [RenderError(_death(code))] * len(chats)
    return [text if isinstance(text, str) else RenderError(text[0]) for text in json.loads(answer)]


class _Process:
    """The process that runs templates: a fork of this one, made when it is needed, and kept for the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._requests = self._answers = -1  # ends of pipes

    def ask(self, request: bytes) -> tuple[bytes | None, int]:
        """The answer to a request; without one, the exit code of a process that has ended over it."""
        with self._lock:
            answer, code = self._try_to_ask(request)
            return self._try_to_ask(request) if code == _RESTED else (answer, code)

    def _try_to_ask(self, request: bytes) -> tuple[bytes | None, int]:
        if not self._pid:
            self._start()
        deadline = time.monotonic() + DEADLINE_S
        answer, is_late = None, True  # so where Ctrl-C ends this: the answer would be the next request's
        code = 0
        try:
            with contextlib.suppress(BrokenPipeError):
                _write(self._requests, request)
            answer, is_late = _read(self._answers, deadline)
        finally:
            if answer is None:
                code = self._end(kill=is_late)
        return answer, _TOO_LATE if is_late else code

    def _end(self, *, kill: bool) -> int:
        """See the process end; its exit code."""
        if kill:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        except ChildProcessError:  # this program ignores SIGCHLD: nobody knows the code
            code = _RESTED
        os.close(self._requests)
        os.close(self._answers)
        self._pid = 0
        return code

    def _start(self) -> None:
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if not self._pid:  # the child: no cleanup of what is the parent's
            code = 1
            try:
                os.close(self._requests)
                os.close(self._answers)
                _close_all_but(requests, answers)
                _limit_memory()
                code = _answer(requests, answers)
            except MemoryError:
                code = _OUT_OF_MEMORY
            finally:
                os._exit(code)
        os.close(requests)
        os.close(answers)


_process = _Process()


def _begin_anew() -> None:
    """In a fork, make a process of its own: another thread of the parent may have held the lock."""
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_begin_anew)


def _answer(requests: int, answers: int) -> int:
    """Answer requests until none comes; the exit code."""
    while True:
        if not select.select([requests], [], [], _REST_S)[0]:
            return _RESTED
        request, _ = _read(requests, None)
        if request is None:  # the process that asks has ended
            return 0
        template, words, chats = json.loads(request)
        texts = [_render(template, words, chat) for chat in chats]
        _write(answers, json.dumps(texts).encode("utf-8", "surrogatepass"))


def _write(pipe: int, message: bytes) -> None:
    rest = memoryview(_SIZE.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def _read(pipe: int, deadline: float | None) -> tuple[bytes | None, bool]:
    """A message; without one, whether the deadline came before the pipe's end."""
    message, size = bytearray(), _SIZE.size
    while len(message) < size:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], wait)[0]:
            return None, True
        piece = os.read(pipe, min(1 << 16, size - len(message)))
        if not piece:
            return None, False
        message += piece
        if len(message) == size == _SIZE.size:
            size += _SIZE.unpack_from(message)[0]
    return bytes(message[_SIZE.size :]), False


def _close_all_but(*kept: int) -> None:
    """Close the parent's files: a lock is held, and a pipe goes on, while any process has it open."""
    with contextlib.suppress(FileNotFoundError):  # a system that does not tell
        for fd in map(int, os.listdir("/dev/fd")):
            if fd > 2 and fd not in kept:
                with contextlib.suppress(OSError):  # it was that of the list
                    os.close(fd)


def _limit_memory() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):  # not on Linux: the deadline alone bounds it
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_MEMORY, size + _MORE_MEMORY))


def _death(code: int) -> str:
    """Why the child ended without the texts; below 0, `code` is the signal that killed it."""
    if code == _TOO_LATE:
        return f"does not end within {DEADLINE_S:g} s"
    if code == _OUT_OF_MEMORY:
        return _TOO_MUCH_MEMORY
    if code < 0:
        return f"the process that ran it was killed by signal {-code}, {signal.strsignal(-code)}"
    return f"the process that ran it ended with exit code {code}"


def _render(template: str, words: Mapping[str, Any], chat: Chat) -> str | list[str]:
    """The text, or in a list why there is none."""
    try:
        texts: Any = render_jinja_template(
            conversations=[[dict(message) for message in chat]],
            chat_template=template,
            enable_thinking=False,
            **words,
        )
        text = str(texts[0][0])
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
