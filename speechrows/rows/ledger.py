"""The ledger: every item is a row, skipped by a fault, or left out by a rule. Nothing is lost."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from speechrows.errors import ShortfallError
from speechrows.errors import SpeechRowsError
from speechrows.types import LeftOut
from speechrows.types import Skipped
from speechrows.types import Traits
from speechrows.types import UnreadableFile

MAX_SKIPPED = 0.05  # of the items, faulty: a build that finds more fails, unless it is told otherwise

_MAX_UNKNOWN = 256  # words that are told apart: a corpus of free text would fill the memory


@dataclass
class Ledger:
    """Counts of what became of the items of a build, or of a shard of it.

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

    def count_unknown(self, traits: Iterable[Traits]) -> None:
        """Count what rows' traits were called, in words that no table of traits.py has."""
        for one in traits:
            for words in one.unknown:
                is_new = words not in self.unknown and len(self.unknown) >= _MAX_UNKNOWN
                self.unknown["others" if is_new else words] += 1

    def leave_out(self, left_out: Iterable[LeftOut]) -> None:
        """Count items that a rule leaves out."""
        self.left_out.update(one.rule.value for one in left_out)

    def check(self) -> None:
        """Raise if an item was lost or doubled: an error of ours, never of the data."""
        found = self.rows + len(self.skipped) + self.left_out.total()
        if found != self.items:
            raise SpeechRowsError(
                f"the ledger does not add up: {self.items} items, but {self.rows} rows + "
                f"{len(self.skipped)} skipped + {self.left_out.total()} left out = {found}"
            )

    def lines(self, task: str) -> list[dict[str, str | None]]:
        """The lines of skipped.jsonl: unreadable files first, then items in order."""
        lines: list[dict[str, str | None]] = []
        for file in self.unreadable:
            reason = "remark" if file.is_remark else "unreadable_metadata"
            facts = {"reason": reason, "detail": file.detail, "file": file.file}
            lines.append({"task": task, "clip_id": None, **facts})
        for one in self.skipped:
            facts = {"reason": one.reason.value, "detail": one.detail, "file": one.file}
            lines.append({"task": task, "clip_id": one.clip_id, **facts})
        return lines

    def summary(self) -> dict[str, Any]:
        """Counts by reason, as they stand in the index and the card."""
        skipped = Counter(one.reason.value for one in self.skipped)
        return {
            "items": self.items,
            "rows": self.rows,
            "skipped": dict(sorted(skipped.items())),
            "left_out": dict(sorted(self.left_out.items())),
            "files": self.files,
            "unreadable_files": sum(not file.is_remark for file in self.unreadable),
            "unknown_traits": dict(sorted(self.unknown.items())),
        }


def describe(summary: dict[str, Any]) -> str:
    """A ledger's summary as a table, one line a reason."""
    lines = [("items", summary["items"]), ("rows", summary["rows"])]
    lines += [(f"skipped: {reason}", count) for reason, count in summary["skipped"].items()]
    lines += [(f"left out: {rule}", count) for rule, count in summary["left_out"].items()]
    if summary["unreadable_files"]:
        lines.append((f"unreadable metadata files, of {summary['files']}", summary["unreadable_files"]))
    lines += [
        (f"null, as unknown: {words}", count) for words, count in summary.get("unknown_traits", {}).items()
    ]
    return "\n".join(f"  {name:<40} {count:>12,}" for name, count in lines)


def faulty_share(summary: Mapping[str, Any]) -> float:
    """The faulty items of all, or metadata files where more of those are."""
    skipped, items = sum(summary["skipped"].values()), summary["items"]
    return max(skipped / max(items, 1), summary["unreadable_files"] / max(summary["files"], 1))


def check_faults(summary: dict[str, Any], max_skipped: float) -> None:
    """Refuse a build that lost too much.

    Raises:
        ShortfallError: no row at all, or faults above `max_skipped` of the items (or of the files).
    """
    skipped, items = sum(summary["skipped"].values()), summary["items"]
    unreadable, files = summary["unreadable_files"], summary["files"]
    table = describe(summary)
    if faulty_share(summary) > max_skipped:
        raise ShortfallError(
            f"{skipped:,} of {items:,} items and {unreadable:,} of {files:,} metadata files are "
            f"faulty; expected at most {max_skipped:.1%}\n{table}\nThe faults are listed in "
            "skipped.jsonl. Raise --max-skipped (what was built is kept), or mend the corpus and --overwrite."
        )
    if not summary["rows"]:
        raise ShortfallError(f"no row was built; skipped.jsonl says why of each fault\n{table}")
