"""The curriculum end to end: bands in the files, stages in the card, sums in stats."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import get_dataset_config_names
from datasets import load_dataset
from toys.building import build_rows
from toys.building import plain
from toys.building import read_rows
from toys.corpus import write_corpus

from speechrows.cli import main
from speechrows.folder.stats import stats
from speechrows.folder.stats import to_text
from speechrows.rows.curriculum import STAGE_LIMITS
from speechrows.validation.validate import validate

# Turns of about 570 tokens each (half a second at 1000 tokens a second): bands 1, 2, 4 and 5.
TURNS = {"one": 6, "two": 22, "four": 70, "five": 140}
RATE = "1000"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages") / "corpus"
    for name, turns in TURNS.items():
        write_corpus(folder, dialogues=2, turns=turns, seconds=0.5, domains=(name,))
    return folder


@pytest.fixture(scope="module")
def built(corpus: Path) -> Path:
    out = corpus.with_name("rows")
    build_rows(corpus, out, audio_tokens_per_second=RATE, shard_bytes=2_000_000)
    return out


def test_conversations_lie_in_the_band_of_their_tokens(built: Path) -> None:
    for name, band in zip(TURNS, (1, 2, 4, 5), strict=True):
        files = sorted((built / f"data/ttt/train/band_{band}").glob("*.parquet"))
        assert {row["domain"] for file in files for row in pq.read_table(file).to_pylist()} == {name}
    assert not (built / "data/ttt/train/band_3").exists()


def test_stages_are_nested_and_load_what_fits_their_limit(built: Path, tmp_path: Path) -> None:
    assert validate(str(built)).ok
    rows = read_rows(built)
    for config, limit in {**STAGE_LIMITS, "ttt": 10**9}.items():
        loaded = load_dataset(str(built), config, split="train", cache_dir=str(tmp_path))
        expected = [row["row_id"] for row in rows if row["conversation_tokens"] <= limit]
        assert loaded["row_id"][:] == expected
        streamed = load_dataset(str(built), config, split="train", streaming=True)
        assert [row["row_id"] for row in plain(streamed)] == expected


def test_stats_are_the_sums_of_the_rows_and_say_which_stage_adds_nothing(built: Path) -> None:
    rows = read_rows(built)
    for stat in stats(str(built)):
        stage_rows = [
            row for row in rows if row["conversation_tokens"] <= STAGE_LIMITS.get(stat.config, 10**9)
        ]
        tokens = {row["conversation_id"]: row["conversation_tokens"] for row in stage_rows}
        assert (stat.turns, stat.conversations) == (len(stage_rows), len(tokens))
        assert stat.hours == pytest.approx(
            sum(r["num_samples"] / r["sampling_rate"] for r in stage_rows) / 3600
        )
        assert stat.tokens_mean == pytest.approx(sum(tokens.values()) / len(tokens))
        assert stat.tokens_max == max(tokens.values())
        quantiles = np.quantile([*tokens.values()], [0.5, 0.95])
        assert [stat.tokens_p50, stat.tokens_p95] == [int(quantile) for quantile in quantiles]
    assert [stat.adds for stat in stats(str(built))] == [None, 2, 2, 0, 2]
    text = to_text(str(built), stats(str(built)))
    assert "train: stage_3 add nothing: no conversation lies between" in text


def test_an_empty_stage_is_not_in_the_card_and_the_build_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=1, turns=140, seconds=0.5)
    out = str(tmp_path / "rows")
    arguments = ["build", "deepdialogue_ttt", "stage_1", "--data-dir", str(corpus), "--out", out]
    assert main([*arguments, "--audio-tokens-per-second", RATE]) == 0
    printed = capsys.readouterr().out
    assert "stage_1 is empty: every conversation is longer than its limit\n" in printed
    assert f'load_dataset("{out}", "ttt")' in printed
    assert get_dataset_config_names(out) == ["ttt"]
    assert validate(out).ok
