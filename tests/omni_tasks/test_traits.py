"""Voices of the sources in the words of rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys.building import read_rows
from toys.omni import COMMON_VOICE
from toys.omni import CREMA_D
from toys.omni import HUB
from toys.omni import MELD
from toys.omni import TESS
from toys.omni import answers
from toys.omni import build
from toys.omni import change
from toys.omni import clip_ids
from toys.omni import only
from toys.omni import read

from speechrows.corpora.traits import normalise
from speechrows.types import Traits


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
