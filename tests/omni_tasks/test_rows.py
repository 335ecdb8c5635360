"""What rows of omni_tasks.py hold: transcriptions, answers, modes, codes, and answers that were generated."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys.building import read_rows
from toys.omni import ACTED
from toys.omni import HEYSQUAD
from toys.omni import HUB
from toys.omni import MIMI
from toys.omni import SIFTED
from toys.omni import answers
from toys.omni import build
from toys.omni import cells
from toys.omni import change
from toys.omni import clip_ids
from toys.omni import only
from toys.omni import read

from omni_tasks import CONFIGS
from omni_tasks import SIFT
from omni_tasks import SOURCES
from omni_tasks import OmniTasks
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.types import Rule


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
