"""`speechrows generate sift`: answers to what clips say, by a language model, in one of three modes.

A prompt is asked once: clips that say the same in the same way share their answer, whether it
was given in this run or in an earlier one. Answers are written in the order of the clips.
"""

import argparse
import hashlib
import sqlite3
import time
from collections import Counter
from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
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
from speechrows.generate.chat_models import open_model
from speechrows.generate.clip import InputClip
from speechrows.generate.selection import ClipSelection
from speechrows.generate.writer import SidecarWriter
from speechrows.sidecar.join import GeneratedColumns
from speechrows.text.normalise import is_blank
from speechrows.workers.local import HERE
from speechrows.workers.work import Engine

_MAX_PENDING = 1 << 16  # clips that may wait for an answer, most of them for the same


@dataclass
class SiftReport:
    """Counts and times of a run of `generate sift`; as a string, lines for a person."""

    folder: str
    num_earlier: int = 0  # clips that an earlier run had seen to
    num_made: int = 0  # answers
    num_cut: int = 0  # of them, without their end
    num_shared: int = 0  # of them, given before to the same prompt
    faults: Counter[str] = field(default_factory=Counter[str])  # clips without an answer, by reason
    num_asked: int = 0
    num_tokens: int = 0
    wall_s: float = 0.0
    busy_s: float = 0.0

    @property
    def waiting_share(self) -> float:
        """The share of the time in which the model had less to do than it could."""
        return max(0.0, 1 - self.busy_s / self.wall_s) if self.wall_s and self.num_asked else 0.0

    def __str__(self) -> str:
        earlier = f" ({self.num_earlier} clips were there)" if self.num_earlier else ""
        lines = [
            f"{self.folder}: {self.num_made} answers{earlier}, {self.num_shared} of them to prompts asked "
            f"before, {self.num_cut} cut; {self.faults.total()} clips without an answer"
        ]
        lines += [f"  {reason}: {number}" for reason, number in sorted(self.faults.items())]
        if self.num_asked:
            speed = (
                f"{self.num_asked / self.wall_s:.1f} answers/s, {self.num_tokens / self.wall_s:.0f} tokens/s"
            )
            lines.append(
                f"asked {self.num_asked} times in {self.wall_s:.1f} s: {speed}; "
                f"the model waited {self.waiting_share:.1%} of it"
            )
        return "\n".join(lines)


def run_sift(options: argparse.Namespace, engine: Engine = HERE) -> SiftReport:
    """Run `speechrows generate sift`: answers to every clip that --source names."""
    sampling = Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
    )
    _check(options)
    clips = ClipSelection.of(options).clips(audio=False)
    recipe = recipe_of(options.mode, options.model, sampling)
    if options.generated:
        joined = _open_traits(options.generated, options.mode)
        clips = (replace(clip, traits=joined.traits(clip.clip_id, clip.traits)) for clip in clips)
        recipe["traits"] = joined.digest()
    with SidecarWriter.open(options.out, recipe, overwrite=options.overwrite) as writer:
        return make(clips, writer, options.mode, open_model(options, sampling, engine))


def recipe_of(mode: str, model: str, sampling: Sampling) -> dict[str, Any]:
    """The recipe of a sidecar of answers: all that decides them. Who runs the model does not."""
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


def _open_traits(places: Sequence[str], mode: str) -> GeneratedColumns:
    """The traits that clips are given. Raises UsageError for other columns, and where none are told."""
    joined = GeneratedColumns.open(places)
    if set(joined.kinds) != {"traits"}:
        raise UsageError(
            f"--with {' '.join(places)}: found {', '.join(sorted(joined.kinds))}; expected traits, as "
            "`speechrows generate traits` makes them"
        )
    if mode == "sift_s":
        raise UsageError("--with: found --mode sift_s, which answers the words alone; leave one of them out")
    return joined


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


def make(clips: Iterable[InputClip], writer: SidecarWriter, mode: str, model: ChatModel) -> SiftReport:
    """Write the answers to all clips that the sidecar lacks."""
    run = _Run(writer, mode, model)
    began = time.monotonic()
    try:
        for answer in model.answers(run.prompts(clips), judge_of(mode)):
            run.take(answer)
        run.settle()
    finally:
        run.bar.close()
    report = run.report
    report.num_asked, report.num_tokens, report.busy_s = model.num_asked, model.num_tokens, model.busy_s
    report.wall_s = time.monotonic() - began
    return report


@dataclass(frozen=True, slots=True)
class _PendingClip:
    """A clip whose answer is on its way; `is_asked` where it is the first with its prompt."""

    clip_id: str
    key: bytes
    is_asked: bool


class _Run:
    """Clips on their way through the model into the writer, in order."""

    def __init__(self, writer: SidecarWriter, mode: str, model: ChatModel) -> None:
        self.report = SiftReport(str(writer.folder))
        self.bar: Any = tqdm(unit=" answers", disable=None, initial=len(writer), smoothing=0.1)
        self._writer, self._mode, self._model = writer, mode, model
        self._earlier = GeneratedColumns.open([str(writer.folder)]) if len(writer) else None
        self._cache = _AnswerCache()
        self._asked: set[bytes] = set()  # prompts without an answer yet
        self._pending: deque[_PendingClip] = deque()
        self._num_clips = 0

    def prompts(self, clips: Iterable[InputClip]) -> Iterator[Prompt | None]:
        """Yield the prompts of clips, each once; None where too many clips wait for answers."""
        for clip in clips:
            self._num_clips += 1
            if self._num_clips % 64 == 0 and clip.share:
                self.bar.total = round(self._num_clips / clip.share)
            prompt = prompt_of(self._mode, clip)
            key = hashlib.blake2b(prompt.user.encode(errors="surrogatepass"), digest_size=16).digest()
            if clip.clip_id in self._writer:
                self._take_up(clip.clip_id, key)
                continue
            is_new = not is_blank(clip.text) and key not in self._asked and self._cache.get(key) is None
            if is_blank(clip.text):
                self._cache.put(key, Answer(reason="the clip has no text"))
            self._pending.append(_PendingClip(clip.clip_id, key, is_new))
            if is_new:
                self._asked.add(key)
                yield prompt
            self.settle()
            if len(self._pending) >= _MAX_PENDING:
                yield None

    def take(self, answer: Answer) -> None:
        """Write the next answer of the model."""
        first = self._pending.popleft()
        self._cache.put(first.key, answer)
        self._asked.discard(first.key)
        self._add(first.clip_id, answer)
        self.settle()

    def settle(self) -> None:
        """Write the answers of clips at the head of the queue that need not wait."""
        while self._pending and not self._pending[0].is_asked:
            clip = self._pending.popleft()
            answer = self._cache.get(clip.key)
            assert answer is not None, "the first with a prompt stands before those that share it"
            self.report.num_shared += answer.text is not None
            self._add(clip.clip_id, answer)

    def _add(self, clip_id: str, answer: Answer) -> None:
        self._writer.add(clip_id, answer.text, is_cut=answer.is_cut, reason=answer.reason)
        if answer.text is None:
            self.report.faults[answer.reason or ""] += 1
        else:
            self.report.num_made += 1
            self.report.num_cut += answer.is_cut
        if not self.bar.disable:
            rate = self._model.num_tokens / max(self.bar.format_dict["elapsed"], 1e-9)
            self.bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
        self.bar.update()

    def _take_up(self, clip_id: str, key: bytes) -> None:
        """Cache the answer of an earlier run: the same prompt need not be asked again."""
        self.report.num_earlier += 1
        if self._earlier is not None and self._cache.get(key) is None:
            text, is_cut = self._earlier.answer(self._mode, clip_id)
            if text is not None:
                self._cache.put(key, Answer(text=text, is_cut=is_cut))


class _AnswerCache:
    """Answers by the digest of their prompt: beyond SQLite's cache they lie in a file without a name."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("PRAGMA synchronous=OFF")
        self._table.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, text, is_cut, reason) WITHOUT ROWID")
        self._table.execute("BEGIN")  # and never a commit: nobody else reads it

    def get(self, key: bytes) -> Answer | None:
        query = "SELECT text, is_cut, reason FROM answers WHERE key = ?"
        row = self._table.execute(query, (key,)).fetchone()
        return None if row is None else Answer(text=row[0], is_cut=bool(row[1]), reason=row[2])

    def put(self, key: bytes, answer: Answer) -> None:
        values = (key, answer.text, answer.is_cut, answer.reason)
        self._table.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", values)
