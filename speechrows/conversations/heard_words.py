"""A transcript's words at the times at which a recogniser heard them, or others in their place."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from speechrows.conversations.words import Word
from speechrows.conversations.words import shared

_SHORTEST_S = 0.02  # that a word lasts: what recognisers give is no finer


def timed(texts: Sequence[str], heard: Sequence[Word], start_s: float, stop_s: float) -> list[Word]:
    """The words `texts` of a clip from `start_s` to `stop_s`; `heard` are what was heard of it, in order.

    A word that was heard as another has the other's time. What was not heard shares the time between its
    neighbours by its letters; where that has no room, its neighbours share theirs with it.
    """
    places = _inside(_places(texts, heard), start_s, stop_s)
    words, first, edge_s = list[Word](), 0, start_s  # `first` is the first word that has no time yet
    for number, place in places.items():
        waiting = texts[first:number]
        if place.start_s - edge_s < _SHORTEST_S * len(waiting):
            continue  # it waits with those before it
        words += [*shared(waiting, edge_s, place.start_s), place]
        first, edge_s = number + 1, place.stop_s
    while words and stop_s - edge_s < _SHORTEST_S * (len(texts) - len(words)):
        edge_s = words.pop().start_s
    return words + shared(texts[len(words) :], edge_s, stop_s)


def _places(texts: Sequence[str], heard: Sequence[Word]) -> dict[int, Word]:
    """Words by their numbers, each in the place of what was heard for it."""
    heard = [word for word in heard if _letters(word.text)]
    keys, heard_keys = [*map(_letters, texts)], [_letters(word.text) for word in heard]
    places = dict[int, Word]()
    matcher = SequenceMatcher(None, keys, heard_keys, autojunk=False)
    for kind, first, stop, heard_first, heard_stop in matcher.get_opcodes():
        if kind not in ("equal", "replace"):
            continue
        times = heard[heard_first:heard_stop]
        if stop - first != len(times):
            times = shared(texts[first:stop], times[0].start_s, times[-1].stop_s)
        for number, time in enumerate(times, first):
            places[number] = Word(text=texts[number], start_s=time.start_s, stop_s=time.stop_s, is_heard=True)
    return places


def _letters(text: str) -> str:
    """What two spellings of a word have in common."""
    return "".join(filter(str.isalnum, text.casefold()))


def _inside(places: dict[int, Word], start_s: float, stop_s: float) -> dict[int, Word]:
    """The words that lie in the clip, after one another, and last; the others were heard at no time."""
    inside, edge_s = dict[int, Word](), start_s
    for number, word in places.items():
        start, stop = max(word.start_s, edge_s), min(word.stop_s, stop_s)
        if stop - start >= _SHORTEST_S:
            inside[number] = Word(text=word.text, start_s=start, stop_s=stop, is_heard=True)
            edge_s = stop
    return inside
