"""The index of texts: made once, the same for every process, found by number and by clip, and small."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import config
from toys.processes import run_python

from speechrows.corpora.folder import Corpus
from speechrows.corpora.text_index import TextIndex
from speechrows.corpora.text_index import TurnRecord
from speechrows.corpora.text_index import open_index
from speechrows.corpora.text_index import shared_parts
from speechrows.errors import UsageError
from speechrows.types import Reason

RECORD_START = re.compile(rb'\{\s*"id"\s*:')


def parse_record(record: dict[str, Any]) -> Sequence[TurnRecord]:
    """Turns as the records of these tests spell them: [clip, codes or null]."""
    return [
        TurnRecord(
            id=record["id"],
            speaker="human",
            text=f"of {clip}",
            speech=clip,
            codes=None if codes is None else np.array(codes, np.int16),
            reason=Reason.EMPTY if codes == [] else None,
            detail="none" if codes == [] else None,
        )
        for clip, codes in record["turns"]
    ]


def index_of(folder: Path, records: Sequence[tuple[str, list[Any]]], file: str = "texts.json") -> TextIndex:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps([{"id": name, "turns": turns} for name, turns in records]))
    return open_index(Corpus.open(str(folder)), [file], RECORD_START, parse_record)


def cached() -> set[Path]:
    return set((Path(config.HF_DATASETS_CACHE) / "speechrows").glob("*"))


def test_every_turn_comes_back_as_it_was_read_across_batches(tmp_path: Path) -> None:
    records = [
        (f"r{i}", [[f"{i}/{k}.wav", [i % 7, k] if k else None] for k in range(1 + i % 3)])
        for i in range(9000)
    ]
    index = index_of(tmp_path / "corpus", records)
    assert index.num_records == 9000
    assert index.num_rows == sum(len(turns) for _, turns in records) > 2 * 8192
    for number in (0, 1, 4095, 4096, 8191, 8999):
        name, turns = records[number]
        described = index.turns(number)
        assert [(turn.id, turn.speech, turn.file) for turn in described] == [
            (name, clip, "texts.json") for clip, _ in turns
        ]
        assert [None if turn.codes is None else turn.codes.tolist() for turn in described] == [
            codes for _, codes in turns
        ]
    for row in (0, 5000, index.num_rows - 1):
        assert index.rows_of(str(index.column("speech")[row])) == [row]


def test_codes_are_a_view_of_the_file_and_empty_ones_are_not_missing_ones(tmp_path: Path) -> None:
    index = index_of(tmp_path / "corpus", [("a", [["x.wav", [1, 2, 3]], ["y.wav", []], ["z.wav", None]])])
    x, y, z = index.turns(0)
    assert x.codes is not None
    assert (x.codes.tolist(), x.codes.dtype, x.codes.base is not None) == ([1, 2, 3], np.int16, True)
    assert (y.reason, y.detail, y.codes is not None and len(y.codes)) == (Reason.EMPTY, "none", 0)
    assert z.codes is None


def test_a_clip_is_found_by_the_last_parts_of_its_path(tmp_path: Path) -> None:
    paths = ["en/wav/a.wav", "zh/wav/a.wav", "b.wav", "en\\wav\\c.wav"]
    index = index_of(tmp_path / "corpus", [("r", [[path, None] for path in paths])])
    assert index.rows_of("en/wav/a.wav") == [0]
    assert index.rows_of("./data/zh/wav/a.wav") == [1]
    assert index.rows_of("elsewhere/a.wav") == [0, 1]  # as good a match
    assert index.rows_of("deep/down/b.wav") == [2]
    assert index.rows_of("wav/c.wav") == [3]
    assert index.rows_of("xa.wav") == index.rows_of("a.wa") == index.rows_of("") == []
    assert shared_parts("x/en/wav/a.wav", "y/en/wav/a.wav") == 3
    assert shared_parts("a.wav", "en/a.wav") == 1
    assert shared_parts("a.wav", "b.wav") == 0


def test_a_repeated_id_is_a_fault_of_the_later_record(tmp_path: Path) -> None:
    index = index_of(
        tmp_path / "corpus", [("a", [["1.wav", [1]]]), ("b", [["2.wav", [1]]]), ("a", [["3.wav", [1]]])]
    )
    assert [index.turns(i)[0].reason for i in range(3)] == [None, None, Reason.METADATA_DISAGREES]
    assert index.turns(2)[0].id is None


def test_it_is_made_once_and_anew_when_a_file_changes_or_the_cache_is_spoilt(tmp_path: Path) -> None:
    before = cached()
    index_of(tmp_path / "corpus", [("a", [["1.wav", [1]]])])
    (file,) = cached() - before
    stamp = file.stat().st_mtime_ns
    corpus = Corpus.open(str(tmp_path / "corpus"))
    assert open_index(corpus, ["texts.json"], RECORD_START, parse_record).turns(0)[0].speech == "1.wav"
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(file.read_bytes()[:-100])  # by a power cut
    assert open_index(corpus, ["texts.json"], RECORD_START, parse_record).turns(0)[0].speech == "1.wav"
    assert index_of(tmp_path / "corpus", [("a", [["other.wav", [1]]])]).turns(0)[0].speech == "other.wav"
    assert len(cached() - before) == 2
    assert not [path for path in cached() if path.suffix == ".tmp"]


def test_several_files_are_one_index(tmp_path: Path) -> None:
    index_of(tmp_path / "corpus", [("a", [["1.wav", [1]]])], "first.json")
    index_of(tmp_path / "corpus", [("b", [["2.wav", [1]]])], "second.json")
    index = open_index(
        Corpus.open(str(tmp_path / "corpus")), ["first.json", "second.json"], RECORD_START, parse_record
    )
    assert [(turn.id, turn.file) for i in range(2) for turn in index.turns(i)] == [
        ("a", "first.json"),
        ("b", "second.json"),
    ]


def test_what_can_not_be_read_is_refused_in_words_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = cached()
    (tmp_path / "folder.json").mkdir()
    for file in ("none.json", "folder.json"):
        with pytest.raises(UsageError, match="expected"):
            open_index(Corpus.open(str(tmp_path)), [file], RECORD_START, parse_record)
    assert cached() == before


_MEASURE = """
import sys
from speechrows.corpora.folder import Corpus
from speechrows.corpora.text_index import open_index
from instructs2s_ttt import RECORD_START, parse_record
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1000
corpus = Corpus.open(sys.argv[1])
open_index(corpus, ["small.json"], RECORD_START, parse_record)
before = peak()
index = open_index(corpus, ["large.json"], RECORD_START, parse_record)
print(index.num_records, index.rows_of("wav/000007-1.wav"), peak() - before)
"""


def test_an_array_of_30_mb_is_indexed_in_little_memory(tmp_path: Path) -> None:
    def spell(number: int) -> str:
        turns = [
            {
                "from": speaker,
                "text": "as it was said",
                "speech": f"wav/{number:06}-{i}.wav",
                "unit": [4096] * 250,
            }
            for i, speaker in enumerate(("human", "gpt"))
        ]
        return json.dumps({"id": f"{number:06}", "conversation": turns}, indent=2)

    pattern = spell(0)
    for name, count in (("small", 5), ("large", 4500)):
        with (tmp_path / f"{name}.json").open("w") as file:
            file.write("[\n")
            for i in range(count):
                file.write(("," if i else "") + pattern.replace("000000", f"{i:06}"))
            file.write("\n]")
    assert (tmp_path / "large.json").stat().st_size > 30e6
    records, row, grown = run_python(_MEASURE, tmp_path).split()
    assert (records, row) == ("4500", "[15]")
    assert int(grown) < 25, grown
