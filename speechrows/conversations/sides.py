"""Who is heard in which of the two channels: by role, or by the corpus' name of the speaker."""

from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.conversations.turns import SpokenTurn
from speechrows.errors import UsageError
from speechrows.types import Role

INPUT, OUTPUT = 0, 1
_ROLES: dict[str, Role] = {"user": "user", "agent": "assistant", "assistant": "assistant"}  # NeMo says agent


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """The names of those who are heard in the input's channel, and in the output's."""

    names: tuple[tuple[str, ...], tuple[str, ...]]

    @staticmethod
    def of(input_roles: Sequence[str], output_roles: Sequence[str]) -> "Sides":
        """Sides by roles (`user`; `agent` or `assistant`; in any case) and speakers' names.

        Raises:
            UsageError: a name is of both sides, or they are no lists of names.
        """
        for option, roles in (("input_roles", input_roles), ("output_roles", output_roles)):
            if isinstance(roles, str) or not all(isinstance(role, str) and role for role in roles):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(f"{option}: found {roles!r:.80}, expected names, as ('user',)")
        inputs, outputs = (tuple(map(_plain, roles)) for roles in (input_roles, output_roles))
        both = sorted({*inputs} & {*outputs})
        if both:
            raise UsageError(
                f"input_roles and output_roles: found {both[0]!r} in both; expected each in one channel"
            )
        return Sides(names=(inputs, outputs))

    def side_of(self, turn: SpokenTurn, conversation_id: str) -> int:
        """The channel that a turn is heard in; the speaker's name goes before the role.

        Raises:
            UsageError: it is heard in neither.
        """
        for name in (turn.speaker, turn.role):
            for side in (INPUT, OUTPUT):
                if name in self.names[side]:
                    return side
        inputs, outputs = ([*names] for names in self.names)
        raise UsageError(
            f"{conversation_id}: the speaker {turn.speaker!r}, role {turn.role}, is neither in input_roles "
            f"{inputs} nor in output_roles {outputs}. Name all who speak: user, agent, or "
            "the corpus' names of speakers"
        )


def _plain(name: str) -> str:
    return _ROLES.get(name.lower(), name)
