"""A build that is killed at any moment, by anything, ends in the same bytes when it is run again."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from toys.build_process import ENDED_WITH_AN_ERROR
from toys.build_process import ForkedBuild
from toys.building import build_rows
from toys.building import published_files
from toys.corpus import write_corpus

from speechrows.builder.builder import load_builder
from speechrows.builds import locks
from speechrows.builds import state
from speechrows.builds.run import build
from speechrows.errors import FullDiskError
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError

SHARDS = 14  # a dialogue each, 0.6 MB
OPTIONS: dict[str, Any] = {"shard_bytes": 1, "validation_fraction": 0.3}
ORPHANS_END_WITHIN = 20.0  # seconds; those that are still importing end when they have
Moment = Callable[[Path], bool]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("restart") / "corpus", dialogues=SHARDS, seconds=3)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path) -> dict[str, bytes]:
    """What every build of these tests has to end in."""
    build_rows(corpus, corpus.parent / "undisturbed", **OPTIONS)
    return published_files(corpus.parent / "undisturbed")


def _commits(out: Path) -> int:
    return len(list((out / ".build" / "ttt").glob("*.json")))


def _writes(out: Path) -> bool:
    return any((out / ".build" / "tmp").glob("*.parquet"))


def _has_index_without_commit(out: Path) -> bool:
    parts = {path.name[:5] for path in (out / ".build" / "ttt").glob("*.parquet")}
    return any(not (out / ".build" / "ttt" / f"{part}.json").exists() for part in parts)


def _commits_reach(number: int) -> Moment:
    return lambda out: _commits(out) >= number


def _after(seconds: float) -> Moment:
    """So long after the first file is being written."""
    began: list[float] = []

    def moment(out: Path) -> bool:
        if not began and _writes(out):
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] >= seconds

    return moment


def _merges(out: Path) -> bool:
    return (out / "skipped.jsonl").exists()


_rng = random.Random(7)
MOMENTS: tuple[tuple[str, Moment], ...] = (
    ("parent", lambda out: (out / ".build" / "recipe.json").exists()),
    ("group", _writes),
    ("parent", _commits_reach(3)),
    ("group", _has_index_without_commit),
    ("parent", _after(_rng.uniform(0.0, 0.1))),
    ("group", _after(_rng.uniform(0.0, 0.1))),
    ("parent", _commits_reach(SHARDS - 4)),
    ("group", _merges),
)


@pytest.mark.parametrize(
    ("num_proc", "moments"),
    [
        pytest.param(1, MOMENTS[1::2], id="one process"),
        pytest.param(2, MOMENTS[:1] + MOMENTS[2:4] + MOMENTS[5:7], id="two workers", marks=pytest.mark.soak),
    ],
)
def test_a_build_killed_at_many_moments_ends_in_the_same_bytes(
    corpus: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    num_proc: int,
    moments: Sequence[tuple[str, Moment]],
) -> None:
    out, kept = tmp_path / "out", dict[str, tuple[int, int]]()
    killed = 0
    for whom, moment in moments:
        process = ForkedBuild(corpus, out, num_proc=num_proc, **OPTIONS)
        if _wait_for(partial(moment, out), process):
            process.kill(group=whom == "group")
        process.wait()
        killed += process.returncode == -signal.SIGKILL
        _check_that_no_orphan_writes(process, out)
        if (out / "README.md").exists():  # written last
            assert published_files(out) == undisturbed
        finished = _finished_files(out)
        assert kept.items() <= finished.items()  # what was finished is not written again
        kept = finished
    assert killed >= 2  # on a busy machine, builds end before their moment is seen
    build_rows(corpus, out, num_proc=num_proc, **OPTIONS)
    assert kept.items() <= _finished_files(out).items()
    assert published_files(out) == undisturbed


def _wait_for(moment: Callable[[], bool], process: ForkedBuild) -> bool:
    """Whether the moment came before the process ended."""
    deadline = time.monotonic() + 30
    while process.poll() is None:
        if moment():
            return True
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return False


def _check_that_no_orphan_writes(process: ForkedBuild, out: Path) -> None:
    """Those of its workers that write end at once, all of them soon, and nothing is written since."""
    time.sleep(0.2)
    before = _stamps(out)
    deadline = time.monotonic() + ORPHANS_END_WITHIN
    while orphans := _alive_in_group(process.pid):
        assert time.monotonic() < deadline, orphans
        time.sleep(0.02)
    assert _stamps(out) == before


def _alive_in_group(group: int) -> list[int]:
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status, _, pgrp = _stat(int(folder.name))
            if pgrp == group and status != "Z":
                pids.append(int(folder.name))
    return pids


def _stat(pid: int) -> tuple[str, int, int]:
    """A process's status, parent and group."""
    status, parent, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    return status, int(parent), int(group)


def _is_stopped(pid: int) -> bool:
    """Whether all of its threads are."""
    stats = (stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def _stamps(out: Path) -> dict[str, tuple[int, int, int]]:
    stats = {path: path.stat() for path in sorted(out.rglob("*")) if path.is_file()}
    return {str(path): (s.st_ino, s.st_mtime_ns, s.st_size) for path, s in stats.items()}


def _finished_files(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the files that commits name."""
    commits = [json.loads(path.read_text()) for path in sorted((out / ".build" / "ttt").glob("*.json"))]
    stats = {file["path"]: (out / file["path"]).stat() for commit in commits for file in commit["files"]}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def test_a_worker_that_is_killed_ends_the_build_with_advice(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    process = ForkedBuild(corpus, tmp_path / "out", num_proc=2, **OPTIONS)
    assert _wait_for(lambda: _writes(tmp_path / "out"), process)
    os.killpg(process.pid, signal.SIGSTOP)  # on a busy machine, it could end before its workers are known
    os.kill(_workers(process)[0], signal.SIGKILL)
    os.killpg(process.pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == ENDED_WITH_AN_ERROR
    assert "a worker process died" in errors
    assert "Run the same command again" in errors
    _check_that_no_orphan_writes(process, tmp_path / "out")
    build_rows(corpus, tmp_path / "out", **OPTIONS)
    assert published_files(tmp_path / "out") == undisturbed


def _workers(process: ForkedBuild) -> list[int]:
    """Those that its server of workers has forked."""
    parents = {pid: _stat(pid)[1] for pid in _alive_in_group(process.pid)}
    return [pid for pid, parent in parents.items() if parent in parents and parent != process.pid]


def test_a_second_build_is_refused_or_waits(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = ForkedBuild(corpus, out, **OPTIONS)
    assert _wait_for(lambda: _commits(out) > 1, first)
    os.killpg(first.pid, signal.SIGSTOP)
    while not _is_stopped(first.pid):
        time.sleep(0.001)
    before = _stamps(out)
    monkeypatch.setattr(locks, "_ORPHANS_END_WITHIN", 0.3)
    with pytest.raises(UsageError, match="another build is writing here"):
        build_rows(corpus, out, **OPTIONS)
    assert _stamps(out) == before
    os.killpg(first.pid, signal.SIGCONT)
    monkeypatch.setattr(locks, "_ORPHANS_END_WITHIN", 30)
    build_rows(corpus, out, **OPTIONS)
    assert first.wait() == 0
    assert published_files(out) == undisturbed


def test_a_living_worker_of_a_dead_build_keeps_the_next_one_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_rows(corpus, tmp_path, **OPTIONS)
    monkeypatch.setattr(locks, "_ORPHANS_END_WITHIN", 0.1)
    lock = os.open(tmp_path / ".build" / "workers", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_SH)
    with pytest.raises(UsageError, match="another build is writing here"):
        build_rows(corpus, tmp_path, **OPTIONS)
    os.close(lock)
    build_rows(corpus, tmp_path, **OPTIONS)


def test_a_build_that_dies_between_overwriting_and_its_tokenizer_goes_on_with_the_new_one(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_rows(corpus, out, **OPTIONS)
    state.temporary_folder(out).mkdir()
    recipe = json.loads(state.recipe_file(out).read_text("utf-8"))
    another = state.Claim(
        builder=recipe["builder"], tokenizer="another", task="ttt", recipe={"tokenizer": "another"}
    )
    state.claim(out, another, overwrite=True)
    assert not (out / "tokenizer").exists()


def test_whatever_was_damaged_in_a_folder_the_same_build_mends_it(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(corpus.parent / "undisturbed", tmp_path / "out"))
    shards, parts = sorted((out / "data").rglob("*.parquet")), sorted((out / ".build/ttt").glob("*.parquet"))
    commits = sorted((out / ".build/ttt").glob("*.json"))
    for number, path in enumerate((shards[0], parts[1], commits[2], out / "tokenizer/tokenizer.json")):
        path.write_bytes((b"\xff", b"\0", b"[", b"{")[number] * path.stat().st_size)  # of the same size
    for path in (shards[3], parts[4], commits[5], out / "README.md", out / "skipped.jsonl"):
        path.write_bytes(path.read_bytes()[:-9])
    shutil.rmtree(out / "index")
    build_rows(corpus, out, **OPTIONS)
    assert published_files(out) == undisturbed
    for damage in (b"", b"[]", b'{"builder": "x", "tokenizer": "y", "tasks": 7}'):
        state.recipe_file(out).write_bytes(damage)
        with pytest.raises(UsageError, match=r"recipe\.json: found .*; expected what a build wrote there"):
            build_rows(corpus, out, **OPTIONS)


def _touched(clip: Path) -> None:
    os.utime(clip)


def _longer(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes() + b"\0\0")


@pytest.mark.parametrize("change", [_touched, _longer, Path.unlink])
def test_a_file_that_changes_while_it_is_read_fails_its_shard_and_put_back_the_build_goes_on(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    out, clip = tmp_path / "out", sorted(corpus.rglob("*.wav"))[-1]
    made = load_builder("deepdialogue_ttt")(config_name="ttt", data_dir=str(corpus), **OPTIONS)
    (job,) = made.jobs()  # the corpus is listed
    content, stat = clip.read_bytes(), clip.stat()
    change(clip)
    try:
        with pytest.raises(ShortfallError, match=f"{clip.name}: changed since it was listed: found .*again"):
            build(job, out)
    finally:
        clip.write_bytes(content)
        os.utime(clip, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert 0 < _commits(out) < SHARDS
    assert not (out / "README.md").exists()
    build(job, out)
    assert published_files(out) == undisturbed


def test_no_room_for_a_file_is_told_and_mended(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = ForkedBuild(corpus, out, largest_file=300_000, **OPTIONS)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == ENDED_WITH_AN_ERROR, errors
    _check_no_room(errors.removeprefix("FullDiskError: "), out)
    assert not any((out / ".build").glob("tmp/*"))
    build_rows(corpus, out, **OPTIONS)
    assert published_files(out) == undisturbed


def _check_no_room(error: str, out: Path) -> None:
    assert error.startswith(f"{out}: no room to write")
    assert "run the same command again" in error


_NAMESPACE = ("unshare", "-rm", "sh", "-c")


def _may_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(
            [*_NAMESPACE, f"mount -t tmpfs none {folder}"], check=False, capture_output=True
        ).returncode
        == 0
    )


def test_a_full_disk_is_told_and_mended(corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    if not _may_mount(tmp_path):
        pytest.skip("mounting a tmpfs in a user namespace is not allowed here")
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=3m none {disk} && echo mounted && cat"
    with subprocess.Popen([*_NAMESPACE, mount], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        out = Path(f"/proc/{holder.pid}/root{disk}/out")  # as the process that has mounted it sees it
        with pytest.raises(FullDiskError) as raised:
            build_rows(corpus, out, num_proc=2, **OPTIONS)
        shutil.copytree(out, copy)
        holder.communicate()  # it ends, and the disk is gone
    _check_no_room(str(raised.value), out)
    assert (copy / ".build/ttt/00000.json").exists()  # the first shards had room, and were kept
    kept = _finished_files(copy)
    build_rows(corpus, copy, **OPTIONS)
    assert kept.items() <= _finished_files(copy).items()
    assert published_files(copy) == undisturbed
