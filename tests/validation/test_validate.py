"""Each promise that validate checks: it holds on what a build wrote, and a broken one is named."""

import io
import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from toys.audio import wav
from toys.building import build_rows
from toys.building import made_up
from toys.samples import DOCUMENTED
from toys.samples import SAMPLE_OF
from toys.samples import XTTS

import speechrows
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.rows.schema import ARROW_SCHEMA
from speechrows.validation.folder import NameHashes
from speechrows.validation.sound import is_plainly_sound
from speechrows.validation.sound import sound
from speechrows.validation.validate import validate

SHARD = "data/ttt/train/band_1/ttt-train-1-00000.parquet"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("validate") / "rows"
    for task in ("ttt", "transcription", "response"):
        build_rows(XTTS, out, task)
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "rows"))


@pytest.mark.parametrize("shape", ["published", "documented", "table"])
def test_validate_is_green_on_what_was_built_from_every_shape(shape: str, xtts: Path, tmp_path: Path) -> None:
    if shape == "table":
        for file in (xtts / "data").rglob("*.json"):
            file.unlink()
    for task in ("ttt", "transcription", "response"):
        build_rows(
            DOCUMENTED if shape == "documented" else xtts, tmp_path / "out", task, validation_fraction=0.4
        )
    report = validate(str(tmp_path / "out"))
    assert report.ok, str(report)
    assert report.checked["rows"] == {"published": 42, "documented": 25, "table": 42}[shape]


def spoil(folder: Path, at: int, change: Callable[[dict[str, Any]], None], shard: str | Path = SHARD) -> str:
    """Change one row of a shard, the ttt one as a rule; its row id as it was."""
    rows = pq.read_table(folder / shard).to_pylist()
    row_id = rows[at]["row_id"]
    change(rows[at])
    pq.write_table(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA), folder / shard)
    return row_id


def with_audio(data: bytes, **says: int) -> Callable[[dict[str, Any]], None]:
    return lambda row: row.update(audio={"bytes": data, "path": "a.wav"}, **says)


def with_samples(change: Callable[[np.ndarray], None]) -> Callable[[dict[str, Any]], None]:
    """The row's own samples, changed in place and stored as float WAV."""

    def apply(row: dict[str, Any]) -> None:
        samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        change(samples)
        row["audio"] = {"bytes": wav(samples, subtype="FLOAT"), "path": "a.wav"}

    return apply


def first(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda row: row[name].__setitem__(0, value)


def extend_ids(row: dict[str, Any]) -> None:
    row["input_ids"] = row["input_ids"] + [row["input_ids"][-1]]
    row["labels"] = row["labels"] + [-100]


def drop_a_placeholder(row: dict[str, Any]) -> None:
    at = row["input_ids"].index(258)
    row["input_ids"] = row["input_ids"][:at] + row["input_ids"][at + 1 :] + [257]


Broken = tuple[str, Callable[[dict[str, Any]], None]]  # a check, and what breaks its promise in a row
BROKEN: list[Broken] = [
    ("required fields", lambda row: row.update(transcript=None)),
    ("required fields", lambda row: row.update(role="narrator")),
    ("required fields", lambda row: row.update(clip_id="elsewhere/0")),
    ("audio decodes", with_audio(b"RIFFnonsense")),
    ("audio decodes", lambda row: row["audio"].update(path="a.flac")),
    ("audio length", lambda row: row.update(num_samples=row["num_samples"] + 1)),
    ("audio length", lambda row: row.update(sampling_rate=16000)),
    ("finite audio", with_samples(lambda samples: samples.__setitem__(5, np.nan))),
    ("silence", with_samples(lambda samples: samples.fill(0))),
    ("silence", with_audio(wav(np.array([[0.5, -0.5]] * 900)), num_samples=900)),  # to a model, which mixes
    ("audio decodes", with_audio(wav(b"\0\1" * 450) * 2, num_samples=450)),  # of which readers read half
    ("clipping", with_samples(lambda samples: np.clip(samples * 1e4, -1, 1, out=samples))),
    ("padding", extend_ids),
    ("padding", lambda row: row["input_ids"].__setitem__(-1, 7)),
    ("padding", lambda row: row.update(num_tokens=row["num_tokens"] + 64)),
    ("labels align", lambda row: row.update(labels=row["labels"][:-1])),
    ("labels align", first("labels", 3)),
    ("target decodes", lambda row: row.update(labels=[-100] * len(row["labels"]))),
    ("target decodes", lambda row: row["messages"][1].update(content="something else")),
    ("placeholders", drop_a_placeholder),
    ("messages", lambda row: row["messages"][0].update(content="<audio> <audio>")),
    ("required fields", lambda row: row["messages"].clear()),
    ("messages", lambda row: row.update(transcript="something else")),
    ("messages", lambda row: row.update(text="nothing")),
    ("system", lambda row: row.update(system=" Be brief.")),
    ("rendering", lambda row: row.update(text=row["text"] + " and more")),
    ("rendering", lambda row: row["input_ids"].__setitem__(0, 999_999)),
    ("rendering", lambda row: row["labels"].__setitem__(0, row["input_ids"][0])),
    ("rendering", lambda row: row["labels"].__setitem__(10, row["input_ids"][10])),  # an <audio>
    ("required fields", lambda row: row.update(input_ids=None)),
    ("required fields", lambda row: row.update(audio=None)),
    ("required fields", lambda row: row.update(emotion="enthusiastic")),
]


def named_wrong(built: Path, shard: Path, broken: list[Broken], tmp_path: Path) -> list[str]:
    """Break one promise in a row each, as many at once as there are rows; what validate does not name."""
    missed: list[str] = []
    rows = pq.read_table(built / shard).to_pylist()
    for part in range(0, len(broken), len(rows)):
        folder = Path(shutil.copytree(built, tmp_path / str(part)))
        spoiled = deepcopy(rows)
        for (_, change), row in zip(broken[part:], spoiled, strict=False):
            change(row)
        pq.write_table(pa.Table.from_pylist(spoiled, schema=ARROW_SCHEMA), folder / shard)
        report = validate(str(folder))
        for (check, _), row in zip(broken[part:], rows, strict=False):
            if row["row_id"] not in {where for where, _ in report.failures.get(check, [])}:
                missed.append(f"{check} of {row['row_id']} in {report}")
    return missed


def test_a_broken_promise_is_named_with_its_row(built: Path, tmp_path: Path) -> None:
    assert not named_wrong(built, Path(SHARD), BROKEN, tmp_path)


@pytest.mark.parametrize("change", [{"turn_number": 7}, {"num_turns": 9}, {"conversation_tokens": 64}])
def test_a_conversation_that_is_broken_is_named(change: dict[str, int], copy: Path) -> None:
    row_id = spoil(copy, 0, lambda row: row.update(change))
    assert row_id in {where for where, _ in validate(str(copy)).failures["conversations"]}


def test_a_system_prompt_that_a_conversation_does_not_begin_with_is_named(copy: Path) -> None:
    row_id = spoil(copy, 0, lambda row: row.update(system="Be brief."))
    failures = validate(str(copy)).failures
    assert row_id in {where for where, _ in failures["rendering"]}
    assert "different system prompts" in failures["conversations"][0][1]


def test_a_row_id_that_comes_twice_is_named(copy: Path) -> None:
    rows = pq.read_table(copy / SHARD).to_pylist()
    spoil(copy, 1, lambda row: row.update(row_id=rows[0]["row_id"]))
    index = pq.read_table(copy / "index/ttt/train.parquet")
    ids = [rows[0]["row_id"]] * 2 + index["row_id"].to_pylist()[2:]
    pq.write_table(index.set_column(0, "row_id", pa.array(ids)), copy / "index/ttt/train.parquet")
    assert validate(str(copy)).failures["unique row ids"][0][0] == rows[0]["row_id"]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with codes, with answers, and without `<audio>`: a folder each."""
    out = tmp_path_factory.mktemp("others")
    build_rows(SAMPLE_OF["omni_tasks"], out / "s2s_mimi", "s2s_mimi", builder="omni_tasks")
    dailytalk = SAMPLE_OF["dailytalk_usdm"]
    build_rows(dailytalk, out / "rows", "transcription", builder="dailytalk_usdm")
    for task, kind in (("usdm", "units"), ("sift_s", "sift_s")):
        generated = [made_up(out / "rows", kind, out / "generated" / kind)]
        build_rows(dailytalk, out / task, task, builder="dailytalk_usdm", generated=generated)
    build_rows(SAMPLE_OF["chat_json"], out / "chat", "chat", builder="chat_json")
    for task in ("s2s_mimi", "usdm", "sift_s", "chat"):
        assert validate(str(out / task), allow=("silence", "clipping")).ok
    return out


def supervise_nothing_of(text: str) -> Callable[[dict[str, Any]], None]:
    """Mask the first supervised token, as if it were of another segment."""

    def change(row: dict[str, Any]) -> None:
        assert text in row["text"]
        at = next(i for i, label in enumerate(row["labels"]) if label != -100)
        row["labels"][at] = -100

    return change


OTHERS: dict[str, list[Broken]] = {
    "s2s_mimi": [
        ("codes", lambda row: row.update(codec=None, codec_targets=None)),
        ("codes", lambda row: row.update(codec=None)),
        ("codes", lambda row: row["codec_targets"][0].__setitem__(0, 2048)),
        ("codes", lambda row: row["codec_targets"].pop()),
        ("codes", lambda row: row["codec_targets"][3].pop()),
    ],
    "sift_s": [
        ("codes", lambda row: row.update(codec="mimi", codec_targets=[[1]] * 8)),
        ("required fields", lambda row: row.update(gender="m")),
        ("rendering", supervise_nothing_of("Sounds like")),
        ("target decodes", lambda row: row["messages"][1].update(content="Sounds unlike")),
    ],
    "usdm": [
        ("rendering", supervise_nothing_of("### Agent")),
        ("rendering", lambda row: row["codec_targets"][0].__setitem__(0, 9_999)),
        ("rendering", lambda row: row.update(transcript="another")),
        ("rendering", lambda row: row.update(text=row["text"].replace("<|unit", "<|unit99999", 1))),
        ("placeholders", lambda row: row["input_ids"].__setitem__(0, 258)),
        ("codes", lambda row: row.update(codec=None, codec_targets=None)),
        ("system", lambda row: row.update(system="Be brief.")),
    ],
    "chat": [  # of a clip, of text, of both, and two of text
        ("messages", lambda row: row["messages"][0].update(content="<audio> <audio>")),
        ("messages", lambda row: row["messages"][0].update(content="<audio>")),
        ("rendering", lambda row: row["messages"][0].update(content="the inn <audio>")),
        ("messages", lambda row: row["messages"][0].update(content="")),
        ("required fields", lambda row: row.update(num_samples=5)),
    ],
}


@pytest.mark.parametrize("task", OTHERS)
def test_a_broken_promise_of_codes_answers_and_scripts_is_named_with_its_row(
    task: str, others: Path, tmp_path: Path
) -> None:
    (shard,) = (others / task / "data" / task / "train").glob("*.parquet")
    assert not named_wrong(others / task, shard.relative_to(others / task), OTHERS[task], tmp_path)


def test_a_missing_turn_0_and_swapped_turns_are_named(copy: Path) -> None:
    rows = pq.read_table(copy / SHARD).to_pylist()
    rows = [rows[2], rows[1], rows[0], *rows[3:4], *rows[5:]]
    pq.write_table(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA), copy / SHARD)
    failures = validate(str(copy)).failures
    assert len(failures["conversations"]) >= 2
    assert "index" in failures


def test_a_bit_that_rots_inside_a_clip_is_named_with_its_file_row_group_and_column(copy: Path) -> None:
    index = pq.read_table(copy / "index/ttt/train.parquet").to_pylist()[1]
    flip_a_bit(copy / index["shard"], index["audio_offset"] + index["audio_length"] // 2)
    report = validate(str(copy))
    ((where, detail),) = report.failures["checksums"]
    assert (where, set(report.failures)) == (index["shard"], {"checksums"})
    assert detail.startswith("row group 0, column audio: its bytes are not those that were written")
    assert "shards without checksums" not in report.checked
    with pytest.raises(ShortfallError, match=rf"{index['shard']}: row group 0: its bytes are not those"):
        list(speechrows.load(str(copy), "ttt", budget_seconds=60, verify_checksums=True))
    assert list(speechrows.load(str(copy), "response", budget_seconds=60, verify_checksums=True))


def test_a_folder_whose_pages_carry_no_checksums_is_read_and_told(copy: Path) -> None:
    folder = Path(shutil.copytree(Path(__file__).parents[1] / "formats/v0_1_0/folder", copy / "old"))
    report = validate(str(folder))
    assert report.ok
    assert report.checked["shards without checksums"] == len([*folder.glob("data/**/*.parquet")])
    with pytest.raises(ShortfallError, match="verify_checksums: found pages without checksums"):
        next(iter(speechrows.load(str(folder), "ttt", budget_seconds=600, verify_checksums=True)))


def flip_a_bit(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 16
    file.write_bytes(data)


def test_a_replaced_shard_is_named(copy: Path) -> None:
    table = pq.read_table(copy / SHARD)
    pq.write_table(table, copy / SHARD, compression="none")
    assert SHARD in {where for where, _ in validate(str(copy)).failures["index"]}


@pytest.mark.parametrize(
    ("name", "check"), [(SHARD, "index"), ("README.md", "card"), ("skipped.jsonl", "ledger")]
)
@pytest.mark.parametrize("spoil_file", [Path.unlink, lambda file: file.write_bytes(b"half")])
def test_a_missing_or_half_written_file_is_named(
    name: str, check: str, spoil_file: Callable[[Path], Any], copy: Path
) -> None:
    spoil_file(copy / name)
    report = validate(str(copy))
    assert name in {where for where, _ in report.failures[check]}, str(report)


def test_a_parquet_that_no_index_names_is_named(copy: Path) -> None:
    shutil.copy(copy / SHARD, (copy / SHARD).with_name("00001.parquet"))
    assert "00001.parquet" in str(validate(str(copy)).failures["card"])


def test_a_ledger_that_does_not_add_up_is_named(copy: Path) -> None:
    line = {"task": "ttt", "clip_id": "a/0", "reason": "missing", "detail": "", "file": ""}
    (copy / "skipped.jsonl").write_text(json.dumps(line) + "\n")
    assert "ledger" in validate(str(copy)).failures


def test_a_card_whose_patterns_or_sums_are_wrong_is_named(copy: Path) -> None:
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(card.replace("num_examples: 17", "num_examples: 16", 1))
    assert "card" in validate(str(copy)).failures
    (copy / "README.md").write_text(card.replace("band_1/*.parquet", "band_2/*.parquet", 1))
    assert "card" in validate(str(copy)).failures


def test_allowed_checks_are_told_but_do_not_fail(copy: Path) -> None:
    spoil(copy, 0, with_samples(lambda samples: samples.fill(0)))
    report = validate(str(copy), allow=["silence", "index", "audio length"])
    assert report.ok
    assert report.counts["silence"] == 1
    assert "silence: 1 (allowed)" in str(report)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found no index"):
        validate(str(tmp_path))


def test_the_report_is_the_same_whatever_the_number_of_processes(copy: Path) -> None:
    shards = sorted(path.relative_to(copy) for path in (copy / "data").rglob("*.parquet"))
    assert len(shards) >= 3
    for at, shard in enumerate(shards):
        spoil(copy, at, lambda row: row.update(transcript="something else"), shard)
        spoil(copy, at + 1, with_samples(lambda samples: samples.fill(0)), shard)
    spoil(copy, 3, lambda row: row.update(row_id=None), shards[0])
    one, two = validate(str(copy)), validate(str(copy), num_proc=2)
    assert one.to_json() == two.to_json()
    assert str(one) == str(two)
    assert one.counts["silence"] == len(shards)
    with pytest.raises(UsageError, match="num_proc: found 0, expected at least 1"):
        validate(str(copy), num_proc=0)


def test_names_that_come_twice_are_known_whatever_process_saw_them() -> None:
    hashes, other = NameHashes(), NameHashes()
    for name in ("a", "b", "\ud800"):
        hashes.add(name)
    other.add("b")
    hashes.extend(other)
    assert hashes.repeated() == {NameHashes.of("b")}
    assert NameHashes.of("a") == 3405396810240292928


@pytest.mark.parametrize(
    "clip",
    [
        wav,
        lambda x: wav(x[:1]),
        lambda x: wav(x * 0),
        lambda x: wav(np.sign(x)),
        lambda x: wav(x, 8_000),
        lambda x: wav(x, subtype="PCM_24"),
        lambda x: wav(x, subtype="FLOAT"),
        lambda x: wav(np.stack([x, x], axis=1)),
        lambda x: wav(np.stack([x, -x], axis=1)),  # of which a model hears silence
        lambda x: wav(x) + wav(x),
        lambda x: wav(x)[:-3],
        lambda x: wav(x) + b"more",
        lambda x: wav(x)[:44],
        lambda x: wav(b"") + b"\0\0",
        lambda x: wav(x)[:30],
        lambda x: b"",
        lambda x: b"no audio",
    ],
)
@pytest.mark.parametrize("says", [{}, {"num_samples": 399}, {"sampling_rate": 44_100}, {"sampling_rate": 9}])
def test_a_clip_that_passes_undecoded_would_pass_decoded(clip: Any, says: dict[str, int]) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 400).astype(np.float32)
    data = clip(samples)
    if says == {"sampling_rate": 9} and len(data) > 44:
        data = data[:24] + (9).to_bytes(4, "little") + data[28:]
    row = {"audio": {"bytes": data, "path": "a.wav"}, "target_audio": None, "row_id": "x"}
    row |= {"num_samples": 400 if len(data) != 46 else 0, "sampling_rate": 24_000, **says}
    assert not (is_plainly_sound(row) and sound(row))
    if data == wav(samples):
        assert is_plainly_sound(row) == (not says)
