"""What segmentation.py promises: clips outside the limits are counted, and neighbours become one turn."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from toys.building import build_rows
from toys.building import read_rows
from toys.dialogues import ToyClips
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn
from toys.samples import XTTS

from speechrows.errors import UsageError
from speechrows.rows.rows import load_clips
from speechrows.rows.segmentation import Segmentation
from speechrows.rows.tasks import TASKS
from speechrows.types import AudioRef
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


def test_a_speakers_neighbouring_segments_become_one_turn_with_the_silence_between_them() -> None:
    dialogue = toy_dialogue(
        segment(0, "a", 0, 1, "I am"),
        segment(1, "a", 1.25, 2, "late."),
        segment(2, "b", 2, 3, "Why?"),
        segment(3, "a", 3, 4),
        segment(4, "a", 4.75, 5),
        segment(5, "a", 5, 5.25, path="other.wav"),
        segment(6, "a", 5.25, 6, path="other.wav", channel=1),
    )
    merged, joined = Segmentation(merge_gap=0.5).merged(dialogue)
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
    assert Segmentation(merge_gap=0.1).merged(dialogue) == (dialogue, [])
    assert len(Segmentation(merge_gap=1).merged(dialogue)[0].turns) == 5


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
