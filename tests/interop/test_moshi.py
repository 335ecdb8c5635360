"""What `export moshi` writes, sphn reads as the same sound, and moshi-finetune's rules hold of its words."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.samples import SAMPLE_OF
from toys.timed_talks import EXACT
from toys.timed_talks import ODD
from toys.timed_talks import RATE
from toys.timed_talks import Said
from toys.timed_talks import build_timed
from toys.timed_talks import channels_of
from toys.timed_talks import pcm

from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.words import Proportional
from speechrows.conversations.words import Word
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.interop.moshi import _count_unheard
from speechrows.interop.moshi import export
from speechrows.interop.options import MoshiOptions

TALKS: dict[str, list[Said]] = {
    **EXACT,
    **ODD,
    "untimed": [(role, None, *said) for role, _, *said in EXACT["overlap"]],
    "user alone": [("user", 0.0, pcm(16, 0.3), "PCM_16", RATE)],
    "long": [  # several blocks of samples
        ("user", 0.0, pcm(16, 17.0), "PCM_16", RATE),
        ("assistant", 16.9, pcm(16, 17.5), "PCM_16", RATE),
    ],
}
WRITTEN = ["overlap", "deep", "answer only", "collide", "stereo", "untimed", "long"]
TIMES = {"collide": [0.0, 1.0, 0.7], "untimed": [0.0, 1.5003 + 0.5, 1.5003 + 1.2 + 1.0]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of an export, and the lines that told of it."""
    folder = tmp_path_factory.mktemp("moshi")
    rows = build_timed(folder, TALKS)
    return folder / "out", export(rows, folder / "out", MoshiOptions(gap=0.5))


def read(out: Path) -> dict[str, dict[str, Any]]:
    """Each conversation by the name that its words tell: its WAV, duration, and alignments."""
    lines = (out / "train/train.jsonl").read_text("utf-8").splitlines()
    talks = dict[str, dict[str, Any]]()
    for record in map(json.loads, lines):
        path = out / "train" / record["path"]
        words = json.loads(path.with_suffix(".json").read_text("utf-8"))["alignments"]
        name = " ".join(word for word, *_ in words).partition(f" {words[0][0]} ")[0]
        name = next(talk for talk in TALKS if name.startswith(talk))
        talks[name] = {"path": path, "duration": record["duration"], "words": words}
    return talks


def times_of(name: str) -> list[float]:
    return TIMES.get(name) or [turn[1] or 0.0 for turn in TALKS[name]]


def test_sphn_reads_the_assistant_on_the_left_and_the_user_on_the_right(
    exported: tuple[Path, list[str]],
) -> None:
    sphn = pytest.importorskip("sphn")
    talks = read(exported[0])
    assert {*talks} == {*WRITTEN}
    for name in WRITTEN:
        sound, rate = sphn.read(str(talks[name]["path"]))
        user, assistant = channels_of(TALKS[name], times_of(name))
        if name == "stereo":  # its mean is rounded to 16 bits
            assert sound.shape == (2, len(user))
            continue
        assert rate == RATE
        assert np.array_equal(sound, np.stack([assistant, user]).astype(np.float32))
        assert talks[name]["duration"] == len(user) / RATE


def test_sphns_own_reader_of_data_sets_gives_every_conversation_at_moshis_rate(
    exported: tuple[Path, list[str]],
) -> None:
    sphn = pytest.importorskip("sphn")
    data = sphn.dataset_jsonl(
        str(exported[0] / "train/train.jsonl"), duration_sec=40.0, sample_rate=24_000, pad_last_segment=True
    ).seq()
    read_lengths = sorted(int(sample["unpadded_len"]) for sample in data)
    lengths = sorted(round(talk["duration"] * 24_000) for talk in read(exported[0]).values())
    assert read_lengths == pytest.approx(lengths, abs=2)


def test_a_split_has_one_jsonl_and_each_wav_a_json_beside(exported: tuple[Path, list[str]]) -> None:
    folder = exported[0] / "train"
    assert [*folder.rglob("*jsonl")] == [folder / "train.jsonl"]
    assert [*exported[0].iterdir()] == [folder]
    waves = {path.with_suffix("") for path in folder.rglob("*.wav")}
    assert waves == {path.with_suffix("") for path in folder.rglob("*.json")}
    assert len(waves) == len(WRITTEN)
    assert {soundfile.info(path).channels for path in folder.rglob("*.wav")} == {2}


def test_words_of_both_sides_stand_in_order_and_share_their_turn_by_letters(
    exported: tuple[Path, list[str]],
) -> None:
    talks = read(exported[0])
    for talk in talks.values():
        starts = [start for _, (start, _), _ in talk["words"]]
        assert starts == sorted(starts)
        assert all(start < end <= talk["duration"] + 1e-9 for _, (start, end), _ in talk["words"])
    words = talks["overlap"]["words"]
    assert [(word, speaker) for word, _, speaker in words] == [
        ("overlap", "SPEAKER_USER"),
        ("overlap", "SPEAKER_MAIN"),  # before the user has ended
        ("0.", "SPEAKER_USER"),
        ("1.", "SPEAKER_MAIN"),
        ("overlap", "SPEAKER_USER"),
        ("2.", "SPEAKER_USER"),
    ]
    assert words[1][1] == pytest.approx([1.31, 1.31 + 1.2 * 7 / 9])
    assert words[3][1] == pytest.approx([1.31 + 1.2 * 7 / 9, 1.31 + 1.2])


def test_what_is_left_out_moved_or_rounded_is_counted(exported: tuple[Path, list[str]]) -> None:
    assert exported[1][1:-1] == [
        "  clips of floats or 32 bits: rounded to 24: 1",
        "  clips of several channels: averaged: 1",
        "  conversations left out: clips of different sampling rates: 1",
        "  conversations left out: longer than 4 hours: 1",
        "  conversations left out: the assistant says nothing: 1",
        "  turns moved behind the one before of their side, which they overlapped: 1",
    ]


def test_an_answer_without_a_clip_is_none_that_moshi_could_say(tmp_path: Path) -> None:
    build_rows(SAMPLE_OF["chat_json"], tmp_path / "rows", "chat", builder="chat_json")
    for _ in range(2):  # of what is there already, too
        with pytest.raises(ShortfallError, match=r"no conversation.*a turn without a clip: 3"):
            export(str(tmp_path / "rows"), tmp_path / "out", MoshiOptions())
    with pytest.raises(UsageError, match=r"a:b.*colon or a comma.*another --out"):
        export(str(tmp_path / "rows"), tmp_path / "a:b", MoshiOptions())


def test_without_its_extra_an_aligner_that_hears_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    for module in ("hearing", "whisper_words"):
        monkeypatch.delitem(sys.modules, f"speechrows.conversations.{module}", raising=False)
    with pytest.raises(UsageError, match=r"faster_whisper.*pip install 'speechrows\[asr\]'"):
        export("rows", tmp_path / "out", MoshiOptions(aligner="whisper"))


def test_words_whose_times_are_an_estimate_are_counted() -> None:
    words = [Word(text="a", start_s=0, stop_s=1, is_heard=heard) for heard in (True, False)]
    changes = Counter[str]()
    _count_unheard([words, words[:1], words[1:], []], changes)
    assert +changes == {
        "words that were not heard: timed by their neighbours": 1,
        "turns of which no word was heard: timed by letters": 1,
    }


@given(st.text(), st.floats(0, 14_400), st.floats(1e-3, 14_400))
def test_words_fill_their_turn_one_after_another(text: str, start_s: float, seconds: float) -> None:
    turn = SpokenTurn(role="user", text=text, message=text, row=0)
    words = Proportional().words(turn, start_s, start_s + seconds)
    assert [word.text for word in words] == text.split()
    assert all(word.start_s < word.stop_s for word in words)
    times = [start_s, *(word.stop_s for word in words)]
    assert [word.start_s for word in words] == times[:-1]
    assert not words or times[-1] == pytest.approx(start_s + seconds)
