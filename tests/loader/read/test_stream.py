"""Reading a plan: what comes out is what the parquet holds, whatever the threads; nothing stays behind."""

import contextlib
import gc
import io
import itertools
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import made_up
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.examples import MANY
from toys.samples import SAMPLE_OF

from speechrows.builds import pipeline
from speechrows.builds import shard_writer
from speechrows.codec import CODECS
from speechrows.codec import num_audio_tokens
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.folder import indexed_rows
from speechrows.folder.index import Index
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.placeholders import Placeholders
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.shards import check_shard
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows
from speechrows.loader.ragged import Ragged
from speechrows.loader.read import local
from speechrows.loader.read import many_reads
from speechrows.loader.read import row_store
from speechrows.loader.read.clips import ByteClips
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.records import from_records
from speechrows.loader.read.records import to_records
from speechrows.loader.read.row_store import RowStore
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.loader.read.stream import Stream
from speechrows.text import tokenizers
from speechrows.types import AUDIO_TOKEN

CELLS = [  # builder, config, and what is generated for it
    ("deepdialogue_ttt", "ttt", []),
    ("deepdialogue_ttt", "s2s_mimi", ["mimi"]),
    ("multidialog_ttt", "response", []),
    ("multidialog_ttt", "response", ["mimi"]),
    ("dailytalk_usdm", "usdm", ["units"]),
    ("instructs2s_ttt", "ttt", []),
    ("omni_tasks", "omni", ["sift_s", "sift_ssp", "sit_ssp"]),
]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """144 rows of two tasks in several shards, each of several row groups."""
    folder = tmp_path_factory.mktemp("many")
    write_corpus(folder / "corpus", dialogues=36, turns=4, seconds=0.4, rate_hz=16_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "GROUP_BYTES", 150_000)
        patch.setattr(shard_writer, "MIN_GROUP_BYTES", 100_000)
        for config in ("ttt", "transcription"):
            build_rows(folder / "corpus", folder / "rows", config, shard_bytes=500_000)
    return folder / "rows"


@pytest.fixture
def spoiled(many: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(many, tmp_path / "rows"))


def planned(index: Index, budget_seconds: float = 3.0) -> Plan:
    options = PlanOptions(mode="bucket", budget_seconds=budget_seconds, too_long="drop")
    return plan_epoch(plan_rows(index), options)


def batch_of(*rows: int) -> MicroBatch:
    numbers = np.arange(len(rows), dtype=np.int32)
    return MicroBatch(
        step=0, number=0, num_sequences=len(rows), rows=np.array(rows, np.int32), sequence=numbers,
        start=0 * numbers, position=0 * numbers,
    )  # fmt: skip


def contents(batches_read: Iterator[Ragged]) -> list[tuple]:
    """Everything that batches hold, as plain values, each released once it was looked at."""
    batches: list[tuple] = []
    for ragged in batches_read:
        values = [
            getattr(ragged, name) for name in Ragged.__slots__ if name not in ("micro_batch", "release")
        ]
        batches.append(tuple(value.tolist() if isinstance(value, np.ndarray) else value for value in values))
        ragged.release()
    return batches


def parts(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    assert len(values) == lengths.sum()
    return np.split(values, np.cumsum(lengths)[:-1])


def assert_is(ragged: Ragged, rows: dict[str, dict]) -> None:
    """What reading gives of some rows is what stands in their parquet, and what soundfile decodes of it."""
    expected_rows = [rows[row_id] for row_id in ragged.row_ids]
    assert ragged.tasks == tuple(row["task"] for row in expected_rows)
    assert ragged.turn_numbers.tolist() == [row["turn_number"] for row in expected_rows]
    for row, ids, labels in zip(
        expected_rows,
        parts(ragged.input_ids, ragged.num_tokens),
        parts(ragged.labels, ragged.num_tokens),
        strict=True,
    ):
        assert ids.tolist() == row["input_ids"][: row["num_tokens"]]
        assert labels.tolist() == row["labels"][: row["num_tokens"]]
    with_clips = [row for row in expected_rows if row["task"] != "usdm"]
    assert [ragged.row_ids[i] for i in ragged.clip_rows] == [row["row_id"] for row in with_clips]
    clips = parts(ragged.samples, ragged.num_samples) if with_clips else []
    for i, (row, clip) in enumerate(zip(with_clips, clips, strict=True)):
        with soundfile.SoundFile(io.BytesIO(row["audio"]["bytes"])) as file:
            samples = file.read(dtype="float64", always_2d=True).mean(axis=1)
            assert ragged.sampling_rates[i] == file.samplerate
        assert np.array_equal(clip, np.clip(np.rint(samples * 32768), -32768, 32767))
        rate = Fraction(25, 2)
        assert ragged.num_audio_tokens[i] == num_audio_tokens(len(clip), row["sampling_rate"], rate)
    coded = [row for row in expected_rows if row["codec"] is not None]
    assert [ragged.row_ids[i] for i in ragged.code_rows] == [row["row_id"] for row in coded]
    assert {row["codec"] for row in coded} == ({ragged.codec} - {None})
    num_codebooks = CODECS[ragged.codec].num_codebooks if ragged.codec else 0
    codes = parts(ragged.codes, num_codebooks * ragged.num_frames) if coded else []
    for row, values, frames in zip(coded, codes, ragged.num_frames, strict=True):
        assert values.reshape(num_codebooks, frames).tolist() == row["codec_targets"]


@pytest.mark.parametrize(("builder", "config", "kinds"), CELLS, ids=["-".join([c, *k]) for _, c, k in CELLS])
def test_what_is_read_is_what_stands_in_the_parquet_and_what_soundfile_decodes(
    builder, config, kinds, tmp_path: Path
) -> None:
    generated = []
    if kinds:
        build_rows(SAMPLE_OF[builder], tmp_path / "plain", "transcription", builder=builder)
        generated = [made_up(tmp_path / "plain", kind, tmp_path / kind) for kind in kinds]
    out = tmp_path / "rows"
    build_rows(SAMPLE_OF[builder], out, config, builder=builder, generated=generated)
    audio_id = tokenizers.open_tokenizer(f"{out}/tokenizer").get_vocab()[AUDIO_TOKEN]
    tasks = [path.name for path in (out / "data").iterdir()]
    rows = {row["row_id"]: row for task in tasks for row in read_rows(out, task)}
    seen: list[str] = []
    for split in {path.name for task in tasks for path in (out / "data" / task).iterdir()}:
        index = Index.open(str(out), config, split)
        for ragged in Stream(index, store=RowStore(index, audio_id=audio_id)).read(
            planned(index, 60).for_rank(0, 1)
        ):
            assert_is(ragged, rows)
            assert ragged.row_ids == tuple(index.row_ids(ragged.micro_batch.rows.tolist()))
            seen += ragged.row_ids
            ragged.release()
    assert sorted(seen) == sorted(rows)
    assert any(row["codec"] for row in rows.values()) == (
        config in ("s2s_mimi", "usdm", "omni") or bool(kinds)
    )


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (1, 7), (2, 1), (3, 4), (8, 99)])
def test_order_and_content_are_the_same_whatever_the_threads_and_what_is_read_ahead(
    many: Path, threads: int, prefetch: int
) -> None:
    index = Index.open(str(many), "ttt")
    batches = list(planned(index).for_rank(0, 1))
    stream = Stream(index, num_threads=threads, prefetch=prefetch)
    batches_read = contents(stream.read(batches))
    assert batches_read == contents(Stream(index, num_threads=1, prefetch=1).read(batches))
    assert [row for batch in batches_read for row in batch[0]] == index.row_ids(
        np.concatenate([b.rows for b in batches])
    )
    assert contents(stream.read(batches[::-1])) == batches_read[::-1], "a stream is read again, in any order"


def test_a_rank_without_rows_gets_a_batch_without_any(many: Path) -> None:
    index = Index.open(str(many), "ttt")
    options = PlanOptions(mode="lanes", context=4096, micro_batches=3)
    batches = list(plan_epoch(plan_rows(index), options).for_rank(1, 2))
    idle = [i for i, batch in enumerate(batches) if batch.number is None]
    assert idle
    for i, ragged in enumerate(Stream(index).read(batches)):
        assert ragged.micro_batch is batches[i]
        assert len(ragged) == len(batches[i].rows) == len(ragged.num_tokens)
        if i in idle:
            assert ragged.row_ids == ragged.tasks == ()
            assert len(ragged.input_ids) == len(ragged.samples) == len(ragged.num_samples) == 0
            assert ragged.codec is None
        ragged.release()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def let_go(iterator: Iterator[Ragged]) -> None:
    del iterator


def leave(iterator: Iterator[Ragged]) -> None:
    for _ in iterator:
        break


def fall(iterator: Iterator[Ragged]) -> None:
    with contextlib.suppress(KeyError):
        for _ in iterator:
            raise KeyError("a model's own")


@pytest.mark.parametrize("end", [lambda iterator: iterator.close(), leave, fall, let_go, list, next])
def test_an_iterator_that_is_left_leaves_no_thread_and_no_file_and_its_stream_goes_on(
    many: Path, end
) -> None:
    index = Index.open(str(many), "ttt")
    batches = list(planned(index, 9).for_rank(0, 1))
    gc.collect()  # of tests before; nothing of this one waits for it
    gc.freeze()  # nor is the next one's search as long
    threads = threading.active_count()
    before = open_files()
    stream = Stream(index, num_threads=3, prefetch=5)
    with_store = open_files()
    iterator = stream.read(batches)
    next(iterator).release()
    assert threading.active_count() > threads
    end(iterator)
    del iterator
    assert threading.active_count() == threads
    assert open_files() == with_store == before + 2, "the store's file, and its map, are the stream's"
    assert contents(stream.read(batches)) == contents(Stream(index).read(batches))
    del stream
    assert open_files() == before


def test_buffers_are_used_again_once_they_are_released_and_not_before(many: Path) -> None:
    index = Index.open(str(many), "ttt")
    buffers: list[np.ndarray] = []

    def allocate(num_samples: int) -> np.ndarray:
        buffers.append(np.empty(num_samples, np.int16))
        return buffers[-1]

    stream = Stream(index, prefetch=2, allocate=allocate)
    batches = list(planned(index).for_rank(0, 1)) * 3
    for ragged in stream.read(batches):
        assert any(np.shares_memory(ragged.samples, buffer) for buffer in buffers)
        ragged.release()
        ragged.release()  # twice is once: no buffer is lent to two
    few = len(buffers)
    assert few <= 8 < len(batches)
    next(iterator := stream.read(batches))  # and let go, with what was read ahead
    iterator.close()
    unreleased = [ragged for _, ragged in zip(range(4), stream.read(batches), strict=False)]
    assert not any(np.shares_memory(a.samples, b.samples) for a, b in itertools.combinations(unreleased, 2))
    assert len(buffers) <= few + 5
    num_bytes = sum(buffer.nbytes for buffer in stream._buffers._free)
    assert num_bytes <= 8 * 2 * 1.125 * max(index.num_samples[batch.rows].sum() for batch in batches)


def test_shards_are_open_while_they_are_read_however_few_may_be(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(str(many), "ttt")
    assert len(index.shards) > 3
    assert index.row_group.max() > 0
    expected = contents(Stream(index).read(planned(index).for_rank(0, 1)))
    monkeypatch.setattr(local, "_MAX_OPEN", 1)
    checked: list[str] = []

    def check(folder: RowsFolder, shard: ShardEntry) -> None:
        checked.append(shard.path)
        check_shard(folder, shard)

    monkeypatch.setattr(indexed_rows, "check_shard", check)
    index = Index.open(str(many), "ttt")
    sources: list[local.LocalClips] = []

    def opened(index: Index) -> local.LocalClips:
        sources.append(local.LocalClips(index))
        return sources[-1]

    stream = Stream(index, num_threads=4, open_clips=opened)
    iterator = stream.read(planned(index).for_rank(0, 1))
    assert contents(ragged for ragged in iterator if len(sources[0]._files) <= 1) == expected
    assert sorted({*checked}) == [shard.path for shard in index.shards]
    checked.clear()
    assert contents(stream.read(planned(index).for_rank(0, 1))) == expected
    assert not checked, "an index remembers the shards that it has verified"


def test_clips_that_are_not_in_memory_are_the_same(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.open(str(many), "ttt")
    batches = list(planned(index).for_rank(0, 1))
    expected = contents(Stream(index).read(batches))
    for shard in index.shards:
        with (many / shard.path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    monkeypatch.setattr(local, "cell_samples", None)  # they too are read as they are
    assert contents(Stream(index).read(batches)) == expected


def test_where_the_system_can_not_tell_what_is_in_memory_clips_are_the_same(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(str(many), "ttt")
    batches = list(planned(index).for_rank(0, 1))
    expected = contents(Stream(index).read(batches))
    monkeypatch.setattr(many_reads, "_SUBMIT", -1)
    for name in ("posix_fadvise", "POSIX_FADV_WILLNEED"):
        monkeypatch.delattr(os, name)
    assert contents(Stream(index).read(batches)) == expected


def test_a_row_group_is_read_once_though_threads_need_it_at_once(many: Path) -> None:
    index = Index.open(str(many), "ttt")
    read, at_once = list[tuple[int, int]](), list[int]()

    def counted(index: Index, shard: int, row_groups: Sequence[int]) -> RowTokens:
        read.extend((shard, row_group) for row_group in row_groups)
        at_once.append(len(row_groups))
        return read_row_groups(index, shard, row_groups)

    store = RowStore(index, read_row_groups=counted)
    rows = np.arange(len(index), dtype=np.int32)
    with ThreadPoolExecutor(6) as pool:
        of_threads = list(pool.map(store.read, [np.roll(rows, 7 * i) for i in range(6)]))
    assert sorted(read) == sorted({*zip(index.shard.tolist(), index.row_group.tolist(), strict=True)})
    assert max(at_once) > 1, "several row groups of a shard are read by one call"
    assert all(sorted(tokens.row_ids) == sorted(of_threads[0].row_ids) for tokens in of_threads)


def test_threads_that_need_the_same_row_groups_read_each_another_one(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_store, "_ROWS_AT_ONCE", 1)
    index, both = Index.open(str(many), "ttt"), threading.Barrier(2, timeout=5)

    def together(index: Index, shard: int, row_groups: Sequence[int]) -> RowTokens:
        both.wait()  # breaks unless two row groups are being read at once
        return read_row_groups(index, shard, row_groups)

    store = RowStore(index, read_row_groups=together)
    rows = index.group_starts[:2].astype(np.int32)
    with ThreadPoolExecutor(2) as pool:
        names = [tokens.row_ids for tokens in pool.map(store.read, [rows, rows])]
    assert names == [tuple(index.row_ids(rows.tolist()))] * 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.truncate(file.seek(0, 2) // 2), "is not the file that its index was made of"),
        (lambda file: file.seek(-20, 2) and file.write(b"x"), "is not the file that its index was made of"),
    ],
    ids=["truncated", "another footer"],
)
def test_a_shard_that_is_not_the_one_of_the_index_is_named_when_it_is_opened(spoiled, spoil, message) -> None:
    index = Index.open(str(spoiled), "ttt")
    with (spoiled / index.shards[2].path).open("r+b") as file:
        spoil(file)
    row = int(np.flatnonzero(index.shard == 2)[0])
    for read in (
        lambda: next(Stream(index).read([batch_of(row)])),
        lambda: local.LocalClips(index).read(np.array([row]), np.empty(index.num_samples[row], np.int16)),
    ):
        with pytest.raises(ShortfallError, match=f"{index.shards[2].path} {message}"):
            read()


@pytest.mark.parametrize("what", ["shrinks", "length", "magic", "rate", "channels", "size"])
def test_a_shard_that_changes_while_it_is_read_is_an_error_that_names_the_row(spoiled: Path, what) -> None:
    index = Index.open(str(spoiled), "transcription")
    good, bad = (int(row) for row in np.flatnonzero(index.shard == 1)[[0, -1]])
    iterator = Stream(index, num_threads=1, prefetch=1).read(
        itertools.chain([batch_of(good, bad)] * 2, spoiling(spoiled, index, bad, what), [batch_of(good)])
    )
    for _ in range(2):
        next(iterator).release()
    wrong = "its .* changed" if what in ("shrinks", "length") else "found .* expected|found .* no audio"
    with pytest.raises(ShortfallError, match=f"^{index.row_id(bad)}: ({wrong})"):
        list(iterator)


def spoiling(folder: Path, index: Index, row: int, what: str) -> Iterator[MicroBatch]:
    """Spoil a row's clip as the plan goes on to it."""
    at = int(index.audio_offset[row])
    place, value = {
        "shrinks": (0, b""), "length": (-4, b"\x01"), "magic": (0, b"JUNK"), "rate": (24, b"\x00"),
        "channels": (22, b"\x02"), "size": (40, b"\x02\x00\x00\x00"),
    }[what]  # fmt: skip
    with (folder / index.shards[index.shard[row]].path).open("r+b") as file:
        if what == "shrinks":
            file.truncate(at + 100)
        file.seek(at + place)
        file.write(value)
    yield batch_of(row)


def test_an_error_comes_in_its_place_after_the_batches_before(spoiled: Path) -> None:
    index = Index.open(str(spoiled), "ttt")
    (spoiled / index.shards[1].path).unlink()
    rows = [0, 1, int(np.flatnonzero(index.shard == 1)[0]), 2]
    iterator = Stream(index, prefetch=4).read([batch_of(row) for row in rows])
    assert [next(iterator).row_ids[0] for _ in range(2)] == index.row_ids([0, 1])
    with pytest.raises(ShortfallError, match=f"{index.shards[1].path} .* missing"):
        next(iterator)
    assert list(iterator) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda t: {"num_tokens": t.num_tokens + np.eye(1, len(t.num_tokens), 0, np.int32)[0]},
            "ids in row group",
        ),
        (lambda t: {"num_tokens": t.num_tokens[::-1].copy()}, "num_tokens: found"),
        (lambda t: {"labels": np.where(t.labels == -100, 7, t.labels)}, "labels that are neither"),
        (lambda t: {"input_ids": np.where(t.labels == -100, -1, t.input_ids)}, "labels that are neither"),
        (lambda t: {"input_ids": t.input_ids * (t.labels != -100)}, "audio tokens: found 0, expected [1-9]"),
        (lambda t: {"row_ids": t.row_ids[1:]}, "rows and"),
    ],
    ids=["ids", "num_tokens", "labels", "negative", "placeholders", "rows"],
)
def test_texts_that_contradict_the_index_are_refused(many: Path, spoil, message: str) -> None:
    index = Index.open(str(many), "ttt")
    audio_id = tokenizers.open_tokenizer(f"{many}/tokenizer").get_vocab()[AUDIO_TOKEN]

    def spoiled(*place) -> RowTokens:
        tokens = read_row_groups(*place)
        return replace(tokens, **spoil(tokens))

    store = RowStore(index, read_row_groups=spoiled, audio_id=audio_id)
    with pytest.raises(ShortfallError, match=message) as caught:
        store.read(np.array([1]))
    assert str(caught.value).startswith(("deepdialogue_ttt/train/", index.shards[0].path))


def test_a_row_group_that_can_not_be_read_is_named(many: Path) -> None:
    index = Index.open(str(many), "ttt")
    with pytest.raises(ShortfallError, match=f"{index.shards[0].path}: row group 9 can not be read"):
        read_row_groups(index, 0, [9])


def test_a_row_of_fewer_labels_than_ids_is_named(spoiled: Path) -> None:
    index = Index.open(str(spoiled), "ttt")
    path = spoiled / index.shards[0].path
    table = pq.read_table(path, partitioning=None)
    field, labels = table.schema.field("labels"), table["labels"].to_pylist()
    num_ids = len(labels[1])
    labels[1].pop()
    place = table.schema.get_field_index("labels")
    pq.write_table(table.set_column(place, field, pa.array(labels, field.type)), path)
    expected = f"^{index.row_id(1)}: found {num_ids - 1} labels, expected {num_ids}, one for each"
    with pytest.raises(ShortfallError, match=expected):
        read_row_groups(index, 0, [0])


def test_no_room_for_texts_is_told(many: Path) -> None:
    store = RowStore(Index.open(str(many), "ttt"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ShortfallError, match=r"no room .* Set TMPDIR"):
            store.read(np.array([0]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.read(np.array([0])).row_ids, "nothing is thought to be there that was not written"


class InMemory:
    """Shards held as bytes, that say what was asked for, taken, and whether they were closed."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.index = index
        self.data = [(folder / shard.path).read_bytes() for shard in index.shards]
        self.asked: list[int] = []
        self.taken: list[int] = []
        self.is_closed = False

    def plan(self, micro_batches):
        for micro_batch in micro_batches:
            self.asked += micro_batch.rows.tolist()
            yield micro_batch

    def take(self, row: int) -> memoryview:
        self.taken.append(row)
        at = int(self.index.audio_offset[row])
        return memoryview(self.data[self.index.shard[row]])[at - 4 : at + int(self.index.audio_length[row])]

    def close(self) -> None:
        self.is_closed = True


def test_clips_may_come_through_memory_and_only_those_that_are_heard_are_asked_for(
    many: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(many, tmp_path / "rows"))
    index = Index.open(str(folder), "ttt")
    path = index.shards[0].path.replace("/ttt/", "/usdm/")  # a task whose text has no placeholder
    (folder / path).parent.mkdir(parents=True)
    shutil.copy(folder / index.shards[0].path, folder / path)
    shards = (replace(index.shards[0], path=path), *index.shards[1:])
    deaf = replace(index, shards=shards, facts={**index.facts, "usdm": index.facts["ttt"]})
    clips = InMemory(many, index)
    batches = list(planned(index).for_rank(0, 1))
    batches_read = contents(Stream(deaf, open_clips=lambda index: ByteClips(index, clips)).read(batches))
    assert batches_read == contents(Stream(deaf).read(batches))
    assert sorted(clips.asked) == sorted(clips.taken) == np.flatnonzero(index.shard > 0).tolist()
    assert clips.is_closed
    clips.data[0] = bytes(len(clips.data[0]))
    with pytest.raises(ShortfallError, match=f"^{index.row_id(0)}: its .* changed"):
        next(Stream(index, open_clips=lambda index: ByteClips(index, clips)).read([batch_of(0)]))


def test_a_stream_is_not_read_in_another_process_and_numbers_are_checked(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(str(many), "ttt")
    for name in ("num_threads", "prefetch"):
        with pytest.raises(UsageError, match=f"{name}: found 0, expected a number above 0"):
            Stream(index, **{name: 0})
    stream = Stream(index)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(UsageError, match="make one in each"):
        next(stream.read([batch_of(0)]))


RATES = st.fractions(Fraction(1, 10), 1000, max_denominator=1000)


@MANY
@given(
    clips=st.lists(st.tuples(st.integers(1, 10**9), st.integers(1_000, 768_000)), max_size=20),
    rates=st.tuples(RATES, RATES),
)
def test_placeholders_in_bulk_are_those_of_codec_py(clips, rates) -> None:
    index = object.__new__(Index)
    shard = np.arange(len(clips)) % 3
    columns = {
        "num_samples": np.array([num_samples for num_samples, _ in clips], np.int64),
        "sampling_rate": np.array([rate for _, rate in clips], np.int32),
        "shard": shard.astype(np.int32),
    }
    for name, values in columns.items():
        object.__setattr__(index, name, values)
    rate_of = [*rates, Fraction(0)]
    placeholders = Placeholders(
        index,
        np.array([rate.numerator for rate in rate_of]),
        np.array([rate.denominator for rate in rate_of]),
    )
    expected = [num_audio_tokens(*clip, rate_of[i]) for clip, i in zip(clips, shard, strict=True)]
    assert placeholders.count(slice(None)).tolist() == expected


@st.composite
def row_tokens(draw) -> RowTokens:
    """Rows of any lengths, with ids in any script, with codes or without."""
    num_tokens = draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))
    ids = np.array([draw(st.integers(0, 2**31 - 1)) for _ in range(sum(num_tokens))], np.int32)
    supervised = np.array([draw(st.booleans()) for _ in ids], bool)
    codec = draw(st.sampled_from([None, *CODECS]))
    rows = draw(st.lists(st.sampled_from(range(len(num_tokens))), unique=True, min_size=1)) if codec else []
    frames = np.array([draw(st.integers(0, 5)) for _ in rows], np.int32)
    count = frames.sum() * (CODECS[codec].num_codebooks if codec else 0)
    return RowTokens(
        row_ids=tuple(draw(st.text(st.characters(exclude_categories=["Cs"]))) for _ in num_tokens),
        num_tokens=np.array(num_tokens, np.int32),
        input_ids=ids,
        labels=np.where(supervised, ids, -100).astype(np.int32),
        codec=codec,
        codes=np.arange(count, dtype=np.int16),
        num_frames=frames,
        code_rows=np.array(sorted(rows), np.int32),
    )


@MANY
@given(row_tokens())
def test_records_give_back_what_rows_say(tokens: RowTokens) -> None:
    read_back = from_records(*to_records(tokens))
    for name in RowTokens.__slots__:
        assert np.array_equal(getattr(read_back, name), getattr(tokens, name)), name
    assert read_back.labels.dtype == read_back.input_ids.dtype == np.int32


def test_rows_of_two_codecs_in_one_batch_are_refused_by_name() -> None:
    def row(name: str, codec: str) -> tuple[np.ndarray, np.ndarray]:
        codes = np.zeros(CODECS[codec].num_codebooks, np.int16)
        ones, none = np.ones(1, np.int32), np.zeros(1, np.int32)
        return to_records(
            RowTokens(
                row_ids=(name,), num_tokens=ones, input_ids=ones, labels=ones, codec=codec, codes=codes,
                num_frames=ones, code_rows=none,
            )
        )  # fmt: skip

    values, sizes = zip(row("first", "mimi"), row("second", "cosyvoice2"), strict=True)
    with pytest.raises(
        ShortfallError, match=r"^second: has codes of cosyvoice2, .* first, of mimi; .* one codec"
    ):
        from_records(np.concatenate(values), np.concatenate(sizes))
