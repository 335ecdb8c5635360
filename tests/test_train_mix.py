"""train.py on a mix: losses and hours by source, and the founding mix's shape over the samples."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from toys.building import build_rows
from toys.building import made_up
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.training import curve
from toys.training import run

import speechrows
import train
from speechrows.mix import read_mix
from speechrows.mix.resolved import resolve
from speechrows.model.by_source import BySource

FOUNDING = Path(__file__).parents[1] / "mixes/omni.yaml"
HUB = SAMPLE_OF["omni_tasks"]


@pytest.fixture(scope="module")
def omni_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the founding tasks, over the samples: none has a word of what is said with which feeling."""
    out = tmp_path_factory.mktemp("omni")
    for config in ("transcription", "answer_extraction", "sift_s", "sift_ssp", "sit_ssp"):
        build_rows(HUB, out / "rows", config, builder="omni_tasks", validation_fraction=0.0)
    return out / "rows"


def test_the_tiny_model_trains_on_the_founding_mix_s_shape_with_losses_by_source(
    omni_rows: Path, tmp_path: Path
) -> None:
    mix = yaml.safe_load(FOUNDING.read_text("utf-8"))
    present = {row["conversation_id"].rpartition("/")[0] + "/" for task in (omni_rows / "data").iterdir()
               for row in read_rows(omni_rows, task.name)}  # fmt: skip
    mix["defaults"]["path"] = str(omni_rows)

    def small(sources: list[dict]) -> list[dict]:
        """The same sources, of those that the samples have rows of, with a thousandth of the rows or so."""
        kept = list[dict]()
        for source in sources:
            if "sources" in source:
                kept.append({**source, "sources": small(source["sources"])})
            elif any(name.startswith(source["where"][0][2]) for name in present):
                kept.append({**source, "target_samples": max(1, source["target_samples"] // 20_000)})
        return [source for source in kept if source.get("sources") != []]

    mix["sources"] = small(mix["sources"])
    (tmp_path / "omni.yaml").write_text(yaml.safe_dump(mix))
    names = [source.name for source in resolve(read_mix(tmp_path / "omni.yaml")).sources]
    assert {"LoquaciousSet", "ami", "HeySQuAD_human"} <= {*names}
    lines = run(tmp_path / "omni.yaml", tmp_path / "run", "--steps", "6", "--budget-seconds", "40")
    assert len(curve(lines)) == 6
    assert all(np.isfinite(loss) for _, loss, _ in curve(lines))
    told = {name.split("/")[1] for line in lines for name in line if name.endswith("/text_loss")}
    assert told <= {*names}
    assert len(told) > 2
    assert {line["stage"] for line in lines} == {"mix"}


def test_losses_and_hours_of_sources_add_up_to_those_of_all(tmp_path: Path) -> None:
    for config in ("ttt", "transcription"):
        build_rows(XTTS, tmp_path / "rows", config)
    sources = "[{name: a, config: ttt}, {name: b, config: transcription}]"
    text = f"defaults: {{path: {tmp_path / 'rows'}}}\nsources: {sources}"
    (tmp_path / "mix.yaml").write_text(text)
    size = {"budget_seconds": 12.0, "sampling_rate": 16_000}
    loader = speechrows.load(tmp_path / "mix.yaml", **size)  # type: ignore[arg-type]
    flags = [
        "--data",
        str(tmp_path / "mix.yaml"),
        "--output-dir",
        str(tmp_path / "run"),
        "--budget-seconds",
        "12",
    ]
    trainer = train.Trainer(train.TrainConfig.parse(flags))
    sums, loss, tokens, seconds = BySource(loader.sources), 0.0, 0, 0.0
    model = trainer.accelerator.unwrap_model(trainer.model)
    with torch.no_grad():
        for batch in trainer.loader:
            output = model(batch).text
            sums.add(batch, output)
            loss, tokens, seconds = (
                loss + float(output.loss_sum), tokens + batch.num_supervised, seconds + batch.audio_seconds
            )  # fmt: skip
    counts = {"a": 0, "b": 0}
    for batch in loader:
        for row, (sequence, start, stop) in enumerate(batch.row_spans.tolist()):
            name = loader.sources[int(batch.source[row])]
            counts[name] += int((batch.labels[sequence, start:stop] != -100).sum())
    report = sums.report(lambda values: values)
    assert sum(counts.values()) == tokens
    assert sum(report[f"source/{name}/text_loss"] * counts[name] for name in counts) == pytest.approx(
        loss, rel=1e-4
    )
    assert sum(report[f"source/{name}/hours"] for name in counts) == pytest.approx(seconds / 3600, rel=1e-4)
    assert not any(sums.report(lambda values: values).values())


def test_several_folders_are_trained_on_together_and_resumed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_rows(XTTS, tmp_path / name, "transcription")
    flags = ["--data", str(tmp_path / "two"), "--config", "transcription", "--budget-seconds", "12"]
    straight = run(tmp_path / "one", tmp_path / "run", "--steps", "2", "--save-every", "1", *flags)
    assert {"source/one/hours", "source/two/hours"} <= {*straight[0]}
    shutil.rmtree(tmp_path / "run/checkpoint-00000002")
    resumed = run(tmp_path / "one", tmp_path / "run", "--steps", "2", "--resume", *flags)
    assert curve(resumed) == curve(straight)


def test_a_curriculum_of_a_mix_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--curriculum", "--mode", "pack", "--output-dir", str(tmp_path)]
    assert train.main(["--data", "my.yaml", *flags]) == 2
    assert "--curriculum: found a mix, whose sources say their configs" in capsys.readouterr().err


def test_a_config_or_split_beside_a_mix_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, value in (("--config", "ttt"), ("--split", "validation")):
        assert train.main(["--data", "my.yaml", flag, value]) == 2
        error = capsys.readouterr().err
        assert f"{flag}: found {value} beside my.yaml, a mix, whose sources say theirs; leave it out" in error


def test_sources_of_two_codecs_are_refused_with_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_rows(XTTS, tmp_path / "rows", "transcription")
    codes = made_up(tmp_path / "rows", "mimi", tmp_path / "codes")
    build_rows(XTTS, tmp_path / "rows", "s2s_mimi", generated=(codes,))
    build_rows(SAMPLE_OF["instructs2s_ttt"], tmp_path / "answers", "response", builder="instructs2s_ttt")
    text = "sources: [{path: rows, config: s2s_mimi}, {path: answers, config: response}]"
    (tmp_path / "mix.yaml").write_text(text)
    for mode in (["bucket"], ["pack", "--context", "2048"]):
        flags = ["--data", str(tmp_path / "mix.yaml"), "--mode", *mode, "--output-dir", str(tmp_path / "run")]
        assert train.main(flags) == 2
        error = capsys.readouterr().err
        assert "codes of several codecs: mimi in rows, cosyvoice2 in answers" in error
        assert error.count("\n") == 1
