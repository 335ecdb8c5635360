"""Conversations written in another tool's format, part by part, in one process or several.

The parts follow from the folder's index alone, so what is written depends neither on the number of processes
nor on how often an export was stopped and started again.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechrows.conversations.records import Record
from speechrows.errors import FullDiskError
from speechrows.errors import ShortfallError
from speechrows.errors import printable
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.interop.options import ExportOptions
from speechrows.interop.out_folder import OutFolder
from speechrows.interop.parts import Part
from speechrows.interop.parts import chosen_config
from speechrows.interop.parts import plan_parts
from speechrows.interop.parts import read_part
from speechrows.interop.summary import Tally
from speechrows.interop.summary import to_lines
from speechrows.rows.schema import FEATURES
from speechrows.storage.disk import NO_ROOM
from speechrows.workers.local import LocalEngine
from speechrows.workers.work import Progress
from speechrows.workers.work import Work

_VERSION = 1  # of what is written: an export that another version began does not go on


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """How a format is written.

    `write` takes a part, its rows and a folder, and writes the part's files there, by the paths that they
    have in the export; it is pickled for other processes. `finish` takes the export's folder and its parts,
    and makes of them what is no part's. A part is of at most `max_bytes` of clips and `max_rows` rows.
    """

    name: str
    write: Callable[[Part, Iterator[Record], Path], Tally]
    finish: Callable[[Path, Sequence[Part]], object] = lambda _out, _parts: None
    columns: Sequence[str] = tuple(FEATURES)
    max_bytes: int = 256 << 20
    max_rows: int = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What a process needs to write parts."""

    folder: RowsFolder
    out_folder: OutFolder
    columns: Sequence[str]
    write: Callable[[Part, Iterator[Record], Path], Tally]

    def open(self, _: Progress) -> Callable[[Part], int]:
        """What writes a part, in any process."""
        return self.run

    def run(self, part: Part) -> int:
        """Write a part; return its rows."""
        try:
            with self.out_folder.place_of(part) as place:
                tally = self.write(part, read_part(self.folder, part, self.columns), place)
            self.out_folder.commit(part, tally)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise FullDiskError(
                f"{self.out_folder.out}: no room is left on the disk. Make some, and run the same command "
                "again: parts that were written are kept"
            ) from error
        return part.num_rows


def export(folder: str, out: Path, options: ExportOptions, fmt: Format) -> list[str]:
    """Write all splits of a config; lines that say what was written, and what was not.

    Raises:
        UsageError: there is no such config, or the folder `out` has other files.
        ShortfallError: the folder is damaged, or none of its conversations can be written.
    """
    rows = RowsFolder.open(folder)
    config = chosen_config(rows, options.config)
    parts, digests = list[Part](), dict[str, str]()
    for split in rows.configs()[config]:
        index = Index.open(rows, config, split)
        parts += plan_parts(index, max_bytes=fmt.max_bytes, max_rows=fmt.max_rows)
        digests[split] = index.digest
    chosen = {name: value for name, value in asdict(options).items() if name not in ("config", "num_proc")}
    recipe = {"format": fmt.name, "version": _VERSION, "config": config, "flags": chosen, "rows": digests}
    out_folder = OutFolder(out=out, recipe=recipe)
    summary = out_folder.finished()
    if summary is not None:
        splits = {split: Tally.from_json(counts) for split, counts in summary["splits"].items()}
        return [f"{out}: there already, as this command writes it", *_told(out, splits)]
    with out_folder.opened():
        job = _Job(folder=rows, out_folder=out_folder, columns=fmt.columns, write=fmt.write)
        _write(job, parts, options.num_proc)
        fmt.finish(out, parts)
        tallies = {part.name: out_folder.tally_of(part) or Tally() for part in parts}
        splits = {
            split: Tally.total(tallies[part.name] for part in parts if part.split == split)
            for split in digests
        }
        out_folder.finish(_summary(out_folder, splits))
    return [*_told(out, splits), f"summary: {out_folder.summary_file}"]


def _told(out: Path, splits: dict[str, Tally]) -> list[str]:
    """The summary's lines; an error, where all that there was is left out."""
    total = Tally.total(splits.values())
    if total.changes and not total.conversations:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in sorted(total.changes.items()))
        raise ShortfallError(
            f"{out}: found no conversation that this format can hold, expected at least one ({reasons}). "
            "Give another --config, or build rows of whole conversations: speechrows build BUILDER ttt"
        )
    return to_lines(str(out), splits)


def _summary(out_folder: OutFolder, splits: dict[str, Tally]) -> dict[str, Any]:
    inside = [path for path in out_folder.state.rglob("*") if path.is_file()]
    files, num_bytes = out_folder.size()
    return {
        "format": out_folder.recipe["format"],
        "config": out_folder.recipe["config"],
        "flags": out_folder.recipe["flags"],
        "splits": {split: tally.to_json() for split, tally in splits.items()},
        "files": files - len(inside),
        "bytes": num_bytes - sum(path.stat().st_size for path in inside),
        "recipe": out_folder.digest,
    }


def _write(job: _Job, parts: Sequence[Part], num_proc: int) -> None:
    """Write the parts that are not there, in this process or in several."""
    rest = [part for part in parts if job.out_folder.tally_of(part) is None]
    num_rows = sum(part.num_rows for part in parts)
    num_written = num_rows - sum(part.num_rows for part in rest)
    name = str(job.out_folder.out)
    with tqdm(total=num_rows, initial=num_written, desc=printable(name), unit="row", disable=None) as bar:
        for written in LocalEngine(num_proc=num_proc).run(_work(job), rest, ordered=False):
            bar.update(written)


def _work(job: _Job) -> Work[Part, int]:
    return Work(
        open=job.open,
        died=f"{job.out_folder.out}: a process that wrote it died, killed or out of memory. Run the same "
        "command again, with fewer processes: parts that were written are kept",
    )
