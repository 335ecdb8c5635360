"""How the command line talks to a person: one line for a wrong call, and for each way that a command ends."""

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any
from typing import NoReturn

from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.errors import printable

INTERRUPTED = 130  # the exit code of shells for what Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a line: what is wrong, what may have been meant, where help is."""

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  # typed by overloads
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """As argparse does; what a command does not know is its own error, for it knows what is close."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Say it in one line, and exit with 2."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        meant = ""
        if choice:
            meant = did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2]))
        elif unknown:
            meant = did_you_mean(unknown[1], re.findall(r"--[\w-]+", self.format_usage()))
        self.exit(2, printable(f"{self.prog}: {message}{meant or '.'} See `{self.prog} --help`\n"))


def tell_at_once(line: str) -> None:
    """Print a line before what comes next is waited for, to a pipe too."""
    print(printable(line), flush=True)


def tell_on_stderr(line: str) -> None:
    """Print a line beside what a command prints, as where a program reads that."""
    print(printable(line), file=sys.stderr, flush=True)


def run(command: Callable[[], int], stopped: str) -> int:
    """Run a command and return its exit code; however it ends, a person reads a line of it.

    Args:
        command: what runs and returns an exit code.
        stopped: what is printed where Ctrl-C ends it: what is kept, and how to go on.

    Raises:
        BaseException: what is no error of speechrows, of the system, nor Ctrl-C: a bug needs its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal: what it can not show is spelt
            stream.reconfigure(errors="backslashreplace")
    with _noting_interrupts() as interrupts:
        try:
            return command()
        except BaseException as error:
            if interrupts or isinstance(error, KeyboardInterrupt):  # an import may turn it into its own error
                text, code = f"speechrows: {stopped}", INTERRUPTED
            elif isinstance(error, BrokenPipeError):  # whoever reads what is printed has enough of it
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            elif isinstance(error, SpeechRowsError):
                text, code = f"speechrows: {error}", 2 if isinstance(error, UsageError) else 1
            elif isinstance(error, OSError) and error.strerror and error.filename is not None:
                text, code = f"speechrows: {error.filename}: {error.strerror}", 1
            else:
                raise
    if code == INTERRUPTED:
        text = "\n" * sys.stderr.isatty() + text  # below ^C, or a bar
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it now, without a traceback
    print(printable(text), file=sys.stderr)
    return code


@contextmanager
def _noting_interrupts() -> Generator[Sequence[int]]:
    """Let Ctrl-C raise KeyboardInterrupt as ever; yields the signals that have come, a growing list."""
    interrupts: list[int] = []
    is_ours = threading.current_thread() is threading.main_thread()
    is_ours = is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def note(number: int, _: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    def tell_unraisable(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            previous_hook(unraisable)

    previous_hook = sys.unraisablehook
    if is_ours:
        signal.signal(signal.SIGINT, note)
        sys.unraisablehook = tell_unraisable
    try:
        yield interrupts
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = previous_hook


def worker_context(opener: object) -> BaseContext:
    """How workers are started: forked from a process that has imported the module of what they will call.

    Spawned, each would import it anew, for seconds; forked from this process, it would have a copy of locks
    that its threads hold.
    """
    if sys.platform == "darwin":  # whose own libraries do not survive a fork
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_modules(opener))
    return context


def _modules(called: object) -> list[str]:
    """The modules of a callable; of a partial, of what it calls, and of what it calls that with."""
    if isinstance(called, partial):
        return [name for each in (called.func, *called.args) for name in _modules(each)]
    name = getattr(called, "__module__", None)
    return [name] if isinstance(name, str) else []


@contextmanager
def starting_workers() -> Generator[None]:
    """Processes that are started meanwhile never hear Ctrl-C, while they import either: their parent does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ending_workers() -> Generator[None]:
    """If Ctrl-C comes meanwhile, the processes that were started meanwhile are ended at once."""
    others = {*multiprocessing.active_children()}
    try:
        yield
    except KeyboardInterrupt:
        for process in {*multiprocessing.active_children()} - others:
            process.terminate()
        raise
