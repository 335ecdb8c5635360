"""Word and character errors of texts that were decoded or heard, over a whole set: jiwer counts them."""

from collections.abc import Sequence

import jiwer

_NORMALISED = jiwer.Compose(
    [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces(), jiwer.Strip()]
)


def errors(expected: Sequence[str], decoded: Sequence[str]) -> tuple[int, int, int, int]:
    """Errors in words, words expected, errors in characters, characters expected.

    Texts are compared in lower case, without punctuation. An error is a substitution, a deletion or an
    insertion. A rate of errors is their sum over the sum of what was expected, not a mean of texts' rates.
    """
    reference, hypothesis = ([str(_NORMALISED(text)) for text in side] for side in (expected, decoded))
    counts = list[int]()
    for output in (
        jiwer.process_words(reference, hypothesis),
        jiwer.process_characters(reference, hypothesis),
    ):
        counts.append(output.substitutions + output.deletions + output.insertions)
        counts.append(output.hits + output.substitutions + output.deletions)
    words, num_words, characters, num_characters = counts
    return words, num_words, characters, num_characters
