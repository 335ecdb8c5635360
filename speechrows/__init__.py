"""Speech corpora in, training rows out. The map is docs/design.md."""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from speechrows.errors import SpeechRowsError
    from speechrows.folder.stats import stats
    from speechrows.loader.batch import Batch
    from speechrows.loader.load import load
    from speechrows.loader.loader import Loader
    from speechrows.loader.torch_dataset import RowsDataset
    from speechrows.loader.ttt_samples import ttt_samples
    from speechrows.validation.validate import validate
    from speechrows.views.duplex import load_duplex
    from speechrows.views.interleaved import load_interleaved

    __version__: str

__all__ = [
    "Batch",
    "Loader",
    "RowsDataset",
    "SpeechRowsError",
    "__version__",
    "load",
    "load_duplex",
    "load_interleaved",
    "stats",
    "ttt_samples",
    "validate",
]

# Each is imported when it is asked for: some need torch, which building rows never does.
_MODULES = {
    "Batch": "speechrows.loader.batch",
    "Loader": "speechrows.loader.loader",
    "RowsDataset": "speechrows.loader.torch_dataset",
    "SpeechRowsError": "speechrows.errors",
    "load": "speechrows.loader.load",
    "load_duplex": "speechrows.views.duplex",
    "load_interleaved": "speechrows.views.interleaved",
    "stats": "speechrows.folder.stats",
    "ttt_samples": "speechrows.loader.ttt_samples",
    "validate": "speechrows.validation.validate",
}


def __getattr__(name: str) -> Any:
    """Import a public name.

    Raises:
        UsageError: what it needs is not installed: torch.
    """
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from speechrows.errors import UsageError  # noqa: PLC0415

        needs = "needs torch: pip install 'speechrows[load]'"
        raise UsageError(f"speechrows.{name}: found {error}; it {needs}") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@cache
def _version() -> str:
    """The version that is installed; of a checkout that is not, 0.0.0."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version  # noqa: PLC0415

    try:
        return version("speechrows")
    except PackageNotFoundError:
        return "0.0.0"
