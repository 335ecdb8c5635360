"""A corpus module, by its name or its file."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from speechrows.errors import UsageError


def load_module(name: str) -> ModuleType:
    """An importable module, or that of a .py file.

    Raises:
        UsageError: there is none.
    """
    return _load_file(Path(name)) if name.endswith(".py") else _import(name)


def _load_file(path: Path) -> ModuleType:
    """The module of a file, under the file's name, so that its classes can be pickled."""
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected a corpus module")
    there = sys.modules.get(path.stem)
    if there is not None:
        if Path(there.__file__ or "").resolve() == path.resolve():
            return there
        raise UsageError(f"{path}: another module is called {path.stem}; give the file another name")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name}: {error}; expected a corpus module such as deepdialogue_ttt, or its file"
        ) from error
