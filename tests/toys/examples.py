"""How many examples a property test tries: in the suite the same few on every run, in `make fuzz` many.

A test of the suite that fails, fails for everyone.
"""

import os

from hypothesis import settings

_TIMES = int(os.environ.get("SPEECHROWS_FUZZ", "1"))


def _tries(num_examples: int) -> settings:
    return settings(max_examples=num_examples * _TIMES, deadline=None, derandomize=_TIMES == 1, database=None)


FEW = _tries(6)
MANY = _tries(16)
