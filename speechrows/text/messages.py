"""A conversation as a chat template takes it, with sentinels in the place of what rows fill in.

Most templates take a message's content as a string; those of models that hear take a list of typed parts,
`{"type": "audio"}` and `{"type": "text", "text": …}`, and write the model's own audio token for a part.
"""

from dataclasses import dataclass
from typing import Any

from speechrows.types import AUDIO_TOKEN
from speechrows.types import PROMPT

# Mixed case: a template that changes it is seen.
_AUDIO, _TARGET, SYSTEM = "SpeechRowsAudio{}X", "SpeechRowsTarget{}X", "SpeechRowsSystemX"


@dataclass(frozen=True, slots=True)
class Form:
    """Which contents are lists of typed parts, and which are strings."""

    user_in_parts: bool
    others_in_parts: bool

    def conversation(self, user: str, num_turns: int, system: str | None = None) -> list[dict[str, Any]]:
        """The messages of a conversation, in which a user's message is `user`: with `<audio>`, or PROMPT."""
        messages = [] if system is None else [self._other("system", system)]
        for turn in range(num_turns):
            text = user.replace(PROMPT, _AUDIO.format(turn))
            content = (
                self._parts(text) if self.user_in_parts else text.replace(AUDIO_TOKEN, _AUDIO.format(turn))
            )
            messages += [{"role": "user", "content": content}, self._other("assistant", target(turn))]
        return messages

    def audio(self, turn: int, token: str, user: str) -> str:
        """What stands for the audio of a turn in the rendered text: the model's token, where it writes it.

        For a user's message without audio, PROMPT, it is what stands for the text.
        """
        return token if self.user_in_parts and user != PROMPT else _AUDIO.format(turn)

    def fits(self, rendered: str | Exception, token: str, user: str) -> bool:
        """Whether a template takes this form, by a conversation of one turn; strings, if no other."""
        if not self.user_in_parts:
            return True
        marks = self.audio(0, token, user), target(0)
        if not isinstance(rendered, str) or [*map(rendered.count, marks)] != [1, 1]:
            return False
        # A template for strings may write the list itself, as Python or JSON does.
        return "'type'" not in rendered and '"type"' not in rendered

    def _other(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if self.others_in_parts else text}

    @staticmethod
    def _parts(user: str) -> list[dict[str, str]]:
        before, _, after = user.partition(AUDIO_TOKEN)
        texts = [{"type": "text", "text": text.strip()} if text.strip() else None for text in (before, after)]
        parts = [texts[0], {"type": "audio"} if AUDIO_TOKEN in user else None, texts[1]]
        return [part for part in parts if part is not None]


STRINGS = Form(user_in_parts=False, others_in_parts=False)
# As they are tried: a template that takes both writes its audio token for parts alone.
FORMS = (
    Form(user_in_parts=True, others_in_parts=False),
    Form(user_in_parts=True, others_in_parts=True),
    STRINGS,
)


def target(turn: int) -> str:
    """What stands for the target of a turn."""
    return _TARGET.format(turn)
