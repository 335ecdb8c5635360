"""Rows to load: a DeepDialogue corpus of bundled speech, cut to lengths as turns have them, and built.

python loader_corpus.py OUT DIALOGUES [--form FLAC] [--mean 5] [--distinct CLIPS]
"""

import argparse
import io
import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from loader_measure import RATE
from toys.corpus import wav

TURNS = 6
TOPICS = "art books cars education fashion food games health music travel".split()  # noqa: SIM905
WORDS = "we saw the quiet river turn gold and every boat went home before rain came down again".split()  # noqa: SIM905
SHARD_BYTES = 256 << 20


def speech() -> np.ndarray:
    """The bundled speech, one clip after another, int16 at 16 kHz."""
    import soxr

    files = sorted((ROOT / "samples/deepdialogue-xtts").rglob("segments/*.wav"))
    clips = [soundfile.read(file, dtype="int16") for file in files]
    return np.concatenate([soxr.resample(samples, rate, RATE) for samples, rate in clips])


def clip(wave: np.ndarray, form: str, mean: float, rng: random.Random) -> bytes:
    """A clip of `mean` seconds, lognormal, from a fifth to three times that."""
    seconds = min(max(rng.lognormvariate(np.log(mean) - 0.125, 0.5), mean / 5), 3 * mean)
    size = round(seconds * RATE)
    start = rng.randrange(len(wave) - size)
    samples = wave[start : start + size]
    if form == "WAV":
        return wav(samples.astype("<i2").tobytes(), RATE)
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format=form)
    return out.getvalue()


def write_corpus(folder: Path, dialogues: int, form: str, mean: float, distinct: int | None) -> None:
    """A corpus in DeepDialogue's layout, topic after topic; of `distinct` clips, or each its own."""
    rng, wave = random.Random(0), speech()
    pool = folder / "pool"
    pool.mkdir(parents=True)
    for number in range(distinct or 0):
        (pool / str(number)).write_bytes(clip(wave, form, mean, rng))
    for i in range(dialogues):
        dialogue = folder / "data/dialogues_phi4-mini" / f"{TOPICS[i % len(TOPICS)]}_{i}_{TURNS}"
        (dialogue / "segments").mkdir(parents=True)
        turns = []
        for turn in range(TURNS):
            speaker = f"LLM{turn % 2 + 1}"
            path = dialogue / "segments" / f"{turn + 1:03d}_{speaker}_happy.{form.lower()}"
            if distinct:
                path.hardlink_to(pool / str(rng.randrange(distinct)))
            else:
                path.write_bytes(clip(wave, form, mean, rng))
            text = " ".join(rng.choices(WORDS, k=rng.randint(6, 18))).capitalize() + "."
            turns.append({"speaker": speaker, "text": text, "emotion": "happy"})
        about = {"domain": dialogue.name.split("_")[0], "conversation": turns}
        dialogue.with_name(f"{dialogue.name}.json").write_text(json.dumps(about), "utf-8")
    shutil.rmtree(pool)


def main() -> None:
    """Write the corpus, build its rows into OUT, and leave these alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("dialogues", type=int)
    parser.add_argument("--form", default="WAV", choices=("WAV", "FLAC"))
    parser.add_argument("--mean", type=float, default=5.0)
    parser.add_argument("--distinct", type=int, help="clips, each linked to many times")
    options = parser.parse_args()
    from deepdialogue_ttt import DeepDialogueTTT
    from speechrows.builds.run import build

    corpus = options.out.with_name(f"{options.out.name}-corpus")
    shutil.rmtree(options.out, ignore_errors=True)
    shutil.rmtree(corpus, ignore_errors=True)
    write_corpus(corpus, options.dialogues, options.form, options.mean, options.distinct)
    builder = DeepDialogueTTT(config_name="ttt", data_dir=str(corpus))
    builder.shard_bytes = SHARD_BYTES
    (job,) = builder.jobs()
    build(job, options.out)
    shutil.rmtree(corpus)


if __name__ == "__main__":
    main()
