"""Speech in, codes out: whether the codes that a model says follow from what it hears.

No weights of Mimi are at hand here, and codes that a network made of made-up sounds would be no rule that
a reader can check. So codes come of a quantiser of 8 codebooks at Mimi's rate: codebook 0 is the loudest of
eight bands of a frame of 80 ms, codebook k how loud band k is, in steps of 3 dB. A clip is a row of tones
whose band and loudness are drawn for each frame, and every clip has the same text: nothing but hearing can
tell codebook 0 better than its entropy. Held-out clips are heard as they are, and shuffled among the codes.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from learn import corpus
from learn.picture import Chart
from learn.tones import LETTERS
from learn.tones import RATE
from learn.tones import hertz_of

from speechrows.codec import CODECS
from speechrows.generate.writer import SidecarWriter

SPEC = CODECS["mimi"]
FRAME = RATE * SPEC.frame_size // SPEC.sampling_rate  # samples
FRAMES = 10  # of a clip
TEXT = "tones"
STEP, FLOOR = 3.0, -60.0  # dB


def clip(generator: np.random.Generator) -> corpus.Samples:
    """A row of tones, a frame each, their bands and loudness drawn."""
    bands = generator.integers(len(LETTERS), size=FRAMES)
    loudness = generator.choice([0.5, 0.25, 0.125, 0.0625], size=FRAMES)
    hertz = hertz_of(bands) * (1 + 0.03 * generator.uniform(-1, 1, FRAMES))
    phase = 2 * np.pi * (hertz[:, None] * np.arange(FRAME) / RATE + generator.uniform(size=(FRAMES, 1)))
    return (loudness[:, None] * np.sin(phase)).ravel() + 0.003 * generator.standard_normal(FRAMES * FRAME)


def quantised(samples: corpus.Samples) -> npt.NDArray[np.int16]:
    """The codes [K, F] of a clip."""
    power = np.abs(np.fft.rfft(samples.reshape(-1, FRAME) * np.hanning(FRAME))) ** 2 / FRAME**2
    middle = hertz_of(np.arange(len(LETTERS)))
    band = np.abs(np.log(np.fft.rfftfreq(FRAME, 1 / RATE)[1:, None] / middle)).argmin(1)
    bands = np.stack([power[:, 1:][:, band == i].sum(1) for i in range(len(LETTERS))])  # [bands, F]
    levels = np.maximum((10 * np.log10(bands + 1e-12) - FLOOR) / STEP, 0)
    codes = np.rint(levels[: SPEC.num_codebooks]).astype(np.int16)
    codes[0] = bands.argmax(0)
    return codes


def write(work: Path, num_trained: int, num_held_out: int) -> None:
    """Write the corpora, their codes, and build them."""
    generator = np.random.default_rng(0)
    trained, held_out = ([clip(generator) for _ in range(n)] for n in (num_trained, num_held_out))
    questions_and_answers = {
        "trained": (trained, trained),
        "held-out": (held_out, held_out),
        "shuffled": (held_out[1:] + held_out[:1], held_out),
    }
    for name, (questions, answers) in questions_and_answers.items():
        folder, codes = work / f"{name}-corpus", work / f"{name}-codes"
        corpus.write_corpus(folder, [[(TEXT, samples)] for samples in questions], RATE)
        recipe = {"kind": "mimi", "codec": "mimi", "model": "bands of benchmarks/learn/codec.py"}
        with SidecarWriter.open(codes, recipe, overwrite=True) as writer:
            for i, samples in enumerate(answers):
                writer.add(corpus.clip_id(folder, i, num_turns=1), quantised(samples))
        flags = ("--validation-fraction", "0", "--with", str(codes))
        corpus.build(folder, work / f"{name}-rows", "s2s_mimi", *flags)


def run(*, quick: bool, work: Path) -> dict[str, Any]:
    """Bits a code, of each codebook, beside the entropy of its codes."""
    work, (seconds, steps) = work / "codec", ("12", 220) if quick else ("25", 500)
    write(work, 1000, 100)
    started = time.perf_counter()
    sets = [f"{name}={work}/{name}-rows:s2s_mimi:train" for name in ("held-out", "shuffled")]
    reached = corpus.train(
        work / "run",
        *("--data", f"{work}/trained-rows", "--config", "s2s_mimi", "--preset", "tiny"),
        *("--budget-seconds", seconds, "--learning-rate", "1e-3", "--warmup-steps", "20"),
        *("--steps", str(steps), "--log-every", "50", "--eval", sets[0], "--eval", sets[1]),
    )
    figures: dict[str, Any] = {"steps": steps, "seconds": time.perf_counter() - started}
    print("\n| codebook | entropy | held-out | shuffled |\n|---|---:|---:|---:|")
    for k in range(SPEC.num_codebooks):
        of = {name: reached[f"{name}/s2s_mimi/codebook_{k}_bits"] for name in ("held-out", "shuffled")}
        of["entropy"] = reached[f"held-out/s2s_mimi/codebook_{k}_entropy"]
        figures[f"codebook {k}"] = of
        print(f"| {k} | {of['entropy']:.2f} | {of['held-out']:.2f} | {of['shuffled']:.2f} |")
    return figures


def chart(figures: dict[str, Any]) -> Chart:
    """Bits by codebook."""
    places = [*range(SPEC.num_codebooks)]
    names = ("held-out", "shuffled", "entropy")
    return Chart(
        title="Bits a code of clips that were held out",
        across="codebook",
        places=places,
        lines={name: [figures[f"codebook {k}"][name] for k in places] for name in names},
        most=12.0,
    )
