"""A built folder becomes a dataset of the Hub: whole or not at all, whatever fails on the way."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node
from huggingface_hub import DatasetCard
from huggingface_hub import HfApi
from huggingface_hub import HfFileSystem
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import plain
from toys.building import published_files
from toys.building import read_rows
from toys.examples import FEW
from toys.mini_hub import MiniHub
from toys.publishing import REPO
from toys.publishing import clean
from toys.publishing import expected
from toys.publishing import files_of
from toys.publishing import publish
from toys.publishing import sent
from toys.samples import DOCUMENTED
from toys.samples import SAMPLE_OF
from toys.samples import SAMPLES
from toys.samples import XTTS

from deepdialogue_ttt import DeepDialogueTTT
from speechrows.builder.builder import load_builder
from speechrows.builds import locks
from speechrows.builds import state
from speechrows.cli import main
from speechrows.corpora.folder import Corpus
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.flags import BUILDERS
from speechrows.hub.publish.contents import published_files as to_publish
from speechrows.hub.publish.merge import merge
from speechrows.hub.publish.publisher import Publisher
from speechrows.hub.publish.publisher import Target
from speechrows.hub.publish.publisher import open_publisher
from speechrows.hub.viewer.check import check_viewer
from speechrows.validation.validate import validate

__all__ = ["clean"]  # a fixture that every test here has


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("publish") / "rows"
    build_rows(XTTS, out, "ttt")
    build_rows(XTTS, out, "response")
    return out


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of the built folder that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "rows"))


def test_the_repository_is_the_folder_in_one_commit(hub: MiniHub, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "rows.py").write_text("raise")
    address = publish(folder)
    repo = hub.repos["dataset", REPO]
    assert files_of(hub) == {k: v for k, v in expected(folder).items() if k not in ("notes.txt", "rows.py")}
    assert address.endswith(repo.refs["refs/heads/main"])
    assert len(repo.commits) == 2  # the one that made it, and ours
    assert not [path for path in files_of(hub) if ".build" in path or path.endswith(".py")]


def test_what_is_published_validates_and_loads_equal_rows(hub: MiniHub, folder: Path, tmp_path: Path) -> None:
    publish(folder)
    for config, task in (("ttt", "ttt"), ("stage_2", "ttt"), ("response", "response")):
        loaded = load_dataset(REPO, config, split="train", cache_dir=str(tmp_path))
        assert plain(loaded) == read_rows(folder, task)
        streamed = load_dataset(REPO, config, split="train", streaming=True)
        assert plain(streamed) == read_rows(folder, task)
    assert validate(REPO).ok


def test_shuffled_and_sharded_streams_hold_every_row_once(hub: MiniHub, folder: Path) -> None:
    publish(folder)
    streamed = load_dataset(REPO, "stage_2", split="train", streaming=True).shuffle(seed=1, buffer_size=4)
    ids = [
        row["row_id"]
        for rank in range(2)
        for row in split_dataset_by_node(streamed.select_columns("row_id"), rank=rank, world_size=2)
    ]
    assert sorted(ids) == sorted(row["row_id"] for row in read_rows(folder))


def test_published_again_nothing_is_sent(hub: MiniHub, folder: Path) -> None:
    publish(folder)
    before = hub.repos["dataset", REPO].refs["refs/heads/main"]
    hub.log.clear()
    assert publish(folder).endswith(before)
    assert sent(hub) == []
    assert hub.repos["dataset", REPO].refs["refs/heads/main"] == before


def test_only_what_changed_goes_up_and_what_is_gone_is_deleted(
    hub: MiniHub, folder: Path, tmp_path: Path
) -> None:
    publish(folder)
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=REPO, repo_type="dataset")
    HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="data/my.csv", repo_id=REPO, repo_type="dataset")
    build_rows(XTTS, tmp_path / "smaller", "ttt")
    hub.log.clear()
    publish(tmp_path / "smaller")
    puts = [path for method, path in sent(hub) if method == "PUT"]
    assert puts == []  # ttt's files are the same; the card and skipped.jsonl travel in the commit
    assert files_of(hub) == {**expected(tmp_path / "smaller"), "notes.txt": b"mine", "data/my.csv": b"x"}


def test_rows_of_another_builder_and_files_of_a_person_are_never_replaced(
    hub: MiniHub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(folder)
    before = files_of(hub)
    build_rows(SAMPLE_OF["multidialog_ttt"], tmp_path / "other", "ttt", builder="multidialog_ttt")
    hub.log.clear()
    assert main(["publish", str(tmp_path / "other"), REPO]) == 2
    error = capsys.readouterr().err
    assert "rows of deepdialogue_ttt" in error
    assert "those of multidialog_ttt" in error
    assert sent(hub) == []
    for path in (
        "data/ttt/train/band_1/ttt-train-1-00000.parquet",
        "tokenizer/tokenizer.json",
        "index/ttt/train.parquet",
    ):
        HfApi().create_repo("org/theirs", repo_type="dataset")
        HfApi().upload_file(
            path_or_fileobj=b"mine", path_in_repo=path, repo_id="org/theirs", repo_type="dataset"
        )
        assert main(["publish", str(folder), "org/theirs"]) == 2
        assert f"found {path}, and no rows of speechrows" in capsys.readouterr().err
        HfApi().delete_repo("org/theirs", repo_type="dataset")
    assert files_of(hub) == before
    for path in ("assets/mine/logo.png", "data/mine/train/00000.parquet"):
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo=path, repo_id=REPO, repo_type="dataset")
    assert Publisher(folder, Target(repo_id=REPO)).changes().deleted == []


def test_rows_of_another_recipe_are_replaced_as_the_changes_say(
    hub: MiniHub, folder: Path, tmp_path: Path
) -> None:
    publish(folder)
    build_rows(XTTS, folder, "ttt", overwrite=True, swap_roles=True)
    changes = Publisher(folder, Target(repo_id=REPO)).changes()
    table = str(changes)
    assert sorted(changes.replaced) == sorted(changes.new)
    assert "data/ttt/train/band_1/ttt-train-1-00000.parquet" in changes.replaced
    assert table.count("  replace ") == len(changes.new)
    assert "  send " not in table
    publish(folder)
    assert files_of(hub) == expected(folder)


def test_a_build_of_a_named_revision_of_the_corpus_tells_it(
    hub: MiniHub, folder: Path, tmp_path: Path
) -> None:
    address = "org/deepdialogue-xtts"
    HfApi().create_repo(address, repo_type="dataset")
    HfApi().upload_folder(repo_id=address, repo_type="dataset", folder_path=XTTS)
    build_rows(f"hf://datasets/{address}@main", tmp_path / "told", "response")
    build_rows(f"hf://datasets/{address}", tmp_path / "plain", "response")
    named, plain_files = published_files(tmp_path / "told"), published_files(tmp_path / "plain")
    assert {path for path in named if named[path] != plain_files[path]} == {"README.md"}
    assert b"from revision main of the corpus" in named["README.md"]
    assert b"revision" not in plain_files["README.md"]
    at_pull_request = Corpus(root=f"datasets/{address}@refs%2Fpr%2F1/data", _fs=HfFileSystem())
    assert at_pull_request.revision == "refs/pr/1"
    assert at_pull_request.label == "deepdialogue-xtts/data"
    literal = Corpus(root=f"datasets/{address}@refs/pr/1", _fs=HfFileSystem())
    assert (literal.revision, literal.label) == ("refs/pr/1", "deepdialogue-xtts")
    assert Corpus(root="/corpora/deepdialogue@v2").revision is None


@pytest.mark.parametrize("name", ["rows", "org/my rows", "org/", "a/b/c", "https://hub/datasets/org/rows"])
def test_a_name_that_no_repository_can_have_is_refused_before_anything_is_asked(
    hub: MiniHub, folder: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="expected org/name"):
        Publisher(folder, Target(repo_id=name))
    assert hub.log == []


def test_a_dry_run_lists_files_sizes_and_deletions_and_writes_nothing(
    hub: MiniHub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(folder), REPO, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for path, data in expected(folder).items():
        assert f"{len(data):,}  {path}" in printed
    assert sent(hub) == []
    assert ("dataset", REPO) not in hub.repos
    assert main(["publish", str(folder), REPO]) == 0
    build_rows(XTTS, tmp_path / "smaller", "ttt")
    hub.log.clear()
    assert main(["publish", str(tmp_path / "smaller"), REPO, "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    gone = [line[1] for line in lines if line[0] == "delete"]
    assert gone == sorted(path for path in published_files(folder) if "/response/" in path)
    assert sent(hub) == []


def test_a_dataset_of_others_and_an_unknown_token_are_told_apart(
    hub: MiniHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(token: str) -> str:
        with pytest.raises(UsageError) as caught:
            Publisher(folder, Target(repo_id=REPO), token=token).publish()
        assert token not in str(caught.value)
        return str(caught.value)

    assert "(401)" in told("hf_nobody")
    assert "hf auth login" in told("hf_nobody")
    assert "(403)" in told("hf_reader")
    publish(folder, private=True)
    assert "(403)" in told("hf_stranger")


def test_others_who_write_meanwhile_lose_nothing(hub: MiniHub, folder: Path) -> None:
    HfApi().create_repo(REPO, repo_type="dataset")
    raced: list[int] = []

    def race(number: int, method: str, path: str) -> None:
        if method == "POST" and "/commit/" in path and len(raced) < 2:
            raced.append(number)
            repo = hub.repos["dataset", REPO]
            before = repo.commits[repo.refs["refs/heads/main"]]
            data = f"---\nlicense: mit\n---\nNote {len(raced)}".encode()
            tree = {**before.tree, "README.md": hub.put_file(data)}
            repo.refs["refs/heads/main"] = repo.commit(before.oid, tree, "by hand", "", "tester")

    hub.hub.fault = race
    publish(folder)
    assert len(raced) == 2
    files = files_of(hub)
    card = files.pop("README.md").decode()
    assert files == {k: v for k, v in expected(folder).items() if k != "README.md"}
    assert "\nNote 2\n" in card
    assert DatasetCard(card).data.license == "mit"


def test_private_branch_and_pull_request(hub: MiniHub, folder: Path) -> None:
    publish(folder, private=True)
    assert hub.repos["dataset", REPO].private
    main_before = hub.repos["dataset", REPO].refs["refs/heads/main"]
    publish(folder, "org/open")
    with pytest.raises(UsageError, match="is public"):
        publish(folder, "org/open", private=True)
    (folder / "skipped.jsonl").write_text("{}\n")
    publish(folder, revision="v2")
    assert files_of(hub, ref="refs/heads/v2")["skipped.jsonl"] == b"{}\n"
    assert hub.repos["dataset", REPO].refs["refs/heads/main"] == main_before
    address = publish(folder, create_pr=True)
    assert address.endswith("/discussions/1")
    assert files_of(hub, ref="refs/pr/1")["skipped.jsonl"] == b"{}\n"
    assert hub.repos["dataset", REPO].refs["refs/heads/main"] == main_before
    with pytest.raises(UsageError, match="against main"):
        publish(folder, create_pr=True, revision="v2")


def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(hub: MiniHub, folder: Path) -> None:
    HfApi().create_repo(REPO, repo_type="dataset")
    hub.hub.fault = lambda _, method, path: "cut" if method == "POST" and "/commit/" in path else None
    with pytest.raises(StoreError, match="Look whether the pull request is there"):
        publish(folder, create_pr=True)
    assert len(hub.repos["dataset", REPO].discussions) == 1


def test_what_is_no_folder_is_refused_though_the_hub_has_such_a_name(hub: MiniHub, folder: Path) -> None:
    publish(folder)
    for name in (REPO, str(folder / "nowhere"), str(folder / "README.md")):
        with pytest.raises(UsageError, match="no such folder"):
            Publisher(Path(name), Target(repo_id="org/copy"))


@pytest.mark.parametrize("spoil", ["data", "README.md", "index"])
def test_a_folder_that_is_not_complete_is_refused(hub: MiniHub, folder: Path, spoil: str) -> None:
    if spoil == "data":
        next((folder / "data").rglob("*.parquet")).write_bytes(b"PAR1")
    elif spoil == "index":
        shutil.rmtree(folder / "index" / "response")
    else:
        (folder / "README.md").unlink()
    with pytest.raises(UsageError, match="Run the same build again"):
        publish(folder)
    assert hub.log == []


PUBLISHED = [
    ("deepdialogue_ttt", "response", XTTS),
    ("deepdialogue_ttt", "ttt", DOCUMENTED),
    ("multidialog_ttt", "ttt", SAMPLE_OF["multidialog_ttt"]),
    ("instructs2s_ttt", "response", SAMPLE_OF["instructs2s_ttt"]),
    ("dailytalk_usdm", "transcription", SAMPLE_OF["dailytalk_usdm"]),
    ("omni_tasks", "omni", SAMPLE_OF["omni_tasks"]),
    ("audio_table", "ttt", SAMPLE_OF["audio_table"]),
    ("chat_json", "chat", SAMPLE_OF["chat_json"]),
    ("lhotse_cuts", "ttt", SAMPLE_OF["lhotse_cuts"]),
    ("nemo_manifest", "transcription", SAMPLE_OF["nemo_manifest"]),
]


def rows_in_files(folder: Path, builder: str, config: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a config as its files hold them, by split: task by task, file by file."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for task in load_builder(builder).tasks(config):
        for file in sorted((folder / "data" / task.name).rglob("*.parquet")):
            split = file.relative_to(folder / "data" / task.name).parts[0]
            rows.setdefault(split, []).extend(pq.read_table(file, partitioning=None).to_pylist())
    return rows


@pytest.mark.parametrize(("builder", "config", "corpus"), PUBLISHED)
def test_a_dataset_of_every_corpus_comes_back_equal_and_the_viewer_can_show_it(
    hub: MiniHub, builder: str, config: str, corpus: Path, tmp_path: Path
) -> None:
    address, folder = f"org/{builder}", tmp_path / "rows"
    build_rows(corpus, folder, config, builder=builder)
    publish(folder, address)
    rows = rows_in_files(folder, builder, config)
    assert rows["train"]
    loaded = load_dataset(address, config, cache_dir=str(tmp_path / "cache"))
    streamed = load_dataset(address, config, streaming=True)
    for splits in (loaded, streamed):
        assert {split: plain(of_split) for split, of_split in splits.items()} == rows
    for place in (str(folder), address):
        report = check_viewer(place)
        assert report.ok, str(report)
        assert report.num_files == len(list(folder.glob("data/**/*.parquet")))


def test_every_builder_and_every_corpus_of_the_samples_is_published_here() -> None:
    assert {builder for builder, *_ in PUBLISHED} == set(BUILDERS)
    assert {corpus for *_, corpus in PUBLISHED} == {folder for folder in SAMPLES.iterdir() if folder.is_dir()}


# The card over one that is there.

OURS = (
    "---\nlicense: mit\npretty_name: Rows\nconfigs:\n- config_name: ttt\n  data_files:\n"
    "  - split: train\n    path:\n    - data/ttt/train/*.parquet\n  default: true\n"
    "- config_name: response\n  data_files:\n  - split: train\n    path:\n"
    "    - data/response/train/*.parquet\n"
    "dataset_info:\n- config_name: ttt\n  dataset_size: 1\n---\n\n"
    '<!-- speechrows:begin -->\nload_dataset("org/rows_ttt", "ttt")\n<!-- speechrows:end -->\n'
)


def test_keys_and_prose_that_a_person_wrote_survive_a_new_build(hub: MiniHub, folder: Path) -> None:
    publish(folder)
    card = files_of(hub)["README.md"].decode()
    card = card.replace("---\n\n<!--", "---\n\n# By hand\n\n<!--").replace(
        "license: cc-by-nc-4.0", "license: mit"
    )
    card = card.replace("pretty_name:", "annotations: mine\npretty_name:") + "\nThanks to all.\n"
    HfApi().upload_file(
        path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=REPO, repo_type="dataset"
    )
    changes = Publisher(folder, Target(repo_id=REPO)).changes()
    assert list(changes.kept) == ["license"]
    assert "card's license stay" in str(changes)
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("17 |", "18 |"))
    publish(folder)
    after = files_of(hub)["README.md"].decode()
    data = DatasetCard(after).data.to_dict()
    assert data["license"] == "mit"
    assert data["annotations"] == "mine"
    assert "# By hand\n\n<!-- speechrows:begin" in after
    assert after.endswith("<!-- speechrows:end -->\n\nThanks to all.\n")
    assert "18 |" in after
    assert data["configs"] == DatasetCard.load(folder / "README.md").data.to_dict()["configs"]


def test_configs_of_other_files_stay_and_the_default_stays_where_it_was() -> None:
    remote = (
        "---\nconfigs:\n- config_name: mine\n  data_files: extra/*.csv\n  default: true\n"
        "- config_name: old\n  data_files:\n  - split: train\n    path: data/old/train/*.parquet\n"
        "dataset_info:\n- config_name: mine\n  dataset_size: 3\n- config_name: old\n  dataset_size: 4\n---\n"
    )
    merged = merge("me/x", OURS, remote, ["extra/a.csv"])
    data = DatasetCard(merged.text).data.to_dict()
    assert [config["config_name"] for config in data["configs"]] == ["ttt", "response", "mine"]
    assert [config["config_name"] for config in data["configs"] if config.get("default")] == ["mine"]
    assert [info["config_name"] for info in data["dataset_info"]] == ["ttt", "mine"]
    assert 'load_dataset("me/x", "ttt")' in merged.text


@FEW
@given(
    before=st.text(alphabet="ab\n#-<!>", max_size=30),
    behind=st.text(alphabet="ab\n#-<!>", max_size=30),
    licence=st.sampled_from(["mit", "other"]),
)
def test_merging_again_changes_nothing(before: str, behind: str, licence: str) -> None:
    section = OURS[OURS.index("<!--") :].rstrip()
    remote = f"---\nlicense: {licence}\nmine: 1\n---\n{before}{section}{behind}"
    once = merge("me/x", OURS, remote, []).text
    assert merge("me/x", OURS, once, []).text == once
    assert once.startswith("---\nlicense: " + licence)
    text = once.split("\n---\n", 1)[1]
    assert text.startswith(before)
    assert text.endswith(behind)


def test_a_card_without_yaml_stays_above_ours_without_a_warning(
    hub: MiniHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    merged = merge("me/x", OURS, "# Mine\n\nAll of it.\n", [])
    text = merged.text.split("\n---\n", 1)[1]
    assert text.startswith("# Mine\n\nAll of it.\n\n<!-- speechrows:begin -->")
    assert DatasetCard(merged.text).data.license == "mit"
    assert caplog.records == []


def test_a_card_whose_yaml_is_broken_is_not_overwritten(hub: MiniHub, folder: Path) -> None:
    with pytest.raises(UsageError, match="can not be read"):
        merge("me/x", OURS, "---\na: [\n---\nprose", [])


# push_to_hub, as the ecosystem does it.


def test_push_to_hub_of_the_class_puts_several_configs_into_one_repository(
    hub: MiniHub, folder: Path, tmp_path: Path
) -> None:
    for config in ("stage_2", "response"):
        builder = DeepDialogueTTT(config_name=config, data_dir=str(XTTS), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        options = (
            {"set_default": True} if config == "stage_2" else {}
        )  # the first: datasets fails at a second
        builder.as_dataset().push_to_hub(REPO, config, **options)
    for config, task in (("stage_2", "ttt"), ("response", "response"), (None, "ttt")):
        loaded = load_dataset(REPO, config, split="train", cache_dir=str(tmp_path / str(config)))
        assert plain(loaded) == read_rows(folder, task)
    publish(folder)
    card = DatasetCard(files_of(hub)["README.md"].decode()).data.to_dict()
    assert [config["config_name"] for config in card["configs"] if config.get("default")] == ["stage_2"]
    again = load_dataset(REPO, "stage_2", split="train", cache_dir=str(tmp_path / "again"))
    assert plain(again) == read_rows(folder)


def test_what_is_published_is_what_the_indexes_name_and_the_card_comes_last(folder: Path) -> None:
    files = to_publish(folder)
    assert list(files)[-1] == "README.md"
    assert files == {path: len(data) for path, data in published_files(folder).items()}


def test_a_build_and_publishing_keep_each_other_from_the_folder(
    hub: MiniHub, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ORPHANS_END_WITHIN", 0)
    with state.locked(folder):
        assert main(["publish", str(folder), REPO]) == 2
    assert "another build is writing here" in capsys.readouterr().err
    assert sent(hub) == []
    with open_publisher(folder, Target(repo_id=REPO)) as publisher:
        with pytest.raises(UsageError, match="or it is being published; wait for it to end"):
            build_rows(XTTS, folder, "transcription")
        publisher.publish()
    assert files_of(hub) == expected(folder)
    shutil.rmtree(folder / ".build")  # a copy, which no build goes on in
    with open_publisher(folder, Target(repo_id=REPO)) as publisher:
        assert not publisher.changes().new
    assert not (folder / ".build").exists()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_of_what_is_read_is_shown_on_a_terminal_alone(
    hub: MiniHub,
    folder: Path,
    is_terminal: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    for read in ("to send", "to compare"):
        assert main(["publish", str(folder), REPO]) == 0
        assert ("reading: 100%" in capsys.readouterr().err) == is_terminal, read
