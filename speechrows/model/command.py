"""`speechrows train`: train.py, the companion trainer, run as it is, or copied to be changed."""

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.storage.shipped import shipped


def run(options: argparse.Namespace) -> int:
    """Run train.py with `options.flags`, as `python train.py` does; or copy it to the folder `copy_to`.

    Raises:
        UsageError: what it needs is not installed; the folder has a train.py, or can not be written to.
    """
    if "flags" not in options:
        copy = _copy(options.copy_to)
        print(
            printable(f"{copy}: change it, then run: python {copy} --data …, or accelerate launch {copy} …")
        )
        return 0
    for name in ("accelerate", "torch"):
        if find_spec(name) is None:
            raise UsageError(f"found no {name}; train needs: pip install 'speechrows[train]'")
    sys.argv[1:] = options.flags
    runpy.run_path(
        str(shipped("train.py")), run_name="__main__"
    )  # it ends the process, with its own exit code
    return 0


def _copy(folder: Path) -> Path:
    copy = folder / "train.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with copy.open("x", encoding="utf-8") as file:
            file.write(shipped("train.py").read_text("utf-8"))
    except FileExistsError as error:
        raise UsageError(f"--copy-to {folder}: found {error.filename} there; give another folder") from error
    except OSError as error:
        raise UsageError(f"--copy-to {folder}: can not be written to ({error.strerror})") from error
    return copy
