"""What traits.py promises: every spelling of a corpus becomes one of a closed set of words, or None."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.corpora import traits
from speechrows.corpora.traits import AGES
from speechrows.corpora.traits import EMOTIONS
from speechrows.corpora.traits import GENDERS
from speechrows.corpora.traits import PACES
from speechrows.corpora.traits import VOLUMES
from speechrows.corpora.traits import age
from speechrows.corpora.traits import context
from speechrows.corpora.traits import emotion
from speechrows.corpora.traits import gender
from speechrows.corpora.traits import normalise
from speechrows.corpora.traits import pace
from speechrows.corpora.traits import pace_limits
from speechrows.corpora.traits import top_vote
from speechrows.corpora.traits import volume
from speechrows.corpora.traits import volume_limits
from speechrows.types import Traits

DOCS = Path(__file__).parents[2] / "docs" / "traits.md"
CLOSED = [(emotion, EMOTIONS), (gender, GENDERS), (age, AGES), (pace, PACES), (volume, VOLUMES)]

# Every word that a corpus is known to use, as it spells it. docs/traits.md shows this table.
PODCAST = (
    *("angry", "frustrated", "annoyed", "disappointed", "sad", "disgust", "depressed", "contempt"),
    *("confused", "concerned", "fear", "neutral", "surprise", "amused", "excited", "happy"),
)
WORDS = {
    "AbstractTTS/CREMA-D": {
        "emotion": ("angry", "anger", "sad", "disgust", "fear", "neutral", "happy"),
        "gender": ("male", "female"),
    },
    "AbstractTTS/RAVDESS": {
        "emotion": ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
        "gender": ("male", "female"),
    },
    "AbstractTTS/TESS": {
        "emotion": ("angry", "disgust", "fear", "happy", "neutral", "sad", "pleasant surprise", "ps"),
        "gender": ("female",),
    },
    "AbstractTTS/SAVEE": {
        "emotion": ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
        "gender": ("male",),
    },
    "AbstractTTS/ESD_english": {
        "emotion": ("Neutral", "Happy", "Angry", "Sad", "Surprise", "Surprised"),
        "gender": ("male", "female"),
    },
    "AbstractTTS/PODCAST": {"emotion": PODCAST, "gender": ("male", "female")},
    "garam-icecream/MELD, by the names of its ClassLabel": {
        "emotion": ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"),
    },
    "fixie-ai/common_voice_17_0": {
        "gender": (
            *("male_masculine", "female_feminine", "intersex", "transgender", "non-binary"),
            *("do_not_wish_to_say", "male", "female", "other"),
        ),
        "age": (
            *("teens", "twenties", "thirties", "fourties", "fifties", "sixties", "seventies", "eighties"),
            "nineties",
        ),
    },
    "mazesmazes/sift-audio-2": {
        "emotion": EMOTIONS,
        "gender": GENDERS,
        "age": (*AGES, "twenties", "fourties"),  # the founding generator let words of ages through
        "pace": PACES,
        "volume": VOLUMES,
    },
    "speechbrain/LoquaciousSet": {"gender": ("M", "F")},
    "IVLLab/MultiDialog": {
        "emotion": (
            *("neutral", "happy", "fear", "angry", "disgusting", "surprising", "sad"),
            *("Neutral", "Joy", "Fear", "Anger", "Disgust", "Surprise", "Sadness"),
            *("curious", "Curious to dive deeper"),
        ),
    },
    "DailyTalk": {
        "emotion": ("no emotion", "none", "happiness", "sadness", "anger", "fear", "surprise", "disgust"),
    },
    "SALT-Research/DeepDialogue, as acted": {
        "emotion": ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
    },
    "SALT-Research/DeepDialogue, as written": {
        "emotion": (
            *("neutral", "happy", "sad", "surprise", "excited", "frustrated"),
            *("confused", "curious", "hopeful", "enthusiastic", "grateful"),
        ),
    },
}
ARGUMENT = {"pace": "speaking_rate", "volume": "relative_db"}  # of normalise


def table_of_docs() -> str:
    lines = ["| corpus | trait | the corpus says | rows say |", "|---|---|---|---|"]
    for corpus, by_trait in WORDS.items():
        for trait, words in by_trait.items():
            spellings: dict[str | None, list[str]] = {}
            for word in words:
                spellings.setdefault(getattr(traits, trait)(word), []).append(word)
            for ours, theirs in spellings.items():
                lines.append(f"| {corpus} | {trait} | {', '.join(theirs)} | {ours or 'null'} |")
    return "\n".join(lines)


def test_the_words_of_rows_are_the_founding_ones():
    assert EMOTIONS == ("angry", "happy", "sad", "surprise", "neutral", "fear", "disgust")
    assert GENDERS == ("male", "female")
    assert AGES == ("teenager", "young adult", "middle-age adult", "senior")
    assert PACES == ("slow", "normal", "fast")
    assert VOLUMES == ("quiet", "loud")


@pytest.mark.parametrize("corpus", WORDS)
def test_no_word_of_a_known_corpus_is_reported(corpus):
    for trait, words in WORDS[corpus].items():
        for word in words:
            assert normalise(**{ARGUMENT.get(trait, trait): word}).unknown == (), word


def test_the_docs_show_what_each_word_of_each_corpus_becomes():
    assert table_of_docs() in DOCS.read_text("utf-8"), f"put this into {DOCS.name}:\n{table_of_docs()}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Fearful", "fear"),
        (" surprised\n", "surprise"),
        ("pleasant  surprise", "surprise"),
        ("DISGUSTED", "disgust"),
        ("calm", "neutral"),
        ("joy", "happy"),
        ("anger", "angry"),
        ("happiness", "happy"),
        ("sadness", "sad"),
        ("depressed", "sad"),
        ("contempt", None),
        ("no emotion", None),
    ],
)
def test_a_corpus_spelling_becomes_the_word_that_rows_use(raw, expected):
    assert emotion(raw) == expected


@pytest.mark.parametrize("raw", [None, "", " ", "NA", "null", "unk", "Unknown", "nan", "None", math.nan])
def test_what_says_that_nothing_is_known_is_none_and_not_reported(raw):
    every = dict.fromkeys(("emotion", "gender", "age", "accent", "speaking_rate", "relative_db"), raw)
    assert normalise(**every) == Traits()


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ({"emotion": "Bored "}, "emotion: bored"),
        ({"emotion": 3}, "emotion: 3"),  # an integer means nothing without the names of its classes
        ({"gender": "masc"}, "gender: masc"),
        ({"age": "-1"}, "age: -1"),
        ({"age": 200}, "age: 200"),
        ({"age": "middle aged"}, "age: middle aged"),
        ({"speaking_rate": "brisk"}, "pace: brisk"),
        ({"relative_db": math.inf}, "volume: inf"),
        ({"emotion": "x" * 999}, "emotion: " + "x" * 71),
        ({"accent": "x" * 9999}, "accent: " + "x" * 72),
        ({"emotion": ["sad"] * 999}, "emotion: " + str(["sad"] * 6).replace("]", ", ...]")),
    ],
)
def test_a_word_of_no_table_is_null_and_reported(words, reported):
    assert normalise(**words) == Traits(unknown=(reported,))


def test_all_traits_of_a_clip_are_normalised_in_one_call():
    words = {"emotion": "Anger", "gender": "F", "age": "fourties", "accent": "United States English"}
    assert normalise(**words, speaking_rate=9.5, relative_db=-20) == Traits(
        emotion="angry", gender="female", age="middle-age adult", volume="quiet", pace="fast",
        accent="united states english",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("years", "expected"),
    [
        *[(0, "teenager"), (17, "teenager"), (18, "young adult"), ("39.0", "young adult")],
        *[(40, "middle-age adult"), (60, "middle-age adult"), (60.5, "senior"), (199, "senior"), (200, None)],
    ],
)
def test_years_are_grouped_at_the_founding_limits(years, expected):
    assert age(years) == expected


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(-1, None), (0, None), (5.9, "slow"), (6, "normal"), (9, "normal"), (9.1, "fast"), ("Slow", "slow")],
)
def test_pace_follows_the_founding_limits(rate, expected):
    assert pace(rate) == expected
    assert normalise(speaking_rate=rate) == Traits(pace=expected)


@pytest.mark.parametrize(
    ("db", "expected"),
    [(-16.5, "quiet"), (-16.4, None), (-10.0, None), (-9.9, "loud"), (0, "loud"), ("normal", None)],
)
def test_volume_follows_the_founding_limits(db, expected):
    assert volume(db) == expected
    assert normalise(relative_db=db) == Traits(volume=expected)


def test_by_percentile_a_quarter_of_the_corpus_is_slow_and_a_quarter_fast():
    rates = [float(rate) for rate in range(1, 101)]
    limits = pace_limits([*rates, None, 0.0, math.nan])
    assert limits == (25.75, 75.25)
    paces = [pace(rate, limits) for rate in rates]
    assert (paces.count("slow"), paces.count("normal"), paces.count("fast")) == (25, 50, 25)
    limits = volume_limits(-rate for rate in rates)
    volumes = [volume(-rate, limits) for rate in rates]
    assert (volumes.count("quiet"), volumes.count("loud")) == (25, 25)


def test_a_corpus_without_numbers_keeps_the_founding_limits():
    assert pace_limits([None, 0.0, math.nan]) == traits.PACE_LIMITS
    assert volume_limits([]) == traits.VOLUME_LIMITS


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({"angry": 0.6, "sad": 0.4}, "angry"),
        ({"angry": 0.5, "sad": 0.5}, None),
        ({"angry": 0.33333334, "sad": 0.33333331, "fear": 0.33333331}, None),  # float32 of one third
        ({"angry": 0.0, "sad": 0.0}, None),
        ({"angry": None, "sad": 0.1}, "sad"),
        ({"angry": math.nan, "sad": 0.1}, "sad"),
        ({}, None),
    ],
)
def test_the_top_vote_is_the_emotion_unless_it_is_shared(votes, expected):
    assert top_vote(votes) == expected


def test_a_context_has_the_founding_form_and_order():
    clip = Traits(
        emotion="happy", gender="female", age="young adult", volume="loud", pace="fast", accent="us english"
    )
    assert context(clip, "I got the job!") == (
        "<audio><meta>age: young adult, gender: female, volume: loud, pace: fast, emotion: happy, "
        "accent: us english</meta><text>i got the job!</text></audio>"
    )
    assert context(Traits(gender="male", emotion="sad"), "i lost my keys again.") == (
        "<audio><meta>gender: male, emotion: sad</meta><text>i lost my keys again.</text></audio>"
    )


def test_empty_parts_of_a_context_are_left_out():
    assert context(Traits(), "Hello") == "<audio><text>hello</text></audio>"
    assert context(Traits(age="senior"), " ") == "<audio><meta>age: senior</meta></audio>"
    assert context(Traits(unknown=("emotion: bored",)), "") == "<audio></audio>"


@pytest.mark.parametrize(("trait", "words"), CLOSED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_normalised_word_stays_itself(trait, words):
    assert [trait(word) for word in words] == list(words)


@MANY
@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.sampled_from(PODCAST)))
def test_whatever_a_corpus_says_is_one_of_the_words_or_none_and_stays_so(raw):
    for trait, words in CLOSED:
        word = trait(raw)
        assert word in (*words, None)
        assert trait(word) == word


@MANY
@given(
    st.sampled_from([word for by_trait in WORDS.values() for words in by_trait.values() for word in words]),
    st.sampled_from([str.upper, str.title, str.swapcase]),
    st.sampled_from([" {}", "{}\n", "\t{} "]),
)
def test_case_and_space_change_nothing(word, change, pad):
    spelling = pad.format(change(word).replace(" ", "  "))
    for trait, _ in CLOSED:
        assert trait(spelling) == trait(word)
    assert normalise(accent=spelling) == normalise(accent=word)


@MANY
@given(st.text(), st.text(alphabet="abcdefghij ", min_size=1))
def test_a_word_is_a_trait_or_reported_never_both(anything, word):
    for raw in (anything, word):
        clip = normalise(emotion=raw)
        assert not (clip.emotion and clip.unknown)
        assert all(report.startswith("emotion: ") for report in clip.unknown)


def test_a_word_that_is_no_utf_8_is_reported_in_words_that_are() -> None:
    clip = normalise(emotion="caf\udce9", accent="caf\ud800")
    assert (clip.unknown, clip.accent) == (("emotion: caf\\udce9",), "caf\\ud800")
