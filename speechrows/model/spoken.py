"""The text of an answer, told as it comes."""

from collections.abc import Callable


class Spoken:
    """The text of tokens that come one by one; each piece is told when no later token changes it."""

    def __init__(self, text_of: Callable[[list[int]], str], tell: Callable[[str], object] | None) -> None:
        self._text_of, self._tell = text_of, tell
        self._tokens, self._told = list[int](), ""

    def add(self, token: int) -> None:
        """Take in the next token."""
        self._tokens.append(token)
        if self._tell is not None:
            self._say(self._text_of(self._tokens).rstrip("\ufffd"))  # bytes of a letter that is not whole

    def end(self) -> str:
        """The whole text; what of it was not told yet is."""
        text = self._text_of(self._tokens)
        self._say(text)
        return text

    def _say(self, text: str) -> None:
        if self._tell is not None and len(text) > len(self._told) and text.startswith(self._told):
            self._tell(text[len(self._told) :])
            self._told = text
