"""What a chat template writes around the turns of a conversation, found by running it with sentinels.

A template is a program: prefix arithmetic (render with and without the answer, subtract) fails on
templates that think first, trim, or write no end. So conversations of one to four turns are rendered, and
cut at the sentinels.
"""

import datetime
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from os.path import commonprefix

from transformers import PreTrainedTokenizerFast

from speechrows.errors import TemplateError
from speechrows.text.render import render_chats
from speechrows.types import AUDIO_TOKEN

# Mixed case: a template that changes it is seen.
_AUDIO, _TARGET, SYSTEM = "SpeechRowsAudio{}X", "SpeechRowsTarget{}X", "SpeechRowsSystemX"
_MAX_TURNS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnShape:
    """The text around the audio and the target of a turn.

    A conversation is `head_first` · audio · `between` · target · `end_inner` · `head_later` · audio · … ·
    target · `end_last`: what is written once stands with the first, or the last, turn. `rewrites_history`
    where the template writes earlier answers otherwise than the last; `between` is then the last one's,
    in which the answer is generated.
    """

    head_first: str
    head_later: str
    between: str
    end_inner: str
    end_last: str
    rewrites_history: bool = False


def turn_shape(
    tokenizer: PreTrainedTokenizerFast,
    user: str,
    date: datetime.date,
    *,
    whole: bool,
    with_system: bool = False,
) -> TurnShape:
    """The shape of a tokenizer's template for a user's message with `<audio>`.

    Where rows are no conversations (not `whole`), each is a conversation of one turn. `with_system`, there is
    a system prompt: SYSTEM stands in its place, in `head_first`.

    Raises:
        TemplateError: the template writes the target never, twice, or otherwise each time; or it demands a
            system prompt, or takes none.
    """
    refuse = Refusal(tokenizer)
    lengths = range(1, (_MAX_TURNS if whole else 1) + 1)
    chats = [conversation(user, num_turns, SYSTEM if with_system else None) for num_turns in lengths]
    other_way = conversation(user, 1, None if with_system else SYSTEM)
    other, again, *rendered = render_chats(tokenizer, [other_way, chats[0], *chats], date)
    first = rendered[0]
    if isinstance(first, Exception):
        raise _why_it_fails(tokenizer, first, other, with_system=with_system) from first
    if first != again:
        raise refuse("writes the same conversation in two ways when it is asked twice")
    one_turn, bare_head = _of_one_turn(tokenizer, first, other, with_system=with_system)
    if whole and _takes_turns(rendered[1]):
        return _of_many_turns(tokenizer, refuse, one_turn, bare_head, rendered)
    if whole and SYSTEM in one_turn.head_later:
        raise refuse("takes one turn alone, and demands a system prompt before it")
    return one_turn


def _of_one_turn(
    tokenizer: PreTrainedTokenizerFast, text: str, other: str | Exception, *, with_system: bool
) -> tuple[TurnShape, str]:
    """The shape of a conversation of one turn, and its head without a system prompt, if it can do without.

    `other` is that turn with, or without, a system prompt.
    """
    refuse = Refusal(tokenizer)
    head, between, end = cut(refuse, text, 1)
    if AUDIO_TOKEN in head + between + end:
        raise refuse(f"writes {AUDIO_TOKEN} itself")
    if with_system and (text.count(SYSTEM), head.count(SYSTEM)) != (1, 1):
        remedy = "Leave the system prompt out, or give a tokenizer with another template"
        what = f"{text.count(SYSTEM)} times, {head.count(SYSTEM)} of them before the user's audio"
        raise Refusal(tokenizer, remedy)(f"writes a system prompt {what}")
    bare_head = cut(refuse, other, 1)[0] if with_system and isinstance(other, str) else head
    shape = TurnShape(
        head_first=head,
        head_later=bare_head.removeprefix(str(tokenizer.bos_token or "")),
        between=between,
        end_inner=end,
        end_last=end,
    )
    return shape, bare_head


def _why_it_fails(
    tokenizer: PreTrainedTokenizerFast, failure: Exception, other: str | Exception, *, with_system: bool
) -> TemplateError:
    """The error for a template that fails on a turn; `other` is it with, or without, a system prompt."""
    if isinstance(other, Exception):
        return Refusal(tokenizer)(f"fails on a plain user/assistant pair ({failure})")
    if with_system:
        remedy = "Leave the system prompt out, or give a tokenizer with another template"
        return Refusal(tokenizer, remedy)(f"refuses a system prompt ({failure})")
    return Refusal(tokenizer, "Give one: --system TEXT")(f"demands a system prompt ({failure})")


def _takes_turns(rendered: str | Exception) -> bool:
    """False for a template for one turn alone: it raises on a second one, or leaves it out."""
    return isinstance(rendered, str) and _TARGET.format(1) in rendered


class Refusal:
    """Makes the errors of one tokenizer's template; `remedy` says what to do."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        remedy: str = "Give a tokenizer with another template, or one without (the plain form)",
    ) -> None:
        self._name = tokenizer.name_or_path or "this tokenizer"
        self._remedy = remedy

    def __call__(self, what: str) -> TemplateError:
        """The error for a template that does `what`."""
        return TemplateError(
            f"the chat template of {self._name} {what}; expected user text, target and end token in this "
            f"order. {self._remedy}"
        )


def conversation(user: str, num_turns: int, system: str | None) -> list[dict[str, str]]:
    """The messages of a conversation, sentinels in the place of its audio and targets."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for turn in range(num_turns):
        messages.append({"role": "user", "content": user.replace(AUDIO_TOKEN, _AUDIO.format(turn))})
        messages.append({"role": "assistant", "content": _TARGET.format(turn)})
    return messages


def cut(refuse: Callable[[str], TemplateError], text: str, num_turns: int) -> list[str]:
    """The text before, between and after the sentinels, `2 * num_turns + 1` pieces."""
    pieces: list[str] = []
    for turn in range(num_turns):
        audio, target = _AUDIO.format(turn), _TARGET.format(turn)
        if text.count(audio) != 1 or text.count(target) != 1 or text.find(audio) > text.find(target):
            raise refuse(
                f"writes the user's text {text.count(audio)} times and the target {text.count(target)} times"
            )
        before, _, rest = text.partition(audio)
        between, _, text = rest.partition(target)
        pieces += [before, between]
    return [*pieces, text]


def _of_many_turns(
    tokenizer: PreTrainedTokenizerFast,
    refuse: Refusal,
    one_turn: TurnShape,
    bare_head: str,
    rendered: Sequence[str | Exception],
) -> TurnShape:
    """The shape of a template that takes several turns, seen to be that of conversations of any length.

    `bare_head` is the head without a system prompt, where the template can do without.
    """
    cuts = [cut(refuse, text, i + 1) for i, text in enumerate(rendered) if not isinstance(text, Exception)]
    middle, end = cuts[1][2], cuts[1][4]
    end_inner, head_later = _split_middle(tokenizer, replace(one_turn, head_first=bare_head), middle)
    earlier = {between for pieces in cuts for between in pieces[1:-2:2]}
    shape = TurnShape(
        head_first=one_turn.head_first,
        head_later=head_later,
        between=one_turn.between,
        end_inner=end_inner,
        end_last=end,
        rewrites_history=earlier != {one_turn.between},
    )
    for pieces in cuts[1:]:
        num_turns = len(pieces) // 2
        expected = [shape.head_first, *[middle] * (num_turns - 1), shape.end_last]
        if pieces[::2] != expected or pieces[-2] != shape.between:
            raise refuse(f"writes the turns of a conversation of {num_turns} otherwise than those of 2")
    return shape


def _split_middle(tokenizer: PreTrainedTokenizerFast, one_turn: TurnShape, middle: str) -> tuple[str, str]:
    """What ends a turn, and what begins the next, of the text between a target and the next audio."""
    end, last_end = first_special(tokenizer, middle), first_special(tokenizer, one_turn.end_last)
    if end is None:
        return "", middle
    stop = middle.index(end) + len(end)
    if last_end == end:  # the tail that stands behind the end of the last turn too
        after = one_turn.end_last[one_turn.end_last.index(end) + len(end) :]
        tail = commonprefix([middle[stop:], after])  # noqa: RUF071  # characters are meant
        return middle[: stop + len(tail)], middle[stop + len(tail) :]
    # The special token may end this turn or begin the next. It ends it where it ends the user's message
    # as well, or where the first turn does not begin so.
    begin = commonprefix([middle[::-1], one_turn.head_first[::-1]])[::-1]  # noqa: RUF071
    starts_before = middle.index(end) < len(middle) - len(begin)
    if starts_before or first_special(tokenizer, one_turn.between) == end:
        return middle[:stop], middle[stop:]
    return middle[: len(middle) - len(begin)], begin


def first_special(tokenizer: PreTrainedTokenizerFast, text: str) -> str | None:
    """The special token that comes first in a text, the longest of those that begin there."""
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    places = [(text.find(special), -len(special), special) for special in specials if special in text]
    return min(places)[2] if places else None


def last_special(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[str | None, int]:
    """The special token that comes last in a text, None without one, and the place behind it."""
    last, start = None, 0
    while (special := first_special(tokenizer, text[start:])) is not None:
        last, start = special, text.index(special, start) + len(special)
    return last, start
