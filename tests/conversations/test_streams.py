"""Words and codes on one frame grid, equal to what moshi-finetune itself makes of the same words."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import moshi_finetune
from toys.examples import MANY

from speechrows.codec import CODECS
from speechrows.codec import num_frames
from speechrows.conversations.streams import MIMI_SILENCE
from speechrows.conversations.streams import PlacedCodes
from speechrows.conversations.streams import StreamIds
from speechrows.conversations.streams import code_stream
from speechrows.conversations.streams import frame_of
from speechrows.conversations.streams import text_stream
from speechrows.conversations.words import Word
from speechrows.errors import UsageError
from speechrows.types import Samples

GOLDEN = json.loads((Path(__file__).parent / "golden/moshi_streams.json").read_text("utf-8"))
MIMI = CODECS["mimi"]


def ours(case: dict[str, Any], **ids: int) -> tuple[list[int], int]:
    words = [
        Word(text=text, start_s=start, stop_s=stop)
        for text, start, stop, speaker in case["words"]
        if speaker == "SPEAKER_MAIN" or not case["main_only"]
    ]
    stream, num_lost = text_stream(
        words,
        case["num_frames"],
        12.5,
        encode=GOLDEN["ids_of"].__getitem__,
        ids=StreamIds(**ids),
        keep_all=case["keep_all"],
    )
    return stream.tolist(), num_lost


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_text_stream_is_that_of_moshi_finetune(case: dict[str, Any]) -> None:
    stream, _ = ours(case)
    assert stream == case["stream"]


def test_the_golden_streams_hold_words_padding_and_its_end() -> None:
    streams = [{*case["stream"]} for case in GOLDEN["cases"]]
    assert sum({0, 3} < ids for ids in streams) > 35
    assert len({tuple(case["stream"]) for case in GOLDEN["cases"]}) > 20


@pytest.mark.interop
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_golden_streams_are_what_the_interleaver_gives(case: dict[str, Any]) -> None:
    asked = {name: case[name] for name in ("num_frames", "main_only", "keep_all")}
    assert moshi_finetune.text_stream(case["words"], GOLDEN["ids_of"], **asked) == case["stream"]


@pytest.mark.interop
def test_the_golden_delays_are_what_moshi_gives() -> None:
    assert moshi_finetune.delayed(GOLDEN["streams"]) == GOLDEN["delayed"]


@pytest.mark.interop
def test_special_ids_are_those_of_moshi_s_model() -> None:
    model = moshi_finetune.module("moshi.models.lm").LMModel
    released = moshi_finetune.module("moshi.models.loaders")._lm_kwargs
    small = {"dim": 16, "num_heads": 1, "num_layers": 1, "depformer_dim": 16, "depformer_num_heads": 1}
    kept = ("n_q", "dep_q", "card", "text_card", "existing_text_padding_id", "delays")
    made = model(**{name: released[name] for name in kept}, **small, depformer_num_layers=1)
    assert StreamIds() == StreamIds(
        text_padding=made.text_padding_token_id,
        end_of_text_padding=made.end_of_text_padding_id,
        zero=made.zero_token_id,
        text_initial=made.text_initial_token_id,
        audio_initial=made.initial_token_id,
    )


words = st.lists(
    st.builds(
        lambda start, length, text: Word(text=text, start_s=start / 100, stop_s=(start + length) / 100),
        st.integers(0, 500),
        st.integers(1, 90),
        st.text("ab", min_size=1, max_size=6),
    ),
    max_size=12,
)


@MANY
@given(words, st.integers(1, 60), st.booleans())
def test_each_id_of_a_word_stands_in_the_stream_or_is_counted_as_lost(
    said: list[Word], frames: int, keep_all: bool
) -> None:
    ids = StreamIds()
    stream, num_lost = text_stream(
        said,
        frames,
        12.5,
        encode=lambda text: [10 + ord(letter) for letter in text],
        ids=ids,
        keep_all=keep_all,
    )
    placed = int(((stream != ids.text_padding) & (stream != ids.end_of_text_padding)).sum())
    assert placed + num_lost == sum(len(word.text) for word in said)
    assert ids.end_of_text_padding not in stream[-1:]
    ends = np.flatnonzero(stream == ids.end_of_text_padding)
    assert not np.isin(stream[ends + 1], (ids.text_padding, ids.end_of_text_padding)).any()


def test_a_word_that_has_the_id_of_padding_is_refused() -> None:
    case = next(case for case in GOLDEN["cases"])
    word = next(ids for ids in GOLDEN["ids_of"].values() if len(ids) > 1)
    with pytest.raises(UsageError, match=f"found {word[0]} among the ids of .*Give another text_padding"):
        ours({**case, "main_only": False}, text_padding=word[0])


def test_codes_stand_where_their_clip_is_said_and_silence_everywhere_else() -> None:
    codes = np.arange(16, dtype=np.int16).reshape(8, 2)
    stream = code_stream(
        [PlacedCodes(codes=codes, first=1), PlacedCodes(codes=codes, first=4)], 7, MIMI_SILENCE
    )
    assert (stream[:, 1:3] == codes).all()
    assert (stream[:, 4:6] == codes).all()
    assert (stream[:, [0, 3, 6]] == np.array(MIMI_SILENCE)[:, None]).all()


@MANY
@given(
    st.integers(0, 1 << 30), st.integers(1, 1 << 20), st.integers(0, 1 << 16),
    st.sampled_from([8_000, 11_025, 24_000, 44_100]),
)  # fmt: skip
def test_a_clip_ends_within_the_frames_of_its_channel_and_meets_the_next_in_one_frame_at_most(
    first: int, num_samples: int, pause: int, rate_hz: int
) -> None:
    def frames(samples: int) -> int:
        return num_frames(Samples(samples), rate_hz, MIMI)

    begin = frame_of(first, rate_hz, MIMI.rate_hz)
    assert begin == Fraction(first, rate_hz) * MIMI.rate_hz // 1
    assert begin + frames(num_samples) <= frames(first + num_samples)
    following = frame_of(first + num_samples + pause, rate_hz, MIMI.rate_hz)
    assert begin + frames(num_samples) - following <= 1
