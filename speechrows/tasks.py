"""The table of tasks: one line each. A new task is a line here and its golden row."""

from speechrows.types import Segment
from speechrows.types import Task


def _chat(user: str, assistant: str) -> tuple[Segment, Segment]:
    """The segments of a chat task: the user's side is masked, the assistant's supervised."""
    return (
        Segment(role="user", text=user, supervised=False),
        Segment(role="assistant", text=assistant, supervised=True),
    )


# fmt: off
# ruff: noqa: E501
TASKS = {task.name: task for task in (
    Task(name="ttt", pairing="turn", segments=_chat("<audio>", "{transcript}"), whole=True, pad_to_multiple_of=64, banded=True),
    Task(name="transcription", pairing="turn", segments=_chat("<audio> Transcribe:", "{transcript}"), whole=False, lower_case=True),
    Task(name="response", pairing="exchange", segments=_chat("<audio>", "{answer}"), whole=True),
)}
# fmt: on
