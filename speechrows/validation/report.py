"""The report of a validation: failures by check, with row ids."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError

KEPT = 20  # failures that are listed of each check; the rest is counted


@dataclass
class ValidationReport:
    """Failures by check. `checked` counts what was looked at."""

    address: str
    checked: Counter[str] = field(default_factory=Counter[str])
    failures: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    counts: Counter[str] = field(default_factory=Counter[str])
    allowed: frozenset[str] = frozenset()

    def fail(self, check: str, where: str, detail: str) -> None:
        """Note a failure of a check at a row id or a file."""
        self.counts[check] += 1
        kept = self.failures.setdefault(check, [])
        if len(kept) < KEPT:
            kept.append((where, detail))

    @contextmanager
    def telling(self, check: str, where: str) -> Generator[None]:
        """Note what ends a check early; the checks after it go on."""
        try:
            yield
        except (ShortfallError, UsageError) as error:
            self.fail(check, where, str(error))

    def add(self, part: "ValidationReport") -> None:
        """Take in what a part of the same folder failed, after what is here."""
        self.checked += part.checked
        self.counts += part.counts
        for check, failures in part.failures.items():
            kept = self.failures.setdefault(check, [])
            kept += failures[: KEPT - len(kept)]

    @property
    def ok(self) -> bool:
        """Whether every check holds, but for those that the caller allows to fail."""
        return not set(self.counts) - self.allowed

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "address": self.address,
            "ok": self.ok,
            "checked": dict(self.checked),
            "failures": [
                {
                    "check": check,
                    "count": count,
                    "allowed": check in self.allowed,
                    "examples": [{"where": w, "detail": d} for w, d in self.failures[check]],
                }
                for check, count in sorted(self.counts.items())
            ],
        }

    def __str__(self) -> str:
        looked_at = ", ".join(f"{count:,} {what}" for what, count in self.checked.items())
        if not self.counts:
            return f"{self.address}: every promise holds ({looked_at})"
        lines = [f"{self.address}: {looked_at}"]
        for check, count in sorted(self.counts.items()):
            note = " (allowed)" if check in self.allowed else ""
            lines.append(f"  {check}: {count:,}{note}")
            lines += [f"    {where}: {detail}" for where, detail in self.failures[check]]
            if count > KEPT:
                lines.append(f"    … and {count - KEPT:,} more")
        return "\n".join(lines)
