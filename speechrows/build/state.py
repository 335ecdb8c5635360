"""What a build remembers in its folder's .build: the lock, the recipe, a commit a shard.

A shard's data and index are renamed into place, then its commit file is; everything published
is merged from commits. So a build that is killed at any moment goes on from its last commit.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechrows.errors import UsageError
from speechrows.layout import CARD
from speechrows.layout import STATE

_ORPHANS_END_WITHIN = 10  # seconds after their parent's death; it takes them milliseconds
_held: list[int] = []  # lock descriptors of this process, open until it ends


def temporary_folder(out: Path) -> Path:
    """Where files are written before they are renamed into place."""
    return out / STATE / "tmp"


def recipe_file(out: Path) -> Path:
    """What the folder holds: its builder, its tokenizer, and each task's fingerprint."""
    return out / STATE / "recipe.json"


def commit_file(out: Path, task: str, shard: int) -> Path:
    """The commit of a shard."""
    return out / STATE / task / f"{shard:05d}.json"


def index_part(out: Path, task: str, shard: int, number: int) -> Path:
    """The index lines of one file of a shard."""
    return out / STATE / task / f"{shard:05d}-{number}.parquet"


def publish(temporary: Path, place: Path) -> None:
    """Rename a finished file into place, and make the rename last."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(place)
    fd = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_folder(temporary: Path, place: Path) -> None:
    """Put a folder where another may be; for small ones that are made anew at every start."""
    shutil.rmtree(place, ignore_errors=True)
    temporary.replace(place)


def write_text(place: Path, text: str, out: Path) -> None:
    """Write a small file so that it is there whole or not at all."""
    temporary = temporary_folder(out) / f"{os.getpid()}-{place.name}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    publish(temporary, place)


def commits(out: Path, task: str) -> list[dict[str, Any]]:
    """The commits of a task, in shard order."""
    files = sorted((out / STATE / task).glob("*.json"))
    return [json.loads(file.read_text("utf-8")) for file in files]


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder for this build and its workers.

    The builder takes the lock alone, then shares it with its workers: while an orphan of a
    killed build lives, it still shares, and the next build is refused rather than mixed in.

    Raises:
        UsageError: another build holds it.
    """
    temporary_folder(out).mkdir(parents=True, exist_ok=True)
    fd = os.open(out / STATE / "lock", os.O_RDWR | os.O_CREAT)
    try:
        _take(fd, out)
        shutil.rmtree(temporary_folder(out))  # what a killed build left
        temporary_folder(out).mkdir()
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _take(fd: int, out: Path) -> None:
    deadline = time.monotonic() + _ORPHANS_END_WITHIN
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UsageError(f"{out}: another build is writing here; wait for it to end") from None
            time.sleep(0.1)


def share_lock(out: Path) -> None:
    """Hold the folder as a worker, until this process ends.

    Raises:
        UsageError: another build has taken the folder since.
    """
    fd = os.open(out / STATE / "lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{out}: another build is writing here") from None
    _held.append(fd)


def claim(
    out: Path, builder: str, tokenizer: str, task: str, recipe: dict[str, Any], overwrite: bool
) -> None:
    """Write into the folder what is built here, or refuse a folder that holds something else.

    `recipe` is everything that decides the task's rows, by name; `tokenizer` its fingerprint.

    Raises:
        UsageError: the folder holds another builder, another tokenizer, the same task under
            another recipe (without `overwrite`), or files of something else.
    """
    file = recipe_file(out)
    if file.exists():
        held: dict[str, Any] = json.loads(file.read_text("utf-8"))
    elif (out / CARD).exists() or (out / "data").exists():
        raise UsageError(f"{out}: holds files that no build wrote; give an empty folder")
    else:
        held = {"builder": builder, "tokenizer": tokenizer, "tasks": {}}
    if held["builder"] != builder:
        raise UsageError(f"{out}: holds {held['builder']}, not {builder}; give another folder")
    others = [name for name in held["tasks"] if name != task]
    if held["tokenizer"] != tokenizer and (others or not overwrite) and held["tasks"]:
        raise UsageError(
            f"{out}: its {', '.join(held['tasks'])} rows were made with another tokenizer; a folder "
            "holds one. Give another folder" + ("" if others else ", or --overwrite")
        )
    before = held["tasks"].get(task)
    if before is not None and before != recipe:
        changed = sorted(key for key in {*before, *recipe} if before.get(key) != recipe.get(key))
        if not overwrite:
            differences = "; ".join(
                f"{key}: {before.get(key)} there, {recipe.get(key)} now" for key in changed
            )
            raise UsageError(
                f"{out}: holds {task} rows of another build ({differences}). Give another folder, "
                "or --overwrite"
            )
    if overwrite and before is not None:
        (out / CARD).unlink(missing_ok=True)
        for folder in (f"{STATE}/{task}", f"data/{task}", f"index/{task}"):
            shutil.rmtree(out / folder, ignore_errors=True)
    held["tokenizer"] = tokenizer
    held["tasks"][task] = recipe
    write_text(file, json.dumps(held, indent=1, sort_keys=True), out)
