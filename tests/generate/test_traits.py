"""Traits from sound: measured in any order to the same numbers, and pace and volume that follow from them."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.audio import clip
from toys.audio import wav
from toys.building import build_rows
from toys.building import read_rows
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn
from toys.examples import MANY
from toys.samples import XTTS
from toys.speech_like import RATE_HZ
from toys.speech_like import pause
from toys.speech_like import tone

from speechrows.cli import main
from speechrows.generate.clip import InputClip
from speechrows.generate.traits import make
from speechrows.generate.writer import SidecarWriter
from speechrows.rows.tasks import TASKS
from speechrows.sidecar.heard_traits import TraitLimits
from speechrows.sidecar.join import GeneratedColumns
from speechrows.types import Traits

RECIPE = {"kind": "traits", "version": 1}
SOURCE = ["--source", "deepdialogue_ttt", "--data-dir", str(XTTS)]


def voices() -> list[InputClip]:
    """Clips that differ in pitch, level and in how much is said in a second of speech."""
    clips = list[InputClip]()
    for i in range(12):
        sound = np.concatenate([pause(0.4), tone(1.0, 100 + 20 * i, 0.05 + 0.05 * i), pause(0.4)])
        clips.append(replace(clip(f"c/{i}", wav(sound, RATE_HZ)), text="a" * (5 + i)))
    return clips


def measured(folder: Path, clips: list[InputClip], num_threads: int = 2) -> dict[str, dict[str, Any]]:
    with SidecarWriter.open(folder, RECIPE) as writer:
        make(clips, writer, num_threads=num_threads)
    return {row["clip_id"]: row for row in pq.read_table(folder).to_pylist()}


def test_numbers_are_those_that_the_clip_was_made_with(tmp_path: Path) -> None:
    rows = measured(tmp_path, voices())
    for i in range(12):
        row = rows[f"c/{i}"]
        assert row["speaking_rate"] == pytest.approx(5 + i, rel=0.05), "not of the pauses"
        assert row["pitch_mean"] == pytest.approx(100 + 20 * i, rel=0.03)
        assert row["pitch_std"] < 10
    levels = [rows[f"c/{i}"]["relative_db"] for i in range(12)]
    assert levels == sorted(levels)
    assert rows["c/3"]["rms"] < 10 ** (rows["c/3"]["relative_db"] / 20), "the level is of the speech alone"


def test_neither_threads_nor_order_nor_stops_change_a_number(tmp_path: Path) -> None:
    once = measured(tmp_path / "once", voices(), num_threads=1)
    measured(tmp_path / "stopped", voices()[:5])
    assert measured(tmp_path / "stopped", voices(), num_threads=3) == once
    shuffled = random.Random(0).sample(voices(), 12)
    assert measured(tmp_path / "shuffled", shuffled) == once


def test_what_a_clip_does_not_tell_is_null_and_a_broken_one_has_a_reason(tmp_path: Path) -> None:
    silent = replace(clip("silent", wav(pause(1.0), RATE_HZ)), text="Not said.")
    wordless, broken = clip("wordless", wav(tone(0.5), RATE_HZ)), clip("broken", b"RIFF")
    one_sample = clip("one", wav(np.array([0.5]), RATE_HZ))
    rows = measured(tmp_path, [silent, wordless, broken, one_sample])
    names = ("speaking_rate", "pitch_mean", "pitch_std", "rms", "relative_db")
    assert [rows["silent"][name] for name in names] == [None, None, None, 0.0, None]
    assert rows["wordless"]["speaking_rate"] is None
    assert rows["wordless"]["relative_db"] < 0
    assert rows["broken"]["reason"].startswith(("truncated", "undecodable"))
    assert [rows["broken"][name] for name in names] == [None] * 5
    assert rows["one"]["reason"] is None


@MANY
@given(
    rates=st.lists(st.floats(1, 40, width=32), min_size=1, max_size=60),
    dbs=st.lists(st.floats(-60, 0, width=32), min_size=1, max_size=60),
    seed=st.integers(0, 99),
)
def test_limits_follow_from_the_clips_and_not_from_their_order(
    rates: list[float], dbs: list[float], seed: int
) -> None:
    limits = TraitLimits.of(np.array(rates, np.float32), np.array(dbs, np.float32))
    shuffled = [random.Random(seed).sample(values, len(values)) for values in (rates, dbs)]
    again = TraitLimits.of(*(np.array([*values, np.nan], np.float32) for values in shuffled))
    assert again == limits
    paces = Counter(limits.complete(Traits(), rate, None).pace for rate in rates)
    assert max(paces["slow"], paces["fast"]) <= len(rates) / 4 + 1
    assert limits.pace[0] * 1.1 <= np.median(rates) + 1e-3, "the difference to the middle is heard"


def test_clips_that_are_alike_are_neither_fast_nor_quiet() -> None:
    even = np.linspace(-20.5, -19.5, 100).astype(np.float32)
    limits = TraitLimits.of(even + 30, even)
    assert {limits.complete(Traits(), 30.0 + float(db), float(db)).volume for db in even} == {None}
    assert {limits.complete(Traits(), 30.0 + float(db), float(db)).pace for db in even} == {"normal"}


def test_a_clips_own_traits_stay_and_only_missing_ones_are_heard(tmp_path: Path) -> None:
    measured(tmp_path, voices())
    turns = [toy_turn(i) for i in range(12)]
    turns[11] = replace(turns[11], traits=Traits(pace="slow", gender="female"))
    plain = toy_dialogue(*turns, name="c")
    for task in ("ttt", "sift_ssp", "s2s_mimi"):
        joined = GeneratedColumns.open([str(tmp_path)]).attach(plain, TASKS[task])
        paces = ["slow"] * 3 + ["normal"] * 6 + ["fast"] * 2 + ["slow"]
        assert [turn.traits.pace for turn in joined.turns] == paces
        assert [turn.traits.volume for turn in joined.turns] == ["quiet"] * 3 + [None] * 6 + ["loud"] * 3
        assert joined.turns[11].traits.gender == "female"


def test_a_corpus_without_such_columns_gets_pace_and_volume(
    tmp_path: Path,
) -> None:
    traits = str(tmp_path / "traits")
    assert main(["generate", "traits", *SOURCE, "--out", traits]) == 0
    for num_proc in (1, 2):
        build_rows(XTTS, tmp_path / f"rows{num_proc}", generated=(traits,), num_proc=num_proc, shard_bytes=1)
    rows = read_rows(tmp_path / "rows1")
    assert rows == read_rows(tmp_path / "rows2")
    assert Counter(row["pace"] for row in rows).keys() == {"slow", "normal", "fast"}
    assert {row["volume"] for row in rows} == {"quiet", None, "loud"}
    build_rows(XTTS, tmp_path / "plain")
    assert {row["pace"] for row in read_rows(tmp_path / "plain")} == {None}


def test_answers_are_asked_for_with_what_was_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traits = str(tmp_path / "traits")
    assert main(["generate", "traits", *SOURCE, "--out", traits]) == 0
    asked = list[str]()

    class Echo:
        num_tokens = num_asked = 0
        busy_s = 0.0

        def answers(self, prompts: Any, judge: Any) -> Any:
            from speechrows.generate.asking import Answer  # noqa: PLC0415

            for prompt in prompts:
                asked.append(prompt.user)
                yield Answer(text="I hear you.")

    monkeypatch.setattr("speechrows.generate.sift.open_model", lambda *_: Echo())
    sift = ["generate", "sift", *SOURCE, "--model", str(tmp_path), "--mode", "sift_ssp"]
    assert main([*sift, "--out", str(tmp_path / "sift"), "--with", traits]) == 0
    assert len(asked) == 17
    assert all("pace: " in user for user in asked)
    assert any("volume: loud" in user for user in asked)


def test_wrong_calls_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    codes = tmp_path / "codes"
    with SidecarWriter.open(codes, {"kind": "mimi", "codec": "mimi"}):
        pass
    sift = ["generate", "sift", *SOURCE, *out, "--model", str(tmp_path), "--mode"]
    traits = tmp_path / "traits"
    measured(traits, voices())
    for arguments, words in (
        (["generate", "traits", "--source", str(tmp_path / "none"), *out], "expected a built folder"),
        (["generate", "traits", *SOURCE, *out, "--device", "cpu"], "unrecognized arguments: --device"),
        ([*sift, "sift_ssp", "--with", str(codes)], "found mimi; expected traits"),
        ([*sift, "sift_s", "--with", str(traits)], "leave one of them out"),
        (["generate", "traits", *SOURCE, "--out", str(codes)], "was made with"),
    ):
        with pytest.raises(SystemExit) if "unrecognized" in words else _nothing():
            assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def _nothing() -> Any:
    from contextlib import nullcontext  # noqa: PLC0415

    return nullcontext()
