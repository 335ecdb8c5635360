"""However often an export is stopped, and however many processes write it, it ends in the same bytes."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys.publishing import publish
from toys.talks import build_talks

from speechrows.cli import main
from speechrows.conversations.records import Record
from speechrows.errors import UsageError
from speechrows.interop import engine
from speechrows.interop import sharegpt
from speechrows.interop.options import ShareGptOptions
from speechrows.interop.parts import Part
from speechrows.interop.summary import Tally


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_talks(tmp_path_factory.mktemp("built"), shard_bytes=1)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharegpt, "_MAX_ROWS", 1)


def export(rows: str, out: Path, **flags: Any) -> list[str]:
    return sharegpt.export(rows, out, ShareGptOptions(spelled="replace", **flags))


def files(out: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {**found, "summary": out.with_name(f"{out.name}.export.json").read_bytes()}


def test_a_dataset_on_the_hub_is_written_as_its_folder_is(rows: str, tmp_path: Path) -> None:
    publish(Path(rows), "org/exported")
    for name, address in (("here", rows), ("there", "org/exported")):
        export(address, tmp_path / name)
    assert files(tmp_path / "there") == files(tmp_path / "here")


class Killed(BaseException):
    """As the system would end it: nothing is tidied up."""


def test_killed_at_any_part_it_goes_on_and_ends_in_the_same_bytes(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(rows, tmp_path / "whole")
    whole, write = files(tmp_path / "whole"), sharegpt._write
    written: list[str] = []

    def until(last: str, options: Any, part: Part, records: Iterator[Record], into: Path) -> Tally:
        written.append(part.name)
        tally = write(options, part, records, into)
        if part.name == last:
            raise Killed  # with its files written, and none in their place
        return tally

    for last in ("train-000001", "train-000003"):
        monkeypatch.setattr(sharegpt, "_write", lambda *a, last=last: until(last, *a))
        with pytest.raises(Killed):
            export(rows, tmp_path / "stopped")
        assert not (tmp_path / "stopped.export.json").exists()
    monkeypatch.setattr(sharegpt, "_write", lambda *a: until("", *a))
    export(rows, tmp_path / "stopped")
    assert files(tmp_path / "stopped") == whole
    numbers = [int(name[-1]) for name in written]
    assert numbers == [0, 1, 1, 2, 3, 3, 4]  # what was there was kept


def test_the_number_of_processes_changes_no_byte(rows: str, tmp_path: Path) -> None:
    for num_proc in (1, 2):
        export(rows, tmp_path / str(num_proc), num_proc=num_proc)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_what_is_there_is_never_written_over(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    lines = export(rows, out)
    assert lines[-1] == f"summary: {tmp_path / 'out.export.json'}"
    written = files(out)
    again = export(rows, out)
    assert again == [f"{out}: there already, as this command writes it", *lines[:-1]]
    with pytest.raises(UsageError, match="there already, of something else"):
        export(rows, out, answer_audio=True)
    assert files(out) == written
    (out / "train.jsonl").unlink()
    with pytest.raises(UsageError, match=r"found \d+ files of \d+ bytes; expected \d+ of \d+"):
        export(rows, out)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="expected a folder for new files"):
        export(rows, tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["notes.txt"]


def test_nothing_is_written_into_the_rows(
    rows: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path(rows).rglob("*"))
    monkeypatch.chdir(rows)
    for folder, out in ((rows, f"{rows}/exported"), (".", "exported"), (rows, rows)):
        for name in ("sharegpt", "usdm"):
            assert main(["export", name, folder, "--out", out]) == 2
            assert "expected a folder outside" in capsys.readouterr().err
    assert sorted(Path(rows).rglob("*")) == before


def test_a_gap_without_end_is_refused(rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "moshi", rows, "--gap", "inf", "--out", str(tmp_path / "out")])
    assert "argument --gap: found 'inf'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unfinished_export_goes_on_with_the_same_flags_alone_and_one_at_a_time(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Tally:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(sharegpt, "_write", fail)
        with pytest.raises(Killed):
            export(rows, tmp_path / "out")
    with pytest.raises(UsageError, match="an unfinished export of something else, or with other flags"):
        export(rows, tmp_path / "out", answer_audio=True)
    lock = os.open(tmp_path / "out/.export/lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another export is writing here; wait for it to end"):
        export(rows, tmp_path / "out")
    os.close(lock)
    export(rows, tmp_path / "out")
    assert not (tmp_path / "out/.export").exists()


def test_the_summary_tells_what_was_written_and_what_was_not(rows: str, tmp_path: Path) -> None:
    lines = sharegpt.export(rows, tmp_path / "out", ShareGptOptions())
    summary = json.loads((tmp_path / "out.export.json").read_text("utf-8"))
    (split,) = summary["splits"].values()
    assert (summary["format"], summary["config"], split["conversations"], split["turns"]) == (
        "sharegpt",
        "ttt",
        3,
        9,
    )
    assert lines[0].startswith(f"{tmp_path / 'out'}: train: 3 conversations, 9 turns, ")
    told = {reason: f"  {reason}: {count}" for reason, count in split["changes"].items()}
    assert lines[1:-1] == [*told.values()]
    assert str(tmp_path) not in json.dumps(summary)


def test_a_disk_that_is_full_is_told_in_words(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: Any) -> Tally:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharegpt, "_write", fill)
    with pytest.raises(engine.FullDiskError, match="no room is left on the disk"):
        export(rows, tmp_path / "out")
