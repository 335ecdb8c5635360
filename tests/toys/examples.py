"""How many examples a property test tries: the same ones on every run."""

from hypothesis import settings

# The same examples on every run: a test that fails, fails for everyone.
FEW = settings(max_examples=8, deadline=None, derandomize=True, database=None)
MANY = settings(max_examples=120, deadline=None, derandomize=True, database=None)
