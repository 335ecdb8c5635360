"""Speech to text, learnt from nothing: a grammar of four words, `take seven blue boxes`, spoken by eSpeak NG.

600 utterances are trained on, by many voices at many rates; those that a run is judged on are of
combinations, voices and rates of which none was trained on. They are heard twice: as they are, and with the
clips shuffled among the texts, where what is heard can be of no use.
"""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from learn import corpus
from learn import espeak
from learn.picture import Chart

VERBS = ("take", "drop", "find", "move")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "blue", "green", "yellow", "black", "white")
OBJECTS = ("books", "cups", "keys", "lamps", "boxes", "shoes")
SETS, RATES = ("held-out", "shuffled"), ("wer", "cer")
COMBINATIONS = [" ".join(words) for words in itertools.product(VERBS, NUMBERS, COLOURS, OBJECTS)]


@dataclass(frozen=True, kw_only=True)
class Speakers:
    """Voices of eSpeak NG, and the rates at which they speak, in words a minute."""

    voices: tuple[str, ...]
    rates: tuple[int, ...]


def _voices(accents: str, variants: str) -> tuple[str, ...]:
    return tuple("+".join(pair) for pair in itertools.product(accents.split(), variants.split()))


TRAINED = Speakers(
    voices=_voices(
        "en-us en en-gb-scotland",
        "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 adam belinda caleb david edward linda paul rob shelby zac",
    ),
    rates=(130, 145, 160, 175, 190),
)
HELD_OUT = Speakers(voices=_voices("en-us en", "m8 f5 Andy Annie steph max"), rates=(138, 153, 168, 183))


def utterances(texts: list[str], speakers: Speakers, generator: np.random.Generator) -> list[corpus.Turns]:
    """A dialogue of one turn of each text, by voices and at rates that are drawn."""
    voices, rates = (generator.choice(of, len(texts)).tolist() for of in (speakers.voices, speakers.rates))
    return [
        [(text, espeak.speak(text, voice=voice, words_a_minute=rate))]
        for text, voice, rate in zip(texts, voices, rates, strict=True)
    ]


def write(work: Path, num_trained: int, num_held_out: int) -> float:
    """Write and build all three corpora; by chance, so many of a hundred words of a text are wrong."""
    generator = np.random.default_rng(0)
    texts = generator.permutation(COMBINATIONS).tolist()
    expected = texts[num_trained : num_trained + num_held_out]
    held_out = utterances(expected, HELD_OUT, generator)
    clips = [clip for ((_, clip),) in held_out]
    dialogues = {
        "trained": utterances(texts[:num_trained], TRAINED, generator),
        "held-out": held_out,
        "shuffled": [[(text, clip)] for text, clip in zip(expected, clips[1:] + clips[:1], strict=True)],
    }
    for name, turns in dialogues.items():
        folder, rows = (work / f"{name}-{kind}" for kind in ("corpus", "rows"))
        corpus.write_corpus(folder, turns, espeak.sampling_rate())
        corpus.build(folder, rows, "transcription", "--validation-fraction", "0")
    return float(jiwer.wer(expected, expected[1:] + expected[:1]))


def flags_of(work: Path, *, steps: int, every: int, decode: int) -> list[str]:
    """Of train.py."""
    sets = [f"{name}={work}/{name}-rows:transcription:train" for name in SETS]
    return [
        *("--data", f"{work}/trained-rows", "--config", "transcription", "--preset", "tiny"),
        *("--budget-seconds", "40", "--learning-rate", "1e-3", "--warmup-steps", "50"),
        *("--steps", str(steps), "--log-every", "50", "--eval-every", str(every)),
        *("--eval", sets[0], "--eval", sets[1], "--eval-decode", str(decode)),
    ]


def run(*, quick: bool, work: Path) -> dict[str, Any]:
    """The word error rates on the way and at the end."""
    work, steps, num_held_out = work / "grammar", 300 if quick else 800, 60
    chance = write(work, 600, num_held_out)
    started = time.perf_counter()
    corpus.train(work / "run", *flags_of(work, steps=steps, every=0 if quick else 200, decode=num_held_out))
    figures: dict[str, Any] = {"chance": chance, "steps": steps, "seconds": time.perf_counter() - started}
    lines = [line for line in corpus.metrics(work / "run") if "held-out/transcription/wer" in line]
    print(f"\n{num_held_out} utterances of combinations, voices, rates never heard; chance: {chance:.2f}\n")
    print("| clips | WER | CER |\n|---|---:|---:|")
    for name in SETS:
        wer, cer = ({line["step"]: line[f"{name}/transcription/{rate}"] for line in lines} for rate in RATES)
        figures[name] = {"wer": wer, "cer": cer}
        print(f"| {name} | {wer[steps]:.3f} | {cer[steps]:.3f} |")
    return figures


def chart(figures: dict[str, Any]) -> Chart:
    """Word error rates by step."""
    places = [*figures["held-out"]["wer"]]
    lines = {name: [*figures[name]["wer"].values()] for name in SETS}
    return Chart(
        title="Word error rate: combinations, voices and rates never heard",
        across="step",
        places=places,
        lines=lines | {"chance": [figures["chance"]] * len(places)},
        most=1.0,
    )
