"""A corpus module by its name or its file, and what a builder class of it is called."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.flags import BUILDERS

if TYPE_CHECKING:
    from speechrows.builder.builder import SpeechBuilder

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


def check_config(builder: type["SpeechBuilder"], name: str) -> None:
    """Refuse the name of a config that a builder does not have.

    Raises:
        UsageError: it names those that there are.
    """
    configs = [config.name for config in builder.BUILDER_CONFIGS]
    if name not in configs:
        raise UsageError(
            f"{command_of(builder)} has no config {name!r}; expected one of {', '.join(configs)}"
            f"{did_you_mean(name, configs)}"
        )


def _file_of(module: ModuleType) -> Path:
    return Path(str(module.__file__)).resolve()


def _load_file(path: Path) -> ModuleType:
    """The module of a file, under the file's name without .py, hyphens and all."""
    if not path.is_file():
        meant = did_you_mean(str(path), [*BUILDERS, *(beside.name for beside in Path().glob("*.py"))])
        raise UsageError(f"{path}: no such file in {Path.cwd()}; expected a corpus module{meant}")
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
    except BaseException as error:
        del sys.modules[path.stem]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            raise UsageError(f"{path}: line {error.lineno}: {error.msg}; expected Python") from error
        raise
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:
        is_absent = isinstance(error, ModuleNotFoundError) and name.split(".", maxsplit=1)[0] == error.name
        reason = "no such module" if is_absent or "/" in name else str(error)
        meant = did_you_mean(name, [*BUILDERS, *(path.name for path in Path().glob("*.py"))])
        raise UsageError(
            f"{name}: {reason}; expected a corpus module ({', '.join(BUILDERS)}), or the .py file of "
            f"one{meant}"
        ) from error
