"""`speechrows.load`: what an epoch holds, whoever reads it, wherever it was stopped."""

import pickle
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader
from toys.building import build_rows
from toys.building import made_up
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.examples import FEW
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.tokenizer import bpe
from transformers import PreTrainedTokenizerFast
from transformers import Trainer
from transformers import TrainingArguments

import speechrows
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.loader.batch import Batch
from speechrows.loader.loader import Loader
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.torch_dataset import RowsDataset
from speechrows.model.omni import omni
from speechrows.model.shape import ModelShape

MODES: dict[str, dict[str, Any]] = {
    "bucket": {"budget_seconds": 6, "too_long": "drop"},
    "pack": {"context": 1024, "batch_size": 2, "too_long": "drop"},
    "lanes": {"context": 512, "batch_size": 2, "too_long": "drop"},
}
modes = st.sampled_from(sorted(MODES))
worlds = st.sampled_from([1, 2, 3, 5])  # 5: more than there are micro-batches in a step


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 dialogues of synthetic speech, 60 turns of 0.2 to 0.6 s."""
    base = tmp_path_factory.mktemp("loader")
    build_rows(write_corpus(base / "corpus", dialogues=15, seconds=0.4), base / "rows")
    return base / "rows"


def opened(rows: Path, mode: str, **options: Any) -> Loader:
    rate = {"sampling_rate": 24_000}  # the corpus' own: resampling is not what is tested here
    return speechrows.load(str(rows), "ttt", mode=mode, **{**rate, **MODES[mode], **options})  # type: ignore[arg-type]


Steps = dict[tuple[int, int], tuple[str, ...]]


def steps_of(batches: Iterable[Batch]) -> Steps:
    """The rows of each micro-batch, by step and number; idle ranks' have none."""
    steps: Steps = {}
    for batch in batches:
        if batch.number is None:
            assert not batch.row_ids
            assert batch.input_ids.shape[0] == 0
            continue
        assert (batch.step, batch.number) not in steps
        steps[batch.step, batch.number] = batch.row_ids
    return steps


def steps_of_all(loaders: list[Loader]) -> Steps:
    """The same of all ranks together; each has as many batches."""
    lists = [[*loader] for loader in loaders]
    assert len({len(batches) for batches in lists}) == 1
    steps: Steps = {}
    for batches in lists:
        of_rank = steps_of(batches)
        assert not of_rank.keys() & steps.keys()
        steps |= of_rank
    return steps


def ranks(rows: Path, mode: str, world_size: int, **options: Any) -> list[Loader]:
    return [opened(rows, mode, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


@given(mode=modes, world_size=worlds, seed=st.integers(0, 9))
@FEW
def test_every_row_comes_once_an_epoch_and_in_the_same_steps_whatever_the_ranks(
    rows: Path, mode: str, world_size: int, seed: int
) -> None:
    alone = steps_of(opened(rows, mode, micro_batches=4, seed=seed))
    together = steps_of_all(ranks(rows, mode, world_size, micro_batches=4, seed=seed))
    assert together == alone
    names = sorted(name for batch in alone.values() for name in batch)
    loader = opened(rows, mode, micro_batches=4, seed=seed)
    assert len(names) == len({*names}) == len(loader.index) - loader.plan.num_dropped
    assert {*names} <= {row["row_id"] for row in read_rows(rows)}


@given(mode=modes, before=worlds, after=worlds, data=st.data())
@FEW
def test_a_state_of_any_step_goes_on_exactly_on_any_number_of_ranks(
    rows: Path, mode: str, before: int, after: int, data: st.DataObject
) -> None:
    expected = steps_of(opened(rows, mode, micro_batches=4))
    first = ranks(rows, mode, before, micro_batches=4)
    num_batches = data.draw(st.integers(0, len(first[0]) - 1), label="batches taken by each rank")
    done: Steps = {}
    for loader in first:
        done |= steps_of(islice(loader, num_batches))
    states = [loader.state_dict() for loader in first]
    assert all(state == states[0] for state in states)
    second = ranks(rows, mode, after)  # micro_batches are the state's
    for loader in second:
        loader.load_state_dict(states[0])
    remaining = steps_of_all(second)
    assert not done.keys() & remaining.keys()
    assert done | remaining == expected
    assert all(loader.epoch == 1 for loader in second)


@pytest.mark.parametrize("mode", MODES)
def test_an_iterator_that_is_abandoned_loses_and_doubles_nothing(rows: Path, mode: str) -> None:
    loader = opened(rows, mode)
    expected = [batch.row_ids for batch in opened(rows, mode)]
    row_ids: list[tuple[str, ...]] = []
    while loader.epoch == 0:
        row_ids += [batch.row_ids for batch in islice(loader, 3)]
        if len(row_ids) == len(expected):
            break
    assert row_ids == expected


@pytest.mark.parametrize("mode", MODES)
def test_threads_and_prefetch_change_no_batch(rows: Path, mode: str) -> None:
    def contents(loader: Loader) -> list[Any]:
        return [(batch.row_ids, batch.input_ids.tolist(), batch.speech.tolist()) for batch in loader]  # type: ignore[union-attr]

    expected = contents(opened(rows, mode, num_threads=1, prefetch=1))
    assert contents(opened(rows, mode, num_threads=4, prefetch=7)) == expected


def test_turns_of_a_conversation_stay_in_a_lane_in_order_and_only_its_first_resets(rows: Path) -> None:
    at: dict[str, tuple[int, int]] = {}  # conversation -> its lane, its last turn
    for batch in opened(rows, "lanes"):
        for i, (sequence, start, _) in enumerate(batch.row_spans.tolist()):
            conversation, turn = batch.conversation_ids[i], batch.turn_numbers[i]
            lane = int(batch.lanes[sequence])
            assert at.get(conversation, (lane, -1)) == (lane, turn - 1)
            at[conversation] = lane, turn
            assert bool(batch.reset[sequence, start]) is (turn == 0)
    lasts = {row["conversation_id"]: row["num_turns"] - 1 for row in read_rows(rows)}
    assert {name: turn for name, (_, turn) in at.items()} == lasts
    assert sum(int(batch.reset.sum()) for batch in opened(rows, "lanes")) == len(lasts)


def test_in_sessions_a_state_goes_on_through_conversations_that_attend_to_themselves_alone(
    rows: Path,
) -> None:
    resets = conversations = 0
    for batch in (loader := opened(rows, "lanes", session_tokens=700)):
        for i, (sequence, start, _) in enumerate(batch.row_spans.tolist()):
            begins = batch.turn_numbers[i] == 0
            assert (int(batch.position_ids[sequence, start]) == 0) is begins
            assert begins or not batch.reset[sequence, start]
            conversations += begins
        resets += int(batch.reset.sum())
        parts = {tuple(batch.row_spans[i, :1].tolist()): set[str]() for i in range(len(batch))}
        for name, (sequence, _, _) in zip(batch.conversation_ids, batch.row_spans.tolist(), strict=True):
            parts[sequence,].add(name)
        assert int(batch.segment_ids.max()) + 1 == sum(map(len, parts.values()))
    assert 1 < resets < conversations
    again = opened(rows, "lanes", session_tokens=700)
    again.load_state_dict(loader.state_dict())
    with pytest.raises(UsageError, match="session_tokens 700, here None"):
        opened(rows, "lanes").load_state_dict(loader.state_dict())


def test_a_source_is_what_a_conversation_id_begins_with(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "rows")
    index = Index.open(str(tmp_path / "rows"), "ttt")
    names = [row["conversation_id"].rpartition("/")[0] for row in read_rows(tmp_path / "rows")]
    first = [*dict.fromkeys(names)]
    assert len(first) > 1
    assert index.source.tolist() == [first.index(name) for name in names]


def test_conversations_are_whole_in_pack_their_positions_begin_at_zero(rows: Path) -> None:
    for batch in opened(rows, "pack"):
        for segment in range(int(batch.segment_ids.max()) + 1):
            positions = batch.position_ids[batch.segment_ids == segment]
            assert positions.tolist() == [*range(len(positions))]
        for conversation in {*batch.conversation_ids}:
            rows_of_it = [i for i, name in enumerate(batch.conversation_ids) if name == conversation]
            assert [batch.turn_numbers[i] for i in rows_of_it] == [*range(len(rows_of_it))]
            segments = {int(batch.segment_ids[tuple(batch.row_spans[i, :2])]) for i in rows_of_it}
            assert len(segments) == 1


def test_rows_too_long_are_named_or_dropped_and_counted(rows: Path) -> None:
    longest = max(read_rows(rows), key=lambda row: row["num_samples"])
    with pytest.raises(UsageError, match=longest["row_id"]):
        [*opened(rows, "bucket", budget_seconds=0.4, too_long="error")]
    loader = opened(rows, "bucket", budget_seconds=0.4)
    names = {name for batch in loader for name in batch.row_ids}
    fits = {row["row_id"] for row in read_rows(rows) if row["num_samples"] <= 0.4 * row["sampling_rate"]}
    assert names == fits
    assert opened(rows, "bucket", budget_seconds=0.4).plan.num_dropped == 60 - len(fits)


def test_iterating_again_is_the_next_epoch_and_set_epoch_goes_to_any(rows: Path) -> None:
    loader = opened(rows, "bucket")
    first, second = [steps_of(loader) for _ in range(2)]
    assert first != second
    loader.set_epoch(0)
    assert steps_of(loader) == first
    next(iter(loader))
    with pytest.raises(UsageError, match="epoch: found -1, expected at least 0"):
        loader.set_epoch(-1)
    loader.set_epoch(1)  # the epoch under way: it goes on
    assert len([*loader]) == len(second) - 1


def test_a_loader_is_shown_by_what_it_reads_and_where_it_stands(rows: Path) -> None:
    loader = opened(rows, "bucket", rank=1, world_size=2)
    hours = sum(row["num_samples"] / row["sampling_rate"] for row in read_rows(rows)) / 3600
    expected = (
        f"Loader({str(rows)!r}, config='ttt', split='train', mode='bucket', rows=60, hours={hours:.4g}, "
        "rank=1, world_size=2, epoch=0, step={step})"
    )
    assert repr(loader) == expected.format(step=0)
    [*islice(loader, 2)]
    assert repr(loader) == expected.format(step=2)


def test_a_batch_is_shown_by_its_shapes_without_its_data(rows: Path) -> None:
    batch = next(iter(opened(rows, "bucket")))
    assert repr(batch) == (
        f"Batch(input_ids={[*batch.input_ids.shape]}, speech={[*batch.speech.shape]}, "  # type: ignore[union-attr]
        f"rows={len(batch)}, clips={len(batch)}, num_supervised={batch.num_supervised}, epoch=0, step=0, "
        "number=0, device='cpu')"
    )


def test_loaders_of_an_opened_folder_share_its_index_and_tokenizer(rows: Path) -> None:
    folder = OpenedFolder(str(rows))
    first, second = [speechrows.load(folder, "ttt", budget_seconds=6) for _ in range(2)]
    assert first.index is second.index
    assert first.tokenizer is second.tokenizer is folder.tokenizer
    expected = opened(rows, "bucket", sampling_rate=16_000, too_long="error")
    for loader in (first, second):
        assert [batch.row_ids for batch in loader] == [batch.row_ids for batch in expected]
        expected.set_epoch(0)


def test_an_epoch_taken_by_its_length_is_followed_by_the_next(rows: Path) -> None:
    loader = opened(rows, "bucket")
    first, second = [steps_of(islice(loader, len(loader))) for _ in range(2)]
    both = opened(rows, "bucket")
    assert (first, second) == (steps_of(both), steps_of(both))
    assert loader.epoch == 2


def test_a_state_of_rows_of_the_same_lengths_that_say_something_else_is_refused(tmp_path: Path) -> None:
    for name in ("river", "brook"):
        corpus = write_corpus(tmp_path / name / "corpus", dialogues=3, seconds=0.4)
        for file in [*corpus.rglob("metadata.tsv"), *corpus.rglob("*.json")]:
            file.write_text(file.read_text("utf-8").replace("river", name), "utf-8")
        build_rows(corpus, tmp_path / name / "rows")
    first = opened(tmp_path / "river" / "rows", "bucket")
    next(iter(first))
    other = opened(tmp_path / "brook" / "rows", "bucket")
    assert other.plan.digest == first.plan.digest
    with pytest.raises(UsageError, match=f"its rows are not those .* taken of {tmp_path / 'river'}"):
        other.load_state_dict(first.state_dict())
    assert (other.state_dict()["epoch"], other.state_dict()["step"]) == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"micro_batches": 0}, "micro_batches: found 0"),
        ({"micro_batches": 2.0}, "micro_batches: found 2.0, expected a whole number"),
        ({"budget_seconds": float("inf")}, "budget_seconds: found inf"),
        ({"budget_seconds": "30"}, "budget_seconds: found '30'"),
        ({"sampling_rate": 0}, "sampling_rate: found 0"),
        ({"mel": 64}, "mel: found 64, expected 80 or 128"),
        ({"num_threads": 0}, "num_threads: found 0"),
        ({"prefetch": 0}, "prefetch: found 0"),
        ({"rank": 2, "world_size": 2}, "rank: found 2 of 2"),
        ({"device": "abacus"}, "device: found 'abacus', expected cpu"),
        ({"device": "cuda:99"}, "device: found 'cuda:99', expected cpu or one of the"),
        ({"tokenizer": "/nowhere"}, "tokenizer /nowhere: no such folder"),
        ({"audio_tokens_per_second": "fast"}, "audio tokens per second: found 'fast'"),
    ],
)
def test_options_that_are_wrong_are_named_with_what_is_expected(
    rows: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        next(iter(opened(rows, "bucket", **options)))


def test_a_union_has_the_codec_of_its_tasks_wherever_their_rows_stand(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    build_rows(SAMPLE_OF["omni_tasks"], out, "transcription", builder="omni_tasks")
    assert speechrows.load(str(out), "transcription", budget_seconds=60).codec() is None
    codes = made_up(out, "mimi", tmp_path / "codes")
    build_rows(SAMPLE_OF["omni_tasks"], out, "s2s_mimi", builder="omni_tasks", generated=(codes,))
    for seed in range(4):  # some of these begin with a step without codes
        assert speechrows.load(str(out), "omni", budget_seconds=6, seed=seed).codec() == "mimi"


def test_a_state_of_other_rows_or_of_another_plan_is_refused(rows: Path, tmp_path: Path) -> None:
    state = opened(rows, "bucket").state_dict()
    with pytest.raises(UsageError, match=r"seed 0, here 3"):
        opened(rows, "bucket", seed=3).load_state_dict(state)
    with pytest.raises(UsageError, match="micro_batches 1, here 2"):
        opened(rows, "bucket", micro_batches=2).load_state_dict(state)
    with pytest.raises(UsageError, match="mode 'bucket', here 'pack'"):
        opened(rows, "pack").load_state_dict(state)
    build_rows(XTTS, tmp_path / "other")
    with pytest.raises(UsageError, match="its rows are not those"):
        opened(tmp_path / "other", "bucket").load_state_dict(state)
    loader = opened(rows, "bucket")
    for name in state:
        with pytest.raises(UsageError, match=f"found no {name}; expected what its state_dict"):
            loader.load_state_dict({key: value for key, value in state.items() if key != name})


_plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
_junk = st.recursive(
    _plain | st.sampled_from([-1, 1 << 63, 1 << 64, np.zeros(2), object(), "\x1b[2J", float("nan")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
) | st.builds(lambda: 10**5000)  # too long to be written out


@FEW
@given(
    st.data(), st.sampled_from(["epoch", "step", "micro_batch", "options", "path", "digest", "rows", "more"])
)
def test_a_state_that_was_changed_is_refused_by_name_and_moves_nothing(
    rows: Path, data: st.DataObject, name: str
) -> None:
    loader = opened(rows, "bucket", micro_batches=data.draw(st.sampled_from([None, 2])))
    [*islice(iter(loader), 3)]
    before = loader.state_dict()
    changed = {**before, "options": dict(before["options"])}
    where, name = (changed, name) if name != "options" else (
        changed["options"], data.draw(st.sampled_from([*before["options"], "more"]))
    )  # fmt: skip
    where[name] = data.draw(_junk)
    was = before.get(name, before["options"].get(name))
    assume(not (type(was) in (int, float) and type(where[name]) in (int, float)))  # may be as good a place
    assume(name != "path" or not isinstance(where[name], str))  # told in messages alone
    assume(type(was) is not type(where[name]) or was != where[name])
    with pytest.raises(UsageError) as refused:
        loader.load_state_dict(changed)
    assert name in str(refused.value)
    assert loader.state_dict() == before


@FEW
@given(st.data(), st.sampled_from(["epoch", "step", "micro_batch", "micro_batches", "seed", "context"]))
def test_numbers_of_a_state_are_places_of_its_plan_or_refused(
    rows: Path, data: st.DataObject, name: str
) -> None:
    loader = opened(rows, "lanes")
    before = loader.state_dict()
    options = dict(before["options"])
    changed = {**before, "options": options}
    (options if name in options else changed)[name] = data.draw(
        st.integers() | st.sampled_from([-1, 1 << 62, 1 << 63, 1 << 64, 10**30, True, False, 0.0, 1.0])
    )
    try:
        loader.load_state_dict(changed)
    except UsageError:
        assert loader.state_dict() == before
    else:
        assert 0 <= loader.state_dict()["step"] < len(loader.plan)
        assert [*loader]


@pytest.mark.parametrize("junk", [None, [], "state", 3])
def test_what_is_no_state_is_refused(rows: Path, junk: Any) -> None:
    with pytest.raises(
        UsageError, match=r"the loader's state: found .*expected what its state_dict\(\) gave"
    ):
        opened(rows, "bucket").load_state_dict(junk)


def test_a_loader_is_pickled_where_it_stands_and_goes_on_there(rows: Path) -> None:
    rate = {"audio_tokens_per_second": 25, "context": 2048}  # rendered anew
    for options in ({}, rate):
        loader = opened(rows, "pack", **options)
        before = [*islice(iter(loader), 2)]
        copy = pickle.loads(pickle.dumps(RowsDataset(loader))).loader
        assert copy.state_dict() == loader.state_dict()
        assert [batch.row_ids for batch in copy] == [batch.row_ids for batch in loader]
        assert before


@pytest.mark.soak
def test_a_worker_that_is_spawned_gives_the_same_batches(rows: Path) -> None:
    loader = opened(rows, "pack")
    expected = [batch.row_ids for batch in loader]
    loader.set_epoch(0)
    data = DataLoader(RowsDataset(loader), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert [tuple(batch["row_ids"]) for batch in data] == expected


def test_a_script_that_takes_a_batch_imports_no_datasets_and_ends_without_a_word(rows: Path) -> None:
    code = (
        f"import speechrows\nloader = speechrows.load({str(rows)!r}, 'ttt', budget_seconds=2)\n"
        "batches = iter(loader)\nnext(batches)\nimport sys\nassert 'datasets' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_torch_dataloader_gives_the_same_batches_in_the_same_order(rows: Path, num_workers: int) -> None:
    expected = [batch.row_ids for batch in opened(rows, "bucket")]
    data = DataLoader(RowsDataset(opened(rows, "bucket")), batch_size=None, num_workers=num_workers)
    batches = [*data]
    assert [tuple(batch["row_ids"]) for batch in batches] == expected
    assert len(data) == len(expected)
    assert all(isinstance(batch["input_ids"], torch.Tensor) for batch in batches)


class Said(nn.Module):
    """A model as Trainer takes it: the fields of a batch in, a loss out."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.omni = omni(ModelShape(), tokenizer)
        self.heard: list[tuple[int, tuple[str, ...]]] = []

    def forward(self, num_items_in_batch: Any = None, **values: Any) -> dict[str, torch.Tensor]:
        batch = Batch(**{field.name: values.get(field.name) for field in fields(Batch)})
        self.heard.append((batch.epoch, tuple(batch.row_ids)))
        output = self.omni(batch).text
        return {"loss": output.loss_sum / (num_items_in_batch or output.num_supervised)}


class RowsTrainer(Trainer):
    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(self.train_dataset, batch_size=None)  # type: ignore[arg-type]


def test_transformers_trainer_learns_from_the_batches_epoch_after_epoch(rows: Path, tmp_path: Path) -> None:
    options = {"mel": 80, "budget_seconds": 10, "sampling_rate": 16_000}
    loader = opened(rows, "bucket", **options)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, learning_rate=1e-3, logging_steps=1, use_cpu=True,
        remove_unused_columns=False, save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    trainer = RowsTrainer(Said(loader.tokenizer), arguments, train_dataset=RowsDataset(loader))
    trainer.train()
    again = opened(rows, "bucket", **options)
    assert trainer.model.heard == [(epoch, batch.row_ids) for epoch in range(2) for batch in again]  # type: ignore[union-attr]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_rows_rendered_anew_are_those_of_a_build_with_that_tokenizer_and_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = str(tmp_path / "tokenizer")
    bpe().save_pretrained(other)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    build_rows(XTTS, tmp_path / "bytes", "ttt")
    build_rows(XTTS, tmp_path / "bpe", "ttt", tokenizer=other, audio_tokens_per_second=10)

    def contents(folder: str, **options: Any) -> list[Any]:
        loader = speechrows.load(str(tmp_path / folder), "ttt", budget_tokens=4096, **options)
        return [(batch.row_ids, batch.input_ids.tolist(), batch.labels.tolist()) for batch in loader]

    assert contents("bytes", tokenizer=other, audio_tokens_per_second=10) == contents("bpe")
    assert len([*(tmp_path / "cache" / "speechrows").glob("lengths-*.npy")]) == 1
    assert contents("bytes", tokenizer=other, audio_tokens_per_second=10) == contents("bpe"), (
        "lengths come from the cache"
    )


def test_the_founding_samples_have_their_six_fields_in_file_order(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "rows")
    samples = [*speechrows.ttt_samples(str(tmp_path / "rows"))]
    built = read_rows(tmp_path / "rows")
    assert len(samples) == len(built) == 17
    for sample, row in zip(samples, built, strict=True):
        assert sample["speech"].dtype == torch.float32
        assert sample["speech"].ndim == 1
        assert len(sample["speech"]) == sample["speech_lengths"]
        assert sample["speech_lengths"] == -(-row["num_samples"] * 16000 // row["sampling_rate"])
        assert sample["input_ids"].tolist() == row["input_ids"]
        assert sample["labels"].tolist() == row["labels"]
        assert len(sample["input_ids"]) % 64 == 0
        assert (sample["conversation_id"], sample["turn_number"]) == (
            row["conversation_id"],
            row["turn_number"],
        )


def test_founding_samples_of_rows_that_are_not_heard_have_no_speech(tmp_path: Path) -> None:
    corpus, builder = SAMPLE_OF["dailytalk_usdm"], "dailytalk_usdm"
    build_rows(corpus, tmp_path / "heard", "transcription", builder=builder)
    units = made_up(tmp_path / "heard", "units", tmp_path / "units")
    build_rows(corpus, tmp_path / "rows", "usdm", builder=builder, generated=(units,))
    samples = [*speechrows.ttt_samples(str(tmp_path / "rows"), "usdm")]
    assert [sample["speech_lengths"] for sample in samples] == [0, 0, 0]
    assert [len(sample["speech"]) for sample in samples] == [0, 0, 0]
