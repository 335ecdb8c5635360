"""Imports point downward: the table of layers, frozen. A new module finds its place here first."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {
    "types": 0, "errors": 0, "flags": 0, "patience": 0, "texts": 0,
    "audio": 1, "budget": 1, "cache": 1, "chat": 1, "codec": 1, "corpus": 1, "layout": 1, "modules": 1,
    "pairing": 1, "schema": 1, "script": 1, "tasks": 1, "tokenizers": 1, "traits": 1,
    "archive": 2, "clips": 2, "configs": 2, "forms": 2, "generated": 2, "ledger": 2, "rows": 2, "show": 2,
    "jsonarray": 1, "parquet": 2, "talks": 3, "textindex": 2, "waiting": 1,
    "build": 3, "options": 3, "stats": 3, "validate": 3,
    "builder": 4, "interop": 4, "loader": 4,
    "generate": 5, "hub": 5, "infos": 5, "model": 5, "preview": 5,
    "cli": 6,
}  # fmt: skip
NEIGHBOURS = {
    ("errors", "types"),  # an error carries the reason that the ledger counts
    ("patience", "errors"),
}
MODULES = sorted((ROOT / "speechrows").rglob("*.py"))
CORPORA = ["deepdialogue_ttt", "multidialog_ttt", "instructs2s_ttt", "dailytalk_usdm", "omni_tasks"]


def imports(path: Path) -> set[str]:
    """The modules of speechrows, and the other packages, that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "speechrows":
            found |= {f"speechrows.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "speechrows").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_strictly_lower_layers_and_its_own_folder(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    for name in imports(path):
        if not name.startswith("speechrows."):
            continue
        there = name.split(".")[1]
        allowed = there == here or (here, there) in NEIGHBOURS or LAYERS[there] < LAYERS[here]
        assert allowed, f"{path.name} (layer {LAYERS[here]}) imports {there} (layer {LAYERS[there]})"


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_corpus_module_imports_no_other_and_one_name_a_line(corpus: str) -> None:
    path = ROOT / f"{corpus}.py"
    assert not imports(path) & set(CORPORA)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert len(node.names) == 1, "datasets 3.6 scans a loading script for one import a line"


# The only files that import torch; what else runs without it.
TORCH = {
    *(f"generate/{name}.py" for name in ("local_model", "mimi", "units")),
    *(f"loader/{name}.py" for name in ("batch", "load", "torch_dataset")),
    *(f"loader/collate/{name}.py" for name in ("__init__", "augment", "mel", "resample", "speech")),
    *(f"model/{name}.py" for name in ("audio_head", "encoder", "evaluation", "lanes", "omni")),
    *(f"model/{name}.py" for name in ("presets", "segments", "speech_lm", "ttt")),
    "preview/decode.py",
}


def test_torch_is_imported_in_its_files_alone_and_nowhere_when_rows_are_built() -> None:
    found = {
        str(path.relative_to(ROOT / "speechrows"))
        for path in MODULES
        if any(name.split(".")[0].startswith("torch") for name in imports(path))
    }
    assert found <= TORCH
    code = f"import sys, speechrows.cli, {', '.join(CORPORA)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Files and functions that are longer than the house rule, each with its reason at its head.
LONG_FUNCTIONS = {("load.py", "load")}
LONG_FILES = {*(f"{corpus}.py" for corpus in CORPORA), "types.py"}


def test_no_file_is_over_300_lines_and_no_function_over_40() -> None:
    for path in [*MODULES, *(ROOT / f"{corpus}.py" for corpus in CORPORA)]:
        text = path.read_text("utf-8")
        assert path.name in LONG_FILES or text.count("\n") <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length < 40 or (path.name, node.name) in LONG_FUNCTIONS, f"{path.name}: {node.name}"
