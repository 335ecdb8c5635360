"""The ledger: every item is a row, skipped by a fault, or left out by a rule."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from speechrows.errors import ShortfallError
from speechrows.errors import SpeechRowsError
from speechrows.types import Clip
from speechrows.types import LeftOut
from speechrows.types import Skipped
from speechrows.types import Traits
from speechrows.types import UnreadableFile

MAX_SKIPPED = 0.05  # of the items, faulty: a build that finds more fails, unless --max-skipped allows more
UNREADABLE = "unreadable_metadata"  # the reason in skipped.jsonl of a file that could not be read

_MAX_UNKNOWN = 256  # words that are counted apart: a corpus of free text would fill the memory


@dataclass
class Ledger:
    """Counts of the outcomes of a build's items, or of a shard's.

    `files` counts what described items, or should have: dialogues, and files or lines of metadata that
    could not be read, which have none.
    """

    items: int = 0
    rows: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter[str])
    files: int = 0
    unreadable: list[UnreadableFile] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter[str])
    made_from: Counter[str] = field(default_factory=Counter[str])
    cut_short: int = 0

    def count_clips(self, clips: Iterable[Clip | None]) -> None:
        """Count the clips of rows that are stored in another format, by that which they had, or cut short."""
        known = [clip for clip in clips if clip is not None]
        self.made_from.update(clip.made_from for clip in known if clip.made_from)
        self.cut_short += sum(clip.is_cut_short for clip in known)

    def count_unknown(self, traits: Iterable[Traits]) -> None:
        """Count the words of rows' traits that no table of traits.py has."""
        for trait in traits:
            for words in trait.unknown:
                is_new = words not in self.unknown and len(self.unknown) >= _MAX_UNKNOWN
                self.unknown["others" if is_new else words] += 1

    def leave_out(self, left_out: Iterable[LeftOut]) -> None:
        """Count items that a rule leaves out."""
        self.left_out.update(item.rule.value for item in left_out)

    def check(self) -> None:
        """Raise if an item was lost or doubled: an error of ours, never of the data."""
        total = self.rows + len(self.skipped) + self.left_out.total()
        if total != self.items:
            raise SpeechRowsError(
                f"the ledger does not add up: {self.items} items, but {self.rows} rows + "
                f"{len(self.skipped)} skipped + {self.left_out.total()} left out = {total}"
            )

    def lines(self, task: str) -> list[dict[str, str | None]]:
        """The lines of skipped.jsonl: unreadable files first, then items in order."""
        lines: list[dict[str, str | None]] = []
        for file in self.unreadable:
            reason = "remark" if file.is_remark else UNREADABLE
            facts = {"reason": reason, "detail": file.detail, "file": file.file}
            lines.append({"task": task, "clip_id": None, **facts})
        for item in self.skipped:
            facts = {"reason": item.reason.value, "detail": item.detail, "file": item.file}
            lines.append({"task": task, "clip_id": item.clip_id, **facts})
        return lines

    def summary(self) -> "LedgerSummary":
        """Counts by reason."""
        return LedgerSummary(
            items=self.items,
            rows=self.rows,
            skipped=_sorted(Counter(item.reason.value for item in self.skipped)),
            left_out=_sorted(self.left_out),
            files=self.files,
            unreadable_files=sum(not file.is_remark for file in self.unreadable),
            unknown_traits=_sorted(self.unknown),
            made_from=_sorted(self.made_from),
            cut_short=self.cut_short,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSummary:
    """A ledger's counts, as commits and indexes keep them; `+` adds those of several shards or tasks.

    `skipped` counts items by reason, `left_out` by rule, `unknown_traits` by the words of the corpus,
    `made_from` clips that are stored as FLAC by what they were, each sorted by name. `cut_short` counts
    clips whose files are longer than the corpus says.
    """

    items: int = 0
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    files: int = 0
    unreadable_files: int = 0
    unknown_traits: Counter[str] = field(default_factory=Counter[str])
    made_from: Counter[str] = field(default_factory=Counter[str])
    cut_short: int = 0

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "LedgerSummary":
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return LedgerSummary(
            items=_count(values["items"]),
            rows=_count(values["rows"]),
            skipped=_counts(values["skipped"]),
            left_out=_counts(values["left_out"]),
            files=_count(values["files"]),
            unreadable_files=_count(values["unreadable_files"]),
            unknown_traits=_counts(values["unknown_traits"]),
            made_from=_counts(values.get("made_from", {})),
            cut_short=_count(values.get("cut_short", 0)),
        )

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        return {
            "items": self.items,
            "rows": self.rows,
            "skipped": dict(self.skipped),
            "left_out": dict(self.left_out),
            "files": self.files,
            "unreadable_files": self.unreadable_files,
            "unknown_traits": dict(self.unknown_traits),
            **({"made_from": dict(self.made_from)} if self.made_from else {}),
            **({"cut_short": self.cut_short} if self.cut_short else {}),
        }

    def __add__(self, other: "LedgerSummary") -> "LedgerSummary":
        return LedgerSummary(
            items=self.items + other.items,
            rows=self.rows + other.rows,
            skipped=_sorted(self.skipped + other.skipped),
            left_out=_sorted(self.left_out + other.left_out),
            files=self.files + other.files,
            unreadable_files=self.unreadable_files + other.unreadable_files,
            unknown_traits=_sorted(self.unknown_traits + other.unknown_traits),
            made_from=_sorted(self.made_from + other.made_from),
            cut_short=self.cut_short + other.cut_short,
        )

    def describe(self) -> str:
        """The counts as a table, one line a reason."""
        lines = [("items", self.items), ("rows", self.rows)]
        lines += [(f"skipped: {reason}", count) for reason, count in self.skipped.items()]
        lines += [(f"left out: {rule}", count) for rule, count in self.left_out.items()]
        if self.unreadable_files:
            lines.append((f"unreadable metadata files, of {self.files}", self.unreadable_files))
        lines += [(f"null, as unknown: {words}", count) for words, count in self.unknown_traits.items()]
        lines += [(f"decoded by ffmpeg, stored as FLAC: {kind}", n) for kind, n in self.made_from.items()]
        if self.cut_short:
            lines.append(("cut to the duration that is told of them", self.cut_short))
        return "\n".join(f"  {name:<40} {count:>12,}" for name, count in lines)

    def faulty_share(self) -> float:
        """The share of items that are faulty, or of metadata files where that is larger."""
        return max(self.skipped.total() / max(self.items, 1), self.unreadable_files / max(self.files, 1))

    def check(self, max_skipped: float) -> None:
        """Refuse a build that lost too much.

        Raises:
            ShortfallError: no row at all, or faults above `max_skipped` of the items (or of the files).
        """
        if self.faulty_share() > max_skipped:
            raise ShortfallError(
                f"{self.skipped.total():,} of {self.items:,} items and {self.unreadable_files:,} of "
                f"{self.files:,} metadata files are faulty; expected at most {max_skipped:.1%}\n"
                f"{self.describe()}\nThe faults are listed in skipped.jsonl. Raise --max-skipped (what was "
                "built is kept), or mend the corpus and --overwrite."
            )
        if not self.rows:
            raise ShortfallError(f"no row was built; skipped.jsonl says why of each fault\n{self.describe()}")


def _sorted(counts: Mapping[str, int]) -> Counter[str]:
    return Counter(dict(sorted(counts.items())))


def _counts(values: Mapping[str, Any]) -> Counter[str]:
    return _sorted({name: _count(value) for name, value in values.items()})


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r:.80} as a count")
    return value
