"""Clips from the Hub: the bytes of the local folder, by few requests, whatever the network does."""

import json
import socket
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from toys import mini_hub
from toys.building import build_rows
from toys.corpus import write_corpus
from toys.mini_hub import MiniHub

from speechrows.errors import ShortfallError
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.loader.load import load
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan_rows import plan_rows
from speechrows.loader.read.remote import RemoteClips
from speechrows.storage import retry

BUILT = "org/remote"
MB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 24 kHz WAV in turns of 7.7 s; one of them with a row group of 32 MiB and more."""
    base = tmp_path_factory.mktemp("built")
    write_corpus(base / "corpus", dialogues=14, turns=8, seconds=7.7)
    build_rows(base / "corpus", base / "rows", shard_bytes=36_000_000)
    return base / "rows"


@pytest.fixture(scope="module")
def published(folder: Path) -> Iterator[str]:
    yield publish(BUILT, folder)
    HfApi().delete_repo(BUILT, repo_type="dataset")


def publish(name: str, folder: Path, *, private: bool = False) -> str:
    api = HfApi()
    api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
    api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder, ignore_patterns=".build/**")
    return name


@pytest.fixture
def served(hub: MiniHub, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Path and bytes of every answer with a file's content, as they come."""
    requests: list[tuple[str, int]] = []
    send = mini_hub.Handler.send_blob

    def counted(handler, data, headers):
        status, payload, more = send(handler, data, headers)
        requests.append((handler.path, len(payload)))
        return status, payload, more

    monkeypatch.setattr(mini_hub.Handler, "send_blob", counted)
    return requests


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses before a store is asked again: how long they are is not what is tested."""
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def planned(index: Index, window_bytes: int | None = 16 * MB, **options):
    options = {"mode": "bucket", "budget_seconds": 60.0} | options
    plan = plan_epoch(plan_rows(index, windowed=True), PlanOptions(window_bytes=window_bytes, **options))
    return [batch for step in plan for batch in step]


def expected(folder: Path, index: Index, row: int) -> bytes:
    """A clip and the four bytes before it, from disk."""
    start, length = int(index.audio_offset[row]), int(index.audio_length[row])
    with (folder / index.shards[index.shard[row]].path).open("rb") as file:
        file.seek(start - 4)
        return file.read(length + 4)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("speechrows-remote")]


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "pack", "budget_seconds": None, "context": 2048}, {"window_bytes": None}],
    ids=["bucket", "pack", "global"],
)
def test_every_clip_comes_once_with_the_bytes_of_the_local_file(published, folder, options):
    index = Index.open(published, "ttt")
    clips = RemoteClips(index, window_bytes=16 * MB)
    batches = planned(index, **options)
    rows = []
    for passed, batch in zip(clips.plan(batches), batches, strict=True):
        assert passed is batch
        for row in batch.rows.tolist():
            data = clips.take(row)
            assert data == expected(folder, index, row)
            assert int.from_bytes(data[:4], "little") == len(data) - 4
            rows.append(row)
    assert sorted(rows) == list(range(len(index)))
    with pytest.raises(KeyError):
        clips.take(0)  # it was taken
    clips.close()
    assert not threads()


def test_an_epoch_reads_its_bytes_once_in_few_requests(published, served, monkeypatch):
    monkeypatch.setattr("speechrows.loader.read.remote._FIRST", 1)  # as later windows
    index = Index.open(published, "ttt")
    audio = np.bincount(index.shard, index.audio_length)
    window = int(audio.max())  # has room for the larger of two row groups, so each is a window
    served.clear()
    clips = RemoteClips(index, window_bytes=window)
    for batch in clips.plan(planned(index, window_bytes=window)):
        for row in batch.rows.tolist():
            clips.take(row)
    clips.close()
    assert sum(size for _, size in served) < 1.01 * audio.sum()
    assert max(size for _, size in served) <= 8 * MB
    reads = [size for _, size in served if size > 100_000]
    assert len(reads) < 3 + sum(audio) / (7 * MB), "neighbours come together"


def test_no_more_than_two_windows_are_held_at_once(published, served):
    index = Index.open(published, "ttt")
    served.clear()
    window = 4 * MB
    clips = RemoteClips(index, window_bytes=window)
    num_bytes, most = 0, 0
    for batch in clips.plan(planned(index, window_bytes=window, budget_seconds=20.0)):
        for row in batch.rows.tolist():
            num_bytes += len(clips.take(row))
            most = max(most, sum(size for _, size in served) - num_bytes)
    clips.close()
    assert window / 2 < most < 2 * window + MB, "reads ahead, and no further"


def test_a_loader_holds_two_windows_of_the_bytes_that_it_was_told(published, served):
    loader = load(published, "ttt", budget_seconds=20.0, window_bytes=4 * MB, prefetch=1)
    served.clear()
    num_bytes, most = 0.0, 0.0
    for batch in loader:
        num_bytes += batch.audio_seconds * 2 * 24_000
        most = max(most, sum(size for _, size in served) - num_bytes)
    assert num_bytes > 30 * MB
    assert most < 2 * 4 * MB + 3 * MB, "what the texts take, and the batch that is made ahead"


def test_a_rank_reads_its_own_clips_alone(published, served):
    index = Index.open(published, "ttt")
    plan = plan_epoch(
        plan_rows(index, windowed=True),
        PlanOptions(budget_seconds=60.0, micro_batches=4, window_bytes=512 * MB),
    )
    served.clear()
    clips = RemoteClips(index)
    num_bytes = 0
    for batch in clips.plan(plan.for_rank(1, 2)):
        num_bytes += sum(len(clips.take(row)) for row in batch.rows.tolist())
    clips.close()
    assert 0 < num_bytes < 0.7 * index.audio_length.sum()
    assert sum(size for _, size in served) < 1.3 * num_bytes


def test_an_abandoned_epoch_leaves_no_thread_and_nothing_asked_for(published):
    index = Index.open(published, "ttt")
    clips = RemoteClips(index, window_bytes=8 * MB)
    passing = clips.plan(planned(index))
    batch = next(passing)
    passing.close()
    for row in batch.rows.tolist():  # what was passed can be taken
        clips.take(row)
    assert not clips._coming
    again = next(clips.plan(planned(index, seed=1)))
    clips.take(int(again.rows[0]))
    clips.close()
    assert not threads()
    assert not clips._coming


def test_what_an_abandoned_epoch_did_not_begin_to_read_is_not_read(published, served, monkeypatch):
    monkeypatch.setattr("speechrows.loader.read.remote._FIRST", 1)
    monkeypatch.setattr("speechrows.loader.read.remote._REQUEST_BYTES", MB)
    index = Index.open(published, "ttt")
    send, abandoned = mini_hub.Handler.send_blob, threading.Event()

    def late(handler, data, headers):
        abandoned.wait(5)
        return send(handler, data, headers)

    monkeypatch.setattr(mini_hub.Handler, "send_blob", late)
    served.clear()
    clips = RemoteClips(index)
    passing = clips.plan(planned(index))
    batch = next(passing)
    passing.close()
    abandoned.set()
    _ = [clips.take(row) for row in batch.rows.tolist()]
    clips._pool.shutdown()  # after all that is still asked for
    assert sum(size for _, size in served) < 0.7 * index.audio_length.sum()


def test_small_columns_of_a_row_group_are_read_without_the_audio_between_them(published, folder, served):
    index = Index.open(published, "ttt")
    path = index.shards[0].path
    group = pq.read_metadata(folder / path).row_group(0)
    assert group.total_byte_size > 32 * MB
    served.clear()
    columns = ["row_id", "messages", "input_ids", "labels", "num_tokens", "codec", "codec_targets", "text"]
    with index.folder.open_file(path) as file, pq.ParquetFile(file) as parquet:
        table = parquet.read_row_group(0, columns, use_threads=False)
    assert table.equals(pq.ParquetFile(folder / path).read_row_group(0, columns))
    assert sum(size for _, size in served) < 0.05 * group.total_byte_size
    assert len(served) <= 4


def test_the_footer_of_a_shard_is_asked_for_once(published, served):
    index = Index.open(published, "ttt")
    served.clear()
    for expected in (1, 0):
        with index.open_shard(0) as shard:
            assert shard.num_row_groups == index.row_group[index.shard == 0].max() + 1
        assert len(served) == expected
        served.clear()


def test_a_dropped_connection_is_asked_again(published, folder, impatient, monkeypatch, capfd):
    index = Index.open(published, "ttt")
    send, dropped = mini_hub.Handler.send_blob, []

    def drop(handler, data, headers):
        if len(dropped) < 3 and "range" in handler.headers and len(data) > MB:
            dropped.append(handler.path)
            handler.wfile.write(b"HTTP/1.1 206 Partial\r\nContent-Length: 9999\r\n\r\nhalf")
            handler.connection.shutdown(socket.SHUT_RDWR)
        return send(handler, data, headers)

    monkeypatch.setattr(mini_hub.Handler, "send_blob", drop)
    clips = RemoteClips(index)
    batch = next(clips.plan(planned(index)))
    for row in batch.rows.tolist():
        assert clips.take(row) == expected(folder, index, row)
    clips.close()
    assert len(dropped) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_is_busy_is_asked_again_and_one_that_stays_so_is_named(
    hub, published, folder, status, impatient
):
    index = Index.open(published, "ttt")
    clips = RemoteClips(index, window_bytes=MB)
    hub.hub.fail_next = [(status, "busy")] * 3
    row = int(next(clips.plan(planned(index))).rows[0])
    assert clips.take(row) == expected(folder, index, row)
    clips.close()
    clips = RemoteClips(index, window_bytes=MB)
    hub.hub.fail_next = [(status, "busy")] * 10_000
    row = int(next(clips.plan(planned(index))).rows[0])
    with pytest.raises(
        StoreError, match=rf"^{BUILT}: data/ttt/.*parquet: the store did not answer.*{status} "
    ):
        clips.take(row)
    clips.close()
    assert not threads()


def test_an_answer_of_too_few_bytes_is_no_answer(published, folder, impatient, monkeypatch):
    index = Index.open(published, "ttt")
    index.check_shard(0)
    send, cut = mini_hub.Handler.send_blob, []

    def shorter(handler, data, headers):
        status, payload, more = send(handler, data, headers)
        if len(cut) < 2 and len(payload) > 100_000:
            cut.append(handler.path)
            payload = payload[:-1]
        return status, payload, more

    monkeypatch.setattr(mini_hub.Handler, "send_blob", shorter)
    clips = RemoteClips(index)
    for batch in clips.plan(planned(index)):
        for row in batch.rows.tolist():
            assert clips.take(row) == expected(folder, index, row)
    clips.close()
    assert cut


def test_a_private_repository_needs_a_token(hub, folder, impatient, monkeypatch):
    name = publish("org/private", folder, private=True)
    index = Index.open(name, "ttt")
    clips = RemoteClips(index)
    row = int(next(clips.plan(planned(index))).rows[0])
    assert clips.take(row) == expected(folder, index, row)
    clips.close()
    for token in ("hf_stranger", ""):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UsageError, match=r"org/private: .*log in with `hf auth login` or set HF_TOKEN"):
            RowsFolder.open(name)
        clips = RemoteClips(index)  # opened by someone who could read it
        row = int(next(clips.plan(planned(index))).rows[0])
        with pytest.raises(StoreError, match=r"org/private: data/ttt/.*: the store refused .*hf auth login"):
            clips.take(row)
        clips.close()
    monkeypatch.setenv("HF_TOKEN", "hf_admin")
    HfApi().delete_repo(name, repo_type="dataset")


def test_a_hub_that_does_not_answer_is_no_missing_folder(hub, published, impatient):
    hub.hub.fail_next = [(503, "busy")] * 2
    assert RowsFolder.open(published).revision
    hub.hub.fail_next = [(503, "busy")] * 10_000
    with pytest.raises(StoreError, match=f"^{BUILT}: the store did not answer"):
        RowsFolder.open(published)


def test_what_is_pushed_later_is_not_seen_and_a_changed_shard_is_refused(hub, folder, impatient):
    api, name = HfApi(), publish("org/changing", folder)
    index = Index.open(name, "ttt")
    first = index.folder.revision
    assert first == api.dataset_info(name).sha
    path = index.shards[1].path
    data = bytearray((folder / path).read_bytes())
    for at in (-20, 1000):  # in the footer, in the first row group
        data[at] ^= 1
    api.upload_file(repo_id=name, repo_type="dataset", path_or_fileobj=bytes(data), path_in_repo=path)
    clips = RemoteClips(index)  # opened before
    rows = np.flatnonzero(index.shard == 1)
    batch = next(batch for batch in planned(index) if np.isin(batch.rows, rows).any())
    for passed in clips.plan([batch]):
        for row in passed.rows.tolist():
            assert clips.take(row) == expected(folder, index, row)
    clips.close()

    later = Index.open(name, "ttt")
    assert later.folder.revision == api.dataset_info(name).sha != first
    clips = RemoteClips(later)
    (passed,) = clips.plan([batch])
    with pytest.raises(ShortfallError, match=rf"org/changing: {path} is not the file .*another footer"):
        _ = [clips.take(row) for row in passed.rows.tolist()]
    clips.close()

    for address in (f"{name}@{first}", f"hf://datasets/{name}@{first}"):
        assert RowsFolder.open(address).revision == first
    api.create_tag(name, tag="v1", revision=first, repo_type="dataset")
    assert RowsFolder.open(f"{name}@v1").revision == first
    Index.open(f"{name}@v1", "ttt").check_shard(1)
    number = api.create_pull_request(name, title="other rows", repo_type="dataset").num
    assert RowsFolder.open(f"{name}@refs/pr/{number}").revision == later.folder.revision
    with pytest.raises(
        UsageError, match=r"org/changing@nowhere: no such folder in .*, and no such dataset on the Hub"
    ):
        RowsFolder.open(f"{name}@nowhere")
    api.delete_repo(name, repo_type="dataset")


def test_an_epoch_from_the_hub_is_the_folders_and_goes_on_at_the_revision_of_its_state(
    hub, tmp_path, impatient
):
    for name in ("river", "brook"):
        corpus = write_corpus(tmp_path / name / "corpus", dialogues=4, seconds=0.4)
        for file in [*corpus.rglob("metadata.tsv"), *corpus.rglob("*.json")]:
            file.write_text(file.read_text("utf-8").replace("river", name), "utf-8")
        build_rows(corpus, tmp_path / name / "rows")
    name = publish("org/loaded", tmp_path / "river" / "rows")

    def opened(path, **options):
        return load(str(path), "ttt", budget_seconds=2, window_bytes=1 << 20, **options)

    def contents(batches):
        return [(batch.row_ids, batch.input_ids.tolist(), batch.speech.tolist()) for batch in batches]

    expected = contents(opened(tmp_path / "river" / "rows"))
    loader = opened(name)
    batches = contents(islice(loader, 2))
    state = json.loads(json.dumps(loader.state_dict()))
    publish(name, tmp_path / "brook" / "rows")
    assert batches + contents(loader) == expected, "what is pushed later is not seen"

    with pytest.raises(UsageError, match=f"its rows are not those .* taken of {name}@{state['revision']}"):
        opened(name).load_state_dict(state)
    ranks = [opened(f"{name}@{state['revision']}", rank=rank, world_size=2) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(state)
    remaining = [batch for pair in zip(*ranks, strict=True) for batch in pair if batch.number is not None]
    assert contents(remaining) == expected[2:]

    HfApi().upload_file(repo_id=name, repo_type="dataset", path_or_fileobj=b"", path_in_repo="NOTES")
    later = opened(name)  # another revision, with the rows of the one before
    later.load_state_dict(opened(tmp_path / "brook" / "rows").state_dict())
    HfApi().delete_repo(name, repo_type="dataset")


def test_any_store_of_fsspec_will_do(folder):
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/rows", recursive=True)
    index = Index.open("memory://rows", "ttt")
    assert index.folder.revision is None
    clips = RemoteClips(index)
    for batch in clips.plan(planned(index)):
        for row in batch.rows.tolist():
            assert clips.take(row) == expected(folder, index, row)
    clips.close()
    memory.rm("/rows", recursive=True)


def test_a_local_folder_has_no_revision(folder):
    opened = RowsFolder.open(str(folder))
    assert (opened.is_local, opened.revision) == (True, None)


def test_what_a_cache_holds_is_not_asked_for_again_by_other_loaders_and_other_orders(
    folder: Path,
    published: str,
    served: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    options = {"budget_seconds": 60.0, "window_bytes": 16 * MB}
    for seed in (0, 1):
        remote = load(published, "ttt", seed=seed, cache_bytes=400 * MB, **options)
        for batch, same in zip(remote, load(str(folder), "ttt", seed=seed, **options), strict=True):
            assert batch.row_ids == same.row_ids
            assert batch.speech.equal(same.speech)
        large = [size for _, size in served if size > MB]
        assert bool(large) == (seed == 0)
        served.clear()
    kept = [path.stat().st_size for path in (tmp_path / "speechrows" / "shards").glob("*-*")]
    assert 0 < sum(kept) < 400 * MB
