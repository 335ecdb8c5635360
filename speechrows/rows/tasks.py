"""The table of tasks. A new task is an entry here and its golden row."""

from speechrows.types import Segment
from speechrows.types import Task

SIFT = ("sift_s", "sift_ssp", "sit_ssp")  # whose answers a language model writes
NUM_UNITS = 10_000  # of the k-means that USDM's units come from
CORRESPOND = "<|correspond|>"  # USDM's sign that text and units say the same
_USDM = (
    "Below is a conversation between the user and the agent. Each turn includes the user's speech and its "
    "corresponding transcript, along with the agent's response text and the corresponding speech.\n"
)


def _chat(user: str, assistant: str) -> tuple[Segment, Segment]:
    """The segments of a chat task: the user's side is masked, the assistant's supervised."""
    return (
        Segment(role="user", text=user, supervised=False),
        Segment(role="assistant", text=assistant, supervised=True),
    )


def _usdm() -> tuple[Segment, ...]:
    """USDM's single-turn template: what it hears is masked, what it is to write is supervised."""
    return (
        Segment(text=_USDM + "\n### User\n", supervised=False),
        Segment(text="{units}" + CORRESPOND, supervised=False),
        Segment(text="{transcript}\n", supervised=True),
        Segment(text="### Agent\n", supervised=False),
        Segment(text="{answer}" + CORRESPOND + "{answer_units}", supervised=True),
        Segment(text="\n", supervised=True),  # and eos after it; as published, neither
    )


# fmt: off
# ruff: noqa: E501
TASKS = {task.name: task for task in (
    Task(name="ttt", pairing="turn", segments=_chat("<audio>", "{transcript}"), whole=True, pad_to_multiple_of=64, banded=True,
         asks="hear a turn, write what is said; whole conversations, padded to multiples of 64 tokens"),
    Task(name="transcription", pairing="turn", segments=_chat("<audio> Transcribe:", "{transcript}"), lower_case=True,
         asks="hear a turn, transcribe it in lower case"),
    Task(name="answer_extraction", pairing="turn", segments=_chat("<audio>", "{answer}"), lower_case=True, needs="answer",
         asks="hear a question, write its answer in lower case"),
    Task(name="sift_s", pairing="turn", segments=_chat("<audio>", "{answer}"), needs="answer",
         asks="hear a clip, answer what was said; a language model wrote the answers, from the text alone"),
    Task(name="sift_ssp", pairing="turn", segments=_chat("<audio>", "{answer}"), needs="answer",
         asks="hear a clip, answer what was said and how; a language model wrote the answers"),
    Task(name="sit_ssp", pairing="turn", segments=_chat("<audio> Describe all information you can hear:", "{answer}"), needs="answer",
         asks="hear a clip, describe what can be heard; a language model wrote the descriptions"),
    Task(name="s2s_mimi", pairing="turn", segments=_chat("<audio>", "{transcript}"), codec_targets="turn", needs="codes",
         asks="hear a clip, say it again: its transcript, and its Mimi codes as `codec_targets`"),
    Task(name="response", pairing="exchange", segments=_chat("<audio>", "{answer}"), whole=True, codec_targets="answer",
         asks="hear a turn, write the answer to it, with its speech where the corpus has it"),
    Task(name="chat", pairing="exchange", segments=_chat("{prompt}", "{answer}"), whole=True, codec_targets="answer",
         asks="read or hear a user's message, write the answer to it, with its speech where the corpus has it"),
    Task(name="usdm", pairing="both", segments=_usdm(), lower_case=True, codec_targets="answer", needs="units", max_tokens=8192,
         asks="hear units of speech, write their text, the answer, and the answer's units, as USDM does"),
)}
# fmt: on
