"""The commit of a shard: what its build tells everything that is merged from it afterwards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speechrows.folder.manifest import BuiltShard
from speechrows.rows.ledger import LedgerSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """The files of a shard, its ledger, and its `lines` of skipped.jsonl."""

    files: tuple[BuiltShard, ...]
    ledger: LedgerSummary
    lines: tuple[Mapping[str, str | None], ...]

    @staticmethod
    def read(path: Path) -> "Commit":
        """The commit in a file that `to_json` was written to."""
        commit = json.loads(path.read_text("utf-8"))
        return Commit(
            files=tuple(BuiltShard(**file) for file in commit["files"]),
            ledger=LedgerSummary.from_json(commit["ledger"]),
            lines=tuple(commit["lines"]),
        )

    def to_json(self) -> str:
        """The commit as text."""
        files = [
            {
                "path": file.path,
                "split": file.split,
                "band": file.band,
                "rows": file.rows,
                "num_bytes": file.num_bytes,
                "size": file.size,
                "footer_sha256": file.footer_sha256,
                "index": file.index,
            }
            for file in self.files
        ]
        return json.dumps({"files": files, "ledger": self.ledger.to_json(), "lines": self.lines})
