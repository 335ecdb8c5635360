"""A conversation with a trained model: clips in, answers out, as its rows had them."""

import logging
from collections.abc import Callable
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechrows.codec import num_audio_tokens
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.loader.batch import Batch
from speechrows.loader.collate.collator import Collator
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.ragged import Ragged
from speechrows.model.clip import heard
from speechrows.model.generation import Memory
from speechrows.model.omni import Omni
from speechrows.model.sampling import drawn
from speechrows.model.spoken import Spoken
from speechrows.rows.tasks import TASKS
from speechrows.text.chat import ChatTemplate
from speechrows.text.chat import RenderedChat
from speechrows.text.chat import compile_chat
from speechrows.text.template import is_chat
from speechrows.text.tokenizers import pad_id
from speechrows.types import IGNORE_INDEX
from speechrows.types import Fields
from speechrows.types import Int16
from speechrows.types import Int32
from speechrows.types import Samples
from speechrows.types import Task

logger = logging.getLogger(__name__)

_ANY = "a"  # an answer, of which only what stands around it is used
_MAX_SECONDS = 60  # of speech


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a model answers to a clip."""

    text: str
    token_ids: tuple[int, ...]  # without the end token
    is_cut: bool  # it has not come to its end
    codes: Tensor | None = None  # int64 [K, F], of the model's codec, where it is asked to speak


class Session:
    """A conversation with a model, turn after turn.

    Prompts are those of the rows that the model was trained on, and so is what it remembers: of earlier turns
    all, through TTT states and, as far as its attention span goes, attention; nothing where its rows stood
    alone (mode bucket, or a task that is no conversation).

    Args:
        model: a trained one, as Omni.load gives it.
        task: the task that it is to do, where it was trained on several.
        max_tokens: of an answer.
        temperature: 0 for the likeliest tokens; others are drawn.
        top_p: drawn from the likeliest tokens that make up this share of the chances.
        seed: of what is drawn.
        speaks: whether answers have codes of speech.

    Raises:
        UsageError: the model is not a trained one, or has no such task, or no audio head to speak with.
    """

    def __init__(
        self,
        model: Omni,
        *,
        task: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        speaks: bool = False,
    ) -> None:
        if model.config.rows is None:
            raise UsageError("session: found a model that no rows trained; expected one of Omni.load")
        if speaks and model.audio_head is None:
            raise UsageError(
                "session: the model has no audio head to speak with; train it on rows with codes: s2s_mimi"
            )
        self.model = model.eval()
        self._rows, self._rate = model.config.rows, model.config.preset.audio_tokens_per_second
        self._task = _chosen(task, self._rows.templates)
        options = self._rows.templates[self._task.name]
        self._system, self._max_tokens, self._speaks = options.system, max_tokens, speaks
        # In a chat of any messages, a clip alone is written as in any other: TASKS["response"] says so.
        heard_as = TASKS["response"] if self._task.takes_text else self._task
        self._template: ChatTemplate = compile_chat(model.tokenizer, heard_as, options.date, options.system)
        self._device = next(model.parameters()).device
        generator = torch.Generator(self._device).manual_seed(seed)
        self._choose = partial(drawn, temperature=temperature, top_p=top_p, generator=generator)
        self._collator = Collator(
            device=self._device,
            pad_id=pad_id(model.tokenizer),
            plan_options=PlanOptions(budget_tokens=1),
            audio_tokens_per_second=self._rate,
            mel=model.speech_lm.encoder.mel,
        )
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin a new conversation: forget all turns."""
        self._turn, self._num_tokens, self._is_warned = 0, 0, False
        self._memory: Memory | None = None

    def respond(self, clip: Path | str | bytes, on_text: Callable[[str], object] | None = None) -> Answer:
        """Hear the next turn, a file or its bytes, of any rate and format that rows may have; answer it.

        `on_text` is called with the text, piece by piece, as it comes.

        Raises:
            UsageError: the clip can not be read, or the conversation is longer than the model's positions.
        """
        samples, rate = heard(clip)
        rendered = self._rendered()
        num_audio = num_audio_tokens(Samples(len(samples)), rate, self._rate)
        ids, labels = rendered.assemble(num_audio, length=rendered.num_tokens(num_audio))
        prompt = ids[: int((labels != IGNORE_INDEX).argmax())]
        ending = self._template.inner if self._task.whole else self._template.last
        gap = rendered.ids[np.flatnonzero(rendered.is_target)[-1] + 1 :]
        then = [*gap.tolist(), *ending.end_ids.tolist(), *ending.tail_ids.tolist()]
        room = self._room(len(prompt) + len(then))
        spoken = Spoken(self._text, on_text)
        generated = self.model.speech_lm.generate(
            self._batch(prompt, samples, rate, num_audio),
            max_new_tokens=room,
            end_ids={int(end.end_ids[0]) for end in (self._template.inner, self._template.last)},
            memory=self._memory,
            then_ids=then,
            choose=self._choose,
            on_token=lambda _, token: spoken.add(token),
        )
        self._keep(generated.memory)
        ((tokens,), (is_cut,)) = generated.tokens, generated.are_cut
        return Answer(
            text=spoken.end(),
            token_ids=tuple(tokens),
            is_cut=is_cut,
            codes=self._codes(generated.hidden_states[0]) if self._speaks else None,
        )

    def _rendered(self) -> RenderedChat:
        """The turn as a row has it, but for its answer."""
        whole = self._task.whole
        number = self._turn if whole else 0
        row = Fields(transcript=_ANY, answer=_ANY, number=number, last=not whole, system=self._system)
        (rendered,) = self._template.fill([row])
        if rendered is None:
            raise UsageError(
                f"session: the model's tokenizer does not give {_ANY!r} back; train with another"
            )
        return rendered

    def _room(self, num_tokens: int) -> int:
        """The tokens that an answer may have, after so many new ones of its turn.

        Raises:
            UsageError: there is no room for one.
        """
        limit = getattr(self.model.speech_lm.lm.config, "max_position_embeddings", None)
        used = self._num_tokens + num_tokens
        if limit is not None and used >= limit:
            raise UsageError(
                f"session: the conversation would take {used} tokens before the answer, and the model has "
                f"{limit} positions; begin a new conversation, or give a shorter clip"
            )
        if used > self._rows.longest and not self._is_warned:
            self._is_warned = True
            logger.warning(
                printable(
                    f"the conversation has {used} tokens, and the longest that the model was trained on "
                    f"{self._rows.longest}: expect worse answers, or begin a new one"
                )
            )
        return self._max_tokens if limit is None else min(self._max_tokens, limit - used)

    def _batch(self, prompt: Int32, samples: Int16, rate: int, num_audio: int) -> Batch:
        """A batch of one row, collated as rows of training are."""
        zero, int32 = np.zeros(1, np.int32), partial(np.array, dtype=np.int32)
        task, turn = self._task.name, self._turn
        ragged = Ragged(
            micro_batch=MicroBatch(
                step=0, number=0, num_sequences=1, rows=zero, sequence=zero, start=zero, position=zero
            ),
            row_ids=(f"session/none/conversation/{turn}/{task}",),
            tasks=(task,),
            turn_numbers=int32([turn]),
            num_tokens=int32([len(prompt)]),
            input_ids=prompt,
            labels=np.full(len(prompt), IGNORE_INDEX, np.int32),
            samples=np.array(samples),
            num_samples=int32([len(samples)]),
            sampling_rates=int32([rate]),
            num_audio_tokens=int32([num_audio]),
            clip_rows=zero,
            codec=None,
            codes=np.empty(0, np.int16),
            num_frames=zero[:0],
            code_rows=zero[:0],
        )
        return self._collator(ragged, 0)

    def _keep(self, memory: Memory | None) -> None:
        """Keep what rows of training had before the next turn."""
        self._turn += 1
        if memory is not None and self._task.whole and self._rows.carries:
            self._memory, self._num_tokens = memory, int(memory.num_tokens[0])

    def _text(self, tokens: list[int]) -> str:
        """The text of tokens; where a space stands before each answer of rows, it is of its first token."""
        tokenizer = self.model.tokenizer
        text = str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return text.removeprefix(" ") if self._template.lead.endswith(" ") else text

    def _codes(self, hidden: Tensor) -> Tensor:
        head = self.model.audio_head
        assert head is not None
        (codes,) = head.generate([hidden], max_frames=int(_MAX_SECONDS * head.spec.rate_hz))
        return codes


def _chosen(name: str | None, tasks: Collection[str]) -> Task:
    """The task to do: the one that is named, or the only one.

    Raises:
        UsageError: there is no such task, or there are several; or it hears no clip.
    """
    task = name or (next(iter(tasks)) if len(tasks) == 1 else "")
    if task not in tasks:
        raise UsageError(
            f"task: found {name or 'none'}, expected one that the model learnt: {', '.join(tasks)}"
        )
    if not is_chat(TASKS[task]):
        raise UsageError(f"task {task}: hears units, no clips; expected a model of another task")
    return TASKS[task]
