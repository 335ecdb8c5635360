"""A pattern is a value, and undone it gives back what it was applied to."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.conversations.patterns import GLM_4_VOICE
from speechrows.conversations.patterns import LLAMA_OMNI2
from speechrows.conversations.patterns import MOSHI
from speechrows.conversations.patterns import MOSHI_DELAYED
from speechrows.conversations.patterns import Parallel
from speechrows.conversations.patterns import Ratio
from speechrows.conversations.patterns import pattern_of
from speechrows.errors import UsageError

GOLDEN = json.loads((Path(__file__).parent / "golden/moshi_streams.json").read_text("utf-8"))
BEFORE = [32_000, *[2_048] * 16]

ids = st.lists(st.integers(0, 99), max_size=60).map(lambda values: np.array(values, np.int32))


def test_moshi_s_delays_are_those_of_its_own_package() -> None:
    assert list(MOSHI_DELAYED.delays) == GOLDEN["delays"]


def test_delayed_streams_begin_as_moshi_delays_them_and_lose_no_frame() -> None:
    streams = np.array(GOLDEN["streams"], np.int32)
    late = MOSHI_DELAYED.apply(streams, BEFORE, -1)
    assert late[:, :-1].tolist() == GOLDEN["delayed"]
    tail = [late[k, -1] for k in range(17)]
    assert tail == [streams[k, -1] if delay else -1 for k, delay in enumerate(MOSHI_DELAYED.delays)]


def test_without_delays_streams_stay_as_they_are() -> None:
    streams = np.array(GOLDEN["streams"], np.int32)
    assert (MOSHI.apply(streams, BEFORE, -1) == streams).all()


@MANY
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 9))
def test_parallel_streams_come_back(delays: list[int], frames: int) -> None:
    streams = np.arange(len(delays) * frames, dtype=np.int32).reshape(len(delays), frames)
    pattern = Parallel(delays=tuple(delays))
    late = pattern.apply(streams, [-7] * len(delays), -8)
    assert late.shape == (len(delays), frames + max(delays))
    assert (pattern.undo(late) == streams).all()


@MANY
@given(st.integers(1, 6), st.integers(1, 9), ids, ids)
def test_text_and_speech_come_back(text: int, speech: int, words: np.ndarray, codes: np.ndarray) -> None:
    pattern = Ratio(text=text, speech=speech)
    mixed, kinds = pattern.apply(words, codes, [500, 501])
    assert [part.tolist() for part in pattern.undo(mixed, kinds)] == [words.tolist(), codes.tolist()]
    assert mixed[kinds == 2].tolist() == [500, 501]
    assert len(mixed) == len(kinds) == len(words) + len(codes) + 2


def test_glm_4_voice_says_13_ids_of_text_then_26_of_speech() -> None:
    _, kinds = GLM_4_VOICE.apply(np.arange(30, dtype=np.int32), np.arange(100, dtype=np.int32))
    runs = [0] * 13 + [1] * 26 + [0] * 13 + [1] * 26 + [0] * 4 + [1] * 48
    assert kinds.tolist() == runs


def test_llama_omni2_says_3_ids_of_text_then_10_of_speech_and_the_rest_behind_its_separator() -> None:
    _, kinds = LLAMA_OMNI2.apply(np.arange(6, dtype=np.int32), np.arange(25, dtype=np.int32), [9])
    assert kinds.tolist() == [0] * 3 + [1] * 10 + [0] * 3 + [2] + [1] * 15


def test_where_speech_ends_first_the_text_goes_on() -> None:
    mixed, _ = Ratio(text=1, speech=2).apply(np.array([1, 2, 3], np.int32), np.array([-1, -2, -3], np.int32))
    assert mixed.tolist() == [1, -1, -2, 2, -3, 3]


def test_a_pattern_has_a_name_or_is_one_s_own() -> None:
    own = Parallel(delays=(0, 1))
    assert pattern_of(own) is own
    assert pattern_of("moshi") is MOSHI
    with pytest.raises(UsageError, match=r"found 'moshy', expected one of moshi, .*did you mean moshi"):
        pattern_of("moshy")


def test_what_is_no_pattern_is_refused() -> None:
    for delays in ((), (0, -1)):
        with pytest.raises(UsageError, match=r"found delays .*, expected whole numbers from 0 on"):
            Parallel(delays=delays)
    with pytest.raises(UsageError, match=r"found 0 text to 3 speech ids, .*expected numbers above 0"):
        Ratio(text=0, speech=3)
    with pytest.raises(ValueError, match=r"streams.shape = \(3, 2\), expected \(17, F\)"):
        MOSHI.apply(np.zeros((3, 2), np.int32), [], 0)
