"""The three ways in: the class, the loading script, the built folder. Run under datasets 5.2, 4.8 and 3.6."""

import importlib
import importlib.util
import io
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from datasets import load_dataset
from toys.building import build_rows
from toys.building import plain
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.samples import XTTS

from deepdialogue_ttt import DeepDialogueTTT
from speechrows.builder.builder import load_builder
from speechrows.builder.infos import infos
from speechrows.errors import UsageError
from speechrows.flags import BUILDERS
from speechrows.rows.curriculum import DIALOGUE_CONFIGS
from speechrows.rows.curriculum import task_of
from speechrows.rows.schema import FEATURES
from speechrows.text import tokenizers

SCRIPT = Path(__file__).parents[2] / "deepdialogue_ttt.py"
MAJOR = int(datasets.__version__.split(".")[0])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "rows"
    for task in ("ttt", "transcription", "response"):
        build_rows(XTTS, out, task)
    return out


@pytest.mark.parametrize("config", [name for name in DIALOGUE_CONFIGS if not task_of(name).needs])
def test_the_class_and_the_built_folder_give_the_same_rows(config: str, built: Path, tmp_path: Path) -> None:
    builder = DeepDialogueTTT(config_name=config, data_dir=str(XTTS), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    from_class = plain(builder.as_dataset(split="train"))
    from_folder = plain(load_dataset(str(built), config, split="train", cache_dir=str(tmp_path)))
    assert from_class == from_folder
    task = "ttt" if config.startswith("stage") else config
    assert from_folder == read_rows(built, task)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("multidialog_ttt", "ttt"),
        ("instructs2s_ttt", "response"),
        ("dailytalk_usdm", "transcription"),
        ("omni_tasks", "omni"),
        ("omni_tasks", "sift_s"),
        ("audio_table", "response"),
    ],
)
def test_every_builder_is_a_class_that_gives_the_rows_of_its_folder(
    name: str, config: str, tmp_path: Path
) -> None:
    build_rows(SAMPLE_OF[name], tmp_path / "rows", config, builder=name)
    folder = load_dataset(str(tmp_path / "rows"), config, cache_dir=str(tmp_path))
    builder = load_builder(name)(
        config_name=config, data_dir=str(SAMPLE_OF[name]), cache_dir=str(tmp_path / "class")
    )
    builder.download_and_prepare()
    assert {split for split, info in builder.info.splits.items() if info.num_examples} == set(folder)
    for split, rows in folder.items():
        assert plain(builder.as_dataset(split=split)) == plain(rows)
        assert plain(builder.as_streaming_dataset(split=split)) == plain(rows)


def test_a_split_without_a_row_is_no_split_and_a_union_shows_what_is_there(tmp_path: Path) -> None:
    hub = Path(shutil.copytree(SAMPLE_OF["omni_tasks"], tmp_path / "hub"))
    for gone in ("speechbrain", "edinburghcstr", "fixie-ai", "AbstractTTS", "garam-icecream"):
        shutil.rmtree(hub / gone)
    builder = load_builder("omni_tasks")(
        config_name="omni", data_dir=str(hub), cache_dir=str(tmp_path / "class"), validation_fraction=1e-9
    )
    builder.download_and_prepare()
    loaded = builder.as_dataset()
    assert list(loaded) == ["train"]
    assert {row["task"] for row in plain(loaded["train"])} == {"sift_s", "sift_ssp", "sit_ssp", "s2s_mimi"}
    build_rows(hub, tmp_path / "rows", "omni", builder="omni_tasks", validation_fraction=1e-9)
    folder = load_dataset(str(tmp_path / "rows"), "omni", cache_dir=str(tmp_path))
    assert plain(folder["train"]) == plain(loaded["train"])
    with pytest.raises(UsageError, match="LoquaciousSet"):
        build_rows(tmp_path / "class", tmp_path / "none", "omni", builder="omni_tasks")


@pytest.mark.parametrize("config", ["ttt", "stage_2", "response"])
def test_streaming_gives_the_same_rows_without_preparing(config: str, built: Path) -> None:
    streamed = DeepDialogueTTT(config_name=config, data_dir=str(XTTS)).as_streaming_dataset(split="train")
    from_folder = load_dataset(str(built), config, split="train", streaming=True)
    expected = read_rows(built, "ttt" if config.startswith("stage") else config)
    assert plain(streamed) == expected
    assert plain(from_folder) == expected


def test_two_processes_prepare_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for num_proc in (None, 2):
        builder = DeepDialogueTTT(
            config_name="ttt", data_dir=str(XTTS), cache_dir=str(tmp_path / str(num_proc))
        )
        builder.shard_bytes = 500_000
        builder.download_and_prepare(num_proc=num_proc)
        rows.append(plain(builder.as_dataset(split="train")))
    assert len(rows[0]) == 17
    assert rows[0] == rows[1]


def test_the_features_are_the_same_on_every_way(built: Path, tmp_path: Path) -> None:
    assert DeepDialogueTTT(config_name="ttt", data_dir=str(XTTS)).info.features == FEATURES
    assert load_dataset(str(built), "ttt", split="train", cache_dir=str(tmp_path)).features == FEATURES
    bare = str(built / "data/ttt/train/band_1/*.parquet")  # the notation inside the file alone
    assert (
        load_dataset("parquet", data_files=bare, split="train", cache_dir=str(tmp_path)).features == FEATURES
    )


def test_a_changed_corpus_never_gives_stale_rows(xtts: Path, tmp_path: Path) -> None:
    def texts() -> list[str]:
        builder = DeepDialogueTTT(config_name="ttt", data_dir=str(xtts), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        return builder.as_dataset(split="train")["transcript"][:]

    before = texts()
    file = xtts / "data/dialogues_phi4-mini/travel_2_3.json"
    file.write_text(file.read_text().replace("night bus", "early bus"))
    shutil.rmtree(xtts / "data/dialogues_phi4-mini/travel_2_3/metadata.tsv", ignore_errors=True)
    (xtts / "data/dialogues_phi4-mini/travel_2_3/metadata.tsv").unlink()
    assert [a for a, b in zip(texts(), before, strict=True) if a != b] == ["There is a early bus at eleven."]


def test_a_changed_tokenizer_never_gives_stale_rows(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    tokenizers.save(tokenizers.byte_level(), folder)

    def texts() -> list[str]:
        builder = DeepDialogueTTT(
            config_name="ttt", data_dir=str(XTTS), tokenizer=str(folder), cache_dir=str(tmp_path / "cache")
        )
        builder.download_and_prepare()
        return builder.as_dataset(split="train")["text"][:]

    assert texts()[0].startswith("User: <audio>")
    chatty = tokenizers.byte_level()
    chatty.chat_template = "{% for m in messages %}{{ m.role }}> {{ m.content }}{{ eos_token }}{% endfor %}"
    tokenizers.save(chatty, folder)
    assert texts()[0].startswith("user> <audio>")


@pytest.mark.skipif(MAJOR >= 4, reason="datasets 4 and later run no loading scripts")
def test_the_file_is_a_loading_script(built: Path, tmp_path: Path) -> None:
    for config in ("stage_2", "response"):
        loaded = load_dataset(
            str(SCRIPT),
            config,
            data_dir=str(XTTS),
            split="train",
            trust_remote_code=True,
            cache_dir=str(tmp_path),
        )
        assert plain(loaded) == read_rows(built, "response" if config == "response" else "ttt")
        assert loaded.features == FEATURES


@pytest.mark.skipif(MAJOR >= 4, reason="datasets 4 and later run no loading scripts")
@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "deepdialogue_ttt"])
def test_every_builder_is_a_loading_script(name: str, tmp_path: Path) -> None:
    config = "chat" if name == "chat_json" else "transcription"
    build_rows(SAMPLE_OF[name], tmp_path / "rows", config, builder=name)
    script, cache = str(SCRIPT.with_name(f"{name}.py")), str(tmp_path / "cache")
    loaded = load_dataset(
        script, config, data_dir=str(SAMPLE_OF[name]), trust_remote_code=True, cache_dir=cache
    )
    rows = [row for split in sorted(loaded) for row in plain(loaded[split])]
    assert rows == read_rows(tmp_path / "rows", config)


@pytest.mark.skipif(MAJOR < 4, reason="datasets 3.6 runs loading scripts")
def test_a_loading_script_is_refused_by_datasets_itself(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="scripts are no longer supported"):
        load_dataset(str(SCRIPT), "stage_2", data_dir=str(XTTS))


def test_dataset_infos_beside_the_rows_is_harmless(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "rows", ignore=shutil.ignore_patterns(".build")))
    shutil.copy(SCRIPT.parent / "dataset_infos.json", folder)
    loaded = load_dataset(str(folder), "stage_2", split="train", cache_dir=str(tmp_path / "cache"))
    assert plain(loaded) == read_rows(built)


def test_dataset_infos_is_current(tmp_path: Path) -> None:
    assert json.loads((SCRIPT.parent / "dataset_infos.json").read_text("utf-8")) == infos(BUILDERS)


def can_decode() -> bool:
    """Whether this version of datasets can decode here: 3.6 by soundfile, later ones by torchcodec."""
    if MAJOR < 4:
        return True
    if importlib.util.find_spec("torchcodec") is None:
        return False
    try:
        importlib.import_module("torchcodec.decoders")
    except (OSError, RuntimeError):  # torchcodec without ffmpeg's libraries
        return False
    return True


@pytest.mark.skipif(not can_decode(), reason="needs torchcodec and ffmpeg, as test-compat has")
def test_datasets_decodes_the_clips_to_the_samples_that_soundfile_reads(built: Path, tmp_path: Path) -> None:
    row = load_dataset(str(built), "ttt", split="train", cache_dir=str(tmp_path))[3]
    stored = read_rows(built)[3]
    expected, rate = soundfile.read(io.BytesIO(stored["audio"]["bytes"]), dtype="float32")
    assert row["audio"]["sampling_rate"] == rate == row["sampling_rate"]
    np.testing.assert_allclose(row["audio"]["array"], expected, atol=1e-4)
    assert len(row["audio"]["array"]) == row["num_samples"]
