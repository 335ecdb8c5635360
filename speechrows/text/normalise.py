"""The one form of a text that is rendered, tokenised and stored."""

import unicodedata


def normalise(text: str, *, lower_case: bool = False) -> str:
    """Return a text stripped and in NFC, in lower case where asked."""
    return unicodedata.normalize("NFC", (text.lower() if lower_case else text).strip())
