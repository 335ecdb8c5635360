"""Rows are the conversations that they were made of, and parts of an export hold whole ones."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.examples import MANY
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.talks import TALKS
from toys.talks import build_talks
from toys.talks import clip_of

from speechrows.conversations.turns import COLUMNS
from speechrows.conversations.turns import Conversation
from speechrows.conversations.turns import SpokenTurn
from speechrows.conversations.turns import answered
from speechrows.conversations.turns import conversations
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.interop.parts import chosen_config
from speechrows.interop.parts import plan_parts
from speechrows.interop.parts import read_part


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ttt, transcription and response rows of talks, of small shards, and rows of chats."""
    folder = tmp_path_factory.mktemp("built")
    for config in ("ttt", "transcription", "response"):
        build_talks(folder, config, shard_bytes=1)
    build_rows(SAMPLE_OF["chat_json"], folder / "chats", "chat", builder="chat_json")
    return folder


def read(address: Path, config: str, **limits: int) -> list[Conversation]:
    folder = RowsFolder.open(address)
    parts = plan_parts(Index.open(folder, config), **{"max_bytes": 1 << 30, "max_rows": 1 << 30, **limits})
    return [talk for part in parts for talk in conversations(read_part(folder, part, COLUMNS))]


def test_rows_of_ttt_are_the_turns_with_their_clips_speakers_and_times(built: Path) -> None:
    talks = read(built / "rows", "ttt")
    assert {talk.id.rpartition("/")[2] for talk in talks} == {*TALKS}
    for talk in talks:
        name = talk.id.rpartition("/")[2]
        said = [("u" if turn.role == "user" else "a", turn.text) for turn in talk.turns]
        assert said == TALKS[name]
        for number, turn in enumerate(talk.turns):
            assert turn.message == ("<audio>" if turn.role == "user" else turn.text)
            assert turn.clip is not None
            assert bytes(turn.clip.data) == clip_of(name, number).read_bytes()
            assert (turn.clip.extension, turn.rate_hz) == ("opus", 24_000)
            assert turn.speaker == ("Ann" if turn.role == "user" else "Bob")
            assert turn.start_s == 10.0 * number
    numbers = [turn.row for talk in talks for turn in talk.turns]
    assert numbers == list(range(sum(map(len, TALKS.values()))))


def test_rows_of_response_are_exchanges_with_the_speech_of_the_answer(built: Path) -> None:
    (talk,) = (talk for talk in read(built / "rows", "response") if talk.id.endswith("/plain"))
    assert [(turn.role, turn.text, turn.message) for turn in talk.turns] == [
        ("user", "Good morning.", "<audio>"),
        ("assistant", "Hello.", "Hello."),
        ("user", "How are you?", "<audio>"),
        ("assistant", "Well.", "Well."),
    ]
    for number, turn in enumerate(talk.turns):
        assert turn.clip is not None
        assert bytes(turn.clip.data) == clip_of("plain", number).read_bytes()
    assert [turn.row for turn in talk.turns] == [talk.turns[0].row] * 2 + [talk.turns[2].row] * 2


def test_rows_of_other_tasks_are_conversations_of_their_own(built: Path) -> None:
    talks = read(built / "rows", "transcription")
    assert len(talks) == sum(map(len, TALKS.values()))
    assert len({talk.id for talk in talks}) == len(talks)
    for talk in talks:
        user, assistant = talk.turns
        assert (user.message, assistant.message) == ("<audio> Transcribe:", user.text.lower())


def test_rows_of_chat_say_the_users_own_words_and_may_be_without_sound(built: Path) -> None:
    talks = {talk.id.rpartition("/")[2]: talk for talk in read(built / "chats", "chat")}
    assert talks["sleep"].system == "You are kind and brief."
    assert [(turn.message, turn.clip is not None) for turn in talks["sleep"].turns] == [
        ("<audio>", True),
        ("That sounds exhausting. Is something on your mind?", True),
        ("Work, mostly. What helps?", False),
        ("A walk before bed, and no screens.", False),
    ]
    assert talks["station"].turns[0].message == "<audio>What did they miss?"
    assert (talks["sums"].turns[0].text, talks["sums"].turns[0].rate_hz) == ("What is two and two?", None)


def test_whatever_the_parts_the_conversations_are_the_same(built: Path) -> None:
    def told(**limits: int) -> list[tuple[str, list[int]]]:
        return [
            (talk.id, [turn.row for turn in talk.turns]) for talk in read(built / "rows", "ttt", **limits)
        ]

    assert told() == told(max_rows=1) == told(max_bytes=1) == told(max_rows=6)


@MANY
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=12),
    st.integers(1, 12),
    st.integers(1, 6),
)
def test_parts_are_whole_conversations_within_the_limits(
    built: Path, lengths: list[list[int]], max_bytes: int, max_rows: int
) -> None:
    rows = [(number, length) for number, talk in enumerate(lengths) for length in talk]
    index = Index.open(RowsFolder.open(built / "chats"), "chat")
    (shard,) = index.shards
    half = len(rows) // 2
    index = replace(
        index,
        shards=(replace(shard, rows=half), replace(shard, rows=len(rows) - half)),
        shard=np.repeat(np.arange(2, dtype=np.int32), (half, len(rows) - half)),
        conversation=np.array([number for number, _ in rows], np.int32),
        audio_length=np.array([length for _, length in rows], np.int32),
    )
    parts = plan_parts(index, max_bytes=max_bytes, max_rows=max_rows)
    taken = list[int]()
    for part in parts:
        own = [
            row + (half if piece.shard is index.shards[1] else 0)
            for piece in part.pieces
            for row in piece.rows
        ]
        taken += own
        assert (part.first_row, part.num_rows) == (own[0], len(own))
        of_part = {rows[row][0] for row in own}
        is_within = len(own) <= max_rows and sum(rows[row][1] for row in own) <= max_bytes
        assert is_within or len(of_part) == 1
        assert of_part.isdisjoint(rows[row][0] for row in range(len(rows)) if row not in own)
    assert taken == list(range(len(rows)))


@pytest.mark.parametrize(
    ("roles", "kept", "counts"),
    [
        ("ua", "ua", {}),
        ("aauau", "ua", {"before the user's first": 2, "after the last answer": 1}),
        ("uuaa", "uuaa", {}),
        ("au", "", {"before the user's first": 1, "after the last answer": 1}),
        ("uu", "", {"after the last answer": 2}),
        ("aa", "", {"before the user's first": 2}),
    ],
)
def test_what_is_trained_on_begins_with_the_user_and_ends_with_an_answer(
    roles: str, kept: str, counts: dict[str, int]
) -> None:
    turns = tuple(
        SpokenTurn(role="user" if role == "u" else "assistant", text="", message="", row=row)
        for row, role in enumerate(roles)
    )
    changes = Counter[str]()
    left = answered(Conversation(id="c", system=None, turns=turns), changes)
    assert "".join(turn.role[0] for turn in left) == kept
    expected = {f"turns left out: {where}": count for where, count in counts.items()}
    expected |= {} if kept else {"conversations left out: no answer to a user": 1}
    assert +changes == expected


def test_of_several_configs_one_must_be_named(built: Path, tmp_path: Path) -> None:
    rows, chats = RowsFolder.open(built / "rows"), RowsFolder.open(built / "chats")
    assert (chosen_config(chats, None), chosen_config(rows, "stage_1")) == ("chat", "stage_1")
    with pytest.raises(
        UsageError, match=r"has rows of .*transcription.*; expected one config. Give --config"
    ):
        chosen_config(rows, None)
    build_rows(XTTS, tmp_path, "ttt")
    assert chosen_config(RowsFolder.open(tmp_path), None) == "ttt"  # the stages are parts of it


def test_a_clip_that_rotted_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    folder = RowsFolder.open(build_talks(tmp_path))
    index = Index.open(folder, "ttt")
    path = tmp_path / "rows" / index.shards[0].path
    data = bytearray(path.read_bytes())
    data[int(index.audio_offset[1]) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShortfallError, match=r"ttt-train-1-00000.parquet: found .*CRC"):
        read(tmp_path / "rows", "ttt")
