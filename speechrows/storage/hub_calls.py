"""Calls of the Hub's client: refusals become our errors, calls without an answer are retried."""

from collections.abc import Callable
from typing import Any
from typing import TypeVar

from speechrows.errors import SpeechRowsError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.storage.retry import retry

T = TypeVar("T")


class MovedError(SpeechRowsError):
    """The repository has changed since it was read."""


class NoAnswerError(Exception):
    """The Hub, or the line to it, failed; a retry may succeed."""


_REFUSALS: dict[int, tuple[type[SpeechRowsError], str]] = {
    401: (
        UsageError,
        "the Hub does not know who asks (401). Log in with `hf auth login`, or set HF_TOKEN to a token "
        "that may write",
    ),
    403: (
        UsageError,
        "whoever this token belongs to may not write there (403). Give the token of someone who may, or "
        "open a pull request with --create-pr",
    ),
    404: (UsageError, "no such dataset or revision, or none that this token may see (404)"),
    409: (MovedError, "has changed since it was read"),
    412: (MovedError, "has changed since it was read"),
}


def call_hub(endpoint: str, repo_id: str, call: Callable[[], T]) -> T:
    """Return what a call of the Hub's client returns; retry it where the Hub, or the line to it, fails.

    Raises:
        UsageError: no such repository, or no right to it (401, 403, 404).
        MovedError: it has changed since (409, 412).
        StoreError: no answer after all retries (429, 5xx, a cut connection).
        SpeechRowsError: the Hub refuses what was sent.
    """
    try:
        return retry(lambda: call_once(endpoint, repo_id, call))
    except NoAnswerError as error:
        raise StoreError(
            f"{repo_id}: the Hub did not answer ({error}). Run the same command again: what is up already "
            "is not sent again"
        ) from error


def call_once(endpoint: str, repo_id: str, call: Callable[[], T]) -> T:
    """Return what a call of the Hub's client returns, without a retry.

    Raises:
        NoAnswerError: no answer.
        SpeechRowsError: as `call_hub`.
    """
    try:
        return call()
    except SpeechRowsError:
        raise
    except Exception as error:
        response = _response(error)
        # Another host is a store that files are sent to: its tickets run out, which a new request mends.
        if response is None or not str(response.url).startswith(endpoint):
            raise NoAnswerError(_describe(error)) from error
        if response.status_code == 429 or response.status_code >= 500:
            raise NoAnswerError(_describe(error)) from error
        refusal, words = _REFUSALS.get(
            response.status_code, (SpeechRowsError, f"the Hub refuses what was sent ({_describe(error)})")
        )
        raise refusal(f"{repo_id}: {words}") from error


def _response(error: BaseException | None) -> Any:
    """Return the HTTP response behind an error: uploads wrap it."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__ or error.__context__
    return None


def _describe(error: Exception) -> str:
    """Describe an error in short, without addresses, which may carry a signature."""
    response = _response(error)
    if response is not None:
        message = getattr(error, "server_message", None)
        return f"{response.status_code}" + (f": {message}" if message else "")
    return type(error).__name__
