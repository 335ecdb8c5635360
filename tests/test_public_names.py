"""What `speechrows` exports: each name, imported when it is asked for."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import speechrows
from speechrows import errors
from speechrows.folder import stats
from speechrows.loader import batch
from speechrows.loader import load
from speechrows.loader import loader
from speechrows.loader import torch_dataset
from speechrows.loader import ttt_samples
from speechrows.validation import validate
from speechrows.views import duplex
from speechrows.views import interleaved

PUBLIC = {
    "Batch": batch.Batch,
    "Loader": loader.Loader,
    "RowsDataset": torch_dataset.RowsDataset,
    "SpeechRowsError": errors.SpeechRowsError,
    "__version__": version("speechrows"),
    "load": load.load,
    "load_duplex": duplex.load_duplex,
    "load_interleaved": interleaved.load_interleaved,
    "stats": stats.stats,
    "ttt_samples": ttt_samples.ttt_samples,
    "validate": validate.validate,
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_that_of_its_room(name: str) -> None:
    assert getattr(speechrows, name) == PUBLIC[name]


def test_all_public_names_are_listed_and_no_others() -> None:
    assert sorted(speechrows.__all__) == sorted(PUBLIC)
    assert {*PUBLIC} <= {*dir(speechrows)}
    with pytest.raises(AttributeError, match="has no attribute 'save'"):
        _ = speechrows.save


def test_an_import_of_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, speechrows; dir(speechrows)\n"
        "heavy = {'torch', 'datasets', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_needs_torch_says_without_it_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import speechrows; speechrows.load('rows', 'ttt')"
    call = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.run(call, check=False, capture_output=True, text=True)
    assert process.stderr.splitlines()[-1].endswith(
        "speechrows.load: found No module named torch; it needs torch: pip install 'speechrows[load]'"
    )


def test_a_script_beside_the_checkout_imports_the_package(tmp_path: Path) -> None:
    """An import hook, as editable installs may be, would be found after the folder, and never asked."""
    (tmp_path / "speechrows").symlink_to(Path(__file__).parents[1])
    (tmp_path / "script.py").write_text("import speechrows; print(speechrows.SpeechRowsError.__name__)")
    call = [sys.executable, str(tmp_path / "script.py")]
    process = subprocess.run(call, check=False, capture_output=True, text=True)
    assert process.stdout == "SpeechRowsError\n", process.stderr


def test_a_checkout_that_is_not_installed_has_a_version_too(tmp_path: Path) -> None:
    shutil.copytree(speechrows.__path__[0], tmp_path / "speechrows")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import speechrows; print(speechrows.__version__)"
    call = [sys.executable, "-I", "-S", "-c", code, str(tmp_path)]
    process = subprocess.run(call, check=True, capture_output=True, text=True)
    assert process.stdout == "0.0.0\n"
