"""A language model behind an OpenAI-compatible endpoint (vLLM, `transformers serve`), asked concurrently."""

import email.utils
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.generate.asking import REFUSED
from speechrows.generate.asking import TIMES_AGAIN
from speechrows.generate.asking import Answer
from speechrows.generate.asking import Prompt
from speechrows.generate.asking import Reply
from speechrows.generate.asking import Sampling

_PENDING = 8  # times as many prompts are pending as are asked at once, so that a slow one holds nobody up
_TRIES = 10  # of one request, about four minutes of them
_LONGEST_PAUSE_S = 60.0
_TIMEOUT_S = 600.0  # of one request
_BUSY = (408, 409, 425, 429)  # of the 4xx, those that are not the call's fault
_OF_THE_PROMPT = (400, 413, 422)  # and those that may be one prompt's alone: it is too long, perhaps
# What the HTTP library raises where there is no answer: httpx' or requests', as huggingface_hub has it.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]


class _RefusedError(Exception):
    """The endpoint answers, but not this prompt."""


class Endpoint:
    """A ChatModel that is asked over HTTP."""

    def __init__(
        self,
        url: str,
        model: str,
        sampling: Sampling,
        *,
        concurrency: int = 32,
        requests_per_second: float | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        first_pause_s: float = 0.5,
    ) -> None:
        """Take the settings; ask nothing yet.

        Raises:
            UsageError: the address is none of HTTP.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UsageError(
                f"--endpoint: found {url!r}, expected an address such as http://127.0.0.1:8000/v1"
            )
        self.num_tokens = self.num_asked = 0
        self._url, self._model, self._sampling, self._concurrency = url, model, sampling, concurrency
        self._first_pause_s = first_pause_s
        # A key is always given: without one, the client would send the Hub's token to whoever listens.
        key = os.environ.get(api_key_env) or "none"
        self._client = InferenceClient(base_url=url, api_key=key, timeout=_TIMEOUT_S)
        self._lock = threading.Lock()
        self._rate_limit = _RateLimit(requests_per_second)
        self._clock = _BusyClock(concurrency)
        self._stop = threading.Event()
        self._was_answered = self._knows_extra = False
        self._extra: dict[str, Any] | None = {"chat_template_kwargs": {"enable_thinking": False}}

    @property
    def busy_s(self) -> float:
        """Seconds in which `concurrency` requests were on their way, or no more were to be had."""
        return self._clock.busy_s

    def answers(self, prompts: Iterable[Prompt | None], judge: Callable[[Reply], Answer]) -> Iterator[Answer]:
        """An answer to each prompt, in order."""
        pending: deque[Future[Answer]] = deque()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="ask")
        try:
            for prompt in prompts:
                if prompt is not None:
                    self._clock.add(1)
                    pending.append(pool.submit(self._answer, prompt, judge))
                room = 0 if prompt is None else self._concurrency * _PENDING
                while pending and (pending[0].done() or len(pending) > room):
                    yield pending.popleft().result()
            self._clock.no_more()
            while pending:
                yield pending.popleft().result()
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def _answer(self, prompt: Prompt, judge: Callable[[Reply], Answer]) -> Answer:
        try:
            answer = Answer()
            for number in range(1 + TIMES_AGAIN if self._sampling.temperature else 1):
                answer = judge(self._reply(prompt, number))
                if answer.text is not None:
                    break
            return answer
        except _RefusedError:
            return Answer(reason=REFUSED)
        finally:
            self._clock.add(-1)

    def _reply(self, prompt: Prompt, number: int) -> Reply:
        """Ask, with retries, for a reply. `number` counts the times that this prompt was asked."""
        failure = ""
        for i in range(_TRIES):
            pause = min(self._first_pause_s * 2**i, _LONGEST_PAUSE_S)
            extra = self._extra
            if self._stop.is_set():
                break
            self._rate_limit.wait(self._stop)
            try:
                reply = _read(self._request(prompt, number, extra))
            except HfHubHTTPError as error:
                failure = _describe(error)
                status = error.response.status_code
                if status < 500 and status not in _BUSY:
                    if status in _OF_THE_PROMPT and extra and not self._knows_extra:
                        self._extra = None  # it knows no chat_template_kwargs
                        continue
                    self._refuse(status, failure)
                self._rate_limit.pause(_retry_after(error.response.headers.get("retry-after")), status)
            except (_HTTP_ERROR, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                failure = f"{type(error).__name__}: {error}"  # no answer, or none that can be read
            else:
                with self._lock:
                    self._was_answered = True
                    self._knows_extra |= extra is not None
                    self.num_asked += 1
                    self.num_tokens += reply.num_tokens
                return reply
            self._stop.wait(pause)
        raise StoreError(
            f"{self._url}: did not answer, asked {_TRIES} times; found {failure:.300}. Run the same command "
            "again: the answers that were given are kept"
        )

    def _request(self, prompt: Prompt, number: int, extra: dict[str, Any] | None) -> Any:
        sampling = self._sampling
        return self._client.chat_completion(
            [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
            model=self._model,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=None if sampling.seed is None else sampling.seed + number,
            extra_body=extra,
        )

    def _refuse(self, status: int, failure: str) -> None:
        """Raise UsageError where the call is wrong, _RefusedError where other prompts were answered."""
        if status in _OF_THE_PROMPT and self._was_answered:
            raise _RefusedError
        raise UsageError(
            f"{self._url}: refused the call with {failure:.500}; look at --endpoint, --model, the key in "
            "--api-key-env, and the sampling"
        )


class _RateLimit:
    """Spaces requests in time: so many a second, and none while the endpoint asks for a pause."""

    def __init__(self, per_second: float | None) -> None:
        self._step_s = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._step_s
        stop.wait(max(0.0, at - time.monotonic()))

    def pause(self, seconds: float | None, status: int) -> None:
        """Let no request go for so long, where the endpoint says how long it is too busy."""
        if seconds is not None and status in (429, 503):
            with self._lock:
                self._next = max(self._next, time.monotonic() + min(seconds, _LONGEST_PAUSE_S * 5))


class _BusyClock:
    """Counts the seconds in which the endpoint had as many requests as it may have at once."""

    def __init__(self, concurrency: int) -> None:
        self._full, self._num, self._is_all = concurrency, 0, False
        self._busy_s, self._at = 0.0, time.monotonic()
        self._lock = threading.Lock()

    @property
    def busy_s(self) -> float:
        with self._lock:
            self._tick()
            return self._busy_s

    def add(self, number: int) -> None:
        with self._lock:
            self._tick()
            self._num += number

    def no_more(self) -> None:
        with self._lock:
            self._tick()
            self._is_all = True

    def _tick(self) -> None:
        now = time.monotonic()
        if self._num >= self._full or (self._is_all and self._num):
            self._busy_s += now - self._at
        self._at = now


def _read(completion: Any) -> Reply:
    choice = completion.choices[0]
    used = completion.usage.completion_tokens if completion.usage else 0
    return Reply(
        text=choice.message.content or "", is_cut=choice.finish_reason == "length", num_tokens=used or 0
    )


def _describe(error: HfHubHTTPError) -> str:
    return f"{error.response.status_code}: {error.response.text.strip() or error}"


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, of a Retry-After header: a number of them, or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
