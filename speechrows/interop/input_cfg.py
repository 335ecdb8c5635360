"""NeMo's `input_cfg`: a YAML of what a data loader reads, and the names that NeMo can not read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from speechrows.errors import UsageError

_BRACES = ("(", ")", "[", "]", "<", ">", "{", "}", "_OP_", "_CL_")  # what NeMo takes for braces in a path
# The folder that NeMo runs in, where the variable is not set.
EXPORT_ROOT = "${oc.env:SPEECHROWS_EXPORT,.}"
ROWS_ROOT = "${oc.env:SPEECHROWS_ROWS,.}"


def refuse_braces(out: Path) -> None:
    """See to it that NeMo finds what lies below a folder.

    Raises:
        UsageError: its name is one that NeMo fills in.
    """
    wrong = [sign for sign in _BRACES if sign in str(out)]
    if wrong:
        raise UsageError(
            f"{out}: has {' '.join(wrong)}, which NeMo takes for braces to be filled in; expected a name "
            "without brackets, _OP_ and _CL_. Give another --out"
        )


def write_input_cfg(out: Path, split: str, entry: Mapping[str, Any]) -> None:
    """Write `<split>.yaml`, of one entry."""
    text = yaml.safe_dump([dict(entry)], sort_keys=False, width=1000)
    (out / f"{split}.yaml").write_text(text, "utf-8")
