"""What a chat template writes around the turns of a conversation, found by running it with sentinels.

A template is a program: prefix arithmetic (render with and without the answer, subtract) fails on
templates that think first, trim, or write no end. So conversations of one to four turns are rendered, and
cut at the sentinels.
"""

import datetime
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache
from os.path import commonprefix

from transformers import PreTrainedTokenizerFast

from speechrows.errors import TemplateError
from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import special_tokens
from speechrows.text.messages import FORMS
from speechrows.text.messages import STRINGS
from speechrows.text.messages import SYSTEM
from speechrows.text.messages import Form
from speechrows.text.messages import target
from speechrows.text.processor import brackets
from speechrows.text.render import Chat
from speechrows.text.render import RenderError
from speechrows.text.render import render_chats
from speechrows.types import AUDIO_TOKEN

_MAX_TURNS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnShape:
    """The text around the audio and the target of a turn.

    A conversation is `head_first` · audio · `between` · target · `end_inner` · `head_later` · audio · … ·
    target · `end_last`: what is written once stands with the first, or the last, turn. Where the template
    numbers the clips, `head_later` is the text before and after the number. `rewrites_history` where it
    writes earlier answers otherwise than the last; `between` is then the last one's, in which the answer is
    generated. `form` is that in which it takes messages, `user` the user's message. Where that is PROMPT, its
    text stands in the place of the audio.
    """

    head_first: str
    head_later: tuple[str, ...]
    between: str
    end_inner: str
    end_last: str
    rewrites_history: bool = False
    form: Form = STRINGS
    user: str = AUDIO_TOKEN

    def head(self, number: int) -> str:
        """The text before the audio of a turn, from 0."""
        return str(number + 1).join(self.head_later) if number else self.head_first


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
    refuse, token = Refusal(tokenizer), audio_token(tokenizer)
    systems = (None, SYSTEM) if with_system else (SYSTEM, None)
    lengths = range(1, (_MAX_TURNS if whole else 1) + 1)
    asked = [(1, systems[0]), (1, systems[1]), *((num_turns, systems[1]) for num_turns in lengths)]
    chats = [form.conversation(user, num, system) for form in FORMS for num, system in asked]
    texts = iter(render_turns(tokenizer, chats, date))
    rendered_in = {form: [next(texts) for _ in asked] for form in FORMS}
    form = next(form for form in FORMS if form.fits(rendered_in[form][1], token, user))
    other, again, *rendered = rendered_in[form]
    first = rendered[0]
    if isinstance(first, Exception):
        raise _why_it_fails(tokenizer, first, other, with_system=with_system) from first
    if first != again:
        raise refuse("writes the same conversation in two ways when it is asked twice")
    if target(0) not in first and any(target(0) in str(rendered_in[other][1]) for other in FORMS):
        remedy = "Name its audio token: --audio-token TOKEN"
        raise Refusal(tokenizer, remedy)(f"takes typed parts, and writes no {token} for one of audio")
    one_turn, bare_head = _of_one_turn(tokenizer, form, user, (first, other), with_system=with_system)
    if whole and _takes_turns(rendered[1]):
        return _of_many_turns(tokenizer, one_turn, bare_head, rendered)
    if whole and SYSTEM in one_turn.head(1):
        raise refuse("takes one turn alone, and demands a system prompt before it")
    return one_turn


def render_turns(
    tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat], date: datetime.date
) -> list[str | RenderError]:
    """Conversations as the model's processor writes them, the audio token once a clip."""
    token, (before, after) = audio_token(tokenizer), brackets(tokenizer)
    texts = render_chats(tokenizer, chats, date)
    return [text.replace(token, before + token + after) if isinstance(text, str) else text for text in texts]


def _of_one_turn(
    tokenizer: PreTrainedTokenizerFast,
    form: Form,
    user: str,
    rendered: tuple[str, str | Exception],
    *,
    with_system: bool,
) -> tuple[TurnShape, str]:
    """The shape of a conversation of one turn, and its head without a system prompt, if it can do without.

    `rendered` are that turn, and it with, or without, a system prompt.
    """
    refuse, token, (text, other) = Refusal(tokenizer), audio_token(tokenizer), rendered
    audios = [form.audio(0, token, user)]
    head, between, end = cut(refuse, text, audios)
    if token in head + between + end:
        raise refuse(f"writes {token} itself")
    if with_system and (text.count(SYSTEM), head.count(SYSTEM)) != (1, 1):
        remedy = "Leave the system prompt out, or give a tokenizer with another template"
        what = f"{text.count(SYSTEM)} times, {head.count(SYSTEM)} of them before the user's audio"
        raise Refusal(tokenizer, remedy)(f"writes a system prompt {what}")
    bare_head = cut(refuse, other, audios)[0] if with_system and isinstance(other, str) else head
    shape = TurnShape(
        head_first=head,
        head_later=(bare_head.removeprefix(str(tokenizer.bos_token or "")),),
        between=between,
        end_inner=end,
        end_last=end,
        form=form,
        user=user,
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
    return isinstance(rendered, str) and target(1) in rendered


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


def cut(refuse: Callable[[str], TemplateError], text: str, audios: Sequence[str]) -> list[str]:
    """The text before, between and after the audio and target of each turn, `2 * len(audios) + 1` pieces."""
    pieces: list[str] = []
    for turn, audio in enumerate(audios):
        answer, expected = target(turn), audios[turn:].count(audio)
        if (text.count(audio), text.count(answer)) != (expected, 1) or text.find(audio) > text.find(answer):
            raise refuse(
                f"writes the user's text {text.count(audio)} times and the target {text.count(answer)} times"
            )
        before, _, rest = text.partition(audio)
        between, _, text = rest.partition(answer)
        pieces += [before, between]
    return [*pieces, text]


def _of_many_turns(
    tokenizer: PreTrainedTokenizerFast,
    one_turn: TurnShape,
    bare_head: str,
    rendered: Sequence[str | Exception],
) -> TurnShape:
    """The shape of a template that takes several turns, seen to be that of conversations of any length.

    `bare_head` is the head without a system prompt, where the template can do without.
    """
    refuse, token = Refusal(tokenizer), audio_token(tokenizer)
    audios = [one_turn.form.audio(turn, token, one_turn.user) for turn in range(_MAX_TURNS)]
    cuts = [cut(refuse, text, audios[: i + 1]) for i, text in enumerate(rendered) if isinstance(text, str)]
    middle = _around_number(cuts[1][2], cuts[min(2, len(cuts) - 1)][-3])
    end = _end_of_turn(tokenizer, replace(one_turn, head_first=bare_head), "1".join(middle))
    earlier = {between for pieces in cuts for between in pieces[1:-2:2]}
    shape = replace(
        one_turn,
        head_later=(middle[0][end:], *middle[1:]),
        end_inner=middle[0][:end],
        end_last=cuts[1][-1],
        rewrites_history=earlier != {one_turn.between},
    )
    for pieces in cuts[1:]:
        num_turns = len(pieces) // 2
        inner = [shape.end_inner + shape.head(number) for number in range(1, num_turns)]
        if pieces[::2] != [shape.head_first, *inner, shape.end_last] or pieces[-2] != shape.between:
            raise refuse(f"writes the turns of a conversation of {num_turns} otherwise than those of 2")
    return shape


def _around_number(second: str, third: str) -> tuple[str, ...]:
    """What stands before the second and third clip: around its number, where that is all that differs."""
    before = commonprefix([second, third])  # noqa: RUF071  # characters are meant
    after = commonprefix([second[::-1], third[::-1]])[::-1]  # noqa: RUF071
    is_numbered = (second, third) == (f"{before}2{after}", f"{before}3{after}")
    return (before, after) if is_numbered else (second,)


def _end_of_turn(tokenizer: PreTrainedTokenizerFast, one_turn: TurnShape, middle: str) -> int:
    """Where a turn ends, and the next begins, in the text between a target and the next audio."""
    end, last_end = first_special(tokenizer, middle), first_special(tokenizer, one_turn.end_last)
    if end is None:
        return 0
    stop = middle.index(end) + len(end)
    if last_end == end:  # the tail that stands behind the end of the last turn too
        after = one_turn.end_last[one_turn.end_last.index(end) + len(end) :]
        tail = commonprefix([middle[stop:], after])  # noqa: RUF071  # characters are meant
        return stop + len(tail)
    # The special token may end this turn or begin the next. It ends it where it ends the user's message
    # as well, or where the first turn does not begin so.
    begin = commonprefix([middle[::-1], one_turn.head_first[::-1]])[::-1]  # noqa: RUF071
    starts_before = middle.index(end) < len(middle) - len(begin)
    if starts_before or first_special(tokenizer, one_turn.between) == end:
        return stop
    return len(middle) - len(begin)


def first_special(tokenizer: PreTrainedTokenizerFast, text: str) -> str | None:
    """The special token that comes first in a text, the longest of those that begin there."""
    return _first(_specials(tokenizer, len(tokenizer)), text)


def last_special(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[str | None, int]:
    """The special token that comes last in a text, None without one, and the place behind it."""
    last, start, specials = None, 0, _specials(tokenizer, len(tokenizer))
    while (special := _first(specials, text[start:])) is not None:
        last, start = special, text.index(special, start) + len(special)
    return last, start


@lru_cache(maxsize=1)
def _specials(tokenizer: PreTrainedTokenizerFast, num_tokens: int) -> set[str]:  # noqa: ARG001  # a key
    """The special tokens of an opened tokenizer, kept: to list ten thousand units takes milliseconds."""
    return special_tokens(tokenizer)


def _first(specials: Collection[str], text: str) -> str | None:
    places = [(text.find(special), -len(special), special) for special in specials if special in text]
    return min(places)[2] if places else None
