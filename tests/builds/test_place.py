"""A folder in a store is built shard by shard, through little disk here, into the bytes of one here."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from huggingface_hub import HfApi
from toys.build_process import ForkedBuild
from toys.building import build_rows
from toys.building import plain
from toys.building import published_files
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.mini_hub import MiniHub
from toys.s3 import BUCKET
from toys.s3 import S3Server

import speechrows
from speechrows.builds.place import Place
from speechrows.cli import main
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.folder.rows_folder import RowsFolder
from speechrows.storage.remote_folder import RemoteFolder

SHARDS = 6
OPTIONS: dict[str, Any] = {"shard_bytes": 1, "validation_fraction": 0.3}
ADDRESS = f"s3://{BUCKET}/rows"
HUB_DATASET = "org/straight_away"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("place") / "corpus", dialogues=SHARDS, seconds=1)


@pytest.fixture(scope="module")
def expected(corpus: Path) -> Path:
    build_rows(corpus, corpus.parent / "expected", **OPTIONS)
    return corpus.parent / "expected"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """An empty store, and a machine that has built nothing yet."""
    server.use(monkeypatch)
    server.empty()
    _move_to(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr("speechrows.storage.retry.PATIENT", (0.0,) * 4)
    return server


def _move_to(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left here by earlier builds is that of `cache`, as on another machine."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))


def _published(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not path.startswith(".build/")}


def _shards_here(cache: Path) -> list[Path]:
    return list(cache.rglob("data/**/*.parquet"))


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_folder_in_a_store_has_the_bytes_of_one_here_and_leaves_no_row_here(
    s3: S3Server, corpus: Path, expected: Path, tmp_path: Path, num_proc: int
) -> None:
    if num_proc == 1:
        build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    else:
        build_rows(corpus, Place.at(ADDRESS, scratch=1), num_proc=2, **OPTIONS)
    assert _published(s3.files("rows")) == published_files(expected)
    assert not _shards_here(tmp_path)
    assert speechrows.validate(ADDRESS).ok
    batches = zip(
        *(speechrows.load(rows, "ttt", budget_seconds=9) for rows in (ADDRESS, expected)), strict=True
    )
    assert all(there.speech.equal(here.speech) for there, here in batches)


def test_a_build_that_was_killed_goes_on_from_the_store_on_another_machine(
    s3: S3Server, corpus: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.holds = lambda path: path.endswith("/00002.json")
    process = ForkedBuild(corpus, ADDRESS, **OPTIONS)
    assert s3.held.wait(60)
    process.kill(group=True)
    process.wait()
    commits = [path for path in s3.files("rows") if path.startswith(".build/ttt/") and path.endswith(".json")]
    assert any(path.endswith("-00002.parquet") for path in s3.files("rows"))  # a commit comes last
    s3.holds = None
    assert [*map(os.path.basename, commits)] == ["00000.json", "00001.json"]
    assert "README.md" not in s3.files("rows")
    _move_to(tmp_path / "another", monkeypatch)
    s3.requests.clear()
    build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    written = {path for method, path in s3.requests if method == "PUT"}
    assert not [commit for commit in commits if any(path.endswith(commit) for path in written)]
    assert _published(s3.files("rows")) == published_files(expected)


def test_one_shard_at_most_lies_here_while_the_next_ones_wait(
    s3: S3Server, corpus: Path, tmp_path: Path
) -> None:
    s3.holds = lambda path: path.endswith("/00003.json")
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_rows, corpus, Place.at(ADDRESS), **OPTIONS)
        assert s3.held.wait(60)
        time.sleep(0.2)  # in which the next one would begin
        here = {path.stem[-5:] for path in _shards_here(tmp_path)}, [*tmp_path.rglob("tmp/*.parquet")]
        s3.holds = None
        building.result()
    assert here == ({"00003"}, [])


def test_a_shard_that_the_store_lost_or_cut_is_built_again(
    s3: S3Server, corpus: Path, expected: Path
) -> None:
    build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    lost, cut, *_ = [path for path in s3.files("rows") if path.startswith("data/")]
    remote = Place.at(ADDRESS).remote
    assert remote is not None
    remote.fs.rm(f"{remote.root}/{lost}")
    remote.fs.pipe(f"{remote.root}/{cut}", b"PAR1")
    remote.fs.pipe(f"{remote.root}/data/ttt/train/band_1/ttt-train-1-00077.parquet", b"of no commit")
    build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    assert _published(s3.files("rows")) == published_files(expected)


def test_a_store_at_its_limit_is_waited_for_and_one_that_never_answers_ends_the_build_in_a_line(
    s3: S3Server, corpus: Path, expected: Path
) -> None:
    s3.busy = 3
    build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    assert _published(s3.files("rows")) == published_files(expected)
    s3.busy = 10_000
    with pytest.raises(StoreError, match=r"the store did not answer .*Run the same command again"):
        build_rows(corpus, Place.at(f"{ADDRESS}/other"), **OPTIONS)


def test_a_store_that_fails_while_a_shard_is_read_for_the_card_ends_the_build_in_a_line(
    s3: S3Server, corpus: Path, expected: Path
) -> None:
    (shard, *_), remote = expected.rglob("*.parquet"), RemoteFolder.open(ADDRESS)
    s3.put("rows/a.parquet", shard.read_bytes())
    with (
        pytest.raises(StoreError, match=f"^{ADDRESS}: the store did not answer"),
        remote.open_parquet("a.parquet"),
    ):
        raise OSError(16, "Reduce your rate.")


def test_what_a_store_holds_is_built_over_only_when_it_is_asked_for(
    s3: S3Server, corpus: Path, expected: Path
) -> None:
    build_rows(corpus, Place.at(ADDRESS), **OPTIONS, swap_roles=True)
    with pytest.raises(UsageError, match=rf"{ADDRESS}: holds ttt rows of another build \(swap_roles"):
        build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    build_rows(corpus, Place.at(ADDRESS), overwrite=True, **OPTIONS)
    s3.put("rows-spoilt/.build/recipe.json", b"{")
    with pytest.raises(UsageError, match=rf"^{ADDRESS}-spoilt/.build/recipe.json: found JSONDecodeError"):
        build_rows(corpus, Place.at(f"{ADDRESS}-spoilt"), **OPTIONS)
    assert _published(s3.files("rows")) == published_files(expected)
    remote = Place.at(ADDRESS).remote
    assert remote is not None
    remote.fs.pipe(f"{BUCKET}/photos/cat.png", b"a cat")
    with pytest.raises(UsageError, match=r"photos: holds cat.png, which no build wrote"):
        build_rows(corpus, Place.at(f"s3://{BUCKET}/photos"), **OPTIONS)


def test_another_task_is_added_to_what_a_store_holds(
    s3: S3Server, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in ("ttt", "response"):
        build_rows(corpus, tmp_path / "expected", config, **OPTIONS)
        build_rows(corpus, Place.at(ADDRESS), config, **OPTIONS)
        _move_to(tmp_path / config, monkeypatch)
    assert _published(s3.files("rows")) == published_files(tmp_path / "expected")


def test_a_scratch_that_holds_no_shard_is_refused_and_a_small_one_takes_fewer_processes(
    s3: S3Server, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "deepdialogue_ttt", "ttt", "--data-dir", str(corpus), "--out", ADDRESS]
    for scratch in ("nan", "inf", "-1", "0"):
        with pytest.raises(UsageError, match=r"--scratch: found .*expected GB, more than 0"):
            Place.at(ADDRESS, float(scratch))
    assert main([*command, "--scratch", "0.000001"]) == 2
    assert "--scratch: found 1e-06 GB, expected at least" in capsys.readouterr().err
    assert main([*command, "--scratch", "1"]) == 0
    assert f'open it with: speechrows.load("{ADDRESS}", "ttt")' in capsys.readouterr().out
    assert main([*command[:-1], "rows-here", "--scratch", "1"]) == 2
    assert "a folder here; expected --out s3://" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["s3://", "s3://rows/../up", "s3://rows/a[1]", "memory://rows", "hf://org/name", "hf://datasets/a"],
)
def test_an_address_at_which_no_folder_can_be_read_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(address)}: "):
        Place.at(address)


def test_a_folder_here_in_which_the_command_runs_is_no_folder_of_a_store(
    s3: S3Server, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    assert main(["build", "deepdialogue_ttt", "ttt", "--data-dir", ".", "--out", f"{ADDRESS}/"]) == 0
    assert "README.md" in s3.files("rows")


def test_what_a_stores_own_page_or_an_earlier_tokenizer_left_is_in_no_folder(
    s3: S3Server, corpus: Path, tmp_path: Path
) -> None:
    for path in ("", "tokenizer/chat_template.jinja", "assets/ttt/old.png"):
        s3.put(f"rows/{path}", b"")
    s3.put("rows/.build/recipe.json", b'{"builder": "deepdialogue_ttt", "tokenizer": "", "tasks": {}}')
    build_rows(corpus, Place.at(ADDRESS))
    written = [
        path for method, path in s3.requests if method == "PUT" and path.startswith(f"/{BUCKET}/rows/")
    ]
    assert written[3].endswith("/.build/recipe.json")  # without it, the rest would be a stranger's
    build_rows(corpus, tmp_path / "expected")
    files = {path: data for path, data in _published(s3.files("rows")).items() if path}
    assert files == published_files(tmp_path / "expected")


def test_two_builds_of_one_address_at_once_are_refused_by_it_and_so_are_two_of_the_same_shards(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechrows.builds.locks._ORPHANS_END_WITHIN", 0)
    for part in ("", "0-1"):
        places = [Place.at(ADDRESS, part=part) for _ in range(2)]
        with places[0].locked(str, is_shared=bool(part)):
            with pytest.raises(UsageError, match=rf"^{ADDRESS}: another build is writing here"):
                places[1].locked(str, is_shared=bool(part)).__enter__()
            with Place.at(ADDRESS, part="2-3").locked(str, is_shared=True):
                pass


def test_rows_are_built_straight_into_a_dataset_of_the_hub(
    hub: MiniHub,
    corpus: Path,
    expected: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _move_to(tmp_path / "cache", monkeypatch)
    address = f"hf://datasets/{HUB_DATASET}"
    with pytest.raises(UsageError, match=r"no such dataset on the Hub.*Make it: `hf repos create"):
        build_rows(corpus, Place.at(address), **OPTIONS)
    api = HfApi()
    api.create_repo(HUB_DATASET, repo_type="dataset")
    build_rows(corpus, Place.at(address), **OPTIONS)
    assert not _shards_here(tmp_path)
    folder = tmp_path / "copy"
    api.snapshot_download(HUB_DATASET, repo_type="dataset", local_dir=folder)
    copied = published_files(folder)
    assert {path: copied[path] for path in published_files(expected)} == published_files(expected)
    splits = load_dataset(HUB_DATASET, "stage_1", cache_dir=str(tmp_path / "datasets"))
    assert [row for split in ("train", "validation") for row in plain(splits[split])] == read_rows(expected)
    api.delete_repo(HUB_DATASET, repo_type="dataset")


def test_a_token_that_the_hub_does_not_know_is_told_in_a_line(
    hub: MiniHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechrows.storage.retry.PATIENT", (0.0,))
    address = f"hf://datasets/{HUB_DATASET}"
    remote = RemoteFolder.open(address)
    hub.hub.fail_next = 9 * [(401, "Invalid credentials")]
    with pytest.raises(UsageError, match=rf"^{address}: found .*401.*HF_TOKEN"):
        remote.sizes()


def test_a_quota_of_the_hub_that_is_used_up_is_waited_for(
    hub: MiniHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[float]()
    monkeypatch.setattr("speechrows.storage.remote_folder.time.sleep", pauses.append)
    HfApi().create_repo(HUB_DATASET, repo_type="dataset")
    remote = RemoteFolder.open(f"hf://datasets/{HUB_DATASET}/below")
    (tmp_path / "a.txt").write_text("a")
    remote.sizes()
    hub.hub.fail_next = 8 * [(429, "You have exceeded the rate limit for repository commits (128 per hour)")]
    remote.write(["a.txt"], tmp_path, "Add a")
    assert remote.sizes() == {"a.txt": 1}
    assert pauses.count(60.0) == 1  # the client asks six times itself
    HfApi().delete_repo(HUB_DATASET, repo_type="dataset")


def test_a_process_that_is_forked_reads_a_folder_in_a_store(s3: S3Server, corpus: Path) -> None:
    build_rows(corpus, Place.at(ADDRESS))
    folder = RowsFolder.open(ADDRESS)
    process = get_context("fork").Process(target=folder.read_range, args=("README.md", 0, 3))
    process.start()
    process.join(10)
    assert process.exitcode == 0


def test_what_is_told_of_a_store_holds_nothing_of_this_machine(s3: S3Server, corpus: Path) -> None:
    build_rows(corpus, Place.at(ADDRESS), **OPTIONS)
    state = [data for path, data in s3.files("rows").items() if path.startswith(".build/")]
    assert json.loads(s3.files("rows")[".build/recipe.json"])["builder"] == "deepdialogue_ttt"
    for word in (os.uname().nodename, str(corpus.parent), str(os.getpid())):
        assert not [data for data in state if word.encode() in data]


def test_a_cache_tells_shards_apart_that_differ_in_sound_alone(
    s3: S3Server, tmp_path: Path, corpus: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    heard = list[Any]()
    for out in ("one", "two"):
        build_rows(copy, Place.at(f"s3://{BUCKET}/{out}"))
        options: dict[str, Any] = {"budget_seconds": 900.0, "cache_bytes": 1 << 30}
        heard.append(next(iter(speechrows.load(f"s3://{BUCKET}/{out}", "ttt", **options))).speech)
        clip = next(iter(sorted(copy.rglob("001*.wav"))))
        clip.write_bytes(clip.read_bytes()[:-1] + b"\x55")
        assert heard[-1].equal(next(iter(speechrows.load(f"s3://{BUCKET}/{out}", "ttt", **options))).speech)
    assert heard[0].shape == heard[1].shape
    assert not heard[0].equal(heard[1])
