"""The mistakes of the first hour: each is answered by one line, at once, that says what to do."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from toys.corpus import write_corpus
from toys.mini_hub import MiniHub
from toys.samples import SAMPLES
from toys.samples import XTTS

import speechrows
from speechrows.builds import locks
from speechrows.builds import state
from speechrows.builds.sharding import shard_size
from speechrows.cli import main
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Unit
from speechrows.errors import SpeechRowsError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.storage.models import is_from_cache

BUILD = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--out"]
ROWS = "deepdialogue_ttt/train/deepdialogue-xtts/dialogues_phi4-mini"
Say = Callable[..., str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("first") / "rows")
    assert main([*BUILD, out]) == 0
    return out


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """What a call says on standard error, which is one line; in a folder that holds `rows/` alone."""
    (tmp_path / "here" / "rows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: str, code: int = 2) -> str:
        capsys.readouterr()
        ended: object
        try:
            ended = main(arguments)
        except SystemExit as end:
            ended = end.code
        assert ended == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return error

    return call


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub at whose port nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setattr("speechrows.storage.hub._PAUSE_S", 0.01)  # before the second attempt


PLACES = [
    *(["stats", "validate", "show", "check-viewer"]),
    *(["export usdm --out x", "preview"]),
    "generate sift --mode sift_s --endpoint http://127.0.0.1:9/v1 --out x --source",
    "build deepdialogue_ttt ttt --out x --data-dir",
    *(f"build deepdialogue_ttt ttt --out x --data-dir {XTTS} {flag}" for flag in ("--tokenizer", "--with")),
]


@pytest.mark.parametrize(
    ("command", "place"), [*((command, "rows/nothing") for command in PLACES), ("stats", "./nothing")]
)
def test_a_place_that_is_not_here_is_said_to_be_absent_and_the_hub_is_not_asked(
    command: str, place: str, said: Say, hub: MiniHub
) -> None:
    error = said(*command.split(), place)
    assert f"{place}: no such folder in {Path.cwd()}" in error
    assert hub.log == []


def test_functions_say_it_too(said: Say, hub: MiniHub) -> None:
    for function in (lambda path: speechrows.load(path, "ttt"), speechrows.validate, speechrows.stats):
        with pytest.raises(UsageError, match="rows/nothing: no such folder in"):
            function("rows/nothing")
    assert hub.log == []


def test_a_name_that_is_neither_here_nor_on_the_hub_is_said_to_be_neither(said: Say, hub: MiniHub) -> None:
    for command in ("stats", "check-viewer"):
        error = said(command, "org/nowhere")
        assert f"no such folder in {Path.cwd()}" in error
        assert "no such dataset on the Hub" in error


@pytest.mark.parametrize(
    "command",
    [
        "stats org/name",
        "check-viewer org/name",
        "build deepdialogue_ttt ttt --out x",
        "build deepdialogue_ttt ttt --out x --data-dir hf://datasets/org/name",
        f"build deepdialogue_ttt ttt --out x --data-dir {XTTS} --tokenizer org/name",
        f"build deepdialogue_ttt ttt --out x --data-dir {XTTS} --with org/name",
        f"generate sift --mode sift_s --out x --source deepdialogue_ttt --data-dir {XTTS} --model org/name",
        "publish BUILT org/name",
    ],
)
@pytest.mark.usefixtures("offline")
def test_without_a_network_a_line_says_so_at_once(command: str, said: Say, built: str) -> None:
    start = time.monotonic()
    error = said(*command.replace("BUILT", built).split(), code=1)
    assert "the Hub can not be reached (127.0.0.1: " in error
    assert time.monotonic() - start < 5


@pytest.mark.usefixtures("offline")
def test_a_dry_run_of_publishing_needs_no_network(built: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", built, "org/name", "--dry-run"]) == 0
    *_, card, files, unknown = capsys.readouterr().out.splitlines()
    assert card.startswith("  send")
    assert card.endswith("README.md")
    assert files.startswith("10 files to send, ")
    assert unknown.startswith("what is there already is not known: the Hub can not be reached (127.0.0.1: ")


@pytest.mark.usefixtures("offline")
def test_a_cached_model_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--org--cached").mkdir()
    assert is_from_cache("org/cached", "--model")
    assert not is_from_cache(str(tmp_path), "--model")
    with pytest.raises(StoreError, match=r"org/other: no such folder in .*not in the Hub's cache"):
        is_from_cache("org/other", "--model")


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        ("bild", "build"),
        ("stats --jsn rows", "--json"),
        ("stats --mode lane rows", "lanes"),
        ("build deepdialogue", "deepdialogue_ttt"),
        ("build deepdialogue_ttt stge_2 --out x", "stage_2"),
        ("build deepdialogue_ttt ttt --out x --swap-role-s", "--swap-roles"),
        ("generate sft", "sift"),
        ("generate sift --mode sift-ssp --out x --source y", "sift_ssp"),
        ("export usd rows", "usdm"),
        ("show BUILT travel_2_3/2", f"{ROWS}/travel_2_3/2/ttt"),
        ("generate sift --mode sift_s --out x --source deepdialogue", "deepdialogue_ttt"),
    ],
)  # fmt: skip
def test_what_was_meant_is_named(call: str, meant: str, said: Say, built: str) -> None:
    assert f"did you mean {meant}?" in said(*call.replace("BUILT", built).split())


def test_nothing_is_meant_where_nothing_is_close() -> None:
    assert did_you_mean("zebra", ["ttt", "stage_1"]) == ""


def test_the_version_and_the_help_of_a_builder(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in [
        (["--version"], [f"speechrows {speechrows.__version__}"]),
        (
            ["build", "deepdialogue_ttt", "--help"],
            ["is one of: ttt, stage_1", "(default: no)", "(default: 12.5)"],
        ),
    ]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        printed = " ".join(capsys.readouterr().out.split())
        assert end.value.code == 0
        assert all(word in printed for word in words)
        assert "(default: None)" not in printed


def test_a_second_build_says_that_there_is_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = "ttt is built already, of the same files and flags: nothing to do"
    assert main([*BUILD, str(tmp_path / "rows"), "--num-proc", "3"]) == 0
    printed = capsys.readouterr().out
    assert again not in printed
    assert "--num-proc 3: only 1 of the processes can work: each builds a shard" in printed
    assert main([*BUILD, str(tmp_path / "rows"), "--num-proc", "3"]) == 0
    printed = capsys.readouterr().out
    assert again in printed
    assert "--num-proc" not in printed


def test_a_build_that_waits_for_another_says_so_at_once(
    built: str, said: Say, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ORPHANS_END_WITHIN", 0.1)
    lines: list[str] = []
    with state.locked(Path(built)):
        assert "wait for it to end" in said(*BUILD, built)
        with pytest.raises(UsageError), state.locked(Path(built), lines.append):
            pass
    who = f"{built}: another build is writing here (process {os.getpid()}), or it is being published"
    assert lines == [f"{who}: waiting 0.1 s for it to end"]


def test_a_small_corpus_is_cut_for_processes_and_a_tiny_one_or_a_stream_is_not() -> None:
    def units(num_bytes: int, in_stream: bool = False) -> list[Unit[None]]:
        return [Unit(payload=None, num_bytes=num_bytes >> 6, in_stream=in_stream)] * 64

    mib, gib = 1 << 20, 1 << 30
    assert shard_size(units(255 * mib)) == gib
    assert shard_size(units(256 * mib)) == 128 * mib
    assert shard_size(units(4 * gib)) == gib // 2
    assert shard_size(units(100 * gib)) == gib
    assert shard_size(units(4 * gib, in_stream=True)) == gib
    assert shard_size(units(4 * gib), 1000) == 1000


@pytest.mark.parametrize(
    ("builder", "given", "right"),
    [
        ("omni_tasks omni", "", "hub"),
        ("multidialog_ttt ttt", "multidialog/metadata", "multidialog"),
        ("deepdialogue_ttt ttt", "deepdialogue-xtts/data/dialogues_phi4-mini", "deepdialogue-xtts/data"),
    ],
)
def test_a_data_dir_one_level_off_is_told_the_right_one(
    builder: str, given: str, right: str, said: Say
) -> None:
    error = said("build", *builder.split(), "--out", "x", "--data-dir", str(SAMPLES / given))
    assert f"looks like one: give --data-dir {SAMPLES / right}\n" in error


def test_a_data_dir_above_several_corpora_is_told_the_right_ones_and_its_folder_is_unfinished(
    said: Say,
) -> None:
    build = ("build", "deepdialogue_ttt", "ttt", "--out", "x", "--data-dir")
    corpora = [f"{SAMPLES}/deepdialogue-{name}" for name in ("documented", "xtts")]
    hint = f"Below it, {' and '.join(corpora)} look like it: give --data-dir {corpora[0]} --overwrite\n"
    assert hint in said(*build, str(SAMPLES), code=1)
    unfinished = "x: unfinished build of deepdialogue_ttt ttt; run the same build command again to finish\n"
    for command in ("validate x", "stats x", "show x", "preview x", "publish x org/name"):
        assert unfinished in said(*command.split())


def test_a_damaged_corpus_is_not_taken_for_several(xtts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((xtts / "data/dialogues_phi4-mini").glob("*.json")).write_text("{")
    build = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(xtts), "--out", f"{xtts}-rows"]
    assert main(build) == 1
    assert "The faults are listed in skipped.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "no config ''; it has ttt, stage_1, "),
        ({"config": "stage2"}, "no config 'stage2'; it has ttt, .*; did you mean stage_2"),
        ({"config": ["ttt"]}, "no config .'ttt'.; it has ttt, "),
        ({"config": "ttt", "split": "tran"}, "no split 'tran'; it has train; did you mean train"),
        ({"config": "ttt", "split": None}, "no split None; it has train"),
        ({"config": "ttt"}, "mode bucket takes budget_seconds .* Modes pack and lanes take context"),
        ({"config": "ttt", "mode": "lane"}, "expected bucket or pack or lanes; did you mean lanes"),
        ({"config": "ttt", "mode": ["lanes"]}, "expected bucket or pack or lanes"),
        ({"config": "ttt", "seed": "1"}, "seed: found '1', expected a whole number"),
        ({"config": "ttt", "augment": "speed"}, "augment: found 'speed', expected "),
        ({"path": None}, "found None for a folder; expected its path"),
    ],
)
def test_loading_what_is_not_there_names_what_is(given: dict[str, Any], says: str, built: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        speechrows.load(**{"path": Path(built), **given})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("out", ["/proc/rows", "FILE/rows", "x" * 300, "LOOP", "o\udcff", "FILE"])
def test_a_folder_that_can_not_be_written_is_named(out: str, tmp_path: Path, said: Say) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    out = out.replace("FILE", str(tmp_path / "file")).replace("LOOP", str(tmp_path / "loop"))
    assert "speechrows: " in said(*BUILD, out)


@pytest.mark.parametrize(
    ("call", "says", "code"),
    [
        (
            f"build deepdialogue_ttt ttt --data-dir {XTTS} --out x --tokenizer=",
            "tokenizer : no such folder",
            2,
        ),
        (
            f"build deepdialogue_ttt ttt --data-dir {XTTS} --out x --audio-token=",
            "expected a token such as",
            2,
        ),
        ("build deepdialogue_ttt ttt --data-dir BUILT --out x", "no file of it is of DeepDialogue", 1),
        (f"build instructs2s_ttt ttt --data-dir {XTTS} --out x", "no file of it is of InstructS2S", 1),
        ("stats BUILT/README.md", "README.md: is a file; expected a folder", 2),
        ("stats BUILT --context 64", "context: found 64, no row of ", 2),
        ("validate BUILT --num-proc 0", "num-proc: found 0, expected at least 1", 2),
        ("preview BUILT --port 99999", "--port: found 99999, expected 1 to 65535", 2),
        ("preview BUILT --model nowhere", "nowhere: no such folder in ", 2),
        ("respond nowhere a.wav", "a.wav: can not be read (no such file); expected a file of speech", 2),
        ("respond nowhere BUILT/README.md", "nowhere: no such folder in ", 2),
        (
            "generate sift --mode sift_s --out x --source BUILT --endpoint nope",
            "expected an address such as",
            2,
        ),
        (
            "generate sift --mode sift_s --out x --source BUILT --endpoint http://127.0.0.1:9/v1",
            "nobody answers (127.0.0.1: ",
            1,
        ),
    ],
)
def test_a_call_that_can_not_be_meant_is_answered_at_once(
    call: str, says: str, code: int, said: Say, built: str
) -> None:
    assert says in said(*call.replace("BUILT", built).split(), code=code).replace("\n", " ")


def test_no_name_is_no_folder(said: Say) -> None:
    assert "found '' for a folder; expected its path" in said("stats", "")


def test_rows_lie_in_folders_of_any_name(tmp_path: Path) -> None:
    rows = str(tmp_path / "my röws/日本")
    assert main([*BUILD, rows]) == 0
    assert [main([command, rows]) for command in ("validate", "stats", "show")] == [0, 0, 0]
    assert speechrows.load(rows, "ttt", budget_seconds=20)


def test_a_home_is_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Say) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "corpus").symlink_to(XTTS)
    assert main(["build", "deepdialogue_ttt", "ttt", "--data-dir", "~/corpus", "--out=~/rows"]) == 0
    assert (tmp_path / "rows/README.md").is_file()
    assert main(["stats", "~/rows"]) == 0
    assert "~/none: no such folder\n" in said("stats", "~/none")


def test_a_corpus_of_nested_folders_without_end_is_listed(tmp_path: Path) -> None:
    script = "import os\nfor _ in range(1100):\n os.mkdir('d')\n os.chdir('d')\nopen('x', 'w').close()"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    try:
        (entry,) = Corpus.open(str(tmp_path)).list()
        assert entry.path.endswith("d/x")
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # pytest's own hand is too short


def test_a_builder_s_file_with_a_slip_is_named_with_its_line(tmp_path: Path, said: Say) -> None:
    (tmp_path / "slip.py").write_text("import os\nclass Broken(:\n")
    assert "slip.py: line 2: " in said("build", str(tmp_path / "slip.py"), "ttt", "--out", "x")


def test_a_terminal_of_ascii_is_written_to(built: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        assert main(["show", built]) == 0
    terminal.seek(0)
    assert "\\u27e6" in terminal.read()


SLOW = """
import os, time
from pathlib import Path
import deepdialogue_ttt as fast
from speechrows.builder import SpeechBuilder
class SlowConfig(fast.DeepDialogueConfig):
    shard_bytes = 1
class SlowReader(fast.DeepDialogueTTT.READER):
    def dialogues(self, unit):
        Path(os.environ["BEGUN"], str(os.getpid())).touch()
        time.sleep(60)
        yield from super().dialogues(unit)
class Slow(SpeechBuilder):
    ABOUT = fast.DeepDialogueTTT.ABOUT
    READER = SlowReader
    BUILDER_CONFIG_CLASS = SlowConfig
    BUILDER_CONFIGS = [SlowConfig(name="ttt")]
"""


def test_ctrl_c_ends_a_build_and_its_workers_with_a_line(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=4, seconds=0.1)
    (tmp_path / "slow.py").write_text(SLOW)
    begun = tmp_path / "begun"
    begun.mkdir()
    call = [
        *("build", str(tmp_path / "slow.py"), "ttt", "--data-dir", str(corpus)),
        *("--out", str(tmp_path / "rows"), "--num-proc", "2"),
    ]
    code, error = _interrupted(call, begun, num_files=2)
    assert (code, error.strip()) == (
        130,
        "speechrows: stopped. Shards that were written are kept: the same command goes on",
    )
    for worker in begun.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker.name), 0)


@pytest.mark.parametrize("seconds", [pytest.param(0, marks=pytest.mark.soak), 0.5])
def test_ctrl_c_while_modules_are_imported_is_answered_with_a_line(seconds: float, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    code, error = _interrupted([*BUILD, str(tmp_path / "rows")], tmp_path / "begun", seconds=seconds)
    assert code == 130
    assert error.startswith("speechrows: stopped")
    assert "Traceback" not in error


RUN = """
import os, sys
from pathlib import Path
from speechrows.cli import main
if __name__ == "__main__":
    if "slow.py" not in sys.argv[2]:
        Path(os.environ["BEGUN"], "main").touch()
    sys.exit(main())
"""


def _interrupted(call: list[str], begun: Path, num_files: int = 1, seconds: float = 0) -> tuple[int, str]:
    """The exit code and errors of a command that got Ctrl-C as a terminal sends it: with its workers.

    It comes so many `seconds` after the command has written that many files into the folder `begun`.
    """
    script = begun.parent / "run.py"
    script.write_text(RUN)
    path = os.pathsep.join([str(SAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "BEGUN": str(begun), "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, str(script), *call],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len([*begun.iterdir()]) < num_files and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    return process.returncode, error


def test_our_errors_alone_are_lines_and_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception) -> Callable[[object], int]:
        def stats(_: object) -> int:
            raise error

        return stats

    monkeypatch.setattr("speechrows.folder.stats.stats", fails(SpeechRowsError("ours")))
    assert main(["stats", "x"]) == 1
    monkeypatch.setattr("speechrows.folder.stats.stats", fails(OSError(5, "Input/output error", "x/y")))
    assert main(["stats", "x"]) == 1
    monkeypatch.setattr("speechrows.folder.stats.stats", fails(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main(["stats", "x"])
