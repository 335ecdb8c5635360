"""DailyTalk: what its four descriptions of a turn become, alone and together, whole and spoiled."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import open_reader
from toys.building import read_corpus
from toys.building import read_rows
from toys.building import read_skipped
from toys.examples import MANY
from toys.samples import SAMPLES

from dailytalk_usdm import DailyTalkConfig
from dailytalk_usdm import DailyTalkReader
from dailytalk_usdm import DailyTalkUSDM
from speechrows.corpora.clip_buffer import ClipBuffer
from speechrows.corpora.folder import Corpus
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.rows.ledger import LedgerSummary
from speechrows.rows.rows import load_clips
from speechrows.rows.tasks import TASKS
from speechrows.sidecar.columns import RECIPE
from speechrows.sidecar.columns import schema_of
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from speechrows.validation.validate import validate

SAMPLE = SAMPLES / "dailytalk"
CLIPS = {f"dailytalk/0/{i}" for i in range(4)} | {"dailytalk/1/0", "dailytalk/1/1"}
TURN = "dailytalk/0/2"  # the one that is spoiled
FOLDER, CLIP = "data/0", "data/0/2_0_d0.wav"


@pytest.fixture
def dailytalk(tmp_path: Path) -> Path:
    """A copy of the sample that a test may spoil."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "dailytalk"))


def build(data_dir: Path, out: Path, config: str = "transcription", **options: Any) -> LedgerSummary:
    return build_rows(data_dir, out, config, builder="dailytalk_usdm", **options)


def built(
    data_dir: Path, out: Path, config: str = "transcription", **options: Any
) -> dict[str, dict[str, Any]]:
    build(data_dir, out, config, **options)
    return {row["clip_id"]: row for row in read_rows(out, config)}


def read(folder: Path, **options: Any) -> list[Dialogue | UnreadableFile]:
    return read_corpus(DailyTalkUSDM, folder, **options)


def dialogues(folder: Path, **options: Any) -> list[Dialogue]:
    return [dialogue for dialogue in read(folder, **options) if isinstance(dialogue, Dialogue)]


def load(folder: Path, task: str = "transcription") -> tuple[set[str], list[dict[str, Any]]]:
    """The clips that become rows, and the lines of skipped.jsonl, without a tokenizer: a build is slower."""
    buffer, lines, clips = ClipBuffer(Corpus.open(str(folder)), 1 << 20), list[dict[str, Any]](), set[str]()
    for dialogue in read(folder):
        if isinstance(dialogue, UnreadableFile):
            line = {"clip_id": None, "reason": "unreadable", "detail": dialogue.detail, "file": dialogue.file}
            lines.append(line)
            continue
        loaded = load_clips(dialogue, TASKS[task], buffer)
        clips |= {item.clip_id for item in loaded.items}
        lines += [asdict(skipped) for skipped in loaded.skipped]
    return clips, lines


def texts(folder: Path, **options: Any) -> list[str]:
    return [turn.text for dialogue in dialogues(folder, **options) for turn in dialogue.turns]


def metadata(folder: Path, change: Callable[[Any], None]) -> None:
    path = folder / "metadata.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def units(folder: Path, clip_ids: set[str] = CLIPS) -> str:
    """Units of clips, as `speechrows generate units` writes them; the fourth tells clips apart."""
    lines = [{"clip_id": clip_id, "units": [9999, 7, 7, i, 0]} for i, clip_id in enumerate(sorted(clip_ids))]
    recipe = {RECIPE: json.dumps({"kind": "units", "codec": "xlsr2_1b_v2_10k"}).encode()}
    folder.mkdir()
    table = pa.Table.from_pylist(lines, schema=schema_of("units").with_metadata(recipe))
    pq.write_table(table, folder / "part-00000.parquet")
    return str(folder)


# --- what is published ----------------------------------------------------------------------


def test_the_sample_gives_its_turns_in_order_each_in_the_split_of_its_list(tmp_path: Path) -> None:
    summary = build(SAMPLE, tmp_path, "ttt")
    assert (summary.items, summary.rows, summary.skipped, summary.left_out) == (6, 6, {}, {})
    record = json.loads((SAMPLE / "metadata.json").read_text())
    rows = read_rows(tmp_path)
    assert {row["clip_id"] for row in rows} == CLIPS
    for row in rows:
        _, dialogue, turn = row["clip_id"].split("/")
        entry = record[dialogue][turn]
        clip = SAMPLE / f"data/{dialogue}/{turn}_{entry['speaker']}_d{dialogue}.wav"
        assert row["audio"] == {"bytes": clip.read_bytes(), "path": clip.name}
        assert row["sampling_rate"] == {"0": 24_000, "1": 44_100}[dialogue]
        assert row["transcript"] == entry["text"]
        assert (row["speaker"], row["gender"]) == (
            str(entry["speaker"]),
            ("male", "female")[entry["speaker"]],
        )
        assert (row["role"], row["turn_number"]) == (("user", "assistant")[int(turn) % 2], int(turn))
        assert (row["emotion"], row["domain"]) == (None, "ordinary life")
        assert row["row_id"].split("/")[1] == {"0": "train", "1": "test"}[dialogue]
    assert validate(str(tmp_path)).ok


@pytest.mark.parametrize("config", ["response", "transcription"])
def test_other_tasks_are_built_and_valid(tmp_path: Path, config: str) -> None:
    rows = built(SAMPLE, tmp_path, config)
    assert len(rows) == {"response": 3, "transcription": 6}[config]
    assert validate(str(tmp_path)).ok
    if config == "response":
        assert rows["dailytalk/1/0"]["messages"][1]["content"] == "No, it is free for students."
        assert rows["dailytalk/1/0"]["target_audio"]["path"] == "1_1_d1.wav"


def test_usdm_pairs_every_two_turns_that_follow_one_another(tmp_path: Path) -> None:
    summary = build(SAMPLE, tmp_path / "rows", "usdm", generated=(units(tmp_path / "units"),))
    assert summary.left_out == {"no_answer": 2}
    rows = {row["clip_id"]: row for row in read_rows(tmp_path / "rows", "usdm")}
    assert sorted(rows) == ["dailytalk/0/0", "dailytalk/0/1", "dailytalk/0/2", "dailytalk/1/0"]
    row = rows["dailytalk/0/1"]  # of speaker 1, heard as a user here
    assert row["text"] == (
        "Below is a conversation between the user and the agent. Each turn includes the user's speech and "
        "its corresponding transcript, along with the agent's response text and the corresponding speech.\n"
        "\n### User\n<|unit9999|><|unit7|><|unit7|><|unit1|><|unit0|><|correspond|>"
        "i run along the river every morning.\n"
        "### Agent\neven when it rains?<|correspond|>"
        "<|unit9999|><|unit7|><|unit7|><|unit2|><|unit0|>\n<|end|>"
    )
    assert (row["codec"], row["codec_targets"]) == ("xlsr2_1b_v2_10k", [[9999, 7, 7, 2, 0]])
    assert (row["speaker"], row["audio"]["path"], row["target_audio"]["path"]) == (
        "1", "1_1_d0.wav", "2_0_d0.wav",
    )  # fmt: skip
    assert row["transcript"] == "I run along the river every morning."
    report = validate(str(tmp_path / "rows"))
    assert report.ok, report


def test_as_published_usdm_rows_are_not_taught_to_end(tmp_path: Path) -> None:
    columns = units(tmp_path / "units")
    taught = built(SAMPLE, tmp_path / "taught", "usdm", generated=(columns,))
    published = built(SAMPLE, tmp_path / "published", "usdm", generated=(columns,), supervise_eos=False)
    for clip_id, row in taught.items():
        assert published[clip_id]["input_ids"] == row["input_ids"]
        assert published[clip_id]["labels"] == [*row["labels"][:-2], -100, -100]
        assert row["labels"][-2:] == row["input_ids"][-2:]
    assert validate(str(tmp_path / "published")).ok


def test_usdm_without_units_stops_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generate units"):
        build(SAMPLE, tmp_path, "usdm")


def test_clips_without_units_are_left_out(tmp_path: Path) -> None:
    columns = units(tmp_path / "units", CLIPS - {TURN})
    summary = build(SAMPLE, tmp_path / "rows", "usdm", generated=(columns,))
    assert (summary.rows, summary.left_out) == (2, {"no_answer": 2, "no_codes": 2})


def test_a_dialogue_in_which_a_speaker_talks_twice_is_left_out_of_usdm_alone(
    dailytalk: Path, tmp_path: Path
) -> None:
    for name, speaker in (("2_0_d0", 1), ("3_1_d0", 0)):
        for suffix in ("wav", "txt"):
            path = dailytalk / f"{FOLDER}/{name}.{suffix}"
            path.rename(path.with_name(f"{name[0]}_{speaker}_d0.{suffix}"))
        metadata(dailytalk, lambda record, turn=name[0], who=speaker: record["0"][turn].update(speaker=who))
    (dailytalk / "train.txt").unlink()
    columns = units(tmp_path / "units")
    summary = build(dailytalk, tmp_path / "rows", "usdm", generated=(columns,))
    assert (summary.rows, summary.left_out) == (1, {"no_answer": 2, "same_speaker_twice": 3})
    assert len(built(dailytalk, tmp_path / "plain", "ttt")) == 6


# --- four descriptions of one turn ----------------------------------------------------------


def test_a_text_is_that_of_metadata_else_of_its_file_else_of_its_list(dailytalk: Path) -> None:
    expected = texts(SAMPLE)
    (dailytalk / CLIP).with_suffix(".txt").write_text("What the file says.\n")
    assert texts(dailytalk) == expected
    (dailytalk / "metadata.json").unlink()
    assert texts(dailytalk) == [*expected[:2], "What the file says.", *expected[3:]]
    for path in dailytalk.rglob("*_d*.txt"):
        path.unlink()
    assert texts(dailytalk) == [text.lower() for text in expected]


def test_without_metadata_a_dialogue_is_the_same_but_for_its_topic(dailytalk: Path) -> None:
    (dailytalk / "metadata.json").unlink()
    ours, theirs = dialogues(dailytalk), dialogues(SAMPLE)
    assert [(dialogue.turns, dialogue.split) for dialogue in ours] == [
        (dialogue.turns, dialogue.split) for dialogue in theirs
    ]
    assert [dialogue.domain for dialogue in ours] == [None, None]


def test_clips_alone_are_enough_to_find_dialogues_but_not_what_is_said(
    dailytalk: Path,
) -> None:
    for path in [*dailytalk.glob("*.*"), *dailytalk.rglob("*_d*.txt")]:
        path.unlink()
    assert texts(dailytalk) == [""] * 6
    assert [line["reason"] for line in load(dailytalk)[1]] == ["empty_text"] * 6


@pytest.mark.parametrize(
    ("raw", "emotion"), [("happiness", "happy"), ("no emotion", None), ("none", None), ("puce", None)]
)
def test_emotions_are_ours_by_metadata_else_by_the_list_and_others_are_told(
    dailytalk: Path, raw: str, emotion: str | None
) -> None:
    metadata(dailytalk, lambda record: record["0"]["2"].update(emotion=raw))
    turn = dialogues(dailytalk)[0].turns[2]
    assert (turn.traits.emotion, turn.traits.unknown) == (emotion, ("emotion: puce",) * (raw == "puce"))
    (dailytalk / "metadata.json").unlink()
    lines = (dailytalk / "train.txt").read_text().replace("rains?|none", f"rains?|{raw}")
    (dailytalk / "train.txt").write_text(lines)
    assert dialogues(dailytalk)[0].turns[2].traits.emotion == emotion


def test_whoever_speaks_first_is_the_user_and_roles_may_be_swapped(dailytalk: Path) -> None:
    shutil.rmtree(dailytalk / "data/1")
    for turn, speaker in enumerate([1, 0, 1, 0]):
        for suffix in ("wav", "txt"):
            path = dailytalk / f"data/0/{turn}_{1 - speaker}_d0.{suffix}"
            path.rename(path.with_name(f"{turn}_{speaker}_d0.{suffix}"))
    for name in ("metadata.json", "train.txt", "test.txt"):
        (dailytalk / name).unlink()
    (dialogue,) = dialogues(dailytalk)
    assert [(turn.speaker, turn.role) for turn in dialogue.turns] == [("1", "user"), ("0", "assistant")] * 2
    (dialogue,) = dialogues(dailytalk, swap_roles=True)
    assert [turn.role for turn in dialogue.turns] == ["assistant", "user"] * 2


def test_lists_have_their_published_names_too(dailytalk: Path) -> None:
    (dailytalk / "train.txt").rename(dailytalk / "train_phone.txt")
    (dailytalk / "test.txt").rename(dailytalk / "val_phone.txt")
    assert dialogues(dailytalk) == dialogues(SAMPLE)
    (dailytalk / "usdm").mkdir()
    (dailytalk / "usdm/train.txt").write_text("1 2 3|-100 2 3")  # what an export wrote is not the list
    assert read(dailytalk) == dialogues(SAMPLE)


def test_without_lists_all_is_train_and_validation_is_a_share_of_it(dailytalk: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (dailytalk / f"{split}.txt").unlink()
    assert [(dialogue.split, dialogue.twin_key) for dialogue in dialogues(dailytalk)] == [
        ("train", "0"),
        ("train", "1"),
    ]
    rows = built(dailytalk, tmp_path / "rows", validation_fraction=0.999)
    assert {row["row_id"].split("/")[1] for row in rows.values()} == {"validation"}


def test_dialogues_of_the_lists_never_move_to_validation(tmp_path: Path) -> None:
    rows = built(SAMPLE, tmp_path, validation_fraction=0.999)
    assert {row["row_id"].split("/")[1] for row in rows.values()} == {"train", "test"}


def test_a_dialogue_in_no_list_is_train_and_with_as_listed_left_out(dailytalk: Path, tmp_path: Path) -> None:
    (dailytalk / "test.txt").unlink()
    rows = built(dailytalk, tmp_path / "all")
    assert {row["row_id"].split("/")[1] for row in rows.values()} == {"train"}
    assert set(rows) == CLIPS
    assert len(built(dailytalk, tmp_path / "listed", as_listed=True)) == 4
    _, listing = open_reader(DailyTalkUSDM, dailytalk, as_listed=True)
    assert (
        listing.contents
        == "2 dialogues in data, 2 in metadata.json, 1 in train.txt; 1 in no list are left out"
    )


def test_a_dialogue_in_both_lists_is_train_as_in_usdm(dailytalk: Path) -> None:
    (dailytalk / "train.txt").write_text(
        (SAMPLE / "train.txt").read_text() + (SAMPLE / "test.txt").read_text()
    )
    (dailytalk / "test.txt").write_text((SAMPLE / "train.txt").read_text())
    assert [dialogue.split for dialogue in dialogues(dailytalk)] == ["train", "train"]


def test_as_listed_texts_are_the_lists(dailytalk: Path, tmp_path: Path) -> None:
    lines = (dailytalk / "train.txt").read_text()
    (dailytalk / "train.txt").write_text(lines.replace("even when", "even though"))
    rows = built(dailytalk, tmp_path / "rows", as_listed=True)
    assert rows[TURN]["transcript"] == "even though it rains?"
    for split in ("train", "test"):
        (dailytalk / f"{split}.txt").unlink()
    with pytest.raises(UsageError, match=r"expected train.txt and train_phone.txt"):
        build(dailytalk, tmp_path / "no-lists", as_listed=True)


def test_a_turn_without_a_line_is_a_fault_where_only_lists_count(dailytalk: Path) -> None:
    path = dailytalk / "train.txt"
    path.write_text("".join(line for line in path.open() if not line.startswith("2_0_d0")))
    assert all(turn.fault is None for dialogue in dialogues(dailytalk) for turn in dialogue.turns)
    faults = [turn.fault for turn in dialogues(dailytalk, as_listed=True)[0].turns]
    assert [fault is None for fault in faults] == [True, True, False, True]
    assert faults[2] is not None
    assert faults[2].detail == "found no line in the phone lists, expected one a turn"


def test_the_folder_above_or_data_itself_may_be_given_and_copies_are_not_read(dailytalk: Path) -> None:
    expected = [(dialogue.conversation_id, len(dialogue.turns)) for dialogue in dialogues(SAMPLE)]
    shutil.copytree(dailytalk / "data", dailytalk / "data_16k")
    for folder in (dailytalk, dailytalk.parent, dailytalk / "data"):
        assert [(dialogue.conversation_id, len(dialogue.turns)) for dialogue in dialogues(folder)] == expected
    (dailytalk / "data").rename(dailytalk / "data_24k")
    with pytest.raises(UsageError, match="found dialogues in data_16k, data_24k; expected one folder"):
        dialogues(dailytalk)


def test_shards_of_one_dialogue_give_the_same_rows(tmp_path: Path) -> None:
    single, many = tmp_path / "one", tmp_path / "many"
    build(SAMPLE, single, "ttt")
    build(SAMPLE, many, "ttt", shard_bytes=1)
    assert len(list(many.rglob("data/**/*.parquet"))) == 2
    assert read_rows(single) == read_rows(many)


# --- bad input ------------------------------------------------------------------------------


def no_clip(folder: Path) -> None:
    (folder / CLIP).unlink()


def cut_clip(folder: Path) -> None:
    (folder / CLIP).write_bytes((folder / CLIP).read_bytes()[:956])


def empty_clip(folder: Path) -> None:
    (folder / CLIP).write_bytes(b"")


def other_bytes(folder: Path) -> None:
    (folder / CLIP).write_bytes(b"<html>not found</html>" * 99)


def second_clip(folder: Path) -> None:
    shutil.copy(folder / CLIP, folder / "data/0/2_0_d0.flac")


def clip_of_another_dialogue(folder: Path) -> None:
    (folder / CLIP).rename(folder / "data/0/2_0_d1.wav")


def clip_of_another_speaker(folder: Path) -> None:
    (folder / CLIP).rename(folder / "data/0/2_1_d0.wav")


def clip_symlink_out(folder: Path) -> None:
    (folder / CLIP).rename(folder.parent / "secret.wav")
    (folder / CLIP).symlink_to(folder.parent / "secret.wav")


def text_symlink_out(folder: Path) -> None:
    metadata(folder, lambda record: record["0"]["2"].pop("text"))
    path = (folder / CLIP).with_suffix(".txt")
    path.rename(folder.parent / "secret.txt")
    path.symlink_to(folder.parent / "secret.txt")


def text_of_latin_1(folder: Path) -> None:
    metadata(folder, lambda record: record["0"]["2"].pop("text"))
    (folder / CLIP).with_suffix(".txt").write_bytes("Même quand il pleut ?".encode("latin-1"))


def list_of_another_speaker(folder: Path) -> None:
    path = folder / "train.txt"
    path.write_text(path.read_text().replace("2_0_d0|0|", "2_0_d0|1|"))


def metadata_says(**values: Any) -> Callable[[Path], None]:
    """Change keys of the spoiled turn."""
    return lambda folder: metadata(folder, lambda record: record["0"]["2"].update(values))


def metadata_is(value: Any) -> Callable[[Path], None]:
    return lambda folder: metadata(folder, lambda record: record["0"].update({"2": value}))


def twice_in_metadata(folder: Path) -> None:
    text = (folder / "metadata.json").read_text()
    entry = json.dumps(json.loads(text)["0"]["2"])
    (folder / "metadata.json").write_text(text.replace('"3": {', f'"2": {entry}, "3": {{', 1))


def number_without_end(folder: Path) -> None:
    path = folder / "metadata.json"
    metadata_says(text=424242)(folder)
    path.write_text(path.read_text().replace("424242", "9" * 5000))


SPOILED = [
    (number_without_end, "bad_text", "found text inf"),
    (no_clip, "missing", "found none, expected one clip 0/2_<speaker>_d0.wav"),
    (cut_clip, "truncated", "956 bytes"),
    (empty_clip, "empty", ""),
    (other_bytes, "undecodable", ""),
    (second_clip, "bad_number", "found 2_0_d0.flac, 2_0_d0.wav, expected one clip"),
    (clip_of_another_dialogue, "missing", "found none, expected one clip"),
    (
        clip_of_another_speaker,
        "metadata_disagrees",
        "'0' by metadata.json, '1' by the file name, '0' by the list",
    ),
    (list_of_another_speaker, "metadata_disagrees", "'1' by the list; expected one and the same"),
    (clip_symlink_out, "refused_path", "symlink"),
    (text_symlink_out, "refused_path", "symlink"),
    (text_of_latin_1, "bad_text", "expected a string of UTF-8"),
    (metadata_says(text=7), "bad_text", "found text 7"),
    (metadata_says(speaker="narrator"), "metadata_disagrees", "'narrator' by metadata.json"),
    (metadata_says(speaker=None), None, ""),
    (metadata_says(speaker={"a": 1}), "metadata_disagrees", "by metadata.json"),
    (metadata_says(emotion=7), None, ""),
    (metadata_says(emotion="\ud800"), None, ""),
    (metadata_says(topic=7), None, ""),
    (metadata_says(text=""), None, ""),
    (metadata_says(text=" \n"), "empty_text", ""),
    (metadata_is("Even when it rains?"), "metadata_disagrees", "expected an object with speaker and text"),
    (metadata_is([]), "metadata_disagrees", "found [] in metadata.json"),
    (metadata_is(None), None, ""),
]


@pytest.mark.parametrize(("spoil", "reason", "detail"), SPOILED)
def test_a_spoiled_turn_costs_itself_alone_and_says_why(
    dailytalk: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str | None, detail: str
) -> None:
    spoil(dailytalk)
    rows, lines = load(dailytalk)
    assert rows == (CLIPS - {TURN} if reason else CLIPS)
    assert [(line["clip_id"], line["reason"]) for line in lines] == ([(TURN, reason)] if reason else [])
    for line in lines:
        assert detail in line["detail"]
        assert str(tmp_path) not in str(line)
        assert (dailytalk / line["file"]).exists() or reason == "missing"


def test_a_spoiled_turn_costs_ttt_its_dialogue_and_usdm_its_two_pairs(
    dailytalk: Path, tmp_path: Path
) -> None:
    cut_clip(dailytalk)
    assert set(built(dailytalk, tmp_path / "ttt", "ttt")) == {"dailytalk/1/0", "dailytalk/1/1"}
    rows = built(dailytalk, tmp_path / "usdm", "usdm", generated=(units(tmp_path / "units"),))
    assert set(rows) == {"dailytalk/0/0", "dailytalk/1/0"}
    skipped = [(line["clip_id"], line["reason"]) for line in read_skipped(tmp_path / "usdm")]
    assert skipped == [("dailytalk/0/1", "truncated"), (TURN, "truncated")]


def test_turns_around_a_gap_are_no_pair(dailytalk: Path, tmp_path: Path) -> None:
    for path in (dailytalk / FOLDER).glob("2_0_*"):
        path.unlink()
    metadata(dailytalk, lambda record: record["0"].pop("2"))
    path = dailytalk / "train.txt"
    path.write_text("".join(line for line in path.open() if not line.startswith("2_0_d0")))
    rows = built(dailytalk, tmp_path / "usdm", "usdm", generated=(units(tmp_path / "units"),))
    assert set(rows) == {"dailytalk/0/0", "dailytalk/1/0"}
    assert set(built(dailytalk, tmp_path / "plain")) == CLIPS - {TURN}
    (line,) = read_skipped(tmp_path / "plain")
    assert (line["clip_id"], line["reason"]) == (TURN, "bad_number")
    assert line["detail"] == "found turn 3, and nothing of this one; expected turns from 0 without a gap"
    assert set(built(dailytalk, tmp_path / "ttt", "ttt")) == {"dailytalk/1/0", "dailytalk/1/1"}


def test_a_turn_that_metadata_tells_twice_is_one_row_and_one_fault(dailytalk: Path) -> None:
    twice_in_metadata(dailytalk)
    rows, (line,) = load(dailytalk)
    assert rows == CLIPS
    assert (line["clip_id"], line["reason"]) == (TURN, "bad_number")


@pytest.mark.parametrize("key", ["two", "-1", "2.5", "../2", "", "4000000"])
def test_a_turn_whose_number_is_none_costs_itself_alone(dailytalk: Path, key: str) -> None:
    metadata(dailytalk, lambda record: record["0"].update({key: record["0"]["3"]}))
    rows, (line,) = load(dailytalk)
    assert rows == CLIPS
    assert line["reason"] == "bad_number"
    assert (key or "''") in line["detail"]


def test_a_folder_that_is_a_symlink_is_refused(dailytalk: Path, tmp_path: Path) -> None:
    (dailytalk / FOLDER).rename(tmp_path / "elsewhere")
    (dailytalk / FOLDER).symlink_to(tmp_path / "elsewhere")
    rows, lines = load(dailytalk)
    assert rows == {"dailytalk/1/0", "dailytalk/1/1"}
    assert [(line["clip_id"], line["reason"]) for line in lines] == [
        (f"dailytalk/0/{i}", "refused_path") for i in range(4)
    ]


def test_two_folders_of_one_number_cost_the_turns_that_both_have(dailytalk: Path) -> None:
    (dailytalk / "data/01").mkdir()
    (dailytalk / "data/1/1_1_d1.wav").rename(dailytalk / "data/01/1_1_d1.wav")
    assert load(dailytalk) == (CLIPS, [])
    shutil.copy(dailytalk / "data/1/0_0_d1.wav", dailytalk / "data/01/0_0_d1.wav")
    clips, lines = load(dailytalk)
    assert clips == CLIPS - {"dailytalk/1/0"}
    assert [(line["clip_id"], line["reason"]) for line in lines] == [("dailytalk/1/0", "bad_number")]


def test_a_dialogue_without_a_folder_is_missing(dailytalk: Path) -> None:
    shutil.rmtree(dailytalk / FOLDER)
    assert [line["reason"] for line in load(dailytalk)[1]] == ["missing"] * 4


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "JSONDecodeError"),
        (b'{"0": {"0": {"speaker": 0, "te', "JSONDecodeError"),
        (b"[]", "JSON of another kind"),
        (b'"hello"', "JSON of another kind"),
        (b"[" * 100_000, "RecursionError"),
        (b"\xff\xfe{}", "JSONDecodeError"),
    ],
)
def test_broken_metadata_stops_before_anything_is_built(
    dailytalk: Path, tmp_path: Path, data: bytes, words: str
) -> None:
    (dailytalk / "metadata.json").write_bytes(data)
    with pytest.raises(UsageError, match=r"metadata.json: found") as error:
        build(dailytalk, tmp_path / "rows")
    assert words in str(error.value)
    assert "Download it again, or remove it" in str(error.value)
    assert not (tmp_path / "rows/data").exists()


def test_metadata_that_is_a_symlink_out_is_refused(dailytalk: Path, tmp_path: Path) -> None:
    (dailytalk / "metadata.json").rename(tmp_path / "metadata.json")
    (dailytalk / "metadata.json").symlink_to(tmp_path / "metadata.json")
    with pytest.raises(UsageError, match="symlink"):
        build(dailytalk, tmp_path / "rows")


def test_dialogues_that_metadata_can_not_tell_are_read_without_it(dailytalk: Path, tmp_path: Path) -> None:
    def spoil(record: Any) -> None:
        record.update({"0": "none", "../1": record["0"], "seven": {}})

    metadata(dailytalk, spoil)
    rows = built(dailytalk, tmp_path / "rows", shard_bytes=1)
    assert set(rows) == CLIPS
    assert rows[TURN]["transcript"] == "Even when it rains?"
    lines = read_skipped(tmp_path / "rows")
    assert [line["clip_id"] for line in lines] == [None] * 3
    details = " ".join(line["detail"] for line in lines)
    for words in ("dialogue 0, a str", "dialogue '../1'", "dialogue 'seven'"):
        assert words in details


def test_a_list_without_one_sound_line_stops_before_its_dialogues_become_train(dailytalk: Path) -> None:
    test = dailytalk / "test.txt"
    test.write_bytes(test.read_text("utf-8").encode("utf-16"))
    with pytest.raises(UsageError, match=r"test\.txt: found ValueError: found \d bad lines, first line 1"):
        read(dailytalk)


def test_lines_of_a_list_that_are_none_are_told_once_and_cost_nothing(
    dailytalk: Path, tmp_path: Path
) -> None:
    lines = (dailytalk / "train.txt").read_text()
    bad = "\nhello\n../0_0_d0|0|{}|x|none\n2_0_d0|0|{HH}|too few\n\n\udc80|||\n"
    (dailytalk / "train.txt").write_text(bad + lines, errors="surrogateescape")
    assert set(built(dailytalk, tmp_path / "rows", shard_bytes=1)) == CLIPS
    (line,) = read_skipped(tmp_path / "rows")
    assert (line["clip_id"], line["file"]) == (None, "train.txt")
    assert line["detail"] == (
        "found 4 bad lines, first line 2, 'hello'; expected name|speaker|phones|text|emotion"
    )


def test_too_many_faults_fail_the_build(dailytalk: Path, tmp_path: Path) -> None:
    cut_clip(dailytalk)
    with pytest.raises(ShortfallError):
        build(dailytalk, tmp_path / "rows", max_skipped=0.05)


def test_other_scripts_and_marks_are_kept(dailytalk: Path, tmp_path: Path) -> None:
    texts = ["日本語です。", "¿QUÉ?", "😀 مرحبا", "<|correspond|> <audio> {answer}", "a|b", "e\u0301"]

    def say(record: Any) -> None:
        for turn, text in zip([*record["0"].values(), *record["1"].values()], texts, strict=True):
            turn["text"] = text

    metadata(dailytalk, say)
    rows = built(dailytalk, tmp_path / "rows", "usdm", generated=(units(tmp_path / "units"),))
    assert len(rows) == 4
    for clip_id, row in rows.items():
        at = 4 * int(clip_id.split("/")[1]) + int(clip_id.split("/")[2])
        transcript, agent = (unicodedata.normalize("NFC", text) for text in texts[at : at + 2])
        assert row["transcript"] == transcript
        assert f"<|correspond|>{transcript.lower()}\n### Agent\n{agent.lower()}<|correspond|>" in row["text"]
    assert validate(str(tmp_path / "rows")).ok


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["0", "1", "2", "7", "x", "text", "speaker", "emotion", "topic"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@MANY
def test_whatever_metadata_says_dialogues_stay_in_order_and_every_turn_is_sound_or_faulty(value: Any) -> None:
    class Spoiled(Corpus):
        def read(self, path: str, *limits: Any) -> bytes:
            return json.dumps(value).encode() if path == "metadata.json" else super().read(path, *limits)

    corpus = Spoiled(root=str(SAMPLE))
    reader = DailyTalkReader(corpus, DailyTalkConfig(name="transcription"), TASKS["transcription"])
    try:
        units = reader.units(corpus.list()).units
    except UsageError:
        assert not isinstance(value, dict)
        return
    read = [dialogue for unit in units for dialogue in reader.dialogues(unit)]
    sound = [dialogue for dialogue in read if isinstance(dialogue, Dialogue)]
    assert {"dailytalk/0", "dailytalk/1"} <= {dialogue.conversation_id for dialogue in sound}
    for dialogue in sound:
        numbers = [turn.number for turn in dialogue.turns]
        assert numbers == sorted(numbers)
        for turn in dialogue.turns:
            assert turn.fault or (turn.speaker in "01" and turn.role and turn.audio and turn.text is not None)
            assert turn.text == turn.text.encode(errors="ignore").decode()
    paths = {turn.audio.path for dialogue in sound for turn in dialogue.turns if turn.audio}
    assert all(np.char.endswith(sorted(paths), ".wav")) if paths else True
