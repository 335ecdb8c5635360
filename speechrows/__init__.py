"""Speech corpora in, training rows out. The map is docs/design.md."""

from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from speechrows.loader.load import load
    from speechrows.loader.ttt_samples import ttt_samples

__all__ = ["load", "ttt_samples"]


def __getattr__(name: str) -> Any:
    """The doors of loading, opened when asked for: they import torch, which building rows never needs."""
    if name == "load":
        from speechrows.loader.load import load  # noqa: PLC0415

        return load
    if name == "ttt_samples":
        from speechrows.loader.ttt_samples import ttt_samples  # noqa: PLC0415

        return ttt_samples
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
