"""A Ray cluster as an engine: a head and a node on loopback, whose processes are killed, and more nodes.

The suite has the short form; make test-compat has all of it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys.build_process import ForkedBuild
from toys.building import build_rows
from toys.building import published_files
from toys.corpus import write_corpus
from toys.jobs import SQUARES
from toys.jobs import Job
from toys.jobs import tried
from toys.mimi import tiny_mimi
from toys.s3 import BUCKET
from toys.s3 import S3Server
from toys.samples import XTTS
from toys.tokenizer import toy_tokenizer

from speechrows.builds.place import Place
from speechrows.cli import main
from speechrows.errors import ShortfallError
from speechrows.errors import SpeechRowsError
from speechrows.errors import UsageError
from speechrows.workers.local import LocalEngine

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster

from speechrows.workers.ray import cluster as of_ray
from speechrows.workers.ray.engine import RayEngine
from speechrows.workers.ray.engine import connected

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}  # one that a test adds, and loses


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    """A store that the cluster's workers know, too."""
    with S3Server() as server, pytest.MonkeyPatch.context() as environment:
        server.use(environment)
        server.empty()
        yield server


@pytest.fixture(scope="module")
def cluster(store: S3Server) -> Iterator[Any]:
    """A head without CPUs, so that whatever is done is done on another node, by two workers."""
    before = dict(os.environ)
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    head = {"num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=80 << 20)  # nobody looks for the GPU
    at_sigterm = signal.getsignal(signal.SIGTERM)
    with connected(cluster.address):
        yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)
    assert signal.getsignal(signal.SIGTERM) is at_sigterm, "what is forked later ends by SIGTERM as ever"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def engine(cluster: Any, lines: list[str]) -> RayEngine:
    return RayEngine(tell=lines.append)


def wait_for(moment: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (value := moment()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def jobs(tmp_path: Path, number: int, **does: str) -> list[Job]:
    return [Job(n, does.get(f"job_{n}", "squares"), str(tmp_path)) for n in range(number)]


# --- what every engine promises -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["this process", "two processes", "tasks", "actors"])
def test_results_come_in_order_and_jobs_are_taken_as_they_can_be_done(kind: str, engine: RayEngine) -> None:
    taken, done = list[int](), list[int]()

    def numbers() -> Iterator[Job | None]:
        for number in range(60):
            if number == 20:
                yield None  # all that is before it is yielded now
                assert results == [n**2 for n in range(20)]
            taken.append(number)
            yield Job(number)

    local = LocalEngine(num_proc=1 if kind == "this process" else 2)
    work = replace(SQUARES, holds_model=kind == "actors")
    results = list[int]()
    for square in (engine if kind in ("tasks", "actors") else local).run(
        work, numbers(), progress=done.append
    ):
        results.append(square)
        assert len(taken) - len(results) <= 24
    assert results == [n**2 for n in range(60)]
    assert sum(done) == 60


@pytest.mark.soak
def test_a_model_that_asks_for_a_gpu_is_held_by_as_many_actors_as_there_are(
    engine: RayEngine, tmp_path: Path
) -> None:
    work = replace(SQUARES, holds_model=True, num_gpus=1)
    assert list(engine.run(work, jobs(tmp_path, 4))) == [0, 1, 4, 9]
    assert len({pid for job in jobs(tmp_path, 4) for pid in tried(job)}) == engine.cluster_gpus == 1


def test_what_a_job_raises_comes_as_it_is_and_a_bug_with_its_traceback(
    engine: RayEngine, tmp_path: Path
) -> None:
    with pytest.raises(ShortfallError, match=r"^job 1: fell short$"):
        list(engine.run(SQUARES, jobs(tmp_path, 3, job_1="falls short")))
    with pytest.raises(KeyError) as caught:
        list(engine.run(SQUARES, jobs(tmp_path, 1, job_0="has a bug")))
    assert "in do" in caught.value.__notes__[0]


def test_a_worker_that_does_not_see_a_folder_says_so_in_a_line(engine: RayEngine) -> None:
    work = replace(SQUARES, paths=("/nowhere/rows",))
    with pytest.raises(
        UsageError, match=r"^/nowhere/rows: is not seen by .*expected a disk that all nodes see"
    ):
        list(engine.run(work, [Job(0)]))


# --- what is lost ---------------------------------------------------------------------------


@pytest.mark.parametrize("holds_model", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_job_whose_worker_is_killed_is_done_once_more(
    engine: RayEngine, lines: list[str], tmp_path: Path, holds_model: bool
) -> None:
    work = replace(SQUARES, holds_model=holds_model)
    assert list(engine.run(work, jobs(tmp_path, 6, job_2="kills once"))) == [0, 1, 4, 9, 16, 25]
    assert any(line.startswith("job 2: its worker was lost") for line in lines)


@pytest.mark.soak
def test_a_job_that_kills_every_worker_ends_all_with_a_line_that_names_it(
    engine: RayEngine, tmp_path: Path
) -> None:
    with pytest.raises(SpeechRowsError, match=r"^job 1: its worker died 4 times, killed or out of memory"):
        list(engine.run(SQUARES, jobs(tmp_path, 3, job_1="kills")))
    assert len(tried(Job(1, marks=str(tmp_path)))) == of_ray.TRIES


@pytest.mark.soak
def test_a_slow_job_is_told_and_its_second_copy_wins_and_ends_the_first(
    engine: RayEngine, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_ray, "SLOW_S", 0.5)
    assert sorted(engine.run(SQUARES, jobs(tmp_path, 5, job_0="waits once"), ordered=False)) == [
        0,
        1,
        4,
        9,
        16,
    ]
    assert [line for line in lines if line.startswith("job 0: lasts ")]
    first, _ = tried(Job(0, marks=str(tmp_path)))
    wait_for(lambda: not is_alive(first))


@pytest.mark.soak
def test_a_node_that_is_lost_costs_its_jobs_another_try_alone(
    cluster: Any, engine: RayEngine, tmp_path: Path
) -> None:
    node = cluster.add_node(**NODE)
    waiting = jobs(tmp_path, 3, job_0="waits once", job_1="waits once", job_2="waits once")
    results = replace(engine, num_proc=3).run(SQUARES, waiting)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(results))
    thread.start()
    wait_for(lambda: all(tried(job) for job in waiting))
    cluster.remove_node(node, allow_graceful=False)
    for pid in [
        tried(job)[0] for job in waiting
    ]:  # of the other nodes' jobs, that they need not be waited for
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    thread.join(40)
    assert got == [0, 1, 4]


def test_who_stops_early_leaves_nobody_at_work(engine: RayEngine, tmp_path: Path) -> None:
    results = engine.run(SQUARES, jobs(tmp_path, 2, job_1="waits"))
    assert next(results) == 0
    (pid,) = wait_for(lambda: tried(Job(1, marks=str(tmp_path))))
    results.close()
    wait_for(lambda: not is_alive(pid))


DRIVER = """
import sys
from speechrows.workers.ray.engine import RayEngine, connected
from toys.jobs import SQUARES, Job
with connected(sys.argv[1]):
    list(RayEngine().run(SQUARES, [Job(0, "waits", sys.argv[2])]))
"""


@pytest.mark.soak
def test_what_a_killed_driver_had_at_work_ends_with_it(cluster: Any, tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)])}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path)],
        env=environment,
        stderr=subprocess.PIPE,
    )
    (pid,) = wait_for(lambda: tried(Job(0, marks=str(tmp_path))))
    driver.kill()
    driver.communicate()
    killed = time.monotonic()
    wait_for(lambda: not is_alive(pid))
    assert time.monotonic() - killed < 8  # the next build waits for 10 s


# --- builds ---------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {"shard_bytes": 1, "validation_fraction": 0.3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("ray") / "corpus", dialogues=8, seconds=6)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path) -> dict[str, bytes]:
    build_rows(corpus, corpus.parent / "undisturbed", **OPTIONS)
    return published_files(corpus.parent / "undisturbed")


def pids_that_write(out: Path) -> set[int]:
    return {int(path.name.split("-")[-2]) for path in (out / ".build/tmp").glob("*.parquet")}


def pid_that_holds(cache: Path, shard: str) -> int:
    """The worker in whose folder below a `tmp` files of a shard lie; other workers' come and go meanwhile."""
    folders = [Path(at).parts for at, _, names in os.walk(cache) if any(n.startswith(shard) for n in names)]
    (pid,) = {parts[parts.index("tmp", len(cache.parts)) + 1].split("-")[-2] for parts in folders}
    return int(pid)


def test_a_build_whose_worker_is_killed_in_a_shard_ends_in_the_bytes_of_one_process(
    corpus: Path, undisturbed: dict[str, bytes], engine: RayEngine, lines: list[str], tmp_path: Path
) -> None:
    def kill() -> None:
        os.kill(min(wait_for(lambda: pids_that_write(tmp_path / "out"))), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    build_rows(corpus, tmp_path / "out", engine=engine, **OPTIONS)
    killer.join()
    assert published_files(tmp_path / "out") == undisturbed
    assert [line for line in lines if "its worker was lost" in line]
    assert not (tmp_path / "out/.build/tmp").exists()


def test_a_build_into_a_store_whose_worker_is_killed_ends_in_the_same_bytes_and_leaves_nothing_here(
    corpus: Path,
    undisturbed: dict[str, bytes],
    engine: RayEngine,
    lines: list[str],
    store: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    store.holds = lambda path: path.endswith("/00003.json")

    def kill() -> None:
        try:
            assert store.held.wait(60)
            os.kill(pid_that_holds(tmp_path, "00003"), signal.SIGKILL)
        finally:
            store.holds = None  # or the build would wait for ever

    killer = threading.Thread(target=kill)
    killer.start()
    build_rows(corpus, Place.at(f"s3://{BUCKET}/rows"), engine=engine, **OPTIONS)
    killer.join()
    files = store.files("rows")
    assert {path: data for path, data in files.items() if ".build" not in path} == undisturbed
    assert [line for line in lines if "its worker was lost" in line]
    assert not [*tmp_path.rglob("data/**/*.parquet")]


@pytest.mark.soak
def test_a_build_whose_driver_is_killed_goes_on_when_it_is_started_again(
    cluster: Any, corpus: Path, undisturbed: dict[str, bytes], engine: RayEngine, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    driver = ForkedBuild(corpus, out, ray_address=cluster.address, **OPTIONS)
    wait_for(lambda: [*(out / ".build/ttt").glob("*.json")])
    driver.kill()
    driver.communicate()
    kept = {path.name for path in (out / ".build/ttt").glob("*.json")}
    assert 0 < len(kept) < 8
    build_rows(corpus, out, engine=engine, **OPTIONS)
    assert published_files(out) == undisturbed


@pytest.mark.soak
def test_a_build_that_loses_a_node_ends_in_the_same_bytes(
    cluster: Any, corpus: Path, undisturbed: dict[str, bytes], engine: RayEngine, tmp_path: Path
) -> None:
    node = cluster.add_node(**NODE)

    def remove() -> None:
        wait_for(lambda: pids_that_write(tmp_path / "out"))
        cluster.remove_node(node, allow_graceful=False)

    remover = threading.Thread(target=remove)
    remover.start()
    build_rows(corpus, tmp_path / "out", engine=replace(engine, num_proc=3), **OPTIONS)
    remover.join()
    assert published_files(tmp_path / "out") == undisturbed


# --- generated columns ----------------------------------------------------------------------


def tiny_chat_model(folder: Path) -> str:
    """A Llama that says anything."""
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig  # noqa: PLC0415
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    tokenizer = toy_tokenizer("bpe")
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["mimi", "sift", "traits"])
def test_generated_columns_are_the_bytes_of_one_process(cluster: Any, tmp_path: Path, kind: str) -> None:
    words = ["generate", kind, "--source", "deepdialogue_ttt", "--data-dir", str(XTTS)]
    if kind == "mimi":
        words += ["--model", tiny_mimi(tmp_path / "mimi"), "--batch-seconds", "4", "--verify", "3"]
    if kind == "sift":
        words += ["--model", tiny_chat_model(tmp_path / "chat"), "--mode", "sift_s", "--batch-size", "1"]
        words += ["--max-new-tokens", "8", "--seed", "3"]
    if kind != "traits":
        words += ["--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "here")]) == 0
    assert main([*words, "--out", str(tmp_path / "cluster"), "--engine", "ray", "--num-proc", "2"]) == 0
    assert published_files(tmp_path / "cluster") == published_files(tmp_path / "here")
