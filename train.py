"""Train a model that hears and speaks on rows of speechrows.

    python train.py --data rows/deepdialogue_ttt --config ttt --preset tiny --output-dir runs/tiny
    accelerate launch train.py --data org/deepdialogue_ttt --curriculum --mode lanes --preset llama-omni

`speechrows train` runs this file; `speechrows train --copy-to DIR` gives a copy to be changed. Read from
top to bottom. An optimiser step is `micro_batches` micro-batches, divided among the ranks; its loss is the
mean over the supervised tokens of all of them, so it is the same on any number of ranks.
"""

import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from typing import NoReturn

import torch
from accelerate.utils import gather_object
from accelerate.utils import set_seed
from torch import Tensor

import speechrows
from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.flags import flag
from speechrows.flags import parsed
from speechrows.loader.batch import Batch
from speechrows.loader.collate.augment import Augment
from speechrows.loader.loader import Loader
from speechrows.model import checkpoint
from speechrows.model import progress
from speechrows.model import stages
from speechrows.model.by_source import BySource
from speechrows.model.config import RowsFacts
from speechrows.model.divergence import diverged
from speechrows.model.divergence import suspects
from speechrows.model.divided import whole
from speechrows.model.judging import Judging
from speechrows.model.lanes import Lanes
from speechrows.model.model_folder import begin_from
from speechrows.model.model_folder import describe
from speechrows.model.omni import loss_counts
from speechrows.model.omni import omni
from speechrows.model.opened_rows import OpenedRows
from speechrows.model.ranks import num_micro_batches
from speechrows.model.ranks import open_accelerator
from speechrows.model.ranks import start_tracker
from speechrows.model.ranks import total
from speechrows.model.run_folder import RunFolder
from speechrows.model.shape import ModelShape
from speechrows.model.sharding import gathered
from speechrows.model.sharding import prepared
from speechrows.model.tuning import Tuning
from speechrows.text.tokenizers import open_tokenizer

CURRICULUM = (
    stages.Stage(config="stage_1", context=8_192, learning_rate=1e-4),
    stages.Stage(config="stage_2", context=16_384, learning_rate=5e-5),
    stages.Stage(config="stage_3", context=32_768, learning_rate=2e-5),
    stages.Stage(config="stage_4", context=65_536, learning_rate=1e-5),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ModelShape, Judging, Tuning):
    """Everything that a run depends on. Each field is a flag: `learning_rate` is `--learning-rate`."""

    data: tuple[str, ...] = flag((), "a built folder, org/name, or a mix.yaml; repeatable", required=True)
    output_dir: Path = flag(Path("runs"), "where checkpoints and logs go")
    split: str = flag("train", "its split")
    curriculum: bool = flag(False, "train on stage_1 to stage_4; modes pack and lanes")
    mode: str = flag("bucket", "how rows become batches", choices=["bucket", "pack", "lanes"])
    budget_seconds: float = flag(60.0, "of a micro-batch in mode bucket")
    context: int = flag(0, "slots of a sequence in modes pack and lanes; 0: the stage's, else 8192", least=0)
    session: int = flag(0, "tokens of a session in mode lanes; 0: a curriculum's context, else none", least=0)
    augment: tuple[str, ...] = flag((), "NAME=VALUES, what training rows are changed by; repeatable")
    batch_size: int = flag(1, "sequences of a micro-batch in modes pack and lanes")
    micro_batches: int = flag(0, "of an optimiser step, over all ranks; 0: as many as ranks", least=0)
    unroll: int = flag(1, "steps of a lane in one optimiser step, the gradient through their states", least=1)
    too_long: str = flag("error", "what to do with rows over the budget", choices=["error", "drop"])
    cache: float = flag(0.0, "GB of a store's shards that are kept on this machine's disk; 0: none", least=0)
    steps: int | None = flag(None, "optimiser steps of a stage; else its own, or 300", kind=int, least=0)
    learning_rate: float = flag(0.0, "its peak; 0: the stage's, else 1e-4", least=0)
    warmup_steps: int | None = flag(None, "of rising learning rate; else as steps, or 20", kind=int, least=0)
    schedule: str = flag("cosine", "after that", choices=["cosine", "linear", "constant_with_warmup"])
    max_grad_norm: float = flag(1.0, "gradients are clipped to it")
    codec_weight: float = flag(1.0, "of the codec loss beside the text loss")
    seed: int = flag(0, "of weights, order and augmentation")
    log_every: int = flag(10, "steps", least=1)
    save_every: int = flag(0, "steps; 0: at the end alone", least=0)
    keep: int = flag(2, "checkpoints kept, the latest", least=1)
    log_with: str = flag("", "a tracker that is installed", choices=["trackio", "tensorboard", "wandb"])
    resume: bool = flag(False, "go on from the latest checkpoint in --output-dir")
    init_from: str = flag("", "a run, or a model that was saved: begin with its weights, and all else anew")
    overwrite: bool = flag(False, "begin anew, and remove the run that --output-dir holds")

    @staticmethod
    def parse(arguments: Sequence[str] | None = None) -> "TrainConfig":
        """The config of a command line."""
        return parsed(TrainConfig, __doc__, arguments)


class Trainer:
    """A model, its optimiser and the current stage; what a checkpoint holds."""

    def __init__(self, config: TrainConfig) -> None:
        stages.check_flags(config)
        self.folder = RunFolder(config.output_dir)
        self.folder.claim(resume=config.resume, overwrite=config.overwrite)
        self.stage_number, self.done = 0, 0  # done: optimiser steps of the whole run
        self.stages = stages.stages_of(CURRICULUM, config)
        self.loader: Any = None
        self.augment, self.best = Augment.parse(config.augment), config.open_best()
        self.accelerator = open_accelerator(config.output_dir, config.log_with)
        resumed = self.folder.latest() if config.resume else None
        micro_batches = num_micro_batches(config.micro_batches, self.accelerator, resumed)
        self.config = config = replace(config, micro_batches=micro_batches)
        device = self.accelerator.device.type
        self.autocast = partial(torch.autocast, device, torch.bfloat16, enabled=config.is_half)
        set_seed(config.seed)
        self.preset, self.mel, self.opened = config.parts, None, OpenedRows()
        self.total = partial(total, self.accelerator)  # of values, over ranks
        self.tokenizer = open_tokenizer(name) if (name := self.preset.tokenizer) else None  # else the rows'
        rows = self.rows(config.data, self.stages[0].config, config.split)
        model = omni(config, rows.tokenizer, rows.codec())
        if config.init_from and not config.resume:
            self.tell(begin_from(model, Path(config.init_from)))
        config.prepare(model)
        if resumed:
            config.check_adapters(resumed)
            checkpoint.load_weights(resumed, model)
        self.mel, self.layers = model.speech_lm.encoder.mel, [*model.speech_lm.stateful]
        self.model, self.optimizer = prepared(self.accelerator, model, config)
        self.saved: Path | None = None  # the checkpoint of the run's position, where there is one
        self.progress = progress.Progress(0)
        self.begin(0)
        if config.best:
            self.best.check(self.evaluation.names())

    def begin(self, stage_number: int, step: int = 0) -> None:
        """Begin a stage: its rows in a new order, its learning rate at a step, all lanes empty."""
        config, stage = self.config, self.stages[stage_number]
        self.stage_number, self.step = stage_number, step
        training = (config.data, stage.config, config.split)
        self.loader = stages.going_on(self.rows(*training, augment=self.augment), self.loader)
        self.batches, self.by_source = self.loader.endless(), BySource(self.loader.sources)
        self.evaluation = config.evaluation(self.accelerator, self.model, self.rows, training)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = stage.learning_rate * group["scale"]
        self.schedule = stages.schedule_of(config.schedule, self.optimizer, stage, step)
        self.lanes = Lanes(self.layers, config.micro_batches * config.batch_size)

    def rows(self, path: Sequence[str], config: str, split: str, augment: Augment | None = None) -> Loader:
        """This rank's share of rows, as the run's model takes them; each folder is opened once a run."""
        run, accelerator = self.config, self.accelerator
        folder, config, split = self.opened.open(path, config, split)
        context = self.stages[self.stage_number].context
        size: dict[str, Any] = {"context": context, "batch_size": run.batch_size}
        if run.mode == "lanes" and (session := run.session or context * run.curriculum):
            size["session_tokens"] = session
        size = {"budget_seconds": run.budget_seconds} if run.mode == "bucket" else size
        size |= {"mode": run.mode, "too_long": run.too_long}
        return speechrows.load(
            folder, config, split, seed=run.seed, mel=self.mel,
            augment=augment, micro_batches=run.micro_batches, device=accelerator.device,
            rank=accelerator.process_index, world_size=accelerator.num_processes,
            tokenizer=self.tokenizer, audio_tokens_per_second=self.preset.rate,
            cache_bytes=int(run.cache * 10**9) or None, **size,
        )  # fmt: skip

    def train(self) -> None:
        """Train from the run's position to its end; whatever stops it tells what is kept."""
        try:
            with self.folder.telling_what_is_kept(lambda: self.done):
                self.train_stages()
        finally:
            if self.accelerator.is_main_process:
                self.folder.tidy()
            # Release the process group: a thread of gloo's that outlives Python aborts the process.
            self.model, self.optimizer = self.accelerator.free_memory(self.model, self.optimizer)
            self.accelerator.end_training()

    def train_stages(self) -> None:
        """Train all stages from the run's position; log, evaluate and save on the way and at the end."""
        self.start()
        config, first, reached, evaluated = self.config, self.done + 1, dict[str, float](), dict[str, float]()
        while self.left and not self.best.is_over:
            steps = self.stages[self.stage_number].steps
            if self.step == steps:
                self.begin(self.stage_number + 1)
                continue
            losses, norm = self.train_step()
            if self.step % config.log_every == 0 or self.step == steps or self.done == first:
                self.log(reached := self.report(losses, norm))
            if config.eval_every and self.step % config.eval_every == 0 and self.left:
                evaluated = self.judge()
            if config.save_every and self.step % config.save_every == 0:
                self.save()
        self.save()
        if not self.best.is_over:
            evaluated = self.judge()
        reached = {name: reached[name] for name in ("text_loss", "codec_loss") if name in reached} | evaluated
        line = f"done: {self.done} steps, {self.progress.taken()}  {progress.line(reached)}  {self.saved}"
        self.tell(f"{line}  {self.best}".rstrip())

    def start(self) -> None:
        """Go to the run's position, and tell what is trained."""
        if (config := self.config).resume:
            self.resume(self.folder.latest())
            for report in self.folder.reports(self.done):
                self.best.add(report["step"], report)
        if self.accelerator.is_main_process:
            self.folder.begin(self.done if config.resume else None)
            if self.saved and self.best.step == self.done:
                self.folder.keep_best(self.saved)
        start_tracker(self.accelerator, self.folder.path, config)
        rows, stage, now = self.loader.index, self.stages[self.stage_number], self.saved or "the start"
        self.tell(
            f"training {progress.sizes(self.model)} ({config.name}) on {len(rows):,} rows of "
            f"{rows.address} ({stage.config}, {config.split}): {self.left} steps from {now}, to {self.folder}"
        )
        self.progress = progress.Progress(self.done)

    @property
    def left(self) -> int:
        """The steps that the run has left, in all its stages."""
        return sum(stage.steps for stage in self.stages[self.stage_number :]) - self.step

    def tell(self, text: str) -> None:
        """Print a line, once for all ranks."""
        self.accelerator.print(printable(text), flush=True)

    def train_step(self) -> tuple[Tensor, Tensor]:
        """One optimiser step over its micro-batches: the losses, float32 [3], and the gradient's norm."""
        ranks = self.accelerator.num_processes
        with self.progress.waiting():
            rounds = self.loader.plan.num_rounds(ranks)
            batches = list(islice(self.batches, rounds * self.config.unroll))
        batches = [batch for i in range(rounds) for batch in batches[i::rounds]]  # steps of the same lanes
        self.progress.audio_s += sum(batch.audio_seconds for batch in batches)
        counts = self.total(torch.stack([*map(loss_counts, batches)]).sum(0)).clamp(min=1)
        weights = torch.tensor([1.0, *2 * [self.config.codec_weight]], device=counts.device) / counts
        sums = list[Tensor]()  # of each micro-batch
        for i in range(rounds):
            with nullcontext() if i + 1 == rounds else self.accelerator.no_sync(self.model):
                unrolled = batches[i * self.config.unroll :][: self.config.unroll]
                losses = torch.stack([self.losses_of(batch) for batch in unrolled])
                self.accelerator.backward((losses * weights).sum() * ranks)  # DDP takes the mean over ranks
            self.lanes.detach()
            sums += losses.detach()
        clipped: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        norm = whole(clipped)
        means = self.total(torch.stack(sums).sum(0)) / counts
        if not torch.stack([*means, norm]).isfinite().all():
            what = f"found a loss of {float(means.sum())} and a gradient of norm {float(norm)}"
            self.stop(f"step {self.done + 1}: {what}", suspects(batches, sums))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.step, self.done, self.saved = self.step + 1, self.done + 1, None
        return means, norm

    def losses_of(self, batch: Batch) -> Tensor:
        """The summed losses of a batch, float32 [3]; its lanes have read it."""
        with self.autocast():
            output = self.model(batch, self.lanes.states(batch))
        self.lanes.keep(batch, output.text.states)
        self.by_source.add(batch, output.text)
        return output.losses()

    def stop(self, what: str, rows: Sequence[tuple[str, bool]] = ()) -> NoReturn:
        """Stop the run, on all ranks, because something is not finite; `rows` are this rank's suspects."""
        rows = gather_object([*rows])
        if not self.accelerator.is_main_process:
            raise SystemExit(1)  # rank 0 tells why
        rate = self.stages[self.stage_number].learning_rate
        raise diverged(what, rows, learning_rate=rate, way_on=self.folder.way_on())

    def report(self, losses: Tensor, norm: Tensor) -> dict[str, float]:
        """The values to log: losses of the last step, speed since the last report."""
        text, semantic, depth = losses.tolist()
        audio_s = self.total(torch.tensor(self.progress.audio_s)).item()
        group = self.optimizer.param_groups[0]
        logs = {"text_loss": text, "grad_norm": float(norm), "learning_rate": group["lr"] / group["scale"]}
        if self.accelerator.unwrap_model(self.model).audio_head is not None:
            logs |= {"codec_loss": semantic + depth, "codebook_0_loss": semantic, "depth_loss": depth}
        return logs | self.progress.speed(self.done, audio_s) | self.by_source.report(self.total)

    def judge(self) -> dict[str, float]:
        """Evaluate, log, and keep the checkpoint where it is the best."""
        with self.autocast(), gathered(self.model):
            report = self.evaluation.report(self.lanes)
        self.log(report)
        if self.best.add(self.done, report):
            self.save()
            if self.saved and self.accelerator.is_main_process:
                self.folder.keep_best(self.saved)
        return report

    def log(self, report: dict[str, float]) -> None:
        """Print a line, append a line to metrics.jsonl, and tell the tracker."""
        if not (report and self.accelerator.is_main_process):
            return
        stage = self.stages[self.stage_number]
        self.tell(f"{stage.config} {self.step}/{stage.steps}  {progress.line(report, self.left)}")
        self.folder.log({"stage": stage.config, "step": self.done, **report})
        self.accelerator.log(report, step=self.done)

    def save(self) -> None:
        """Save a checkpoint: model, optimiser, random numbers and the run's position; keep the latest."""
        if self.saved:
            return
        partial, model = self.folder.partial(self.done), self.accelerator.unwrap_model(self.model)
        if not all(whole(weight.isfinite().all()) for weight in model.parameters()):
            self.stop(f"step {self.done}: found weights that are infinite or NaN")
        position = {"stage": self.stage_number, "step": self.step, "done": self.done}
        position |= {"loader": self.loader.state_dict()}
        saved = checkpoint.Saved(position=position, lanes=self.lanes.state_dict(self.total))
        checkpoint.save(partial, saved, model, self.optimizer, rank=self.accelerator.process_index)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            facts = {"rows": RowsFacts.of(self.loader), "lora_scale": self.config.lora_scale}
            model.config = replace(model.config, **facts)
            describe(partial, model.config, model.tokenizer, asdict(self.config))
            self.folder.publish(partial, self.config.keep)
        self.accelerator.wait_for_everyone()
        self.saved = partial.with_suffix("")

    def resume(self, folder: Path) -> None:
        """Go to where a checkpoint was saved: in the curriculum, in the rows, and in every lane."""
        model = self.accelerator.unwrap_model(self.model)
        saved = checkpoint.load(folder, model, self.optimizer, rank=self.accelerator.process_index)
        stage, step, done = (saved.position[name] for name in ("stage", "step", "done"))
        if stage >= len(self.stages):
            raise UsageError(f"{folder}: is of stage {stage}; expected one of this run's {len(self.stages)}")
        self.begin(stage, step)
        self.done, self.saved = done, folder
        self.loader.load_state_dict(saved.position["loader"])
        self.lanes.load_state_dict(saved.lanes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit code."""
    try:
        Trainer(TrainConfig.parse(arguments)).train()
    except SpeechRowsError as error:
        print(printable(f"train.py: {error}"), file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as error:
        print(printable(f"train.py: {str(error) or 'stopped before the first step'}"), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it stops a run as Ctrl-C does
    sys.exit(main())
