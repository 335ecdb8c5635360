"""What an export wrote, and what it did not: counted part by part, told on stdout and beside the folder."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from typing import Any


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of a part, or of parts together.

    `seconds` are those of the users' clips, and of answers' where their length is known. `changes` counts by
    reason what was cut, left out or replaced.
    """

    conversations: int = 0
    turns: int = 0
    seconds: float = 0.0
    changes: Counter[str] = field(default_factory=Counter[str])

    def count(self, turns: int, seconds: float) -> None:
        """Count a conversation that was written."""
        self.conversations += 1
        self.turns += turns
        self.seconds += seconds

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        return {
            "conversations": self.conversations,
            "turns": self.turns,
            "seconds": self.seconds,
            "changes": dict(sorted(self.changes.items())),
        }

    @staticmethod
    def from_json(counts: dict[str, Any]) -> "Tally":
        """The counts that `to_json` gave."""
        return Tally(
            conversations=counts["conversations"],
            turns=counts["turns"],
            seconds=counts["seconds"],
            changes=Counter(counts["changes"]),
        )

    @staticmethod
    def total(tallies: Iterable["Tally"]) -> "Tally":
        """Counts together, in their order: seconds are sums of floats."""
        total = Tally()
        for tally in tallies:
            total.conversations += tally.conversations
            total.turns += tally.turns
            total.seconds += tally.seconds
            total.changes += tally.changes
        return total


def duration(seconds: float) -> str:
    """Seconds as a person says them: below a minute as such, below an hour in minutes."""
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:,.2f} hours"


def to_lines(name: str, splits: dict[str, Tally]) -> list[str]:
    """The counts of an export's splits for a terminal, a line a split, and a line for each reason."""
    lines = [
        f"{name}: {split}: {tally.conversations:,} conversations, {tally.turns:,} turns, "
        f"{duration(tally.seconds)}"
        for split, tally in splits.items()
    ]
    changes = Tally.total(splits.values()).changes
    return lines + [f"  {reason}: {count:,}" for reason, count in sorted(changes.items())]
