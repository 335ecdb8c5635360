"""What `export nemo` writes, our own nemo_manifest reads as the same chats, and NeMo's rules hold of it."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.talks import build_talks
from toys.talks import clip_of
from toys.timed_talks import ODD
from toys.timed_talks import build_timed

from speechrows.errors import UsageError
from speechrows.interop.nemo import export
from speechrows.interop.options import NemoOptions


def chats_of(manifest: Path) -> dict[str, list[str]]:
    """What is said in each conversation; a clip is told by its name's end."""
    return {
        chat["id"].rpartition("/")[2]: [
            f"{turn['from']}: {turn['value'] if turn['type'] == 'text' else '*'}"
            for turn in chat["conversations"]
        ]
        for chat in map(json.loads, manifest.read_text("utf-8").splitlines())
    }


def clips_of(manifest: Path) -> list[str]:
    chats = map(json.loads, manifest.read_text("utf-8").splitlines())
    return [turn["value"] for chat in chats for turn in chat["conversations"] if turn["type"] == "audio"]


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of conversations, and both forms of their export."""
    folder = tmp_path_factory.mktemp("nemo")
    rows = build_talks(folder)
    export(rows, folder / "files", NemoOptions())
    export(rows, folder / "tars", NemoOptions(tar=True))
    return folder


@pytest.mark.parametrize("tar", [False, True])
def test_nemo_manifest_reads_equal_rows_back(tmp_path: Path, tar: bool) -> None:
    build_rows(SAMPLE_OF["chat_json"], tmp_path / "rows", "chat", builder="chat_json")
    lines = export(str(tmp_path / "rows"), tmp_path / "out", NemoOptions(tar=tar))
    assert lines[1:-1] == [
        "  answers' clips not written: 1",
        "  messages that NeMo joins by a space, where they have another, or none: 1",
    ]
    build_rows(tmp_path / "out", tmp_path / "again", "chat", builder="nemo_manifest")

    def facts(rows: Path) -> list[Any]:
        names = ("turn_number", "transcript", "system", "sampling_rate", "num_samples")
        return [
            (
                row["conversation_id"].rpartition("/train/")[2],
                *(row[name] for name in names),
                [message["content"].replace("<audio>", "<audio> ").split() for message in row["messages"]],
                row["audio"] and row["audio"]["bytes"],
            )
            for row in read_rows(rows, "chat")
        ]

    assert facts(tmp_path / "again") == facts(tmp_path / "rows")


def test_conversations_end_with_their_last_answer_and_what_that_costs_is_counted(talks: Path) -> None:
    assert chats_of(talks / "files/train.jsonl") == {
        "plain": ["User: *", "Assistant: Hello.", "User: *", "Assistant: Well."],
        "begins.with.an.answer": ["User: *", "User: *", "Assistant: Good."],
        "spells": ["User: *", "Assistant: A tag, as <image> is."],
        "last": ["User: *", "Assistant: The end."],
    }
    (split,) = json.loads((talks / "files.export.json").read_text("utf-8"))["splits"].values()
    assert split["changes"] == {
        "answers' clips not written": 5,
        "conversations left out: no answer to a user": 1,
        "turns left out: after the last answer": 1,
        "turns left out: before the user's first": 2,
    }


def test_stems_of_clips_are_unique_and_their_bytes_are_the_published_ones(talks: Path) -> None:
    clips = clips_of(talks / "files/train.jsonl")
    assert len({Path(clip).stem for clip in clips}) == len(clips) == 6
    files = {str(path.relative_to(talks / "files")) for path in (talks / "files/audio").rglob("*.*")}
    assert files == {*clips}
    published = [clip_of("begins.with.an.answer", turn).read_bytes() for turn in (1, 2)]
    assert [(talks / "files" / clip).read_bytes() for clip in clips[2:4]] == published


def test_members_of_an_archive_are_the_manifests_clips_in_their_order(talks: Path) -> None:
    with tarfile.open(talks / "tars/train/audio_0.tar") as archive:
        assert archive.getnames() == clips_of(talks / "tars/train/manifest_0.jsonl")
    assert chats_of(talks / "tars/train/manifest_0.jsonl") == chats_of(talks / "files/train.jsonl")


def test_an_input_cfg_of_each_split_names_its_manifests_from_the_export_on(talks: Path) -> None:
    root, kind = "${oc.env:SPEECHROWS_EXPORT,.}", "multimodal_conversation"
    assert yaml.safe_load((talks / "files/train.yaml").read_text("utf-8")) == [
        {"type": kind, "manifest_filepath": f"{root}/train.jsonl"}
    ]
    assert yaml.safe_load((talks / "tars/train.yaml").read_text("utf-8")) == [
        {
            "type": kind,
            "manifest_filepath": f"{root}/train/manifest__OP_0..0_CL_.jsonl",
            "tarred_audio_filepaths": f"{root}/train/audio__OP_0..0_CL_.tar",
        }
    ]


def test_transcripts_are_words_of_the_user_behind_the_clip_where_they_are_wanted(
    talks: Path, tmp_path: Path
) -> None:
    export(str(talks / "rows"), tmp_path / "out", NemoOptions(transcripts=True))
    said = chats_of(tmp_path / "out/train.jsonl")
    assert said["last"] == ["User: *", "User: The end?", "Assistant: The end."]


@pytest.mark.parametrize("form", ["duplex", "rows"])
def test_flags_of_chats_are_refused_with_another_form(talks: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(UsageError, match=f"--tar: is of --form conversations, found --form {form}"):
        export(str(talks / "rows"), tmp_path / "out", NemoOptions(form=form, tar=True))


@pytest.mark.parametrize("name", ["rows [v2]", "a_OP_b", "x<y"])
def test_a_name_that_nemo_would_take_for_braces_is_refused(talks: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"takes for braces.*another --out"):
        export(str(talks / "rows"), tmp_path / name, NemoOptions())
    assert not (tmp_path / name).exists()


def test_clips_of_several_channels_are_averaged_and_counted(tmp_path: Path) -> None:
    rows = build_timed(tmp_path, {"stereo": ODD["stereo"]})
    lines = export(rows, tmp_path / "out", NemoOptions())
    assert "  clips of several channels: averaged: 1" in lines
    (clip,) = clips_of(tmp_path / "out/train.jsonl")
    sound, _ = soundfile.read(io.BytesIO((tmp_path / "out" / clip).read_bytes()))
    assert np.abs(sound - ODD["stereo"][0][2].mean(axis=1)).max() <= 0.5 / (1 << 15)
