"""Which chat template is tested under which tokenizer: not all with all, but all features with all.

Templates are split before any token exists, so that what a template does and what a tokenizer does meet in
few ways: a pair of each feature with each is enough, and no name goes untested.
"""

from collections.abc import Mapping
from itertools import product

from toys.templates import TEMPLATE_FEATURES
from toys.tokenizer import TOKENIZER_FEATURES

Features = Mapping[str, frozenset[str]]
AT_LEAST = 2  # pairs of each name


def pairwise(rows: Features, columns: Features, at_least: int = AT_LEAST) -> list[tuple[str, str]]:
    """Pairs of names in which each feature of a row meets each of a column; each name comes `at_least` times.

    Greedy, the pair first that brings most; the same for the same arguments, and small, not smallest.
    """
    names = list(product(rows, columns))
    meetings = {pair: set(product(rows[pair[0]], columns[pair[1]])) for pair in names}
    missing = set[tuple[str, str]]().union(*meetings.values())
    chosen: list[tuple[str, str]] = []
    while missing:
        best = max(names, key=lambda pair: len(meetings[pair] & missing))
        chosen.append(best)
        missing -= meetings[best]
    for side, table in enumerate((rows, columns)):
        for name in table:
            others = [pair for pair in names if pair[side] == name and pair not in chosen]
            count = sum(pair[side] == name for pair in chosen)
            chosen += others[: max(0, at_least - count)]
    return [pair for pair in names if pair in chosen]


# A tokenizer's name and a template's; None is the plain form.
PAIRS: list[tuple[str, str | None]] = [
    (tokenizer, None if template == "plain form" else template)
    for tokenizer, template in pairwise(TOKENIZER_FEATURES, TEMPLATE_FEATURES)
]
