"""A reader that raises: its unit is lost and named, and no other; what speechrows raises ends the build."""

import json
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from toys.audio import wav
from toys.building import read_rows
from toys.building import read_skipped
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn

from speechrows.cli import main
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Unit
from speechrows.corpora.reader import list_units
from speechrows.corpora.reader import read_unit
from speechrows.errors import BadClipError
from speechrows.errors import ShortfallError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.rows.tasks import TASKS
from speechrows.types import Dialogue
from speechrows.types import Reason
from speechrows.types import Task
from speechrows.types import UnreadableFile

UNIT = Unit(payload="two", opened=("table.tsv",), files=("two.json",), num_bytes=2)


class ToyReader:
    """Reads two dialogues of any unit, and then does what the test wants of it."""

    def __init__(self, corpus: Corpus, config: Callable[[], None], task: Task) -> None:
        self._go_on = config

    def units(self, entries: list[Entry]) -> Listing[str]:
        return Listing(
            contents="toys", units=[Unit(payload=entry.path, num_bytes=entry.num_bytes) for entry in entries]
        )

    def dialogues(self, unit: Unit[str]) -> Iterator[Dialogue | UnreadableFile]:
        yield toy_dialogue(toy_turn(0), name=f"{unit.payload}/0")
        yield toy_dialogue(toy_turn(0), name=f"{unit.payload}/1")
        self._go_on()
        yield toy_dialogue(toy_turn(0), name=f"{unit.payload}/2")


def reader(error: BaseException | None = None) -> ToyReader:
    """A toy that raises, or not."""

    def go_on() -> None:
        if error is not None:
            raise error

    return ToyReader(Corpus(root="/"), go_on, TASKS["ttt"])


def test_a_unit_is_read_in_order() -> None:
    names = [d.conversation_id for d in read_unit(reader(), UNIT, "toys") if isinstance(d, Dialogue)]
    assert names == ["two/0", "two/1", "two/2"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("text"), "found KeyError: 'text' while toys read it"),
        (ValueError("no split"), "found ValueError: no split while toys read it"),
        (AssertionError(), "found AssertionError:  while toys read it"),
        (RecursionError("too deep"), "found RecursionError: too deep while toys read it"),
        (FileNotFoundError(2, "No such file or directory", "/home/a/b"), "FileNotFoundError: No such file"),
    ],
)
def test_an_exception_costs_what_follows_in_its_unit_and_is_told_with_builder_file_and_line(
    error: Exception, words: str
) -> None:
    first, second, lost = read_unit(reader(error), UNIT, "toys")
    assert [d.conversation_id for d in (first, second) if isinstance(d, Dialogue)] == ["two/0", "two/1"]
    assert isinstance(lost, UnreadableFile)
    assert (lost.file, lost.is_remark) == ("table.tsv", False)
    assert words in lost.detail
    assert "(test_reader.py, line " in lost.detail
    assert "/home" not in lost.detail
    assert lost.detail.endswith("expected what its reader knows. Mend the file, or the reader")


def test_names_without_end_cost_their_dialogue_and_a_domain_itself() -> None:
    class Named(ToyReader):
        def dialogues(self, unit: Unit[str]) -> Iterator[Dialogue | UnreadableFile]:
            first, second, third = super().dialogues(unit)
            assert isinstance(first, Dialogue)
            assert isinstance(second, Dialogue)
            yield replace(first, conversation_id="a" * 5000)
            yield replace(second, domain="b" * 5000)
            yield third

    lost, *others = read_unit(Named(Corpus(root="/"), lambda: None, TASKS["ttt"]), UNIT, "toys")
    assert isinstance(lost, UnreadableFile)
    assert "found a conversation's id of 5,000 letters" in lost.detail
    assert [(d.conversation_id, d.domain) for d in others if isinstance(d, Dialogue)] == [
        ("two/1", None),
        ("two/2", toy_dialogue().domain),
    ]


def test_an_exception_in_one_unit_leaves_the_next_one_whole() -> None:
    broken = reader(KeyError("text"))
    assert len(list(read_unit(broken, UNIT, "toys"))) == len(list(read_unit(broken, UNIT, "toys"))) == 3


def test_a_clip_that_is_refused_outside_of_a_turn_costs_its_unit_in_its_own_words() -> None:
    *_, lost = read_unit(reader(BadClipError(Reason.REFUSED_PATH, "found ../x")), UNIT, "toys")
    assert lost == UnreadableFile(file="table.tsv", detail="found ../x")


@pytest.mark.parametrize(
    "error",
    [UsageError("no"), StoreError("silent"), ShortfallError("few"), MemoryError(), KeyboardInterrupt()],
)
def test_what_is_no_fault_of_a_file_ends_the_build(error: BaseException) -> None:
    unread = read_unit(reader(error), UNIT, "toys")
    assert [next(unread), next(unread)]
    with pytest.raises(type(error)):
        next(unread)


# --- a whole build --------------------------------------------------------------------------

TOYS = '''
"""A corpus of one JSON and one clip an utterance, whose reader trusts every JSON to have a text."""
import json
from speechrows.builder import About
from speechrows.builder import AudioRef
from speechrows.builder import Dialogue
from speechrows.builder import Listing
from speechrows.builder import SpeechBuilder
from speechrows.builder import SpeechConfig
from speechrows.builder import Turn
from speechrows.builder import Unit


class ToyReader:
    def __init__(self, corpus, config, task):
        self._corpus = corpus

    def units(self, entries):
        names = [entry.path.removesuffix(".json") for entry in entries if entry.path.endswith(".json")]
        units = [Unit(payload=name, files=(f"{name}.json", f"{name}.wav"), num_bytes=1) for name in names]
        return Listing(contents=f"{len(units)} utterances", units=units)

    def dialogues(self, unit):
        record = json.loads(self._corpus.read(unit.file))
        audio = AudioRef(path=f"{unit.payload}.wav")
        turn = Turn(number=0, speaker="A", role="user", text=record["text"], audio=audio)
        yield Dialogue(
            conversation_id=f"toys/{unit.payload}", split="train", domain=None, turns=(turn,), twin_key=None,
            source=unit.file,
        )


class Toys(SpeechBuilder):
    ABOUT = About(
        title="Toys", summary="Toys.", licence="cc0-1.0", licence_note="", homepage="https://toys.example",
        citation="", languages=("en",),
    )
    READER = ToyReader
    BUILDER_CONFIGS = [SpeechConfig(name="transcription")]
    DEFAULT_CONFIG_NAME = "transcription"
'''


def test_a_build_whose_reader_raises_loses_that_unit_alone_and_counts_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trusting_toys.py").write_text(TOYS)
    (tmp_path / "corpus").mkdir()
    for i, key in enumerate(("text", "txt", "text")):
        (tmp_path / f"corpus/{i}.json").write_text(json.dumps({key: f"Clip {i}."}))
        (tmp_path / f"corpus/{i}.wav").write_bytes(wav(bytes(4800)))
    out = tmp_path / "rows"
    builder, corpus = str(tmp_path / "trusting_toys.py"), str(tmp_path / "corpus")
    arguments = ["build", builder, "transcription", "--data-dir", corpus]
    assert main([*arguments, "--out", str(out), "--max-skipped", "0.5"]) == 0
    rows = read_rows(out, "transcription")
    assert [(row["clip_id"], row["transcript"]) for row in rows] == [
        ("toys/0/0", "Clip 0."),
        ("toys/2/0", "Clip 2."),
    ]
    (line,) = read_skipped(out)
    assert (line["file"], line["reason"], line["clip_id"]) == ("1.json", "unreadable_metadata", None)
    assert line["detail"].startswith(
        "found KeyError: 'text' while trusting_toys read it (trusting_toys.py, line "
    )
    assert " ".join(capfd.readouterr().out.split()).count("unreadable metadata files, of 3 1") == 1
    assert main([*arguments, "--out", str(tmp_path / "strict")]) == 1, "a third is too much by default"


def test_a_reader_that_raises_while_it_lists_is_told_in_one_line_with_its_own() -> None:
    class Careless(ToyReader):
        def units(self, entries: list[Entry]) -> Listing[str]:
            raise KeyError(entries[0].path)

    careless, corpus = Careless(Corpus(root="/"), lambda: None, TASKS["ttt"]), Corpus(root="corpora/toys")
    entries = [Entry("a.csv", 3, "")]
    with pytest.raises(
        UsageError, match=r"corpora/toys: found KeyError: 'a.csv' while toys listed it \(test_reader"
    ):
        list_units(careless, corpus, entries, "toys")
    assert list_units(reader(), corpus, entries, "toys").contents == "toys"
