"""Checks of what rows promise together: conversations, index, ledger, card."""

import hashlib
import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from speechrows.errors import describe_error
from speechrows.folder.index_file import INDEX_COLUMNS
from speechrows.folder.index_file import WITHOUT_SOUND
from speechrows.folder.layout import CARD
from speechrows.folder.layout import SKIPPED
from speechrows.folder.layout import is_pattern_of_shards
from speechrows.folder.layout import shard_folder
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder
from speechrows.rows import schema
from speechrows.rows.curriculum import band_of
from speechrows.rows.curriculum import bands_of
from speechrows.rows.curriculum import configs_of
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import LedgerSummary
from speechrows.rows.tasks import TASKS
from speechrows.storage.card_head import parse_head
from speechrows.storage.parquet_file import footer_digest
from speechrows.storage.parquet_file import has_checksums
from speechrows.storage.parquet_file import is_checksum_error
from speechrows.types import Task
from speechrows.validation.report import ValidationReport


@dataclass
class NameHashes:
    """Names that must not come twice, at eight bytes a name."""

    hashes: "array[int]" = field(default_factory=lambda: array("q"))

    @staticmethod
    def of(name: str) -> int:
        """The hash of a name, the same in every process."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)

    def __len__(self) -> int:
        return len(self.hashes)

    def add(self, name: str) -> None:
        """Note a name."""
        self.hashes.append(self.of(name))

    def extend(self, others: "NameHashes") -> None:
        """Note all names of others."""
        self.hashes.extend(others.hashes)

    def repeated(self) -> set[int]:
        """Hashes of the names that came more than once."""
        values, counts = np.unique(np.array(self.hashes), return_counts=True)
        return set(values[counts > 1].tolist())


@dataclass
class ConversationChecks:
    """Checks the conversations of a task and split as its rows are followed, in file order."""

    task: Task
    report: ValidationReport
    seen: NameHashes = field(default_factory=NameHashes)
    _id: str | None = None
    _rows: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    _path: str = ""

    def follow(self, row: Mapping[str, Any], path: str) -> None:
        """Take the next row; `path` is its shard's."""
        if row["conversation_id"] != self._id or path != self._path:
            self.end()
            self._id, self._path = row["conversation_id"], path
            self.seen.add(row["conversation_id"])
        facts = ("row_id", "turn_number", "num_turns", "conversation_tokens", "system")
        self._rows.append({name: row[name] for name in facts} | {"padded": len(row["input_ids"])})

    def end(self) -> None:
        """Check the conversation that has ended."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        self.report.checked["conversations"] += 1
        numbers = [row["turn_number"] for row in rows]
        whole = list(range(rows[0]["num_turns"]))
        if len({row["num_turns"] for row in rows}) > 1:
            self._fail(rows, "its rows tell different num_turns")
        if len({row["system"] for row in rows}) > 1:
            self._fail(rows, "its rows tell different system prompts")
        if self.task.whole and numbers != whole:
            self._fail(rows, f"found turns {numbers}, expected {whole}")
        if numbers != sorted(set(numbers)) or numbers[0] < 0:
            self._fail(rows, f"found turns {numbers}, expected each once, in order, from 0")
        total = sum(row["padded"] for row in rows)
        if {row["conversation_tokens"] for row in rows} != {total}:
            self._fail(rows, f"padded lengths sum to {total}, conversation_tokens says otherwise")
        if self.task.banded and f"/band_{band_of(total)}/" not in self._path:
            self._fail(rows, f"{total} tokens belong to band {band_of(total)}, not into {self._path}")

    def _fail(self, rows: Sequence[Mapping[str, Any]], detail: str) -> None:
        self.report.fail("conversations", rows[0]["row_id"], detail)


def check_shard(folder: RowsFolder, shard: ShardEntry, report: ValidationReport) -> None:
    """A shard is the file that the index was made of."""
    with folder.open_file(shard.path) as file:
        size, digest = file.seek(0, 2), footer_digest(file)
    if (size, digest) != (shard.size, shard.footer_sha256):
        report.fail("index", shard.path, f"is not the file that the index was made of ({size} bytes)")


def count_checksums(file: BinaryIO, metadata: pq.FileMetaData, report: ValidationReport) -> None:
    """Tell of a shard whose pages carry no checksums: a byte that rots inside a clip of it is not found."""
    if not has_checksums(file, metadata):
        report.checked["shards without checksums"] += 1


def read_batches(
    folder: RowsFolder,
    path: str,
    parquet: pq.ParquetFile,
    group: int,
    num_rows: int,
    report: ValidationReport,
) -> Iterator[pa.RecordBatch]:
    """Read a row group, `num_rows` at once; `parquet` verifies checksums, and what rotted is reported.

    Raises:
        OSError, ArrowException: it can not be read at all.
    """
    options: dict[str, Any] = {"batch_size": num_rows, "row_groups": [group], "use_threads": False}
    num_read = 0
    try:
        for batch in parquet.iter_batches(**options):
            yield batch
            num_read += 1
    except OSError as error:
        if not is_checksum_error(error):
            raise
        rotten = [name for name in parquet.schema_arrow.names if not _is_sound(parquet, group, name)]
        detail = f"row group {group}, column {', '.join(rotten)}: its bytes are not those that were written"
        report.fail("checksums", path, f"{detail}. Build or download the file again")
        with folder.open_parquet(path, parquet.metadata) as unverified:
            yield from itertools.islice(unverified.iter_batches(**options), num_read, None)


def _is_sound(parquet: pq.ParquetFile, group: int, column: str) -> bool:
    try:
        parquet.read_row_group(group, columns=[column], use_threads=False)
    except OSError:
        return False
    return True


def check_places(
    file: BinaryIO, path: str, rows: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]],
    group: int, report: ValidationReport,
) -> None:  # fmt: skip
    """The index's lines name rows of a row group, and their offsets lead to the clips' bytes in the file."""
    if [row["row_id"] for row in rows] != [line["row_id"] for line in lines]:
        report.fail("index", path, "its lines are not the rows of the shard, in order")
        return
    for row, line in zip(rows, lines, strict=True):
        if row["input_ids"] is None:
            continue  # "required fields" reports that
        data = b"" if row["audio"] is None else row["audio"]["bytes"]
        file.seek(line["audio_offset"])
        if file.read(line["audio_length"]) != data:
            report.fail("index", row["row_id"], f"its clip is not at {line['audio_offset']} of {path}")
        says = row if row["audio"] else {**row, **WITHOUT_SOUND}
        wrong = [name for name in INDEX_COLUMNS if line[name] != says[name]]
        wrong += [name for name, value in (("shard", path), ("row_group", group)) if line[name] != value]
        if wrong or line["padded_tokens"] != len(row["input_ids"]):
            report.fail("index", row["row_id"], f"{', '.join(wrong or ['padded_tokens'])} differ")


def check_ledger(
    folder: RowsFolder, ledgers: Mapping[str, LedgerSummary], rows: Counter[str], report: ValidationReport
) -> None:
    """Items are rows, skipped or left out; skipped.jsonl lists what the ledger counts."""
    listed: Counter[str] = Counter()
    try:
        with folder.open_file(SKIPPED) as file:
            for line in file:
                fault = json.loads(line)
                listed[fault["task"]] += fault["clip_id"] is not None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        report.fail("ledger", SKIPPED, f"found {error!r}; expected a line a fault")
    for task, ledger in ledgers.items():
        skipped = ledger.skipped.total()
        if ledger.items != ledger.rows + skipped + ledger.left_out.total():
            report.fail("ledger", task, f"{ledger.items} items, but {ledger.to_json()}")
        if ledger.rows != rows[task]:
            report.fail("ledger", task, f"counts {ledger.rows} rows, the files hold {rows[task]}")
        if listed[task] != skipped:
            report.fail("ledger", task, f"counts {skipped} skipped, {SKIPPED} lists {listed[task]}")


def check_card(folder: RowsFolder, shard_rows: Mapping[str, int], report: ValidationReport) -> None:
    """The card's configs hold the shards of their bands, each once, and sum them right."""
    try:
        with folder.open_file(CARD) as file:
            data = parse_head(file.read().decode("utf-8"))
        _check_card(folder, data, shard_rows, report)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        report.fail("card", CARD, f"found {describe_error(error):.200}; expected the card that a build wrote")


def _check_card(
    folder: RowsFolder, data: Mapping[str, Any], shard_rows: Mapping[str, int], report: ValidationReport
) -> None:
    infos = data.get("dataset_info") or []
    by_name = {info["config_name"]: info for info in (infos if isinstance(infos, list) else [infos])}
    configs = {config["config_name"]: config["data_files"] for config in data.get("configs") or []}
    if not configs:
        report.fail("card", CARD, "lists no config; expected those of the tasks in the folder")
    tasks = {task_of(path.split("/")[1]) for path in shard_rows}
    for name in (name for task in tasks for name in configs_of(task) if name not in configs):
        folders = {f"/band_{band}/" for band in bands_of(name)}
        if any(folder_ in path for path in shard_rows for folder_ in folders):
            report.fail("card", name, "is not listed, and there are rows of it")
    for name, data_files in configs.items():
        if name not in by_name:
            report.fail("card", name, "has no dataset_info")
            continue
        features = Features._from_yaml_list(by_name[name]["features"])  # pyright: ignore[reportPrivateUsage]
        later = schema.LATER_COLUMNS.difference(features)
        if features != {key: value for key, value in schema.FEATURES.items() if key not in later}:
            report.fail("card", name, "its features are not those of the rows")
        counts = {split["name"]: split["num_examples"] for split in by_name[name]["splits"]}
        for split in data_files:
            _check_files(folder, name, split, counts.get(split["split"]), shard_rows, report)


def _check_files(
    folder: RowsFolder, config: str, split: Mapping[str, Any], num_examples: int | None,
    shard_rows: Mapping[str, int], report: ValidationReport,
) -> None:  # fmt: skip
    """The files that a config lists for a split are the shards of its bands or tasks, no more, no less."""
    strange = [pattern for pattern in split["path"] if not is_pattern_of_shards(pattern)]
    if strange:
        report.fail("card", config, f"lists {strange[0]!r:.200}; expected data/<task>/<split>/…")
        return
    listed = [path for pattern in split["path"] for path in folder.glob(pattern)]
    if config in {name for task in TASKS.values() for name in configs_of(task)}:
        tasks = [task_of(config)]
    else:  # a builder's union: its paths name the tasks
        tasks = [task_of(name) for name in {path.split("/")[1] for path in split["path"]}]
    folders = {
        shard_folder(task.name, split["split"], band)
        for task in tasks
        for band in (bands_of(config) if task.banded else [None])
    }
    expected = sorted(path for path in shard_rows if path.rpartition("/")[0] in folders)
    if sorted(listed) != expected:
        wrong = sorted({*listed} ^ {*expected}) or sorted(path for path in listed if listed.count(path) > 1)
        detail = f"{split['split']}: lists too much, too little or twice: {', '.join(wrong[:3])}"
        report.fail("card", config, detail)
    rows = sum(shard_rows.get(path, 0) for path in listed)
    if rows != num_examples:
        report.fail("card", config, f"{split['split']}: {num_examples} rows told, its files hold {rows}")
