"""What keeps the Hub's viewer from showing a dataset, and what to change."""

from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that the viewer can not show: the rule, the place, what was found, what to change."""

    rule: str
    where: str
    problem: str
    change: str

    def __str__(self) -> str:
        return f"  {self.rule}: {self.where}: {self.problem}. {self.change}"


@dataclass
class ViewerReport:
    """The findings of a check; `notes` are printed and fail nothing."""

    address: str
    num_configs: int = 0
    num_files: int = 0  # parquet files that some config shows
    num_bytes: int = 0
    num_bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    notes: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """True where the viewer can show all of it."""
        return not self.findings

    def fail(self, rule: str, where: str, problem: str, change: str) -> None:
        """Add a finding, once."""
        finding = Finding(rule=rule, where=where, problem=problem, change=change)
        if finding not in self.findings:
            self.findings.append(finding)

    def note(self, text: str) -> None:
        """Add a note on what the viewer shows only in part, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __str__(self) -> str:
        counts = (
            f"{self.num_configs:,} configs, {self.num_files:,} parquet files; read {self.num_bytes_read:,} "
            f"of {self.num_bytes:,} bytes"
        )
        verdict = "the viewer can show it" if self.ok else "the viewer can not show all of it"
        head = f"{self.address}: {verdict} ({counts})"
        return "\n".join([head, *map(str, self.findings), *(f"  note: {note}" for note in self.notes)])
