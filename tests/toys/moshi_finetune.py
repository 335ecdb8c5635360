"""moshi-finetune's own Interleaver and moshi's own delays, out of a checkout and a wheel, where they are."""

import importlib
import os
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pytest

CHECKOUT = "SPEECHROWS_MOSHI_FINETUNE"  # the folder of a checkout; moshi must be installed beside
MOSHI_IDS = {"text_padding": 3, "end_of_text_padding": 0, "zero_padding": -1}
Words = Sequence[tuple[str, float, float, str]]


class WordTable:
    """A sentencepiece processor, as far as the Interleaver asks it, of words whose ids are known."""

    def __init__(self, ids_of: Mapping[str, Sequence[int]]) -> None:
        self._ids_of = {**ids_of, "\n": [13]}

    def encode(self, text: str | Sequence[str]) -> list[Any]:
        if isinstance(text, str):
            return list(self._ids_of[text])
        return [list(self._ids_of[piece]) for piece in text]


def module(name: str) -> Any:
    """A module of moshi-finetune or moshi; skips where they are not."""
    checkout = os.environ.get(CHECKOUT)
    if not checkout:
        pytest.skip(f"{CHECKOUT} names no checkout of moshi-finetune")
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    return importlib.import_module(name)


def text_stream(
    words: Words, ids_of: Mapping[str, Sequence[int]], num_frames: int, *, main_only: bool, keep_all: bool
) -> list[int]:
    """What the Interleaver makes of words, called as moshi-finetune's train.py does."""
    interleaver = module("finetune.data.interleaver").Interleaver(
        WordTable(ids_of),
        12.5,
        *MOSHI_IDS.values(),
        keep_main_only=main_only,
        keep_and_shift=keep_all,
        device="cpu",
    )
    alignments = [(word, (start, stop), speaker) for word, start, stop, speaker in words]
    return interleaver.prepare_item(alignments, num_frames / 12.5)[0, 0].tolist()


def delayed(streams: Any) -> list[list[int]]:
    """Streams [17, F] as moshi's LMModel delays them, of the released weights' shape."""
    import torch  # noqa: PLC0415

    delays = module("moshi.models.loaders")._lm_kwargs["delays"]
    initial = torch.tensor([[[32_000]] + [[2_048]] * 16])
    late = module("moshi.models.lm_utils")._delay_sequence(delays, torch.as_tensor(streams)[None], initial)
    return late[0].tolist()
