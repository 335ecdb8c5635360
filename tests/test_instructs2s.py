"""InstructS2S-200K, packed and unpacked: its records, its units, and every fault that each can have."""

import gzip
import io
import json
import random
import shutil
import tarfile
import time
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from huggingface_hub import HfApi
from toys.audio import wav
from toys.build_process import ForkedBuild
from toys.building import build_rows
from toys.building import plain
from toys.building import published_files
from toys.building import read_rows
from toys.building import read_skipped
from toys.mini_hub import MiniHub

from instructs2s_ttt import InstructS2STTT
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Reader
from speechrows.errors import UsageError
from speechrows.rows.curriculum import task_of
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from speechrows.validation.validate import validate

SAMPLE = Path(__file__).parents[1] / "samples" / "instructs2s-200k"
JSON = "instruct_en_200k_data_cosy2.json"
RECORDS = json.loads((SAMPLE / JSON).read_text())
NAME = "instructs2s_ttt"
Found = list[Dialogue | UnreadableFile]


def members_of(folder: Path) -> dict[str, bytes]:
    """The files of a packed corpus, by name."""
    whole = b"".join(path.read_bytes() for path in sorted(folder.glob("en_part_*")))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # pyright: ignore


CLIPS = members_of(SAMPLE)


def pack(folder: Path, clips: Sequence[tuple[str | tarfile.TarInfo, bytes]], slices: int = 2) -> Path:
    """Write clips as byte slices of one tar.gz."""
    packed = io.BytesIO()
    zipped = gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=1)
    with zipped, tarfile.open(fileobj=zipped, mode="w|") as tar:
        for name, data in clips:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    whole, size = packed.getvalue(), -(-len(packed.getvalue()) // slices)
    for i in range(slices):
        (folder / f"en_part_{i:02}").write_bytes(whole[i * size : (i + 1) * size])
    return folder


def corpus_of(
    folder: Path, records: Any = RECORDS, clips: Any = None, *, packed: bool = True, text: str | None = None
) -> Path:
    """A corpus of a JSON and clips, by default the sample's."""
    folder.mkdir(parents=True)
    (folder / JSON).write_text(json.dumps(records, indent=2) if text is None else text, "utf-8")
    clips = CLIPS if clips is None else clips
    if packed:
        return pack(folder, list(clips.items()) if isinstance(clips, dict) else clips)
    for name, data in clips.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def record(number: int | str, turns: int = 2, **more: Any) -> dict[str, Any]:
    """A record in the published form; its clips are `<id>-<turn>.wav`."""
    name = number if isinstance(number, str) else f"{number:06}"
    return {
        "id": name,
        "conversation": [
            {
                "from": ("human", "gpt")[i % 2],
                "text": f"{name} says {i}",
                "speech": f"instructs2s_200k/en/wav/{name}-{i}.wav",
                "unit": [i, 6560],
                **more,
            }
            for i in range(turns)
        ],
    }


def clips_of(records: Sequence[dict[str, Any]], samples: int = 1600) -> dict[str, bytes]:
    """A clip for every turn, each of its own bytes."""
    paths = [turn["speech"] for record in records for turn in record["conversation"]]
    return {path: wav(random.Random(path).randbytes(2 * samples), 16000) for path in paths}


def open_corpus(
    folder: Path | str, config: str = "ttt", *, shard_bytes: int = 1 << 30, **options: Any
) -> tuple[Reader[Any], Listing[Any]]:
    """A reader of a corpus, and what it lists there."""
    chosen: Any = InstructS2STTT.BUILDER_CONFIG_CLASS(name=config, data_dir=str(folder), **options)
    chosen.shard_bytes = shard_bytes
    reader = InstructS2STTT.READER(chosen.inputs.corpus, chosen, task_of(config))
    return reader, reader.units(chosen.inputs.listing)


def read(folder: Path | str, config: str = "ttt", **options: Any) -> Found:
    reader, listing = open_corpus(folder, config, **options)
    return [dialogue for unit in listing.units for dialogue in reader.dialogues(unit)]


def dialogues(folder: Path | str, **options: Any) -> list[Dialogue]:
    return [dialogue for dialogue in read(folder, **options) if isinstance(dialogue, Dialogue)]


def facts(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """What must not depend on how the clips are stored."""
    return {row["row_id"]: tuple(v for k, v in sorted(row.items()) if k != "source") for row in rows}


def both(tmp_path: Path, config: str, records: Any = RECORDS, clips: Any = None) -> list[tuple[Any, Any]]:
    """Rows and skipped lines of a corpus, packed and unpacked."""
    outcomes: list[tuple[Any, Any]] = []
    for packed in (True, False):
        corpus = corpus_of(tmp_path / str(packed) / "corpus", records, clips, packed=packed)
        out = tmp_path / f"{packed}-{config}"
        summary = build_rows(corpus, out, config, builder=NAME)
        rows, lines = read_rows(out, config), read_skipped(out)
        assert summary.items == len(rows) + len([x for x in lines if x["clip_id"]]) + sum(
            summary.left_out.values()
        )
        outcomes.append((rows, {(line["clip_id"], line["reason"]): line["detail"] for line in lines}))
    return outcomes


def test_the_sample_gives_its_6_turns_with_the_bytes_of_the_archive(tmp_path: Path) -> None:
    summary = build_rows(SAMPLE, tmp_path, builder=NAME)
    assert (summary.items, summary.rows, summary.skipped) == (6, 6, {})
    rows = read_rows(tmp_path)
    records = [(record["id"], i, turn) for record in RECORDS for i, turn in enumerate(record["conversation"])]
    for row, (name, i, turn) in zip(rows, records, strict=True):
        assert row["clip_id"] == f"instructs2s-200k/{name}/{i}"
        assert (row["transcript"], row["speaker"]) == (turn["text"], turn["from"])
        assert row["role"] == {"human": "user", "gpt": "assistant"}[turn["from"]]
        assert row["audio"]["bytes"] == CLIPS[turn["speech"]]
        assert row["source"] == f"instructs2s-200k/en_part_00/{turn['speech']}"
    report = validate(str(tmp_path))
    assert report.ok, str(report)


@pytest.mark.parametrize("config", ["ttt", "transcription", "response"])
def test_packed_and_unpacked_give_the_same_rows(tmp_path: Path, config: str) -> None:
    (packed, _), (unpacked, _) = both(tmp_path, config)
    assert facts(packed) == facts(unpacked)
    assert len(packed) == {"ttt": 6, "transcription": 6, "response": 3}[config]


def test_a_users_turn_is_answered_by_the_next_of_gpt_with_its_speech_and_units(tmp_path: Path) -> None:
    build_rows(SAMPLE, tmp_path, "response", builder=NAME)
    rows = read_rows(tmp_path, "response")
    turns = [turn for record in RECORDS for turn in record["conversation"]]
    for row, user, answer in zip(rows, turns[::2], turns[1::2], strict=True):
        assert (row["transcript"], row["messages"][1]["content"]) == (user["text"], answer["text"])
        assert row["audio"]["bytes"] == CLIPS[user["speech"]]
        assert row["target_audio"]["bytes"] == CLIPS[answer["speech"]]
        assert (row["codec"], row["codec_targets"]) == ("cosyvoice2", [answer["unit"]])


@pytest.mark.parametrize("config", ["sift_s", "sift_ssp", "sit_ssp", "s2s_mimi"])
def test_configs_that_need_generated_columns_say_so(tmp_path: Path, config: str) -> None:
    with pytest.raises(UsageError, match="generate"):
        build_rows(SAMPLE, tmp_path, config, builder=NAME)


def test_every_stage_is_the_same_build_as_ttt(tmp_path: Path) -> None:
    for config in ("stage_1", "stage_4", "ttt"):
        assert build_rows(SAMPLE, tmp_path, config, builder=NAME).rows == 6


def test_what_was_found_is_said_and_whether_it_builds_in_parallel(tmp_path: Path) -> None:
    def listed(folder: Path) -> tuple[str, list[bool]]:
        _, listing = open_corpus(folder)
        return listing.contents, [unit.in_stream for unit in listing.units]

    words, streams = listed(SAMPLE)
    assert words == (
        f"2 conversations of 2 records in {JSON}; one archive in 2 files, read as one stream by one "
        "process (unpacked, the corpus builds in parallel)"
    )
    assert streams == [True]
    words, streams = listed(corpus_of(tmp_path / "unpacked", packed=False))
    assert words == f"2 conversations of 2 records in {JSON}; 6 clips, unpacked"
    assert streams == [False, False]
    pack(tmp_path / "unpacked", list(CLIPS.items()))
    assert listed(tmp_path / "unpacked")[0].endswith("6 clips, unpacked (not read: en_part_00 and the like)")
    next((tmp_path / "unpacked").rglob("*.wav")).unlink()  # unpacking was stopped
    assert "of which 5 clips lie unpacked: these are not read" in listed(tmp_path / "unpacked")[0]
    (tmp_path / "unpacked" / "en_part_00").unlink()
    assert "en_part_00 is missing, and with it all that follows" in listed(tmp_path / "unpacked")[0]
    (tmp_path / "unpacked" / "en_part_99999999").touch()  # counting up to it would never end
    (tmp_path / "unpacked" / f"en_part_{'9' * 200}").touch()
    assert "en_part_00 is missing, and with it all that follows" in listed(tmp_path / "unpacked")[0]


@pytest.mark.parametrize("folder", ["", "instructs2s_200k/en/wav/", "somewhere/else/wav/"])
def test_unpacked_clips_are_found_wherever_they_lie(tmp_path: Path, folder: str) -> None:
    clips = {f"{folder}{path.rpartition('/')[2]}": data for path, data in CLIPS.items()}
    corpus = corpus_of(tmp_path / "corpus", clips=clips, packed=False)
    clips_read = [turn.audio for dialogue in dialogues(corpus) for turn in dialogue.turns]
    assert [ref.path for ref in clips_read if ref] == sorted(clips)


def test_of_clips_of_one_name_each_turn_has_the_one_of_its_folder(tmp_path: Path) -> None:
    records = [record(0), record(1)]
    for k, entry in enumerate(records):
        for turn, folder in zip(entry["conversation"], ("second", "first"), strict=True):
            turn["speech"] = f"data/{folder}/{k}.wav"
    clips = clips_of(records)
    for packed in (True, False):
        corpus = corpus_of(tmp_path / str(packed), records, clips, packed=packed)
        paths = [turn.audio.path for dialogue in dialogues(corpus) for turn in dialogue.turns if turn.audio]
        assert [path.removeprefix("en_part_00/") for path in paths] == list(clips)


def test_a_clip_that_has_come_is_not_replaced_by_one_that_fits_another_turn_as_well(tmp_path: Path) -> None:
    records = [record(0), record(1)]
    for entry, folder in zip(records, ("first", "second"), strict=True):
        entry["conversation"][0]["speech"] = f"{folder}/same.wav"
    clips = clips_of(records)
    clips["elsewhere/same.wav"] = clips.pop("second/same.wav")
    first, second = dialogues(corpus_of(tmp_path / "corpus", records, clips))
    for dialogue, name in ((first, "first/same.wav"), (second, "elsewhere/same.wav")):
        assert [turn.fault for turn in dialogue.turns] == [None, None]
        assert dialogue.turns[0].audio is not None
        assert dialogue.turns[0].audio.data == clips[name]


# --- packed: runs, restarts, order -----------------------------------------------------------

MANY = [record(i, turns=2 + 2 * (i % 3)) for i in range(60)]


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 conversations whose clips lie in the archive as a file system may list them."""
    clips = list(clips_of(MANY).items())
    random.Random(3).shuffle(clips)
    return corpus_of(tmp_path_factory.mktemp("packed") / "corpus", MANY, clips)


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("en_part_*"))


def test_runs_hold_every_conversation_once_in_the_order_in_which_the_archive_completes_them(
    shuffled: Path,
) -> None:
    num_lacking = {entry["id"]: len(entry["conversation"]) for entry in MANY}
    expected: list[str] = []
    for path in members_of(shuffled):
        name = path.rpartition("/")[2].partition("-")[0]
        num_lacking[name] -= 1
        if not num_lacking[name]:
            expected.append(f"corpus/{name}")
    for shard_bytes in (1 << 30, total(shuffled) // 7 + 1, 1):
        reader, listing = open_corpus(shuffled, shard_bytes=shard_bytes)
        units = listing.units
        assert len(units) == {1 << 30: 1, 1: 60}.get(shard_bytes, 7)
        assert sum(unit.num_bytes for unit in units) == total(shuffled)
        assert [
            dialogue.conversation_id for dialogue in dialogues(shuffled, shard_bytes=shard_bytes)
        ] == expected
        # A process of its own for each run sees what one process sees.
        alone = [x for unit in units[:9] for x in open_corpus(shuffled)[0].dialogues(unit)]
        assert alone == [x for unit in units[:9] for x in reader.dialogues(unit)]


def test_a_restart_reads_the_stream_again_and_says_so_once(
    shuffled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader, listing = open_corpus(shuffled, shard_bytes=total(shuffled) // 6 + 1)
    units = listing.units
    expected = [list(reader.dialogues(unit)) for unit in units]
    assert "again" not in caplog.text
    assert [list(reader.dialogues(unit)) for unit in units[3:]] == expected[3:]
    assert caplog.text.count("again") == 1
    assert "the first 30 of its 60 conversations are built already, or by another process" in caplog.text
    assert list(reader.dialogues(units[2])) == expected[2]  # an earlier one: the stream is opened again


@pytest.mark.soak
def test_a_packed_build_killed_at_many_moments_ends_in_the_same_bytes(shuffled: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"builder": NAME, "shard_bytes": total(shuffled) // 12 + 1}
    build_rows(shuffled, tmp_path / "undisturbed", **options)
    expected = published_files(tmp_path / "undisturbed")
    assert len([path for path in expected if path.endswith(".parquet")]) > 12
    killed, commits = 0, tmp_path / "out/.build/ttt"
    for _ in range(2):
        before = len(list(commits.glob("*.json")))
        process = ForkedBuild(shuffled, tmp_path / "out", **options)
        while process.poll() is None and len(list(commits.glob("*.json"))) < before + 3:
            time.sleep(0.001)
        if process.poll() is None:
            process.kill(group=True)
            killed += 1
        assert process.communicate()[1].count("again from the start") == (1 if 0 < before < 13 else 0)
    assert killed
    kept = {path: path.stat().st_mtime_ns for path in commits.glob("*.json")}
    assert len(kept) >= 6
    build_rows(shuffled, tmp_path / "out", num_proc=2, **options)
    assert published_files(tmp_path / "out") == expected
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # only what was missing is written


@pytest.mark.soak
def test_an_unpacked_build_has_the_same_bytes_whatever_the_number_of_processes(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", MANY, clips_of(MANY), packed=False)
    options: dict[str, Any] = {"builder": NAME, "shard_bytes": 40_000, "config": "response"}
    for num_proc in (1, 2):
        build_rows(corpus, tmp_path / f"{num_proc}", num_proc=num_proc, **options)
    assert published_files(tmp_path / "1") == published_files(tmp_path / "2")
    assert len(list((tmp_path / "1/data").rglob("*.parquet"))) > 5
    assert len(read_rows(tmp_path / "1", "response")) == sum(
        len(entry["conversation"]) // 2 for entry in MANY
    )


def test_a_packed_corpus_is_read_from_a_remote_store_too(shuffled: Path) -> None:
    remote = fsspec.filesystem("memory")
    for path in shuffled.iterdir():
        remote.pipe(f"/there/corpus/{path.name}", path.read_bytes())
    remote_dialogues = dialogues("memory://there/corpus")
    assert [dialogue.turns for dialogue in remote_dialogues] == [
        dialogue.turns for dialogue in dialogues(shuffled)
    ]


def test_an_archive_in_one_file_is_read_as_its_slices_are(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus")
    expected = dialogues(corpus)
    parts = sorted(corpus.glob("en_part_*"))
    (corpus / "instructs2s_200k.tar.gz").write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    joined = dialogues(corpus)
    assert [x.audio and x.audio.data for dialogue in joined for x in dialogue.turns] == [
        x.audio and x.audio.data for dialogue in expected for x in dialogue.turns
    ]


# --- grouping --------------------------------------------------------------------------------


def test_records_of_one_exchange_are_joined_in_the_jsons_order_whatever_the_archives(tmp_path: Path) -> None:
    records = [record(i, turns=4 if i == 2 else 2) for i in range(8)]
    records[5]["conversation"][1]["from"] = "human"  # faulty: it spoils no other
    clips = list(clips_of(records).items())[::-1]
    for packed in (True, False):
        corpus = corpus_of(tmp_path / f"{packed}/c", records, clips if packed else dict(clips), packed=packed)
        joined = {
            dialogue.conversation_id: dialogue for dialogue in dialogues(corpus, turns_per_conversation=3)
        }
        assert set(joined) == {"c/000002", "c/000005", "c/synthetic_000000", "c/synthetic_000001"}
        first, last = joined["c/synthetic_000000"], joined["c/synthetic_000001"]
        assert [turn.text for turn in first.turns] == [f"{i:06} says {k}" for i in (0, 1, 3) for k in (0, 1)]
        assert [turn.text for turn in last.turns] == [f"{i:06} says {k}" for i in (4, 6, 7) for k in (0, 1)]
        assert [turn.number for turn in first.turns] == list(range(6))
        build_rows(corpus, tmp_path / f"{packed}-rows", builder=NAME, turns_per_conversation=3)
        rows = read_rows(tmp_path / f"{packed}-rows")
        joined = [row for row in rows if row["conversation_id"] == "c/synthetic_000001"]
        assert [row["turn_number"] for row in joined] == list(range(6))
        assert {row["num_turns"] for row in joined} == {6}
    assert {dialogue.conversation_id for dialogue in dialogues(corpus)} == {f"c/{i:06}" for i in range(8)}


def test_a_negative_number_of_turns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found -1, expected a number from 0"):
        build_rows(SAMPLE, tmp_path, builder=NAME, turns_per_conversation=-1)


# --- other records ---------------------------------------------------------------------------


def test_records_of_llama_omnis_first_form_are_read(tmp_path: Path) -> None:
    records = [
        {
            "id": "a",
            "speech": "wav/a.wav",
            "conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes."}],
        },
        {"id": "b", "speech": "wav/b.wav", "conversations": [
            {"from": "human", "value": "<speech>\nPlease directly answer the user's speech."},
            {"from": "gpt", "value": "No."},
        ]},
    ]  # fmt: skip
    clips = {name: wav(bytes(3200), 16000) for name in ("wav/a.wav", "wav/b.wav")}
    for rows, lines in both(tmp_path, "response", records, clips):
        assert [(row["transcript"], row["messages"][1]["content"]) for row in rows] == [("Hello?", "Yes.")]
        assert rows[0]["target_audio"] is None
        assert rows[0]["codec_targets"] is None
        assert set(lines) == {("corpus/b/0", "bad_text")}


def test_the_older_record_gives_rows_where_it_names_wavs_and_counted_faults_where_it_has_units_alone(
    tmp_path: Path,
) -> None:
    names = ["en/q0.wav", "en/a0.wav"]
    records = [
        {"instruction": "Ask", "speech_input": names[0], "response": "Say", "speech_response": names[1]},
        {"instruction": "Ask", "speech_input": "71 12 63", "response": "Say", "speech_response": [4, 5]},
    ]
    for rows, lines in both(tmp_path, "ttt", records, {name: wav(bytes(3200), 16000) for name in names}):
        assert [row["clip_id"] for row in rows] == ["corpus/record_000000/0", "corpus/record_000000/1"]
        assert [row["transcript"] for row in rows] == ["Ask", "Say"]
        assert lines["corpus/record_000001/0", "missing"] == (
            "found units alone, ['71 12 63'], expected the path of a WAV"
        )


def test_every_script_is_kept_and_bytes_that_are_no_utf8_cost_one_turn(tmp_path: Path) -> None:
    records = [record(i) for i in range(3)]
    texts = ['Где река? 😀 \\ "q"', "ما اسم النهر؟ 川はどこ"]
    for turn, text in zip(records[0]["conversation"], texts, strict=True):
        turn["text"] = text
    records[1]["conversation"][0]["text"] = "BROKEN"
    records[2]["conversation"][1]["text"] = "half a pair \\ud83d BROKEN"
    corpus = corpus_of(tmp_path / "corpus", records, clips_of(records))
    for ascii_only in (True, False):
        raw = json.dumps(records, ensure_ascii=ascii_only).encode()
        raw = raw.replace(b"\\\\ud83d BROKEN", b"\\ud83d").replace(b"BROKEN", b"\xff\xfe")
        (corpus / JSON).write_bytes(raw)
        first, second, third = dialogues(corpus)
        assert [turn.text for turn in first.turns] == texts
        assert [turn.fault and turn.fault.reason.value for turn in second.turns] == ["bad_text", None]
        assert [turn.fault and turn.fault.reason.value for turn in third.turns] == [None, "bad_text"]


# --- faults ----------------------------------------------------------------------------------

Spoil = Callable[[list[dict[str, Any]]], Any]


def turn_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    return records[1]["conversation"][2]


FAULTS: dict[str, tuple[Spoil, set[int], str, str]] = {
    "text is a number": (lambda t: turn_of(t).update(text=5), {2}, "bad_text", "found text 5, expected"),
    "text is missing": (lambda t: turn_of(t).pop("text"), {2}, "bad_text", "found text None"),
    "text is empty": (lambda t: turn_of(t).update(text=" "), {2}, "empty_text", "expected words"),
    "a turn is a string": (
        lambda t: t[1]["conversation"].__setitem__(2, "hi"), {2, 3}, "bad_", "found"),
    "gpt twice": (lambda t: turn_of(t).update({"from": "gpt"}), {2, 3}, "bad_speaker", "gpt twice in a row"),
    "another speaker": (lambda t: turn_of(t).update({"from": "system"}), {2}, "bad_speaker", "'system'"),
    "no speaker": (lambda t: turn_of(t).pop("from"), {2}, "bad_speaker", "found a turn from None"),
    "human last": (lambda t: t[1]["conversation"].pop(), {2}, "bad_speaker", "found human last"),
    "gpt first": (
        lambda t: t[1]["conversation"].pop(0), {0}, "bad_speaker", "found gpt first, expected human"),
    "speech is a number": (lambda t: turn_of(t).update(speech=7), {2}, "missing", "found 7, expected"),
    "speech is missing": (lambda t: turn_of(t).pop("speech"), {2}, "missing", "found no audio"),
    "no such clip": (lambda t: turn_of(t).update(speech="a/none.wav"), {2}, "missing", ""),
    "id repeats": (lambda t: t[1].update(id="000000"), {0, 1, 2, 3}, "metadata_disagrees", "a second time"),
    "id is a number": (lambda t: t[1].update(id=17), {0, 1, 2, 3}, "metadata_disagrees", "found the id 17"),
    "id is missing": (lambda t: t[1].pop("id"), {0, 1, 2, 3}, "metadata_disagrees", "found the id None"),
    "no conversation": (lambda t: t[1].pop("conversation"), {0}, "metadata_disagrees", "the keys ['id']"),
    "no turns": (lambda t: t[1].update(conversation=[]), {0}, "metadata_disagrees", "without a list"),
    "turns are an object": (lambda t: t[1].update(conversation={"a": 1}), {0}, "metadata_disagrees", "list"),
    "a record is a number": (lambda t: t.__setitem__(1, 5), {0}, "metadata_disagrees", "found 5, expected"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_own_turn_and_is_counted(tmp_path: Path, fault: str) -> None:
    spoil, turns, reason, detail = FAULTS[fault]
    records = [record(i, turns=4) for i in range(3)]
    clips = clips_of(records)
    spoil(records)
    for rows, lines in both(tmp_path, "transcription", records, clips):
        clip_ids = [clip_id for clip_id, _ in lines if clip_id]
        name = "record_000001" if reason == "metadata_disagrees" else "000001"
        assert set(clip_ids) <= {f"corpus/{name}/{i}" for i in turns}
        assert clip_ids
        assert any(why.startswith(reason) and detail in text for (_, why), text in lines.items())
        expected = {f"corpus/{i:06}/{k}" for i in (0, 2) for k in range(4)}
        assert {row["clip_id"] for row in rows} >= expected


@pytest.mark.parametrize("unit", [[6561], [-1], [1.0], [True], ["1"], [], "1 2", 5, [[1]], {"a": 1}])
def test_bad_units_cost_the_answers_they_are_targets_of_and_nothing_else(tmp_path: Path, unit: Any) -> None:
    records = [record(i, turns=4) for i in range(2)]
    records[0]["conversation"][0]["unit"] = unit  # a user's: no row has them
    records[1]["conversation"][3]["unit"] = unit
    for rows, lines in both(tmp_path, "response", records, clips_of(records)):
        assert [row["clip_id"] for row in rows] == ["corpus/000000/0", "corpus/000000/2"]
        assert "list of cosyvoice2 codes" in lines["corpus/000001/2", "bad_codes"]
    assert build_rows(tmp_path / "True" / "corpus", tmp_path / "ttt", builder=NAME).rows == 8


def test_a_json_that_breaks_keeps_what_came_before_and_after_and_names_the_place(tmp_path: Path) -> None:
    records = [record(i) for i in range(9)]
    text = json.dumps(records, indent=1)
    corpus = corpus_of(tmp_path / "corpus", clips=clips_of(records), text=text[: text.index('"000006"') + 40])
    broken = [x for x in read(corpus) if isinstance(x, UnreadableFile)]
    assert [dialogue.conversation_id for dialogue in dialogues(corpus)] == [
        f"corpus/{i:06}" for i in range(6)
    ]
    assert "in record 6, which begins near byte" in next(x.detail for x in broken if x.file == JSON)
    # NaN, a bracket that is lost, a byte that went bad: the next record is read again.
    for old, new in (('"text": "000003 says 1"', '"text": NaN'), ('"000003 says 0",', '"000003 says 0"')):
        (corpus / JSON).write_text(text.replace(old, new), "utf-8")
        items = read(corpus)
        kept = [dialogue.conversation_id for dialogue in items if isinstance(dialogue, Dialogue)]
        assert kept == [f"corpus/{i:06}" for i in range(9) if i != 3]
        details = [x.detail for x in items if isinstance(x, UnreadableFile)]
        assert any("in record 3" in detail for detail in details), details
        assert any("found 2 members that no record names" in detail for detail in details)


@pytest.mark.parametrize("text", ["", "{}", "[]", "5", "\x00\x01", '{"a": [1, 2]}', "[" * 100_000])
def test_what_is_no_json_array_of_records_is_told(tmp_path: Path, text: str) -> None:
    corpus = corpus_of(tmp_path / "corpus", text=text)
    assert not dialogues(corpus)
    details = [file.detail for file in read(corpus) if isinstance(file, UnreadableFile) and file.file == JSON]
    assert len(details) == 1
    assert "expected a JSON array of records" in details[0]


def test_half_an_archive_gives_what_came_before_and_tells_what_is_missing(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", MANY, clips_of(MANY))
    (corpus / "en_part_01").unlink()
    out = tmp_path / "out"
    summary = build_rows(corpus, out, builder=NAME, shard_bytes=total(corpus) // 5 + 1)
    turns = sum(len(entry["conversation"]) for entry in MANY)
    assert 80 < summary.rows < turns - 80
    assert summary.items == turns
    assert set(summary.skipped) == {"missing", "dialogue_incomplete"}
    whole = [line for line in read_skipped(out) if line["clip_id"] is None]
    assert len(whole) == 1
    assert "expected a whole tar archive" in whole[0]["detail"]
    missing = [line["detail"] for line in read_skipped(out) if line["reason"] == "missing"]
    assert all(detail.endswith("in the archive, expected one; download it again") for detail in missing)
    names = [dialogue.conversation_id for dialogue in dialogues(corpus)]
    assert names == [f"corpus/{i:06}" for i in range(60)]  # those that never complete last, in order


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def test_members_that_no_record_names_twice_refused_or_missing_are_told_once_with_an_example(
    tmp_path: Path,
) -> None:
    records = [record(i) for i in range(5)]
    clips: dict[str, bytes] = clips_of(records)
    missing = records[2]["conversation"][1]["speech"]
    evil = records[3]["conversation"][0]["speech"]
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [
        *((name, data) for name, data in clips.items() if name not in (missing, evil)),
        *((f"en/other/{i}.wav", b"none") for i in range(4)),
        *((name, b"other bytes") for name in list(clips)[:2]),
        (f"../../{evil}", clips[evil]),
        (link("instructs2s_200k/en/wav/device", tarfile.CHRTYPE), b""),
        (link(missing, tarfile.SYMTYPE), b""),
    ]
    random.Random(1).shuffle(members)
    members.sort(key=lambda member: member[1] == b"other bytes")  # the first of two is read
    out, corpus = tmp_path / "out", corpus_of(tmp_path / "corpus", records, members)
    build_rows(corpus, out, "transcription", builder=NAME, max_skipped=3.0)
    lines = read_skipped(out)
    details = [line["detail"] for line in lines if line["clip_id"] is None]
    assert len(details) == 3
    for what in (
        "found 4 members that no record names, the first 'en/other/",
        "found 2 members a second time",
        "found 3 members that are refused (refused_path)",
    ):
        assert any(what in detail for detail in details), details
    assert {(line["clip_id"], line["reason"]) for line in lines if line["clip_id"]} == {
        ("corpus/000002/1", "refused_path"),
        ("corpus/000003/0", "refused_path"),
    }
    rows = read_rows(out, "transcription")
    assert {row["audio"]["bytes"] for row in rows} == {
        data for name, data in clips.items() if name not in (missing, evil)
    }


def test_what_lies_behind_the_last_conversation_is_told_by_the_last_run(tmp_path: Path) -> None:
    records = [record(i) for i in range(4)]
    corpus = corpus_of(tmp_path / "corpus", records, {**clips_of(records), "README": b"words"})
    *before, stray = read(corpus, shard_bytes=total(corpus) // 2 + 1)
    assert [isinstance(dialogue, Dialogue) for dialogue in before] == [True] * 4
    assert isinstance(stray, UnreadableFile)
    assert "found 1 member that no record names, the first 'README'" in stray.detail


def test_a_member_that_claims_terabytes_ends_nothing_but_the_archive(tmp_path: Path) -> None:
    records = [record(i) for i in range(3)]
    corpus = corpus_of(tmp_path / "corpus", records, clips_of(records))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, data in list(clips_of(records).items())[:4]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    bomb = tarfile.TarInfo(records[2]["conversation"][0]["speech"])
    bomb.size = 5 << 40
    whole = plain.getvalue()[: plain.tell()].rstrip(b"\0")
    whole += bytes(-len(whole) % 512) + bomb.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    for part, data in zip(sorted(corpus.glob("en_part_*")), (whole[:9000], whole[9000:]), strict=True):
        part.write_bytes(data)
    joined = dialogues(corpus)
    assert [[turn.fault is None for turn in dialogue.turns] for dialogue in joined] == [[True] * 2] * 2 + [
        [False] * 2
    ]
    assert joined[2].turns[0].fault is not None
    assert joined[2].turns[0].fault.reason.value == "too_large"


def test_an_unpacked_clip_that_leads_out_of_the_corpus_is_refused(tmp_path: Path) -> None:
    records = [record(i) for i in range(3)]
    clips = clips_of(records)
    outside = tmp_path / "outside.wav"
    outside.write_bytes(wav(bytes(3200), 16000))
    corpus = corpus_of(tmp_path / "corpus", records, clips, packed=False)
    inside = corpus / records[0]["conversation"][0]["speech"]
    inside.unlink()
    inside.symlink_to(outside)
    records[1]["conversation"][0]["speech"] = "../outside.wav"
    (corpus / JSON).write_text(json.dumps(records))
    build_rows(corpus, tmp_path / "out", "transcription", builder=NAME)
    reasons = {(line["clip_id"], line["reason"]) for line in read_skipped(tmp_path / "out")}
    assert reasons == {("corpus/000000/0", "refused_path"), ("corpus/000001/0", "refused_path")}


def test_a_folder_without_a_json_is_refused_in_words(tmp_path: Path) -> None:
    shutil.copy(SAMPLE / "en_part_00", tmp_path)
    with pytest.raises(UsageError, match=r"no instruct_en_200k_data_cosy2\.json; expected InstructS2S-200K"):
        build_rows(tmp_path, tmp_path / "out", builder=NAME)


def test_a_changed_json_is_read_anew(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus")
    assert dialogues(corpus)[0].turns[0].text == RECORDS[0]["conversation"][0]["text"]
    (corpus / JSON).write_text((corpus / JSON).read_text().replace("What is", "Who was"))
    assert dialogues(corpus)[0].turns[0].text == "Who was the capital of France?"


def test_units_are_int16_of_one_codebook() -> None:
    for dialogue in dialogues(SAMPLE, config="response"):
        for turn in dialogue.turns:
            assert turn.codes is not None
            assert (turn.codes.codec, turn.codes.values.dtype, turn.codes.values.shape[0]) == (
                "cosyvoice2", np.int16, 1,
            )  # fmt: skip


# --- other ways in ---------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_the_class_prepares_in_two_processes_and_streams_unprepared(tmp_path: Path, packed: bool) -> None:
    corpus = corpus_of(tmp_path / "corpus", MANY, clips_of(MANY), packed=packed)
    shard_bytes = total(corpus) // 5 + 1 if packed else 60_000
    build_rows(corpus, tmp_path / "rows", "response", builder=NAME, shard_bytes=shard_bytes)
    expected = read_rows(tmp_path / "rows", "response")
    assert len(expected) == sum(len(record["conversation"]) // 2 for record in MANY)

    def open_builder(cache: str) -> InstructS2STTT:
        builder = InstructS2STTT(
            config_name="response", data_dir=str(corpus), cache_dir=str(tmp_path / cache)
        )
        builder.config.shard_bytes = shard_bytes
        return builder

    prepared = open_builder("prepared")
    prepared.download_and_prepare(num_proc=2)
    assert plain(prepared.as_dataset(split="train")) == expected
    assert plain(open_builder("streamed").as_streaming_dataset(split="train")) == expected


def test_the_class_reads_a_packed_corpus_from_the_hub_downloaded_and_streamed(
    hub: MiniHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = "org/InstructS2S-200K"
    api = HfApi()
    api.create_repo(source, repo_type="dataset", exist_ok=True)
    api.upload_folder(repo_id=source, repo_type="dataset", folder_path=SAMPLE)
    shutil.copytree(SAMPLE, tmp_path / "InstructS2S-200K")
    build_rows(tmp_path / "InstructS2S-200K", tmp_path / "rows", builder=NAME)
    try:
        for cache in ("prepared", "streamed"):
            builder = InstructS2STTT(config_name="ttt", source=source, cache_dir=str(tmp_path / cache))
            if cache == "prepared":
                builder.download_and_prepare()
                rows = plain(builder.as_dataset(split="train"))
            else:
                rows = plain(builder.as_streaming_dataset(split="train"))
            assert rows == read_rows(tmp_path / "rows")
        # Of the local folder, of the Hub's, of its download; streaming finds the second again.
        assert caplog.text.count("reading the texts") == 3
        assert not [request for request in hub.log if request[2] >= 500]
    finally:
        api.delete_repo(source, repo_type="dataset")
