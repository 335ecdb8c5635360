"""train.py against a loop without it: rows out of the parquet, padded, transformers' models, torch's AdamW.

Speechrows gives the first weights and, by their ids, the rows of each step. All else is done again: audio
is decoded by soundfile, features are transformers' own, clips are encoded one by one, without a pad or a
mask, and the loss is the language model's own. The losses of both are to be equal, step by step.
"""

import io
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from learn import corpus
from learn import tones
from learn.picture import Chart
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor
from transformers import get_scheduler
from transformers import set_seed

import speechrows
from speechrows.model.omni import omni
from speechrows.model.shape import ModelShape

RATE, WARMUP, BUDGET = 1e-3, 5, 12.0
TOKEN = 1280  # samples at 16 kHz that an audio token stands for, at 12.5 a second


def write(work: Path, number: int) -> None:
    """Write and build clips of one tone each, of all lengths from half a second to two."""
    generator = np.random.default_rng(0)
    letters = generator.choice([*tones.LETTERS], number).tolist()
    clips = [(letter * 3, tones.tone(letter, generator.uniform(0.5, 2), generator)) for letter in letters]
    corpus.write_corpus(work / "corpus", [[clip] for clip in clips], tones.RATE)
    corpus.build(work / "corpus", work / "rows", "transcription", "--validation-fraction", "0")


def losses_of_train(work: Path, steps: int) -> list[float]:
    """The losses of train.py, step by step."""
    corpus.train(
        work / "run",
        *("--data", f"{work}/rows", "--config", "transcription", "--preset", "tiny", "--log-every", "1"),
        *("--steps", str(steps), "--learning-rate", str(RATE), "--warmup-steps", str(WARMUP)),
        *("--budget-seconds", str(BUDGET)),
    )
    lines = corpus.metrics(work / "run")
    return [line["text_loss"] for line in lines if "text_loss" in line]


def losses_of_loop(rows: Path, steps: int, direction: int = 1) -> list[float]:
    """The losses of the plain loop, the rows of a step from first to last, or from last to first."""
    loader = speechrows.load(str(rows), "transcription", "train", budget_seconds=BUDGET, mel=80)
    order = [batch.row_ids for batch in islice(loader.endless(), steps)]
    tables = [pq.read_table(file) for file in sorted(rows.glob("data/transcription/**/*.parquet"))]
    by_id = {row["row_id"]: row for row in pa.concat_tables(tables).to_pylist()}
    set_seed(0)
    model = omni(ModelShape(preset="tiny"), loader.tokenizer).speech_lm.train()
    small = {id(p) for name, p in model.named_parameters() if p.dim() < 2 or name.endswith("bias")}
    matrices = [p for p in model.parameters() if id(p) not in small]
    rest = {"params": [p for p in model.parameters() if id(p) in small], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([{"params": matrices}, rest], lr=RATE, weight_decay=0.01)
    schedule = get_scheduler("cosine", optimizer, WARMUP, steps)
    losses: list[float] = []
    for row_ids in order:
        loss = loss_of(model, [by_id[row_id] for row_id in row_ids][::direction])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def loss_of(model: Any, rows: list[dict[str, Any]]) -> Tensor:
    """The mean loss of the supervised tokens of some rows, padded to the longest."""
    embeds: list[Tensor] = []
    for row in rows:
        ids = torch.tensor(row["input_ids"])
        is_audio = ids == model.audio_token_id
        frames = encoded(model.encoder.model, row["audio"]["bytes"], int(is_audio.sum()))
        audio = model.projector(frames.reshape(int(is_audio.sum()), -1))
        embeds.append(model.lm.get_input_embeddings()(ids).masked_scatter(is_audio[:, None], audio))
    labels = pad_sequence([torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=-100)
    real = pad_sequence([torch.ones(len(row["input_ids"])) for row in rows], batch_first=True)
    padded = pad_sequence(embeds, batch_first=True)
    return model.lm(inputs_embeds=padded, attention_mask=real.long(), labels=labels).loss


def encoded(encoder: Any, audio: bytes, num_tokens: int) -> Tensor:
    """The frames [F, D] of one clip, by the layers of transformers' WhisperEncoder."""
    speech, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
    speech = np.pad(speech, (0, num_tokens * TOKEN - len(speech)))
    extract = WhisperFeatureExtractor(feature_size=80)
    features = extract(speech, sampling_rate=rate, padding=False, return_tensors="pt").input_features
    gelu = torch.nn.functional.gelu
    x = gelu(encoder.conv2(gelu(encoder.conv1(features)))).transpose(1, 2)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    for layer in encoder.layers:
        x = layer(x, None)
    return encoder.layer_norm(x)[0]


def run(*, quick: bool, work: Path) -> dict[str, Any]:
    """Both curves, and how far they are apart."""
    work, steps = work / "plain-loop", 10 if quick else 30
    write(work, 60)
    started = time.perf_counter()
    ours = losses_of_train(work, steps)
    train_s, started = time.perf_counter() - started, time.perf_counter()
    theirs = losses_of_loop(work / "rows", steps)
    loop_s = time.perf_counter() - started
    turned = losses_of_loop(work / "rows", steps, direction=-1)
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    rounding = max(abs(a - b) for a, b in zip(theirs, turned, strict=True))
    print("\n| step | train.py | plain loop | apart |\n|---:|---:|---:|---:|")
    for step in sorted({0, 1, steps // 3, 2 * steps // 3, steps - 1}):
        print(f"| {step + 1} | {ours[step]:.7f} | {theirs[step]:.7f} | {apart[step]:.1e} |")
    print(f"\nmost apart, of {steps} steps: {max(apart):.1e}; by the order of sums alone: {rounding:.1e}")
    seconds = {"train.py": train_s, "plain loop": loop_s}
    return {
        "train.py": ours, "plain loop": theirs, "apart": max(apart), "rounding": rounding, "seconds": seconds
    }  # fmt: skip


def chart(figures: dict[str, Any]) -> Chart:
    """Both curves: the second lies on the first."""
    names = ("train.py", "plain loop")
    losses = {name: figures[name][::3] for name in names}
    most = float(np.ceil(max(losses["train.py"])))
    places = [1 + 3 * i for i in range(len(losses["train.py"]))]
    return Chart(title="Loss a token, step by step", across="step", places=places, lines=losses, most=most)
