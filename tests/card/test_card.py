"""The card tells what a folder holds: from index and ledger, never from audio; its text is no markup."""

import io
import json
import re
import shlex
import shutil
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard
from huggingface_hub import DatasetCardData
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toys.building import build_rows
from toys.building import plain
from toys.building import published_files
from toys.corpus import write_corpus
from toys.examples import FEW
from toys.examples import MANY
from toys.samples import SAMPLE_OF
from toys.samples import SAMPLES
from toys.samples import XTTS

from speechrows.builder.builder import load_builder
from speechrows.card import figures
from speechrows.card import pictures
from speechrows.card import prose
from speechrows.card.columns import COLUMNS
from speechrows.cli import main
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.show import show
from speechrows.folder.stats import stats
from speechrows.rows.ledger import LedgerSummary
from speechrows.rows.schema import FEATURES
from speechrows.rows.tasks import TASKS
from speechrows.text import tokenizers


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, two splits, a lost clip, conversations of three lengths."""
    folder = tmp_path_factory.mktemp("card")
    corpus = write_corpus(folder / "corpus", dialogues=9, seconds=0.4)
    next(corpus.rglob("travel_3_4/segments/002*")).unlink()
    for task in ("ttt", "response"):
        build_rows(corpus, folder / "rows", task, validation_fraction=0.4)
    return folder / "rows"


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8")


def outside_fences(text: str) -> str:
    """Markdown that is not code."""
    kept, fence = list[str](), ""
    for line in text.splitlines():
        ticks = re.match("`{3,}", line)
        if fence:
            fence = "" if line == fence else fence
        elif ticks:
            fence = ticks[0]
        else:
            kept.append(line)
    assert not fence
    return "\n".join(kept)


def test_every_column_is_explained_in_order() -> None:
    assert list(COLUMNS) == list(FEATURES)


def test_every_config_is_explained_before_its_numbers_and_a_row(built: Path) -> None:
    text = text_of(built)
    for config in ("ttt", "response"):
        assert f"- `{config}`: {TASKS[config].asks}\n" in text
    assert "- `stage_1`…`stage_4`: of `ttt`, the conversations of at most 8,192, 16,384" in text
    order = ["load_dataset(", "## Configs", "| config |", "## A row", "## In pictures", "## How", "## What",
             "## Licence"]  # fmt: skip
    assert sorted(order, key=text.index) == order


def test_stages_that_hold_the_same_rows_are_said_to_be_equal(built: Path) -> None:
    alike = "`stage_1` = `stage_2` = `stage_3` = `stage_4` = `ttt`"
    assert f"- {alike}: they hold the same rows\n" in text_of(built)
    numbers = {"conversations": 1, "hours": 1.0, "num_bytes": 1}
    rows_of = {"ttt": 9, "stage_1": 5, "stage_2": 7, "stage_3": 7, "response": 7}
    lines = [
        prose.TableLine(config=config, split="train", rows=rows, **numbers)
        for config, rows in rows_of.items()
    ]
    assert re.findall("- (`.*`): they", prose._configs(lines)) == ["`stage_2` = `stage_3`"]


def test_the_line_that_loads_and_the_row_are_of_train_where_there_is_one(built: Path, tmp_path: Path) -> None:
    build_rows(SAMPLE_OF["dailytalk_usdm"], tmp_path / "rows", "transcription", builder="dailytalk_usdm")
    text = text_of(tmp_path / "rows")
    assert '"transcription", split="train", streaming=True)' in text
    assert "row_id               dailytalk_usdm/train/" in text
    assert text.index("| transcription | train |") < text.index("| transcription | test |")
    splits = DatasetCard(text).data.to_dict()["configs"][0]["data_files"]
    assert [split["split"] for split in splits] == ["train", "test"]


def test_hours_and_conversations_of_every_config_and_split_are_those_of_stats(built: Path) -> None:
    for split in stats(str(built)):
        numbers = f"{split.turns:,} | {split.conversations:,} | {split.hours:,.2f} |"
        assert f"| {split.config} | {split.split} | {numbers}" in text_of(built)


@pytest.mark.parametrize("at_once", [1, 3, 1 << 16])
def test_conversations_are_counted_across_batches_of_the_index(
    built: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_ROWS_AT_ONCE", at_once)
    for split in ("train", "validation"):
        index = RowsFolder.open(str(built)).index("ttt", split).to_pylist()
        turns = {row["conversation_id"]: row["num_turns"] for row in index}
        measured = figures.measure(built, "ttt", split)
        assert measured.turns.tolist() == list(turns.values())
        assert measured.tokens.tolist() == [row["num_tokens"] for row in index]
        assert measured.seconds.sum() == pytest.approx(
            sum(row["num_samples"] / row["sampling_rate"] for row in index)
        )


def test_a_stage_sums_the_conversations_below_its_limit() -> None:
    measured = figures.Measured(
        seconds=np.array([3600.0, 3600, 7200]),
        tokens=np.array([1, 1, 1], np.int32),
        conversation_tokens=np.array([8192, 8192, 8193], np.int32),
        is_first=np.array([True, False, True]),
    )
    assert measured.sums("stage_1") == (2.0, 1)
    assert measured.sums("stage_2") == measured.sums("ttt") == (4.0, 2)


def test_the_example_is_the_first_row_with_its_mask(built: Path) -> None:
    example = text_of(built).partition("takes loss:\n\n```\n")[2].partition("\n```")[0].splitlines()
    shown = show(str(built), example[0].split()[1]).splitlines()
    assert [line for line in example if line not in shown] == [
        line for line in example if line.startswith("audio.path")
    ]
    assert "⟦" in example[-1]


def test_skipped_and_left_out_items_are_counted_by_reason(built: Path) -> None:
    ledgers = text_of(built).partition("## What became of the corpus' items")[2]
    for task in ("ttt", "response"):
        ledger = RowsFolder.open(str(built)).index_facts(task, "train").ledger
        table = re.search(rf"^{task}\n((?:  .*\n)+)", ledgers, re.MULTILINE)
        assert table
        assert ledger.skipped
        for what, count in [*ledger.skipped.items(), *ledger.left_out.items()]:
            assert re.search(rf": {what} +{count}$", table[1], re.MULTILINE)


def test_the_head_says_of_configs_what_datasets_itself_would_write(built: Path) -> None:
    data = DatasetCard(text_of(built)).data
    again = DatasetCardData()
    DatasetInfosDict.from_dataset_card_data(data).to_dataset_card_data(again)
    assert data["dataset_info"] == again["dataset_info"]


def test_the_features_that_all_configs_have_are_written_once_and_loaded_in_each(built: Path) -> None:
    head, _, body = text_of(built).partition("\n---\n")
    assert head.count("name: row_id\n") == 1
    assert len(head) < len(body) / 2
    for config in ("stage_2", "response"):
        rows = load_dataset(str(built), config, split="train", streaming=True)
        assert list(rows.features) == list(FEATURES)
        assert next(iter(plain(rows.take(1))))["row_id"].endswith("ttt" if config == "stage_2" else config)


@pytest.mark.parametrize("name", SAMPLE_OF)
def test_every_corpus_has_its_licence_citation_and_yaml(name: str, tmp_path: Path) -> None:
    configs = [config.name for config in load_builder(name).BUILDER_CONFIGS]
    config = "transcription" if "transcription" in configs else configs[0]
    build_rows(SAMPLE_OF[name], tmp_path / "rows", config, builder=name)
    card, about = DatasetCard(text_of(tmp_path / "rows")), load_builder(name).ABOUT
    assert f"Licence: `{about.licence}`. {about.licence_note}\n" in card.text
    assert about.citation in card.text
    assert card.data.license == about.licence
    data = card.data.to_dict()
    for key in ("language", "task_categories", "size_categories", "tags", "pretty_name", "dataset_info"):
        assert data[key], key
    assert [shown["config_name"] for shown in data["configs"]] == [config]


def test_the_command_on_the_card_builds_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tokenizers.byte_level()
    own.add_tokens(["river"])
    tokenizers.save(own, tmp_path / "own")
    options: dict[str, Any] = {"swap_roles": True, "date": "2025-01-31", "audio_tokens_per_second": "10"}
    options |= {"tokenizer": str(tmp_path / "own"), "channel": "right"}
    build_rows(XTTS, tmp_path / "first", "ttt", **options)
    build_rows(XTTS, tmp_path / "first", "response", **options)
    commands = [
        line for line in text_of(tmp_path / "first").splitlines() if line.startswith("speechrows build")
    ]
    assert len(commands) == 2
    assert "of clips with several channels number 1 alone, from 0" in text_of(tmp_path / "first")
    monkeypatch.chdir(SAMPLES)
    for command in commands:
        words = shlex.split(
            command.replace("--tokenizer tokenizer", f"--tokenizer {tmp_path}/first/tokenizer")
        )
        words[-1] = str(tmp_path / "again")
        assert main(words[1:]) == 0
    assert published_files(tmp_path / "again") == published_files(tmp_path / "first")


def test_what_is_switched_off_the_revision_and_what_was_joined_are_named() -> None:
    recipe = {
        "row_version": "1.0.0",
        "corpus": "c",
        "as_listed": False,
        "revision": "abc",
        "generated": "f" * 64,
    }
    ledger = LedgerSummary(items=300, skipped=Counter(truncated=20), files=9)
    story = prose.Story(ledger=ledger, recipe=recipe, pictures=[])
    text = prose._how_built("b", "b", {"usdm": story})
    assert "--max-skipped 0.07" in text
    clean = replace(story, ledger=replace(ledger, items=400))
    assert "--max-skipped" not in prose._how_built("b", "b", {"usdm": clean})
    assert "--no-as-listed" in text
    assert "from revision abc of the corpus" in text
    assert f"digest `{'f' * 16}`" in text
    assert "--with GENERATED" in text
    both = prose._how_built("b", "b", {"usdm": story, "response": story})
    assert both.count("from revision abc") == 1
    assert "- usdm, response: rows" in both


def test_no_text_of_a_corpus_becomes_markup_or_ends_our_part(tmp_path: Path) -> None:
    bad = "So ``` it\n```\n<!-- speechrows:end --> <img src=x onerror=alert(1)> [a](http://b)"
    corpus = write_corpus(tmp_path / "corpus", dialogues=2, turns=2, seconds=0.3)
    for file in corpus.rglob("*.json"):
        record = json.loads(file.read_text())
        for turn in record["conversation"]:
            turn["text"] = bad
        file.write_text(json.dumps(record))
    for file in corpus.rglob("metadata.tsv"):
        file.unlink()
    build_rows(corpus, tmp_path / "rows")
    text = text_of(tmp_path / "rows")
    assert "onerror" in text
    assert "onerror" not in outside_fences(text)
    assert text.count(prose.END) == text.count(prose.BEGIN) == 1
    assert text.endswith(f"{prose.END}\n")


@FEW
@given(st.text(alphabet="`\na~", max_size=40))
def test_a_fence_holds_any_text(text: str) -> None:
    assert outside_fences(f"before\n{prose.fenced(text)}\nbehind") == "before\nbehind"


# Pictures.


def test_pictures_are_on_the_card_and_in_the_folder_and_say_what_they_are(built: Path) -> None:
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text_of(built))
    assert shown == [
        f"assets/{task}/{name}.png"
        for task in ("ttt", "response")
        for name in ("durations", "tokens", "emotions", "turns")
    ]
    assert sorted(shown) == [path for path in published_files(built) if path.startswith("assets/")]
    for path in shown:
        with Image.open(built / path) as picture:
            assert picture.size == (960, 560)
            assert np.unique(picture).tolist() == [
                0,
                1,
                2,
                3,
            ]  # paper, bars, letters, their edges
        assert (built / path).stat().st_size < 140_000


def test_no_audio_is_read_for_the_card_and_it_is_drawn_again_the_same(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "rows")
    before = published_files(tmp_path / "rows")
    for row in RowsFolder.open(str(tmp_path / "rows")).index("ttt", "train").to_pylist():
        with (tmp_path / "rows" / row["shard"]).open("r+b") as file:
            file.seek(row["audio_offset"])
            file.write(bytes(row["audio_length"]))
    shutil.rmtree(tmp_path / "rows" / "assets")
    (tmp_path / "rows" / "README.md").unlink()
    build_rows(XTTS, tmp_path / "rows")
    after = published_files(tmp_path / "rows")
    assert {path for path in before if before[path] != after.get(path)} == {
        "data/ttt/train/band_1/ttt-train-1-00000.parquet"
    }


def test_pictures_are_stored_so_that_no_compressor_decides_their_bytes() -> None:
    measured = figures.Measured(
        seconds=np.array([1.0, 2.0]), tokens=np.array([5, 6], np.int32),
        conversation_tokens=np.array([5, 6], np.int32), is_first=np.array([True, True]),
    )  # fmt: skip
    pictures._png.cache_clear()
    drawn = pictures.draw(measured, {"happy": 2})
    assert list(drawn) == ["durations.png", "tokens.png"]  # one emotion, one row each: nothing to see
    for data in drawn.values():
        at = data.index(b"IDAT")
        body = data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at], "big")]
        assert zlib.decompressobj().decompress(body)[:200] in body  # the rows of pixels as they are
        assert Image.open(io.BytesIO(data)).mode == "P"


@given(st.lists(st.floats(1e-6, 1e6), min_size=1) | st.lists(st.integers(1, 100_000), min_size=1))
@MANY
def test_a_histogram_holds_every_value_in_bars_of_a_round_width_as_many_as_fit_its_rows(
    values: list[float],
) -> None:
    bars = pictures.histogram(np.array(values))
    assert sum(bars.heights) == len(values)
    assert 1 <= len(bars.heights) <= 2 * len(values) ** (1 / 3) + 3
    assert bars.heights[0]  # no room is left before the first
    assert {place for place, _ in bars.labels} <= set(range(len(bars.heights) + 1))


def test_bars_of_whole_numbers_are_whole_and_many_rows_have_no_more_than_fit_the_picture() -> None:
    turns = pictures.histogram(np.array([3, 3, 5]))
    assert turns.heights == (2, 0, 1)
    assert turns.labels == ((0, "3"), (1, "4"), (2, "5"))
    assert len(pictures.histogram(np.arange(8)).heights) == 4
    assert 12 < len(pictures.histogram(np.random.default_rng(0).random(100_000)).heights) <= 26
    tail = pictures.histogram(np.append(np.full(999, 1.0), 900.0))
    assert tail.labels[-1][1].endswith("+")


def chart(title: str, bars: pictures.Bars, across: str = "") -> pictures.Chart:
    return pictures.Chart(title=title, total="9 rows", across=across, up="rows", bars=bars)


def test_words_stay_inside_the_picture_and_numbers_in_one_line() -> None:
    def drawn(title: str, bars: pictures.Bars, across: str = "") -> Any:
        png = pictures._png(chart(title, bars, across))
        return np.asarray(Image.open(io.BytesIO(png))) >= 2  # ink

    words = drawn("Emotion", pictures._words({f"contemptuous{i:02}": 9 for i in range(12)}))
    assert words[-40:].any()  # in the last of three lines
    assert not words[:, [0, -1]].any()
    assert not words[[0, -1]].any()
    numbers = drawn("Rows", pictures.histogram(np.arange(7)), "rows")
    lines = np.flatnonzero(np.diff(numbers[490:].any(axis=1).astype(int)) == 1)
    assert len(lines) == 2  # the numbers, and what they count


def test_the_axis_counts_in_whole_numbers_and_a_picture_is_drawn_once() -> None:
    few = pictures.Bars(heights=(1, 2), labels=((0, "a"), (1, "b")), centred=True)
    png = pictures._png(chart("Few", few))
    marks = np.asarray(Image.open(io.BytesIO(png)))[110:400, 900] == 3  # lines of the axis, right of the bars
    assert marks.sum() == 2  # 1 and 2; 0 is the floor
    assert pictures._png(chart("Few", few)) is png


def test_few_words_are_shown_and_the_rest_is_summed() -> None:
    bars = pictures._words({f"mood{i:02}": 20 - i for i in range(15)})
    assert [word for _, word in bars.labels] == [*(f"mood{i:02}" for i in range(12)), "others"]
    assert bars.heights[-1] == 8 + 7 + 6
