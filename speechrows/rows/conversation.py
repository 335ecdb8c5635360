"""What a conversation decides for all of its rows: their split, and their system prompt."""

import hashlib

from speechrows.text.normalise import normalise
from speechrows.text.template import is_chat
from speechrows.types import Dialogue
from speechrows.types import Task


class ClipCount:
    """Counts the clips of conversations whose rows come in order, as they lie in files."""

    def __init__(self) -> None:
        self._count = 0

    def before(self, turn_number: int, *, has_clip: bool) -> int:
        """How many clips the earlier rows of the next row's conversation have; turn 0 begins one."""
        before = self._count if turn_number else 0
        self._count = before + has_clip
        return before


def split_of(dialogue: Dialogue, validation_fraction: float) -> str:
    """The split of a dialogue: its own, or validation for a stable share of train."""
    key = dialogue.twin_key
    if validation_fraction > 0 and dialogue.split == "train" and key is not None:
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        if int.from_bytes(digest[:8]) < validation_fraction * 2**64:
            return "validation"
    return dialogue.split


def system_of(dialogue: Dialogue, task: Task, default: str | None) -> str | None:
    """The system prompt of a dialogue's rows: its own, else the build's; none where a task is no chat."""
    own = normalise(dialogue.system or "") if is_chat(task) else ""
    return own or default
