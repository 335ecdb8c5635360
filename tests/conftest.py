"""Every test talks to a Hub of its own on loopback: HF_ENDPOINT is read when datasets is imported."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from toys.mini_hub import MiniHub
from toys.samples import DOCUMENTED
from toys.samples import XTTS

# What huggingface_hub parses cards with, by libyaml: its Python takes a tenth of the suite's time.
yaml.safe_load = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

# A small build waits for the disk longer than it computes; builds/test_on_disk.py sees that it asks it.
os.fsync = lambda fd: None

# Run in the background of a shell, it would be ignored, here and in whatever is started: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # until all is imported, and no garbage

_home = tempfile.mkdtemp(prefix="speechrows-tests-")
HUB = MiniHub(orgs=("org", "SALT-Research", "MLCommons")).__enter__()
assert "datasets" not in sys.modules, "datasets was imported before HF_ENDPOINT was set"
os.environ.update(
    HF_ENDPOINT=HUB.url,
    HF_HOME=f"{_home}/home",
    HF_TOKEN="hf_admin",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    NO_PROXY="127.0.0.1,127.0.0.2",
    no_proxy="127.0.0.1,127.0.0.2",
    TOKENIZERS_PARALLELISM="false",
    LANGUAGE="C",  # argparse looks for a translation of every word of a command's flags, in four files each
    OMP_NUM_THREADS="1",  # the suite runs a process a core; torch's threads would wait for each other
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest begins: at the end, one core would be done and wait for the other."""
    items.sort(key=lambda item: item.path.name != "test_ray.py")


def pytest_collection_finish() -> None:
    """What is imported by now stays: accelerate collects garbage after each run, a second of searching it."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # hypothesis and tokenizers make many objects that die by themselves


def pytest_sessionfinish() -> None:
    """Pytest collects garbage five times as it ends: nothing that the suite holds is worth the search."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_end() -> Iterator[None]:
    """A test that runs train.py as a script leaves no handler behind, with which a pool would not end."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def hub() -> Iterator[MiniHub]:
    HUB.log.clear()
    HUB.hub.fail_next = []
    yield HUB
    HUB.hub.fail_next = []


@pytest.fixture
def xtts(tmp_path: Path) -> Path:
    """A copy of the published sample that a test may spoil."""
    return _copy(XTTS, tmp_path)


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """A copy of the documented sample that a test may spoil."""
    return _copy(DOCUMENTED, tmp_path)


def _copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / corpus.name))
