"""Prompts for a language model, and which of its replies are kept as answers."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from speechrows.corpora import traits
from speechrows.generate.clip import InputClip

TIMES_AGAIN = 3  # that a prompt is asked again whose answer can not be kept
BEGINNING = "Sounds like"  # of every description
REFUSED = "the endpoint refused the prompt"

SYSTEM = {  # the founding prompts, to the letter
    "sift_s": "You are the user's friend. Respond warmly and briefly to what they tell you.",
    "sift_ssp": (
        "You can hear audio. Respond empathetically to what the person says, being aware of their tone and "
        "emotion. Don't describe the audio - just respond to it naturally."
    ),
    "sit_ssp": (
        'Describe audio in one sentence starting with "Sounds like". Include emotion, gender, what they said '
        "(quoted), and voice quality. Example: \"Sounds like an angry man saying 'leave me alone' in a harsh "
        'voice."'
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A system prompt and the user's message."""

    system: str
    user: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a model samples its tokens. Temperature 0 takes the likeliest."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a model wrote; `is_cut` where its end did not come within max_new_tokens."""

    text: str
    is_cut: bool
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The outcome of a prompt: a text, or the reason why there is none."""

    text: str | None = None
    is_cut: bool = False
    reason: str | None = None


class ChatModel(Protocol):
    """A language model that answers prompts while more of them are read."""

    @property
    def num_tokens(self) -> int:
        """Tokens that it wrote so far."""
        ...

    @property
    def num_asked(self) -> int:
        """Requests that it answered so far."""
        ...

    @property
    def busy_s(self) -> float:
        """Seconds in which it had as much to do as it can do at once."""
        ...

    def answers(self, prompts: Iterable[Prompt | None], judge: Callable[[Reply], Answer]) -> Iterator[Answer]:
        """Yield an answer to each prompt, in order; a prompt None asks for all answers that are pending.

        A prompt whose reply gets no text from `judge` is asked up to TIMES_AGAIN times more.
        """
        ...


def prompt_of(mode: str, clip: InputClip) -> Prompt:
    """The prompt of a clip: of its text alone, or with its traits."""
    user = clip.text.strip() if mode == "sift_s" else traits.context(clip.traits, clip.text)
    return Prompt(system=SYSTEM[mode], user=user)


def judge_of(mode: str) -> Callable[[Reply], Answer]:
    """The function that makes an answer of a mode's reply, or says what is wrong with it."""
    return judge_description if mode == "sit_ssp" else judge


def judge(reply: Reply) -> Answer:
    """The answer of a reply: its text outside of <think>, if there is any."""
    text = without_thoughts(reply.text)
    return Answer(text=text, is_cut=reply.is_cut) if text else Answer(reason="the answer was empty")


def judge_description(reply: Reply) -> Answer:
    """The answer of a reply that has to begin as its prompt says."""
    answer = judge(reply)
    if answer.text is not None and not answer.text.startswith(BEGINNING):
        return Answer(reason=f'the answer did not begin with "{BEGINNING}"')
    return answer


def without_thoughts(text: str) -> str:
    """A reply without its <think>…</think>, or without what follows a <think> that is not closed."""
    thought, closed, rest = text.partition("</think>")
    if closed and "<think>" not in thought:
        text = rest  # the template opened it, in the prompt
    while "<think>" in text:
        before, _, after = text.partition("<think>")
        text = before + after.partition("</think>")[2]
    return text.encode(errors="ignore").decode().strip()  # no lone surrogates: parquet is UTF-8
