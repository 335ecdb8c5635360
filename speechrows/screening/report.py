"""What a screening found: how many rows are bad by which measure, and the worst of them first."""

import heapq
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechrows.folder.scores import describe
from speechrows.screening.measures import LIMITS
from speechrows.screening.measures import badness_of

BAD = 0.5  # a row is called bad from here on: half way from where it begins to the end

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenReport:
    """Sums of a screening; as a string, lines for a person. `worst` are rows of scores, the worst first."""

    address: str
    files: tuple[Path, ...]
    num_rows: int
    num_kept: int  # rows whose scores were there
    bad: Counter[str]  # rows that are bad, by what is worst of them
    worst: tuple[Row, ...]

    @staticmethod
    def of(
        address: str, files: Sequence[Path], num_rows: int, num_kept: int, num_worst: int
    ) -> "ScreenReport":
        """Read the scores in `files`, a row group at a time; `num_worst` rows are kept."""
        bad, worst = Counter[str](), list[Row]()
        for table in _tables(files):
            badness = table["badness"].to_numpy()
            bad.update(map(str, table.filter(pa.array(badness >= BAD))["worst"]))
            faulty = table.filter(pa.array(badness > 0))
            order = pc.sort_indices(faulty, [("badness", "descending"), ("row_id", "ascending")])
            rows: list[Row] = faulty.take(order[:num_worst]).to_pylist()
            worst = heapq.nsmallest(num_worst, [*worst, *rows], key=_worst_first)
        return ScreenReport(
            address=address,
            files=tuple(files),
            num_rows=num_rows,
            num_kept=num_kept,
            bad=bad,
            worst=tuple(worst),
        )

    def __str__(self) -> str:
        kept = f" ({self.num_kept:,} were screened before)" if self.num_kept else ""
        lines = [f"{self.address}: {self.num_rows:,} rows screened{kept}, {self.bad.total():,} of them bad"]
        lines += [f"  {name:<18}{number:>12,}" for name, number in self.bad.most_common()]
        lines += [f"the worst {len(self.worst)}, from 1 (bad) down to 0:"] if self.worst else []
        lines += [line for row in self.worst for line in _lines(row)]
        lines.append(f"scores: {', '.join(map(str, self.files))}")
        if self.worst:
            lines.append(f"listen to the worst: speechrows preview {self.address}")
        return "\n".join(lines)


def _lines(row: Row) -> Iterator[str]:
    yield f"  {row['badness']:.2f}  {row['row_id']}"
    others = [
        name for name, ends in LIMITS.items() if name != row["worst"] and badness_of(row[name], ends) >= BAD
    ]
    yield f"        {'; '.join([describe(row), *(describe(row, name) for name in others)])}"
    if row["heard"] is not None and row["worst"] == "wer":
        yield f"        heard: {row['heard']}"


def _worst_first(row: Row) -> tuple[float, str]:
    return -row["badness"], row["row_id"]


def _tables(paths: Sequence[Path]) -> Iterator[pa.Table]:
    for path in paths:
        with pq.ParquetFile(path) as parquet:
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group, use_threads=False)
