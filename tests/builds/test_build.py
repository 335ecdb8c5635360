"""What a build promises of its folder: the same bytes anywhere, one builder, its tasks side by side."""

import ctypes
import datetime
import getpass
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from toys.building import build_rows
from toys.building import published_files
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.processes import Forked
from toys.templates import TEMPLATES

import speechrows
from speechrows.builder.builder import load_builder
from speechrows.builds.run import build
from speechrows.errors import UsageError
from speechrows.folder.show import show
from speechrows.text import tokenizers
from speechrows.validation.validate import validate

SMALL_SHARDS = 400_000  # bytes: three dialogues each
NEW_USERS, NEW_HOST_NAME = 0x10000000, 0x04000000  # of a process: <linux/sched.h>


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine dialogues; one has lost a clip, so that something is skipped."""
    folder = write_corpus(tmp_path_factory.mktemp("a") / "corpus", dialogues=9, seconds=0.6)
    next(folder.rglob("travel_3_4/segments/002*")).unlink()
    return folder


def test_num_proc_changes_no_byte(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechrows.builds.run._INDEX_GROUP_ROWS", 10)
    for num_proc in (1, 2):
        options: dict[str, Any] = {"num_proc": num_proc, "shard_bytes": SMALL_SHARDS}
        build_rows(corpus, tmp_path / str(num_proc), validation_fraction=0.3, **options)
    alone, together = published_files(tmp_path / "1"), published_files(tmp_path / "2")
    assert len([path for path in alone if path.startswith("data/ttt/train/")]) > 2
    assert pq.read_metadata(tmp_path / "1/index/ttt/train.parquet").num_row_groups > 1
    assert alone == together


def test_place_time_host_and_folder_change_no_byte(corpus: Path, tmp_path: Path) -> None:
    build_rows(corpus, tmp_path / "out", shard_bytes=SMALL_SHARDS)
    here = published_files(tmp_path / "out")
    elsewhere = tmp_path / "very-private-folder" / corpus.name
    shutil.copytree(corpus, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (978_307_200, 978_307_200))
    out = elsewhere.parent / "rows"
    _build_on_another_host(elsewhere, out, shard_bytes=SMALL_SHARDS)
    elsewhere_files = published_files(out)
    assert here == elsewhere_files
    names = [name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 6]  # no chance hits
    secrets = [str(tmp_path), "very-private", str(corpus.parent), str(Path.cwd()), "zebra", *names]
    secrets += [str(datetime.datetime.now().date()), "2001-01-01", "978307200", ".build"]
    for path, data in elsewhere_files.items():
        assert not [secret for secret in secrets if secret.encode() in data or secret in path], path


def _build_on_another_host(data_dir: Path, out: Path, **options: Any) -> None:
    """In another working directory, time zone, home and, where it is allowed, under another host name."""
    process = Forked(_build_elsewhere, data_dir, os.path.relpath(out, "/usr"), options)
    _, errors = process.communicate(60)
    assert process.returncode == 0, errors


def _build_elsewhere(data_dir: Path, out: str, options: dict[str, Any]) -> None:
    if ctypes.CDLL(None).unshare(NEW_USERS | NEW_HOST_NAME) == 0:
        socket.sethostname("zebra-host")
    os.environ.update(USER="zebra-user", HOME="/nowhere/zebra", TZ="Asia/Tokyo")
    time.tzset()
    os.chdir("/usr")
    build_rows(data_dir, Path(out), **options)


def test_ids_are_unique_and_do_not_depend_on_options(corpus: Path, tmp_path: Path) -> None:
    build_rows(corpus, tmp_path / "a")
    build_rows(corpus, tmp_path / "b", shard_bytes=SMALL_SHARDS, audio_tokens_per_second="25")
    ids = [row["row_id"] for row in read_rows(tmp_path / "a")]
    assert len(set(ids)) == len(ids) == 8 * 4
    assert ids == [row["row_id"] for row in read_rows(tmp_path / "b")]
    assert ids[0] == "deepdialogue_ttt/train/corpus/dialogues_phi4-mini/education_0_4/0/ttt"


def test_another_task_joins_the_card_and_leaves_the_first_alone(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_rows(corpus, out, "stage_2")
    before = published_files(out)
    assert _configs(out) == ["ttt", "stage_1", "stage_2", "stage_3", "stage_4"]
    build_rows(corpus, out, "response")
    after = published_files(out)
    assert _configs(out) == ["ttt", "stage_1", "stage_2", "stage_3", "stage_4", "response"]
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"README.md", "skipped.jsonl"}
    assert {path.split("/")[1] for path in after.keys() - before.keys()} == {"response"}
    build_rows(corpus, tmp_path / "reverse", "response")
    build_rows(corpus, tmp_path / "reverse", "ttt")
    assert published_files(tmp_path / "reverse") == after


def _configs(out: Path) -> list[str]:
    return [config["config_name"] for config in DatasetCard.load(out / "README.md").data.configs]


def test_overwrite_replaces_that_task_alone(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_rows(corpus, out, "response")
    build_rows(corpus, out, "ttt", shard_bytes=SMALL_SHARDS, validation_fraction=0.4)
    before = published_files(out)
    with pytest.raises(UsageError, match=r"validation_fraction: 0\.4 there, 0\.0 now"):
        build_rows(corpus, out, "ttt", shard_bytes=SMALL_SHARDS)
    assert published_files(out) == before
    build_rows(corpus, out, "ttt", shard_bytes=SMALL_SHARDS, overwrite=True)
    after = published_files(out)
    assert not [path for path in after if path.startswith(("data/ttt/val", "index/ttt/val"))]
    for path in before:
        if "/response/" in path or path.startswith("tokenizer/"):
            assert after[path] == before[path]
    build_rows(corpus, tmp_path / "anew", "response")
    build_rows(corpus, tmp_path / "anew", "ttt", shard_bytes=SMALL_SHARDS)
    assert published_files(tmp_path / "anew") == after


def test_another_recipe_is_refused_by_name(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_rows(corpus, out)
    before = published_files(out)
    with pytest.raises(UsageError, match=r"audio_tokens_per_second: 25/2 there, 25 now"):
        build_rows(corpus, out, audio_tokens_per_second="25")
    (job,) = load_builder("deepdialogue_ttt")(config_name="ttt", data_dir=str(corpus)).jobs()
    another = type(job)(**{**vars(job), "builder": "another_ttt"})
    with pytest.raises(UsageError, match="holds deepdialogue_ttt, not another_ttt"):
        build(another, out)
    assert published_files(out) == before


PARTS = (  # a model that hears, and numbers what it hears
    "{% set heard = namespace(number=0) %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.content %}{% if c.type == 'audio' %}{% set heard.number = heard.number + 1 %}"
    "Audio {{ heard.number }}: <|audio_bos|><|AUDIO|><|audio_eos|>\n{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "audio"), [(TEMPLATES["chatml"], "<audio>"), (PARTS, "<|AUDIO|>")], ids=["text", "parts"]
)
def test_rows_are_built_and_rendered_anew_with_a_system_prompt_and_a_models_own_audio_token(
    template: str, audio: str, corpus: Path, tmp_path: Path
) -> None:
    other = tokenizers.byte_level()
    specials = ["<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"]
    other.add_tokens(specials, special_tokens=True)
    other.chat_template = template
    tokenizers.save(other, tmp_path / "chatml")
    prompt = "Be brief:\n`<audio>` is 'speech', <|AUDIO|> too."
    build_rows(corpus, tmp_path / "plain", system=f" {prompt} ")
    build_rows(corpus, tmp_path / "other", system=prompt, tokenizer=str(tmp_path / "chatml"))
    rows = read_rows(tmp_path / "plain")
    assert all(row["system"] == prompt for row in rows)
    texts = [row["text"].startswith(f"System: {prompt}\nUser: <audio>") for row in rows]
    assert texts == [row["turn_number"] == 0 for row in rows]
    for name in ("plain", "other"):
        assert validate(str(tmp_path / name)).ok
    texts = {row["turn_number"]: row["text"] for row in read_rows(tmp_path / "other")}
    assert f"{audio}<|audio_eos|>" in texts[1] or audio == "<audio>"
    assert "Audio 2: <|audio_bos|>" in texts[1] or audio == "<audio>"
    assert f"[{audio} × " in show(str(tmp_path / "other"))
    assert f"`{audio}` stands once" in (tmp_path / "other" / "README.md").read_text("utf-8")
    options = {"config": "ttt", "budget_tokens": 9_999, "too_long": "drop"}
    anew = speechrows.load(str(tmp_path / "plain"), tokenizer=str(tmp_path / "chatml"), **options)
    built = speechrows.load(str(tmp_path / "other"), **options)
    for one, two in zip(anew, built, strict=True):
        assert one.row_ids == two.row_ids
        assert one.input_ids.tolist() == two.input_ids.tolist()
        assert one.labels.tolist() == two.labels.tolist()
    with pytest.raises(UsageError, match=r"(?s)system: Be brief.* there, None now"):
        build_rows(corpus, tmp_path / "plain")
    with pytest.raises(UsageError, match=r"system prompt: found ' ', expected words"):
        build_rows(corpus, tmp_path / "plain", system=" ")


def test_another_tokenizer_is_refused_and_never_mixed(corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tokenizers.byte_level()
    ours = tokenizers.fingerprint(tokenizers.open_tokenizer(None))[:12]
    other.add_tokens(["river"])
    tokenizers.save(other, tmp_path / "other")
    theirs = tokenizers.fingerprint(tokenizers.open_tokenizer(str(tmp_path / "other")))[:12]
    build_rows(corpus, out)
    before = published_files(out)
    for config, advice in (("ttt", "--overwrite"), ("response", "another folder")):
        with pytest.raises(UsageError, match=f"(?s){ours}.*{theirs}.*{advice}"):
            build_rows(corpus, out, config, tokenizer=str(tmp_path / "other"))
    assert published_files(out) == before
    build_rows(corpus, out, tokenizer=str(tmp_path / "other"), overwrite=True)
    build_rows(corpus, tmp_path / "anew", tokenizer=str(tmp_path / "other"))
    assert published_files(out) == published_files(tmp_path / "anew")
    assert "river" in (out / "tokenizer" / "tokenizer.json").read_text("utf-8")


@pytest.mark.parametrize("name", ["README.md", "data/train.parquet", "holiday.jpg"])
def test_a_folder_of_something_else_is_refused_and_left_alone(
    corpus: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    with pytest.raises(UsageError, match=f"holds {Path(name).parts[0]}, which no build wrote"):
        build_rows(corpus, tmp_path / "out", overwrite=True)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]
    with pytest.raises(UsageError, match="is a file"):
        build_rows(corpus, file)


def test_a_shard_that_was_lost_is_built_again(corpus: Path, tmp_path: Path) -> None:
    build_rows(corpus, tmp_path / "out", shard_bytes=SMALL_SHARDS)
    before = published_files(tmp_path / "out")
    shards = sorted((tmp_path / "out" / "data").rglob("*.parquet"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    build_rows(corpus, tmp_path / "out", shard_bytes=SMALL_SHARDS)
    assert published_files(tmp_path / "out") == before
