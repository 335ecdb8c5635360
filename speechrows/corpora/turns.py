"""Checks that every reader makes of a turn."""

from typing import Any
from typing import TypeGuard


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
