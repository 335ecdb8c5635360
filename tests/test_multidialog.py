"""MultiDialog's archives and shuffled lines, and what the reader makes of them."""

import gzip
import io
import json
import random
import tarfile
import time
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import wav
from toys.build_process import ForkedBuild
from toys.building import build_rows
from toys.building import open_reader
from toys.building import published_files
from toys.building import read_rows
from toys.building import read_skipped
from toys.examples import FEW
from toys.processes import run_python
from toys.samples import SAMPLES

import multidialog_ttt
from multidialog_ttt import MultiDialogConfig
from multidialog_ttt import MultiDialogReader
from multidialog_ttt import MultiDialogTTT
from speechrows.corpora import tar_join
from speechrows.corpora import tar_lines
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Listing
from speechrows.errors import UsageError
from speechrows.rows.curriculum import task_of
from speechrows.types import Dialogue
from speechrows.types import Reason
from speechrows.types import UnreadableFile

SAMPLE = SAMPLES / "multidialog"
BUILDER = str(Path(multidialog_ttt.__file__))
Line = dict[str, Any]
Pair = tuple[
    Sequence[tuple[str, bytes] | tarfile.TarInfo], Sequence[Line | bytes]
]  # an archive, its metadata

# --- toy corpora ----------------------------------------------------------------------------


def line(conversation: str, number: int, **other: Any) -> Line:
    """A line as published."""
    name = f"{conversation}/{conversation}_{number}_{'bg'[number % 2]}.wav"
    return {
        "conv_id": conversation,
        "utterance_id": number,
        "from": ("human", "gpt")[number % 2],
        "audpath": name,
        "value": f"Turn {number} of {conversation}.",
        "emotion": "Neutral",
        "original_full_path": f"valid/{name}",
        **other,
    }


def named_clip(entry: Line, size: int = 800) -> tuple[str, bytes]:
    """A line's clip: noise of its own."""
    return entry["audpath"], wav(random.Random(entry["audpath"]).randbytes(size), 16000)


def write(folder: Path, *pairs: Pair, split: str = "train") -> Path:
    """A split of archives and their metadata files, numbered as published."""
    for number, (clips, lines) in enumerate(pairs):
        archive = folder / "data" / split / f"{split}_chunks_{number:04}.tar.gz"
        metadata = folder / "metadata" / split / f"{split}_metadata_{number:04}.jsonl"
        for path, data in ((archive, packed(clips)), (metadata, jsonl(lines))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder


def packed(clips: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        for member in clips:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            data = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return gzip.compress(into.getvalue(), 1, mtime=0)


def jsonl(lines: Iterable[Line | bytes]) -> bytes:
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


def list_units(folder: Path) -> Listing[int | None]:
    return open_reader(MultiDialogTTT, folder)[1]


def read(folder: Path) -> tuple[dict[str, Dialogue], list[UnreadableFile]]:
    """The dialogues by conv_id, each unit read as by a process of its own, and the files that are no good."""
    reader, listing = open_reader(MultiDialogTTT, folder)
    alone = [
        dialogue
        for unit in listing.units
        for dialogue in open_reader(MultiDialogTTT, folder)[0].dialogues(unit)
    ]
    assert [dialogue for unit in listing.units for dialogue in reader.dialogues(unit)] == alone
    dialogues = [dialogue for dialogue in alone if isinstance(dialogue, Dialogue)]
    by_name = {dialogue.conversation_id.rpartition("/")[2]: dialogue for dialogue in dialogues}
    assert len(by_name) == len(dialogues)  # each exactly once
    return by_name, [file for file in alone if isinstance(file, UnreadableFile)]


def clips_of(dialogue: Dialogue) -> list[bytes]:
    assert [turn.fault for turn in dialogue.turns] == [None] * len(dialogue.turns)
    return [bytes(turn.audio.data) for turn in dialogue.turns if turn.audio and turn.audio.data]


def faults(dialogue: Dialogue) -> dict[int, Reason]:
    return {turn.number: turn.fault.reason for turn in dialogue.turns if turn.fault}


A, B, C = ([line(name, i) for i in range(4)] for name in ("t_a", "t_b", "t_c"))
CLIPS = {line["audpath"]: named_clip(line)[1] for line in (*A, *B, *C)}


def clips(*lines: Line) -> list[tuple[str, bytes]]:
    return [named_clip(line) for line in lines]


def whole(*conversations: Sequence[Line]) -> dict[str, list[bytes]]:
    return {lines[0]["conv_id"]: [CLIPS[line["audpath"]] for line in lines] for lines in conversations}


# --- as published ---------------------------------------------------------------------------


def published(folder: Path) -> dict[str, tuple[Line, bytes]]:
    """Lines and clips by clip id, read by other means."""
    expected: dict[str, tuple[Line, bytes]] = {}
    for archive in sorted(folder.rglob("*.tar.gz")):
        split = archive.parent.name
        lines = (
            folder
            / "metadata"
            / split
            / archive.name.replace("chunks", "metadata").replace("tar.gz", "jsonl")
        )
        with tarfile.open(archive) as tar:
            data = {Path(m.name).name: tar.extractfile(m).read() for m in tar}  # pyright: ignore[reportOptionalMemberAccess]
        for entry in map(json.loads, lines.read_text("utf-8").splitlines()):
            clip_id = f"multidialog/{split}/{entry['conv_id']}/{entry['utterance_id']}"
            expected[clip_id] = entry, data[Path(entry["audpath"]).name]
    return expected


def test_the_sample_gives_its_13_turns_in_order_in_its_own_splits(tmp_path: Path) -> None:
    summary = build_rows(SAMPLE, tmp_path, builder=BUILDER)
    assert (summary.items, summary.rows, summary.skipped, summary.left_out) == (13, 13, {}, {})
    rows, expected = read_rows(tmp_path), published(SAMPLE)
    assert {row["clip_id"] for row in rows} == set(expected)
    for row in rows:
        entry, data = expected[row["clip_id"]]
        name = Path(entry["audpath"]).name
        split = row["clip_id"].split("/")[1]
        assert row["row_id"] == f"multidialog_ttt/{split}/{row['clip_id']}/ttt"
        assert row["audio"] == {"bytes": data, "path": name}
        assert row["transcript"] == entry["value"]
        assert row["role"] == {"human": "user", "gpt": "assistant"}[entry["from"]]
        assert row["speaker"] == name[-5]
        assert row["source"] == f"multidialog/data/{split}/{split}_chunks_0000.tar.gz/{entry['audpath']}"
    by_conversation: dict[str, list[int]] = {}
    for row in rows:
        by_conversation.setdefault(row["conversation_id"], []).append(row["turn_number"])
    assert sorted(map(tuple, by_conversation.values())) == [(0, 1, 2)] * 3 + [(0, 1, 2, 3)]
    splits = {
        path.relative_to(tmp_path / "data" / "ttt").parts[0] for path in tmp_path.rglob("data/**/*.parquet")
    }
    assert splits == {"train", "valid_freq", "test_rare"}


def test_the_class_gives_the_corpus_own_splits(tmp_path: Path) -> None:
    options = {"config_name": "response", "data_dir": str(SAMPLE), "cache_dir": str(tmp_path)}
    builder = MultiDialogTTT(**options)
    builder.download_and_prepare()
    splits = builder.as_dataset()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "valid_freq": 1, "test_rare": 1}
    row = splits["valid_freq"].select_columns(["messages"])[0]  # audio would want a decoder
    assert row["messages"][1] == {"role": "assistant", "content": "A redwood in the north, it was enormous."}


def test_a_validation_split_beside_the_corpus_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MultiDialog has valid_freq and valid_rare"):
        build_rows(SAMPLE, tmp_path, builder=BUILDER, validation_fraction=0.1)


def test_every_config_is_a_task() -> None:
    assert {task_of(config.name).name for config in MultiDialogTTT.BUILDER_CONFIGS} == {
        *("ttt", "transcription", "response", "sift_s", "sift_ssp", "sit_ssp", "s2s_mimi")
    }


def test_both_spellings_of_emotions_are_read_and_others_are_told(tmp_path: Path) -> None:
    emotions = [
        "Surprise",
        "surprising",
        "Joy",
        "Disgust",
        "disgusting",
        "curious",
        "puce",
        5,
        None,
        "\ud800",
    ]
    lines = [line("t", i, emotion=emotion) for i, emotion in enumerate(emotions)]
    turns = read(write(tmp_path, (clips(*lines), lines)))[0]["t"].turns
    assert [turn.traits.emotion for turn in turns] == [
        *("surprise", "surprise", "happy", "disgust", "disgust", None, None, None, None, None)
    ]
    unknown = [word for turn in turns for word in turn.traits.unknown]
    assert unknown == ["emotion: puce", "emotion: 5", "emotion: \\ud800"]


@pytest.mark.parametrize("form", ["{}", "utt_{}", 0])
def test_utterance_ids_are_read_as_published_and_as_documented(tmp_path: Path, form: str | int) -> None:
    lines = [line("t", i) for i in (10, 9, 2, 0, 1, 3, 4, 5, 6, 7, 8)]
    written = [
        entry | {"utterance_id": form.format(entry["utterance_id"])} if form else entry for entry in lines
    ]
    dialogues, _ = read(write(tmp_path, (clips(*lines), written)))
    assert [turn.text for turn in dialogues["t"].turns] == [f"Turn {i} of t." for i in range(11)]


def test_a_clip_is_named_by_audpath_or_by_file_name(tmp_path: Path) -> None:
    lines = [{"file_name" if key == "audpath" else key: value for key, value in entry.items()} for entry in A]
    assert clips_of(read(write(tmp_path, (clips(*A), lines)))[0]["t_a"]) == whole(A)["t_a"]


def test_a_clip_without_an_actors_letter_has_another_name_for_its_speaker(tmp_path: Path) -> None:
    lines = [line("t", i, audpath=f"t/{i}.wav") for i in range(3)]
    lines[2]["speaker_id"] = "k"
    dialogues, _ = read(write(tmp_path, (clips(*lines), lines)))
    assert [turn.speaker for turn in dialogues["t"].turns] == ["human", "gpt", "k"]


# --- units ----------------------------------------------------------------------------------


def test_archives_that_pair_with_metadata_are_units_of_their_own(tmp_path: Path) -> None:
    folder = write(tmp_path, (clips(*A), A), (clips(*B), B))
    write(folder, (clips(*C), C), split="test_freq")
    listing = list_units(folder)
    units = listing.units
    assert (
        listing.contents == "train 2 archives and 2 metadata files; test_freq 1 archives and 1 metadata files"
    )
    archives = [f"data/{split}_chunks_{i:04}.tar.gz" for split, i in
                [("train/train", 0), ("train/train", 1), ("test_freq/test_freq", 0)]]  # fmt: skip
    assert [unit.file for unit in units] == archives
    assert [unit.num_bytes for unit in units] == [(folder / path).stat().st_size for path in archives]
    assert [unit.splits for unit in units] == [("train",), ("train",), ("test_freq",)]
    assert [unit.payload for unit in units] == [0, 1, 0]
    assert set(units[0].paths) == {
        *archives[:2],
        *(f"metadata/train/train_metadata_000{i}.jsonl" for i in (0, 1)),
    }
    assert {name: clips_of(dialogue) for name, dialogue in read(folder)[0].items()} == whole(A, B, C)


def test_archives_that_do_not_pair_are_one_unit(tmp_path: Path) -> None:
    folder = write(tmp_path, (clips(*A, *B[:2]), [*A, *B, *C]), (clips(*B[2:], *C), []))
    (folder / "metadata/train/train_metadata_0001.jsonl").unlink()
    (unit,) = list_units(folder).units
    assert unit.num_bytes == sum(path.stat().st_size for path in folder.rglob("*.tar.gz"))
    assert {name: clips_of(dialogue) for name, dialogue in read(folder)[0].items()} == whole(A, B, C)


def test_one_metadata_file_for_all_splits_gives_conversations_the_splits_of_their_archives(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path, (clips(*A), []))
    write(folder, (clips(*B), []), split="valid_rare")
    for path in folder.rglob("*.jsonl"):
        path.unlink()
    (folder / "metadata.jsonl").write_bytes(jsonl([*C, *B[::-1], *A]))
    listing = list_units(folder)
    (unit,) = listing.units
    assert listing.contents.endswith("; metadata.jsonl for those that have none")
    assert unit.splits == ("train", "valid_rare")
    dialogues, files = read(folder)
    assert {name: dialogue.split for name, dialogue in dialogues.items()} == {
        "t_a": "train",
        "t_b": "valid_rare",
    }
    assert {name: clips_of(dialogue) for name, dialogue in dialogues.items()} == whole(A, B)
    assert files == []  # t_c is of a split that is not here


def test_a_split_whose_archives_were_not_downloaded_is_not_read_and_said(tmp_path: Path) -> None:
    folder = write(tmp_path, (clips(*A), A))
    write(folder, (clips(*B), B), split="test_rare")
    next(folder.rglob("test_rare*.tar.gz")).unlink()
    listing = list_units(folder)
    assert listing.contents.endswith("test_rare 0 archives and 1 metadata files, which are not read")
    assert [unit.splits for unit in listing.units] == [("train",)]


def test_a_split_whose_metadata_was_not_downloaded_is_a_fault_and_its_archives_are_not_read(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path, (clips(*A), A))
    write(folder, (clips(*B), B), (clips(*C), C), split="test_rare")
    for path in folder.rglob("test_rare*"):
        if path.suffix == ".jsonl":
            path.unlink()
        elif path.is_file():
            path.write_bytes(b"would be told of, if read")
    assert list_units(folder).contents.endswith("; no metadata for test_rare: not read")
    dialogues, files = read(folder)
    assert {name: clips_of(dialogue) for name, dialogue in dialogues.items()} == whole(A)
    assert [file.file for file in files] == [f"data/test_rare/test_rare_chunks_000{i}.tar.gz" for i in (0, 1)]
    assert not any(file.is_remark for file in files)
    assert files[0].detail.startswith("found no metadata for this archive, expected metadata/test_rare/test_")


@pytest.mark.parametrize("name", ["train_chunks_0001.tar.gz", "train_metadata_0001.jsonl"])
def test_a_file_that_is_a_link_out_of_the_corpus_is_refused_in_plain_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"not of the corpus")
    folder = write(tmp_path / "corpus", (clips(*A), A), (clips(*B), B))
    (path,) = folder.rglob(name)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    dialogues, files = read(folder)
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    (refused,) = [file for file in files if not file.is_remark]
    assert refused.file == str(path.relative_to(folder))
    assert refused.detail == (
        f"found {refused.file!r}, a symlink that leads out of the corpus; copy the file in its place"
    )


def test_one_archive_of_several_that_was_not_downloaded_costs_its_turns_and_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, (clips(*A), A), (clips(*B), B))
    next(folder.rglob("*0001.tar.gz")).unlink()
    dialogues, _ = read(folder)
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    assert faults(dialogues["t_b"]) == dict.fromkeys(range(4), Reason.MISSING)
    fault = dialogues["t_b"].turns[0].fault
    assert fault
    assert fault.detail.startswith("found no archive 0001, expected one beside train_metadata_0001.jsonl")


# --- whole conversations ---------------------------------------------------------------------


def test_a_conversation_that_spans_archives_belongs_to_that_of_its_turn_0(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        (clips(B[3], *A[2:], C[1]), [C[1], *A[2:], B[3]]),
        (clips(A[1], A[0], *B[:3]), [*B[:3], A[0], A[1]]),
        (clips(C[3], C[0], C[2]), [C[2], C[0], C[3]]),
    )
    reader, listing = open_reader(MultiDialogTTT, folder)
    by_unit = [
        [dialogue.conversation_id.rpartition("/")[2] for dialogue in reader.dialogues(unit)
         if isinstance(dialogue, Dialogue)]
        for unit in listing.units
    ]  # fmt: skip
    assert [sorted(names) for names in by_unit] == [[], ["t_a", "t_b"], ["t_c"]]
    assert {name: clips_of(dialogue) for name, dialogue in read(folder)[0].items()} == whole(A, B, C)


@pytest.mark.parametrize("order", [1, -1])
def test_a_clip_in_the_archive_next_to_its_lines_is_found(tmp_path: Path, order: int) -> None:
    pairs = [(clips(*A, *B[:2]), [*A, *B]), (clips(*B[2:], *C), C)]
    if order < 0:
        pairs = [(clips(*C, *B[2:]), C), (clips(*B[:2], *A), [*A, *B])]
    dialogues, _ = read(write(tmp_path, *pairs))
    assert {name: clips_of(dialogue) for name, dialogue in dialogues.items()} == whole(A, B, C)


@given(data=st.data())
@FEW
def test_however_lines_and_clips_are_shuffled_each_conversation_comes_once_and_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    everything = [*A, *B, *C]
    places = [data.draw(st.integers(0, 3)) for _ in everything]
    pairs: list[Pair] = []
    for number in range(4):
        lines = [entry for entry, place in zip(everything, places, strict=True) if place == number]
        pairs.append((clips(*data.draw(st.permutations(lines))), data.draw(st.permutations(lines))))
    dialogues, files = read(write(tmp_path_factory.mktemp("shuffled"), *pairs))
    assert {name: clips_of(dialogue) for name, dialogue in dialogues.items()} == whole(A, B, C)
    assert files == []


def test_a_conversation_is_given_when_its_last_clip_has_come(tmp_path: Path) -> None:
    lost = line("t_lost", 0)
    folder = write(tmp_path, (clips(A[0], *B, *A[1:]), [lost, *A, *B]))
    assert list(read(folder)[0]) == ["t_b", "t_a", "t_lost"]


def test_clips_that_wait_beyond_the_limit_come_back_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(f"t_{i}", number) for number in range(5) for i in range(40)]
    folder = write(tmp_path, ([named_clip(entry, 2000) for entry in lines], lines))
    expected, _ = read(folder)
    monkeypatch.setattr(tar_join, "SPILL_BYTES", 10_000)
    dialogues, _ = read(folder)
    assert {name: clips_of(dialogue) for name, dialogue in dialogues.items()} == {
        name: clips_of(dialogue) for name, dialogue in expected.items()
    }
    assert clips_of(dialogues["t_7"])[3] == named_clip(line("t_7", 3), 2000)[1]


# --- bad archives ---------------------------------------------------------------------------


def test_half_an_archive_costs_the_clips_behind_the_cut_and_they_say_why(tmp_path: Path) -> None:
    folder = write(tmp_path, ([named_clip(entry, 60_000) for entry in (*A, *B)], [*A, *B]), (clips(*C), C))
    archive = folder / "data/train/train_chunks_0000.tar.gz"
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * 0.7)])
    dialogues, files = read(folder)
    assert faults(dialogues["t_a"]) == {}
    assert faults(dialogues["t_b"]) == {1: Reason.MISSING, 2: Reason.MISSING, 3: Reason.MISSING}
    assert clips_of(dialogues["t_c"]) == whole(C)["t_c"]
    assert [file.file for file in files] == ["data/train/train_chunks_0000.tar.gz"]
    fault = dialogues["t_b"].turns[2].fault
    assert fault
    assert fault.file == "data/train/train_chunks_0000.tar.gz"
    assert (
        "train_chunks_0000.tar.gz is not whole: found the end of the file inside a gzip stream"
        in fault.detail
    )
    summary = build_rows(folder, tmp_path / "out", "transcription", builder=BUILDER)
    assert (summary.items, summary.rows, summary.skipped) == (12, 9, {"missing": 3})
    summary = build_rows(folder, tmp_path / "out", "ttt", builder=BUILDER)
    assert (summary.rows, summary.skipped) == (8, {"missing": 1, "dialogue_incomplete": 3})


def test_a_missing_member_costs_its_turn_and_names_the_archive(tmp_path: Path) -> None:
    dialogues, files = read(write(tmp_path, (clips(*A[:2], A[3], *B), [*A, *B]), (clips(*C), C)))
    assert faults(dialogues["t_a"]) == {2: Reason.MISSING}
    fault = dialogues["t_a"].turns[2].fault
    assert fault
    assert fault.detail.startswith("found no member 't_a_2_b.wav' in train_chunks_0000.tar.gz, expected one")
    assert files == []


def test_a_member_that_comes_twice_is_used_once_the_first_and_told(tmp_path: Path) -> None:
    second = [(A[i]["audpath"], b"another") for i in (1, 1, 2)]
    dialogues, files = read(write(tmp_path, ([*clips(*A), *second], A), (clips(*B), B)))
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    assert [(file.file, file.detail) for file in files] == [
        (
            "data/train/train_chunks_0000.tar.gz",
            "found 3 members again, as 't_a/t_a_1_g.wav'; expected each clip once, and used the first",
        )
    ]


def test_members_that_no_line_names_are_told_once_an_archive(tmp_path: Path) -> None:
    strange = [("t_x/t_x_0_b.wav", b"?"), ("README", b"?"), ("t_a/._t_a_0_b.wav", b"left by a Mac")]
    dialogues, files = read(write(tmp_path, ([*strange, *clips(*A)], A), (clips(*B), B)))
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    assert [file.detail for file in files] == [
        "found 2 members that no line names, as 't_x/t_x_0_b.wav'; expected one in the metadata for each"
    ]


def refused(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../../t_a_1_g.wav", b"up"), Reason.REFUSED_PATH),
        (("/etc/t_a_1_g.wav", b"absolute"), Reason.REFUSED_PATH),
        (refused("t_a/t_a_1_g.wav", tarfile.CHRTYPE), Reason.REFUSED_PATH),
        (refused("t_a/t_a_1_g.wav", tarfile.SYMTYPE, "/etc/passwd"), Reason.REFUSED_PATH),
        (refused("t_a/t_a_1_g.wav", tarfile.LNKTYPE, "t_a/t_a_0_b.wav"), Reason.REFUSED_PATH),
        (refused("t_a/t_a_1_g.wav", tarfile.FIFOTYPE), Reason.REFUSED_PATH),
    ],
)
def test_members_that_are_refused_cost_the_turn_that_names_them(
    tmp_path: Path, member: tuple[str, bytes] | tarfile.TarInfo, reason: Reason
) -> None:
    folder = write(tmp_path, ([*clips(A[0]), member, *clips(*A[2:], *B)], [*A, *B]))
    dialogues, files = read(folder)
    assert faults(dialogues["t_a"]) == {1: reason}
    assert clips_of(dialogues["t_b"]) == whole(B)["t_b"]
    assert files == []
    build_rows(folder, tmp_path / "out", "transcription", builder=BUILDER)
    skipped = [(entry["clip_id"], entry["reason"], entry["file"]) for entry in read_skipped(tmp_path / "out")]
    clip_id = f"{tmp_path.name}/train/t_a/1"
    assert skipped == [(clip_id, "refused_path", "data/train/train_chunks_0000.tar.gz")]


def test_a_bomb_costs_itself_and_what_lies_behind_it(tmp_path: Path) -> None:
    bomb = tarfile.TarInfo(A[1]["audpath"])
    bomb.size = 5 << 40
    folder = write(tmp_path, (clips(*B, A[0]), [*A, *B]), (clips(*C), C))
    path = folder / "data/train/train_chunks_0000.tar.gz"
    whole_members = gzip.decompress(path.read_bytes()).rstrip(b"\0")
    whole_members += bytes(-len(whole_members) % 512)
    path.write_bytes(gzip.compress(whole_members + bomb.tobuf(tarfile.GNU_FORMAT) + bytes(99)))
    dialogues, files = read(folder)
    assert faults(dialogues["t_a"]) == {1: Reason.TOO_LARGE, 2: Reason.MISSING, 3: Reason.MISSING}
    assert {name: clips_of(dialogues[name]) for name in ("t_b", "t_c")} == whole(B, C)
    assert len(files) == 1


# --- bad lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"utterance_id": -1}, Reason.BAD_NUMBER, "found utterance_id -1"),
        ({"utterance_id": "two"}, Reason.BAD_NUMBER, "found utterance_id 'two'"),
        ({"from": "system"}, Reason.BAD_SPEAKER, "found from 'system', expected human or gpt"),
        ({"from": ["gpt"]}, Reason.BAD_SPEAKER, "found from ['gpt']"),
        ({"value": None}, Reason.BAD_TEXT, "found value None"),
        ({"audpath": None}, Reason.MISSING, "found audpath None"),
        ({"utterance_id": 10**4000}, Reason.BAD_NUMBER, "found utterance_id inf"),
        ({"audpath": 5}, Reason.MISSING, "found audpath 5"),
        ({"audpath": "t_a/"}, Reason.MISSING, "found audpath 't_a/'"),
        ({"audpath": "../../etc/passwd"}, Reason.MISSING, "found no member 'passwd'"),
    ],
)
def test_a_bad_value_costs_its_own_turn(tmp_path: Path, change: Line, reason: Reason, message: str) -> None:
    bad = A[2] | change
    dialogues, files = read(write(tmp_path, (clips(*A, *B), [bad, *A[:2], A[3], *B])))
    assert list(faults(dialogues["t_a"])) == [2]  # a bad number takes the free one
    fault = dialogues["t_a"].turns[2].fault
    assert fault
    assert fault.reason == reason
    assert message in fault.detail
    assert clips_of(dialogues["t_b"]) == whole(B)["t_b"]
    assert all("1 members that no line names" in file.detail for file in files)  # the clip, without its name


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"conv_id": "t_a", "utt', "Unterminated string"),
        (b"[1, 2]", "found list"),
        (b"null", "found NoneType"),
        (b"<html>", "Expecting value"),
        (b"[" * 100_000, "recursion"),
        (jsonl([A[0] | {"conv_id": None}]), "found conv_id None"),
        (jsonl([A[0] | {"conv_id": 7}]), "found conv_id 7"),
        (jsonl([A[0] | {"conv_id": ""}]), "found conv_id ''"),
        (b'{"conv_id": "\xff\xfe"}', r"found conv_id '\udcff\udcfe'"),
        (b"{}", "found conv_id None"),
    ],
)
def test_a_line_that_describes_no_turn_is_an_item_of_its_own(
    tmp_path: Path, bad: bytes, message: str
) -> None:
    folder = write(tmp_path, (clips(*A), [A[0], b"", bad, *A[1:]]))
    dialogues, _ = read(folder)
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    (name,) = set(dialogues) - {"t_a"}
    assert name == "train_metadata_0000.jsonl:3"
    assert faults(dialogues[name]) == {0: Reason.UNREADABLE}
    fault = dialogues[name].turns[0].fault
    assert fault
    assert message in fault.detail
    assert fault.detail.startswith("line 3: ")
    for config in ("ttt", "transcription", "response"):
        summary = build_rows(folder, tmp_path / "out", config, builder=BUILDER)
        assert (summary.rows, summary.skipped) == (2 if config == "response" else 4, {"unreadable": 1})


def test_a_line_without_end_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_lines, "MAX_TEXT_BYTES", 1 << 20)
    endless = b'{"conv_id": "' + b"x" * (3 << 20)
    dialogues, _ = read(write(tmp_path, (clips(*A), [A[0], endless, *A[1:]])))
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    fault = dialogues["train_metadata_0000.jsonl:2"].turns[0].fault
    assert fault
    assert "line 2: found more than 1 MiB without a line's end" in fault.detail


def test_bytes_that_are_no_utf8_cost_their_own_turn(tmp_path: Path) -> None:
    bad = json.dumps(A[1]).encode().replace(b"Turn 1", b"Turn \xff")
    dialogues, _ = read(write(tmp_path, (clips(*A, *B), [A[0], bad, *A[2:], *B])))
    assert faults(dialogues["t_a"]) == {1: Reason.BAD_TEXT}
    assert clips_of(dialogues["t_b"]) == whole(B)["t_b"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    folder = write(tmp_path, (clips(*A), A))
    path = next(folder.rglob("*.jsonl"))
    lines = path.read_bytes().replace(b"\n", b"\r\n").splitlines(keepends=True)
    path.write_bytes(b"\xef\xbb\xbf".join([b"", *lines[:2]]) + b"".join(lines[2:]))  # files, joined
    assert clips_of(read(folder)[0]["t_a"]) == whole(A)["t_a"]


def test_texts_in_other_scripts_become_rows_as_they_are(tmp_path: Path) -> None:
    texts = ["日本語です。", "مرحبا بكم", "Привет 👋🏽", "नमस्ते"]
    lines = [line("t_日本", i, value=text) for i, text in enumerate(texts)]
    folder = write(tmp_path / "corpus", (clips(*lines), lines))
    build_rows(folder, tmp_path / "out", builder=BUILDER)
    assert [row["transcript"] for row in read_rows(tmp_path / "out")] == texts


def test_a_number_that_is_told_twice_costs_one_turn(tmp_path: Path) -> None:
    again = line("t_a", 1, audpath="t_a/t_a_9_g.wav")
    folder = write(tmp_path / "corpus", (clips(*A, again), [*A, again]))
    summary = build_rows(folder, tmp_path / "out", "transcription", builder=BUILDER)
    assert (summary.items, summary.rows, summary.skipped) == (5, 4, {"bad_number": 1})


def test_a_clip_that_two_lines_name_is_the_firsts(tmp_path: Path) -> None:
    other = B[0] | {"audpath": A[0]["audpath"]}
    dialogues, _ = read(write(tmp_path, (clips(*A, *B[1:]), [*A, other, *B[1:]])))
    assert clips_of(dialogues["t_a"]) == whole(A)["t_a"]
    assert faults(dialogues["t_b"]) == {0: Reason.METADATA_DISAGREES}
    fault = dialogues["t_b"].turns[0].fault
    assert fault
    assert "'t_a_0_b.wav', the clip of t_a, turn 0 too" in fault.detail


def test_a_metadata_file_that_can_not_be_read_is_told_and_costs_no_other(tmp_path: Path) -> None:
    folder = write(tmp_path, (clips(*A), A), (clips(*B), B))
    path = folder / "metadata/train/train_metadata_0001.jsonl"
    path.unlink()
    path.symlink_to("/etc/hostname")
    dialogues, files = read(folder)
    assert {name: clips_of(dialogue) for name, dialogue in dialogues.items()} == whole(A)
    assert [file.file for file in files] == [
        "metadata/train/train_metadata_0001.jsonl",
        "data/train/train_chunks_0001.tar.gz",
    ]
    assert "leads out of the corpus" in files[0].detail


# --- builds ---------------------------------------------------------------------------------

NUM_ARCHIVES = 6


@pytest.fixture(scope="module")
def spanning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six archives; the last conversation of each goes on in the next."""
    rng = random.Random(0)
    conversations = [[line(f"t_{i}_{j}", n) for n in range(4)] for i in range(NUM_ARCHIVES) for j in range(8)]
    lines = [entry for conversation in conversations for entry in conversation]
    pairs: list[Pair] = []
    for i in range(NUM_ARCHIVES):
        own = lines[max(0, 32 * i - 2) : 32 * i + (30 if i < NUM_ARCHIVES - 1 else 32)]
        pairs.append(([named_clip(entry, 64_000) for entry in own], rng.sample(own, len(own))))
    return write(tmp_path_factory.mktemp("spanning") / "corpus", *pairs)


@pytest.fixture(scope="module")
def undisturbed(spanning: Path) -> Mapping[str, bytes]:
    out = spanning.with_name("undisturbed")
    summary = build_rows(spanning, out, builder=BUILDER, shard_bytes=1)
    assert (summary.rows, summary.items) == (NUM_ARCHIVES * 32, NUM_ARCHIVES * 32)
    return published_files(out)


@pytest.mark.soak
@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_build_gives_the_same_bytes_again_with_any_number_of_processes(
    spanning: Path, undisturbed: Mapping[str, bytes], tmp_path: Path, num_proc: int
) -> None:
    build_rows(spanning, tmp_path / "out", builder=BUILDER, shard_bytes=1, num_proc=num_proc)
    assert published_files(tmp_path / "out") == undisturbed


@pytest.mark.soak
def test_a_build_killed_in_the_middle_ends_in_the_same_bytes(
    spanning: Path, undisturbed: Mapping[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = ForkedBuild(spanning, out, builder=BUILDER, shard_bytes=1)
    while len(list((out / ".build/ttt").glob("*.json"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.kill(group=True)
    process.communicate()
    assert published_files(out) != undisturbed
    build_rows(spanning, out, builder=BUILDER, shard_bytes=1)
    assert published_files(out) == undisturbed


_PEAK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from multidialog_ttt import MultiDialogConfig, MultiDialogReader
from speechrows.rows.curriculum import task_of
config = MultiDialogConfig(name="ttt", data_dir=sys.argv[1])
reader = MultiDialogReader(config.inputs.corpus, config, task_of("ttt"))
units = reader.units(config.inputs.listing).units
number = sum(len(dialogue.turns) for unit in units for dialogue in reader.dialogues(unit))
peak = next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l).split()[1]
print(number, peak)
"""


@pytest.mark.soak
def test_memory_grows_by_the_metadata_alone(tmp_path: Path) -> None:
    peaks: list[int] = []
    for number in (200, 4000):
        lines = [line(f"t_{i:05}", n) for i in range(number // 10) for n in range(10)]
        zeros = wav(bytes(50_000), 16000)  # 200 MB of them, packed to nothing
        folder = write(tmp_path / str(number), ([(entry["audpath"], zeros) for entry in lines], lines))
        turns, peak = map(int, run_python(_PEAK, folder, Path(BUILDER).parent).split())
        assert turns == number
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 12_000  # KiB


class Watched(Corpus):
    """A corpus that tells which archives were opened."""

    def __init__(self, folder: Path) -> None:
        super().__init__(root=str(folder))
        object.__setattr__(self, "opened", list[str]())  # Corpus is frozen

    opened: list[str]

    def open_file(self, path: str) -> Any:
        if path.endswith(".tar.gz"):
            self.opened.append(path[-11:-7])
        return super().open_file(path)


def test_a_clip_that_is_nowhere_costs_no_more_than_a_look_into_the_next_archives(tmp_path: Path) -> None:
    others: list[Pair] = [(clips(*C), C), (clips(line("t_d", 0)), [line("t_d", 0)])]
    folder = write(tmp_path, (clips(*A[:2], A[3], *B), [*A, *B]), *others)
    unit = list_units(folder).units[0]
    corpus, config = Watched(folder), MultiDialogConfig(name="ttt")
    assert len(list(MultiDialogReader(corpus, config, task_of("ttt")).dialogues(unit))) == 2
    assert corpus.opened == ["0000", "0001"]
    archive = folder / "data/train/train_chunks_0000.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-9])  # now it is known where the clip went
    corpus = Watched(folder)
    assert len(list(MultiDialogReader(corpus, config, task_of("ttt")).dialogues(unit))) == 3
    assert corpus.opened == ["0000"]


def test_a_remote_corpus_gives_the_same_rows(tmp_path: Path) -> None:
    remote = fsspec.filesystem("memory")
    for path in SAMPLE.rglob("*_0000.*"):
        remote.pipe(f"/multidialog/{path.relative_to(SAMPLE)}", path.read_bytes())
    build_rows("memory://multidialog", tmp_path / "remote", builder=BUILDER)
    build_rows(SAMPLE, tmp_path / "local", builder=BUILDER)
    assert read_rows(tmp_path / "remote") == read_rows(tmp_path / "local")
