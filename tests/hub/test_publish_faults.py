"""Whatever fails while a folder is published, at any request: mended or told, and never half a dataset."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import TypeVar

import pytest
from huggingface_hub import DatasetCard
from toys.building import build_rows
from toys.mini_hub import MiniHub
from toys.publishing import REPO
from toys.publishing import TOKEN
from toys.publishing import clean
from toys.publishing import expected
from toys.publishing import files_of
from toys.publishing import forget
from toys.publishing import publish
from toys.publishing import sent
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import SpeechRowsError
from speechrows.errors import StoreError

__all__ = ["clean"]  # a fixture that every test here has

T = TypeVar("T")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few files as there can be."""
    out = tmp_path_factory.mktemp("small") / "rows"
    build_rows(XTTS, out, "response")
    return out


def missing_of_card(hub: MiniHub, repo_id: str = REPO) -> list[str]:
    """Folders that the card names and the repository lacks, in any commit that was ever seen."""
    missing: list[str] = []
    repo = hub.repos.get(("dataset", repo_id))
    for commit in repo.commits.values() if repo else []:
        if "README.md" not in commit.tree:
            continue
        card = DatasetCard(hub.blobs[commit.tree["README.md"].sha256].decode())
        patterns = [p for c in card.data.configs or [] for s in c["data_files"] for p in s["path"]]
        folders = {path.rpartition("/")[0] for path in commit.tree}
        missing += [pattern for pattern in patterns if pattern.rpartition("/")[0] not in folders]
    return missing


def requests_of_a_run(hub: MiniHub, folder: Path) -> int:
    hub.hub.asked = 0
    publish(folder, "org/counted")
    count = hub.hub.asked
    hub.blobs.clear()
    hub.repos.clear()
    return count


def in_turn(count: int, faults: Sequence[T], first: int) -> list[tuple[int, T]]:
    """Every request with a kind of fault, in turn; each with every kind, if each kind is once the first."""
    return [(at, faults[(at + first) % len(faults)]) for at in range(1, count + 1)]


def every_first(num_faults: int) -> pytest.MarkDecorator:
    """The suite begins with one kind of fault, make soak with each other one."""
    others = [pytest.param(first, marks=pytest.mark.soak) for first in range(1, num_faults)]
    return pytest.mark.parametrize("first", [0, *others])


@pytest.mark.parametrize("multipart", [False, True])
def test_cut_off_at_any_request_and_started_again_it_ends_equal_and_sends_nothing_twice(
    hub: MiniHub, small: Path, multipart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if multipart:
        monkeypatch.setattr(hub.hub, "multipart_above", 300_000)
        monkeypatch.setattr(hub.hub, "chunk_size", 600_000)
    count = requests_of_a_run(hub, small)
    assert count >= 12
    for last in range(1, count + 1):
        how = ("lost", "cut")[(last + multipart) % 2]
        forget(hub)
        hub.hub.fault = lambda number, *_, last=last, how=how: how if number >= last else None
        with pytest.raises(SpeechRowsError):
            publish(small)
        assert missing_of_card(hub) == []
        hub.hub.fault = None
        stored = set(hub.blobs)
        hub.log.clear()
        publish(small)
        assert files_of(hub) == expected(small), last
        again = [path for method, path in sent(hub) if method in ("PUT", "POST") and "/_s3/" in path]
        assert not [path for path in again if path.split("/")[2].partition("?")[0] in stored], last
        assert len(hub.repos["dataset", REPO].commits) == 2


@every_first(4)
def test_one_failure_at_any_request_is_mended_without_a_word(hub: MiniHub, small: Path, first: int) -> None:
    count = requests_of_a_run(hub, small)
    faults: Any = ("lost", "cut", (503, "busy"), (429, "slow down"))
    for at, fault in in_turn(count, faults, first):
        forget(hub)
        hub.hub.fault = lambda number, *_, at=at, fault=fault: fault if number == at else None
        publish(small)
        assert files_of(hub) == expected(small), at
        assert len(hub.repos["dataset", REPO].commits) == 2, at


@every_first(2)
def test_one_failure_while_rows_are_replaced_is_mended_too(
    hub: MiniHub, small: Path, tmp_path: Path, first: int
) -> None:
    changed = Path(shutil.copytree(small, tmp_path / "rows"))
    (changed / "skipped.jsonl").write_text("{}\n")
    publish(small)
    hub.hub.asked = 0
    publish(changed)
    count = hub.hub.asked
    for at, fault in in_turn(count, ("cut", (503, "busy")), first):
        forget(hub)
        publish(small)
        hub.hub.asked = 0
        hub.hub.fault = lambda number, *_, at=at, fault=fault: fault if number == at else None
        publish(changed)
        assert files_of(hub) == expected(changed), at
        assert len(hub.repos["dataset", REPO].commits) == 3, at


@every_first(3)
def test_a_refusal_at_any_request_is_told_without_the_token_and_leaves_no_card(
    hub: MiniHub, small: Path, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    count, num_refusals = requests_of_a_run(hub, small), 0
    for at, status in in_turn(count, (401, 403, 404), first):
        forget(hub)
        hub.hub.fault = lambda number, *_, at=at, status=status: (status, TOKEN) if number >= at else None
        code = main(["publish", str(small), REPO])
        printed = "".join(capsys.readouterr())
        assert TOKEN not in printed
        assert code in (1, 2)
        num_refusals += f"({status})" in printed
        assert ("dataset", REPO) not in hub.repos or "README.md" not in files_of(hub)
    assert num_refusals > count // 2


def test_a_ticket_of_the_store_that_has_run_out_is_asked_for_anew(hub: MiniHub, small: Path) -> None:
    refused: list[str] = []

    def expire(_: int, method: str, path: str) -> tuple[int, str] | None:
        if "/_s3/" not in path or len(refused) == 2:
            return None
        refused.append(path)
        return (403, "Request has expired")

    hub.hub.fault = expire
    publish(small)
    assert len(refused) == 2
    assert files_of(hub) == expected(small)


def test_over_xet_the_repository_is_the_folder_and_a_second_run_stores_nothing(
    hub: MiniHub, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "xet"
    store.mkdir()
    monkeypatch.setattr(hub.hub, "xet_dir", store)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.hub.fault = lambda _, method, path: (503, "busy") if "/commit/" in path else None
    with pytest.raises(StoreError):
        publish(small)
    stored = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    assert stored > 500_000
    hub.hub.fault = None
    publish(small)
    assert files_of(hub) == expected(small)
    assert not [path for method, path in sent(hub) if method == "PUT"]
    after = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    assert after - stored < 100_000


@every_first(5)
def test_over_xet_a_failure_at_any_request_is_mended_or_told_and_never_half_a_dataset(
    hub: MiniHub, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    (tmp_path / "xet").mkdir()
    monkeypatch.setattr(hub.hub, "xet_dir", tmp_path / "xet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    count = requests_of_a_run(hub, small)
    assert count >= 8
    assert [path for _, path, *_ in hub.log if "xet-write-token" in path]
    faults: Any = ("lost", "cut", (401, "no"), (403, "no"), (503, "busy"))
    for at, fault in in_turn(count, faults, first):
        forget(hub)
        hub.hub.fault = lambda number, *_, at=at, fault=fault: fault if number == at else None
        try:
            publish(small)
        except SpeechRowsError:
            assert fault[0] in (401, 403)
            assert ("dataset", REPO) not in hub.repos or files_of(hub) == {}
            publish(small)
        assert files_of(hub) == expected(small), at
