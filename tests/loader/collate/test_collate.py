"""What a batch promises, whatever the rows and the plan."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import ragged_rows as ragged_toys
from toys.building import build_rows
from toys.building import read_rows
from toys.examples import FEW
from toys.examples import MANY
from toys.ragged_rows import AUDIO
from toys.ragged_rows import PAD
from toys.ragged_rows import RATE
from toys.ragged_rows import ToyRow
from toys.ragged_rows import ints
from toys.ragged_rows import ragged
from toys.samples import XTTS

from speechrows.codec import num_audio_tokens
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.loader.batch import ON_HOST
from speechrows.loader.batch import Batch
from speechrows.loader.collate.augment import Augment
from speechrows.loader.collate.collator import Collator
from speechrows.loader.collate.folding import Folding
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.ragged import Ragged
from speechrows.text import tokenizers

BUCKET = PlanOptions(budget_seconds=60)


def collator(plan_options: PlanOptions = BUCKET, **options) -> Collator:
    return Collator(
        device="cpu", pad_id=PAD, plan_options=plan_options, audio_tokens_per_second=RATE, **options
    )


def batches(rows: list[ToyRow], plan_options: PlanOptions, **options) -> list[tuple[Batch, list[ToyRow]]]:
    """Two steps of an epoch, each batch with its rows."""
    plan = plan_epoch(ragged_toys.plan_rows(rows), plan_options)
    micro_batches = [micro_batch for step in list(plan)[:2] for micro_batch in step]
    collate = collator(plan_options, **options)
    return [
        (collate(ragged(rows, micro_batch), 0), [rows[i] for i in micro_batch.rows.tolist()])
        for micro_batch in micro_batches
    ]


@MANY
@given(ragged_toys.ROWS, ragged_toys.OPTIONS)
def test_the_slots_of_a_row_hold_exactly_its_ids_and_labels_and_all_others_are_pads(rows, options):
    for batch, of_rows in batches(rows, options):
        is_pad = torch.ones_like(batch.attention_mask)
        assert len(batch) == len(of_rows) == len(batch.row_spans)
        for row, (sequence, start, end) in zip(of_rows, batch.row_spans.tolist(), strict=True):
            assert batch.input_ids[sequence, start:end].tolist() == row.input_ids
            is_first = (
                start == 0 or batch.segment_ids[sequence, start - 1] != batch.segment_ids[sequence, start]
            )
            labels = [-100, *row.labels[1:]] if is_first else row.labels
            assert batch.labels[sequence, start:end].tolist() == labels
            assert is_pad[sequence, start:end].all()
            is_pad[sequence, start:end] = False
        assert (batch.input_ids[is_pad] == PAD).all()
        assert (batch.labels[is_pad] == -100).all()
        assert torch.equal(batch.attention_mask, ~is_pad)


@MANY
@given(ragged_toys.ROWS, ragged_toys.OPTIONS)
def test_segments_are_what_is_reset_together(rows, options):
    for batch, of_rows in batches(rows, options):
        unit = [(s, i if options.mode == "bucket" else row.conversation) for i, (row, (s, _, _)) in enumerate(
            zip(of_rows, batch.row_spans.tolist(), strict=True))]  # fmt: skip
        numbers = {name: number for number, name in enumerate(dict.fromkeys(unit))}
        for name, row, (s, start, end) in zip(unit, of_rows, batch.row_spans.tolist(), strict=True):
            assert (batch.segment_ids[s, start:end] == numbers[name]).all()
            positions = batch.position_ids[s, start:end]
            assert (positions.diff() == 1).all()
            begins = options.mode == "bucket" or row.turn == 0
            assert (positions[0] == 0) == begins == batch.reset[s, start]
            assert not batch.reset[s, start + 1 : end].any()
        assert not batch.reset[~batch.attention_mask].any()
        inside = batch.segment_ids[batch.attention_mask]
        ends = [0, *np.cumsum(np.bincount(inside.numpy(), minlength=len(numbers))).tolist()]
        assert batch.cu_seqlens.tolist() == ends
        if options.close_on == "conversation":
            assert (batch.segment_ids[~batch.attention_mask] == -1).all()
        for line, segments in enumerate(batch.segment_ids):  # pads of a segment lie between its rows
            for number in set(segments.tolist()) - {-1}:
                at = (segments == number).nonzero().ravel()
                assert (at.diff() == 1).all()
                assert batch.attention_mask[line, at[0]]
                assert batch.attention_mask[line, at[-1]]
                assert (batch.position_ids[line, at].diff() == 1).all()


@MANY
@given(ragged_toys.ROWS, ragged_toys.OPTIONS)
def test_shapes_and_kinds_are_those_that_are_promised(rows, options):
    for batch, of_rows in batches(rows, options):
        longest = max((len(row.input_ids) for row in of_rows), default=0)
        multiple = options.pad_to_multiple_of
        slots = -(-longest // multiple) * multiple if options.mode == "bucket" else options.context
        sequences = len(of_rows) if options.mode == "bucket" else options.num_sequences
        for name in ("input_ids", "labels", "position_ids", "attention_mask", "segment_ids", "reset"):
            assert getattr(batch, name).shape == (sequences, slots)
        kinds = {"attention_mask": torch.bool, "reset": torch.bool, "segment_ids": torch.int32,
                 "cu_seqlens": torch.int32, "speech": torch.float32}  # fmt: skip
        for name in Batch.__slots__:
            value = getattr(batch, name)
            if isinstance(value, torch.Tensor):
                assert value.dtype == kinds.get(name, torch.int64), name
        assert batch.lanes.tolist() == [(batch.number or 0) * sequences + i for i in range(sequences)]
        assert batch.conversation_ids == tuple(f"some/{row.conversation}" for row in of_rows)
        assert batch.turn_numbers == tuple(row.turn for row in of_rows)
        assert batch.audio_seconds == pytest.approx(sum(row.num_samples / row.rate for row in of_rows))


@MANY
@given(ragged_toys.ROWS, ragged_toys.OPTIONS)
def test_clips_and_codes_stand_in_the_order_of_their_rows_and_placeholders(rows, options):
    for batch, of_rows in batches(rows, options):
        spoken = [i for i, row in enumerate(of_rows) if row.num_samples]
        assert batch.clip_row.tolist() == spoken
        assert batch.num_audio_tokens.tolist() == [of_rows[i].num_audio_tokens for i in spoken]
        at_placeholders = batch.segment_ids[batch.input_ids == AUDIO]
        assert (
            at_placeholders.tolist() == batch.clip_segment.repeat_interleave(batch.num_audio_tokens).tolist()
        )
        coded = [i for i, row in enumerate(of_rows) if row.num_frames]
        assert batch.codec_row.tolist() == coded
        assert batch.codec_lengths.tolist() == [of_rows[i].num_frames for i in coded]
        spans = batch.row_spans[coded]
        assert batch.codec_segment.tolist() == batch.segment_ids[spans[:, 0], spans[:, 1]].tolist()
        if not coded:
            assert batch.codec is batch.codec_targets is None
            continue
        assert batch.codec == "mimi"
        assert batch.codec_targets.shape == (len(coded), 8, max(of_rows[i].num_frames for i in coded))
        for i, targets in zip(coded, batch.codec_targets, strict=True):
            frames = of_rows[i].num_frames
            assert np.array_equal(targets[:, :frames], of_rows[i].codes)
            assert (targets[:, frames:] == -100).all()


@MANY
@given(ragged_toys.ROWS, ragged_toys.OPTIONS)
def test_speech_is_the_samples_of_each_clip_then_zeros(rows, options):
    for batch, of_rows in batches(rows, options):
        spoken = [row for row in of_rows if row.num_samples]
        rooms = [row.num_audio_tokens * 1280 for row in spoken]
        if options.mode == "bucket":
            assert batch.speech.shape == (len(spoken), max(rooms, default=0))
        assert len(batch.speech) == batch.clip_pieces.sum()
        assert len(batch.clips()) == len(spoken)
        assert batch.speech_lengths.tolist() == [-(-row.num_samples * 16_000 // row.rate) for row in spoken]
        assert batch.speech.numel() == 0 or batch.speech.abs().max() <= 1
        for row, wave, length in zip(spoken, batch.clips(), batch.speech_lengths.tolist(), strict=True):
            assert not wave[length:].any()
            if row.rate == batch.sampling_rate:
                assert np.array_equal(wave[:length], row.wave.astype(np.float32) / 32768)
            else:
                assert abs(
                    wave[:length].square().mean() / np.square(row.wave / 32768.0).mean() - 1
                ) < 0.5 or (row.num_samples < 500)


@pytest.mark.parametrize("options", [{}, {"mel": 80}, {"mel": 128}, {"sampling_rate": 24_000}])
def test_a_clip_alone_is_what_it_is_in_any_batch(options):
    rows = [
        ToyRow(number=i, num_samples=n, rate=rate)
        for i, (n, rate) in enumerate([(9000, 16_000), (1, 24_000), (30_000, 8_000), (16_001, 44_100),
                                       (7, 16_000), (25_000, 24_000), (1281, 16_000), (11_025, 11_025)])
    ]  # fmt: skip
    together = collator(**options)(ragged(rows), 0)
    for i, row in enumerate(rows):
        alone = collator(**options)(ragged([row]), 0)
        field, bound = ("features", 1e-4) if "mel" in options else ("speech", 1e-6)
        actual, expected = getattr(together, field)[i], getattr(alone, field)[0]
        assert (actual[..., : expected.shape[-1]] - expected).abs().max() < bound
        assert together.speech_lengths[i] == alone.speech_lengths[0]
        if field == "speech":
            assert not actual[expected.shape[-1] :].any()


@pytest.mark.parametrize("mode", ["pack", "lanes"])
@pytest.mark.parametrize(
    "options", [{}, {"mel": 80}, {"augment": Augment(speed_percent=(100, 120), snr_db=(5, 20))}]
)
def test_one_long_clip_among_short_ones_is_no_more_than_its_audio(mode, options):
    rates = (16_000, 24_000)
    rows = [ToyRow(number=i, num_samples=9_000 + 700 * (i % 5), rate=rates[i % 2]) for i in range(24)]
    rows[11] = ToyRow(number=11, num_samples=700_001, rate=24_000)
    rows[5] = ToyRow(number=5, num_samples=40_000)
    plan_options = PlanOptions(mode=mode, context=4096)
    batch = collator(**options, plan_options=plan_options)(ragged(rows), 0)
    audio = batch.features if "mel" in options else batch.speech
    step = 160 / 80 if "mel" in options else 1  # samples that a number stands for
    rooms = batch.num_audio_tokens * 1280
    assert audio.numel() * step <= 2 * rooms.sum()
    assert len(audio) == batch.clip_pieces.sum() > len(rows)
    for i, (row, clip) in enumerate(zip(rows, batch.clips(), strict=True)):
        (alone,) = collator(**options)(ragged([row]), 0).clips()
        count = alone.shape[-1]
        assert (clip[..., :count] - alone).abs().max() < 1e-4, i
        assert not clip[..., count:].any()
    even = [replace(row, num_samples=9_000 + i) for i, row in enumerate(rows)]
    batch = collator(plan_options=plan_options)(ragged(even), 0)
    assert batch.clip_pieces.tolist() == [1] * len(rows)  # a row a clip, where that costs little


@MANY
@given(st.lists(st.integers(1, 1 << 21), max_size=60))
def test_a_batch_is_at_most_four_times_its_audio_whatever_the_lengths(rooms):
    folding = Folding.of(np.array(rooms, np.int64), "pack")
    assert folding.width * int(folding.pieces.sum()) <= 4 * sum(rooms) + 160 * len(rooms)
    assert (folding.pieces * folding.width >= rooms).all()
    assert sorted(np.concatenate(folding.groups).tolist()) == [*range(len(rooms))]
    if len(folding.groups) > 1:
        assert all(
            max(rooms[i] for i in group) < 2 * min(rooms[i] for i in group) for group in folding.groups
        )


def test_however_many_clips_there_are_of_a_rate_each_is_its_own():
    rows = [ToyRow(number=i, num_samples=30 + i, rate=24_000 if i % 3 else 16_000) for i in range(120)]
    batch = collator()(ragged(rows), 0)
    for row, wave in zip(rows, batch.speech, strict=True):
        assert (wave - collator()(ragged([row]), 0).speech[0]).abs().max() < 1e-6
    same = [replace(row, rate=16_000) for row in rows]
    for row, wave in zip(same, collator()(ragged(same), 0).speech, strict=True):
        assert np.array_equal(wave[: row.num_samples], row.wave.astype(np.float32) / 32768)


@MANY
@given(st.integers(1, 300_000), st.sampled_from([8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]),
       st.sampled_from([Fraction(25, 2), Fraction(10), Fraction(25), Fraction(75, 10), Fraction(50, 3)]),
       st.sampled_from([16_000, 24_000]))  # fmt: skip
def test_at_every_length_there_is_room_for_the_clip_and_no_more_than_its_placeholders(samples, rate, hz, new):
    count = num_audio_tokens(samples, rate, hz)
    row = replace(ragged([ToyRow(number=0, num_samples=8, rate=rate)]), num_samples=np.int32([samples]),
                  num_audio_tokens=np.int32([count]), samples=np.zeros(samples, np.int16))  # fmt: skip
    if rate != new:
        row = replace(row, num_samples=np.int32([min(samples, 3000)]), samples=row.samples[:3000])
    collate = Collator(
        device="cpu", pad_id=PAD, plan_options=BUCKET, audio_tokens_per_second=hz, sampling_rate=new
    )
    batch = collate(row, 0)
    width = batch.speech.shape[1]
    assert width == -(-count * new // hz)
    assert width >= batch.speech_lengths[0] == -(-int(row.num_samples[0]) * new // rate)


@FEW
@given(st.integers(1, 100_000))
def test_features_have_eight_frames_a_placeholder_at_every_length(samples):
    batch = collator(mel=80)(ragged([ToyRow(number=0, num_samples=samples)]), 0)
    assert batch.features.shape == (1, 80, 8 * batch.num_audio_tokens[0])
    assert batch.speech is None


def test_an_idle_rank_gets_a_batch_of_nothing():
    rows = [ToyRow(number=0, num_samples=2000), ToyRow(number=1, conversation=1)]
    for plan_options in (BUCKET, PlanOptions(mode="pack", context=64), PlanOptions(mode="lanes", context=64)):
        plan = plan_epoch(ragged_toys.plan_rows(rows), plan_options)
        idle = next(plan.for_rank(1, 2))
        for options in ({}, {"mel": 80}):
            batch = collator(plan_options, **options)(ragged(rows, idle), 3)
            assert batch.number is None
            assert (len(batch), len(batch.input_ids), len(batch.num_audio_tokens)) == (0, 0, 0)
            assert batch.cu_seqlens.tolist() == [0]
            assert batch.epoch == 3
            assert len(batch.features if options else batch.speech) == 0


def test_a_lane_that_has_ended_is_all_pads_and_keeps_its_number():
    rows = ragged_toys.of_lengths([[(20, 0, 16_000, 0)] * 3, [(5, 0, 16_000, 0)]])
    options = PlanOptions(mode="lanes", context=20, batch_size=2)
    *_, (last,) = plan_epoch(ragged_toys.plan_rows(rows), options)
    batch = collator(options)(ragged(rows, last), 0)
    assert batch.lanes.tolist() == [0, 1]
    assert batch.attention_mask.any(1).tolist().count(False) == 1
    empty = replace(last, rows=last.rows[:0], sequence=last.sequence[:0], start=last.start[:0],
                    position=last.position[:0])  # fmt: skip
    batch = collator(options)(ragged(rows, empty), 0)
    assert batch.input_ids.tolist() == [[PAD] * 20] * 2
    assert not batch.attention_mask.any()


def test_a_batch_keeps_nothing_of_the_buffer_that_it_releases():
    released = []
    rows = [ToyRow(number=i, num_samples=4000) for i in range(3)]
    micro_batch = ragged(rows, release=lambda: released.append(True))
    batch = collator()(micro_batch, 0)
    assert released == [True]
    micro_batch.samples[:] = -1
    assert np.array_equal(batch.speech[2, :4000], rows[2].wave.astype(np.float32) / 32768)


def test_memory_of_speech_that_is_gone_is_used_again_and_of_speech_that_is_kept_never():
    rows = [ToyRow(number=n, num_samples=20_000) for n in range(3)]
    plan = plan_epoch(ragged_toys.plan_rows(rows), PlanOptions(budget_seconds=1.3))
    collate, micro_batches = collator(), [micro_batch for step in plan for micro_batch in step]

    def speech(number: int) -> torch.Tensor:
        made = collate(ragged(rows, micro_batches[number]), 0).speech
        assert made is not None
        return made

    kept, place = speech(0), speech(1).data_ptr()
    before, again = kept.clone(), speech(2)
    assert again.data_ptr() == place != kept.data_ptr()
    assert torch.equal(kept, before)


def test_a_batch_moves_to_another_device_but_for_what_the_host_goes_by():
    batch = collator()(ragged([ToyRow(number=0, num_samples=4000)]), 0)
    moved = batch.to("meta")
    assert all(getattr(moved, name) is getattr(batch, name) for name in ON_HOST)
    assert moved.features is None
    assert {moved.speech.device.type, moved.input_ids.device.type, moved.clip_segment.device.type} == {"meta"}
    assert batch.num_supervised == int((batch.labels != -100).sum()) > 0


def test_under_autocast_the_audio_is_computed_as_without():
    rows = ragged([ToyRow(number=i, num_samples=8000, rate=24_000) for i in range(2)])
    expected = collator(mel=80)(rows, 0).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(collator(mel=80)(rows, 0).features, expected)


def test_a_clip_longer_than_its_placeholders_is_an_error_that_names_its_row():
    rows = [ToyRow(number=0, num_samples=1280), ToyRow(number=1, turn=1, num_samples=1281)]
    micro_batch = ragged(rows)
    with pytest.raises(
        ShortfallError, match=r"toys/train/some/0/1/ttt.*1281 samples at 16000 Hz.*1 placeholders"
    ):
        collator()(replace(micro_batch, num_audio_tokens=np.int32([1, 1])), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mel": 64}, "expected 80 or 128"),
        ({"mel": 80, "sampling_rate": 24_000}, "expected 16000 with mel"),
        ({"mel": 80, "audio_tokens_per_second": Fraction(80)}, "expected less than 80"),
        ({"augment": Augment(time_masks=1)}, "give mel=80 or mel=128"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        replace(collator(), **options)


def test_rows_that_were_built_become_batches_that_say_what_they_say(tmp_path):
    build_rows(XTTS, tmp_path)
    built = read_rows(tmp_path)
    tokenizer = tokenizers.open_tokenizer(str(tmp_path / "tokenizer"))
    numbers = [row["conversation_id"] for row in built]
    clips = [soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16") for row in built]
    rows = plan_rows_of(built)
    options = PlanOptions(mode="pack", context=2048, pad_to_multiple_of=64, batch_size=2)
    collate = Collator(device="cpu", pad_id=tokenizers.pad_id(tokenizer), plan_options=options,
                       audio_tokens_per_second=RATE)  # fmt: skip
    seen = 0
    for (micro_batch,) in plan_epoch(rows, options):
        batch = collate(read(built, clips, micro_batch), 0)
        for place, number in enumerate(micro_batch.rows.tolist()):
            sequence, start, end = batch.row_spans[place].tolist()
            ids, labels = (tensor[sequence, start:end] for tensor in (batch.input_ids, batch.labels))
            words = tokenizer.decode(ids[labels != -100], skip_special_tokens=True)
            assert words.strip() == built[number]["transcript"]
            assert batch.conversation_ids[place] == numbers[number]
            wave, rate = clips[number]
            expected = soxr.resample(wave / 32768, rate, 16_000, quality="VHQ")
            wave = batch.speech[place, : len(expected)].numpy()
            assert np.square(wave - expected).mean() < 1e-6 * np.square(expected).mean()
            seen += 1
    assert seen == len(built) > 5


def plan_rows_of(built: list[dict]) -> PlanRows:
    return PlanRows(
        num_tokens=ints(row["num_tokens"] for row in built),
        ticks=ints(row["num_samples"] * 100 // row["sampling_rate"] + 1 for row in built),
        conversations=np.cumsum([row["turn_number"] == 0 for row in built]).astype(np.int32),
        whole=True,
    )


def read(built: list[dict], clips: list, micro_batch: MicroBatch) -> Ragged:
    """What reading makes of built rows."""
    rows = [built[number] for number in micro_batch.rows.tolist()]
    waves = [clips[number][0] for number in micro_batch.rows.tolist()]
    counts = [num_audio_tokens(row["num_samples"], row["sampling_rate"], RATE) for row in rows]
    return Ragged(
        micro_batch=micro_batch,
        row_ids=tuple(row["row_id"] for row in rows),
        tasks=tuple(row["task"] for row in rows),
        turn_numbers=ints(row["turn_number"] for row in rows),
        num_tokens=ints(row["num_tokens"] for row in rows),
        input_ids=ints(token for row in rows for token in row["input_ids"][: row["num_tokens"]]),
        labels=ints(label for row in rows for label in row["labels"][: row["num_tokens"]]),
        samples=np.concatenate(waves),
        num_samples=ints(len(wave) for wave in waves),
        sampling_rates=ints(row["sampling_rate"] for row in rows),
        num_audio_tokens=ints(counts),
        clip_rows=ints(range(len(rows))),
        codec=None,
        codes=np.empty(0, np.int16),
        num_frames=ints([]),
        code_rows=ints([]),
    )
