"""NeMo's own readers of data, each line its wheel's, without the packages that it wants for training.

What `__init__` files import is left out, and one function is taken from a module that needs librosa.
"""

import ast
import importlib
import importlib.util
import logging
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_SHARDS = "nemo.collections.asr.data.audio_to_text"  # of which readers use expand_sharded_filepaths alone
_DATA = "nemo.collections.common.data.lhotse"
AUDIO = "<audio>"


@cache
def _package() -> Path | None:
    """Where NeMo's modules are, which from now on are imported without their packages' `__init__`."""
    wheel, omegaconf = (importlib.util.find_spec(name) for name in ("nemo", "omegaconf"))
    if wheel is None or omegaconf is None or not wheel.submodule_search_locations:
        return None
    root = Path(wheel.submodule_search_locations[0])
    if "SPEECHROWS_WHOLE_NEMO" in os.environ:  # in an environment that has all that it wants
        return root
    for file in (root / "__init__.py", *root.rglob("*/__init__.py")):
        name = ".".join(("nemo", *file.parent.relative_to(root).parts))
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(file.parent)]
    sys.modules["nemo.utils"].logging = logging.getLogger("nemo")
    shards = sys.modules[_SHARDS] = ModuleType(_SHARDS)
    tree = ast.parse((root / "collections/asr/data/audio_to_text.py").read_text("utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "expand_sharded_filepaths")
    vars(shards).update(braceexpand=importlib.import_module("braceexpand"), logging=logging)
    exec(ast.unparse(function), vars(shards))
    tokens = "nemo.collections.common.tokenizers"
    spec = importlib.import_module(f"{tokens}.tokenizer_spec")
    sys.modules[tokens].TokenizerSpec = spec.TokenizerSpec
    return root


def nemo(module: str) -> Any:
    """A module of NeMo, such as `collections.speechlm2.data.s2s_dataset`."""
    if _package() is None:
        pytest.skip("nemo_toolkit is not installed")
    return importlib.import_module(f"nemo.{module}")


def read(entries: list[dict[str, Any]], **options: Any) -> list[Any]:
    """What NeMo reads by an input_cfg: cuts or conversations, once each, in file order."""
    config = {"input_cfg": entries, "force_finite": True, "shard_seed": 0, "audio_locator_tag": AUDIO}
    cuts, _ = nemo("collections.common.data.lhotse.cutset").read_cutset_from_config(
        {**config, "token_equivalent_duration": 0.08, **options}
    )
    return [*cuts]
