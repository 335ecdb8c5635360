"""A corpus module by its name or its file, and what a builder class of it is called."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from speechrows.errors import UsageError

_BESIDE = Path(__file__).parents[2]  # this package, where the modules lie that are installed with it


def load_module(name: str) -> ModuleType:
    """Import a module by its name, or load a .py file.

    Raises:
        UsageError: there is none.
    """
    return _load_file(Path(name)) if name.endswith(".py") else _import(name)


def stem_of(builder: type) -> str:
    """The name that ids of rows begin with: a module's without its package, a file's without .py."""
    return builder.__module__.rpartition(".")[2]


def command_of(builder: type) -> str:
    """BUILDER, as `speechrows build` takes it: the module's name where it is installed, else its file's."""
    name, file = builder.__module__, _file_of(sys.modules[builder.__module__])
    return name if "." in name or file.parent == _BESIDE else file.name


def address_of(builder: type) -> str:
    """The name under which another process loads the module: its own, or its file's whole path."""
    command = command_of(builder)
    return str(_file_of(sys.modules[builder.__module__])) if command.endswith(".py") else command


def _file_of(module: ModuleType) -> Path:
    return Path(str(module.__file__)).resolve()


def _load_file(path: Path) -> ModuleType:
    """The module of a file, under the file's name without .py, hyphens and all."""
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected a corpus module")
    if "." in path.stem:
        raise UsageError(f"{path}: found a dot in its name; expected one without, such as my_corpus.py")
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        if _file_of(loaded) == path.resolve():
            return loaded
        raise UsageError(f"{path}: another module is called {path.stem}; give the file another name")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # before it runs: dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name}: {error}; expected a corpus module such as deepdialogue_ttt, or its file"
        ) from error
