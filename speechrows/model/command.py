"""`speechrows train`: train.py, the companion trainer, run as it is, or copied to be changed."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from speechrows.errors import UsageError
from speechrows.storage.shipped import shipped


def run(flags: list[str]) -> int:
    """Run train.py with its flags, as `python train.py` does: it ends the process, with its exit code.

    Raises:
        UsageError: what it needs is not installed.
    """
    for name in ("accelerate", "jiwer", "torch"):
        if find_spec(name) is None:
            raise UsageError(f"found no {name}; train needs: pip install 'speechrows[train]'")
    sys.argv[1:] = flags
    runpy.run_path(str(shipped("train.py")), run_name="__main__")
    return 0


def copy(folder: Path) -> str:
    """Copy train.py to a folder; say how it is run there.

    Raises:
        UsageError: the folder has a train.py, or can not be written to.
    """
    place = folder / "train.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:
            file.write(shipped("train.py").read_text("utf-8"))
    except FileExistsError as error:
        raise UsageError(f"--copy-to {folder}: found {error.filename} there; give another folder") from error
    except OSError as error:
        raise UsageError(f"--copy-to {folder}: can not be written to ({error.strerror})") from error
    return f"{place}: change it, then run: python {place} --data …, or accelerate launch {place} …"
