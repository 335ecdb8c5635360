"""The promises that rows make together: conversations, index, ledger, card."""

import hashlib
import json
import struct
from array import array
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np
from datasets import Features
from huggingface_hub import DatasetCard

from speechrows import schema
from speechrows.budget import band_of
from speechrows.layout import CARD
from speechrows.layout import SKIPPED
from speechrows.layout import RowsFolder
from speechrows.types import Task
from speechrows.validate.report import Report


@dataclass
class Seen:
    """Names that must not come twice, at eight bytes a name."""

    hashes: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, name: str) -> None:
        """Note a name."""
        self.hashes.append(hash(name))

    def repeated(self) -> set[int]:
        """Hashes of the names that came more than once."""
        values, counts = np.unique(np.array(self.hashes), return_counts=True)
        return set(values[counts > 1].tolist())


@dataclass
class Conversations:
    """Follows the rows of a task and split in file order, conversation by conversation."""

    task: Task
    report: Report
    seen: Seen = field(default_factory=Seen)
    _id: str | None = None
    _rows: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    _path: str = ""

    def follow(self, row: Mapping[str, Any], path: str) -> None:
        """Take the next row; `path` is its shard's."""
        if row["conversation_id"] != self._id or path != self._path:
            self.end()
            self._id, self._path = row["conversation_id"], path
            self.seen.add(row["conversation_id"])
        facts = ("row_id", "turn_number", "num_turns", "conversation_tokens")
        self._rows.append({name: row[name] for name in facts} | {"padded": len(row["input_ids"])})

    def end(self) -> None:
        """Check the conversation that has ended."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        self.report.checked["conversations"] += 1
        numbers = [row["turn_number"] for row in rows]
        whole = list(range(rows[0]["num_turns"]))
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


def check_shard(folder: RowsFolder, path: str, facts: Mapping[str, Any], report: Report) -> None:
    """A shard is the one that its index line is bound to."""
    with folder.open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(-8, 2)
        (length,) = struct.unpack("<I", file.read(4))
        file.seek(-8 - length, 2)
        digest = hashlib.sha256(file.read(length)).hexdigest()
    if (size, digest) != (facts["size"], facts["footer_sha256"]):
        report.fail("index", path, f"is not the file that the index was made of ({size} bytes)")


def check_places(
    folder: RowsFolder, path: str, rows: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]],
    report: Report,
) -> None:  # fmt: skip
    """The index's lines name the rows of a row group, and lead to their clips' bytes."""
    if [row["row_id"] for row in rows] != [line["row_id"] for line in lines]:
        report.fail("index", path, "its lines are not the rows of the shard, in order")
        return
    with folder.open_file(path) as file:
        for row, line in zip(rows, lines, strict=True):
            file.seek(line["audio_offset"])
            if file.read(line["audio_length"]) != row["audio"]["bytes"]:
                report.fail("index", row["row_id"], f"its clip is not at {line['audio_offset']} of {path}")
            told = ("turn_number", "num_turns", "num_tokens", "conversation_tokens", "num_samples")
            wrong = [name for name in told if line[name] != row[name]]
            if wrong or line["padded_tokens"] != len(row["input_ids"]):
                report.fail("index", row["row_id"], f"{', '.join(wrong or ['padded_tokens'])} differ")


def check_ledger(folder: RowsFolder, ledgers: Mapping[str, Any], rows: Counter[str], report: Report) -> None:
    """Items are rows, skipped or left out; skipped.jsonl lists what the ledger counts."""
    listed: Counter[str] = Counter()
    with folder.open_file(SKIPPED) as file:
        for line in file:
            fault = json.loads(line)
            listed[fault["task"]] += fault["clip_id"] is not None
    for task, ledger in ledgers.items():
        skipped, left_out = sum(ledger["skipped"].values()), sum(ledger["left_out"].values())
        if ledger["items"] != ledger["rows"] + skipped + left_out:
            report.fail("ledger", task, f"{ledger['items']} items, but {ledger}")
        if ledger["rows"] != rows[task]:
            report.fail("ledger", task, f"counts {ledger['rows']} rows, the files hold {rows[task]}")
        if listed[task] != skipped:
            report.fail("ledger", task, f"counts {skipped} skipped, {SKIPPED} lists {listed[task]}")


def check_card(folder: RowsFolder, shard_rows: Mapping[str, int], report: Report) -> None:
    """Every pattern of the card matches, none overlap, and its sums are those of the files."""
    with folder.open_file(CARD) as file:
        data = DatasetCard(file.read().decode("utf-8")).data.to_dict()
    infos = data.get("dataset_info") or []
    by_name = {info["config_name"]: info for info in (infos if isinstance(infos, list) else [infos])}
    for config in data.get("configs") or []:
        info = by_name.get(config["config_name"])
        if info is None:
            report.fail("card", config["config_name"], "has no dataset_info")
            continue
        if Features._from_yaml_list(info["features"]) != schema.FEATURES:  # pyright: ignore[reportPrivateUsage]
            report.fail("card", config["config_name"], "its features are not those of the rows")
        told = {split["name"]: split["num_examples"] for split in info["splits"]}
        for split in config["data_files"]:
            found: list[str] = []
            for pattern in split["path"]:
                matched = folder.glob(pattern)
                if not matched:
                    report.fail("card", config["config_name"], f"{pattern} matches no file")
                found += matched
            rows = sum(shard_rows.get(path, 0) for path in found)
            if rows != told.get(split["split"]) or len(found) != len(set(found)):
                detail = f"{split['split']}: {told.get(split['split'])} rows told, its files hold {rows}"
                report.fail("card", config["config_name"], detail)
    if not by_name:
        report.fail("card", CARD, "lists no config")
