"""Tokens on frames are NeMo's own where these are whole, and say what does not fit where NeMo loses it."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY
from toys.tokenizer import bpe
from toys.tokenizer import plain_byte_level
from toys.tokenizer import without_pad

from speechrows.conversations.duplex_tokens import Overflow
from speechrows.conversations.duplex_tokens import SpecialIds
from speechrows.conversations.duplex_tokens import TimedText
from speechrows.conversations.duplex_tokens import plain
from speechrows.conversations.duplex_tokens import token_channel
from speechrows.conversations.frames import FrameGrid
from speechrows.conversations.placing import places
from speechrows.conversations.sides import Sides
from speechrows.conversations.special import special_ids
from speechrows.conversations.turns import SpokenTurn
from speechrows.errors import UsageError

# What DuplexS2SDataset of nemo_toolkit 3.0.0 itself gave, and DuplexSTTDataset ("stt"), which cuts texts.
GOLDEN = json.loads((Path(__file__).parent / "nemo_duplex.json").read_text("utf-8"))
SPECIAL = SpecialIds(bos=1, eos=2, pad=0)
SPEAKERS = {"source_tokens": "user", "target_tokens": "agent"}


def channels(case: dict[str, Any], overflow: Overflow) -> dict[str, list[int]]:
    grid = FrameGrid(frame_length_s=GOLDEN["frame_length"], rate_hz=case["rate"])
    num_frames = grid.frame_at(case["samples"] / case["rate"])
    lines = dict[str, list[int]]()
    for name, speaker in SPEAKERS.items():
        said = [
            TimedText(
                text=turn["text"],
                ids=[ord(letter) for letter in plain(turn["text"])],
                start_s=turn["start"],
                stop_s=round(turn["start"] + turn["duration"], 8),
            )
            for turn in case["turns"]
            if turn["speaker"] == speaker
        ]
        lines[name] = token_channel(said, num_frames, grid, SPECIAL, overflow, case["name"])[0].tolist()
    return lines


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_channels_are_nemos_or_the_text_that_does_not_fit_is_named(case: dict[str, Any]) -> None:
    if case["ours"] == "same":
        assert channels(case, "error") == {name: case["nemo"][name][0] for name in SPEAKERS}
    elif case["name"] != "10_unknown_speaker":  # of whom Sides tells
        with pytest.raises(UsageError, match=rf"^{case['name']}: the turn from .* has \d+ frames of 80 ms"):
            channels(case, "error")
    assert channels(case, "cut") == case["stt"]


def test_halves_of_samples_go_to_even_and_halves_of_frames_up() -> None:
    assert FrameGrid(frame_length_s=0.08, rate_hz=11_025).hop == 882
    grid = FrameGrid(frame_length_s=10 / 1024, rate_hz=1024)  # whose halves of samples floats hold exactly
    assert [grid.frame_at(samples / 1024) for samples in (4, 4.5, 5, 14.5, 15)] == [0, 0, 1, 1, 2]


def spoken(role: Any, speaker: str | None = None) -> SpokenTurn:
    return SpokenTurn(role=role, text="", message="", row=0, speaker=speaker)


def test_who_speaks_is_heard_by_role_or_by_name_and_never_in_no_channel() -> None:
    sides = Sides.of(("user",), ("Agent",))
    assert [sides.side_of(spoken(role), "t") for role in ("user", "assistant")] == [0, 1]
    named = Sides.of(("user",), ("assistant", "Ann"))
    assert [named.side_of(spoken("user", who), "t") for who in ("Ann", "Bob")] == [1, 0]
    with pytest.raises(
        UsageError, match=r"^talk: the speaker 'Bob', role assistant, is neither .*\['user'\]"
    ):
        Sides.of(("user",), ("agnt",)).side_of(spoken("assistant", "Bob"), "talk")
    with pytest.raises(UsageError, match="found 'assistant' in both; expected each in one channel"):
        Sides.of(("user", "agent"), ("Assistant",))
    with pytest.raises(UsageError, match="input_roles: found 'user', expected names"):
        Sides.of("user", ("agent",))


def test_a_tokenizer_without_three_tokens_is_refused_with_what_does() -> None:
    ids = special_ids(bpe(), 0.08)
    assert len({ids.bos, ids.eos, ids.pad}) == 3
    with pytest.raises(
        UsageError, match=r"no bos token; .* an id a byte; .* Give tokenizer=… one of word pie"
    ):
        special_ids(plain_byte_level(), 0.08)
    with pytest.raises(UsageError, match=r"no pad token; .* tokenizer.pad_token = "):
        special_ids(without_pad(), 0.08)
    same = without_pad()
    same.pad_token = same.eos_token
    with pytest.raises(UsageError, match="expected three tokens"):
        special_ids(same, 0.08)


turn_lists = st.lists(
    st.tuples(st.sampled_from("ua"), st.none() | st.floats(0, 20, allow_nan=False), st.integers(0, 60_000)),
    max_size=8,
)


@MANY
@given(turn_lists, st.sampled_from([8000, 11_025, 16_000]), st.floats(0, 2), st.data())
def test_turns_of_a_side_follow_one_another_and_begin_with_bos_where_they_fit(
    turns: list[tuple[str, float | None, int]], rate: int, gap: float, data: st.DataObject
) -> None:
    at = places(turns, rate, gap)
    grid = FrameGrid(frame_length_s=0.08, rate_hz=rate)
    stops = [place.first + size for place, (_, _, size) in zip(at, turns, strict=True)]
    num_frames = grid.frame_at(max(stops, default=0) / rate)
    for side in "ua":
        own = [number for number, turn in enumerate(turns) if turn[0] == side]
        for before, after in pairwise(own):
            assert stops[before] <= at[after].first
        said = list[TimedText]()
        for number in own:
            first, stop = grid.frame_at(at[number].first / rate), grid.frame_at(stops[number] / rate)
            ids = data.draw(st.lists(st.integers(3, 99), max_size=2 * (stop - first)))
            said.append(
                TimedText(text="t", ids=ids, start_s=at[number].first / rate, stop_s=stops[number] / rate)
            )
        tokens, num_cut = token_channel(said, num_frames, grid, SPECIAL, "cut", "talk")
        assert tokens.shape == (num_frames,)
        fits = [grid.frame_at(turn.stop_s) - grid.frame_at(turn.start_s) > len(turn.ids) for turn in said]
        assert num_cut == fits.count(False)
        if all(fits):
            assert np.array_equal(tokens, token_channel(said, num_frames, grid, SPECIAL, "error", "talk")[0])
        else:
            with pytest.raises(UsageError, match=r"^talk: the turn from"):
                token_channel(said, num_frames, grid, SPECIAL, "error", "talk")
        for turn in said:
            first, stop = grid.frame_at(turn.start_s), grid.frame_at(turn.stop_s)
            if first < stop:
                assert tokens[first] == SPECIAL.bos
                kept = [SPECIAL.bos, *turn.ids][: stop - first]
                assert tokens[first : first + len(kept)].tolist() == kept
                assert (tokens[first + len(kept) : stop] == SPECIAL.pad).all()
                assert stop == num_frames or tokens[stop] in (SPECIAL.eos, SPECIAL.bos)
