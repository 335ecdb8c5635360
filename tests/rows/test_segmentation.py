"""What segmentation.py promises: clips outside the limits are counted, and neighbours become one turn."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from toys.building import build_rows
from toys.building import read_rows
from toys.dialogues import ToyClips
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn
from toys.samples import XTTS

from speechrows.corpora.clip_buffer import Sound
from speechrows.errors import UsageError
from speechrows.rows.rows import load_clips
from speechrows.rows.segmentation import Segmentation
from speechrows.rows.tasks import TASKS
from speechrows.types import AudioRef
from speechrows.types import Following
from speechrows.types import Rule
from speechrows.types import Span
from speechrows.types import Turn
from speechrows.validation.validate import validate


def within(task: str, **limits: float) -> tuple[list[str], Counter[Rule]]:
    """The clips that stay of a conversation of 0.5, 1 and 2 seconds, and the rules that leave others out."""
    dialogue = toy_dialogue(*(toy_turn(i, audio=f"{8000 << i}@16000") for i in range(3)))
    loaded = load_clips(dialogue, TASKS[task], ToyClips())
    loaded = Segmentation(**limits).within(loaded, TASKS[task])
    assert len(loaded.items) == len(loaded.clips) == len(loaded.target_clips)
    return [clip.name for clip in loaded.clips if clip], Counter(item.rule for item in loaded.left_out)


def test_clips_outside_the_limits_are_left_out_by_their_rule_and_a_whole_conversation_with_them() -> None:
    assert within("transcription") == (["8000.wav", "16000.wav", "32000.wav"], {})
    assert within("transcription", max_seconds=1) == (["8000.wav", "16000.wav"], {Rule.CLIP_TOO_LONG: 1})
    assert within("transcription", min_seconds=1) == (["16000.wav", "32000.wav"], {Rule.CLIP_TOO_SHORT: 1})
    limits = {"min_seconds": 0.6, "max_seconds": 1.5}
    assert within("transcription", **limits)[0] == ["16000.wav"]
    assert within("ttt", max_seconds=1) == ([], {Rule.CLIP_TOO_LONG: 3})
    assert within("ttt", max_seconds=2) == (["8000.wav", "16000.wav", "32000.wav"], {})


def segment(number: int, speaker: str, start: float, end: float, text: str = "er", **more: Any) -> Turn:
    span = Span(start_s=start, seconds=end - start)
    role = "user" if speaker == "a" else "assistant"
    audio = AudioRef(path=more.pop("path", "call.wav"), span=span, channel=more.pop("channel", 0))
    return Turn(number=number, speaker=speaker, role=role, text=text, audio=audio, start_s=start, **more)


def mono_at(ref: AudioRef) -> Sound | None:
    """What would be known of a second of sound, by its path: its rate, or that it does not decode."""
    return None if ref.path == "broken.wav" else Sound((len(ref.path) * 1000, 1, "PCM_16"), 1.0)


def clip(number: int, start: float | None, path: str = "0.wav", **more: Any) -> Turn:
    return Turn(
        number=number,
        speaker="a",
        role="user",
        text=f"{number}",
        audio=AudioRef(path=path),
        start_s=start,
        **more,
    )


def test_clips_of_their_own_become_one_turn_where_their_starts_are_known_and_their_formats_are_one() -> None:
    turns = [
        clip(0, 0.5),
        clip(1, 1.75, "1.wav"),  # 0.25 s after the end of 0
        clip(2, 2.74, "2.wav"),  # before the end of 1, by no more than starts are rounded
        clip(3, 4.5, "3.wav"),  # 0.76 s later
        clip(4, 5.4, "4.wav"),  # 0.1 s before the end of 3: both are heard
        clip(5, 6.5, "another rate.wav"),
        clip(6, 7.5, "broken.wav"),
        clip(7, None, "7.wav"),
        clip(8, 8.5, "8.wav"),
    ]
    merged, joined = Segmentation(merge_gap=0.5).merged(toy_dialogue(*turns), mono_at)
    assert [turn.text for turn in merged.turns] == ["0 1 2", "3", "4", "5", "6", "7", "8"]
    assert [turn.number for turn in merged.turns] == [*range(7)]
    assert merged.turns[0].audio == AudioRef(
        path="0.wav",
        following=(
            Following(audio=AudioRef(path="1.wav"), after_s=1.25),
            Following(audio=AudioRef(path="2.wav"), after_s=pytest.approx(2.24)),
        ),
    )
    assert [item.clip_id for item in joined] == ["corpus/one/1", "corpus/one/2"]
    assert merged.conversation_id == "corpus/one+gap0.5"
    answered = [clip(0, 0), clip(1, 1.1, "1.wav", answer="Its own.")]
    assert len(Segmentation(merge_gap=0.5).merged(toy_dialogue(*answered), mono_at)[0].turns) == 2


def test_joined_clips_hold_their_samples_and_the_silence_between_to_the_sample(tmp_path: Path) -> None:
    speech, rate = soundfile.read(next(XTTS.rglob("*.wav")), dtype="int16")
    cuts = [(0, 9001), (12_345, 20_002), (20_000, 31_000), (50_000, 60_000)]
    lines = [
        {"file": f"{i}.{kind}", "text": f"Part {i}.", "speaker": "a", "call_id": "c", "start": first / rate}
        for i, ((first, _), kind) in enumerate(zip(cuts, ["wav", "wav", "wav", "flac"], strict=True))
    ]
    for (first, stop), line in zip(cuts, lines, strict=True):
        soundfile.write(tmp_path / line["file"], speech[first:stop], rate, "PCM_16")
    (tmp_path / "calls.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    summary = build_rows(tmp_path, tmp_path / "rows", "ttt", builder="audio_table", merge_gap=0.25)
    assert (summary.items, summary.rows, summary.left_out) == (4, 2, {"merged": 2})
    first, second = read_rows(tmp_path / "rows", "ttt")
    expected = np.zeros(31_002, np.int16)
    expected[:9001] = speech[:9001]
    expected[12_345:20_002] = speech[12_345:20_002]
    expected[20_002:] = speech[20_000:31_000]  # it overlaps by two samples: none is lost
    heard, heard_rate = soundfile.read(io.BytesIO(first["audio"]["bytes"]), dtype="int16")
    assert heard_rate == rate
    assert np.array_equal(heard, expected)
    assert first["messages"][1]["content"] == "Part 0. Part 1. Part 2."
    assert (first["start_s"], first["audio"]["path"]) == (0, "0.wav")
    assert second["audio"]["path"] == "3.flac"
    assert validate(str(tmp_path / "rows")).ok


def test_a_speakers_neighbouring_segments_become_one_turn_with_the_silence_between_them() -> None:
    dialogue = toy_dialogue(
        segment(0, "a", 0, 1, "I am"),
        segment(1, "a", 1.25, 2, "late."),
        segment(2, "b", 2, 3, "Why?"),
        segment(3, "a", 3, 4),
        segment(4, "a", 4.75, 5),
        segment(5, "a", 5, 5.25, path="other.wav"),  # of another format than call.wav
        segment(6, "a", 5.25, 6, path="other.wav", channel=1),
    )
    merged, joined = Segmentation(merge_gap=0.5).merged(dialogue, mono_at)
    assert [(turn.number, turn.text, turn.start_s) for turn in merged.turns] == [
        (0, "I am late.", 0),
        (1, "Why?", 2),
        (2, "er", 3),
        (3, "er", 4.75),
        (4, "er", 5),
        (5, "er", 5.25),
    ]
    assert merged.turns[0].audio == AudioRef(path="call.wav", span=Span(start_s=0, seconds=2), channel=0)
    assert [(item.clip_id, item.rule) for item in joined] == [("corpus/one/1", Rule.MERGED)]
    assert merged.conversation_id == "corpus/one+gap0.5", (
        "its clips are others: no answer of theirs is joined"
    )
    assert Segmentation(merge_gap=0.1).merged(dialogue, mono_at) == (dialogue, [])
    assert len(Segmentation(merge_gap=1).merged(dialogue, mono_at)[0].turns) == 5


def test_a_build_counts_what_the_limits_leave_out_and_validates(tmp_path: Path) -> None:
    everything = build_rows(XTTS, tmp_path / "all", "transcription")
    summary = build_rows(XTTS, tmp_path / "some", "transcription", max_seconds=2.5, min_seconds=1)
    seconds = [
        row["num_samples"] / row["sampling_rate"] for row in read_rows(tmp_path / "all", "transcription")
    ]
    expected = Counter("long" if s > 2.5 else "short" if s < 1 else "row" for s in seconds)
    assert summary.items == everything.items
    assert summary.rows == expected["row"]
    assert (
        summary.left_out
        == Counter({"clip_too_long": expected["long"], "clip_too_short": expected["short"]}) - Counter()
    )
    assert expected["long"]
    assert validate(str(tmp_path / "some")).ok
    with pytest.raises(UsageError, match="max seconds: found -1, expected a number from 0"):
        build_rows(XTTS, tmp_path / "some", "transcription", max_seconds=-1)
