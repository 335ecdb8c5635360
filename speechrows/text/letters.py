"""The letters of a text: how many, as they take time to say, and of which scripts."""

import unicodedata
from collections import Counter
from functools import lru_cache

# What is said for a character, in letters of an alphabet: names of digits have four on average, in English.
_AS_LETTERS = {"CJK": 3, "HANGUL": 3, "HIRAGANA": 2, "KATAKANA": 2}
_DIGIT_AS_LETTERS = 4
# Scripts by languages that are not written in Latin letters, as Unicode's names of characters begin.
_LANGUAGES_OF = {
    ("CYRILLIC",): "be bg kk ky mk mn ru sr tg uk",
    ("ARABIC",): "ar fa ps ur",
    ("DEVANAGARI",): "hi mr ne",
    ("CJK",): "zh yue",
    ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"): "ja",
    ("HANGUL", "CJK"): "ko",
    ("ARMENIAN",): "hy",
    ("BENGALI",): "bn",
    ("ETHIOPIC",): "am",
    ("GEORGIAN",): "ka",
    ("GREEK",): "el",
    ("GUJARATI",): "gu",
    ("GURMUKHI",): "pa",
    ("HEBREW",): "he",
    ("KANNADA",): "kn",
    ("KHMER",): "km",
    ("LAO",): "lo",
    ("MALAYALAM",): "ml",
    ("MYANMAR",): "my",
    ("SINHALA",): "si",
    ("TAMIL",): "ta",
    ("TELUGU",): "te",
    ("THAI",): "th",
}
_SCRIPTS_OF = {code: scripts for scripts, codes in _LANGUAGES_OF.items() for code in codes.split()}
_LATIN = ("LATIN",)


def num_letters(text: str) -> int:
    """The letters of what is said; a digit and a character of Chinese count as several."""
    return sum(map(_weight, unicodedata.normalize("NFC", text)))


def scripts(text: str) -> Counter[str]:
    """The letters of a text by their script, as Unicode names characters: LATIN, CYRILLIC, CJK."""
    return Counter(script for character in text if (script := _script(character)))


def scripts_of_language(language: str) -> frozenset[str]:
    """The scripts that a language is written in, by its code: "ja", "pt-BR". Latin, where none is known."""
    return frozenset(_SCRIPTS_OF.get(language.lower().partition("-")[0].partition("_")[0], _LATIN))


@lru_cache(1 << 16)
def _weight(character: str) -> int:
    if character.isdigit():
        return _DIGIT_AS_LETTERS
    script = _script(character)
    is_vowel_sign = unicodedata.category(character) == "Mc"
    return _AS_LETTERS.get(script, 1) if script else int(is_vowel_sign)


@lru_cache(1 << 16)
def _script(character: str) -> str:
    """The script of a letter, UNKNOWN where Python knows no name of it; "" of anything else."""
    return unicodedata.name(character, "UNKNOWN").partition(" ")[0] if character.isalpha() else ""
