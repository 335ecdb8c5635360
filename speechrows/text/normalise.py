"""The one form of a text that is rendered, tokenised and stored."""

import re
import unicodedata

# What shows nothing: spaces and controls; what Unicode says may be ignored, such as zero-width and
# bidirectional marks, byte order marks, soft hyphens, variation selectors and tags; and blank letters.
_INVISIBLE = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)


def normalise(text: str, *, lower_case: bool = False) -> str:
    """Return a text stripped and in NFC, in lower case where asked."""
    return unicodedata.normalize("NFC", (text.lower() if lower_case else text).strip())


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or of spaces and invisible characters alone."""
    return _INVISIBLE.fullmatch(text) is not None
