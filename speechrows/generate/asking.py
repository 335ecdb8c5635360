"""What is asked of a language model, and which of its answers are kept."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from speechrows.corpora import traits
from speechrows.generate.clip import SourceClip

TIMES_AGAIN = 3  # that an answer which can not be kept is asked for again
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
    """What a model is told."""

    system: str
    user: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a model chooses its words. Temperature 0 takes the likeliest."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a model said. `is_cut` where its end never came within max_new_tokens."""

    text: str
    is_cut: bool
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What becomes of a prompt: a text, or the reason why there is none."""

    text: str | None = None
    is_cut: bool = False
    reason: str | None = None


class ChatModel(Protocol):
    """Something that answers. Whoever asks it, asks while it works."""

    @property
    def num_tokens(self) -> int:
        """How many it wrote so far."""
        ...

    @property
    def num_asked(self) -> int:
        """How often it was asked."""
        ...

    @property
    def busy_s(self) -> float:
        """Seconds in which it had all that it can do at once."""
        ...

    def answers(self, prompts: Iterable[Prompt | None], judge: Callable[[Reply], Answer]) -> Iterator[Answer]:
        """An answer to each prompt, in order; None says: answer what you hold.

        What `judge` gives no text for is asked TIMES_AGAIN times more.
        """
        ...


def prompt_of(mode: str, clip: SourceClip) -> Prompt:
    """The prompt of a clip: its text alone, or what is heard of it too."""
    said = clip.text.strip() if mode == "sift_s" else traits.context(clip.traits, clip.text)
    return Prompt(system=SYSTEM[mode], user=said)


def judge_of(mode: str) -> Callable[[Reply], Answer]:
    """Keeps a reply's answer, or says what is wrong with it."""
    return judge_description if mode == "sit_ssp" else judge


def judge(reply: Reply) -> Answer:
    """An answer is what stands outside of <think>, if anything does."""
    text = without_thoughts(reply.text)
    return Answer(text=text, is_cut=reply.is_cut) if text else Answer(reason="the answer was empty")


def judge_description(reply: Reply) -> Answer:
    """A description begins as its prompt says."""
    answer = judge(reply)
    if answer.text is not None and not answer.text.startswith(BEGINNING):
        return Answer(reason=f'the answer did not begin with "{BEGINNING}"')
    return answer


def without_thoughts(text: str) -> str:
    """A reply without its <think>…</think>; one that is still thinking at its end says nothing after it."""
    thought, closed, rest = text.partition("</think>")
    if closed and "<think>" not in thought:
        text = rest  # the template opened it, in the prompt
    while "<think>" in text:
        before, _, after = text.partition("<think>")
        text = before + after.partition("</think>")[2]
    return text.encode(errors="ignore").decode().strip()  # no lone surrogates: parquet is UTF-8
