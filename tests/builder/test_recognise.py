"""What recognise.py promises: the builder of a folder is found, and its command builds it as printed."""

import shlex
from pathlib import Path

import pytest
from toys.samples import SAMPLE_OF

from speechrows.builder.recognise import inspect
from speechrows.cli import main
from speechrows.errors import UsageError


@pytest.mark.parametrize("builder", SAMPLE_OF)
def test_each_sample_is_known_for_what_it_is_first(builder: str) -> None:
    first = inspect(str(SAMPLE_OF[builder])).splitlines()[0]
    assert first.partition(":")[0] == builder


@pytest.mark.parametrize("builder", ["audio_table", "chat_json"])
def test_the_command_that_is_printed_builds_the_folder_and_so_does_no_builder_at_all(
    builder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(SAMPLE_OF[builder])]) == 0
    printed = capsys.readouterr().out
    assert main(["build", "--out", "rows", "--data-dir", str(SAMPLE_OF[builder])]) == 0
    assert capsys.readouterr().out == printed
    assert not [*tmp_path.iterdir()], "it asks nothing, and builds nothing"
    command = next(line for line in printed.splitlines() if "speechrows build" in line)
    assert main(shlex.split(command)[1:]) == 0
    assert main(["validate", f"rows/{builder}"]) == 0


def test_what_no_builder_reads_is_told_by_the_files_that_lie_there(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    (tmp_path / "b.csv").write_text("price,weight\n1,2\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        inspect(str(tmp_path))
    assert "found 1 .docx, 1 .csv, which no builder reads; expected one of" in str(caught.value)
    assert "audio_table: " in str(caught.value), "why a table is none is said"
    with pytest.raises(UsageError, match=r"inspect .*nowhere: "):
        inspect(str(tmp_path / "nowhere"))
