"""What omni_tasks.py promises: thirteen sources as rows, and every fault of theirs accounted for."""

import json
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toys.building import build_rows
from toys.building import open_reader
from toys.building import read_rows
from toys.building import read_skipped
from toys.samples import SAMPLES

from omni_tasks import CONFIGS
from omni_tasks import SIFT
from omni_tasks import SOURCES
from omni_tasks import OmniConfig
from omni_tasks import OmniReader
from omni_tasks import OmniTasks
from speechrows.builder import Column
from speechrows.builder import Listing
from speechrows.builder import Source
from speechrows.builder import SourceFile
from speechrows.builds.run import build as build_task
from speechrows.builds.sharding import plan_shards
from speechrows.corpora import parquet
from speechrows.corpora.folder import Corpus
from speechrows.corpora.traits import normalise
from speechrows.errors import ShortfallError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.rows.conversation import split_of
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import LedgerSummary
from speechrows.sidecar.columns import RECIPE
from speechrows.sidecar.columns import schema_of
from speechrows.types import Dialogue
from speechrows.types import Rule
from speechrows.types import Traits
from speechrows.types import UnreadableFile

HUB = SAMPLES / "hub"
MIX = Path(__file__).parents[1] / "mixes" / "omni.yaml"
BY_NAME = {source.name: source for source in SOURCES}
LOQUACIOUS = "speechbrain/LoquaciousSet/medium/train-00000-of-00001.parquet"
HEYSQUAD = "fixie-ai/HeySQuAD_human/data/train-00000-of-00001.parquet"
SIFTED = "mazesmazes/sift-audio-2/data/meld-00000-of-00001.parquet"
ACTED = "mazesmazes/sift-audio-2/data/crema_d-00000-of-00001.parquet"
MIMI = "mazesmazes/libritts-mimi/data/train-00000-of-00001.parquet"
MELD = "garam-icecream/MELD/data/train-00000-of-00001.parquet"
CREMA_D = "AbstractTTS/CREMA-D/data/train-00000-of-00001.parquet"
TESS = "AbstractTTS/TESS/data/train-00000-of-00001.parquet"
COMMON_VOICE = "fixie-ai/common_voice_17_0/en/train-00000-of-00001.parquet"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A copy of the sample that a test may spoil."""
    return Path(shutil.copytree(HUB, tmp_path / "hub"))


def only(tmp_path: Path, *files: str) -> Path:
    """A hub that holds these files of the sample alone."""
    for file in files:
        (tmp_path / "hub" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HUB / file, tmp_path / "hub" / file)
    return tmp_path / "hub"


def change(path: Path, **columns: Any) -> None:
    """Write a file anew with other cells, or types, in some columns; None drops one."""
    table = pq.read_table(path)
    for name, cells in columns.items():
        if cells is None:
            table = table.drop_columns([name])
        elif name in table.column_names:
            column = cells if isinstance(cells, pa.Array) else pa.array(cells, table.schema.field(name).type)
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, cells)
    pq.write_table(table, path)


def cells(path: Path, column: str) -> list[Any]:
    return pq.read_table(path)[column].to_pylist()


def readers(folder: Path | str, **options: Any) -> Iterator[tuple[OmniReader, Listing[SourceFile]]]:
    """The reader of every task, and what it lists; emotion corpora too, as where they have answers."""
    for task in CONFIGS[1:]:
        yield open_reader(OmniTasks, folder, task, emotion_corpora=True, **options)


def everything(
    listed: Iterable[tuple[OmniReader, Listing[SourceFile]]],
) -> Iterator[Dialogue | UnreadableFile]:
    """What readers read: each file once, by the first that lists it."""
    files: set[str] = set()
    for reader, listing in listed:
        for unit in listing.units:
            if unit.file not in files:
                yield from reader.dialogues(unit)
            files.add(unit.file)


def read(folder: Path | str, **options: Any) -> list[Dialogue]:
    """The utterances of a folder, none of whose files is broken."""
    utterances = list(everything(readers(folder, **options)))
    assert not [item for item in utterances if isinstance(item, UnreadableFile)]
    return [item for item in utterances if isinstance(item, Dialogue)]


def in_words(folder: Path) -> str:
    """What is said of every task's sources."""
    return "\n".join(listing.contents for _, listing in readers(folder))


def build(hub: Path | str, out: Path, config: str, **options: Any) -> LedgerSummary:
    summary = build_rows(hub, out, config, builder="omni_tasks", **options)
    counts = [summary.rows, *summary.skipped.values(), *summary.left_out.values()]
    assert summary.items == sum(counts)
    return summary


# --- the table --------------------------------------------------------------------------------


def test_every_source_has_the_columns_of_the_table_in_the_sample():
    for source in SOURCES:
        files = sorted((HUB / source.repository).rglob("*.parquet"))
        assert files, source.repository
        for file in files:
            assert set(source.wanted) - set(source.votes) <= set(pq.read_schema(file).names)


def test_names_of_sources_tell_them_apart_and_every_config_has_one():
    assert len(BY_NAME) == len(SOURCES) == 13
    assert {task for source in SOURCES for task in source.tasks} == set(CONFIGS) - {"omni"}
    assert {"omni": CONFIGS[1:]} == OmniTasks.UNIONS
    assert "MELD: GPL-3.0" in OmniTasks.ABOUT.licence_note
    cited = OmniTasks.ABOUT.citation.splitlines()
    assert [line.partition(":")[0] for line in cited] == [source.name for source in SOURCES]


def test_the_founding_mix_draws_from_sources_splits_and_tasks_of_the_table():
    mix = yaml.safe_load(MIX.read_text("utf-8"))
    targets = []
    for entry in mix["sources"]:
        source = BY_NAME[entry["source"].rpartition("/")[2]]
        assert source.repository == entry["source"]
        assert source.splits[entry["split"]] == "train"
        assert tuple(entry["tasks"]) == source.tasks
        targets.append(entry["target_samples"])
    assert targets == [350000, 80000, 140000, 400000, 300000, 150000, 150000, 65000, 40000, 22000, 7000]
    sifted = [entry for entry in mix["sources"] if entry["source"] == "mazesmazes/sift-audio-2"]
    assert {entry["split"] for entry in sifted} == set(BY_NAME["sift-audio-2"].splits)
    share = sum(entry["target_samples"] for entry in sifted) / sum(targets)
    assert f"{100 * share:.1f} % SIFT" in MIX.read_text("utf-8")
    assert isinstance(mix["seed"], int)


# --- rows -------------------------------------------------------------------------------------


def test_a_transcription_is_the_text_in_lower_case_under_the_founding_prompt(tmp_path):
    build(HUB, tmp_path, "transcription")
    rows = {row["conversation_id"]: row for row in read_rows(tmp_path, "transcription")}
    assert set(rows) == {
        *("LoquaciousSet/train/utt00001", "LoquaciousSet/train/utt00003", "LoquaciousSet/dev/utt00000"),
        *("ami/train/AMI_EN2001a_H00_1", "ami/train/AMI_EN2001a_H00_2", "ami/validation/AMI_EN2001a_H00_1"),
    }
    row = rows["ami/train/AMI_EN2001a_H00_2"]
    assert row["transcript"] == "I WOULD MAKE IT YELLOW"
    assert [message["content"] for message in row["messages"]] == [
        "<audio> Transcribe:", "i would make it yellow",
    ]  # fmt: skip
    assert row["text"] == "User: <audio> Transcribe:\nAssistant: i would make it yellow"
    assert (row["speaker"], row["role"], row["turn_number"], row["num_turns"]) == ("MEE060", "user", 0, 1)
    clip = cells(HUB / "edinburghcstr/ami/ihm/train-00000-of-00001.parquet", "audio")[1]
    assert row["audio"] == {"bytes": clip["bytes"], "path": "AMI_EN2001a_H00_2.wav"}
    assert row["source"] == "hub/edinburghcstr/ami/ihm/train-00000-of-00001.parquet/1/AMI_EN2001a_H00_2"
    assert rows["LoquaciousSet/train/utt00001"]["gender"] == "female"


def test_the_publishers_dev_split_is_validation(tmp_path):
    build(HUB, tmp_path, "transcription")
    for file in (tmp_path / "data").rglob("*.parquet"):
        split = file.relative_to(tmp_path).parts[2]
        for row in pq.read_table(file, columns=["conversation_id", "row_id"]).to_pylist():
            publishers = row["conversation_id"].split("/")[1]
            assert split == {"dev": "validation"}.get(publishers, publishers)
            assert row["row_id"] == f"omni_tasks/{split}/{row['conversation_id']}/0/transcription"


def test_an_answer_is_the_first_one_and_impossible_questions_are_left_out(tmp_path):
    summary = build(HUB, tmp_path, "answer_extraction")
    assert summary.left_out == {"impossible_question": 1}
    rows = read_rows(tmp_path, "answer_extraction")
    assert [row["messages"][1]["content"] for row in rows] == ["william shakespeare"] * 2
    assert [row["transcript"] for row in rows] == ["Who wrote the play Hamlet?"] * 2


@pytest.mark.parametrize(
    "answers",
    [
        [[], [{"text": "Yes", "answer_start": 0}]],
        [None, [{"text": "Yes", "answer_start": 0}]],
        pa.array([{"text": [], "answer_start": []}, {"text": ["Yes", "No"], "answer_start": [1, 2]}]),
    ],
)
def test_answers_may_be_missing_or_of_squads_other_form(answers, tmp_path):
    hub = only(tmp_path, HEYSQUAD)
    change(hub / HEYSQUAD, answers=answers, is_impossible=[False, False])
    turns = [dialogue.turns[0] for dialogue in read(hub)]
    assert [(turn.answer, turn.left_out) for turn in turns] == [(None, Rule.IMPOSSIBLE), ("Yes", None)]


def test_a_question_that_is_called_impossible_is_left_out_though_it_has_answers(tmp_path):
    hub = only(tmp_path, HEYSQUAD)
    change(hub / HEYSQUAD, answers=[[{"text": "Yes"}]] * 2, is_impossible=[True, None])
    turns = [dialogue.turns[0] for dialogue in read(hub)]
    assert [(turn.answer, turn.left_out) for turn in turns] == [("Yes", Rule.IMPOSSIBLE), ("Yes", None)]


@pytest.mark.parametrize("config", SIFT)
def test_of_sift_audio_2_a_config_holds_its_own_mode(config, tmp_path):
    summary = build(HUB, tmp_path, config, validation_fraction=0.0)
    expected = [
        response
        for file in (ACTED, SIFTED)
        for mode, response in zip(cells(HUB / file, "mode"), cells(HUB / file, "sift_response"), strict=True)
        if mode == config
    ]
    rows = read_rows(tmp_path, config)
    assert [row["messages"][1]["content"] for row in rows] == expected
    assert summary.left_out == {"other_mode": 8}
    prompt = "<audio> Describe all information you can hear:" if config == "sit_ssp" else "<audio>"
    assert {row["messages"][0]["content"] for row in rows} == {prompt}
    assert [row["emotion"] for row in rows] == ["happy", "angry", "sad", "angry"]
    assert (rows[1]["pace"], rows[1]["volume"], rows[1]["age"]) == ("fast", "loud", "young adult")


def test_the_codes_of_libritts_are_the_codec_targets(tmp_path):
    build(HUB, tmp_path, "s2s_mimi")
    rows = read_rows(tmp_path, "s2s_mimi")
    assert [row["codec_targets"] for row in rows] == cells(HUB / MIMI, "codes")
    assert {row["codec"] for row in rows} == {"mimi"}
    assert rows[0]["messages"][1]["content"] == "the weather is beautiful today"


def test_omni_holds_every_row_of_the_other_configs_once(tmp_path):
    build(HUB, tmp_path, "omni")
    rows = [row for task in CONFIGS[1:] for row in read_rows(tmp_path, task)]
    ids = [row["row_id"] for row in rows]
    assert len(ids) == len(set(ids)) == 6 + 2 + 3 * 4 + 2
    card = (tmp_path / "README.md").read_text("utf-8")
    assert all(f"config_name: {config}\n" in card for config in CONFIGS)


ABSTRACT_TTS = {source.name for source in SOURCES if source.repository.startswith("AbstractTTS/")}


def clip_ids(folder: Path) -> list[str]:
    """The clips of a folder by name."""
    return [dialogue.clip_id(dialogue.turns[0]) for dialogue in read(folder)]


def answers(folder: Path, names: Iterable[str], mode: str = "sift_ssp") -> str:
    """Generated answers to clips, as `generate` writes them."""
    lines = [{"clip_id": name, "answer": f"I hear {name}.", "is_cut": False} for name in names]
    recipe = {RECIPE: json.dumps({"kind": mode}).encode()}
    table = pa.Table.from_pylist(lines, schema=schema_of(mode).with_metadata(recipe))
    folder.mkdir()
    pq.write_table(table, folder / "part-00000.parquet")
    return str(folder)


def test_emotion_corpora_are_rows_where_generated_answers_are_given(tmp_path):
    clips = [name for name in clip_ids(HUB) if name.split("/")[0] in ABSTRACT_TTS]
    folder = answers(tmp_path / "answers", clips)
    plain = build(HUB, tmp_path / "plain", "sift_ssp", validation_fraction=0.0)
    joined = build(HUB, tmp_path / "joined", "sift_ssp", validation_fraction=0.0, generated=(folder,))
    assert joined.rows == plain.rows + len(clips)
    assert joined.left_out == {"other_mode": 8, "no_answer": 6}  # MELD and Common Voice have none
    rows = {row["clip_id"]: row for row in read_rows(tmp_path / "joined", "sift_ssp")}
    row = rows["PODCAST/train/train-00000-of-00001:0/0"]
    assert row["messages"][1]["content"] == "I hear PODCAST/train/train-00000-of-00001:0/0."
    assert row["emotion"] == "sad"


def test_emotion_corpora_are_read_for_the_modes_alone_that_have_answers(tmp_path):
    folder = answers(tmp_path / "answers", ["TESS/train/train-00000-of-00001:0/0"])
    builder = OmniTasks(config_name="omni", data_dir=str(HUB), generated=(folder,), cache_dir=str(tmp_path))
    unread = {
        job.task.name: "without answers (--with): AbstractTTS/CREMA-D" in job.contents
        for job in builder.jobs()
    }
    assert {task for task, is_unread in unread.items() if is_unread} == {"sift_s", "sit_ssp"}


def test_emotion_corpora_can_be_read_before_they_have_answers(tmp_path):
    with pytest.raises(ShortfallError, match=r"left out: no_answer +2"):
        build(HUB / "AbstractTTS/TESS", tmp_path, "sift_s", emotion_corpora=True)
    with pytest.raises(UsageError, match=r"not read without answers \(--with\): AbstractTTS/TESS"):
        build(HUB / "AbstractTTS/TESS", tmp_path, "sift_s")


# --- where sources lie ------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["hub/speechbrain/LoquaciousSet", "hub/speechbrain", "hub"])
def test_a_source_is_read_alone_under_its_organisation_or_beside_others(where, tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    ids = [dialogue.conversation_id for dialogue in read(hub.parent / where)]
    assert ids == ["LoquaciousSet/train/utt00001", "LoquaciousSet/train/utt00003"]


@pytest.mark.parametrize(
    "file",
    [
        *("train-00000-of-00001.parquet", "data/train-00000-of-00001-0123456789abcdef.parquet"),
        *("default/train/0000.parquet", "data/train.parquet", "data/train.clean.360-00000-of-00002.parquet"),
    ],
)
def test_files_are_found_under_every_name_that_the_hub_gives_them(file, tmp_path):
    place = tmp_path / "mazesmazes" / "libritts-mimi" / file
    place.parent.mkdir(parents=True)
    shutil.copy(HUB / MIMI, place)
    split = "train.clean.360" if "360" in file else "train"
    expected = [f"libritts-mimi/{split}/{place.stem}:{row}" for row in (0, 1)]
    assert [dialogue.conversation_id for dialogue in read(tmp_path)] == expected


def test_a_folder_called_data_is_its_parents(tmp_path):
    shutil.copytree(HUB / "garam-icecream/MELD", tmp_path / "MELD")
    assert [dialogue.conversation_id for dialogue in read(tmp_path / "MELD" / "data")] == [
        f"MELD/train/train-00000-of-00001:{row}" for row in (0, 1)
    ]


@pytest.mark.parametrize("again", ["libritts-mimi/data/", "mazesmazes/libritts-mimi/", "libritts-mimi/"])
def test_one_file_in_two_places_is_refused(again, tmp_path):
    hub = only(tmp_path, MIMI)
    copy = hub / again / MIMI.rpartition("/")[2]
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(hub / MIMI, copy)
    with pytest.raises(UsageError, match=f"{re.escape(MIMI)} beside|beside {re.escape(MIMI)}"):
        read(hub)


def test_sources_that_are_not_there_and_files_that_are_not_read_are_named(tmp_path):
    hub = only(tmp_path, LOQUACIOUS, COMMON_VOICE)
    (hub / "speechbrain/LoquaciousSet/large").mkdir()
    shutil.copy(HUB / LOQUACIOUS, hub / "speechbrain/LoquaciousSet/large/train-00000-of-00001.parquet")
    (hub / COMMON_VOICE).rename(hub / COMMON_VOICE.replace("train", "invalidated"))
    assert [unit.file for _, listing in readers(hub) for unit in listing.units] == [LOQUACIOUS]
    assert "speechbrain/LoquaciousSet (1 file, 1 other files are not read)" in in_words(hub)
    absent = [line.partition("not there: ")[2] for line in in_words(hub).splitlines()]
    assert "fixie-ai/common_voice_17_0 (1 other files are not read)" in absent[CONFIGS.index("sift_s") - 1]
    assert "edinburghcstr/ami" in absent[CONFIGS.index("transcription") - 1]


def test_a_folder_without_any_source_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"no parquet file of a source; not there: speechbrain/LoquaciousSet"
    ):
        build(tmp_path, tmp_path / "out", "transcription")


def test_a_remote_store_gives_the_same_utterances(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(HUB), "/omni/hub", recursive=True)
    try:
        assert read("memory://omni/hub") == read(HUB)
        folders = ("edinburghcstr/ami", "garam-icecream/MELD", "no/such")
        some = Corpus.open("memory://omni/hub", folders=folders)
        config = OmniConfig(name="omni", emotion_corpora=True)
        some_readers = [OmniReader(some, config, task_of(task)) for task in CONFIGS[1:]]
        listed = [(reader, reader.units(some.list())) for reader in some_readers]
        sources = {item.source for item in everything(listed) if isinstance(item, Dialogue)}
        assert {source.split("/")[1] for source in sources} == {"ami", "MELD"}
    finally:
        memory.rm("/omni", recursive=True)


def test_files_of_a_remote_store_are_never_held_whole(tmp_path, monkeypatch):
    """They weigh half a gigabyte, and are read as streams: nothing of them is fetched ahead."""
    memory = fsspec.filesystem("memory")
    memory.put(str(HUB), "/omni/hub", recursive=True)
    whole: list[str] = []
    monkeypatch.setattr(type(memory), "cat_file", lambda _, path, **__: whole.append(path) or b"")
    try:
        for config in ("transcription", "s2s_mimi"):
            assert build("memory://omni/hub", tmp_path / "out", config).skipped == {}
    finally:
        memory.rm("/omni", recursive=True)
    assert whole == []


def test_a_store_that_does_not_answer_is_no_fault_of_a_file(monkeypatch):
    class DroppedError(OSError):
        pass

    class Dropping:
        """A file whose store goes away."""

        closed = False

        def read(self, size: int = -1) -> bytes:
            raise DroppedError("connection reset")

        seek = tell = size = read

        def __enter__(self) -> "Dropping":
            return self

        def __exit__(self, *_: object) -> None: ...

    corpus = Corpus.open(str(HUB))
    monkeypatch.setattr(Corpus, "local_path", lambda *_: None)
    monkeypatch.setattr(Corpus, "open_file", lambda *_: Dropping())
    with pytest.raises(StoreError, match=r"did not answer \(connection reset"):
        list(parquet.read_batches(corpus, LOQUACIOUS, lambda schema: schema.names))


def test_without_a_data_dir_every_source_is_looked_for_on_the_hub(monkeypatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(Corpus, "open", lambda address, **kwargs: asked.update(address=address, **kwargs))
    OmniConfig(name="omni").open_corpus()
    assert asked == {"address": "hf://datasets", "folders": tuple(source.repository for source in SOURCES)}
    asked.clear()
    OmniConfig(name="omni", source="garam-icecream/MELD").open_corpus()
    assert asked == {"address": "hf://datasets/garam-icecream/MELD"}


# --- validation -------------------------------------------------------------------------------


def test_no_speaker_word_text_or_show_straddles_train_and_validation(hub):
    shutil.rmtree(hub / SIFTED.rpartition("/")[0])
    for name, files in {
        "CREMA-D": "{}_IEO_ANG_HI.wav",
        "TESS": "YAF_{}_sad.wav",
        "PODCAST": "MSP-PODCAST_{}_7.wav",
    }.items():
        path = hub / "AbstractTTS" / name / "data/train-00000-of-00001.parquet"
        table = pq.read_table(path).slice(0, 1)
        table = pa.concat_tables([table] * 60)
        pq.write_table(table, path)
        change(path, file=[files.format(1000 + i // 3) for i in range(60)])
    keys: dict[str, set[str]] = {}
    moved: dict[str, int] = {}
    for dialogue in read(hub):
        split = split_of(dialogue, 0.5)
        keys.setdefault(dialogue.twin_key or dialogue.conversation_id, set()).add(split)
        moved[dialogue.source] = moved.get(dialogue.source, 0) + (split == "validation" != dialogue.split)
    assert all(len(splits) == 1 for splits in keys.values())
    for name in ("CREMA-D", "TESS", "PODCAST"):
        assert 9 <= moved[f"AbstractTTS/{name}/data/train-00000-of-00001.parquet"] <= 51
        assert f"{name}/1007" in keys


def test_a_text_is_validation_in_every_mode_and_source_or_in_none():
    dialogues = [dialogue for dialogue in read(HUB) if dialogue.source in (SIFTED, MELD)]
    keys = {dialogue.turns[0].text: dialogue.twin_key for dialogue in dialogues}
    assert keys["leave me alone!"] == keys["Leave me alone!"] == "leavemealone"
    assert set(keys.values()) == {"leavemealone", "igotthejob", "ilostmykeysagain"}


def sift_twins(hub: Path, split: str, twin: Path, **columns: Any) -> list[tuple[str, str]]:
    """Make a corpus, and its split of sift-audio-2, hold the same sixty clips; their texts and splits."""
    sifted = hub / SIFTED.replace("meld", split)
    for place, source in ((hub / SIFTED, sifted), (twin, twin)):
        table = pq.read_table(place).slice(0, 1)
        pq.write_table(pa.concat_tables([table] * 60), source)
    texts = [f"It's number {i}." for i in range(60)]
    change(sifted, text=[text.lower().rstrip(".") for text in texts])
    change(
        twin,
        **columns,
        **{next(n for n in ("transcription", "sentence", "text") if n in pq.read_schema(twin).names): texts},
    )
    files = (str(sifted.relative_to(hub)), str(twin.relative_to(hub)))
    dialogues = [dialogue for dialogue in read(hub) if dialogue.source in files]
    assert len(dialogues) == 120
    return [(dialogue.turns[0].text.lower().rstrip("."), split_of(dialogue, 0.5)) for dialogue in dialogues]


@pytest.mark.parametrize(
    ("split", "name"),
    [
        *(("crema_d", "AbstractTTS/CREMA-D"), ("tess", "AbstractTTS/TESS"), ("savee", "AbstractTTS/SAVEE")),
        *(("ravdess", "AbstractTTS/RAVDESS"), ("esd", "AbstractTTS/ESD_english")),
        *(("podcast", "AbstractTTS/PODCAST"), ("commonvoice", "fixie-ai/common_voice_17_0")),
        ("meld", "garam-icecream/MELD"),
    ],
)
def test_no_clip_is_validation_in_sift_audio_2_and_train_in_its_own_corpus(split, name, hub):
    (twin,) = (hub / name).rglob("*train*.parquet")
    files = [
        f"MSP-PODCAST_{1000 + i // 4}_{('DC', 'JE', 'JK', 'KL')[i % 4]}_OAF_word{i}_-{i}.wav"
        for i in range(60)
    ]
    speakers = {"file": files} if name.startswith("AbstractTTS/") else {}
    splits: dict[str, set[str]] = {}
    for text, split_of_text in sift_twins(hub, split, twin, **speakers):
        splits.setdefault(text, set()).add(split_of_text)
    assert len(splits) == 60
    assert all(len(splits_of_text) == 1 for splits_of_text in splits.values())
    moves = split in ("podcast", "commonvoice", "meld")
    assert set().union(*splits.values()) == ({"train", "validation"} if moves else {"train"})


def test_what_has_an_evaluation_split_or_no_speakers_never_moves(hub):
    shutil.rmtree((hub / ACTED).parent)
    shutil.copytree((HUB / ACTED).parent, hub / "elsewhere/sift-audio-2")
    for dialogue in [*read(hub), *read(hub / "elsewhere/sift-audio-2")]:
        source, split, _ = dialogue.conversation_id.split("/", 2)
        stays = source in ("LoquaciousSet", "ami", "HeySQuAD_human") or (source, split) == (
            "sift-audio-2",
            "crema_d",
        )
        assert (dialogue.twin_key is None) == (stays or source == "PODCAST")  # whose sample names no show
        if stays and dialogue.split == "train":
            assert split_of(dialogue, 0.999999) == "train"


def test_units_tell_the_splits_that_their_rows_may_be_of():
    splits = {unit.file: unit.splits for _, listing in readers(HUB) for unit in listing.units}
    for dialogue in read(HUB):
        assert {dialogue.split, split_of(dialogue, 0.999999)} <= set(splits[dialogue.source])
    assert splits[LOQUACIOUS] == splits[ACTED] == ("train",)
    assert splits[LOQUACIOUS.replace("train", "dev")] == ("validation",)
    assert splits[SIFTED] == splits[COMMON_VOICE] == ("train", "validation")


def test_a_fiftieth_is_validation_unless_a_person_says_otherwise():
    assert OmniConfig(name="omni").validation_fraction == 0.02


# --- traits -----------------------------------------------------------------------------------


def traits_of(hub: Path, source: str = "", **options: Any) -> list[Traits]:
    """The traits of each clip whose file has `source` in its path."""
    return [item.turns[0].traits for item in read(hub, **options) if source in item.source]


@pytest.mark.parametrize(
    "names",
    [
        ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"],
        ["neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise"],
    ],
)
def test_the_numbers_of_meld_are_read_by_the_names_of_their_own_file(names, tmp_path):
    hub = only(tmp_path, MELD)
    table = pq.read_table(hub / MELD)
    features = json.loads(table.schema.metadata[b"huggingface"])
    features["info"]["features"]["emotion"] = {"names": names, "_type": "ClassLabel"}
    table = table.replace_schema_metadata({b"huggingface": json.dumps(features)})
    for number, name in enumerate(names):
        pq.write_table(table.set_column(2, "emotion", pa.array([number, -1])), hub / MELD)
        named, unnamed = traits_of(hub)
        assert named == normalise(emotion=name) != normalise()
        assert unnamed == normalise()
    pq.write_table(table.set_column(2, "emotion", pa.array([7, 0])), hub / MELD)
    assert traits_of(hub)[0].unknown == ("emotion: 7",)


def test_a_number_without_names_is_null_and_counted(tmp_path):
    folder = answers(
        tmp_path / "answers", [f"MELD/train/train-00000-of-00001:{row}/0" for row in (0, 1)], "sift_s"
    )
    summary = build(HUB / "garam-icecream/MELD", tmp_path / "out", "sift_s", generated=(folder,))
    assert summary.unknown_traits == {"emotion: 0": 1, "emotion: 3": 1}
    assert [row["emotion"] for row in read_rows(tmp_path / "out", "sift_s")] == [None, None]


def test_listeners_votes_decide_and_a_tie_has_no_emotion(tmp_path):
    hub = only(tmp_path, CREMA_D)
    votes = {"angry": [0.1, 0.5, None], "sad": [0.9, 0.5, None], "happy": [0.0, 0.0, None]}
    change(hub / CREMA_D, **{name: pa.array(shares, pa.float32()) for name, shares in votes.items()})
    clips = traits_of(hub)
    assert [clip.emotion for clip in clips] == ["sad", None, "angry"]  # the last has a major_emotion alone
    assert [clip.unknown for clip in clips] == [(), (), ()]


def test_genders_and_ages_of_common_voice_are_understood():
    clips = traits_of(HUB, COMMON_VOICE)
    assert [clip.gender for clip in clips] == ["male", "female", None, None]
    assert [clip.age for clip in clips] == ["young adult", "middle-age adult", None, None]
    assert [clip.accent for clip in clips[:2]] == ["united states english", None]
    assert [clip.unknown for clip in clips] == [()] * 4


def test_by_percentile_pace_and_volume_are_quartiles_of_all_files_of_a_source(tmp_path):
    hub = only(tmp_path, CREMA_D, TESS)
    row = pq.read_table(hub / CREMA_D).slice(0, 1)
    for number in (0, 1):
        path = hub / f"AbstractTTS/CREMA-D/data/train-0000{number}-of-00002.parquet"
        pq.write_table(pa.concat_tables([row] * 20), path)
        values = [100.0 + 20 * number + i for i in range(20)]
        change(path, speaking_rate=values, relative_db=values)
    (hub / CREMA_D).unlink()
    assert {(clip.pace, clip.volume) for clip in traits_of(hub, "CREMA")} == {("fast", "loud")}
    clips = traits_of(hub, "CREMA", traits_by_percentile=True)
    assert [clip.pace for clip in clips] == ["slow"] * 10 + ["normal"] * 20 + ["fast"] * 10
    assert [clip.volume for clip in clips] == ["quiet"] * 10 + [None] * 20 + ["loud"] * 10
    out = tmp_path / "out"
    folder = answers(tmp_path / "answers", clip_ids(hub), "sift_s")
    build(
        hub,
        out,
        "sift_s",
        generated=(folder,),
        traits_by_percentile=True,
        validation_fraction=0.0,
        shard_bytes=1,
    )
    assert [row["pace"] for row in read_rows(out, "sift_s")][:40] == [clip.pace for clip in clips]


# --- bad input --------------------------------------------------------------------------------

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SAMPLE = {file: pq.read_table(HUB / file) for file in (LOQUACIOUS, MIMI, ACTED)}


def audio(**spoiled: Any) -> pa.Array:
    first, *rest = SAMPLE[LOQUACIOUS]["wav"].to_pylist()
    return pa.array([None if spoiled.get("is_null") else {**first, **spoiled}, *rest], AUDIO)


def codes(first: Any) -> list[Any]:
    return [first, *SAMPLE[MIMI]["codes"].to_pylist()[1:]]


WELL = [[7] * 23] * 8
FAULTS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "a null clip": ("transcription", LOQUACIOUS, {"wav": audio(is_null=True)}, "missing", "null"),
    "a clip that is a path alone": (
        *("transcription", LOQUACIOUS, {"wav": audio(bytes=None, path="/home/them/a.wav")}),
        *("missing", "the path '/home/them/a.wav' alone"),
    ),
    "an empty clip": ("transcription", LOQUACIOUS, {"wav": audio(bytes=b"")}, "empty", "the file is empty"),
    "a clip that is no audio": (
        *("transcription", LOQUACIOUS, {"wav": audio(bytes=b"<html>" * 99)}),
        *("undecodable", ""),
    ),
    "a null text": ("transcription", LOQUACIOUS, {"text": [None, "yes"]}, "empty_text", "null"),
    "an empty text": ("transcription", LOQUACIOUS, {"text": [" ", "yes"]}, "empty_text", "empty"),
    "a text that is no UTF-8": (
        "transcription",
        LOQUACIOUS,
        {"text": pa.array([b"caf\xe9", b"yes"]).view(pa.string())},
        "bad_text",
        "caf",
    ),
    "a repeated id": ("transcription", LOQUACIOUS, {"ID": ["a", "a"]}, "bad_number", "the id 'a' again"),
    "eight empty code lists": ("s2s_mimi", MIMI, {"codes": codes([[]] * 8)}, "bad_codes", "without a frame"),
    "null codes": ("s2s_mimi", MIMI, {"codes": codes(None)}, "bad_codes", "null"),
    "ragged codes": ("s2s_mimi", MIMI, {"codes": codes([[1] * 22, *WELL[1:]])}, "bad_codes", "22 to 23"),
    "seven code lists": ("s2s_mimi", MIMI, {"codes": codes(WELL[1:])}, "bad_codes", "7 codebooks"),
    "a code of 2048": ("s2s_mimi", MIMI, {"codes": codes([[2048] * 23, *WELL[1:]])}, "bad_codes", "2048"),
    "a code below 0": ("s2s_mimi", MIMI, {"codes": codes([[-1] * 23, *WELL[1:]])}, "bad_codes", "-1"),
    "a code that is null": (
        "s2s_mimi",
        MIMI,
        {"codes": codes([[None] * 23, *WELL[1:]])},
        "bad_codes",
        "from -1 to",
    ),
    "a code list that is null": (
        "s2s_mimi",
        MIMI,
        {"codes": codes([None, *WELL[1:]])},
        "bad_codes",
        "0 to 23",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_is_skipped_with_its_reason_and_the_others_are_kept(fault, tmp_path):
    config, file, columns, reason, words = FAULTS[fault]
    hub = only(tmp_path, file)
    change(hub / file, **columns)
    summary = build(hub, tmp_path / "out", config)
    assert summary.skipped == {reason: 1}
    assert summary.rows == 1
    (line,) = read_skipped(tmp_path / "out")
    assert line["file"].startswith(file)
    assert words in line["detail"]
    assert str(tmp_path) not in json.dumps(line)


def test_what_is_no_utf_8_costs_no_row_where_it_is_not_said(tmp_path):
    """Of an id, a speaker, a trait, a file name: no column of rows could hold such bytes."""
    hub = only(tmp_path, LOQUACIOUS)
    bad = pa.array([b"caf\xe9", b"tea"]).view(pa.string())
    clips = pa.array([clip["bytes"] for clip in SAMPLE[LOQUACIOUS]["wav"].to_pylist()])
    wav = pa.StructArray.from_arrays([clips, bad], ["bytes", "path"])
    change(hub / LOQUACIOUS, ID=bad, spk_id=bad, sex=bad, wav=wav)
    summary = build(hub, tmp_path / "out", "transcription")
    assert summary.unknown_traits == {"gender: caf\\xe9": 1, "gender: tea": 1}
    row = read_rows(tmp_path / "out", "transcription")[0]
    assert (row["conversation_id"], row["speaker"]) == (r"LoquaciousSet/train/caf\xe9", r"caf\xe9")
    assert row["audio"]["path"] == "xe9.flac"  # below a folder, as the backslash reads


def test_an_answer_that_is_no_utf_8_is_skipped(tmp_path):
    hub = only(tmp_path, HEYSQUAD)
    bad = pa.array([b"caf\xe9", b"tea"]).view(pa.string())
    answers = pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([bad], ["text"]))
    change(hub / HEYSQUAD, answers=answers, is_impossible=[False, False])
    summary = build(hub, tmp_path / "out", "answer_extraction")
    assert (summary.rows, summary.skipped) == (1, {"bad_text": 1})


def test_an_id_in_two_files_of_a_split_makes_one_row_however_files_are_shared_out(tmp_path):
    hub = only(tmp_path, LOQUACIOUS, LOQUACIOUS.replace("train", "dev"))
    for number in (0, 1):
        shutil.copy(
            hub / LOQUACIOUS, hub / f"speechbrain/LoquaciousSet/medium/train-0000{number}-of-00002.parquet"
        )
    (hub / LOQUACIOUS).unlink()
    for shard_bytes in (1, 1 << 30):
        out = tmp_path / f"out-{shard_bytes}"
        summary = build(hub, out, "transcription", shard_bytes=shard_bytes)
        assert (summary.rows, summary.skipped) == (3, {"bad_number": 2})
        assert [line["clip_id"] for line in read_skipped(out)] == [
            f"LoquaciousSet/train/train-00001-of-00002:{row}/0" for row in (0, 1)
        ]


@pytest.mark.parametrize("ids", [[None, None], ["", ""], pa.nulls(2)])
def test_rows_without_an_id_are_named_by_file_and_row(ids, tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    change(hub / LOQUACIOUS, ID=ids)
    assert [dialogue.conversation_id for dialogue in read(hub)] == [
        f"LoquaciousSet/train/train-00000-of-00001:{row}" for row in (0, 1)
    ]
    assert build(hub, tmp_path / "out", "transcription").rows == 2


@pytest.mark.parametrize(
    ("file", "columns", "needed"),
    [
        (LOQUACIOUS, {"wav": None}, "expected wav once"),
        (LOQUACIOUS, {"ID": None}, "expected ID once"),
        (LOQUACIOUS, {"wav": pa.array(["a.wav", "b.wav"])}, "expected wav as a struct of bytes and path"),
        (LOQUACIOUS, {"ID": pa.array([[1], [2]])}, "expected ID as a string"),
        (ACTED, {"mode": None}, "expected mode once"),
        (ACTED, {"sift_response": None}, "expected sift_response once"),
        (MIMI, {"codes": pa.array(["1 2", "3 4"])}, "expected codes as a list of lists"),
        (MIMI, {"codes": pa.array([[["1"]] * 8] * 2)}, "expected codes as a list of lists"),
        (MIMI, {"codes": pa.array([[[0.5]] * 8] * 2)}, "expected codes as a list of lists"),
        (HEYSQUAD, {"is_impossible": pa.array([1, 0])}, "expected is_impossible as true or false"),
        (HEYSQUAD, {"is_impossible": pa.array(["True", "no"])}, "expected is_impossible as true or false"),
    ],
)  # fmt: skip
def test_a_missing_column_is_refused_with_those_that_are_there(file, columns, needed, tmp_path):
    hub = only(tmp_path, file)
    change(hub / file, **columns)
    task = next(source.tasks[0] for source in SOURCES if file.startswith(source.repository))
    with pytest.raises(UsageError) as refused:
        build(hub, tmp_path / "out", task)
    assert needed in str(refused.value)
    for field in pq.read_schema(hub / file):
        assert f"{field.name} ({field.type})" in str(refused.value)


def test_a_renamed_column_is_refused_and_a_missing_trait_is_named(tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    table = pq.read_table(hub / LOQUACIOUS)
    pq.write_table(table.drop_columns(["sex", "spk_id"]), hub / LOQUACIOUS)
    assert "speechbrain/LoquaciousSet (1 file, without sex, spk_id)" in in_words(hub)
    assert [dialogue.turns[0].speaker for dialogue in read(hub)] == ["", ""]
    pq.write_table(table.rename_columns({"text": "sentence"}), hub / LOQUACIOUS)
    with pytest.raises(UsageError, match=r"sentence \(string\); expected text once"):
        read(hub)


@pytest.mark.parametrize("column", ["text", "sift_response"])
def test_texts_that_are_numbers_are_skipped(column, tmp_path):
    hub = only(tmp_path, ACTED, SIFTED)
    change(hub / ACTED, **{column: pa.array(range(6))})
    summary = build(hub, tmp_path / "out", "sift_s")
    assert (summary.rows, summary.skipped) == (2, {"bad_text": 2})
    assert summary.left_out == {"other_mode": 8}


def test_a_null_answer_is_left_out_and_an_unknown_mode_is_another(tmp_path):
    hub = only(tmp_path, ACTED)
    modes = ["sift_s", "sift_s", None, "describe", "SIFT_S", "sift_s"]
    change(hub / ACTED, mode=modes, sift_response=[None, "", "c", "d", "e", "Well."])
    summary = build(hub, tmp_path / "out", "sift_s")
    assert summary.left_out == {"no_answer": 1, "other_mode": 3}
    assert summary.skipped == {"empty_text": 1}
    assert [row["messages"][1]["content"] for row in read_rows(tmp_path / "out", "sift_s")] == ["Well."]


def test_texts_of_other_scripts_are_kept(tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    texts = ["今日はいい天気ですね。", "Приве́т, שלום 🙂"]
    change(hub / LOQUACIOUS, text=texts)
    build(hub, tmp_path / "out", "transcription")
    rows = read_rows(tmp_path / "out", "transcription")
    assert [row["transcript"] for row in rows] == texts


@pytest.mark.parametrize(
    "kind",
    [
        *("large", "dictionary", "views", "plain bytes", "no path", "extra field"),
        *("int16 codes", "uint16 codes", "large lists", "eight lists"),
    ],
)
def test_other_types_of_the_same_cells_are_the_same_utterances(kind, tmp_path):
    hub = only(tmp_path, LOQUACIOUS, MIMI)
    expected = read(hub)
    sample, codes = SAMPLE[LOQUACIOUS], SAMPLE[MIMI]["codes"].combine_chunks()
    wav = sample["wav"].to_pylist()
    changes: dict[str, Callable[[], Any]] = {
        "large": lambda: change(
            hub / LOQUACIOUS,
            text=sample["text"].combine_chunks().cast(pa.large_string()),
            wav=pa.array(wav, pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])),
        ),
        "dictionary": lambda: change(
            hub / LOQUACIOUS,
            **{n: sample[n].combine_chunks().dictionary_encode() for n in ("ID", "text", "sex", "spk_id")},
        ),
        "views": lambda: change(
            hub / LOQUACIOUS,
            **{n: sample[n].combine_chunks().cast(pa.string_view()) for n in ("ID", "text", "sex", "spk_id")},
            wav=pa.array(wav, pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])),
        ),
        "uint16 codes": lambda: change(hub / MIMI, codes=codes.cast(pa.list_(pa.list_(pa.uint16())))),
        "eight lists": lambda: change(
            hub / MIMI, codes=pa.array(codes.to_pylist(), pa.list_(codes.type.value_type, 8))
        ),
        "int16 codes": lambda: change(hub / MIMI, codes=codes.cast(pa.list_(pa.list_(pa.int16())))),
        "large lists": lambda: change(hub / MIMI, codes=codes.cast(pa.large_list(pa.large_list(pa.int64())))),
        "plain bytes": lambda: change(hub / LOQUACIOUS, wav=pa.array([clip["bytes"] for clip in wav])),
        "no path": lambda: change(hub / LOQUACIOUS, wav=pa.array([{"bytes": clip["bytes"]} for clip in wav])),
        "extra field": lambda: change(
            hub / LOQUACIOUS, wav=pa.array([{"sampling_rate": 16000, "path": None, **clip} for clip in wav])
        ),
    }
    changes[kind]()
    dialogues = read(hub)
    assert dialogues == expected
    for dialogue, other in zip(dialogues, expected, strict=True):
        turn, same = dialogue.turns[0], other.turns[0]
        assert turn.audio is not None
        assert same.audio is not None
        assert bytes(turn.audio.data or b"") == bytes(same.audio.data or b"")
        if turn.codes is not None and same.codes is not None:
            assert turn.codes.values.dtype == "int16"
            assert (turn.codes.values == same.codes.values).all()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def lead_out(path: Path) -> None:
    path.rename(path.parents[4] / "elsewhere.parquet")
    path.symlink_to(path.parents[4] / "elsewhere.parquet")


@pytest.mark.parametrize("spoil", [truncate, empty, replace, lead_out])
def test_a_file_that_is_no_parquet_is_named_and_the_next_is_read(spoil, tmp_path):
    hub = only(tmp_path, LOQUACIOUS, LOQUACIOUS.replace("train", "dev"))
    spoil(hub / LOQUACIOUS)
    summary = build(hub, tmp_path / "out", "transcription")
    assert (summary.rows, summary.skipped) == (1, {})
    (line,) = read_skipped(tmp_path / "out")
    assert (line["clip_id"], line["file"]) == (None, LOQUACIOUS)
    assert str(tmp_path) not in json.dumps(line)


def test_of_a_file_with_a_rotten_row_group_the_others_are_kept(tmp_path):
    hub = only(tmp_path, LOQUACIOUS)
    path = hub / LOQUACIOUS
    table = pa.concat_tables([SAMPLE[LOQUACIOUS]] * 2)
    table = table.set_column(0, "ID", pa.array(list("abcd")))
    pq.write_table(table, path, row_group_size=1, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    items = list(everything(readers(hub)))
    assert [item.conversation_id[-1] for item in items if isinstance(item, Dialogue)] == ["a", "c", "d"]
    (broken,) = [item for item in items if isinstance(item, UnreadableFile)]
    assert broken.file == LOQUACIOUS
    assert "rows 1 to 1" in broken.detail


@pytest.mark.parametrize("layout", [{"row_group_size": 100}, {"write_batch_size": 16}])
def test_clips_are_views_of_arrows_memory_and_a_reader_holds_a_batch_at_a_time(layout, tmp_path):
    path = only(tmp_path, LOQUACIOUS) / LOQUACIOUS
    clip = {"bytes": bytes(100_000), "path": None}
    rows = {
        "ID": [str(i) for i in range(1000)],
        "wav": pa.array([clip] * 1000, AUDIO),
        "text": ["yes"] * 1000,
    }
    pq.write_table(pa.table(rows), path, use_dictionary=False, compression="none", **layout)  # 100 MB
    del rows
    before, peak = pa.total_allocated_bytes(), 0
    for dialogue in everything(readers(tmp_path / "hub")):
        assert isinstance(dialogue, Dialogue)
        data = dialogue.turns[0].audio.data
        assert isinstance(data.obj, pa.Buffer)
        assert data.obj.size > len(data) == 100_000  # of many clips: not a copy of one
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 40 << 20


def test_shards_do_not_depend_on_which_other_sources_are_there(tmp_path):
    folders = (HUB, only(tmp_path, MIMI))
    shards = [plan_shards(open_reader(OmniTasks, folder, "s2s_mimi")[1].units) for folder in folders]
    assert shards[0] == shards[1]
    assert OmniTasks.DEFAULT_CONFIG_NAME == "omni"


# --- one build, and one more source -----------------------------------------------------------


def test_a_build_opens_each_file_once_before_it_reads_rows_though_tasks_share_files():
    opened: Counter[str] = Counter()

    class CountingCorpus(Corpus):
        def resolve(self, folder: str, name: str) -> str:
            opened[name] += 1
            return super().resolve(folder, name)

    class CountingConfig(OmniConfig):
        def open_corpus(self) -> Corpus:
            return CountingCorpus(root=str(HUB))

    config = CountingConfig(name="omni", emotion_corpora=True)
    listed: Counter[str] = Counter()
    for task in CONFIGS[1:]:
        reader = OmniReader(config.inputs.corpus, config, task_of(task))
        listed.update(unit.file for unit in reader.units(config.inputs.listing).units)
    assert listed[SIFTED] == listed[CREMA_D] == 3
    assert set(opened) == set(listed) == {str(path.relative_to(HUB)) for path in HUB.rglob("*.parquet")}
    assert set(opened.values()) == {1}


def test_a_config_travels_without_its_surveys_and_a_unit_with_all_that_its_file_must_know(hub):
    change(hub / LOQUACIOUS, ID=["a", "a"])
    config = OmniConfig(name="omni", data_dir=str(hub), emotion_corpora=True, traits_by_percentile=True)
    for task in ("transcription", "sift_s"):
        reader = OmniReader(config.inputs.corpus, config, task_of(task))
        units = reader.units(config.inputs.listing).units
        elsewhere: OmniConfig = pickle.loads(pickle.dumps(config))
        assert vars(elsewhere).keys().isdisjoint({"survey", "inputs"})
        other = OmniReader(elsewhere.inputs.corpus, elsewhere, task_of(task))
        for unit in units:
            assert list(other.dialogues(pickle.loads(pickle.dumps(unit)))) == list(reader.dialogues(unit))


QUIZ = Source(
    repository="someone/quiz",
    licence="CC0 1.0",
    citation="nobody",
    tasks=("answer_extraction", "transcription"),
    folders=("clips",),
    splits={"learn": "train", "check": "validation"},
    audio="recording",
    text="question",
    id="key",
    speaker=Column(name="take", pattern=r"^(S\d+)-"),
    answer="replies",
    traits={"gender": "sex"},
    apart=Column(name="take", pattern=r"^(S\d+)-"),
)


class WiderReader(OmniReader):
    sources = (*SOURCES, QUIZ)


class WiderTasks(OmniTasks):
    READER = WiderReader


def test_a_repository_of_parquet_is_one_more_entry_of_the_table(tmp_path):
    clips = SAMPLE[LOQUACIOUS]["wav"].to_pylist()
    table = pa.table(
        {
            "recording": pa.array(clips, AUDIO),
            "question": ["Which day is it?", "Who is there?"],
            "key": ["q1", "q1"],
            "take": ["S07-a", "S08-b"],
            "replies": [[{"text": "Monday"}, {"text": "A Monday"}], []],
            "sex": ["F", "M"],
        }
    )
    for split, rows in (("learn", table), ("check", table.slice(0, 1))):
        path = tmp_path / f"hub/someone/quiz/clips/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)
    out = tmp_path / "out"
    for task in QUIZ.tasks:
        (job,) = WiderTasks(config_name=task, data_dir=str(tmp_path / "hub"), cache_dir=str(tmp_path)).jobs()
        assert "someone/quiz (2 files)" in job.contents
        build_task(job, out, max_skipped=1.0)
    rows = {row["conversation_id"]: row for row in read_rows(out, "answer_extraction")}
    assert set(rows) == {"quiz/learn/q1", "quiz/check/q1"}
    row = rows["quiz/learn/q1"]
    assert [message["content"] for message in row["messages"]] == ["<audio>", "monday"]
    assert (row["speaker"], row["gender"]) == ("S07", "female")
    assert row["audio"]["bytes"] == clips[0]["bytes"]
    assert len(read_rows(out, "transcription")) == 2
    skipped = {(line["clip_id"], line["reason"]) for line in read_skipped(out)}
    assert skipped == {("quiz/learn/learn-00000-of-00001:1/0", "bad_number")}
