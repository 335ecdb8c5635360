"""What README and the guides print is run as printed, in the order of each page, beside the samples."""

import gc
import re
import shlex
import sys
import webbrowser
from pathlib import Path

import pytest

from speechrows.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("building", "your-data", "loading", "mixes", "duplex", "interleaved")),
    *(f"docs/{name}.md" for name in ("publishing", "exports", "quality", "scale", "training")),
)
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REAL = "real"  # it needs a real corpus, a repository of one's own, or another version of datasets
COMMAND = re.compile(r"^(speechrows|python|accelerate|hf) ", re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: what stands behind the fence, and the text."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_snippet_of_a_page_runs_as_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    for kind, text in blocks(page):
        if kind == "sh":
            for line in text.replace("\\\n", "").splitlines():
                run(shlex.split(line, comments=True), monkeypatch)
        elif kind == "python":
            exec(compile(text, page, "exec"), {"__name__": page})


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = words
    assert program == "speechrows"
    if arguments[0] == "preview":  # a page that is open until Ctrl-C
        pytest.importorskip("gradio")
        monkeypatch.setattr(webbrowser, "open", lambda address: True)
        monkeypatch.setattr("speechrows.preview.command.Event.wait", lambda event, timeout=None: True)
    if arguments[0] == "train":  # as a program, which ends with its exit code
        gc.freeze()  # accelerate collects garbage after each run, and searches what there was before
        monkeypatch.setattr(sys, "argv", ["speechrows"])
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        return
    assert main(arguments) == 0, words


@pytest.mark.parametrize("page", PAGES)
def test_a_block_that_is_not_run_says_that_it_needs_what_is_not_here(page: str) -> None:
    kinds = {kind for kind, _ in blocks(page)}
    assert kinds <= {"", "sh", "python", f"sh {REAL}", f"python {REAL}"}
    assert not [text for kind, text in blocks(page) if not kind and COMMAND.search(text)]
    for kind, text in blocks(page):
        if kind == f"sh {REAL}":  # its flags exist all the same
            assert COMMAND.match(text)


def test_what_troubleshooting_quotes_is_what_is_said() -> None:
    sources = [*(ROOT / "speechrows").rglob("*.py"), ROOT / "train.py", ROOT / "Makefile"]
    text = "".join(path.read_text("utf-8") for path in sources)
    text = re.sub(r'"\s*\n\s*f?"', "", text)  # literals that go on in the next line
    page = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 20
    assert [words for words in quoted if words not in text] == []
