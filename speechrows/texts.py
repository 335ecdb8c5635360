"""The one form of a text that is rendered, tokenised and stored, and what is no text at all."""

import unicodedata
from typing import Any
from typing import TypeGuard


def normalise(text: str, *, lower_case: bool = False) -> str:
    """Stripped, NFC."""
    return unicodedata.normalize("NFC", (text.lower() if lower_case else text).strip())


def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a string, and one that can be written as UTF-8."""
    return isinstance(value, str) and is_unicode(value)


def is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates: bytes that were no UTF-8, or a broken escape."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
