"""`speechrows stats mix.yaml`: what an epoch holds, before there is one, is what an epoch gives."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from toys.building import build_rows
from toys.corpus import write_corpus

import speechrows
from speechrows.cli import main
from speechrows.loader.mix_stats import mix_stats


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("stats")
    corpus = write_corpus(base / "corpus", dialogues=9, seconds=0.4)
    for config in ("ttt", "transcription"):
        build_rows(corpus, base / "rows", config)
    sources = """[
      {name: talks, config: ttt, weight: 2},
      {name: words, config: transcription, weight: 1, where: [[turn_number, ">", 0]]}]"""
    text = f"by: tokens\nepoch: {{tokens: 3000}}\ndefaults: {{path: {base / 'rows'}}}\nsources: {sources}\n"
    (base / "mix.yaml").write_text(f"{text}stages: [{{epochs: 2}}, {{weight: {{words: 0}}}}]\n")
    return base / "mix.yaml"


def test_what_stats_tell_of_a_stage_is_what_its_first_epoch_gives(mix: Path) -> None:
    for stage in mix_stats(mix, context=1024, mode="pack"):
        loader = speechrows.load(mix, mode="pack", context=1024)
        loader.set_epoch(stage.epoch)
        plan = loader.plan
        rows, tokens, seconds = Counter[str](), Counter[str](), 0.0
        for batch in loader:
            for number, (_, start, stop) in zip(batch.source.tolist(), batch.row_spans.tolist(), strict=True):
                rows[loader.sources[number]] += 1
                tokens[loader.sources[number]] += stop - start
            seconds += batch.audio_seconds
        assert {source.source: source.rows for source in stage.sources if source.rows} == dict(rows)
        assert {source.source: source.tokens for source in stage.sources if source.tokens} == dict(tokens)
        assert stage.hours == pytest.approx(seconds / 3600, rel=1e-6)
        assert (stage.steps, stage.fill, stage.dropped) == (len(plan), plan.fill, 0)
        assert sum(source.fill or 0 for source in stage.sources) == pytest.approx(stage.fill)
        assert sum(source.share for source in stage.sources) == pytest.approx(1)
    assert [source.left_out for source in stage.sources] == [0, 9]


def test_what_is_left_for_the_next_epoch_is_less_than_a_conversation_and_adds_up(mix: Path) -> None:
    first, later = mix_stats(mix)
    loader = speechrows.load(mix, mode="pack", context=1024)
    assert loader.mix is not None
    for number, source in enumerate(first.sources):
        assert source.tokens + source.short == loader.mix.schedule.amounts(0)[number]
        assert 0 <= source.short < 300
    assert (first.epochs, later.epochs, later.epoch) == (2, None, 2)
    assert later.sources[1].rows == 0
    assert np.isclose(later.sources[0].passes, later.sources[0].tokens / loader.mix.sources[0].size.tokens)


def test_the_command_prints_a_table_and_json(mix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(mix)]) == 0
    text = capsys.readouterr().out
    assert "epochs 0 to 1:" in text
    assert "epochs 2 on:" in text
    assert "left for the next epoch" in text
    assert main(["stats", str(mix), "--json", "--context", "1024", "--mode", "pack"]) == 0
    stages = json.loads(capsys.readouterr().out)
    assert [source["source"] for source in stages[0]["sources"]] == ["talks", "words"]
    assert stages[0]["steps"] > 0
