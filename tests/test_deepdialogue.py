"""DeepDialogue's three shapes, and what the reader makes of them."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys.building import build_rows
from toys.building import open_reader
from toys.building import published_files
from toys.building import read_corpus
from toys.building import read_rows
from toys.samples import DOCUMENTED
from toys.samples import XTTS

from deepdialogue_ttt import DeepDialogueTTT
from speechrows.builder import Unit
from speechrows.types import Dialogue

CONFIGS = ("dialogues_llama3-8B_cohere7B", "dialogues_phi4-mini")


def dialogues(folder: Path, **options: Any) -> list[Dialogue]:
    return [one for one in read_corpus(DeepDialogueTTT, folder, **options) if isinstance(one, Dialogue)]


def without_jsons(folder: Path) -> Path:
    for path in folder.rglob("*.json"):
        path.unlink()
    return folder


def facts(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """What must not depend on the shape that rows were read from."""
    names = ("transcript", "num_tokens", "input_ids", "labels", "speaker", "role", "emotion", "domain")
    return {row["row_id"]: (row["audio"], *(row[name] for name in names)) for row in rows}


def test_the_published_sample_gives_its_17_turns_in_order(tmp_path: Path) -> None:
    summary = build_rows(XTTS, tmp_path)
    assert (summary.items, summary.rows, summary.skipped, summary.left_out) == (17, 17, {}, {})
    rows = {row["clip_id"]: row for row in read_rows(tmp_path)}
    expected = {
        f"deepdialogue-xtts/{path.relative_to(XTTS / 'data').with_suffix('')}/{i}": (turn, path)
        for path in XTTS.rglob("*.json")
        for i, turn in enumerate(json.loads(path.read_text())["conversation"])
    }
    assert set(rows) == set(expected)
    for clip_id, (turn, path) in expected.items():
        row = rows[clip_id]
        assert (row["transcript"], row["speaker"]) == (turn["text"], turn["speaker"])
        clip = next(path.with_suffix("").glob(f"segments/{row['turn_number'] + 1:03}_*.wav"))
        assert row["audio"] == {"bytes": clip.read_bytes(), "path": clip.name}


def test_the_documented_sample_gives_its_10_turns_in_order(tmp_path: Path) -> None:
    assert build_rows(DOCUMENTED, tmp_path).rows == 10
    rows = read_rows(tmp_path)
    assert [(row["conversation_id"].split("/")[-1], row["turn_number"]) for row in rows] == [
        *(("dialogue_001", i) for i in range(4)),
        *(("dialogue_002", i) for i in range(6)),
    ]
    for row in rows:
        assert row["audio"]["bytes"] == (DOCUMENTED / row["source"].split("/", 1)[1]).read_bytes()
        assert row["audio"]["path"] == f"turn_{row['turn_number']}.wav"
    assert {(row["speaker"], row["role"]) for row in rows} == {("A", "user"), ("B", "assistant")}


@pytest.mark.parametrize("config", ["ttt", "transcription", "response"])
def test_the_table_gives_the_same_rows_as_the_jsons(xtts: Path, tmp_path: Path, config: str) -> None:
    build_rows(xtts, tmp_path / "jsons", config)
    build_rows(without_jsons(xtts), tmp_path / "table", config)
    jsons, table = read_rows(tmp_path / "jsons", config), read_rows(tmp_path / "table", config)
    assert facts(table) == facts(jsons)
    assert len(jsons) == {"ttt": 17, "transcription": 17, "response": 8}[config]


def test_a_table_of_shuffled_rows_gives_turns_in_order_and_the_same_roles(xtts: Path) -> None:
    expected = [one.turns for one in dialogues(xtts)]
    path = next(without_jsons(xtts).rglob("*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), path)
    assert [one.turns for one in dialogues(xtts)] == expected


def test_a_table_without_acted_emotions_takes_them_from_the_names_of_clips(xtts: Path) -> None:
    expected = [turn.traits for one in dialogues(xtts) for turn in one.turns]
    path = next(without_jsons(xtts).rglob("*.parquet"))
    pq.write_table(pq.read_table(path).drop_columns(["audio_ravdess_emotion", "domain"]), path)
    assert [turn.traits for one in dialogues(xtts) for turn in one.turns] == expected


@pytest.mark.parametrize("kind", ["numbers", "one bare stem for all"])
def test_a_table_whose_ids_do_not_tell_dialogues_apart_is_read_by_its_clips(kind: str, xtts: Path) -> None:
    expected = [one.conversation_id for one in dialogues(xtts)]
    path = next(without_jsons(xtts).rglob("*.parquet"))
    table = pq.read_table(path)
    ids = table["conversation_id"].combine_chunks().dictionary_encode().indices.cast("int64")
    if kind != "numbers":
        ids = pa.array(["education_1_4"] * len(table))
    pq.write_table(table.set_column(0, "conversation_id", ids), path)
    assert [one.conversation_id for one in dialogues(xtts)] == expected


def listed(folder: Path) -> tuple[str, Sequence[Unit[Any]]]:
    _, listing = open_reader(DeepDialogueTTT, folder)
    return listing.contents, listing.units


def test_jsons_win_over_the_table_and_the_choice_is_said(xtts: Path) -> None:
    for path in sorted(xtts.rglob("*.json"))[1:]:
        path.unlink()
    said, units = listed(xtts)
    assert said == "1 dialogue JSONs (the table beside them is not read)"
    assert len(units) == 1
    said, units = listed(without_jsons(xtts))
    assert said == "no <config>/<dialogue>.json; 4 conversations in 1 tables"
    assert len(units) == 4
    said, _ = listed(DOCUMENTED)
    assert said == "2 dialogue JSONs"


def test_units_weigh_what_they_read(xtts: Path) -> None:
    def clips(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("segments/*.wav"))

    beside = sum(path.stat().st_size for path in [*xtts.rglob("*.json"), *xtts.rglob("*.tsv")])
    _, units = listed(xtts)
    assert sum(unit.num_bytes for unit in units) == clips(xtts) + beside
    _, units = listed(without_jsons(xtts))
    assert sum(unit.num_bytes for unit in units) == clips(xtts)


def test_the_root_and_its_data_folder_give_the_same_rows(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "root")
    build_rows(XTTS / "data", tmp_path / "data")
    root, data = read_rows(tmp_path / "root"), read_rows(tmp_path / "data")
    assert published_files(tmp_path / "root").keys() == published_files(tmp_path / "data").keys()
    assert root == data


def test_roles_follow_who_speaks_first_and_can_be_swapped(xtts: Path) -> None:
    for path in xtts.rglob("education_1_4.json"):  # LLM2 begins here
        path.write_text(
            path.read_text().replace("LLM1", "LLM0").replace("LLM2", "LLM1").replace("LLM0", "LLM2")
        )
        shutil.rmtree(path.with_suffix(""))
    for swap_roles, first in ((False, "user"), (True, "assistant")):
        roles = [[turn.role for turn in one.turns] for one in dialogues(xtts, swap_roles=swap_roles)]
        second = "assistant" if first == "user" else "user"
        assert roles == [[first, second] * (len(one) // 2) + [first] * (len(one) % 2) for one in roles]


def test_swapped_roles_are_other_exchanges_of_the_same_clips(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "plain", "response")
    build_rows(XTTS, tmp_path / "swapped", "response", swap_roles=True)
    plain, swapped = (read_rows(tmp_path / name, "response") for name in ("plain", "swapped"))
    assert {row["speaker"] for row in plain} == {"LLM1"}
    assert {row["speaker"] for row in swapped} == {"LLM2"}
    assert (len(plain), len(swapped)) == (8, 5)


def test_emotion_is_the_one_that_was_acted_and_others_are_told(
    xtts: Path, documented: Path, tmp_path: Path
) -> None:
    travel = next(one for one in dialogues(xtts) if one.conversation_id.endswith("travel_2_3"))
    assert [turn.traits.emotion for turn in travel.turns] == ["sad", "surprise", "neutral"]
    for path in xtts.rglob("travel_2_3.json"):
        path.write_text(path.read_text().replace('"emotion": "sad"', '"emotion": "happy"'))
    travel = next(one for one in dialogues(xtts) if one.conversation_id.endswith("travel_2_3"))
    assert travel.turns[0].traits.emotion == "sad"
    told = [turn.traits.emotion for turn in dialogues(documented)[0].turns]
    assert told == [None, "neutral", None, "happy"]  # "confused" and "curious" are none of the seven
    (path,) = documented.rglob("dialogue_001.json")
    record = json.loads(path.read_text())
    for turn, emotion in zip(record["turns"], ("furious", 7, "Furious", None), strict=True):
        turn["emotion"] = emotion
    path.write_text(json.dumps(record))
    summary = build_rows(documented, tmp_path / "out")
    assert summary.unknown_traits == {"emotion: 7": 1, "emotion: furious": 2}
    assert "null, as unknown: emotion: furious" in (tmp_path / "out/README.md").read_text()


def splits(out: Path) -> dict[str, str]:
    return {
        "/".join(row["conversation_id"].split("/")[1:]): row["row_id"].split("/")[1] for row in read_rows(out)
    }


def test_both_renderings_land_in_the_same_split_and_one_parent_folder_holds_both(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    for name in ("DeepDialogue-xtts", "DeepDialogue-orpheus"):
        shutil.copytree(XTTS, parent / name)
        build_rows(parent / name, tmp_path / name, validation_fraction=0.5)
    xtts, orpheus = (splits(tmp_path / name) for name in ("DeepDialogue-xtts", "DeepDialogue-orpheus"))
    assert xtts == orpheus
    assert set(xtts.values()) == {"train", "validation"}

    assert build_rows(parent, tmp_path / "both", validation_fraction=0.5).rows == 34
    both = read_rows(tmp_path / "both")
    alone = [
        row for name in ("DeepDialogue-orpheus", "DeepDialogue-xtts") for row in read_rows(tmp_path / name)
    ]
    assert facts(both) == facts(alone)
    assert splits(tmp_path / "both") == xtts


@pytest.mark.parametrize("flat", [False, True], ids=["data/", "flat"])
def test_one_parent_folder_holds_both_tables(tmp_path: Path, flat: bool) -> None:
    for name in ("DeepDialogue-xtts", "DeepDialogue-orpheus"):
        shutil.copytree(XTTS / "data" if flat else XTTS, tmp_path / name)
    found = [one.conversation_id for one in dialogues(without_jsons(tmp_path))]
    assert len(found) == len(set(found)) == 8
    assert {one.split("/")[0] for one in found} == {"DeepDialogue-xtts", "DeepDialogue-orpheus"}


def test_a_dialogue_named_segments_and_a_folder_with_a_hash_are_read(xtts: Path) -> None:
    config = xtts / "data" / CONFIGS[1]
    for suffix in (".json", ""):
        (config / f"travel_2_3{suffix}").rename(config / f"segments_2_3{suffix}")
    config.rename(config.with_name("c#.parquet"))
    found = dialogues(xtts)
    assert [len(one.turns) for one in found] == [4, 3, 4, 6]
    assert not [turn.fault for one in found for turn in one.turns if turn.fault]


def test_a_byte_order_mark_is_passed_over(documented: Path) -> None:
    expected = dialogues(documented)
    for path in [*documented.rglob("*.json"), *documented.rglob("metadata.tsv")]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert dialogues(documented) == expected


def test_metadata_that_csv_wrote_agrees_with_its_json_whatever_the_texts_hold(xtts: Path) -> None:
    path = next(xtts.rglob("education_1_4.json"))
    record, folder = json.loads(path.read_text()), path.with_suffix("")
    texts = ("Two\u2028lines.", "Wait\x85 \x0cwhat?", "Two things:\n1. sleep\n2. eat", 'a\ttab "here"')
    with (folder / "metadata.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["filename", "speaker", "original_text"])
        for turn, text, clip in zip(
            record["conversation"], texts, sorted(folder.glob("segments/*")), strict=True
        ):
            turn["text"] = text
            writer.writerow([clip.name, turn["speaker"], text])
    path.write_text(json.dumps(record))
    told = next(one for one in dialogues(xtts) if one.source.endswith(path.name))
    assert [(turn.text, turn.fault) for turn in told.turns] == [(text, None) for text in texts]


def test_a_conversation_without_an_id_is_named_after_its_file_and_row(xtts: Path) -> None:
    path = next(without_jsons(xtts).rglob("*.parquet"))
    table = pq.read_table(path).slice(0, 2)
    ids = pa.array([None, ""], pa.string())
    table = table.set_column(0, "conversation_id", ids)
    names = pa.array(["1.wav", "2.wav"])
    at = table.column_names.index("segment_audio_path")
    pq.write_table(table.set_column(at, "segment_audio_path", names), path)
    stem = "deepdialogue-xtts/train-00000-of-00001"
    assert [one.conversation_id for one in dialogues(xtts)] == [f"{stem}:0", f"{stem}:1"]
