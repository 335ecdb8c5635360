"""What `speechrows generate units` promises, through real models of both families with random weights."""

import argparse
import dataclasses
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toys.audio import clip
from toys.audio import wav
from toys.samples import XTTS
from transformers import HubertConfig
from transformers import HubertModel
from transformers import MimiConfig
from transformers import MimiModel
from transformers import Wav2Vec2Config
from transformers import Wav2Vec2FeatureExtractor
from transformers import Wav2Vec2Model

from speechrows.errors import UsageError
from speechrows.generate.encode import run
from speechrows.generate.selection import ClipSelection
from speechrows.generate.units import KMeansUnits
from speechrows.generate.units import UnitEncoder
from speechrows.generate.units import load_centroids
from speechrows.generate.units import run_units
from speechrows.generate.waves import load
from speechrows.generate.writer import SidecarWriter

CPU = torch.device("cpu")
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
LAYER = 1
NUM_UNITS = 200


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small models are slower on several, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """As XLS-R (layer norms, trained with a mask) and as HuBERT base (a group norm, without one)."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    xlsr = Wav2Vec2Config(**SMALL, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    Wav2Vec2Model(xlsr).save_pretrained(folder / "layer")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "layer")
    HubertModel(HubertConfig(**SMALL, feat_extract_norm="group")).save_pretrained(folder / "group")
    return {name: str(folder / name) for name in ("layer", "group")}


@pytest.fixture(scope="module")
def centroids(models):
    """Hidden vectors of speech, so that units are many; as k-means would place them."""
    probe = KMeansUnits(models["layer"], np.zeros((1, 32), np.float32), LAYER, CPU)
    with torch.inference_mode():
        hidden = probe._hidden([np.concatenate(speech())[: 16_000 * 12]])[0]
    return hidden[np.random.default_rng(0).permutation(len(hidden))[:NUM_UNITS]].numpy()


@pytest.fixture(scope="module", params=["layer", "group"])
def extractor(request, models, centroids):
    return KMeansUnits(models[request.param], centroids, LAYER, CPU)


def speech():
    """The sample corpus' clips at 16 kHz."""
    files = sorted(XTTS.rglob("segments/*.wav"))
    return [load(clip(file.name, file.read_bytes()), 16_000).samples for file in files]


def stored(folder):
    table = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])
    return {row["clip_id"]: row for row in table.to_pylist()}


class ToyUnits:
    """A unit is the loudness of 20 ms, in per cent: a misplaced frame shows in the units themselves."""

    name = "loudness"
    rate_hz = Fraction(50)
    num_units = 101

    def units(self, waves):
        return [
            np.array(
                [round(100 * abs(wave[at : at + 320]).max()) for at in range(0, len(wave) - 319, 320)],
                np.int32,
            )
            for wave in waves
        ]


# --- the extractor --------------------------------------------------------------------------


def test_a_batch_of_speech_has_the_units_of_each_clip_alone(extractor):
    waves = speech()[:9]
    alone = [extractor.units([wave])[0] for wave in waves]
    together = extractor.units(waves)
    total = sum(len(units) for units in alone)
    assert total > 800
    assert len(np.unique(np.concatenate(alone))) > 20
    assert all(a.shape == b.shape for a, b in zip(alone, together, strict=True))
    assert sum(int((a != b).sum()) for a, b in zip(alone, together, strict=True)) <= total / 1000


@pytest.mark.parametrize("num_samples", [400, 401, 719, 720, 721, 16_000, 16_399])
def test_a_clip_has_a_unit_a_frame_that_fits_whole_and_all_are_in_range(extractor, num_samples):
    wave = speech()[0][2000 : 2000 + num_samples]
    units = extractor.units([wave, speech()[1]])[0]
    assert units.dtype == np.int32
    assert len(units) == (num_samples - 400) // 320 + 1
    assert units.min() >= 0
    assert units.max() < NUM_UNITS


def test_units_are_those_of_the_hidden_state_after_the_layer_by_exact_distance(models, centroids):
    wave = speech()[0]
    model = Wav2Vec2Model.from_pretrained(models["layer"]).eval()
    normal = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
    with torch.inference_mode():
        hidden = model(torch.from_numpy(normal)[None], output_hidden_states=True).hidden_states[LAYER + 1][0]
    distances = np.linalg.norm(hidden.numpy()[:, None].astype(np.float64) - centroids[None], axis=-1)
    units = KMeansUnits(models["layer"], centroids, LAYER, CPU).units([wave])[0]
    assert (units != distances.argmin(axis=1)).mean() < 0.01


def test_the_last_layer_is_caught_before_the_final_norm(models):
    last = KMeansUnits(models["layer"], np.zeros((1, 32), np.float32), 2, CPU)
    with torch.inference_mode():
        caught = last._hidden([speech()[0]])
        normed = last._model.encoder.layer_norm(caught)
    assert not torch.allclose(caught, normed, atol=1e-2)


def test_units_repeat_where_the_sound_does(models, centroids):
    same = np.tile(speech()[0][5000:5320], 60)
    units = KMeansUnits(models["layer"], centroids, LAYER, CPU).units([same])[0]
    assert len(units) == (len(same) - 400) // 320 + 1, "nothing is de-duplicated"


def test_what_a_clip_is_too_short_for_gets_no_unit_and_spoils_nothing(extractor):
    wave = speech()[0]
    short = [np.zeros(n, np.float32) for n in (1, 9, 10, 399)]
    lists = extractor.units([short[0], wave, *short[1:]])
    assert [len(units) for units in lists] == [0, (len(wave) - 400) // 320 + 1, 0, 0, 0]
    assert [len(units) for units in extractor.units(short)] == [0, 0, 0, 0]


def test_an_extractor_says_its_rate_units_and_name(extractor, models, centroids):
    assert (extractor.rate_hz, extractor.num_units) == (50, NUM_UNITS)
    assert extractor.name in ("layer_200", "group_200")
    ten_thousand = KMeansUnits(models["layer"], np.zeros((10_000, 32), np.float32), LAYER, CPU)
    assert ten_thousand.name == "layer_10k"


# --- what does not fit ----------------------------------------------------------------------


def test_layers_and_centroids_that_do_not_fit_the_model_are_refused(models, centroids, tmp_path):
    with pytest.raises(UsageError, match=r"--layer 3: .* has 3 layers, counted from 0"):
        KMeansUnits(models["layer"], centroids, 3, CPU)
    with pytest.raises(UsageError, match="centroids of 16 numbers; expected 32"):
        KMeansUnits(models["layer"], centroids[:, :16], LAYER, CPU)
    with pytest.raises(UsageError, match="none: no such folder; expected a folder"):
        KMeansUnits(str(tmp_path / "none"), centroids, LAYER, CPU)
    mimi = MimiConfig(hidden_size=32, num_filters=4, num_hidden_layers=1, num_attention_heads=2,
                      intermediate_size=8, upsample_groups=32, codebook_size=64)  # fmt: skip
    MimiModel(mimi).save_pretrained(tmp_path / "mimi")
    with pytest.raises(UsageError, match="found a MimiModel"):
        KMeansUnits(str(tmp_path / "mimi"), centroids, LAYER, CPU)


def test_files_that_hold_no_centroids_are_refused_with_what_they_hold(tmp_path):
    path = tmp_path / "kmeans.npy"
    with pytest.raises(UsageError, match="No such file"):
        load_centroids(path)
    path.write_bytes(b"junk")
    with pytest.raises(UsageError, match="expected an"):
        load_centroids(path)
    for wrong, words in (
        (np.zeros(5, np.float32), "float32"),
        (np.zeros((3, 4), np.int64), "int64"),
        (np.full((3, 4), np.nan), "NaN"),
        (np.array([None]), "expected an"),
    ):
        np.save(path, wrong, allow_pickle=True)
        with pytest.raises(UsageError, match=words):
            load_centroids(path)
    np.save(path, np.ones((3, 4)))
    assert load_centroids(path).dtype == np.float32


# --- the whole command ----------------------------------------------------------------------


def test_every_clip_of_a_corpus_gets_its_units(tmp_path, models, centroids):
    np.save(tmp_path / "kmeans.npy", centroids)
    source = {field.name: field.default for field in dataclasses.fields(ClipSelection)}
    named = {"source": "deepdialogue_ttt", "data_dir": str(XTTS), "out": tmp_path / "units", "device": "cpu",
             "model": models["layer"], "layer": LAYER, "kmeans": tmp_path / "kmeans.npy",
             "batch_seconds": None, "overwrite": False}  # fmt: skip
    options = argparse.Namespace(**{**source, **named})
    report = run_units(options)
    rows = stored(tmp_path / "units")
    assert (report.num_made, report.faults.total(), len(rows)) == (17, 0, 17)
    health = "deepdialogue-xtts/dialogues_llama3-8B_cohere7B/health_2_4/0"
    assert len(rows[health]["units"]) == (28_050 - 400) // 320 + 1  # 42 075 samples at 24 kHz
    assert run_units(options).num_earlier == 17
    other = argparse.Namespace(**{**vars(options), "layer": 0})
    with pytest.raises(UsageError, match="layer"):
        run_units(other)


def test_any_extractor_will_do_and_its_units_stand_where_their_sound_is(tmp_path):
    loud = np.repeat(np.array([0.1, 0.9, 0.5], np.float32), 320)
    clips = [clip("loud", wav(loud, 16_000)), clip("short", wav(loud[:5], 16_000)), clip("broken", b"?")]
    with SidecarWriter.open(tmp_path / "units", {"kind": "units", "codec": ToyUnits.name}) as writer:
        report = run(clips, writer, UnitEncoder(ToyUnits()), batch_seconds=1, num_threads=1)
    rows = stored(tmp_path / "units")
    assert rows["loud"]["units"] == [10, 90, 50]
    assert rows["short"]["units"] is None
    assert rows["short"]["reason"] == "empty: 5 samples are too short for a frame"
    assert rows["broken"]["reason"].startswith("undecodable: ")
    assert report.faults == {"empty": 1, "undecodable": 1}
