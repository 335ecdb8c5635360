"""LLaMA-Factory's own reader of chats, without the packages that it wants for training."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import load_dataset

_STUBS: dict[str, dict[str, Any]] = {
    "peft": {},
    "peft.utils": {"SAFETENSORS_WEIGHTS_NAME": "a", "WEIGHTS_NAME": "b"},
    "torchaudio": {},
    "llamafactory.extras.misc": dict.fromkeys(
        ("use_modelscope", "use_openmind", "get_current_device", "get_device_count"), lambda: False
    ),
}


def read_chats(folder: Path, split: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The chats of a folder as LLaMA-Factory trains on them: found, converted and checked by its own code."""
    found = importlib.util.find_spec("llamafactory")
    if found is None or not found.submodule_search_locations:
        pytest.skip("llamafactory is not installed")
    for name in ("models.mllama.processing_mllama", "video_utils"):  # before torchaudio is a stub: they look
        importlib.import_module(f"transformers.{name}")
    package = Path(found.submodule_search_locations[0])
    for name in ("llamafactory", "llamafactory.data", "llamafactory.extras"):  # not their __init__
        module = ModuleType(name)
        module.__path__ = [str(package.joinpath(*name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, module)
    for name, values in _STUBS.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    convert, plugin, parser = (
        importlib.import_module(f"llamafactory.data.{name}") for name in ("converter", "mm_plugin", "parser")
    )
    (attr,) = parser.get_dataset_list([split], str(folder))
    converter = convert.SharegptDatasetConverter(attr, SimpleNamespace(media_dir=str(folder)))
    rows = load_dataset(
        "json", data_files=str(folder / attr.dataset_name), split="train", cache_dir=str(folder / "../cache")
    )
    chats = [converter(row) for row in rows]
    for chat in chats:
        said = chat["_prompt"] + chat["_response"]
        plugin.MMPluginMixin._validate_messages(None, said, [], [], chat["_audios"] or [])
    return chats
