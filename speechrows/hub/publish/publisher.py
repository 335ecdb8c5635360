"""Publish a built folder as a Hub dataset: missing files are uploaded, then one commit shows them all.

Files are uploaded first and belong to nothing until the commit, which holds data, deletions and card
together: a reader sees the old dataset or the new one. What a run that was stopped has uploaded is
not uploaded again: the Hub knows it by its digest. (`upload_large_folder` commits in pieces and is gone from
huggingface_hub 2; `upload_folder` commits without a parent.)
"""

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import TypeVar

from huggingface_hub import CommitOperationAdd
from huggingface_hub import CommitOperationDelete
from huggingface_hub import HfApi
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HFValidationError
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from speechrows.builds.locks import Tell
from speechrows.builds.state import held
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.folder.layout import CARD
from speechrows.folder.layout import is_built
from speechrows.hub.publish.changes import Changes
from speechrows.hub.publish.contents import published_files
from speechrows.hub.publish.local_files import LocalFiles
from speechrows.hub.publish.merge import merge
from speechrows.hub.publish.owner import builder_of
from speechrows.hub.publish.owner import check_owner
from speechrows.hub.publish.owner import first_index
from speechrows.storage.hub import check_reachable
from speechrows.storage.hub import unreachable
from speechrows.storage.hub_calls import MovedError
from speechrows.storage.hub_calls import NoAnswerError
from speechrows.storage.hub_calls import call_hub
from speechrows.storage.hub_calls import call_once
from speechrows.storage.parquet_file import AHEAD

_BATCH_BYTES = 8 << 30  # uploaded before the Hub is asked for more addresses to upload to
_MOST_RACES = 5
_MAIN = "main"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to publish: a dataset, a branch of it, or a pull request."""

    repo_id: str
    private: bool = False  # of a dataset that publishing creates
    create_pr: bool = False
    revision: str | None = None


@contextmanager
def open_publisher(folder: Path, target: Target, tell: Tell = str) -> Generator["Publisher"]:
    """A publisher of a built folder, in which no build may write meanwhile; `tell` as of `held`.

    Raises:
        UsageError: as Publisher, or a build is writing there.
    """
    with held(folder, tell):
        yield Publisher(folder, target)


class Publisher:
    """Publishes a built folder as a dataset.

    Raises:
        UsageError: the folder is not complete, or the options contradict each other.
    """

    def __init__(self, folder: Path, target: Target, token: str | None = None) -> None:
        if target.create_pr and target.revision not in (None, _MAIN):
            raise UsageError("found --create-pr and --revision; a pull request is made against main")
        _check_name(target.repo_id)
        self._folder = folder
        self._target = target
        self._api = HfApi(token=token)
        self._fs: Any = HfFileSystem(endpoint=self._api.endpoint, token=token)
        self._files = published_files(folder)
        self._local = LocalFiles(folder, self._files)

    def changes(self) -> Changes:
        """Return what publishing would change; only reads.

        Raises:
            UsageError: the repository can not be read, is public where a private one is asked for, or
                holds what publishing would destroy.
            StoreError: the Hub did not answer.
        """
        check_reachable(f"{self._target.repo_id}:")
        return self._changes()

    def dry_run(self) -> Changes:
        """Return `changes`; without a way to the Hub, everything of the folder as new."""
        why = unreachable()
        if why is None:
            return self._changes()
        return replace(self._compare(None, {}, None), not_compared=why)

    def _changes(self) -> Changes:
        info = self._call(self._info)
        if info is None:
            return self._compare(None, {}, None)
        if self._target.private and not info.private:
            raise UsageError(
                f"{self._target.repo_id}: is public, found --private. Make it private in its settings, "
                "or leave the flag"
            )
        base = str(info.sha)
        if self._target.revision not in (None, _MAIN):
            base = self._call(self._head) or base
        remote = self._call(lambda: self._list_files(base))
        index = first_index(remote)
        builder = self._call(lambda: self._builder(base, index)) if index else None
        check_owner(self._target.repo_id, builder, remote, self._folder, self._files)
        card = self._call(lambda: self._read(base, CARD)) if CARD in remote else None
        return self._compare(base, remote, card)

    def publish(self) -> str:
        """Make the repository equal to the folder; return the address of the commit or pull request.

        Raises:
            UsageError: as `changes`, or no right to write.
            StoreError: the Hub did not answer; another run resumes.
        """
        for _ in range(_MOST_RACES):
            changes = self.changes()
            if changes.base is None:
                self._call(self._create)
                continue
            if self._target.revision not in (None, _MAIN):
                self._call(lambda base=changes.base: self._branch(base))
            if not changes.new and not changes.deleted:
                return self._address(changes.base)
            try:
                return self._apply(changes)
            except MovedError:
                continue
        raise StoreError(f"{self._target.repo_id}: others change it all the time; run the same command again")

    def _apply(self, changes: Changes) -> str:
        operations: list[Any] = self._local.additions(path for path in changes.new if path != CARD)
        for batch in _batches(changes.new, _BATCH_BYTES):
            additions = self._local.additions(path for path in batch if path != CARD)
            self._call(lambda additions=additions: self._upload(additions))
        operations += [CommitOperationDelete(path, is_folder=False) for path in changes.deleted]
        if CARD in changes.new:
            operations.append(CommitOperationAdd(CARD, changes.card.encode()))

        def commit() -> str:
            return self._commit(operations, changes.base)

        if not self._target.create_pr:  # a commit that is sent twice has another parent the second time
            return self._call(commit)
        try:
            return call_once(self._api.endpoint, self._target.repo_id, commit)
        except NoAnswerError as error:
            raise StoreError(
                f"{self._target.repo_id}: the Hub did not answer ({error}). Look whether the pull request is "
                "there; if not, run the same command again"
            ) from error

    def _commit(self, operations: Sequence[Any], parent: str | None) -> str:
        commit = self._api.create_commit(
            self._target.repo_id,
            operations,
            commit_message="Publish rows with speechrows",
            repo_type="dataset",
            revision=self._target.revision,
            create_pr=self._target.create_pr,
            parent_commit=parent,
        )
        return commit.pr_url or commit.commit_url

    def _upload(self, additions: Sequence[CommitOperationAdd]) -> None:
        self._api.preupload_lfs_files(
            self._target.repo_id,
            additions,
            repo_type="dataset",
            revision=self._target.revision or _MAIN,
            create_pr=self._target.create_pr,
            free_memory=False,
        )

    def _compare(self, base: str | None, remote: Mapping[str, RepoFile], card: str | None) -> Changes:
        """Compare the folder with the repository's files and card at commit `base`."""
        others = [path for path in remote if not is_built(path) and path != CARD]
        ours = (self._folder / CARD).read_text("utf-8")
        merged = merge(self._target.repo_id, ours, card, others)
        sizes = {**self._files, CARD: len(merged.text.encode())}
        same = self._local.same(remote)
        if card == merged.text:
            same[CARD] = sizes[CARD]
        return Changes(
            base=base,
            new={path: size for path, size in sizes.items() if path not in same},
            replaced={path for path in sizes if path in remote and path not in same},
            same=same,
            deleted=sorted(path for path in remote if is_built(path) and path not in sizes),
            card=merged.text,
            kept=merged.kept,
        )

    def _builder(self, commit: str, index: str) -> str | None:
        with self._fs.open(f"datasets/{self._target.repo_id}@{commit}/{index}", block_size=AHEAD) as file:
            return builder_of(file)

    def _info(self) -> Any:
        try:
            return self._api.repo_info(self._target.repo_id, repo_type="dataset")
        except RepositoryNotFoundError:
            return None

    def _head(self) -> str | None:
        """Return the latest commit of the revision; None where there is no such branch yet."""
        try:
            info = self._api.repo_info(
                self._target.repo_id, repo_type="dataset", revision=self._target.revision
            )
        except RevisionNotFoundError:
            return None
        return str(info.sha)

    def _branch(self, base: str) -> None:
        if self._head() is None:
            self._api.create_branch(
                self._target.repo_id,
                repo_type="dataset",
                branch=str(self._target.revision),
                revision=base,
                exist_ok=True,
            )

    def _create(self) -> None:
        self._api.create_repo(
            self._target.repo_id, repo_type="dataset", private=self._target.private, exist_ok=True
        )

    def _list_files(self, commit: str) -> dict[str, RepoFile]:
        listed = self._api.list_repo_tree(
            self._target.repo_id, repo_type="dataset", revision=commit, recursive=True
        )
        return {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}

    def _read(self, commit: str, path: str) -> str:
        return self._fs.cat_file(f"datasets/{self._target.repo_id}@{commit}/{path}").decode("utf-8")

    def _call(self, call: Callable[[], T]) -> T:
        return call_hub(self._api.endpoint, self._target.repo_id, call)

    def _address(self, commit: str) -> str:
        return f"{self._api.endpoint}/datasets/{self._target.repo_id}/commit/{commit}"


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UsageError(f"found {repo_id!r}, expected org/name. {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"found {repo_id!r}, expected org/name")


def _batches(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for path in sizes:
        batch.append(path)
        if sum(sizes[path] for path in batch) >= limit:
            yield batch
            batch = []
    if batch:
        yield batch
