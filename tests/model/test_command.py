"""`speechrows train`: the one train.py, from a checkout and from a wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from speechrows.cli import main

ROOT = Path(__file__).parents[2]


def test_train_passes_its_flags_to_train_py_and_shows_their_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["speechrows"])
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith("usage: train.py")
    assert "--codec-weight" in printed
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--data", "nowhere", "--resume", "--output-dir", str(tmp_path)])
    assert f"found no checkpoint in {tmp_path}" in capsys.readouterr().err


def test_train_copies_its_file_and_overwrites_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--copy-to", str(tmp_path / "mine")]) == 0
    assert f"accelerate launch {tmp_path}/mine/train.py" in capsys.readouterr().out
    copy = tmp_path / "mine/train.py"
    assert copy.read_bytes() == (ROOT / "train.py").read_bytes()
    copy.write_text("changed")
    assert main(["train", "--copy-to", str(tmp_path / "mine")]) == 2
    assert f"found {copy} there" in capsys.readouterr().err
    assert copy.read_text() == "changed"
    assert main(["train", "--copy-to", str(copy)]) == 2
    assert "give another folder" in capsys.readouterr().err


def test_a_wheel_has_train_py_and_the_mixes_and_no_train_of_its_own_beside_other_packages(
    tmp_path: Path,
) -> None:
    checkout, place = tmp_path / "checkout", tmp_path / "place"
    checkout.mkdir()
    for path in (*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))):
        shutil.copy(path, checkout)
    for folder in ("speechrows", "mixes"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=checkout, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    # Without --ignore-installed, pip takes away what this environment has.
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, "--prefix", str(place), str(wheel)], check=True, capture_output=True)
    (packages,) = place.glob("lib/*/site-packages")
    assert not (packages / "train.py").exists()
    code = (
        "import sys; from speechrows.storage.shipped import shipped; from speechrows.cli import main\n"
        "assert shipped('mixes/omni.yaml').is_file(); sys.exit(main(['train', '--copy-to', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "mine")]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(packages)}, check=True)
    assert (tmp_path / "mine/train.py").read_bytes() == (ROOT / "train.py").read_bytes()
