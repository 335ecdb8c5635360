"""Who of a conversation is the user, and who the assistant."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from speechrows.corpora.turns import role_of
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Role

SECOND, LAST = "second", "last"  # rules by which a speaker is the assistant
BY_TURNS = ""  # where no column tells speakers: user and assistant by turns
_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("user", "human", "customer"), "user"),
    **dict.fromkeys(("assistant", "agent", "gpt", "model", "bot"), "assistant"),
}
_NO_SPEAKER = "found no speaker, expected one of each turn"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleRule:
    """Who is the assistant: a speaker by name, SECOND of those who speak, or who has the LAST word.

    None is SECOND where there are two, and a fault of every turn of a third. `swap` turns roles round.
    """

    assistant: str | None = None
    swap: bool = False


def are_roles(words: Iterable[str]) -> bool:
    """Whether all words, of speakers as a rule, are names of roles."""
    return all(word.strip().lower() in _ROLES for word in words)


def roles_of(
    speakers: Sequence[str], places: Sequence[str], words: Sequence[str | None] | None, rule: RoleRule
) -> list[Role | Fault]:
    """The roles of a conversation's turns, in order, or the fault that there is none.

    `words` are what a column of roles has; with it, speakers do not matter. `places` say where turns stand.
    """
    roles: list[Role | None]
    wrong: Sequence[str]
    if words is not None:
        expected = ", ".join(_ROLES)
        roles = [_ROLES.get((word or "").strip().lower()) for word in words]
        wrong = [f"found role {word!a:.80}, expected one of {expected}" for word in words]
    elif rule.assistant == BY_TURNS:
        roles = [role_of(str(i % 2), "0", swap_roles=rule.swap) for i in range(len(places))]
        wrong = places
    else:
        roles, wrong = _by_speakers(speakers, rule)
    return [
        role or Fault(reason=Reason.BAD_SPEAKER, detail=detail, file=place)
        for role, detail, place in zip(roles, wrong, places, strict=True)
    ]


def _by_speakers(speakers: Sequence[str], rule: RoleRule) -> tuple[list[Role | None], list[str]]:
    """The role of each turn's speaker, and what is wrong where there is none."""
    cast = list(dict.fromkeys(filter(None, speakers)))
    if rule.assistant is None:
        users, others = cast[:1], cast[1:2]
    else:
        named = [speaker for speaker in speakers if speaker]
        by_rule = {SECOND: cast[1:2], LAST: named[-1:]}
        others = by_rule.get(rule.assistant, [rule.assistant])
        users = [speaker for speaker in cast if speaker not in others]
    known = " and ".join(map(ascii, cast[:2]))
    roles: list[Role | None] = [
        role_of("user" if speaker in users else "", "user", swap_roles=rule.swap)
        if speaker in (*users, *others)
        else None
        for speaker in speakers
    ]
    third = f"a third beside {known:.200}, expected two; say --assistant SPEAKER, second or last"
    return roles, [
        f"found speaker {speaker!a:.80}, {third}" if speaker else _NO_SPEAKER for speaker in speakers
    ]
