"""The command line as a person uses it: what it prints, and the exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toys.building import published_files
from toys.mini_hub import MiniHub
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.text import tokenizers


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "rows"
    assert main(["build", "deepdialogue_ttt", "stage_2", "--data-dir", str(XTTS), "--out", str(out)]) == 0
    return out


def test_build_says_what_was_found_which_tokenizer_and_how_to_open_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows"
    assert main(["build", "deepdialogue_ttt", "stage_2", "--data-dir", str(XTTS), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 dialogue JSONs (the table beside them is not read)" in printed
    assert "tokenizer: byte-level" in printed
    assert f'load_dataset("{out}", "stage_2")' in printed


def test_any_of_the_five_names_builds_all_bands(built: Path) -> None:
    card = (built / "README.md").read_text()
    assert all(
        f"config_name: {name}\n" in card for name in ("ttt", "stage_1", "stage_2", "stage_3", "stage_4")
    )


def test_a_builders_own_flags_are_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--out", str(tmp_path / "rows")]
    assert main([*arguments, "--swap-roles", "--audio-tokens-per-second", "10", "--date", "2025-01-31"]) == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path / "rows")]) == 0
    assert "role                 assistant" in capsys.readouterr().out


def test_a_builder_can_be_a_path_to_its_file(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "deepdialogue_ttt.py"
    assert main(["build", str(script), "ttt", "--data-dir", str(XTTS), "--out", str(tmp_path / "rows")]) == 0


def test_validate_stats_and_show_work_on_what_was_built(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(built)]) == 0
    assert "every promise holds (17 rows, 4 conversations)" in capsys.readouterr().out
    assert main(["validate", "--json", str(built)]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["stats", str(built)]) == 0
    assert "stage_2, stage_3, stage_4 add nothing" in capsys.readouterr().out
    assert main(["stats", "--json", str(built)]) == 0
    by_config = {sums["config"]: sums for sums in json.loads(capsys.readouterr().out)}
    assert by_config["stage_1"]["turns"] == by_config["ttt"]["turns"] == 17
    assert by_config["stage_1"]["adds"] == 4
    assert by_config["stage_4"]["adds"] == 0
    assert main(["show", str(built)]) == 0
    shown = capsys.readouterr().out
    assert "[<audio> × 22]" in shown
    assert "⟦ I have not slept well for a week.<|end|>⟧[pad × 54]" in shown


def test_show_finds_a_row_by_its_id(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row_id = "deepdialogue_ttt/train/deepdialogue-xtts/dialogues_phi4-mini/travel_2_3/2/ttt"
    assert main(["show", str(built), row_id]) == 0
    assert "There is a night bus at eleven." in capsys.readouterr().out
    assert main(["show", str(built), "nope"]) == 2


def test_validate_exits_with_1_when_a_promise_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows"
    main(["build", "deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--out", str(out)])
    (out / "skipped.jsonl").write_text('{"task": "ttt", "clip_id": "x/0"}\n')
    assert main(["validate", str(out)]) == 1
    assert "ledger" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope", "ttt", "--data-dir", str(XTTS)], "expected a corpus module"),
        (
            ["deepdialogue_ttt", "stage_9", "--data-dir", str(XTTS)],
            "has no config 'stage_9'; expected one of ttt",
        ),
        (["deepdialogue_ttt", "ttt", "--data-dir", "nowhere"], "no such folder"),
        (
            ["deepdialogue_ttt", "ttt", "--data-dir", str(XTTS.parent.parent / "docs")],
            "expected DeepDialogue",
        ),
        (["deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--tokenizer", "./none"], "no such folder in"),
        (["deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--audio-tokens-per-second", "-1"], "above 0"),
        (["deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--date", "yesterday"], "expected a day"),
        (["deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--validation-fraction", "7"], "from 0 to 1"),
    ],
)
def test_a_wrong_call_exits_with_2_and_says_what_to_do(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *arguments, "--out", str(tmp_path / "rows")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "rows/README.md").exists()


def test_a_corpus_with_too_many_faults_exits_with_1_and_the_table(
    xtts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((xtts / "data/dialogues_phi4-mini").rglob("001_*.wav")).unlink()
    arguments = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(xtts), "--out", str(tmp_path / "rows")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "missing" in error
    assert "dialogue_incomplete" in error
    assert not (tmp_path / "rows/README.md").exists()
    assert main([*arguments, "--max-skipped", "0.5"]) == 0


def test_help_imports_nothing_heavy_and_looking_at_a_folder_neither_torch_nor_datasets(built: Path) -> None:
    after_help, after_stats, after_show = imported_by(["--help"], ["stats", str(built)], ["show", str(built)])
    assert not {"transformers", "pyarrow", "huggingface_hub"} & after_help
    assert "transformers" not in after_stats  # show writes tokens
    assert not {"torch", "datasets", "speechrows.builder"} & after_show


def imported_by(*commands: list[str]) -> list[set[str]]:
    """The modules that a process has imported when commands have run, after each."""
    code = (
        "import json, sys; from speechrows.cli import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        " try: assert main(command) == 0\n"
        " except SystemExit as end: assert not end.code\n"
        " print('\\nimported', json.dumps([*sys.modules]))"
    )
    call = [sys.executable, "-c", code, json.dumps(commands)]
    process = subprocess.run(call, check=True, capture_output=True, text=True)
    lines = [line.removeprefix("imported ") for line in process.stdout.splitlines()]
    return [set(json.loads(line)) for line in lines if line.startswith("[")]


def test_a_refused_template_leaves_the_folder_as_it_was(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tokenizers.byte_level()
    bad.chat_template = "{% for m in messages %}{{ m.content }} and so on. {% endfor %}"
    tokenizers.save(bad, tmp_path / "bad")
    before = published_files(built)
    call = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(XTTS), "--tokenizer", str(tmp_path / "bad")]
    assert main([*call, "--out", str(built), "--overwrite"]) == 2
    assert main([*call, "--out", str(tmp_path / "fresh"), "--num-proc", "2"]) == 2
    assert "after the target" in capsys.readouterr().err
    assert published_files(built) == before
    assert not (tmp_path / "fresh").exists()


def test_flags_before_the_builder_are_refused_with_the_right_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["build", "--data-dir", str(XTTS), "deepdialogue_ttt", "ttt"]) == 2
    assert "expected BUILDER CONFIG, then flags" in capsys.readouterr().err


def test_rows_are_not_built_into_the_corpus(xtts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(xtts), "--out", str(xtts / "rows")]
    assert main(call) == 2
    assert "lies in the corpus" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["/nowhere", "./nowhere", "nowhere", "/no/where"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    address: str, hub: MiniHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", address]) == 2
    assert f"{address}: no such folder" in capsys.readouterr().err
    assert hub.log == []
