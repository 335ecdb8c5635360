"""What `speechrows generate mimi` promises, through the real MimiModel class with small random weights."""

import argparse
import dataclasses
import json
import shutil
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from toys.audio import clip
from toys.audio import encoded
from toys.audio import wav
from toys.mimi import tiny_mimi
from toys.samples import XTTS
from transformers import MimiModel

from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.codec import num_frames
from speechrows.errors import UsageError
from speechrows.generate.clip import InputClip
from speechrows.generate.encode import run
from speechrows.generate.mimi import MimiEncoder
from speechrows.generate.mimi import load_model
from speechrows.generate.mimi import pick_device
from speechrows.generate.mimi import run_mimi
from speechrows.generate.selection import ClipSelection
from speechrows.generate.waves import FaultyClip
from speechrows.generate.waves import Prefetch
from speechrows.generate.waves import Wave
from speechrows.generate.waves import batches
from speechrows.generate.waves import load
from speechrows.generate.waves import windows
from speechrows.generate.writer import SidecarWriter

MIMI = CODECS["mimi"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small models are slower on several, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small Mimi with Mimi's own frames and codebooks, saved as a checkpoint is."""
    return tiny_mimi(tmp_path_factory.mktemp("models") / "tiny-mimi")


@pytest.fixture(scope="module")
def encoder(model):
    return MimiEncoder(load_model(model), CPU, batch_seconds=60.0)


def options(out, model, **more):
    source = {field.name: field.default for field in dataclasses.fields(ClipSelection)}
    named = {"source": "deepdialogue_ttt", "data_dir": str(XTTS), "out": out, "model": model, "device": "cpu",
             "batch_seconds": 4.0, "overwrite": False, "verify": 0}  # fmt: skip
    return argparse.Namespace(**{**source, **named, **more})


def noise(num_samples, seed=0, channels=1):
    samples = np.random.default_rng(seed).normal(0, 0.1, (num_samples, channels))
    return samples.astype(np.float32)


def speech():
    """The sample corpus' clips at 24 kHz, by name."""
    files = sorted(XTTS.rglob("segments/*.wav"))
    return {str(file): soundfile.read(file, dtype="float32")[0] for file in files}


def stored(folder):
    table = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])
    return {row["clip_id"]: row for row in table.to_pylist()}


# --- the encoder ----------------------------------------------------------------------------


def test_a_batch_of_speech_has_the_codes_of_each_clip_alone(encoder):
    waves = list(speech().values())
    alone = [encoder.encode([wave])[0] for wave in waves]
    together = encoder.encode(waves)
    assert sum(codes.size for codes in alone) > 3000
    assert len(np.unique(np.concatenate([codes.ravel() for codes in alone]))) > 300, (
        "codes that say something"
    )
    differing = sum(int((a != b).sum()) for a, b in zip(alone, together, strict=True))
    assert differing <= sum(codes.size for codes in alone) / 10_000


@pytest.mark.parametrize("num_samples", [1, 959, 960, 961, 1919, 1920, 1921, 5760, 5761, 24_000])
def test_a_clip_of_any_length_has_its_frames_rounded_up_alone_and_in_company(encoder, num_samples):
    wave, company = noise(num_samples)[:, 0], noise(30_000, seed=1)[:, 0]
    alone = encoder.encode([wave])[0]
    assert alone.shape == (8, num_frames(num_samples, 24_000, MIMI)) == (8, -(-num_samples // 1920))
    assert alone.dtype == np.int16
    assert check(alone, MIMI) is None
    assert np.array_equal(alone, encoder.encode([company, wave])[1])


def test_a_clip_has_the_codes_that_the_model_gives_to_its_whole_frames(model, encoder):
    wave = next(iter(speech().values()))
    whole = np.zeros((1, 1, -(-len(wave) // 1920) * 1920), np.float32)
    whole[0, 0, : len(wave)] = wave
    mimi = MimiModel.from_pretrained(model).eval()
    with torch.inference_mode():
        expected = mimi.encode(torch.from_numpy(whole), num_quantizers=8).audio_codes[0].numpy()
    assert np.array_equal(encoder.encode([wave])[0], expected)


@pytest.mark.parametrize("batch_seconds", [0.08, pytest.param(0.5, marks=pytest.mark.soak), 2.0])
def test_a_long_clip_goes_in_steps_and_has_the_same_codes(model, encoder, batch_seconds):
    wave = np.concatenate(list(speech().values()))[: 24_000 * 5 + 7]
    stepped = MimiEncoder(load_model(model), CPU, batch_seconds=batch_seconds)
    for waves in ([wave], [wave, wave[:50_000]]):
        for codes, expected in zip(stepped.encode(waves), encoder.encode(waves), strict=True):
            assert codes.shape == expected.shape
            assert (codes != expected).sum() <= expected.size / 10_000


# --- what is no Mimi ------------------------------------------------------------------------


def test_a_model_that_is_no_mimi_is_refused_with_what_it_is(tmp_path, model):
    with pytest.raises(UsageError, match="nothing: no such folder; expected a folder"):
        load_model(str(tmp_path / "nothing"))
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_quantizers": 4}))
    with pytest.raises(UsageError, match=r"8 codebooks or more; found .* and 4"):
        load_model(str(other))
    (other / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UsageError, match="its weights lack"):
        load_model(str(other))
    (other / "config.json").write_text(json.dumps({"model_type": "encodec"}))
    with pytest.raises(UsageError, match="of type 'encodec'"):
        load_model(str(other))


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "tpu", "toaster"):
        with pytest.raises(UsageError, match=f"--device {name}"):
            pick_device(name)


# --- clips, decoded ahead -------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_clips_of_any_rate_and_channels_become_mono_of_the_exact_length(rate, channels):
    for num_samples in (1, 2, 7, rate // 3, rate + 1):
        wave = load(clip("a", wav(noise(num_samples, channels=channels), rate, subtype="FLOAT")), 24_000)
        assert isinstance(wave, Wave)
        assert wave.samples.shape == (-(-num_samples * 24_000 // rate),)
        assert wave.samples.dtype == np.float32
        frames = num_frames(num_samples, rate, MIMI)
        assert num_frames(len(wave.samples), 24_000, MIMI) == frames, (
            "as validate counts them from the header"
        )


def test_two_files_end_to_end_are_one_clip_of_any_table():
    data = encoded(np.zeros(4_000), 16_000, "FLAC") + encoded(np.zeros(2_000), 16_000, "FLAC")
    assert len(load(clip("a", data), 16_000).samples) == 6_000


def test_channels_are_averaged_and_a_tone_keeps_its_pitch():
    time = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 440 * time)
    wave = load(
        clip("a", wav(np.stack([tone, np.zeros_like(tone)], axis=1), 48_000, subtype="FLOAT")), 24_000
    )
    spectrum = np.abs(np.fft.rfft(wave.samples))
    assert spectrum.argmax() == 440
    assert np.abs(wave.samples).max() == pytest.approx(0.5, abs=0.02)


FAULTS = {
    "empty": (b"", "empty"),
    "noise": (b"not audio at all", "undecodable"),
    "cut": (wav(noise(24_000))[:-5000], "truncated"),
    "no_samples": (wav(noise(0)), "zero_samples"),
    "nan": (wav(np.full(100, np.nan, np.float32), subtype="FLOAT"), "undecodable"),
    "cut_flac": (encoded(noise(48_000), 24_000, "FLAC")[:-40_000], "truncated"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_clip_is_heard_as_what_is_wrong_with_it(name):
    data, reason = FAULTS[name]
    faulty = load(clip(name, data), 24_000)
    assert isinstance(faulty, FaultyClip)
    assert faulty.reason == reason
    assert faulty.detail


def test_clips_come_in_order_and_few_of_them_wait():
    counted = []
    data = wav(noise(24_000))

    def clips():
        for number in range(60):
            counted.append(number)
            yield clip(str(number), data)

    prefetch = Prefetch(clips(), 24_000, num_samples=3 * 24_000, num_threads=2)
    for number, wave in enumerate(prefetch):
        assert wave.clip_id == str(number)
        assert len(counted) - number <= 3 + 2 * 2 + 2, "held, being decoded, in hand"
    assert number == 59
    assert prefetch.waited_s > 0


def test_who_stops_listening_stops_the_threads_and_what_the_source_raises_arrives():
    data = wav(noise(24_000))
    ahead = iter(Prefetch((clip(str(n), data) for n in range(10**9)), 24_000, num_samples=100, num_threads=2))
    assert next(ahead).clip_id == "0"
    ahead.close()

    def broken():
        yield clip("0", data)
        raise UsageError("column gone")

    with pytest.raises(UsageError, match="column gone"):
        list(Prefetch(broken(), 24_000, num_samples=100, num_threads=1))


def test_batches_hold_every_clip_once_within_the_budget_with_little_padding():
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 1000, 200)] + [5000]
    batched = batches(lengths, 2000)
    assert sorted(i for batch in batched for i in batch) == list(range(201))
    assert batched[0] == [200], "what is longer than the budget is alone"
    padded = [len(batch) * max(lengths[i] for i in batch) for batch in batched]
    assert max(padded[1:]) <= 2000
    assert sum(padded) < 1.1 * sum(lengths)
    assert batches([], 10) == []


def test_windows_end_at_a_number_of_samples_and_hold_faulty_clips_in_their_place():
    waves = [Wave(clip_id=str(n), samples=np.zeros(10, np.float32)) for n in range(7)]
    decoded = [*waves[:2], FaultyClip(clip_id="x", reason="empty", detail="nothing"), *waves[2:]]
    cut = list(windows(decoded, 30))
    assert [[clip.clip_id for clip in window] for window in cut] == [list("01x2"), list("345"), ["6"]]


# --- the whole command ----------------------------------------------------------------------


def test_every_clip_of_a_corpus_gets_its_codes_in_the_order_of_the_source(tmp_path, model, encoder):
    report = run_mimi(options(tmp_path / "codes", model, verify=3))
    rows = stored(tmp_path / "codes")
    expected = {name.clip_id: name for name in ClipSelection.of(options(None, model)).clips(audio=True)}
    assert list(rows) == list(expected)
    assert len(rows) == 17 == report.num_made
    for name, row in rows.items():
        wave = load(expected[name], 24_000).samples
        alone = encoder.encode([wave])[0]
        assert row["reason"] is None
        assert np.array(row["codes"]).shape == alone.shape
        assert (np.array(row["codes"]) != alone).sum() <= 8
    assert report.num_verified > 100
    assert report.num_differing / report.num_verified < 1 / 10_000
    assert 0 <= report.waiting_share <= 1
    assert "17 clips made, 0 without a value" in str(report)
    assert "codes differ when their clip is encoded alone" in str(report)


def test_an_interrupted_run_goes_on_where_it_was_and_ends_alike(tmp_path, model, encoder):
    recipe = {"kind": "mimi", "codec": "mimi", "model": "m"}
    data = {f"c{n:03}": wav(noise(2000 + 700 * (n % 7), seed=n)) for n in range(40)}

    def encode(clips, out, fails_after=None):
        class Failing:
            sampling_rate = encoder.sampling_rate
            left = fails_after

            def encode(self, waves):
                if self.left is not None:
                    self.left -= 1
                    if self.left < 0:
                        raise KeyboardInterrupt
                return encoder.encode(waves)

        with SidecarWriter.open(out, recipe) as writer:
            return run(clips, writer, Failing(), batch_seconds=0.2, num_threads=2, window_seconds=1)

    def clips():
        return (clip(name, value) for name, value in data.items())

    encode(clips(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        encode(clips(), tmp_path / "broken", fails_after=20)
    num_kept = len(stored(tmp_path / "broken"))
    assert 0 < num_kept < 40
    report = encode(clips(), tmp_path / "broken")
    assert (report.num_earlier, report.num_made) == (num_kept, 40 - num_kept)
    assert stored(tmp_path / "broken") == stored(tmp_path / "whole")
    assert list(stored(tmp_path / "broken")) == list(data)


def test_run_again_a_finished_folder_is_left_as_it_is_and_other_weights_are_refused(tmp_path, model):
    first = run_mimi(options(tmp_path / "codes", model))
    files = {path: path.read_bytes() for path in (tmp_path / "codes").iterdir()}
    again = run_mimi(options(tmp_path / "codes", model))
    assert (first.num_made, again.num_made, again.num_earlier) == (17, 0, 17)
    assert {path: path.read_bytes() for path in (tmp_path / "codes").iterdir()} == files
    moved = tmp_path / "elsewhere" / "tiny-mimi"
    shutil.copytree(model, moved)
    assert run_mimi(options(tmp_path / "codes", str(moved))).num_earlier == 17, "the same weights, elsewhere"
    other = MimiModel.from_pretrained(model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(moved)
    with pytest.raises(UsageError, match="weights"):
        run_mimi(options(tmp_path / "codes", str(moved)))


def test_mixed_rates_and_broken_clips_are_counted_told_and_spoil_nobody_elses_codes(tmp_path, encoder):
    good = {
        "stereo_44k": (wav(noise(44_100, channels=2), 44_100), 44_100, 44_100),
        "one_sample": (wav(noise(1)), 1, 24_000),
        "phone": (wav(noise(4_001, seed=2), 8_000), 4_001, 8_000),
        "flac": (encoded(noise(16_000, seed=3), 16_000, "FLAC"), 16_000, 16_000),
    }
    clips = [clip(name, data) for name, (data, _) in FAULTS.items()]
    clips[2:2] = [clip(name, data) for name, (data, _, _) in good.items()]
    clips.append(InputClip(clip_id="silent", text=""))
    with SidecarWriter.open(tmp_path / "codes", {"kind": "mimi", "codec": "mimi"}) as writer:
        report = run(clips, writer, encoder, batch_seconds=3, num_threads=2)
    rows = stored(tmp_path / "codes")
    assert list(rows) == [clip.clip_id for clip in clips]
    for name, (_, num_samples, rate) in good.items():
        assert check(rows[name]["codes"], MIMI) is None
        assert len(rows[name]["codes"][0]) == num_frames(num_samples, rate, MIMI)
    for name, (_, reason) in FAULTS.items():
        assert rows[name]["codes"] is None
        assert rows[name]["reason"].startswith(f"{reason}: ")
    assert report.faults == {"empty": 1, "undecodable": 2, "truncated": 2, "zero_samples": 1, "missing": 1}
    assert (report.num_made, report.faults.total()) == (4, 7)
    assert "empty: 1" in str(report)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_batch_of_no_length_is_refused(tmp_path, encoder, seconds):
    with (
        SidecarWriter.open(tmp_path / "codes", {"kind": "mimi", "codec": "mimi"}) as writer,
        pytest.raises(UsageError, match=r"--batch-seconds: found .*, expected a number above 0"),
    ):
        run([], writer, encoder, batch_seconds=seconds, num_threads=1)


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path):
    data = wav(noise(24_000))

    class Silent:
        sampling_rate = 24_000

        def encode(self, waves):
            return [np.zeros((8, num_frames(len(wave), 24_000, MIMI)), np.int16) for wave in waves]

    def peak(number):
        clips = (clip(str(n), data) for n in range(number))
        tracemalloc.start()
        with SidecarWriter.open(tmp_path / str(number), {"kind": "mimi", "codec": "mimi"}) as writer:
            run(clips, writer, Silent(), batch_seconds=2, num_threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = peak(150), peak(900)
    assert many < few + (8 << 20), "900 clips are 86 MB of samples"
