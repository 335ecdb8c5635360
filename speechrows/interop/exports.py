"""The formats of other tools that `speechrows export` writes: a table."""

import pkgutil
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechrows.errors import UsageError
from speechrows.interop.options import LhotseOptions
from speechrows.interop.options import MoshiOptions
from speechrows.interop.options import NemoOptions
from speechrows.interop.options import NoOptions
from speechrows.interop.options import ShareGptOptions
from speechrows.interop.options import WebDatasetOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A format: what --help says of it, its flags, and the function that writes it, `module:name`.

    The flags are the fields of a dataclass. The function takes a built folder's address, the folder for new
    files and the flags, and returns lines that say what it wrote. It is imported when it is called.
    """

    help: str
    function: str
    options: type[Any] = NoOptions


EXPORTS: Mapping[str, Export] = {
    "lhotse": Export(
        help="cuts for lhotse and NeMo: whole conversations, a channel a side",
        function="speechrows.interop.lhotse:export",
        options=LhotseOptions,
    ),
    "moshi": Export(
        help="stereo conversations with the times of their words, for moshi-finetune",
        function="speechrows.interop.moshi:export",
        options=MoshiOptions,
    ),
    "nemo": Export(
        help="conversations of clips and words for NeMo's SALM, with an input_cfg",
        function="speechrows.interop.nemo:export",
        options=NemoOptions,
    ),
    "sharegpt": Export(
        help="chats that LLaMA-Factory and ms-swift read",
        function="speechrows.interop.sharegpt:export",
        options=ShareGptOptions,
    ),
    "webdataset": Export(
        help="tar archives of samples, a row each",
        function="speechrows.interop.webdataset:export",
        options=WebDatasetOptions,
    ),
    "usdm": Export(help="USDM's own training files", function="speechrows.interop.usdm:export"),
}


def export(name: str, folder: str, out: Path, options: Any) -> Sequence[str]:
    """Write a built folder in the format `name` of EXPORTS; lines that say what was written.

    Raises:
        UsageError: the folder has no rows for it, `out` lies in it, or other files are there already.
    """
    if Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve()):
        raise UsageError(
            f"{out}: lies in {folder}, which is published and checked as one; expected a folder outside. "
            "Give another --out"
        )
    write: Callable[[str, Path, Any], Sequence[str]] = pkgutil.resolve_name(EXPORTS[name].function)
    return write(folder, out, options)
