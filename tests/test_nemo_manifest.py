"""NeMo manifests: utterances and conversations, in files and in archives, and what is wrong with lines."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import wav
from toys.building import build_rows
from toys.building import open_reader
from toys.building import read_corpus
from toys.building import read_rows
from toys.building import read_skipped
from toys.cuts import Heard
from toys.cuts import noise
from toys.examples import MANY
from toys.samples import SAMPLE_OF

from nemo_manifest import NemoManifest
from speechrows.corpora.nemo import ManifestError
from speechrows.corpora.nemo import parse_conversation
from speechrows.corpora.nemo import parse_utterance
from speechrows.errors import SpeechRowsError
from speechrows.rows.ledger import LedgerSummary
from speechrows.types import AUDIO_TOKEN
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from speechrows.validation.validate import validate

SAMPLE = SAMPLE_OF["nemo_manifest"]
RATE = 16_000


def clip(seed: int, seconds: float = 0.5) -> bytes:
    """A WAV that no other seed has."""
    return wav(noise(seed, seconds, 1), RATE)


def line(name: str, seconds: float = 0.5, **fields: Any) -> dict[str, Any]:
    """A line of an utterance."""
    return {"audio_filepath": name, "duration": seconds, "text": f"Said in {name}.", **fields}


def write(path: Path, lines: Sequence[Any]) -> Path:
    """Write a manifest; its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path.parent


def pack(path: Path, clips: Mapping[str, bytes]) -> None:
    """Write an archive of clips."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in clips.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def dialogues(folder: Path, config: str = "transcription", **flags: Any) -> list[Dialogue]:
    return [item for item in read_corpus(NemoManifest, folder, config, **flags) if isinstance(item, Dialogue)]


def texts(folder: Path, **flags: Any) -> dict[str, str | None]:
    """What is said in a folder's utterances, each with its fault."""
    said = [turn for dialogue in dialogues(folder, **flags) for turn in dialogue.turns]
    return {turn.text: turn.fault.detail if turn.fault else None for turn in said}


def samples(folder: Path, audio: Any) -> np.ndarray:
    return soundfile.read(io.BytesIO(Heard(folder).bytes(audio)), dtype="int16")[0]


def test_the_sample_becomes_rows_of_utterances_and_of_conversations_that_validate(tmp_path: Path) -> None:
    for config in ("transcription", "response", "chat"):
        build_rows(SAMPLE, tmp_path, config, builder="nemo_manifest")
    said = read_rows(tmp_path, "transcription")
    assert [(row["speaker"], row["emotion"], row["clip_id"]) for row in said] == [
        ("caller", "sad", "nemo/train/manifest:1/0"),
        ("agent", "neutral", "nemo/train/manifest:2/0"),
        ("caller", "sad", "nemo/train/manifest:3/0"),
    ]
    assert said[0]["audio"]["bytes"] == (SAMPLE / "clips/c1_0.opus").read_bytes()
    assert [row["turn_number"] for row in read_rows(tmp_path, "response")] == [0, 0]
    chats = {row["clip_id"][11:]: row for row in read_rows(tmp_path, "chat")}
    assert {name: [message["content"] for message in row["messages"]] for name, row in chats.items()} == {
        "manifest:1/0": ["<audio>", "A week of bad nights wears anyone out. What keeps you awake?"],
        "manifest:3/0": ["<audio>", "Then a night bus, or a room near the station. Which do you prefer?"],
        "sleep/0": ["<audio>", "That sounds exhausting. Is something on your mind?"],
        "sleep/2": ["Work, mostly. What helps?", "A walk in the evening."],
        "station/0": ["Transcribe: <audio>", "The last train left ten minutes ago."],
    }
    assert {name for name, row in chats.items() if row["target_audio"]} == {"sleep/0"}
    assert validate(str(tmp_path)).ok


@pytest.mark.parametrize("name", ["train.json", "train.jsonl.gz"])
def test_a_clip_is_so_many_seconds_of_its_file_from_its_offset_on(tmp_path: Path, name: str) -> None:
    lines = [
        line("long.wav", 0.30003, offset=0.1),
        line("long.wav", 0.25, offset=0.75, id="named"),
        line("long.wav", 1.98),
        {"audio_filepath": "long.wav", "text": "All of it."},
    ]
    write(tmp_path / name, lines)
    (tmp_path / "long.wav").write_bytes(clip(0, 2.0))
    found, whole = dialogues(tmp_path), noise(0, 2.0, 1)[:, 0]
    parts = [(1600, 6400), (12_000, 16_000), (0, 32_000), (0, 32_000)]
    for dialogue, (first, stop) in zip(found, parts, strict=True):
        assert np.array_equal(samples(tmp_path, dialogue.turns[0].audio), whole[first:stop])
    assert found[1].conversation_id.endswith("/train/named")
    assert found[1].split == "train"


def test_a_file_that_is_longer_than_its_duration_is_cut_and_counted(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(clip(0, 2.0))
    lines = [
        line("long.wav", 1.0),
        line("long.wav", 1.5),
        line("long.wav", 1.0, offset=0),
        line("long.wav", 1.98),
    ]
    write(tmp_path / "train.json", lines)
    summary = build_rows(tmp_path, tmp_path / "rows", "transcription", builder="nemo_manifest")
    assert [row["num_samples"] for row in read_rows(tmp_path / "rows", "transcription")] == [
        RATE,
        1.5 * RATE,
        RATE,
        2 * RATE,
    ]
    assert summary.cut_short == 2
    assert "cut to the duration that is told of them            2" in summary.describe()
    assert LedgerSummary.from_json(summary.to_json()) == summary
    assert (summary + summary).cut_short == 4


def test_archives_are_joined_by_the_names_of_members_wherever_manifests_lie(tmp_path: Path) -> None:
    clips = {name: clip(seed, 1.0) for seed, name in enumerate(("a.wav", "b.wav", "c.wav"))}
    lines = [
        line("c.wav", 1.0),
        line("a.wav", 0.25, shard_id=0),
        line("a-sub1.wav", 0.25, offset=0.5),
        line("a-sub2.wav", 0.5, offset=0.25),
        line("b.wav", 1.0),
    ]
    both = [{**row, "shard_id": shard} for shard in (0, 1) for row in lines]
    for where, manifest in (("beside", "manifest_{}.json"), ("above", "sharded_manifests/manifest_{}.json")):
        for shard in (0, 1):
            write(tmp_path / where / manifest.format(shard), lines)
            pack(tmp_path / where / f"audio_{shard}.tar", {**clips, "stray.wav": clip(9)})
    write(tmp_path / "above/tarred_audio_manifest.json", both)  # of the same lines: not read
    write(tmp_path / "joint/tarred_audio_manifest.json", both)
    for shard in (0, 1):
        pack(tmp_path / f"joint/audio_{shard}.tar", clips)
    whole = [noise(seed, 1.0, 1)[:, 0] for seed in range(3)]
    expected = [whole[2], whole[0][:4000], whole[0][8000:12_000], whole[0][4000:12_000], whole[1]]
    for where in ("beside", "above", "joint"):
        found = dialogues(tmp_path / where)
        assert len(found) == 10, where
        for dialogue, own in zip(found, expected * 2, strict=True):
            assert np.array_equal(samples(tmp_path / where, dialogue.turns[0].audio), own), where


def test_what_an_archive_lacks_costs_its_own_lines(tmp_path: Path) -> None:
    lines = [line(f"{name}.wav") for name in "abc"]
    write(tmp_path / "manifest_0.json", lines)
    pack(tmp_path / "audio_0.tar", {"a.wav": clip(0), "c.wav": clip(2)})
    assert texts(tmp_path) == {
        "Said in a.wav.": None,
        "Said in b.wav.": "found no member 'b.wav' in audio_0.tar, expected one",
        "Said in c.wav.": None,
    }
    (tmp_path / "audio_0.tar").write_bytes((tmp_path / "audio_0.tar").read_bytes()[:20_000])
    assert "expected one. It is not whole: " in str(texts(tmp_path)["Said in c.wav."])
    assert [item.file for item in read_corpus(NemoManifest, tmp_path) if isinstance(item, UnreadableFile)]
    write(tmp_path / "joint/all.json", [line("a.wav", shard_id=shard) for shard in (0, 7)])
    pack(tmp_path / "joint/audio_0.tar", {"a.wav": clip(0)})
    assert [
        turn.fault and turn.fault.detail for talk in dialogues(tmp_path / "joint") for turn in talk.turns
    ] == [
        None,
        "found no archive audio_7.tar of 'a.wav', expected it beside the manifest",
    ]


def test_conversations_in_archives_are_as_those_in_files(tmp_path: Path) -> None:
    records = [json.loads(row) for row in (SAMPLE / "conversations.jsonl").read_text("utf-8").splitlines()]
    clips = dict[str, bytes]()
    for record in records:
        for part in record["conversations"]:
            if part["type"] == "audio":
                data = (SAMPLE / part["value"]).read_bytes()
                part["value"] = part["value"].removeprefix("clips/")
                clips[part["value"]] = data
    write(tmp_path / "manifest_0.jsonl", records)
    pack(tmp_path / "audio_0.tar", clips)

    def heard(folder: Path, file: str) -> list[Any]:
        return [
            (turn.role, turn.text, turn.prompt, turn.audio and Heard(folder).bytes(turn.audio), turn.fault)
            for dialogue in dialogues(folder, "chat", file=[file])
            for turn in dialogue.turns
        ]

    assert heard(tmp_path, "*") == heard(SAMPLE, "conversations.jsonl")


def said(side: str, kind: str, value: Any, **fields: Any) -> dict[str, Any]:
    return {"from": side, "type": kind, "value": value, **fields}


FAULTS = {
    "beyond the file": (line("a.wav", 0.3, offset=0.4), "truncated", "from 0.4 s to 0.7 s, of a"),
    "longer than the file": (line("a.wav", 0.9), "truncated", "to 0.9 s, of a recording of 0.5 s"),
    "a duration that is none": (line("a.wav", -1), "bad_number", "found duration -1, expected seconds"),
    "a duration of nothing": (line("a.wav", 0), "bad_number", "found a duration of 0"),
    "an offset that is none": (line("a.wav", offset="now"), "bad_number", "found offset 'now'"),
    "a clip that is gone": (line("none.wav"), "missing", "there is no such file"),
    "a clip elsewhere": (line("/data/x.wav"), "refused_path", "give --audio-root"),
    "no name": (line(None), "missing", "found None in place of a clip"),
    "no text": ({"audio_filepath": "a.wav", "duration": 0.5}, "empty_text", "the text is empty"),
    "a text that is none": ({**line("a.wav"), "text": 7}, "bad_text", "found text 7, expected a string"),
}  # fmt: skip
LINES = {
    "half a line": ('{"audio_filepath": "a.w', "Unterminated string"),
    "another record": ({"file": "a.wav"}, "found the keys 'file', expected an utterance"),
}
CHATS = {
    "another side": ([said("Agent", "text", "x")], "found 'Agent' as the side of message 0"),
    "another type": ([said("User", "image", "x")], "found 'image' 'x' in message 0, expected text or audio"),
    "no words": ([said("User", "text", None)], "found 'text' None in message 0"),
    "a system that speaks": ([said("System", "audio", "a.wav")], "found sound in the system's message 0"),
    "no list": ("x", "expected conversations of type text and audio"),
}


def test_what_is_wrong_with_a_line_is_counted_and_the_others_become_rows(tmp_path: Path) -> None:
    lines = [line("a.wav"), *(row for row, _, _ in FAULTS.values()), *(row for row, _ in LINES.values())]
    folder = write(tmp_path / "said/manifest.json", [*lines, line("a.wav", 0.51, text="The last.")])
    (folder / "a.wav").write_bytes(clip(0))
    build_rows(folder, tmp_path / "rows", "transcription", builder="nemo_manifest")
    rows, skipped = read_rows(tmp_path / "rows", "transcription"), read_skipped(tmp_path / "rows")
    assert [row["transcript"] for row in rows] == ["Said in a.wav.", "The last."]
    assert [row["audio"]["bytes"] for row in rows] == [clip(0)] * 2
    found = {fault["clip_id"].split(":")[-1].split("/")[0]: fault for fault in skipped if fault["clip_id"]}
    for number, (name, (_, reason, detail)) in enumerate(FAULTS.items(), 2):
        assert found[str(number)]["reason"] == reason, name
        assert detail in found[str(number)]["detail"], name
    by_line = {fault["file"]: fault["detail"] for fault in skipped if not fault["clip_id"]}
    for number, (name, (_, detail)) in enumerate(LINES.items(), 2 + len(FAULTS)):
        assert detail in by_line[f"manifest.json:{number}"], name


def test_what_is_wrong_with_a_conversation_is_counted_and_one_that_is_marked_is_left(tmp_path: Path) -> None:
    good = [
        said("System", "text", "Be kind."),
        said("User", "audio", "a.wav"),
        said("Assistant", "text", "Yes."),
    ]
    lost = [said("User", "audio", "none.wav"), said("Assistant", "text", "Yes.")]
    two = [said("User", "audio", "a.wav"), *good[1:]]
    records = [{"id": name, "conversations": rows} for name, (rows, _) in CHATS.items()]
    records += [{"id": "lost", "conversations": lost}, {"id": "two", "conversations": two}]
    records += [{"id": "left", "conversations": good, "custom": {"_skipme": True}}]
    folder = write(tmp_path / "talks/talks.jsonl", [{"id": "good", "conversations": good}, *records])
    (folder / "a.wav").write_bytes(clip(0))
    build_rows(folder, tmp_path / "rows", "chat", builder="nemo_manifest")
    (row,) = read_rows(tmp_path / "rows", "chat")
    assert (row["conversation_id"], row["system"]) == ("talks/train/good", "Be kind.")
    skipped = read_skipped(tmp_path / "rows")
    assert {fault["clip_id"]: fault["reason"] for fault in skipped if fault["clip_id"]} == {
        "talks/train/lost/0": "missing",
        "talks/train/two/0": "metadata_disagrees",
    }
    by_line = {fault["file"]: fault["detail"] for fault in skipped if not fault["clip_id"]}
    for number, (name, (_, detail)) in enumerate(CHATS.items(), 2):
        assert detail in by_line[f"talks.jsonl:{number}"], name
    assert "_skipme" in by_line[f"talks.jsonl:{len(records) + 1}"]


def test_context_stands_before_the_clip_in_chats_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "said/train.json", [line("a.wav", context="Who speaks?", answer="A tone.")])
    (folder / "a.wav").write_bytes(clip(0))
    for config in ("chat", "response"):
        build_rows(folder, tmp_path / "rows", config, builder="nemo_manifest")
    messages = [read_rows(tmp_path / "rows", config)[0]["messages"] for config in ("chat", "response")]
    assert [own[0]["content"] for own in messages] == ["Who speaks? <audio>", "<audio>"]
    assert [own[1]["content"] for own in messages] == ["A tone.", "A tone."]


def test_messages_of_one_side_that_follow_one_another_are_one_its_clips_words_alone_its_transcript(
    tmp_path: Path,
) -> None:
    spoken = said("User", "audio", "a.wav") | {"text": "What is heard."}
    talk = [said("User", "text", "Listen:"), spoken, said("Assistant", "text", "Yes.")]
    folder = write(tmp_path / "talks/talks.jsonl", [{"id": "mixed", "conversations": talk}])
    (folder / "a.wav").write_bytes(clip(0))
    (dialogue,) = dialogues(folder, "chat")
    user, assistant = dialogue.turns
    assert (user.prompt, user.text) == (f"Listen: {AUDIO_TOKEN}", "What is heard.")
    assert (assistant.role, assistant.text) == ("assistant", "Yes.")


def test_without_a_manifest_it_is_said_what_is_there(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "talks/talks.jsonl", [{"id": "x", "conversations": [said("User", "text", "Hi")]}]
    )
    _, listing = open_reader(NemoManifest, folder, "transcription")
    assert listing.contents == "no manifest (1 other file of JSON: not read)"
    write(folder / "one.json", [line("a.wav"), line("b.wav")])
    assert open_reader(NemoManifest, folder)[1].contents.startswith("2 lines of one.json (1 other file")
    write(folder / "two.json", [line("c.wav")])
    assert open_reader(NemoManifest, folder)[1].contents.startswith("3 lines of 2 manifests (1 other file")
    for made in ("one.json", "two.json"):
        (folder / made).unlink()
    with pytest.raises(SpeechRowsError, match="no manifest"):
        build_rows(folder, tmp_path / "rows", "transcription", builder="nemo_manifest")


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["from", "type", "value", "text", "duration", "offset"])
    return st.lists(values, max_size=3) | st.dictionaries(keys, values, max_size=4)


@MANY
@given(st.recursive(st.none() | st.floats() | st.text(max_size=4), _containers, max_leaves=8))
def test_whatever_a_line_holds_it_is_of_a_manifest_or_none(values: Any) -> None:
    fields = values if isinstance(values, dict) else {"duration": values}
    for record in (values, {"audio_filepath": values, **fields}, {"conversations": [fields, values]}):
        for parse in (parse_utterance, parse_conversation):
            try:
                parse(record)
            except ManifestError:
                continue
