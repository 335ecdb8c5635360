"""No speaker, word, text or show straddles train and validation."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys.omni import ACTED
from toys.omni import COMMON_VOICE
from toys.omni import HUB
from toys.omni import LOQUACIOUS
from toys.omni import MELD
from toys.omni import SIFTED
from toys.omni import change
from toys.omni import read
from toys.omni import readers

from omni_tasks import OmniConfig
from speechrows.rows.conversation import split_of


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
