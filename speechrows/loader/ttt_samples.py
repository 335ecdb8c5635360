"""The founding samples of the project: a dict of six fields for each turn, in file order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechrows.loader.load import load

_UNLIMITED = 1 << 30  # a budget of tokens that every row fits in


def ttt_samples(path: str | Path, config: str = "ttt", split: str = "train") -> Iterator[dict[str, Any]]:
    """Yield each row of a config as a dict, conversation by conversation, turn by turn.

    `speech` float32 [S] at 16 kHz, `speech_lengths` its length, `input_ids` and `labels` int64 [T] padded
    as they are stored (in ttt configs to a multiple of 64), `conversation_id`, `turn_number` from 0.
    """
    loader = load(path, config, split, budget_tokens=_UNLIMITED, prefetch=16)
    for batch in loader.batches(loader.in_file_order()):
        assert batch.speech is not None
        length = int(batch.speech_lengths[0]) if len(batch.speech_lengths) else 0
        yield {
            "speech": batch.speech.flatten()[:length],
            "speech_lengths": length,
            "input_ids": batch.input_ids[0],
            "labels": batch.labels[0],
            "conversation_id": batch.conversation_ids[0],
            "turn_number": batch.turn_numbers[0],
        }
