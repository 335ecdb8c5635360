"""Imports point downward: the table of layers, frozen. A new module finds its place here first."""

import ast
from functools import cache
from pathlib import Path

import pytest
from toys.processes import run_python

from speechrows.flags import BUILDERS

ROOT = Path(__file__).parents[1]
# From the ground up; a room imports rooms of lower layers, and itself.
LAYERS = (
    ("types", "errors"),
    ("console",),
    ("storage", "audio", "codec", "flags", "workers"),
    ("corpora", "text"),
    ("rows",),
    ("sidecar", "folder", "conversations"),
    ("card", "validation", "interop", "mix"),
    ("builds",),
    ("builder", "loader"),
    ("generate", "hub", "model", "preview", "screening", "views"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
NEIGHBOURS = {("errors", "types")}  # an error carries the reason that the ledger counts
# Walls that layers do not draw: what may not be imported from where.
FORBIDDEN = {
    "corpora": ("text",),
    "text": ("corpora",),
    "preview": ("loader",),
    "hub/publish": ("hub.viewer",),
    "hub/viewer": ("hub.publish",),
    "loader/plan": ("folder", "loader.read", "loader.collate"),
    "loader/read": ("loader.collate",),
}
MODULES = sorted((ROOT / "speechrows").rglob("*.py"))
CORPORA = [*BUILDERS]


@cache
def tree(path: Path) -> ast.Module:
    """What a file says, parsed once for all who ask; nobody changes it."""
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path) -> set[str]:
    """The modules of speechrows, and the other packages, that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
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
        allowed = there == here or (here, there) in NEIGHBOURS or LAYER[there] < LAYER[here]
        assert allowed, f"{path.name}, of {here}, imports {there}, which is not below it"


def test_the_walls_inside_rooms_hold() -> None:
    for path in MODULES:
        here = path.relative_to(ROOT / "speechrows").parts
        for forbidden in FORBIDDEN.get("/".join(here[:2]), FORBIDDEN.get(here[0], ())):
            assert not [name for name in imports(path) if name.startswith(f"speechrows.{forbidden}")], path


def test_no_code_stands_in_an_init_file_but_the_package_s_own() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and path.parent != ROOT / "speechrows":
            for node in tree(path).body:
                assert isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign), f"{path}: re-exports alone"


def test_the_package_s_root_holds_the_rooms_and_few_modules() -> None:
    modules = {path.name for path in (ROOT / "speechrows").glob("*.py")}
    assert modules == {
        f"{name}.py"
        for name in (
            "__init__",
            "__main__",
            "types",
            "errors",
            "flags",
            "codec",
            "console",
            "commands",
            "cli",
        )
    }


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_corpus_module_imports_no_other_and_one_name_a_line(corpus: str) -> None:
    path = ROOT / f"{corpus}.py"
    assert not imports(path) & set(CORPORA)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert len(node.names) == 1, "datasets 3.6 scans a loading script for one import a line"


# The only files outside model/ that import torch; what else runs without it.
TORCH = {
    *(f"generate/{name}.py" for name in ("local_model", "mimi", "units")),
    *(f"loader/{name}.py" for name in ("batch", "load", "open_stream", "torch_dataset")),
    *(
        f"loader/collate/{name}.py"
        for name in ("collator", "augment", "folding", "mel", "resample", "room", "speech")
    ),
    *(f"views/{name}.py" for name in ("channels", "duplex", "interleaved", "loader", "sequences", "streams")),
    "preview/decode.py",
    "audio/ffmpeg.py",  # where a clip needs ffmpeg, and not before
}


def test_torch_is_imported_in_its_files_alone_and_nowhere_when_rows_are_built() -> None:
    found = {
        str(path.relative_to(ROOT / "speechrows"))
        for path in MODULES
        if room(path) != "model" and any(name.split(".")[0].startswith("torch") for name in imports(path))
    }
    assert found <= TORCH
    code = f"import sys, speechrows.cli, {', '.join(CORPORA)}; print('torch' in sys.modules)"
    assert run_python(code) == "False\n"


# What runs code that lies in a file, or may.
UNSAFE = ("pickle", "torch.load(", "torch.save(", "joblib", "load_state(", "save_state(", "yaml.load(")


def test_nothing_runs_code_out_of_a_file_that_it_reads() -> None:
    for path in [*MODULES, ROOT / "train.py", *(ROOT / f"{corpus}.py" for corpus in CORPORA)]:
        text = path.read_text("utf-8")
        if not any(word in text for word in (*UNSAFE, ".from_pretrained")):
            continue
        module = ast.parse(text)
        for node in ast.walk(module):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""  # a docstring
        code = ast.unparse(module).replace("allow_pickle=False", "")
        safe = (
            ("yaml.load(",) if path.name == "card_head.py" else ()
        )  # by the safe loader, which is faster in C
        assert not [name for name in UNSAFE if name in code and name not in safe], path
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                said = {word.arg: ast.unparse(word.value) for word in node.keywords}
                is_auto = ast.unparse(node.func).startswith("Auto")
                assert not is_auto or said.get("trust_remote_code") == "False", path


TOLD = ("print", "logger.warning", "tell")


def test_whatever_is_printed_is_printable() -> None:
    for path in [*MODULES, ROOT / "train.py"]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                told = node.args[:1] if ast.unparse(node.func) in TOLD else []
                told += [word.value for word in node.keywords if word.arg == "desc"]
                for text in told:
                    is_plain = isinstance(text, ast.Constant) and isinstance(text.value, str)
                    # `show` colours what it has made printable.
                    assert is_plain or ast.unparse(text).startswith(("printable(", "show(")), path


# What is longer than 300 lines, or than 40 a function, each with its reason.
LONG_FILES = {
    "speechrows/types.py": 400,  # whoever looks for a noun looks here
    "omni_tasks.py": 400,  # the table of thirteen sources
    "dailytalk_usdm.py": 350,  # the four descriptions of a turn
}
LONG_FUNCTIONS = {  # every option of loading is told in its one place
    ("speechrows/loader/load.py", "load"),
    ("speechrows/views/duplex.py", "load_duplex"),
    ("speechrows/views/interleaved.py", "load_interleaved"),
    ("speechrows/views/loader.py", "conversation_loader"),
}


def test_no_file_is_over_300_lines_and_no_function_over_40() -> None:
    for path in [*MODULES, *(ROOT / f"{corpus}.py" for corpus in CORPORA)]:
        text, name = path.read_text("utf-8"), str(path.relative_to(ROOT))
        assert text.count("\n") <= LONG_FILES.get(name, 300), name
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length < 40 or (name, node.name) in LONG_FUNCTIONS, f"{name}: {node.name}"
