"""A language model in this process, by transformers: batches of like length, left padding."""

import itertools
import re
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.generate.answering import Answered
from speechrows.generate.answering import Judge
from speechrows.generate.answering import Window
from speechrows.generate.answering import WindowedModel
from speechrows.generate.asking import TIMES_AGAIN
from speechrows.generate.asking import Answer
from speechrows.generate.asking import Prompt
from speechrows.generate.asking import Reply
from speechrows.generate.asking import Sampling
from speechrows.storage.models import is_from_cache

BATCH_SIZE = {"cuda": 256, "cpu": 16}
_NEXT_TURN = re.compile("\n(User|Assistant|System):")  # where a model without a template goes on by itself
_NEXT_TURN_TOKENS = 12  # that hold the longest of them: a token is a letter or more


class LocalModel(WindowedModel):
    """A ChatModel in this process: a causal language model of the Hub, a folder, or a .gguf file."""

    def __init__(
        self, model: str, sampling: Sampling, *, device: str = "auto", batch_size: int | None = None
    ) -> None:
        """Load the model.

        Raises:
            UsageError: there is no such model or device, or no torch.
        """
        self._sampling = sampling
        self._tokenizer, self._model = _load(model, device)
        self._batch_size = batch_size or BATCH_SIZE.get(self._model.device.type, 16)
        self._ends = _ends(self._tokenizer, self._model)
        self._seeds: Iterator[int] = iter(())  # of the batches of a window
        self._asked, self._tokens, self._busy_s = 0, 0, 0.0  # of a window
        super().__init__(self._answer_each, self._batch_size)

    def _answer_each(self, windows: Iterable[Window | None]) -> Iterator[Answered]:
        return map(self.answer, (window for window in windows if window is not None))

    def answer(self, window: Window) -> Answered:
        """Answer a window; what is drawn follows from the seed and the window's number."""
        self._seeds = (_seed(self._sampling.seed or 0, window.number, n) for n in itertools.count())
        self._asked, self._tokens, self._busy_s = 0, 0, 0.0
        texts = [render(self._tokenizer, prompt) for prompt in window.prompts]
        answers = self._answers(texts, window.judge)
        return Answered(
            answers=tuple(answers), num_asked=self._asked, num_tokens=self._tokens, busy_s=self._busy_s
        )

    def _answers(self, texts: Sequence[str], judge: Judge) -> list[Answer]:
        answers = [Answer()] * len(texts)
        # The longest first: it fits the device or not.
        pending = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
        for _ in range(1 + TIMES_AGAIN if self._sampling.temperature else 1):
            for at in range(0, len(pending), self._batch_size):
                batch = pending[at : at + self._batch_size]
                for i, reply in zip(batch, self._reply([texts[i] for i in batch]), strict=True):
                    answers[i] = judge(reply)
            pending = [i for i in pending if answers[i].text is None]
        return answers

    def _reply(self, texts: Sequence[str]) -> list[Reply]:
        """Replies to a batch, which is split into halves where it does not fit the device."""
        import torch  # noqa: PLC0415  # builds do without it

        tokens = self._tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        began = time.monotonic()
        try:
            torch.manual_seed(next(self._seeds))
            written = self._generate(tokens.to(self._model.device))
        except torch.cuda.OutOfMemoryError:
            if len(texts) == 1:
                raise UsageError(
                    f"--device {self._model.device}: not even one answer fits; give a smaller --model"
                ) from None
            torch.cuda.empty_cache()
            half = len(texts) // 2
            return self._reply(texts[:half]) + self._reply(texts[half:])
        finally:
            self._busy_s += time.monotonic() - began
        return [self._read(row) for row in written]

    def _generate(self, tokens: Any) -> list[list[int]]:
        """The ids that were written, a row a prompt."""
        sampling, kwargs = self._sampling, dict[str, Any]()
        if sampling.temperature:
            kwargs |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        if self._tokenizer.chat_template is None:
            kwargs |= {"stopping_criteria": [_at_next_turn(self._tokenizer, tokens["input_ids"].shape[1])]}
        out = self._model.generate(
            **tokens,
            do_sample=sampling.temperature > 0,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(self._ends),
            pad_token_id=self._tokenizer.pad_token_id,
            **kwargs,
        )
        return out[:, tokens["input_ids"].shape[1] :].tolist()

    def _read(self, row: Sequence[int]) -> Reply:
        """A reply up to its end; cut where none came."""
        end = next((i for i, token in enumerate(row) if token in self._ends), None)
        self._asked += 1
        self._tokens += len(row) if end is None else end + 1
        text = self._tokenizer.decode(row[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if self._tokenizer.chat_template is None and (turn := _NEXT_TURN.search(text)):
            return Reply(text=text[: turn.start()], is_cut=False, num_tokens=len(row))
        return Reply(text=text, is_cut=end is None, num_tokens=len(row))


def _seed(*numbers: int) -> int:
    """A seed that follows from some numbers."""
    entropy = [number % (1 << 64) for number in numbers]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])


def render(tokenizer: Any, prompt: Prompt) -> str:
    """Render a prompt by the model's chat template, up to where the answer begins, with thinking off.

    A template that refuses a system message gets it above the user's; a model without a template gets
    the founding documents' "System: … User: … Assistant:".
    """
    if tokenizer.chat_template is None:
        bos = tokenizer.bos_token or ""
        return f"{bos}System: {prompt.system}\nUser: {prompt.user}\nAssistant:"
    user = {"role": "user", "content": prompt.user}
    try:
        return _render(tokenizer, [{"role": "system", "content": prompt.system}, user])
    except TemplateError:
        return _render(tokenizer, [user | {"content": f"{prompt.system}\n\n{prompt.user}"}])


def _render(tokenizer: Any, messages: Sequence[dict[str, str]]) -> str:
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
    )


def _at_next_turn(tokenizer: Any, prompt_length: int) -> Callable[..., Any]:
    """Make the criterion that stops a row which begins another turn."""
    import torch  # noqa: PLC0415  # builds do without it

    # Not by `stop_strings`, which takes minutes for a large vocabulary.
    def stop(ids: Any, *_: Any, **__: Any) -> Any:
        last = tokenizer.batch_decode(ids[:, max(prompt_length, ids.shape[1] - _NEXT_TURN_TOKENS) :])
        return torch.tensor([_NEXT_TURN.search(text) is not None for text in last], device=ids.device)

    return stop


def _load(model: str, device: str) -> tuple[Any, Any]:
    try:
        import torch  # noqa: PLC0415  # builds do without it
        from transformers import AutoModelForCausalLM  # noqa: PLC0415
        from transformers import AutoTokenizer  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"found {error}; generate sift needs: pip install 'speechrows[codec]', or an --endpoint"
        ) from error
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    file = Path(model)
    is_gguf = file.suffix == ".gguf" and file.exists()
    address, kwargs = (str(file.parent), {"gguf_file": file.name}) if is_gguf else (model, {})
    if not is_gguf:
        kwargs = {"local_files_only": is_from_cache(model, "--model")}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            address, padding_side="left", trust_remote_code=False, **kwargs
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            address, dtype="auto", trust_remote_code=False, **kwargs
        )
        return _with_pad(tokenizer), loaded.to(device).eval()
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise UsageError(
            f"--model {model}: expected a causal language model, a folder or a Hub repository, on --device "
            f"{device}; found: {first_line(error):.300}"
        ) from error


def _with_pad(tokenizer: Any) -> Any:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _ends(tokenizer: Any, model: Any) -> set[int]:
    """The ids that end an answer: the tokenizer's, and all that the model's own settings name."""
    eos = model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])]
    return {token for token in ids if token is not None}
