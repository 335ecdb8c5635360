"""A build's state in its folder's .build: the recipes, a commit a shard.

A shard's data and index are renamed into place, then its commit file is; everything published
is merged from commits. So a build that is killed at any moment goes on from its last commit.
"""

import json
import os
import secrets
import shutil
from collections.abc import Generator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechrows.builds.commit import Commit
from speechrows.builds.locks import Tell
from speechrows.builds.locks import build_lock
from speechrows.builds.locks import lock
from speechrows.corpora.turns import is_unicode
from speechrows.errors import FullDiskError
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import RECIPE
from speechrows.folder.layout import STATE
from speechrows.folder.layout import TOKENIZER
from speechrows.folder.manifest import BuiltShard
from speechrows.storage.disk import NO_PLACE
from speechrows.storage.disk import NO_ROOM
from speechrows.storage.disk import sync
from speechrows.storage.parquet_file import footer_digest


def temporary_folder(out: Path) -> Path:
    """The folder in which files are written before they are renamed into place."""
    return out / STATE / "tmp"


def recipe_file(out: Path) -> Path:
    """The file that names the folder's builder, its tokenizer, and each task's recipe."""
    return out / RECIPE


def task_folder(out: Path, task: str) -> Path:
    """The folder of a task's commits and parts of its index."""
    return out / STATE / task


def commit_file(out: Path, task: str, shard: int) -> Path:
    """The file of a shard's commit."""
    return task_folder(out, task) / f"{shard:05d}.json"


def index_part(out: Path, task: str, shard: int, number: int) -> Path:
    """The file with the index lines of one file of a shard."""
    return task_folder(out, task) / f"{shard:05d}-{number}.parquet"


def publish(temporary: Path, path: Path) -> None:
    """Bring a finished file to disk and rename it into place.

    A rename that a power cut undoes costs no promise: `finished` looks for what a commit names.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sync(temporary)
    temporary.replace(path)


def replace_folder(temporary: Path, path: Path) -> None:
    """Move a folder into place, over another; for small ones that are made anew at every start."""
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)


def write_text(path: Path, text: str, out: Path) -> None:
    """Write a small file so that it is there whole or not at all."""
    temporary = temporary_folder(out) / f"{os.getpid()}-{secrets.token_hex(4)}-{path.name}"
    temporary.write_text(text, "utf-8")
    publish(temporary, path)


def commits(out: Path, task: str) -> list[Commit]:
    """The commits of a task, in shard order.

    Raises:
        UsageError: one is damaged.
    """
    commits = {path: _commit(path) for path in sorted(task_folder(out, task).glob("*.json"))}
    for path in (path for path, commit in commits.items() if commit is None):
        raise UsageError(f"{path}: is no commit that a build wrote; build {task} again, with --overwrite")
    return [commit for commit in commits.values() if commit is not None]


def _commit(path: Path) -> Commit | None:
    """The commit in a file; None where it is damaged."""
    try:
        return Commit.read(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def finished(out: Path, task: str, shard: int, sizes: Mapping[str, int] | None = None) -> bool:
    """Whether a shard has its commit, and every file that the commit names, as it was built.

    With `sizes`, those of the files of a store, the rows are there.
    """
    commit = _commit(commit_file(out, task, shard))
    return commit is not None and all(_is_whole(out, task, file, sizes) for file in commit.files)


def _is_whole(out: Path, task: str, file: BuiltShard, sizes: Mapping[str, int] | None) -> bool:
    """Whether a shard's file, and its part of the index, are those that were built.

    They are told by size, and here by the footer: a store keeps what it was given.
    """
    try:
        if sizes is None:
            with (out / file.path).open("rb") as opened:
                size, digest = opened.seek(0, os.SEEK_END), footer_digest(opened)
            is_same = size == file.size and digest == file.footer_sha256
        else:
            is_same = sizes.get(file.path) == file.size
        return is_same and len(pq.read_table(task_folder(out, task) / file.index)) == file.rows
    except (OSError, ValueError, pa.ArrowException):
        return False


@contextmanager
def locked(out: Path, tell: Tell = str, *, is_shared: bool = False, address: str = "") -> Generator[None]:
    """Lock the folder for this build, which may use `temporary_folder` meanwhile.

    `tell` gets a line where another build has to be waited for; it names the `address`, where the folder is
    that of one in a store. With `is_shared` the build's lock is shared among runs that build shards of their
    own; what they leave in `temporary_folder`, the next one removes that is alone.

    Raises:
        UsageError: another build holds it, or something else lies there.
        FullDiskError: there was no room.
    """
    try:
        _refuse_strangers(out)
        _make(out / STATE)
        with build_lock(out, tell, is_shared=is_shared, address=address):
            try:
                if not is_shared and temporary_folder(out).exists():  # what a killed build left
                    shutil.rmtree(temporary_folder(out))
                temporary_folder(out).mkdir(exist_ok=is_shared)
                yield
            finally:
                if not is_shared:
                    shutil.rmtree(temporary_folder(out), ignore_errors=True)
    except OSError as error:
        if error.errno in NO_PLACE:
            raise UsageError(
                f"{error.filename or out}: {error.strerror}; give another folder, or mend its permissions"
            ) from error
        if error.errno not in NO_ROOM:
            raise
        raise FullDiskError(
            f"{out}: no room to write ({error.strerror or error}). Make room, or raise the quota, and run "
            "the same command again: finished shards are kept"
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: can not be made ({error.strerror}); give another folder") from error


def _refuse_strangers(out: Path) -> None:
    if not is_unicode(str(out)):
        raise UsageError(f"{out}: found a name that is not UTF-8; give a folder with another")
    if set(str(out)) & set("*?[]"):
        raise UsageError(f"{out}: datasets takes * ? [ ] for a pattern; give a folder without them")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; expected a folder, or a name for a new one")
    strangers = sorted(path.name for path in out.glob("[!.]*"))
    if strangers and not recipe_file(out).exists():
        raise UsageError(
            f"{out}: holds {', '.join(strangers[:3])}, which no build wrote; give an empty folder"
        )


@contextmanager
def held(out: Path, tell: Tell = str) -> Generator[None]:
    """Keep a folder as it is while it is read, say to publish it: builds are refused meanwhile.

    `tell` gets a line where a build has to be waited for.

    Raises:
        UsageError: a build holds it.
    """
    if not recipe_file(out).exists():  # a copy, in which no build can go on
        yield
        return
    flags = os.O_RDWR | os.O_CREAT if os.access(out / STATE, os.W_OK) else os.O_RDONLY  # of another user
    with lock(out, "lock", flags, tell), lock(out, "workers", flags, tell):
        yield


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a build is to write into a folder; `recipe` is everything that decides the rows, by name."""

    builder: str
    tokenizer: str  # its fingerprint
    task: str
    recipe: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What a folder's recipe file says: `recipes` by task."""

    builder: str
    tokenizer: str
    recipes: Mapping[str, Mapping[str, Any]]


def _content(out: Path, address: str = "") -> _Content | None:
    """What the folder holds; None before its first build. Errors name the `address`, or its path."""
    path = recipe_file(out)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        recipes = {name: dict(recipe) for name, recipe in content["tasks"].items()}
        return _Content(builder=str(content["builder"]), tokenizer=str(content["tokenizer"]), recipes=recipes)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{address or out}/{RECIPE}: found {type(error).__name__}: {error!s:.200}; expected what a build "
            "wrote there. Give another folder, or delete this one and build again"
        ) from error


def recipes(out: Path) -> Mapping[str, Mapping[str, Any]]:
    """The recipe of each task that the folder holds."""
    content = _content(out)
    return {} if content is None else content.recipes


def claim(out: Path, new: Claim, *, overwrite: bool, address: str = "") -> bool:
    """Record in the folder what is built there, or refuse a folder that holds something else.

    Returns whether rows of the task by another recipe were dropped for it. Errors name the
    `address`, where the folder is that of one in a store.

    Raises:
        UsageError: the folder holds another builder, another tokenizer, the same task under
            another recipe (without `overwrite`).
    """
    content = _content(out, address) or _Content(builder=new.builder, tokenizer=new.tokenizer, recipes={})
    _refuse_another(out, content, new, overwrite=overwrite, name=address or str(out))
    is_another = content.tokenizer != new.tokenizer or content.recipes.get(new.task) != new.recipe
    is_dropped = overwrite and is_another and new.task in content.recipes
    if is_dropped:  # else the same build goes on where it was
        (out / CARD).unlink(missing_ok=True)
        for room in (STATE, "data", "index", "screen"):
            shutil.rmtree(out / room / new.task, ignore_errors=True)
    if content.tokenizer != new.tokenizer:  # a build that is killed next must not go on with the old one
        shutil.rmtree(out / TOKENIZER, ignore_errors=True)
    recipes = {**content.recipes, new.task: new.recipe}
    text = {"builder": content.builder, "tokenizer": new.tokenizer, "tasks": recipes}
    write_text(recipe_file(out), json.dumps(text, indent=1, sort_keys=True), out)
    return is_dropped


def _refuse_another(out: Path, content: _Content, new: Claim, *, overwrite: bool, name: str) -> None:
    if content.builder != new.builder:
        raise UsageError(f"{name}: holds {content.builder}, not {new.builder}; give another folder")
    others = [task for task in content.recipes if task != new.task]
    if content.tokenizer != new.tokenizer and content.recipes and (others or not overwrite):
        raise UsageError(
            f"{name}: its {', '.join(content.recipes)} rows were made with tokenizer "
            f"{content.tokenizer[:12]}, this one is {new.tokenizer[:12]}; a folder holds one. Give another "
            "folder" + ("" if others else ", or --overwrite")
        )
    before, now = content.recipes.get(new.task, new.recipe), new.recipe
    if before != now and not overwrite:
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        changed = [key for key in changed if key != "listing"] or changed  # which follows from another corpus
        differences = "; ".join(
            f"{key}: {before.get(key)!s:.24} there, {now.get(key)!s:.24} now" for key in changed
        )
        which = "another build" if (out / CARD).exists() else "another build, which did not finish"
        raise UsageError(
            f"{name}: holds {new.task} rows of {which} ({differences}). Give another folder, or --overwrite"
        )
