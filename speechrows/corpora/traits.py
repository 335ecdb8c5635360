"""Traits as corpora spell them -> the words that rows use.

Each trait is a closed table: a word that is in none becomes None, never itself, and is
reported in `Traits.unknown`. A word that a corpus is known to use for none of ours ("confused") is
None and not reported. Accent alone is open: a corpus' own words, in lower case. docs/traits.md
shows every word of every corpus.
"""

import math
import reprlib
from collections.abc import Iterable
from collections.abc import Mapping

import numpy as np

from speechrows.corpora.turns import MAX_NAME
from speechrows.types import Traits

_MISSING = frozenset({"", "na", "null", "unk", "unknown", "nan", "none"})

# The seven emotions of the founding documents, and every spelling seen in a corpus for each.
_EMOTIONS = {
    "angry": ("angry", "anger", "annoyed", "frustrated"),
    "happy": ("happy", "happiness", "joy", "amused", "excited"),
    "sad": ("sad", "sadness", "depressed", "disappointed"),
    "surprise": ("surprise", "surprised", "surprising", "pleasant surprise", "pleasant_surprise", "ps"),
    "neutral": ("neutral", "calm"),  # RAVDESS' "calm" is its second neutral
    "fear": ("fear", "fearful"),
    "disgust": ("disgust", "disgusted", "disgusting"),
}
_NO_EMOTIONS = (
    *("confused", "concerned", "contempt", "other"),  # MSP-Podcast
    *("curious", "curious?", "curious to dive deeper"),  # MultiDialog
    "no emotion",  # DailyTalk: nobody labelled one, which is not the voice being neutral
    *("enthusiastic", "grateful", "hopeful"),  # DeepDialogue
)
_GENDERS = {
    "male": ("male", "m", "male_masculine"),
    "female": ("female", "f", "female_feminine"),
}
_NO_GENDERS = ("intersex", "transgender", "non-binary", "do_not_wish_to_say", "other")  # Common Voice
_AGES = {  # by the founding limits of years, below
    "teenager": ("teenager", "teens"),
    "young adult": ("young adult", "twenties", "thirties"),
    "middle-age adult": ("middle-age adult", "fourties", "forties", "fifties"),  # Common Voice misspells it
    "senior": ("senior", "sixties", "seventies", "eighties", "nineties"),
}
_PACES = {"slow": ("slow",), "normal": ("normal",), "fast": ("fast",)}
_VOLUMES = {"quiet": ("quiet",), "loud": ("loud",)}
_NO_VOLUMES = ("normal",)

EMOTIONS, GENDERS, AGES = tuple(_EMOTIONS), tuple(_GENDERS), tuple(_AGES)
PACES, VOLUMES = tuple(_PACES), tuple(_VOLUMES)

# (low, high): below low is slow or quiet, above high is fast or loud. The founding documents' own.
PACE_LIMITS = (6.0, 9.0)  # of a speaking rate
VOLUME_LIMITS = (-16.4, -10.0)  # of a relative volume in dB

_ORDER = ("age", "gender", "volume", "pace", "emotion", "accent")  # in a context, as founded

_Table = Mapping[str, str | None]
_Match = tuple[str | None, bool]  # the trait, and whether its word is known


def _table(spellings: Mapping[str, Iterable[str]], others: Iterable[str] = ()) -> _Table:
    """Traits by their spellings; None for other words that a corpus is known to use."""
    return {**dict.fromkeys(others), **{word: trait for trait, words in spellings.items() for word in words}}


_EMOTION_OF, _GENDER_OF = _table(_EMOTIONS, _NO_EMOTIONS), _table(_GENDERS, _NO_GENDERS)
_AGE_OF, _PACE_OF, _VOLUME_OF = _table(_AGES), _table(_PACES), _table(_VOLUMES, _NO_VOLUMES)


def emotion(raw: object) -> str | None:
    """One of EMOTIONS for a corpus' spelling of it, else None: "Fearful" -> "fear"."""
    return _look_up(raw, _EMOTION_OF)[0]


def gender(raw: object) -> str | None:
    """One of GENDERS, else None: "male_masculine" -> "male"."""
    return _look_up(raw, _GENDER_OF)[0]


def age(raw: object) -> str | None:
    """One of AGES for a corpus' word or a number of years, else None: "fourties" and 42 are the same."""
    return _age(raw)[0]


def pace(raw: object, limits: tuple[float, float] = PACE_LIMITS) -> str | None:
    """One of PACES for a word or a speaking rate; a rate of 0 or less is no rate."""
    return _pace(raw, limits)[0]


def volume(raw: object, limits: tuple[float, float] = VOLUME_LIMITS) -> str | None:
    """One of VOLUMES for a word or a relative volume in dB; what lies between is None."""
    return _volume(raw, limits)[0]


def accent(raw: object) -> str | None:
    """An accent as the corpus names it, in lower case."""
    return _clean(raw)


def normalise(
    *,
    emotion: object = None,
    gender: object = None,
    age: object = None,
    speaking_rate: object = None,
    relative_db: object = None,
    accent: object = None,
    pace_limits: tuple[float, float] = PACE_LIMITS,
    volume_limits: tuple[float, float] = VOLUME_LIMITS,
) -> Traits:
    """Everything that a corpus says of a voice, in our words; `unknown` lists the words that have none.

    `speaking_rate` and `relative_db` may be numbers or, where a corpus has judged them, words.
    """
    words: dict[str, str | None] = {}
    unknown: list[str] = []
    for name, raw, (trait, is_known) in (
        ("emotion", emotion, _look_up(emotion, _EMOTION_OF)),
        ("gender", gender, _look_up(gender, _GENDER_OF)),
        ("age", age, _age(age)),
        ("volume", relative_db, _volume(relative_db, volume_limits)),
        ("pace", speaking_rate, _pace(speaking_rate, pace_limits)),
    ):
        words[name] = trait
        if not is_known:
            unknown.append(f"{name}: {_clean(raw)}"[:80])
    own_accent = _clean(accent)
    if own_accent is not None and len(own_accent) > MAX_NAME:
        unknown.append(f"accent: {own_accent}"[:80])
        own_accent = None
    return Traits(**words, accent=own_accent, unknown=tuple(unknown))


def top_vote(votes: Mapping[str, float | None]) -> str | None:
    """The word that most listeners chose; None where two share the top, or nobody voted."""
    shares = {word: share for word, share in votes.items() if share is not None and share > 0}
    best = max(shares.values(), default=0.0)
    top = [word for word, share in shares.items() if math.isclose(share, best, rel_tol=1e-6)]
    return top[0] if len(top) == 1 else None


def pace_limits(speaking_rates: Iterable[float | None]) -> tuple[float, float]:
    """The 25th and 75th percentile of a corpus' speaking rates: its slow and fast quarters lie outside."""
    return _quartiles((rate for rate in speaking_rates if rate is not None and rate > 0), PACE_LIMITS)


def volume_limits(relative_dbs: Iterable[float | None]) -> tuple[float, float]:
    """The 25th and 75th percentile of a corpus' volumes: its quiet and loud quarters lie outside."""
    return _quartiles((db for db in relative_dbs if db is not None), VOLUME_LIMITS)


def audible(
    limits: tuple[float, float], middle: float, *, least_ratio: float = 1.0, least_difference: float = 0.0
) -> tuple[float, float]:
    """Limits so far from the middle that it is heard: of clips that are alike, none is fast or quiet."""
    low = min(limits[0], middle / least_ratio, middle - least_difference)
    return low, max(limits[1], middle * least_ratio, middle + least_difference)


def context(traits: Traits, text: str) -> str:
    """The description of a clip that a text model reads, in the founding form; what is empty is left out.

    As founded, the text is in lower case, and nothing is escaped: a language model reads it.
    """
    words = [f"{name}: {value}" for name in _ORDER if (value := getattr(traits, name))]
    meta = f"<meta>{', '.join(words)}</meta>" if words else ""
    lower = text.strip().lower()
    return f"<audio>{meta}{f'<text>{lower}</text>' if lower else ''}</audio>"


def _quartiles(values: Iterable[float], otherwise: tuple[float, float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return otherwise
    low, high = np.percentile(finite, [25, 75])
    return float(low), float(high)


def _clean(raw: object) -> str | None:
    """A word in one spelling of case and space; None where it says that nothing is known."""
    if raw is None:
        return None
    text = str(raw) if isinstance(raw, str | int | float) else reprlib.repr(raw)  # a word, or any JSON value
    text = text.encode(errors="backslashreplace").decode()  # JSON may hold lone surrogates
    word = " ".join(text.lower().split())
    return None if word in _MISSING else word


def _look_up(raw: object, table: _Table) -> _Match:
    word = _clean(raw)
    return (None, True) if word is None else (table.get(word), word in table)


def _number(raw: object) -> float | None:
    if raw is None:
        return None
    try:
        number = float(str(raw))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _age(raw: object) -> _Match:
    years = _number(raw)
    if years is None:
        return _look_up(raw, _AGE_OF)
    if not 0 <= years < 200:
        return None, False
    if years < 40:
        return ("teenager" if years < 18 else "young adult"), True
    return ("middle-age adult" if years <= 60 else "senior"), True


def _pace(raw: object, limits: tuple[float, float]) -> _Match:
    rate = _number(raw)
    if rate is None:
        return _look_up(raw, _PACE_OF)
    if rate <= 0:
        return None, True
    return ("slow" if rate < limits[0] else "fast" if rate > limits[1] else "normal"), True


def _volume(raw: object, limits: tuple[float, float]) -> _Match:
    db = _number(raw)
    if db is None:
        return _look_up(raw, _VOLUME_OF)
    return ("quiet" if db < limits[0] else "loud" if db > limits[1] else None), True
