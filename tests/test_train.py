"""train.py: a tiny real model learns; stopped anywhere it goes on bit for bit."""

import json
import re
import resource
import shutil
import signal
from copy import deepcopy
from dataclasses import fields
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys.building import build_rows
from toys.building import made_up
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.training import MODES
from toys.training import QUICK
from toys.training import curve
from toys.training import metrics
from toys.training import run

import speechrows
import train
from speechrows.errors import DivergedError
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.loader import opened_folder
from speechrows.loader.batch import Batch
from speechrows.model import checkpoint
from speechrows.model.divergence import diverged
from speechrows.model.evaluation import share_exact
from speechrows.model.omni import loss_counts
from speechrows.model.stages import stages_of


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "rows"
    build_rows(XTTS, out, "ttt")
    build_rows(XTTS, out, "transcription")
    return out


@pytest.fixture(scope="module")
def spoken(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spoken")
    codes = made_up(rows, "mimi", out / "codes")
    build_rows(XTTS, out / "rows", "s2s_mimi", generated=(codes,))
    return out / "rows"


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted(out.glob("checkpoint-*"))[-1] / "model.safetensors")


def test_every_field_of_the_config_is_a_flag_and_its_default_the_flags() -> None:
    assert train.TrainConfig.parse(["--data", "rows"]) == train.TrainConfig(data=("rows",))
    config = train.TrainConfig.parse(
        ["--data", "rows", "--eval", "a=b", "--eval", "c=d:e:f", "--budget-seconds", "3", "--resume"]
    )
    assert (config.eval, config.budget_seconds, config.resume) == (("a=b", "c=d:e:f"), 3.0, True)


@pytest.mark.soak
def test_a_tiny_model_learns_to_say_a_conversation_word_by_word(tmp_path: Path) -> None:
    dialogue = "data/dialogues_llama3-8B_cohere7B/health_2_4"
    shutil.copytree(XTTS / dialogue, tmp_path / "corpus" / dialogue)
    short = json.loads((XTTS / f"{dialogue}.json").read_text("utf-8"))
    short["conversation"] = short["conversation"][:2]
    (tmp_path / "corpus" / f"{dialogue}.json").write_text(json.dumps(short), "utf-8")
    build_rows(tmp_path / "corpus", tmp_path / "rows")
    flags = ["--steps", "80", "--learning-rate", "2e-3", "--warmup-steps", "10", "--decode", "2"]
    lines = run(tmp_path / "rows", tmp_path / "run", *flags)
    losses = [loss for _, loss, _ in curve(lines)]
    assert losses[-1] < losses[0] / 2
    assert lines[-1]["train/exact"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(rows: Path, tmp_path: Path, mode: str) -> None:
    straight = run(rows, tmp_path, "--steps", "2", "--save-every", "1", *MODES[mode])
    expected = weights(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-00000002")
    resumed = run(rows, tmp_path, "--steps", "2", "--resume", *MODES[mode])
    assert curve(resumed) == curve(straight)
    resumed_weights = weights(tmp_path)
    assert all(torch.equal(resumed_weights[name], tensor) for name, tensor in expected.items())


def test_the_curriculum_has_the_founding_stages_in_order(rows: Path, tmp_path: Path) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), "--curriculum", "--mode", "lanes"]
    trainer = train.Trainer(train.TrainConfig.parse(flags))
    stages: list[tuple[str, int | None, float]] = []
    sessions = list[int | None]()
    for number in range(len(trainer.stages)):
        trainer.begin(number)
        (rate,) = {group["initial_lr"] for group in trainer.optimizer.param_groups}
        sessions.append(trainer.loader.options.session_tokens)
        stages.append((trainer.loader.index.config, trainer.loader.options.context, rate))
    assert stages == [
        ("stage_1", 8192, 1e-4),
        ("stage_2", 16384, 5e-5),
        ("stage_3", 32768, 2e-5),
        ("stage_4", 65536, 1e-5),
    ]
    assert sessions == [context for _, context, _ in stages], "a stage's sessions are as long as its context"


def test_a_stage_of_the_same_rows_does_not_begin_with_those_of_the_last_one_again(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), "--curriculum", "--mode", "pack"]
    trainer = train.Trainer(train.TrainConfig.parse([*flags, "--context", "512", "--steps", "3"]))
    begun = list[tuple[int, tuple[str, ...]]]()
    for number in range(3):
        if number:
            trainer.begin(number)
        first, *_ = islice(trainer.batches, 3)
        begun.append((first.epoch, first.conversation_ids))
    assert [epoch for epoch, _ in begun] == sorted({epoch for epoch, _ in begun})
    assert len({names for _, names in begun}) > 1


def test_one_stage_has_its_context_and_learning_rate_of_the_table_unless_others_are_given(
    rows: Path, tmp_path: Path
) -> None:
    def stage_of(*flags: str) -> tuple[str, int, float]:
        base = ["--data", str(rows), "--output-dir", str(tmp_path), "--mode", "pack"]
        config = train.TrainConfig.parse([*base, *flags])
        (stage,) = train.Trainer(config).stages
        return stage.config, stage.context, stage.learning_rate

    assert stage_of("--config", "stage_3") == ("stage_3", 32768, 2e-5)
    assert stage_of("--config", "ttt") == ("ttt", 8192, 1e-4)
    assert stage_of("--config", "stage_2", "--context", "512", "--learning-rate", "1") == ("stage_2", 512, 1)


def test_each_stage_has_its_own_steps_and_warm_up_unless_they_are_given(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [
        replace(stage, steps=steps, warmup_steps=1)
        for stage, steps in zip(train.CURRICULUM, (2, 1, 0, 2), strict=True)
    ]
    monkeypatch.setattr(train, "CURRICULUM", table)
    base = ["--data", str(rows), "--curriculum", "--mode", "lanes", "--context", "512", "--log-every", "1"]
    assert train.main([*base, "--output-dir", str(tmp_path), "--learning-rate", "1"]) == 0
    lines = [entry for entry in metrics(tmp_path) if "text_loss" in entry]
    assert [entry["stage"] for entry in lines] == ["stage_1", "stage_1", "stage_2", "stage_4", "stage_4"]
    assert [entry["learning_rate"] for entry in lines] == [1.0, 0.0, 1.0, 1.0, 0.0]  # after a step of each
    config = train.TrainConfig.parse([*base, "--steps", "0", "--warmup-steps", "3"])
    assert {(stage.steps, stage.warmup_steps) for stage in stages_of(table, config)} == {(0, 3)}


def test_training_rows_are_augmented_and_those_that_a_run_is_judged_on_never(
    rows: Path, tmp_path: Path
) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), "--eval", f"same={rows}:ttt:train"]
    flags += ["--decode", "1", "--augment", "speed_percent=100,120", "--augment", "snr_db=5,10"]
    trainer = train.Trainer(train.TrainConfig.parse(flags))
    (plain, *_), judged = trainer.rows(str(rows), "ttt", "train"), trainer.evaluation
    assert judged.training is not None
    (augmented, *_), (of_set, *_), (decoded, *_) = trainer.loader, judged.sets["same"], judged.training
    assert plain.features is not None
    assert plain.row_ids == augmented.row_ids == of_set.row_ids == decoded.row_ids
    assert torch.equal(plain.features, of_set.features)
    assert torch.equal(plain.features, decoded.features)
    assert not torch.equal(plain.features, augmented.features)


@pytest.mark.soak
def test_a_curriculum_stopped_in_its_second_stage_goes_on_there(rows: Path, tmp_path: Path) -> None:
    flags = ["--curriculum", "--mode", "lanes", "--context", "512", "--ttt-layers", "1", "--steps", "2"]
    flags += ["--eval", f"same={rows}:ttt:train", "--eval-every", "2"]
    straight = run(rows, tmp_path / "straight", *flags)
    run(rows, tmp_path / "stopped", *flags, "--save-every", "1", "--keep", "9")
    for late in sorted((tmp_path / "stopped").glob("checkpoint-*"))[3:]:
        late.rename(tmp_path / late.name)
    resumed = run(rows, tmp_path / "stopped", *flags, "--resume")
    assert [entry["stage"] for entry in resumed if "text_loss" in entry][-5] == "stage_2"
    assert curve(resumed)[-5:] == curve(straight)[-5:]
    assert resumed[-1] == straight[-1]
    expected, actual = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(("budget", "most"), [("12", "8"), pytest.param("3", "24", marks=pytest.mark.soak)])
def test_the_gradient_of_a_step_is_that_of_the_means_over_all_its_tokens_and_codes(
    spoken: Path, tmp_path: Path, budget: str, most: str
) -> None:
    flags = ["--data", str(spoken), "--output-dir", str(tmp_path), "--config", "s2s_mimi"]
    many = [*flags, "--budget-seconds", budget, "--micro-batches", most, "--codec-weight", "0.5"]
    trainer = train.Trainer(train.TrainConfig.parse(many))
    model = deepcopy(trainer.model)
    loader = trainer.rows(str(spoken), "s2s_mimi", "train")
    assert len(loader.plan) == 1
    losses, norm = trainer.train_step()
    (batch,) = speechrows.load(str(spoken), "s2s_mimi", budget_tokens=1 << 20, mel=80)
    output = model(batch)
    losses_of_all, counts = output.losses(), loss_counts(batch)
    assert counts.tolist() == [batch.num_supervised, output.codec.num_semantic, output.codec.num_depth]
    text, *codes = losses_of_all / counts
    (text + 0.5 * sum(codes)).backward()
    expected = torch.stack(
        [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    ).norm()
    assert losses.tolist() == pytest.approx((losses_of_all / counts).tolist(), rel=1e-4)
    assert float(norm) == pytest.approx(float(expected), rel=1e-3)


def test_unrolled_steps_have_one_gradient_that_goes_through_their_states(rows: Path, tmp_path: Path) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), "--mode", "lanes", "--context", "128"]
    trainer = train.Trainer(
        train.TrainConfig.parse([*flags, "--ttt-layers", "1", "--ttt-mini-batch", "16", "--unroll", "2"])
    )
    (layer,) = trainer.layers
    torch.nn.init.ones_(layer.gate)  # so that what it recalls counts
    models = [deepcopy(trainer.model) for _ in range(2)]
    first, second = islice(trainer.rows(str(rows), "ttt", "train").endless(), 2)
    assert not second.reset[:, 0].any(), "the conversation goes on in the second step"
    empty = trainer.lanes.afresh().states(first)
    norms = list[float]()
    for model, ends_between in zip(models, (False, True), strict=True):
        output = model(first, empty)
        states = [state.detach() if ends_between else state for state in output.text.states]
        losses = output.losses() + model(second, states).losses()
        (losses[0] / (first.num_supervised + second.num_supervised)).backward()
        norms.append(
            float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.requires_grad]))
        )
    _, norm = trainer.train_step()
    assert float(norm) == pytest.approx(norms[0], rel=1e-5)
    assert float(norm) != pytest.approx(norms[1], rel=1e-3)


def test_tensorboard_has_the_losses_of_the_run(rows: Path, tmp_path: Path) -> None:
    lines = run(rows, tmp_path, "--steps", "2", *MODES["bucket"], "--log-with", "tensorboard")
    events = EventAccumulator(str(tmp_path / "speechrows"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("text_loss")]
    assert logged == [(step, pytest.approx(loss)) for step, loss, _ in curve(lines)]
    (config,) = (tmp_path / "speechrows").glob("*/hparams.yml")
    told = yaml.safe_load(config.read_text("utf-8"))
    assert {*told} == {entry.name for entry in fields(train.TrainConfig)}
    assert (told["steps"], told["eval"], told["resume"]) == (2, "()", False)
    run(rows, tmp_path, "--steps", "1", *MODES["bucket"], "--overwrite")
    assert not (tmp_path / "speechrows").exists()


class Parrot:
    """A model that says what the row says, up to the end token."""

    def eval(self) -> None: ...

    def train(self) -> None: ...

    def generate(self, batch: Batch, *, max_new_tokens: int, end_ids: set[int], rows: slice) -> Any:
        first = int((batch.labels[0] >= 0).nonzero()[0])
        said = takewhile(lambda token: token not in end_ids, batch.input_ids[0, first:].tolist())
        return SimpleNamespace(tokens=[[*said]])


def test_of_a_row_with_several_targets_the_first_is_decoded(tmp_path: Path) -> None:
    corpus, builder = SAMPLE_OF["dailytalk_usdm"], "dailytalk_usdm"
    build_rows(corpus, tmp_path / "heard", "transcription", builder=builder)
    units = made_up(tmp_path / "heard", "units", tmp_path / "units")
    build_rows(corpus, tmp_path / "rows", "usdm", builder=builder, generated=(units,))
    rows, lines = speechrows.load(str(tmp_path / "rows"), "usdm", budget_seconds=60), list[str]()
    assert share_exact(Parrot(), rows, 9, lines.append) == 1.0  # type: ignore[arg-type]
    built = [row for row in read_rows(tmp_path / "rows", "usdm") if "/train/" in row["row_id"]]
    for line, row in zip(lines, built, strict=True):
        assert line == f"{row['row_id']}: {row['transcript'].lower()}"


def test_a_run_opens_its_folder_and_tokenizer_once_and_each_config_once(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def count(owner: Any, name: str) -> None:
        open_it = getattr(owner, name)

        def counting(*arguments: Any) -> Any:
            opened.append(" ".join([owner.__name__.rpartition(".")[2], *map(str, arguments[1:])]))
            return open_it(*arguments)

        monkeypatch.setattr(owner, name, counting)

    count(RowsFolder, "open")
    count(Index, "open")
    count(opened_folder, "open_tokenizer")
    flags = ["--curriculum", "--mode", "lanes", "--context", "512", "--steps", "1", "--decode", "1"]
    run(rows, tmp_path, *flags, "--eval", f"same={rows}:ttt:train")
    configs = ("stage_1", "ttt", "stage_2", "stage_3", "stage_4")
    indexes = [f"Index {config} train" for config in configs]
    assert sorted(opened) == sorted(["RowsFolder", "opened_folder", *indexes])


def test_each_named_set_is_evaluated_by_task(rows: Path, tmp_path: Path) -> None:
    sets = ["--eval", f"same={rows}:ttt:train", "--eval", f"other={rows}:transcription:train"]
    lines = run(rows, tmp_path, "--steps", "1", *sets)
    assert {*lines[-1]} == {"stage", "step", "same/ttt/text_loss", "other/transcription/text_loss"}
    assert all(2 < lines[-1][name] < 8 for name in lines[-1] if "loss" in name)


@pytest.mark.soak
def test_the_codec_loss_falls_beside_the_text_loss(spoken: Path, tmp_path: Path) -> None:
    lines = run(spoken, tmp_path / "run", "--config", "s2s_mimi", "--steps", "5")
    assert lines[4]["codec_loss"] < lines[0]["codec_loss"]
    assert lines[4]["text_loss"] < lines[0]["text_loss"]
    first = lines[0]
    assert first["codec_loss"] == pytest.approx(first["codebook_0_loss"] + first["depth_loss"])


def test_calls_that_are_wrong_say_what_to_do(rows: Path, tmp_path: Path, capsys: Any) -> None:
    base = ["--data", str(rows), "--output-dir", str(tmp_path)]
    assert train.main([*base, "--resume"]) == 2
    assert "found no checkpoint" in capsys.readouterr().err
    assert train.main([*base, "--steps", "0", "--eval", "unnamed"]) == 2
    assert "expected NAME=PATH" in capsys.readouterr().err
    assert train.main([*base, "--config", "stage_9"]) == 2
    assert "no config 'stage_9'" in capsys.readouterr().err
    for flags, message in {
        ("--ttt-layers", "1"): "--mode bucket: takes rows alone",
        ("--curriculum",): "--mode bucket: takes rows alone",
        ("--mode", "pack", "--session", "64"): "--session: found --mode pack, expected lanes",
        ("--eval", f"x={rows}"): "no split 'validation'",
        ("--eval", f"x={rows}:ttt:train", "--eval", f"x={rows}:ttt:train"): "found 'x' twice",
        ("--augment", "speed=110"): "augment: found 'speed', expected one of speed_percent, gain_db",
        ("--augment", "snr_db=10"): "augment snr_db: found '10', expected two numbers",
        ("--eval", "x=hf://datasets/org/none:ttt"): "hf://datasets/org/none: no such dataset on the Hub",
        ("--eval", f"x={rows}:ttt:train", "--budget-seconds", "1"): "The least that fits is budget_seconds",
    }.items():
        assert train.main([*base, *flags]) == 2, flags
        assert message in capsys.readouterr().err
    for flags in (["--log-every", "0"], ["--steps", "-1"], ["--schedule", "foo"], ["--log-with", "paper"]):
        with pytest.raises(SystemExit, match="2"):
            train.main([*base, *flags])
        assert f"argument {flags[0]}" in capsys.readouterr().err
    assert not [*tmp_path.glob("checkpoint-*")]
    (tmp_path / "checkpoint-00000007").mkdir()
    (tmp_path / "checkpoint-00000007/custom_checkpoint_0.pkl").write_bytes(b"of an earlier train.py")
    assert train.main([*base, "--resume"]) == 2
    assert "found no state.json" in capsys.readouterr().err


def test_a_run_tells_what_it_trains_how_long_it_goes_on_and_where_its_end_lies(
    rows: Path, tmp_path: Path, capsys: Any
) -> None:
    flags = ["--steps", "3", "--log-every", "50", "--save-every", "1", "--decode", "1"]
    logged = run(rows, tmp_path, *MODES["bucket"], *flags)
    begin, first, *_, end = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"training 637,312 of 733,312 parameters \(tiny\) on 17 rows of .* \(ttt, train\): 3 steps from the "
        rf"start, to {tmp_path}",
        begin,
    )
    assert re.fullmatch(r"ttt 1/3  text_loss 5\.\d+ .*  steps_per_second \S+  left 0:\d\d:\d\d", first)
    exact = rf"done: 3 steps, 0:00:\d\d  text_loss \S+  train/exact 0  {tmp_path}/checkpoint-00000003"
    assert re.fullmatch(exact, end)
    assert [entry["step"] for entry in logged] == [1, 3, 3]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-00000002",
        "checkpoint-00000003",
    ]


def test_a_folder_that_is_used_is_refused_before_rows_are_opened_and_overwritten_where_asked(
    rows: Path, tmp_path: Path, capsys: Any
) -> None:
    first = run(rows, tmp_path, "--steps", "2")
    assert train.main(["--data", "nowhere", "--output-dir", str(tmp_path)]) == 2
    assert "--resume, or begin anew with --overwrite" in capsys.readouterr().err
    assert train.main(["--data", "./nowhere", "--output-dir", str(tmp_path), "--overwrite"]) == 2
    assert (tmp_path / "checkpoint-00000002").exists(), "nothing is removed before a run can begin"
    again = run(rows, tmp_path, "--steps", "1", "--overwrite")
    assert curve(again)[0][1] == curve(first)[0][1]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000001"]


def test_a_step_whose_loss_is_not_finite_stops_the_run_and_nothing_of_it_is_saved(
    rows: Path, tmp_path: Path, capsys: Any
) -> None:
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), *QUICK, *MODES["bucket"], "--steps", "8"]
    assert train.main([*flags, "--save-every", "1", "--keep", "1", "--learning-rate", "1e30"]) == 1
    error = capsys.readouterr().err
    assert "step 3: found a loss of nan and a gradient of norm nan" in error
    assert "checkpoint-00000002 is kept: go on from it with --resume. Try a lower" in error
    assert "\n  deepdialogue_ttt/train/" in error
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000002"]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())
    assert [entry["step"] for entry in metrics(tmp_path)] == [1, 2]


def test_weights_that_are_not_finite_are_not_saved(rows: Path, tmp_path: Path) -> None:
    trainer = train.Trainer(train.TrainConfig.parse(["--data", str(rows), "--output-dir", str(tmp_path)]))
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(torch.inf)
    with pytest.raises(DivergedError, match="step 0: found weights that are infinite or NaN"):
        trainer.save()
    assert not [*tmp_path.iterdir()]


def test_rows_of_the_batches_that_spoil_a_step_are_named_and_of_many_the_first() -> None:
    rows = [(f"row {i}", i % 2 == 1) for i in range(60)]
    error = str(diverged("step 4", rows, learning_rate=0.1, way_on="x"))
    assert error.splitlines()[1:] == [f"  row {i}" for i in range(1, 41, 2)] + ["  and 10 more"]
    assert "row 2" in str(diverged("step 4", [("row 2", False)], learning_rate=0.1, way_on="x"))


def test_ctrl_c_tells_the_step_the_latest_checkpoint_and_how_to_go_on(
    rows: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save

    def interrupted(partial: Path, *arguments: Any, **options: Any) -> None:
        save(partial, *arguments, **options)
        if partial.name == "checkpoint-00000003.partial":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    flags = ["--data", str(rows), "--output-dir", str(tmp_path), *MODES["bucket"], "--save-every", "1"]
    assert train.main(flags) == 130
    told = (
        f"train.py: stopped after step 3. {tmp_path}/checkpoint-00000002 is kept: go on from it with --resume"
    )
    assert capsys.readouterr().err.splitlines() == [told]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-00000001",
        "checkpoint-00000002",
    ]


def test_a_run_that_finds_no_room_to_save_tells_what_is_kept_and_goes_on_when_there_is(
    rows: Path, tmp_path: Path, capsys: Any
) -> None:
    flags = [*MODES["bucket"], "--steps", "3", "--save-every", "1"]
    run(rows, tmp_path, *MODES["bucket"], "--steps", "1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        assert (
            train.main(["--data", str(rows), "--output-dir", str(tmp_path), *QUICK, *flags, "--resume"]) == 1
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert "found no room to write after step 2 (File too large). Make room" in error
    assert f"{tmp_path}/checkpoint-00000001 is kept: go on from it with --resume" in error
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000001"]
    assert [step for step, *_ in curve(run(rows, tmp_path, *flags, "--resume"))] == [1, 2, 3]


def test_the_help_shows_every_default_in_a_word(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="0"):
        train.TrainConfig.parse(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert not re.findall(r"default: (?:None|False|)\)", printed)
    optional = [entry for entry in fields(train.TrainConfig) if not entry.metadata["required"]]
    assert printed.count("(default: ") == len(optional)


@pytest.mark.parametrize("tracker", ["trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_named(
    rows: Path, tmp_path: Path, capsys: Any, tracker: str
) -> None:
    if find_spec(tracker):
        pytest.skip(f"{tracker} is installed")
    assert train.main(["--data", str(rows), "--output-dir", str(tmp_path), "--log-with", tracker]) == 2
    assert f"pip install {tracker}" in capsys.readouterr().err


def test_a_tracker_that_does_not_start_is_told_with_its_own_words(
    rows: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "speechrows").write_text("in the place of its folder", "utf-8")
    assert train.main(["--data", str(rows), "--output-dir", str(tmp_path), "--log-with", "tensorboard"]) == 2
    assert "--log-with: the tracker does not start: " in capsys.readouterr().err
