"""What is measured of a row, and how bad that is."""

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from typing import Any

import numpy as np

from speechrows.audio.levels import LevelMeter
from speechrows.audio.levels import Levels
from speechrows.audio.levels import mono_blocks
from speechrows.errors import BadClipError
from speechrows.folder.scores import UNDECODABLE
from speechrows.text.letters import num_letters
from speechrows.text.letters import scripts
from speechrows.types import Reason

_LEAST_S = 0.05  # of speech: letters of less are told by this much


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """A row's measures, by their columns in folder/scores.py; None where nothing was measured."""

    silence: float | None = None
    clipping: float | None = None
    snr_db: float | None = None
    level_db: float | None = None
    speaking_rate: float | None = None
    chars_per_second: float | None = None
    script: str = ""
    other_script: float = 0.0
    wer: float | None = None
    heard: str | None = None
    is_undecodable: bool = False

    def columns(self) -> dict[str, str | float | None]:
        """Badness, what is worst, and all measures, by column; each as exact as it is stored."""
        stored = {each.name: _as_stored(getattr(self, each.name)) for each in fields(self)}
        worst, badness = worst_of(Measures(**stored))
        del stored["is_undecodable"]
        return {"badness": badness, "worst": worst, **stored}


# Those that follow from the clip and its words alone, whatever languages and recogniser are asked for.
OF_SOUND = ("silence", "clipping", "snr_db", "level_db", "speaking_rate", "chars_per_second")


def _as_stored(value: Any) -> Any:
    """A measure as a column has it, so that badness is the same of one that was read."""
    return float(np.float32(value)) if isinstance(value, float) else value


# By measure: where it begins to be bad, and where it can not be worse. A measure may be bad at both ends.
LIMITS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "silence": ((0.5, 0.95),),
    "clipping": ((0.001, 0.05),),
    "snr_db": ((20.0, 5.0),),
    "level_db": ((-40.0, -60.0),),
    "speaking_rate": ((25.0, 40.0), (5.0, 1.0)),
    "chars_per_second": ((25.0, 30.0), (3.0, 0.5)),  # 30: what the answers of AZeroS were made with
    "other_script": ((0.1, 0.6),),
    "wer": ((0.2, 1.0),),
}


def worst_of(measures: Measures) -> tuple[str, float]:
    """The name of the worst measure, and how bad it is, from 0 to 1; "" and 0 where nothing is bad."""
    if measures.is_undecodable:
        return UNDECODABLE, 1.0
    worst, most = "", 0.0
    for name, ends in LIMITS.items():
        badness = badness_of(getattr(measures, name), ends)
        if badness > most:
            worst, most = name, badness
    return worst, most


def badness_of(value: float | None, ends: Iterable[tuple[float, float]]) -> float:
    """How bad a value is by the limits of its measure, from 0 to 1; 0 where there is none."""
    if value is None:
        return 0.0
    return max(float(np.clip((value - fine) / (terrible - fine), 0.0, 1.0)) for fine, terrible in ends)


def sound_of(data: bytes | memoryview) -> Levels:
    """The levels of a clip, heard a block at a time.

    Raises:
        BadClipError: it does not decode, or holds no samples, or such as are no numbers.
    """
    meter: LevelMeter | None = None
    for block, rate_hz in mono_blocks(data):
        meter = meter or LevelMeter(rate_hz)
        if not np.isfinite(block).all():
            raise BadClipError(Reason.UNDECODABLE, "holds samples that are no numbers (NaN or infinite)")
        meter.hear(block)
    if meter is None:
        raise BadClipError(Reason.ZERO_SAMPLES, "holds no sample; expected at least one")
    return meter.levels()


def measures_of_text(text: str, expected_scripts: frozenset[str]) -> Measures:
    """Measure what is said; with no `expected_scripts`, the text's main one is."""
    letters = scripts(text)
    script = max(letters, key=lambda name: (letters[name], name), default="")
    expected = expected_scripts or {script}
    others = sum(number for name, number in letters.items() if name not in expected)
    return Measures(script=script, other_script=others / max(letters.total(), 1))


def measures_of(data: bytes | memoryview | None, text: str, expected_scripts: frozenset[str]) -> Measures:
    """Measure a clip, if any, and what it says; `expected_scripts` as in measures_of_text."""
    of_text = measures_of_text(text, expected_scripts)
    if data is None:
        return of_text
    try:
        levels = sound_of(data)
    except BadClipError:
        return replace(of_text, is_undecodable=True)
    # Of a clip whose words nobody knows, as chats may have, there is no rate.
    letter_count = num_letters(text) if text.strip() else None
    return replace(
        of_text,
        silence=levels.silence,
        clipping=levels.clipping,
        snr_db=levels.snr_db,
        level_db=levels.speech_db,
        speaking_rate=None if letter_count is None else letter_count / max(levels.speech_s, _LEAST_S),
        chars_per_second=None if letter_count is None else letter_count / max(levels.seconds, _LEAST_S),
    )
