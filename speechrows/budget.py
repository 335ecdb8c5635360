"""The curriculum's arithmetic: padded lengths, stage limits, bands.

Stages are nested (all of stage_1 is in stage_2), so rows are written once, in bands between
the limits, and a stage is a list of bands.
"""

from speechrows.types import Tokens

STAGE_LIMITS = {  # tokens a conversation, at most
    "stage_1": Tokens(8192),
    "stage_2": Tokens(16384),
    "stage_3": Tokens(32768),
    "stage_4": Tokens(65536),
}
NUM_BANDS = len(STAGE_LIMITS) + 1  # the last holds what is above every stage


def padded_length(num_tokens: int, multiple: int) -> int:
    """The next multiple of `multiple`, at or above `num_tokens`."""
    return -(-num_tokens // multiple) * multiple


def band_of(conversation_tokens: int) -> int:
    """The band, from 1, that a conversation of so many padded tokens belongs to."""
    return 1 + sum(conversation_tokens > limit for limit in STAGE_LIMITS.values())
