"""Tables of anyone's, in every format: their rows are the same, and what is wrong with one costs that one."""

import json
import pickle
import random
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from toys.audio import wav
from toys.building import build_rows
from toys.building import open_reader
from toys.building import read_corpus
from toys.building import read_rows
from toys.building import read_skipped
from toys.mini_hub import MiniHub
from toys.tables import FORMATS
from toys.tables import calls
from toys.tables import dataset_of
from toys.tables import tone
from toys.tables import with_names
from toys.tables import without_clip
from toys.tables import write_samples
from toys.tables import write_table

import audio_table
from audio_table import AudioTable
from speechrows.audio import decode
from speechrows.cli import main
from speechrows.corpora.entries import Entry
from speechrows.corpora.tables import survey
from speechrows.errors import UsageError
from speechrows.preview import html
from speechrows.preview.rows import Library
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from speechrows.validation.validate import validate

Item = dict[str, Any]
CALLS = calls()


def read(folder: Path, config: str = "ttt", **flags: Any) -> list[Any]:
    """What is read of tables, as plain values: conversations with their turns, in order of their names."""
    read = [plainly(folder, item) for item in read_corpus(AudioTable, folder, config, **flags)]
    return sorted(read, key=str)


def plainly(folder: Path, item: Dialogue | UnreadableFile) -> Any:
    if isinstance(item, UnreadableFile):
        return item.file, item.detail
    spoken = [
        (turn.number, turn.speaker, turn.role, turn.text, turn.answer, turn.traits.emotion)
        + ((turn.fault.reason.value,) if turn.fault else (sound(folder, turn.audio),))
        for turn in item.turns
    ]
    return item.conversation_id, item.split, item.twin_key, tuple(spoken)


def sound(folder: Path, ref: Any) -> bytes | None:
    if ref is None:  # a written answer
        return None
    return bytes(ref.data) if ref.data is not None else (folder / ref.path).read_bytes()


def expected(name: str, rows: Sequence[Item] = CALLS, split: str = "train") -> list[Any]:
    """What `read` gives of the rows of `calls`."""
    names = list(dict.fromkeys(row["conversation"] for row in rows))
    groups = [[row for row in rows if row["conversation"] == name] for name in names]
    return [
        (
            f"{name}/{split}/{group[0]['conversation']}",
            split,
            f"{split}/{group[0]['conversation']}" if split == "train" else None,
            tuple(
                (
                    row["turn"],
                    row["speaker"],
                    "user" if row["speaker"] == "A" else "assistant",
                    *(row["text"], row["answer"], row["emotion"], tone(row["clip"])),
                )
                for row in group
            ),
        )
        for group in groups
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same calls as a table of each format, and their rows."""
    place = tmp_path_factory.mktemp("tables")
    for kind in FORMATS:
        write_table(place / kind / "calls", kind, CALLS)
        build_rows(place / kind / "calls", place / "rows" / kind, builder="audio_table")
    return place


@pytest.mark.parametrize("kind", FORMATS)
def test_the_rows_are_those_of_the_content_whatever_the_format(kind: str, built: Path) -> None:
    rows = read_rows(built / "rows" / kind)
    assert [row["row_id"] for row in rows] == [
        f"audio_table/train/calls/train/{row['conversation']}/{row['turn']}/ttt" for row in CALLS
    ]
    own = {"source", "audio"}
    reference = read_rows(built / "rows/parquet")
    assert [{k: v for k, v in row.items() if k not in own} for row in rows] == [
        {k: v for k, v in row.items() if k not in own} for row in reference
    ]
    assert [row["audio"]["bytes"] for row in rows] == [tone(row["clip"]) for row in CALLS]
    assert validate(str(built / "rows" / kind)).ok


@pytest.mark.parametrize("kind", FORMATS)
def test_each_run_of_rows_is_read_alone_by_another_process(
    kind: str, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built / kind / "calls"
    monkeypatch.setattr(survey, "_RUN_BYTES", 1)
    _, listing = open_reader(AudioTable, folder)
    assert len(listing.units) == 3
    items: list[Any] = []
    for unit in reversed(pickle.loads(pickle.dumps(listing.units))):
        reader, _ = open_reader(AudioTable, folder)
        items += [plainly(folder, item) for item in reader.dialogues(unit)]
    assert sorted(items, key=str) == expected("calls")
    assert read(folder) == expected("calls")  # by one reader, in order
    _, listing = open_reader(AudioTable, folder, conversation="", id="")
    reader, _ = open_reader(AudioTable, folder)
    units = pickle.loads(pickle.dumps(listing.units))
    assert len([item for unit in units for item in reader.dialogues(unit)]) == 9


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_run_that_was_given_up_costs_the_next_no_row(
    kind: str, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "_RUN_BYTES", 3 * len(tone(0)))
    reader, listing = open_reader(AudioTable, built / kind / "calls", conversation="")
    first, second, *_ = listing.units
    assert next(iter(reader.dialogues(first))).turns[0].text == CALLS[0]["text"]
    texts = [dialogue.turns[0].text for unit in (first, second) for dialogue in reader.dialogues(unit)]
    assert len(texts) > 3
    assert texts == [row["text"] for row in CALLS[: len(texts)]]


@pytest.mark.parametrize("kind", FORMATS)
def test_conversations_scattered_over_many_tables_are_made_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = calls(count=14, turns=4)  # of which more wait than are kept as they came
    shuffled = random.Random(7).sample(rows, len(rows))
    for number in range(3):
        part = shuffled[number::3]
        write_table(tmp_path / "t" / (f"{number}" if kind == "arrow" else ""), kind, part, f"train-{number}")
    monkeypatch.setattr(survey, "_RUN_BYTES", 1)
    _, listing = open_reader(AudioTable, tmp_path / "t")
    assert "scattered" in listing.contents
    assert read(tmp_path / "t") == sorted(expected("t", rows), key=str)
    by_start = read(tmp_path / "t", turn="")
    assert by_start == read(tmp_path / "t")


def test_rows_without_turns_or_starts_are_in_the_table_s_order_and_turns_may_count_from_1(
    tmp_path: Path,
) -> None:
    write_table(tmp_path / "plain", "csv", CALLS)
    assert read(tmp_path / "plain", turn="", start="") == expected("plain")
    write_table(tmp_path / "one", "jsonl", [{**row, "turn": row["turn"] + 1} for row in CALLS])
    assert read(tmp_path / "one") == expected("one")


def test_without_a_column_of_conversations_each_row_is_one(tmp_path: Path) -> None:
    write_table(tmp_path / "t", "jsonl", CALLS)
    by_id = read(tmp_path / "t", "transcription", conversation="")
    assert [item[0] for item in by_id] == [f"t/train/u{i}" for i in range(9)]
    assert {item[2] for item in by_id} == {"A", "B"}  # a speaker stays in one split
    by_line = read(tmp_path / "t", "transcription", conversation="", id="")
    assert [item[0] for item in by_line] == [f"t/train/train:{i + 1}" for i in range(9)]
    [[*_, turns], *_] = read(tmp_path / "t", "response", conversation="")
    assert [(turn[0], turn[2], turn[3]) for turn in turns] == [
        (0, "user", CALLS[0]["text"]),
        (1, "assistant", "Answer 0."),
    ]


def test_answers_are_those_of_exchanges_and_tasks(tmp_path: Path) -> None:
    write_table(tmp_path / "t", "parquet", CALLS)
    out = tmp_path / "rows"
    for config in ("response", "answer_extraction", "sift_s"):
        build_rows(tmp_path / "t", out, config, builder="audio_table", conversation="")
        assert [row["messages"][1]["content"] for row in read_rows(out, config)] == [
            row["answer"].lower() if config == "answer_extraction" else row["answer"] for row in CALLS
        ]
    assert validate(str(out)).ok


def test_splits_are_of_names_or_of_a_column(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "valid", "test.clean"):
        write_table(tmp_path / "t", "jsonl", CALLS[:3], name)
    assert [item[:3] for item in read(tmp_path / "t")] == [
        (f"t/{split}/c0", split, None) for split in ("test", "train", "validation")
    ]
    rows = [{**row, "subset": ("dev", "train", "odd")[i // 3]} for i, row in enumerate(CALLS)]
    write_table(tmp_path / "s", "csv", rows, "all")
    splits = {item[0]: [turn[-1] for turn in item[3]] for item in read(tmp_path / "s")}
    assert [*splits] == ["s/train/c1", "s/train/c2", "s/validation/c0"]
    assert splits["s/train/c2"] == ["metadata_disagrees"] * 3
    _, listing = open_reader(AudioTable, tmp_path / "s")
    assert {split for unit in listing.units for split in unit.splits} == {"train", "validation"}


def test_roles_are_of_who_speaks_first_unless_one_says_so(tmp_path: Path) -> None:
    rows = [{**row, "role": ("human", "gpt", "nobody")[i % 3]} for i, row in enumerate(calls(1))]
    write_table(tmp_path / "t", "jsonl", rows)

    def roles(**flags: Any) -> list[Any]:
        [[*_, turns]] = read(tmp_path / "t", **flags)
        return [turn[2] or turn[-1] for turn in turns]

    user, assistant = "user", "assistant"
    assert roles() == [user, assistant, "bad_speaker"]
    assert roles(role="") == [user, assistant, user]
    assert roles(role="", swap_roles=True) == [assistant, user, assistant]
    assert roles(role="", assistant="A") == [assistant, user, assistant]
    assert roles(role="", assistant="last") == [assistant, user, assistant]
    assert roles(role="", assistant="second") == [user, assistant, user]
    assert roles(role="", speaker="") == [user, assistant, user]
    assert roles(role="", speaker="id") == [user, assistant, "bad_speaker"]
    assert roles(role="", speaker="id", assistant="u2") == [user, user, assistant]


def test_clips_lie_beside_their_table_or_under_the_audio_root_and_nowhere_else(tmp_path: Path) -> None:
    place, out = tmp_path / "place", tmp_path / "rows"
    named = with_names(place / "audio", CALLS)
    table = place / "tables/deep/train.jsonl"
    table.parent.mkdir(parents=True)

    def write(*names: str) -> None:
        rows = ({**row, "file": name} for row, name in zip(named, names, strict=False))
        table.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    write("clips/0.wav", str(place / "audio/clips/1.wav"), "../audio/clips/2.wav")
    flags: dict[str, Any] = {"builder": "audio_table", "config": "transcription"}
    build_rows(place / "tables", out, audio_root=str(place / "audio"), **flags)
    rows = read_rows(out, "transcription")
    assert [row["audio"]["bytes"] for row in rows] == [tone(0), tone(1)]
    assert [row["source"] for row in rows] == [f"tables/audio-root/clips/{i}.wav" for i in (0, 1)]
    assert [(line["reason"], line["file"]) for line in read_skipped(out)] == [
        ("refused_path", "deep/train.jsonl:3")
    ]
    assert validate(str(out)).ok
    write("clips/0.wav")
    for root in ("audio", str(place / "audio")):  # a folder of the corpus itself
        [[*_, turns]] = read(place, "transcription", audio_root=root)
        assert turns[0][-1] == tone(0)
    with pytest.raises(FileNotFoundError):
        read(place, "transcription")


def test_librispeech_s_folders_and_folders_of_clips_and_texts_are_tables(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech/dev-clean/84/121123"
    chapter.mkdir(parents=True)
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT\n")
    (chapter / "84-121123-0000.wav").write_bytes(tone(0))
    (chapter / "84-121123-0001.wav").write_bytes(tone(1))
    split = "validation"
    assert read(tmp_path / "LibriSpeech", "transcription") == [
        (
            f"LibriSpeech/{split}/84-121123-000{i}",
            split,
            None,
            ((0, "84", "user", text, None, None, tone(i)),),
        )
        for i, text in enumerate(("GO DO YOU HEAR", "BUT"))
    ]
    for i, (emotion, text) in enumerate((("happy", "One."), ("sad", "Two."), ("sad", None))):
        folder = tmp_path / "acted" / emotion
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.wav").write_bytes(tone(i))
        if text:
            (folder / f"{i}.txt").write_text(text + "\n")
    acted = read(tmp_path / "acted", "transcription", trait=("emotion=folder",))
    assert [item[3][0][3:] for item in acted] == [
        ("One.", None, "happy", tone(0)),
        ("Two.", None, "sad", tone(1)),
        ("", None, "sad", "empty_text"),
    ]
    assert acted[2][0] == "acted/train/sad/2"
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/a.wav").write_bytes(tone(0))
    with pytest.raises(UsageError, match=r"no table, and 1 clips of which none has a \.txt"):
        build_rows(tmp_path / "bare", tmp_path / "rows", "transcription", builder="audio_table")


def test_what_is_wrong_with_a_row_of_text_costs_that_row(tmp_path: Path) -> None:
    rows = with_names(tmp_path / "t", [{**row, "id": None} for row in calls(1, 6)])
    wrong: list[dict[str, Any]] = [
        {"file": "clips/none.wav"},
        {"file": "../secret.wav"},
        {"text": None},
        {"text": "  "},
        {"text": 7},
        {"text": "\udcff"},
        {"file": None},
        {"offset": 12.5},
        {"speaker": "\udcff", "conversation": "\udcff", "turn": 0, "file": "none"},
    ]
    lines = [json.dumps({**rows[0], "conversation": f"w{i}", **one}) for i, one in enumerate(wrong)]
    lines += ['{"text": "half a li', "[1]", "", json.dumps({**rows[1], "conversation": "good"})]
    lines += [json.dumps({**rows[2], "turn": turn, "conversation": "x"}) for turn in (0, 1, 1, "two", -1)]
    (tmp_path / "t/train.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    summary = build_rows(tmp_path / "t", tmp_path / "rows", "transcription", builder="audio_table")
    assert summary.items == summary.rows + sum(summary.skipped.values()) == 17
    skipped = {(line["file"].rpartition("/")[2], line["reason"]) for line in read_skipped(tmp_path / "rows")}
    assert skipped == {
        ("none.wav", "missing"),
        ("train.jsonl:2", "refused_path"),
        ("train.jsonl:3", "empty_text"),
        ("train.jsonl", "empty_text"),
        ("train.jsonl:5", "bad_text"),
        ("train.jsonl:6", "bad_text"),
        ("train.jsonl:7", "missing"),
        ("0.wav", "truncated"),
        ("none", "missing"),
        ("train.jsonl:10", "unreadable"),
        ("train.jsonl:11", "unreadable"),
        ("train.jsonl", "bad_number"),
        ("train.jsonl:17", "bad_number"),
        ("train.jsonl:18", "bad_number"),
    }
    kept = [row["clip_id"] for row in read_rows(tmp_path / "rows", "transcription")]
    assert kept == ["t/train/good/1", "t/train/x/0", "t/train/x/1"]


def test_cells_that_name_clips_alone_and_shards_that_are_not_there(tmp_path: Path) -> None:
    named = with_names(tmp_path / "t", CALLS)
    paths = datasets.Dataset.from_list([{**row, "file": str(tmp_path / "t" / row["file"])} for row in named])
    paths.cast_column("file", datasets.Audio()).to_parquet(str(tmp_path / "t/train-00001-of-00003.parquet"))
    assert read(tmp_path / "t") == expected("t")
    _, listing = open_reader(AudioTable, tmp_path / "t")
    assert "(not there: train-00000-of-00003.parquet, train-00002-of-00003.parquet); " in listing.contents
    assert {path for unit in listing.units for path in unit.files} == {f"clips/{i}.wav" for i in range(9)}


def test_an_id_that_is_there_again_costs_the_second_row_alone(tmp_path: Path) -> None:
    for name in ("train-a", "train-b"):
        write_table(tmp_path / "t", "parquet", CALLS[:2], name)
    items = read(tmp_path / "t", "transcription", conversation="")
    assert [(item[0], item[3][0][-1]) for item in items] == [
        ("t/train/train-b:0", "bad_number"),
        ("t/train/train-b:1", "bad_number"),
        ("t/train/u0", tone(0)),
        ("t/train/u1", tone(1)),
    ]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "tar", "jsonl"])
def test_a_table_that_is_cut_or_no_table_is_counted_and_the_others_are_read(
    kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    for number in range(2):
        write_table(folder / f"{number}" if kind == "arrow" else folder, kind, CALLS, f"train-{number}")
    [broken, *_] = sorted(folder.rglob(f"*.{kind}"))
    broken.write_bytes(broken.read_bytes()[:9000] if kind in ("arrow", "tar") else b"\x00\xffno table")
    items = read(folder, "transcription", conversation="", id="")
    lost = [item for item in items if len(item) == 2]
    assert [file for file, _ in lost] == ([] if kind == "jsonl" else [broken.relative_to(folder).as_posix()])
    whole = [item for item in items if len(item) == 4 and isinstance(item[3][0][-1], bytes)]
    assert len(whole) >= 9


def test_a_row_group_that_is_spoilt_costs_its_conversations_a_turn(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    path = folder / "a.parquet"
    pq.write_table(dataset_of(CALLS).data.table, path, row_group_size=3, compression="zstd")
    group = pq.read_metadata(path).row_group(1)
    spoilt = next(c for c in map(group.column, range(99)) if c.path_in_schema == "audio.bytes")
    with path.open("r+b") as file:
        file.seek(spoilt.data_page_offset)
        file.write(bytes(200))
    rows = [{**row, "turn": 3 + row["turn"], "clip": row["clip"] + 9} for row in CALLS[3:6]]
    write_table(folder, "parquet", rows, "b")
    items = read(folder)
    conversations = {item[0]: [turn[-1] for turn in item[3]] for item in items if len(item) == 4}
    assert conversations["t/train/c0"] == [tone(0), tone(1), tone(2)]
    assert conversations["t/train/c2"] == [tone(6), tone(7), tone(8)]
    assert [found for found in conversations["t/train/c1"] if isinstance(found, bytes)] == [
        tone(12), tone(13), tone(14),
    ]  # fmt: skip
    assert conversations["t/train/c1"].count("unreadable") == 3
    assert [item[0] for item in items if len(item) == 2] == ["a.parquet"]


def test_a_sample_without_a_clip_or_with_two_and_odd_members_are_told(tmp_path: Path) -> None:
    row = without_clip(CALLS[0])
    (tmp_path / "t").mkdir()
    samples = [
        {"json": row},
        {"wav": tone(1), "json": b"{no json"},
        {"wav": tone(2), "txt": b"Its own text.\n", "json": b"[1]"},
        {"wav": tone(3), "npy": b"\0\xff", "txt": b"And another."},
    ]
    write_samples(tmp_path / "t/x.tar", samples)
    with tarfile.open(tmp_path / "t/x.tar", "a") as tar:
        tar.add(write_table(tmp_path / "one", "csv", CALLS[:1]) / "clips/0.wav", "sample/000002.wav")
    items = read(tmp_path / "t", "transcription", text="txt", conversation="", id="")
    assert [item[3][0][-1] for item in items] == ["missing", "unreadable", "bad_number", tone(2), tone(3)]
    assert [item[0] for item in items[2:4]] == ["t/train/x:sample/000002#4", "t/train/x:sample/000002"]


@pytest.mark.parametrize(
    ("rows", "flags", "words"),
    [
        ({"text": "a", "path": "b.txt"}, {"audio": "sound"}, "--audio sound: found no such column; the"),
        (
            {"sentence": "a"},
            {},
            "found no column of clips, or of their names among 'sentence'; name it: --audio",
        ),
        (
            {"file": "a.wav", "words": "a"},
            {},
            "found no column of what is said among 'file', 'words'; name it",
        ),
        (
            {"file": "a.wav", "audio": "b.wav", "text": "a"},
            {},
            "found the columns 'file', 'audio', expected one",
        ),
        ({"file": "a.wav", "text": "a", "raw_text": "A"}, {}, "say which: --text text"),
        ({"file": "a.wav", "text": "a", "sex": "f", "gender": "m"}, {}, "say which: --trait gender=sex"),
        (
            {"file": "a.wav", "text": "a"},
            {"trait": ("mood=text",)},
            "--trait mood=text: expected TRAIT=COLUMN",
        ),
        ({"file": "a.wav", "text": "a"}, {"config": "response"}, "needs conversations or answers"),
        ({"file": "a.wav", "text": "a"}, {"assistant": "last"}, "--assistant: found no column of speakers"),
        (
            {"file": "a.wav", "text": "a"},
            {"config": "sift_s"},
            r"\(name one: --answer COLUMN\): config sift_s",
        ),
        ({"file": "a.wav", "text": "a"}, {"config": "s2s_mimi"}, "--codes COLUMN.*generate mimi"),
        ({"file": "a.wav", "text": "a"}, {"table": ("*.csv",)}, r"--table \*\.csv: no file matches; found"),
        ({"file": "a.wav", "text": "a"}, {"audio_root": "nowhere"}, "--audio-root nowhere: "),
    ],
)
def test_what_no_one_can_tell_is_refused_with_the_flag_that_says_it(
    rows: Item, flags: Item, words: str, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(rows) + "\n")
    config = {"config": "transcription"} | flags
    with pytest.raises(UsageError, match=words):
        open_reader(AudioTable, tmp_path, **config)


def test_tables_of_several_formats_or_columns_are_refused_until_one_says_which(tmp_path: Path) -> None:
    write_table(tmp_path, "jsonl", CALLS)
    write_table(tmp_path, "csv", CALLS, "other")
    with pytest.raises(UsageError, match=r"found tables of 2 formats \(other\.csv, train\.jsonl\)"):
        open_reader(AudioTable, tmp_path)
    _, listing = open_reader(AudioTable, tmp_path, table=("train*",))
    assert listing.contents.startswith(
        "9 rows in train.jsonl, 3 conversations; audio 'file', text 'text', id"
    )
    (tmp_path / "reported.csv").write_text("sentence,reason\na,b\n")
    with pytest.raises(UsageError, match=r"reported\.csv: has the columns 'sentence', 'reason'; expected"):
        open_reader(AudioTable, tmp_path, table=("*.csv",), text="text")


def test_ten_thousand_clips_of_a_folder_are_found(tmp_path: Path) -> None:
    names = [f"clips/{number}.wav" for number in range(10_000)]
    lines = (json.dumps({"file": name, "text": "Word."}) + "\n" for name in names)
    (tmp_path / "train.jsonl").write_text("".join(lines))
    reader, _ = open_reader(AudioTable, tmp_path, "transcription")
    listing = reader.units([Entry(name, 1 << 16, "") for name in ("train.jsonl", *names)])
    assert sorted(path for unit in listing.units for path in unit.files) == sorted(names)
    assert len(listing.units) == 20  # of 32 MiB


def test_documented_data_sets_are_read_by_their_own_names(tmp_path: Path) -> None:
    voice = tmp_path / "cv/en"
    (voice / "clips").mkdir(parents=True)
    head = "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents x"
    lines = [head.replace(" ", "\t")]
    for i, text in enumerate(('"Why not?" he said.', "It's 5\u2032 high.", "Third.")):
        (voice / f"clips/cv_{i}.wav").write_bytes(tone(i))
        lines.append(f"c{i}\tcv_{i}.wav\ts{i}\t{text}\t\t2\t0\ttwenties\tfemale_feminine\tUnited States\t")
    for name, rows in {"train": lines[:3], "dev": [lines[0], lines[3]], "validated": lines}.items():
        (voice / f"{name}.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    (voice / "reported.tsv").write_text("sentence\treason\nx\ty\n")
    flags: dict[str, Any] = {"audio_root": "clips", "table": ("train.tsv", "dev.tsv")}
    [*dialogues] = read_corpus(AudioTable, voice, "transcription", **flags)
    assert [(d.split, d.turns[0].speaker, d.turns[0].text) for d in dialogues] == [
        ("validation", "c2", "Third."),
        ("train", "c0", '"Why not?" he said.'),
        ("train", "c1", "It's 5\u2032 high."),
    ]
    tone_of = dialogues[0].turns[0].traits
    assert (tone_of.age, tone_of.gender, tone_of.accent) == ("young adult", "female", "united states")
    giga = {
        "segment_id": "S1", "speaker": "N/A", "text": "GO ON <COMMA>", "begin_time": 1.5, "end_time": 2.0,
        "audio_id": "P1", "title": "t", "url": "u", "source": 2, "category": 24,
    }  # fmt: skip
    (tmp_path / "giga").mkdir()
    table = datasets.Dataset.from_list([{**giga, "audio": {"bytes": tone(1), "path": "S1.wav"}}])
    table.to_parquet(str(tmp_path / "giga/test-00000-of-00001.parquet"))
    [[name, split, _, turns]] = read(tmp_path / "giga", "transcription")
    assert (name, split, turns[0][3:]) == ("giga/test/S1", "test", ("GO ON <COMMA>", None, None, tone(1)))


def test_a_data_set_of_the_hub_is_read_there(hub: MiniHub, tmp_path: Path) -> None:
    for kind in ("parquet", "jsonl"):
        folder = write_table(tmp_path / kind, kind, CALLS)
        api = HfApi()
        api.create_repo(f"org/{kind}", repo_type="dataset")
        api.upload_folder(repo_id=f"org/{kind}", folder_path=folder, repo_type="dataset")
        build_rows(f"hf://datasets/org/{kind}", tmp_path / "rows" / kind, builder="audio_table")
        rows = read_rows(tmp_path / "rows" / kind)
        assert [row["audio"]["bytes"] for row in rows] == [tone(row["clip"]) for row in CALLS]


def test_the_command_on_the_card_has_every_flag_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "t", "jsonl", CALLS)
    flags = ["--table", "*.jsonl", "--table", "train*", "--trait", "accent=id", "--id", "", "--swap-roles"]
    flags += ["--audio-root", str(tmp_path / "t/clips/..")]
    build = ["build", "audio_table", "ttt", "--data-dir", "t"]
    monkeypatch.chdir(tmp_path)
    assert main([*build, *flags, "--out", "first"]) == 0
    [line] = [line for line in Path("first/README.md").read_text().splitlines() if line.startswith("speech")]
    words = shlex.split(line.replace("--tokenizer tokenizer", "--tokenizer first/tokenizer"))[1:]
    assert main([*words[:-1], "second"]) == 0
    assert read_rows(tmp_path / "first") == read_rows(tmp_path / "second")
    assert read_rows(tmp_path / "first")[0]["role"] == "assistant"


def test_a_dataset_in_hand_becomes_the_rows_of_its_tables(tmp_path: Path, built: Path) -> None:
    in_hand, out = dataset_of(CALLS), tmp_path / "rows"
    assert audio_table.build(in_hand, str(out), "ttt", name="calls").rows == 9
    streamed = in_hand.to_iterable_dataset(num_shards=3)
    assert (
        audio_table.build(streamed, str(out), "ttt", name="calls").rows == 9
    )  # the same build: done already
    of_tables = read_rows(built / "rows/parquet")
    assert [{**row, "source": ""} for row in read_rows(out)] == [{**row, "source": ""} for row in of_tables]
    named = datasets.Dataset.from_list(
        [
            {**row, "file": str(built / "csv/calls" / row["file"])}
            for row in with_names(built / "csv/calls", CALLS)
        ]
    ).cast_column("file", datasets.Audio())
    splits = datasets.DatasetDict(train=named.select(range(3)), test=named.select(range(3, 9)))
    audio_table.build(splits, str(tmp_path / "splits"), "transcription", audio="file", swap_roles=True)
    rows = read_rows(tmp_path / "splits", "transcription")
    assert [row["audio"]["bytes"] for row in rows] == [tone(i) for i in (3, 4, 5, 6, 7, 8, 0, 1, 2)]
    assert [row["row_id"].split("/")[1] for row in rows] == ["test"] * 6 + ["train"] * 3
    assert rows[0]["role"] == "assistant"


def test_turns_of_a_long_recording_are_its_slices_with_their_times_and_are_seen_on_the_page(
    tmp_path: Path,
) -> None:
    (tmp_path / "t").mkdir()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (16_000 * 4, 2))
    (tmp_path / "t/call.wav").write_bytes(wav(samples, 16_000))
    told = [("ann", 0.25, 1.0), ("bob", 1.0, 1.5), ("ann", 2.125, 0.875), ("bob", 3.25, 0.75)]
    lines = ["wav,offset,duration,start,speaker,call_id,text"]
    lines += [f"call.wav,{at},{seconds},{at},{who},c1,er {at}" for who, at, seconds in reversed(told)]
    (tmp_path / "t/calls.csv").write_text("\n".join(lines) + "\n", "utf-8")
    build_rows(tmp_path / "t", tmp_path / "rows", builder="audio_table", channel="0")
    rows = read_rows(tmp_path / "rows")
    assert [(row["speaker"], row["start_s"], row["role"]) for row in rows] == [
        (who, at, "user" if who == "ann" else "assistant") for who, at, _ in told
    ]
    whole = decode(wav(samples, 16_000))[0][:, :1]
    for row, (_, at, seconds) in zip(rows, told, strict=True):
        first, count = int(at * 16_000), int(seconds * 16_000)
        np.testing.assert_array_equal(decode(row["audio"]["bytes"])[0], whole[first : first + count])
    assert validate(str(tmp_path / "rows")).ok
    library = Library(str(tmp_path / "rows"))
    page = html.conversation(library, library.view("ttt", "train"), 1)
    assert page.count('class="span user') == 2
    assert 'class="span assistant is-open"' in page
    assert "left:20.000%" in page  # 1.0 s, where the conversation goes from 0.25 s to 4 s


def test_a_row_without_a_clip_is_a_turn_of_text_in_a_chat(tmp_path: Path) -> None:
    rows = with_names(tmp_path / "t", calls(1, 4))
    for row in rows[1:]:
        row["file"] = ""
    (tmp_path / "t/train.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    build_rows(tmp_path / "t", tmp_path / "rows", "chat", builder="audio_table")
    heard, read_ = read_rows(tmp_path / "rows", "chat")
    assert [message["content"] for message in heard["messages"]] == ["<audio>", rows[1]["text"]]
    assert [message["content"] for message in read_["messages"]] == [rows[2]["text"], rows[3]["text"]]
    assert read_["audio"] is None
    assert validate(str(tmp_path / "rows")).ok
