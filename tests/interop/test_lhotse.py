"""What `export lhotse` writes, lhotse and lhotse_cuts read as the same sound, texts, times and sides."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.timed_talks import EXACT
from toys.timed_talks import ODD
from toys.timed_talks import RATE
from toys.timed_talks import build_timed
from toys.timed_talks import channels_of
from toys.timed_talks import pcm

from speechrows.interop.cuts import _cut_id
from speechrows.interop.lhotse import export
from speechrows.interop.options import LhotseOptions


def read_shar(folder: Path) -> dict[str, Any]:
    lhotse = pytest.importorskip("lhotse")
    return {cut.id.rpartition("/")[2]: cut for cut in lhotse.CutSet.from_shar(in_dir=str(folder))}


def read_manifest(folder: Path) -> dict[str, Any]:
    lhotse = pytest.importorskip("lhotse")
    return {cut.id.rpartition("/")[2]: cut for cut in lhotse.CutSet.from_file(folder / "cuts.jsonl.gz")}


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose samples FLAC holds exactly, and both forms of their export."""
    folder = tmp_path_factory.mktemp("exact")
    build_timed(folder, EXACT)
    for form in ("shar", "manifest"):
        lines = export(str(folder / "rows"), folder / form, LhotseOptions(format=form))
        assert [line for line in lines if line.startswith("  ")] == []
    return folder


@pytest.mark.parametrize(("form", "read"), [("shar", read_shar), ("manifest", read_manifest)])
def test_lhotse_reads_the_same_sound_texts_times_and_sides(
    exact: Path, form: str, read: Callable[[Path], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lhotse = pytest.importorskip("lhotse")
    monkeypatch.chdir(exact / form / "train")  # lhotse takes paths from the working directory on
    cuts = read(exact / form / "train")
    assert {*cuts} == {*EXACT}
    for name, turns in EXACT.items():
        cut = cuts[name]
        lhotse.validate(cut)
        channels = channels_of(turns, [turn[1] or 0.0 for turn in turns])
        for loaded, expected in zip((cut.load_audio(), cut.load_target_audio()), channels, strict=True):
            assert np.array_equal(loaded[0], expected.astype(np.float32))
        sides = {"user": ("user", "Ann"), "assistant": ("agent", "Bob")}
        assert [
            (
                said.speaker,
                said.custom["speaker"],
                said.start,
                said.duration,
                said.text,
                said.custom["emotion"],
                said.gender,
            )
            for said in cut.supervisions
        ] == [
            (*sides[role], start, len(samples) / RATE, f"{name} {turn}.", "sad", "female")
            for turn, (role, start, samples, *_) in enumerate(turns)
        ]
        assert cut.num_samples == cut.target_audio.num_samples == len(channels[0])


def test_in_the_folder_are_shards_and_nothing_else(exact: Path) -> None:
    names = ["cuts.000000.jsonl.gz", "recording.000000.tar", "target_audio.000000.tar"]
    assert sorted(path.name for path in (exact / "shar/train").iterdir()) == names
    assert [path.name for path in (exact / "shar").iterdir()] == ["train"]
    assert (exact / "shar.export.json").is_file()


@pytest.mark.parametrize("form", ["shar", "manifest"])
def test_lhotse_cuts_builds_equal_rows_again(exact: Path, form: str, tmp_path: Path) -> None:
    build_rows(exact / form, tmp_path, "ttt", builder="lhotse_cuts")

    def facts(rows: Path) -> list[tuple[Any, ...]]:
        return sorted(
            (
                row["conversation_id"].rpartition("/")[2],
                row["turn_number"],
                row["role"],
                row["transcript"],
                row["start_s"],
                row["emotion"],
                soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int32")[0].tobytes(),
            )
            for row in read_rows(rows)
        )

    assert facts(tmp_path) == facts(exact / "rows")


def test_times_that_are_none_are_counted(tmp_path: Path) -> None:
    early = [("user", -0.25, pcm(16, 0.5), "PCM_16", RATE), *EXACT["answer only"]]
    rows = build_timed(tmp_path, {"early": early})
    lines = export(rows, tmp_path / "out", LhotseOptions())
    assert lines[1:-1] == ["  turns that begin before 0, or at no number: placed as those without a time: 1"]
    (cut,) = read_shar(tmp_path / "out/train").values()
    assert [turn.start for turn in cut.supervisions] == [0.0, 0.5]


def test_what_a_channel_can_not_hold_is_left_out_moved_or_rounded_and_counted(tmp_path: Path) -> None:
    rows = build_timed(tmp_path, ODD)
    lines = export(rows, tmp_path / "out", LhotseOptions())
    assert "2 conversations" in lines[0]
    assert lines[1:-1] == [
        "  clips of floats or 32 bits: rounded to 24: 1",
        "  clips of several channels: averaged: 1",
        "  conversations left out: clips of different sampling rates: 1",
        "  conversations left out: longer than 4 hours: 1",
        "  turns moved behind the one before of their side, which they overlapped: 1",
    ]
    cuts = read_shar(tmp_path / "out/train")
    assert {*cuts} == {"collide", "stereo"}
    user, agent = channels_of(ODD["collide"], [0.0, 1.0, 0.7])
    assert np.array_equal(cuts["collide"].load_audio()[0], user.astype(np.float32))
    assert np.array_equal(cuts["collide"].load_target_audio()[0], agent.astype(np.float32))
    assert [said.start for said in cuts["collide"].supervisions] == [0.0, 1.0, 0.7]
    heard = ODD["stereo"][0][2].mean(axis=1)
    assert np.abs(cuts["stereo"].load_audio()[0][: len(heard)] - heard).max() <= 0.5 / (1 << 15)


def test_both_sides_may_begin_at_0(tmp_path: Path) -> None:
    (user, *said), (assistant, *answered) = EXACT["overlap"][:2]
    rows = build_timed(tmp_path, {"at once": [(user, 0.0, *said[1:]), (assistant, 0.0, *answered[1:])]})
    export(rows, tmp_path / "out", LhotseOptions())
    cut = read_shar(tmp_path / "out/train")["at once"]
    assert [said.start for said in cut.supervisions] == [0.0, 0.0]


def test_turns_without_times_follow_one_another_with_a_gap(tmp_path: Path) -> None:
    turns = [(role, None, *said) for role, _, *said in EXACT["overlap"]]
    rows = build_timed(tmp_path, {"untimed": turns})
    export(rows, tmp_path / "out", LhotseOptions(gap=0.5))
    cut = read_shar(tmp_path / "out/train")["untimed"]
    seconds = [len(samples) / RATE for _, _, samples, *_ in turns]
    expected = [0.0, seconds[0] + 0.5, seconds[0] + seconds[1] + 1.0]
    assert [said.start for said in cut.supervisions] == pytest.approx(expected)
    user, agent = channels_of(turns, [said.start for said in cut.supervisions])
    assert np.array_equal(cut.load_audio()[0], user.astype(np.float32))
    assert np.array_equal(cut.load_target_audio()[0], agent.astype(np.float32))


def test_cuts_may_be_turns_and_exchanges_with_their_answers(tmp_path: Path) -> None:
    rows = build_timed(tmp_path, {"overlap": EXACT["overlap"]})
    export(rows, tmp_path / "turns", LhotseOptions(cuts="turn"))
    assert not [*(tmp_path / "turns/train").glob("target_audio*")]
    cuts = read_shar(tmp_path / "turns/train")
    for number, (_, _, samples, *_) in enumerate(EXACT["overlap"]):
        assert np.array_equal(cuts[str(number)].load_audio()[0], samples[:, 0].astype(np.float32))
    assert [cut.supervisions[0].speaker for cut in cuts.values()] == ["user", "agent", "user"]
    build_rows(SAMPLE_OF["chat_json"], tmp_path / "chats", "chat", builder="chat_json")
    lines = export(str(tmp_path / "chats"), tmp_path / "out", LhotseOptions(cuts="turn"))
    assert "  turns left out: a turn without a clip: 3" in lines
    spoken, written = pytest.importorskip("lhotse").CutSet.from_shar(in_dir=str(tmp_path / "out/train"))
    assert [said.speaker for said in spoken.supervisions] == ["user", "agent"]
    assert spoken.load_target_audio().shape == spoken.load_audio().shape
    assert (written.answer, written.has_custom("target_audio")) == ("The last train.", False)


def test_ids_are_those_of_conversations_where_a_files_name_can_say_them() -> None:
    kept = ("a/b.c", "health_2_4", "ü/1")
    assert [_cut_id(name, "train-0") for name in kept] == [*kept]
    assert [_cut_id(name, "train-0") for name in ("a//b", "./a", "a/", "")] == ["train-0"] * 4


def test_published_conversations_are_cuts_whose_clips_are_theirs(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "rows")
    export(str(tmp_path / "rows"), tmp_path / "out", LhotseOptions(num_proc=1))
    cuts = read_shar(tmp_path / "out/train")
    for row in read_rows(tmp_path / "rows"):
        cut = cuts[row["conversation_id"].rpartition("/")[2]]
        said = cut.supervisions[row["turn_number"]]
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        channel = cut.load_audio() if said.speaker == "user" else cut.load_target_audio()
        first = round(said.start * rate)
        assert np.array_equal(channel[0, first : first + len(samples)], samples)
        assert said.text == row["transcript"]
