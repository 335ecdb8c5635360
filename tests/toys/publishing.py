"""Publishing in tests: a Hub without repositories, and what lies in one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from speechrows.hub.publish.publisher import Publisher
from speechrows.hub.publish.publisher import Target
from toys.building import published_files
from toys.mini_hub import MiniHub

REPO = "org/rows"
TOKEN = "hf_admin"


@pytest.fixture(autouse=True)
def clean(hub: MiniHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No repository, nothing stored; pauses take no time."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("speechrows.storage.retry.PAUSES", (0.0, 0.0))
    huggingface_hub.utils.disable_progress_bars()
    for store in (hub.repos, hub.blobs, hub.parts, hub.sent):
        store.clear()
    hub.hub.asked, hub.hub.fault = 0, None
    yield
    hub.hub.asked, hub.hub.fault = 0, None
    hub.repos.clear()


def publish(folder: Path, repo_id: str = REPO, **options: Any) -> str:
    return Publisher(folder, Target(repo_id=repo_id, **options)).publish()


def files_of(hub: MiniHub, repo_id: str = REPO, ref: str = "refs/heads/main") -> dict[str, bytes]:
    """The bytes of a repository, but for what git itself keeps there."""
    repo = hub.repos["dataset", repo_id]
    tree = repo.commits[repo.refs[ref]].tree
    return {path: hub.blobs[entry.sha256] for path, entry in tree.items() if path != ".gitattributes"}


def expected(folder: Path, repo_id: str = REPO) -> dict[str, bytes]:
    files = published_files(folder)
    files["README.md"] = files["README.md"].replace(b"org/deepdialogue_ttt", repo_id.encode())
    return files


def sent(hub: MiniHub) -> list[tuple[str, str]]:
    """Requests that write."""
    return [(method, path) for method, path, *_ in hub.log if method not in ("GET", "HEAD")]


def forget(hub: MiniHub) -> None:
    for store in (hub.repos, hub.blobs, hub.parts):
        store.clear()
    hub.hub.asked, hub.hub.fault = 0, None
