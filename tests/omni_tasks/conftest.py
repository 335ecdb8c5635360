"""A hub to spoil."""

import shutil
from pathlib import Path

import pytest
from toys.omni import HUB


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A copy of the sample that a test may spoil."""
    return Path(shutil.copytree(HUB, tmp_path / "hub"))
