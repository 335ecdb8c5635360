"""A build opens each file once, and one more source is one more entry of the table."""

import pickle
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from toys.building import read_rows
from toys.building import read_skipped
from toys.omni import AUDIO
from toys.omni import CREMA_D
from toys.omni import HUB
from toys.omni import LOQUACIOUS
from toys.omni import SAMPLE
from toys.omni import SIFTED
from toys.omni import change

from omni_tasks import CONFIGS
from omni_tasks import SOURCES
from omni_tasks import OmniConfig
from omni_tasks import OmniReader
from omni_tasks import OmniTasks
from speechrows.builder import Column
from speechrows.builder import Source
from speechrows.builds.run import build as build_task
from speechrows.corpora.folder import Corpus
from speechrows.rows.curriculum import task_of


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
