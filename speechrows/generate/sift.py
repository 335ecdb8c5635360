"""`speechrows generate sift`: answers to what clips say, by a language model, in one of three modes.

A prompt is asked once: clips that say the same in the same way share their answer, whether it
was given in this run or in an earlier one. Answers are written in the order of the source.
"""

import argparse
import hashlib
import sqlite3
import time
from collections import Counter
from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechrows.errors import UsageError
from speechrows.generate.asking import SYSTEM
from speechrows.generate.asking import Answer
from speechrows.generate.asking import ChatModel
from speechrows.generate.asking import Prompt
from speechrows.generate.asking import Sampling
from speechrows.generate.asking import judge_of
from speechrows.generate.asking import prompt_of
from speechrows.generate.source import Source
from speechrows.generate.source import SourceClip
from speechrows.generate.store import Store
from speechrows.sidecar.join import GeneratedColumns

_WAITING = 1 << 16  # clips that may wait for an answer, most of them for the same


@dataclass
class Report:
    """What a run did. Printed, it is what a person wants to know at the end."""

    folder: str
    there: int = 0  # clips that an earlier run had seen to
    made: int = 0  # answers
    cut: int = 0  # of them, without their end
    shared: int = 0  # of them, given before to the same prompt
    faults: Counter[str] = field(default_factory=Counter[str])
    asked: int = 0
    tokens: int = 0
    wall_s: float = 0.0
    busy_s: float = 0.0

    @property
    def loader_share(self) -> float:
        """The part of the time in which the model had less to do than it could."""
        return max(0.0, 1 - self.busy_s / self.wall_s) if self.wall_s and self.asked else 0.0

    def __str__(self) -> str:
        had = f" ({self.there} clips were there)" if self.there else ""
        lines = [
            f"{self.folder}: {self.made} answers{had}, {self.shared} of them to prompts asked before, "
            f"{self.cut} cut; {self.faults.total()} clips without an answer"
        ]
        lines += [f"  {reason}: {number}" for reason, number in sorted(self.faults.items())]
        if self.asked:
            lines.append(
                f"asked {self.asked} times in {self.wall_s:.1f} s: {self.asked / self.wall_s:.1f} answers/s, "
                f"{self.tokens / self.wall_s:.0f} tokens/s; the model waited {self.loader_share:.1%} of it"
            )
        return "\n".join(lines)


def run_sift(options: argparse.Namespace) -> Report:
    """`speechrows generate sift`: the answers to every clip of a source."""
    sampling = Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
    )
    _check(options)
    clips = Source.of(options).clips(audio=False)
    recipe = recipe_of(options.mode, options.model, sampling)
    with Store.open(options.out, recipe, overwrite=options.overwrite) as store:
        return make(clips, store, options.mode, _open_model(options, sampling))


def recipe_of(mode: str, model: str, sampling: Sampling) -> dict[str, Any]:
    """All that decides the answers. Who runs the model is no part of it."""
    return {
        "kind": mode,
        "model": Path(model).name if Path(model).exists() else model,
        "system": SYSTEM[mode],
        "user": "text" if mode == "sift_s" else "context",
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
    }


def _check(options: argparse.Namespace) -> None:
    for flag, value, is_right, expected in [
        ("--temperature", options.temperature, options.temperature >= 0, "0 or more"),
        ("--top-p", options.top_p, 0 < options.top_p <= 1, "above 0, at most 1"),
        ("--max-new-tokens", options.max_new_tokens, options.max_new_tokens > 0, "1 or more"),
        ("--batch-size", options.batch_size, (options.batch_size or 1) > 0, "1 or more"),
        ("--concurrency", options.concurrency, options.concurrency > 0, "1 or more"),
        (
            "--requests-per-second",
            options.requests_per_second,
            (options.requests_per_second or 1) > 0,
            "above 0",
        ),
    ]:
        if not is_right:
            raise UsageError(f"{flag}: found {value}, expected {expected}")


def _open_model(options: argparse.Namespace, sampling: Sampling) -> ChatModel:
    if options.endpoint:
        from speechrows.generate.endpoint import Endpoint  # noqa: PLC0415  # only one of the two is needed

        return Endpoint(
            options.endpoint,
            options.model,
            sampling,
            concurrency=options.concurrency,
            requests_per_second=options.requests_per_second,
            api_key_env=options.api_key_env,
        )
    from speechrows.generate.local_model import LocalModel  # noqa: PLC0415  # it needs torch

    return LocalModel(options.model, sampling, device=options.device, batch_size=options.batch_size)


def make(clips: Iterable[SourceClip], store: Store, mode: str, model: ChatModel) -> Report:
    """Add the answers to all clips that the store lacks."""
    run = _Run(store, mode, model)
    began = time.monotonic()
    try:
        for answer in model.answers(run.prompts(clips), judge_of(mode)):
            run.take(answer)
        run.settle()
    finally:
        run.bar.close()
    run.report.asked, run.report.tokens, run.report.busy_s = model.num_asked, model.num_tokens, model.busy_s
    run.report.wall_s = time.monotonic() - began
    return run.report


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A clip whose answer is on its way; `is_asked` where it is the first with its prompt."""

    clip_id: str
    key: bytes
    is_asked: bool


class _Run:
    """Clips on their way from the source through the model into the store, in order."""

    def __init__(self, store: Store, mode: str, model: ChatModel) -> None:
        self.report = Report(str(store.folder))
        self.bar: Any = tqdm(unit=" answers", disable=None, initial=len(store), smoothing=0.1)
        self._store, self._mode, self._model = store, mode, model
        self._earlier = GeneratedColumns.open([str(store.folder)]) if len(store) else None
        self._known = _Known()
        self._asked: set[bytes] = set()  # prompts without an answer yet
        self._waiting: deque[_Waiting] = deque()
        self._met = 0

    def prompts(self, clips: Iterable[SourceClip]) -> Iterator[Prompt | None]:
        """The prompts of clips, each once. Those clips wait, and those that share a prompt with them."""
        for clip in clips:
            self._met += 1
            if self._met % 64 == 0 and clip.share:
                self.bar.total = round(self._met / clip.share)
            prompt = prompt_of(self._mode, clip)
            key = hashlib.blake2b(prompt.user.encode(errors="surrogatepass"), digest_size=16).digest()
            if clip.clip_id in self._store:
                self._remember(clip.clip_id, key)
                continue
            is_new = bool(clip.text.strip()) and key not in self._asked and self._known.get(key) is None
            if not clip.text.strip():
                self._known.put(key, Answer(reason="the clip has no text"))
            self._waiting.append(_Waiting(clip.clip_id, key, is_new))
            if is_new:
                self._asked.add(key)
                yield prompt
            self.settle()
            if len(self._waiting) >= _WAITING:
                yield None

    def take(self, answer: Answer) -> None:
        """The next answer of the model."""
        first = self._waiting.popleft()
        self._known.put(first.key, answer)
        self._asked.discard(first.key)
        self._add(first.clip_id, answer)
        self.settle()

    def settle(self) -> None:
        """Add the clips at the head of the queue that need not wait."""
        while self._waiting and not self._waiting[0].is_asked:
            one = self._waiting.popleft()
            answer = self._known.get(one.key)
            assert answer is not None, "the first with a prompt stands before those that share it"
            self.report.shared += answer.text is not None
            self._add(one.clip_id, answer)

    def _add(self, clip_id: str, answer: Answer) -> None:
        self._store.add(clip_id, answer.text, is_cut=answer.is_cut, reason=answer.reason)
        if answer.text is None:
            self.report.faults[answer.reason or ""] += 1
        else:
            self.report.made += 1
            self.report.cut += answer.is_cut
        if not self.bar.disable:
            rate = self._model.num_tokens / max(self.bar.format_dict["elapsed"], 1e-9)
            self.bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
        self.bar.update()

    def _remember(self, clip_id: str, key: bytes) -> None:
        """What an earlier run was told: the same prompt need not be asked again."""
        self.report.there += 1
        if self._earlier is not None and self._known.get(key) is None:
            text, is_cut = self._earlier.answer(self._mode, clip_id)
            if text is not None:
                self._known.put(key, Answer(text=text, is_cut=is_cut))


class _Known:
    """Answers by the digest of their prompt: beyond SQLite's cache they lie in a file without a name."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("PRAGMA synchronous=OFF")
        self._table.execute("CREATE TABLE known (key BLOB PRIMARY KEY, text, is_cut, reason) WITHOUT ROWID")
        self._table.execute("BEGIN")  # and never a commit: nobody else reads it

    def get(self, key: bytes) -> Answer | None:
        found = self._table.execute("SELECT text, is_cut, reason FROM known WHERE key = ?", (key,)).fetchone()
        return None if found is None else Answer(text=found[0], is_cut=bool(found[1]), reason=found[2])

    def put(self, key: bytes, answer: Answer) -> None:
        values = (key, answer.text, answer.is_cut, answer.reason)
        self._table.execute("INSERT OR IGNORE INTO known VALUES (?, ?, ?, ?)", values)
