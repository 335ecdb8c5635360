"""Every fault of a corpus in a real build: which rows remain, what is skipped, and for what reason."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import load_dataset
from toys.building import build_rows
from toys.building import published_files
from toys.building import read_rows
from toys.building import read_skipped
from toys.samples import DOCUMENTED
from toys.samples import XTTS

from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.rows.ledger import LedgerSummary
from speechrows.validation.validate import validate

PUBLISHED = "dialogues_phi4-mini/education_1_4"  # 4 turns of the 17
TOLD = "dialogues_demo/dialogue_001"  # 4 turns of the 10
TURN = 2  # the one that is spoiled
INCOMPLETE = "dialogue_incomplete"


class Told:
    """A dialogue of a copied sample, to be spoiled."""

    def __init__(self, corpus: Path, stem: str) -> None:
        self.corpus = corpus
        self.json = corpus / "data" / f"{stem}.json"
        self.folder = corpus / "data" / stem
        self.found = json.loads(self.json.read_text())
        self.turns: list[dict[str, Any]] = self.found.get("conversation", self.found.get("turns"))

    def clip(self, turn: int = TURN) -> Path:
        name = self.turns[turn].get("audio_file")
        return self.folder / name if name else next(self.folder.glob(f"segments/{turn + 1:03}_*.wav"))

    def set(self, **values: Any) -> None:
        """Change keys of the spoiled turn."""
        self.turns[TURN].update(values)
        self.save()

    def save(self) -> None:
        self.json.write_text(json.dumps(self.found))

    def metadata(self, old: str, new: str) -> None:
        path = self.folder / "metadata.tsv"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


class Outcome(NamedTuple):
    rows: set[str]
    skipped: list[tuple[str | None, str]]
    lines: list[dict[str, Any]]
    summary: LedgerSummary


def build(corpus: Path, out: Path, config: str) -> Outcome:
    summary = build_rows(corpus, out, config)
    rows, lines = read_rows(out, config), read_skipped(out)
    assert summary.rows == len(rows)
    assert summary.items == len(rows) + sum(summary.skipped.values()) + sum(summary.left_out.values())
    assert sum(line["clip_id"] is not None for line in lines) == sum(summary.skipped.values())
    for line in lines:
        assert line["file"]
        assert str(corpus) not in json.dumps(line)
        assert " at 0x" not in line["detail"]
    return Outcome(
        rows={row["clip_id"] for row in rows},
        skipped=[(line["clip_id"], line["reason"]) for line in lines],
        lines=lines,
        summary=summary,
    )


def clip_ids(corpus: Path, *, beside: str = "") -> set[str]:
    """Those of a sample, but for one dialogue."""
    return {
        f"{corpus.name}/{path.relative_to(corpus / 'data').with_suffix('')}/{i}"
        for path in (corpus / "data").rglob("*.json")
        if path.with_suffix("").name != beside.rpartition("/")[2]
        for i in range(len(list(path.with_suffix("").glob("segments/*"))))
    }


ALL = {XTTS.name: clip_ids(XTTS), DOCUMENTED.name: clip_ids(DOCUMENTED)}


def costs_one_turn(told: Told, out: Path, reason: str, detail: str, turn: int = TURN) -> None:
    """ttt loses the dialogue by one fault, transcription its turn."""
    corpus = told.corpus.name
    conversation = f"{corpus}/{told.folder.relative_to(told.corpus / 'data')}"
    mine = [clip_id for clip_id in sorted(ALL[corpus]) if clip_id.startswith(f"{conversation}/")]
    faulty = f"{conversation}/{turn}"
    assert faulty in mine

    ttt = build(told.corpus, out / "ttt", "ttt")
    assert ttt.rows == ALL[corpus] - set(mine)
    assert sorted(ttt.skipped) == [(one, reason if one == faulty else INCOMPLETE) for one in mine]
    transcription = build(told.corpus, out / "transcription", "transcription")
    assert transcription.rows == ALL[corpus] - {faulty}
    assert transcription.skipped == [(faulty, reason)]
    for outcome in (ttt, transcription):
        line = next(line for line in outcome.lines if line["reason"] == reason)
        assert detail in line["detail"], line["detail"]


def header_of_zero_samples(told: Told) -> None:
    head = struct.pack("<HHIIHH", 1, 1, 24000, 48000, 2, 16)
    told.clip().write_bytes(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + head + b"data\0\0\0\0")


def cut(told: Told) -> None:
    told.clip().write_bytes(told.clip().read_bytes()[:956])


def symlink_out(told: Told) -> None:
    clip, secret = told.clip(), told.corpus.parent / "secret.wav"
    clip.rename(secret)
    clip.symlink_to(secret)


def become_folder(told: Told) -> None:
    clip = told.clip()
    clip.unlink()
    clip.mkdir()
    (clip / "inside.wav").write_bytes(b"x")


def second_file(told: Told) -> None:
    """Two files for one number, of which metadata.tsv names none."""
    told.clip().with_name("003_LLM1_happy.wav").write_bytes(told.clip().read_bytes())
    (told.folder / "metadata.tsv").unlink()


def raw_text(told: Told, raw: bytes) -> None:
    """Bytes in the text of a turn that no JSON writer would write."""
    told.set(text="@@@")
    told.json.write_bytes(told.json.read_bytes().replace(b"@@@", raw))


Spoil = Callable[[Told], object]

CLIPS: dict[str, tuple[Spoil, str, str]] = {
    "empty": (lambda t: t.clip().write_bytes(b""), "empty", "the file is empty; expected audio"),
    "truncated": (cut, "truncated", "is 956 bytes, its header promises"),
    "undecodable": (lambda t: t.clip().write_bytes(b"\0" * 999), "undecodable", "expected WAV, FLAC"),
    "a page": (lambda t: t.clip().write_text("<html>moved"), "undecodable", "b'<html>mo'"),
    "zero samples": (header_of_zero_samples, "zero_samples", "holds no sample; expected at least one"),
    "symlink out": (symlink_out, "refused_path", "a symlink that leads out of the corpus; copy the file"),
}  # fmt: skip

TEXTS: dict[str, tuple[Spoil, str, str]] = {
    "no speaker": (lambda t: t.set(speaker=None), "bad_speaker", "found speaker None, expected one of"),
    "third speaker": (lambda t: t.set(speaker="Narrator"), "bad_speaker", "found speaker 'Narrator', exp"),
    "list of speakers": (lambda t: t.set(speaker=["A"]), "bad_speaker", "found speaker ['A'], expected"),
    "text null": (lambda t: t.set(text=None), "bad_text", "found text None, expected a string"),
    "text empty": (lambda t: t.set(text=""), "empty_text", "the text is empty; expected words"),
    "text blank": (lambda t: t.set(text=" \n\t\u00a0"), "empty_text", "the text is empty; expected words"),
    "text invisible": (lambda t: t.set(text="\u200b\ufeff \u202e\x00"), "empty_text", "expected words"),
    "not UTF-8": (lambda t: raw_text(t, b"caf\xe9"), "bad_text", r"found text 'caf\udce9', expected"),
    "turn is a string": (lambda t: (t.turns.__setitem__(TURN, "hm"), t.save()), "bad_speaker", "None"),
}  # fmt: skip

NUMBERS: dict[str, tuple[Spoil, str, str]] = {
    "string": (lambda t: t.set(turn_id="two"), "bad_number", "found turn number 'two', expected a whole"),
    "negative": (lambda t: t.set(turn_id=-1), "bad_number", "found turn number -1, expected a whole number"),
}  # fmt: skip

NAMES: dict[str, tuple[Spoil, str, str]] = {
    "missing": (lambda t: t.clip().unlink(), "missing", "there is no such file"),
    "folder": (become_folder, "undecodable", "is a folder; expected a file"),
    "up": (lambda t: t.set(audio_file="../../../../secret.wav"), "refused_path", "leads out of the corpus"),
    "absolute": (lambda t: t.set(audio_file="/etc/passwd"), "refused_path", "found '/etc/passwd', which"),
    "address": (lambda t: t.set(audio_file="http://x/a.wav"), "refused_path", "found 'http://x/a.wav'"),
    "NUL": (lambda t: t.set(audio_file="a\0.wav"), "refused_path", r"found 'a\x00.wav', expected a name"),
    "surrogate": (lambda t: t.set(audio_file="\ud800"), "refused_path", r"found '\ud800', expected a name"),
    "long": (lambda t: t.set(audio_file="a" * 5000), "unreadable", "File name too long"),
    "number": (lambda t: t.set(audio_file=7), "bad_number", "found the name 7, expected one clip for turn 2"),
    "nothing": (lambda t: t.set(audio_file=""), "undecodable", "is a folder; expected a file"),
}  # fmt: skip

SEGMENTS: dict[str, tuple[Spoil, str, str]] = {
    "missing": (lambda t: t.clip().unlink(), "missing", "found none, expected one clip for turn 2"),
    "folder": (become_folder, "missing", "found none, expected one clip for turn 2"),
    "two files": (second_file, "bad_number", "found 003_LLM1_happy.wav, 003_LLM1_neutral.wav, expected one"),
    "two speakers": (lambda t: t.set(speaker="LLM2"), "metadata_disagrees", "found speaker 'LLM2', expected"),
    "two texts": (lambda t: t.set(text="Words."), "metadata_disagrees", "found text 'Words.', expected its"),
    "metadata's text": (lambda t: t.metadata("And me", "Or mi"), "metadata_disagrees", "Or mi"),
    "metadata's speaker": (
        lambda t: t.metadata("003_LLM1_neutral.wav\tLLM1", "003_LLM1_neutral.wav\tLLM2"),
        "metadata_disagrees",
        "found speaker 'LLM1', expected its clip's, which is 'LLM2'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", CLIPS)
def test_a_bad_clip_costs_its_turn(xtts: Path, fault: str, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    spoil, reason, detail = CLIPS[fault]
    spoil(told)
    costs_one_turn(told, tmp_path, reason, detail)


@pytest.mark.parametrize("fault", TEXTS)
def test_a_bad_text_or_speaker_costs_its_turn(documented: Path, fault: str, tmp_path: Path) -> None:
    told = Told(documented, TOLD)
    (told.folder / "metadata.tsv").unlink()  # so that the text alone is at fault
    spoil, reason, detail = TEXTS[fault]
    spoil(told)
    costs_one_turn(told, tmp_path, reason, detail)


@pytest.mark.parametrize("fault", NUMBERS)
def test_a_bad_turn_number_costs_its_turn(documented: Path, fault: str, tmp_path: Path) -> None:
    told = Told(documented, TOLD)
    spoil, reason, detail = NUMBERS[fault]
    spoil(told)
    costs_one_turn(told, tmp_path, reason, detail)


@pytest.mark.parametrize("fault", NAMES)
def test_a_bad_audio_file_costs_its_turn(documented: Path, fault: str, tmp_path: Path) -> None:
    told = Told(documented, TOLD)
    spoil, reason, detail = NAMES[fault]
    spoil(told)
    costs_one_turn(told, tmp_path, reason, detail)


@pytest.mark.parametrize("fault", SEGMENTS)
def test_a_bad_segment_costs_its_turn(xtts: Path, fault: str, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    spoil, reason, detail = SEGMENTS[fault]
    spoil(told)
    costs_one_turn(told, tmp_path, reason, detail)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files of any mode")
def test_an_unreadable_clip_costs_its_turn(xtts: Path, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    told.clip().chmod(0)
    costs_one_turn(told, tmp_path, "unreadable", "Permission denied")


def test_the_first_of_several_faults_is_told_and_the_others_are_not_lost(xtts: Path, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    told.clip(1).write_bytes(b"")
    told.clip(3).unlink()
    ttt = build(xtts, tmp_path / "a", "ttt")
    reasons = [reason for _, reason in ttt.skipped]
    assert reasons == [INCOMPLETE, "empty", INCOMPLETE, INCOMPLETE]
    transcription = build(xtts, tmp_path / "b", "transcription")
    assert [reason for _, reason in transcription.skipped] == ["empty", "missing"]
    assert len(transcription.rows) == 15


def same_rows(corpus: Path, out: Path) -> None:
    """Nothing is skipped."""
    for config in ("ttt", "transcription"):
        outcome = build(corpus, out / config, config)
        assert (outcome.rows, outcome.lines) == (ALL[corpus.name], [])


def test_unknown_keys_and_files_pass(xtts: Path, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    told.found["extra"] = {"a": [1]}
    told.set(mood="?", speaker_id=3)
    (told.folder / "notes.txt").write_text("x")
    (told.folder / "segments" / "003_notes.txt").write_text("x")
    same_rows(xtts, tmp_path)


def test_a_missing_metadata_file_passes(xtts: Path, tmp_path: Path) -> None:
    for path in xtts.rglob("metadata.tsv"):
        path.unlink()
    same_rows(xtts, tmp_path)


def test_of_two_files_for_a_number_the_one_that_metadata_names_is_read(xtts: Path, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    told.clip().with_name("003_LLM1_happy.wav").write_bytes(b"another")
    same_rows(xtts, tmp_path)


def test_turns_listed_out_of_order_are_sorted_and_their_roles_stay(documented: Path, tmp_path: Path) -> None:
    build_rows(documented, tmp_path / "before")
    told = Told(documented, TOLD)
    told.turns.reverse()
    told.save()
    same_rows(documented, tmp_path)
    assert read_rows(tmp_path / "ttt") == read_rows(tmp_path / "before")


def test_a_domain_that_is_no_text_is_unknown(documented: Path, tmp_path: Path) -> None:
    for name, domain in (("dialogue_001", b'["a"]'), ("dialogue_002", b'"caf\xe9"')):
        path = Told(documented, f"dialogues_demo/{name}").json
        before = path.read_bytes()
        path.write_bytes(
            before.replace(b'"domain"', b'"old"').replace(b"{", b'{"domain": ' + domain + b",", 1)
        )
    same_rows(documented, tmp_path)
    assert {row["domain"] for row in read_rows(tmp_path / "ttt")} == {None}


@pytest.mark.parametrize("text", ["SPEECHROWSAUDIO SPEECHROWSTARGET {transcript}", "word " * 20_000])
def test_any_text_of_words_passes(documented: Path, tmp_path: Path, text: str) -> None:
    told = Told(documented, TOLD)
    (told.folder / "metadata.tsv").unlink()
    told.set(text=text)
    same_rows(documented, tmp_path)
    row = next(r for r in read_rows(tmp_path / "ttt") if r["clip_id"].endswith(f"{TOLD}/{TURN}"))
    assert row["transcript"] == text.strip()
    assert row["messages"][1]["content"] == text.strip()


@pytest.mark.parametrize(
    ("numbers", "ttt", "kept", "lost"),
    [
        ([0, 1, 1, 3], "found turn number 1, expected 2", {0, 1, 3}, [1]),
        ([0, 1, 3, 4], "found turn number 3, expected 2", {0, 1, 3, 4}, []),
        ([1, 2, 3, 4], "found turn number 1, expected 0", {1, 2, 3, 4}, []),
    ],
    ids=["repeats", "skips", "from one"],
)
def test_repeated_numbers_cost_their_turn_and_gaps_a_whole_dialogue(
    documented: Path, tmp_path: Path, numbers: list[int], ttt: str, kept: set[int], lost: list[int]
) -> None:
    told = Told(documented, TOLD)
    for turn, number in zip(told.turns, numbers, strict=True):
        turn["turn_id"] = number
    told.save()
    conversation, others = f"{documented.name}/{TOLD}", clip_ids(DOCUMENTED, beside=TOLD)
    whole = build(documented, tmp_path / "ttt", "ttt")
    assert whole.rows == others
    assert sorted(reason for _, reason in whole.skipped) == ["bad_number", *[INCOMPLETE] * 3]
    assert ttt in next(line["detail"] for line in whole.lines if line["reason"] == "bad_number")
    by_turn = build(documented, tmp_path / "transcription", "transcription")
    assert by_turn.rows == others | {f"{conversation}/{number}" for number in kept}
    assert by_turn.skipped == [(f"{conversation}/{number}", "bad_number") for number in lost]


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "half": (b'{"conversation": [{"speaker": "LLM1", "te', "found JSONDecodeError: Unterminated string"),
    "empty": (b"", "found JSONDecodeError: Expecting value"),
    "binary": (b"\xff\xfe\0\0", "found JSONDecodeError"),
    "list": (b'[{"speaker": "LLM1"}]', "found ValueError: list without a list of turns"),
    "other keys": (b'{"utterances": [], "id": 1}', "found ValueError: the keys 'utterances', 'id' without"),
    "no turn": (b'{"conversation": []}', "found ValueError: the keys 'conversation' without a list of turns"),
    "turns by name": (b'{"turns": {"0": {}}}', "found ValueError: the keys 'turns' without a list of turns"),
    "deep": (b"[" * 100_000, "found RecursionError"),
}


@pytest.mark.parametrize(
    ("fault", "config"), [*((fault, "ttt") for fault in UNREADABLE), ("half", "transcription")]
)
def test_an_unreadable_json_is_one_file_without_items(
    xtts: Path, tmp_path: Path, fault: str, config: str
) -> None:
    content, detail = UNREADABLE[fault]
    told = Told(xtts, PUBLISHED)
    told.json.write_bytes(content)
    outcome = build(xtts, tmp_path / "out", config)
    assert outcome.rows == clip_ids(XTTS, beside=PUBLISHED)
    assert outcome.skipped == [(None, "unreadable_metadata")]
    assert outcome.lines[0]["file"] == f"data/{PUBLISHED}.json"
    assert detail in outcome.lines[0]["detail"]
    assert outcome.lines[0]["detail"].endswith("; expected the JSON of a dialogue")
    assert (outcome.summary.items, outcome.summary.files, outcome.summary.unreadable_files) == (
        13,
        4,
        1,
    )


def test_a_json_that_is_a_symlink_out_of_the_corpus_is_not_read(xtts: Path, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    told.json.rename(tmp_path / "secret.json")
    told.json.symlink_to(tmp_path / "secret.json")
    outcome = build(xtts, tmp_path / "out", "ttt")
    assert outcome.rows == clip_ids(XTTS, beside=PUBLISHED)
    assert "a symlink that leads out of the corpus" in outcome.lines[0]["detail"]


def not_utf8(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"cell", b"\xe9\xff"))


def elsewhere(path: Path) -> None:
    path.rename(path.parents[4] / "secret.tsv")
    path.symlink_to(path.parents[4] / "secret.tsv")


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (not_utf8, "found UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe9"),
        (elsewhere, "a symlink that leads out of the corpus"),
    ],
)
def test_an_unreadable_metadata_file_is_counted_and_the_dialogue_stays(
    xtts: Path, tmp_path: Path, spoil: Callable[[Path], None], detail: str
) -> None:
    spoil(Told(xtts, PUBLISHED).folder / "metadata.tsv")
    for config in ("ttt", "transcription"):
        outcome = build(xtts, tmp_path / config, config)
        assert outcome.rows == ALL[XTTS.name]
        assert outcome.skipped == [(None, "unreadable_metadata")]
        assert outcome.lines[0]["file"] == f"data/{PUBLISHED}/metadata.tsv"
        assert detail in outcome.lines[0]["detail"]
        assert outcome.lines[0]["detail"].endswith("; expected tab-separated lines of UTF-8")


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_segments_that_are_a_symlink_are_refused(xtts: Path, tmp_path: Path, inside: bool) -> None:
    told = Told(xtts, PUBLISHED)
    place = (xtts if inside else tmp_path) / "elsewhere"
    (told.folder / "segments").rename(place)
    (told.folder / "segments").symlink_to(place)
    outcome = build(xtts, tmp_path / "out", "transcription")
    assert outcome.rows == clip_ids(XTTS, beside=PUBLISHED)
    mine = [f"{XTTS.name}/{PUBLISHED}/{i}" for i in range(4)]
    assert outcome.skipped == [(clip_id, "refused_path") for clip_id in mine]
    assert {line["detail"] for line in outcome.lines} == {
        "found a symlink in place of segments/, expected a folder"
    }


def test_a_file_name_that_is_no_utf8_costs_its_turn_or_its_dialogue(xtts: Path, tmp_path: Path) -> None:
    clip = Told(xtts, PUBLISHED).clip()
    (Told(xtts, PUBLISHED).folder / "metadata.tsv").unlink()
    os.rename(clip, os.fsencode(clip.parent) + b"/003_LLM1_\xff.wav")
    other = xtts / "data" / "dialogues_phi4-mini" / "travel_2_3.json"
    os.rename(other, os.fsencode(other.parent) + b"/\xff_2_3.json")
    outcome = build(xtts, tmp_path / "out", "transcription")
    assert outcome.skipped == [
        (None, "unreadable_metadata"),
        (f"{XTTS.name}/{PUBLISHED}/{TURN}", "refused_path"),
    ]
    assert len(outcome.rows) == 13


# The table


def table_of(corpus: Path, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    """The corpus with its table alone, of which some rows were changed."""
    for path in corpus.rglob("*.json"):
        path.unlink()
    path = next(corpus.rglob("*.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    change([row for row in rows if row["conversation_id"] == PUBLISHED])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    return path


@pytest.mark.parametrize(
    ("column", "value", "reason", "detail"),
    [
        ("segment_audio_path", None, "missing", "found none, expected one clip for turn 3"),
        ("segment_audio_path", "", "missing", "found none, expected one clip for turn 3"),
        ("segment_audio_path", "null", "missing", "found none, expected one clip for turn 3"),
        ("segment_audio_path", "gone.wav", "missing", "there is no such file"),
        ("segment_audio_path", "../../a.wav", "refused_path", "found '../../a.wav', which leads out"),
        ("segment_audio_path", "/etc/passwd", "refused_path", "found '/etc/passwd', which leads out"),
        ("segment_audio_path", f"{PUBLISHED}/segments/002_LLM2_neutral.wav", "metadata_disagrees", "'LLM2'"),
        ("turn_index", 0, "bad_number", "found turn number 0, expected a whole number from 1"),
        ("speaker", None, "bad_speaker", "found speaker None, expected one of LLM1, LLM2"),
        ("text", None, "bad_text", "found text None, expected a string"),
        ("text", " ", "empty_text", "the text is empty; expected words"),
    ],
)
def test_a_bad_row_of_the_table_costs_its_turn(
    xtts: Path, tmp_path: Path, column: str, value: Any, reason: str, detail: str
) -> None:
    told = Told(xtts, PUBLISHED)
    table_of(xtts, lambda rows: rows[TURN].update({column: value}))
    costs_one_turn(told, tmp_path, reason, detail)


def test_bytes_of_the_table_that_are_no_utf_8_cost_their_turn(xtts: Path, tmp_path: Path) -> None:
    told = Told(xtts, PUBLISHED)
    table_of(xtts, lambda rows: rows[TURN].update(text="caf? au lait"))
    path = next(xtts.rglob("*.parquet"))
    table = pq.read_table(path)
    raw = [text.encode().replace(b"f? ", b"f\xe9 ") for text in table["text"].to_pylist()]
    text = pa.array(raw, pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("text"), "text", text), path)
    costs_one_turn(told, tmp_path, "bad_text", r"found text 'caf\udce9 au lait', expected a string of UTF-8")


def test_rows_that_name_no_conversation_find_it_by_their_clips(xtts: Path, tmp_path: Path) -> None:
    table_of(xtts, lambda rows: [row.update(conversation_id=None) for row in rows])
    outcome = build(xtts, tmp_path / "ttt", "ttt")
    assert (outcome.rows, outcome.skipped) == (clip_ids(XTTS), [])


def test_a_table_without_its_columns_is_told_those_there_and_those_needed(xtts: Path, tmp_path: Path) -> None:
    path = table_of(xtts, lambda rows: None)
    pq.write_table(pq.read_table(path).select(["speaker", "text", "emotion"]), path)
    with pytest.raises(UsageError) as caught:
        build_rows(xtts, tmp_path / "out")
    assert str(caught.value) == (
        "data/train-00000-of-00001.parquet: has the columns speaker, text, emotion; expected "
        "conversation_id, turn_index, segment_audio_path too, as in the corpus' one-row-per-turn table"
    )


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"half a table", b"PAR1" + b"\xff" * 20 + b"\x14\0\0\0PAR1"]
)
def test_a_table_that_is_no_parquet_is_named(xtts: Path, tmp_path: Path, content: bytes) -> None:
    table_of(xtts, lambda rows: None).write_bytes(content)
    with pytest.raises(UsageError, match=r"data/train-00000-of-00001.parquet: found .*; expected parquet"):
        build_rows(xtts, tmp_path / "out")


# Folders, and builds that lose too much


@pytest.mark.parametrize("names", [(), ("song.mp3", "notes/readme.txt"), ("a.json",)])
def test_a_folder_of_something_else_is_refused_with_what_was_expected(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in names:
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).write_text("{}")
    with pytest.raises(UsageError) as caught:
        build_rows(corpus, tmp_path / "out")
    message = str(caught.value)
    assert "found no <config>/<dialogue>.json; 0 conversations in 0 tables" in message
    assert "expected DeepDialogue as it is published (https://huggingface.co/datasets/" in message


def test_too_many_faults_fail_with_the_table_and_a_rerun_that_allows_them_reuses_the_shards(
    xtts: Path, tmp_path: Path
) -> None:
    told = Told(xtts, PUBLISHED)
    told.clip().write_bytes(b"")
    with pytest.raises(ShortfallError) as caught:
        build_rows(xtts, tmp_path / "out", max_skipped=0.2)
    table = " ".join(str(caught.value).split())
    assert "4 of 17 items and 0 of 4 metadata files are faulty; expected at most 20.0%" in table
    assert "items 17 rows 13 skipped: dialogue_incomplete 3 skipped: empty 1" in table
    assert len(read_skipped(tmp_path / "out")) == 4
    assert not (tmp_path / "out" / "README.md").exists()

    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "data").rglob("*.parquet")}
    assert shards
    summary = build_rows(xtts, tmp_path / "out", max_skipped=0.24)
    assert summary.rows == 13
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    build_rows(xtts, tmp_path / "anew", max_skipped=1.0)
    assert published_files(tmp_path / "out") == published_files(tmp_path / "anew")


def test_too_many_unreadable_files_fail_too(xtts: Path, tmp_path: Path) -> None:
    Told(xtts, PUBLISHED).json.write_bytes(b"{")
    with pytest.raises(ShortfallError, match="0 of 13 items and 1 of 4 metadata files are faulty"):
        build_rows(xtts, tmp_path / "out", max_skipped=0.2)


def test_a_corpus_of_which_nothing_remains_fails_even_if_all_may_be_skipped(
    xtts: Path, tmp_path: Path
) -> None:
    for clip in xtts.rglob("segments/*.wav"):
        clip.write_bytes(b"")
    with pytest.raises(ShortfallError, match="no row was built"):
        build_rows(xtts, tmp_path / "out", max_skipped=1.0)


def test_metadata_with_stray_quotes_and_150_kb_of_text_costs_nothing(xtts: Path, tmp_path: Path) -> None:
    folder = xtts / "data" / PUBLISHED
    said = {"Mitosis": '"Mitosis', "Exactly": "Exactly " + "so " * 50_000}
    for path in (folder.with_suffix(".json"), folder / "metadata.tsv"):
        text = path.read_text("utf-8")
        for ours, theirs in said.items():
            quoted = theirs.replace('"', '\\"') if path.suffix == ".json" else theirs
            text = text.replace(f"{ours} ", f"{quoted} ").replace(f"{ours},", f"{quoted},")
        path.write_text(text, "utf-8")
    outcome = build(xtts, tmp_path / "ttt", "ttt")
    assert (outcome.rows, outcome.skipped) == (clip_ids(XTTS), [])


def test_what_lies_beside_clips_and_dialogues_is_not_taken_for_one(xtts: Path, tmp_path: Path) -> None:
    segments = xtts / "data" / PUBLISHED / "segments"
    clip = next(segments.glob("001_*.wav"))
    clip.with_suffix(".txt").write_text("i keep mixing up mitosis and meiosis")
    clip.with_suffix(".json").write_text("{}")
    (xtts / "data/dialogues_phi4-mini/._education_1_4.json").write_bytes(b"\0\5\x16\7")
    (xtts / ".cache/huggingface").mkdir(parents=True)
    (xtts / ".cache/huggingface/a.json").write_text("{}")
    outcome = build(xtts, tmp_path / "ttt", "ttt")
    assert (outcome.rows, outcome.skipped) == (clip_ids(XTTS), [])


def test_a_conversation_that_straddles_two_tables_is_whole(xtts: Path, tmp_path: Path) -> None:
    path = table_of(xtts, lambda rows: None)
    table = pq.read_table(path)
    pq.write_table(table[:6], path)
    pq.write_table(table[6:], path.with_name("train-00001-of-00002.parquet"))
    outcome = build(xtts, tmp_path / "ttt", "ttt")
    assert (outcome.rows, outcome.skipped) == (clip_ids(XTTS), [])


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_clips_of_every_format_build_validate_and_keep_their_bytes(
    suffix: str, xtts: Path, tmp_path: Path
) -> None:
    """Stereo PCM 24 at 44.1 kHz, FLAC, MP3 and Opus, each under the published names."""
    expected: dict[str, bytes] = {}
    shutil.rmtree(xtts / "data/dialogues_llama3-8B_cohere7B")
    for clip in sorted(xtts.rglob("segments/*.wav")):
        samples, rate = soundfile.read(clip, dtype="float32")
        place = clip.with_suffix(suffix)
        clip.unlink()
        if suffix == ".wav":
            soundfile.write(place, np.stack([samples, samples], 1), 44100, subtype="PCM_24")
        else:
            soundfile.write(place, samples, rate, **({"subtype": "OPUS"} if suffix == ".ogg" else {}))
        expected[f"{xtts.name}/{place.relative_to(xtts)}"] = place.read_bytes()
    for table in xtts.rglob("metadata.tsv"):
        table.unlink()
    for task in ("ttt", "response"):
        build_rows(xtts, tmp_path / "out", task)
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 7
    assert all(expected[row["source"]] == row["audio"]["bytes"] for row in rows)
    assert {Path(row["audio"]["path"]).suffix for row in rows} == {suffix.replace("ogg", "opus")}
    report = validate(str(tmp_path / "out"))
    assert report.ok, str(report)
    assert len(load_dataset(str(tmp_path / "out"), "stage_1", split="train", cache_dir=str(tmp_path))) == 7
