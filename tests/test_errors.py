"""What reaches a terminal: every error and report is text, whatever steering the data holds."""

import pickle
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import read_rows
from toys.building import replace_shard
from toys.examples import FEW
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import BadClipError
from speechrows.errors import ShortfallError
from speechrows.errors import first_line
from speechrows.errors import printable
from speechrows.types import Reason

# Colours, a cleared screen, a title, a link, a carriage return over what was said, a text that runs
# backwards, C1 controls, NUL, a bell, a backspace, a lone surrogate.
NASTY = "\x1b[31m\x1b[2J\x1b]0;x\x07\x1b]8;;http://evil\x1b\\\rok\u202egpj\u2066\x9b2J\x00\x08\x7f\u2028"
_TURNS = {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}


def steering(text: str) -> set[str]:
    """What in a text steers a terminal."""
    return {
        char
        for char in text
        if (unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\t\n") or char in _TURNS
    }


@FEW
@given(st.text(st.characters()) | st.text(st.sampled_from([*NASTY, "\ud800", "a", "\n"])))
def test_printable_text_steers_nothing_and_all_else_stays(text: str) -> None:
    printed = printable(text)
    assert not steering(printed)
    assert printable(printed) == printed
    assert str(ShortfallError(text)) == printed
    printed.encode()
    if not steering(text):
        assert printed == text


def test_texts_of_right_to_left_and_joined_scripts_stay_as_they_are() -> None:
    for text in ("שלום\u200f, עולם", "کر\u200cد", "👩\u200d👩\u200d👧", "a\tb\nc", "é日本"):
        assert printable(text) == text
    assert printable("\x1b[2J\u202e\ud800\r") == r"\x1b[2J\u202e\ud800\r"


def test_no_command_prints_what_steers_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_rows(XTTS, tmp_path / "rows")
    rows = read_rows(tmp_path / "rows")
    for row in rows:
        row |= {
            name: f"{NASTY}{row[name]}" for name in ("row_id", "speaker", "transcript", "text", "emotion")
        }
    shard, index = "data/ttt/train/band_1/ttt-train-1-00000.parquet", "index/ttt/train.parquet"
    replace_shard(tmp_path / "rows", shard, rows, index)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    folder = str(tmp_path / "rows")
    missing = str(tmp_path / NASTY.replace("\0", "").replace("/", ""))
    printed = list[str]()
    for command in (
        ["show", folder],
        ["show", folder, NASTY],
        ["validate", folder],
        ["validate", "--json", folder],
        ["stats", folder],
        ["stats", missing],
        ["publish", missing, "org/rows"],
        ["build", "deepdialogue_ttt", NASTY, "--data-dir", str(XTTS), "--out", folder],
        ["check-viewer", folder],
    ):
        assert main(command) in (0, 1, 2)
        told = capsys.readouterr()
        for colour in ("\x1b[32m", "\x1b[2m", "\x1b[0m"):  # of show itself
            told = told._replace(out=told.out.replace(colour, ""))
        assert not steering(told.out + told.err), command
        printed.append(told.out + told.err)
    assert all(r"\x1b[31m" in printed[i] for i in (0, 1, 2, 5, 6))


def test_errors_of_workers_arrive_as_they_were_raised() -> None:
    error = pickle.loads(pickle.dumps(BadClipError(Reason.EMPTY, "no sample")))
    assert (error.reason, error.detail, str(error)) == (Reason.EMPTY, "no sample", "no sample")


def test_the_first_line_of_an_error_that_says_nothing_is_its_name() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(MemoryError()) == "MemoryError"
