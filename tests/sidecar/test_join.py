"""Generated columns, joined to dialogues and through whole builds: the right value to the right clip."""

import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import read_rows
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn
from toys.examples import FEW
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.generate.selection import ClipSelection
from speechrows.generate.writer import SidecarWriter
from speechrows.rows.tasks import TASKS
from speechrows.sidecar import join as join_module
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import satisfies
from speechrows.sidecar.join import GeneratedColumns
from speechrows.types import Codes
from speechrows.types import Dialogue

CODES = np.arange(24, dtype=np.int16).reshape(8, 3)


def answers(folder: Path, values: dict[str, str | None], kind: str = "sift_s", **recipe: Any) -> str:
    """A folder of answers by clip_id; None stands for a clip that got none."""
    with SidecarWriter.open(folder, {"kind": kind, "model": "toy", **recipe}) as writer:
        for clip_id, answer in values.items():
            reason = "the answer was empty" if answer is None else None
            writer.add(clip_id, answer, is_cut=answer is not None and answer.endswith("…"), reason=reason)
    return str(folder)


def codes(folder: Path, values: dict[str, Any], kind: str = "mimi", codec: str = "mimi") -> str:
    with SidecarWriter.open(folder, {"kind": kind, "codec": codec}) as writer:
        for clip_id, value in values.items():
            writer.add(clip_id, value)
    return str(folder)


def joined(folder: str | list[str], plain: Dialogue, task: str) -> Dialogue:
    folders = [folder] if isinstance(folder, str) else folder
    return GeneratedColumns.open(folders).attach(plain, TASKS[task])


def test_a_clips_answer_joins_its_turn_and_no_other(tmp_path: Path) -> None:
    values = {"c/one/0": "Hello!", "c/one/1": "And then it went on and…", "c/two/0": "other", "c/one/2": None}
    first = joined(answers(tmp_path, values), toy_dialogue(*map(toy_turn, range(4)), name="c/one"), "sift_s")
    assert [(t.answer, t.answer_is_cut) for t in first.turns] == [
        ("Hello!", False),
        ("And then it went on and…", True),
        (None, False),
        (None, False),
    ]
    plain = toy_dialogue(*map(toy_turn, range(4)), name="c/one")
    assert joined(str(tmp_path), plain, "sift_ssp") == plain, "answers of another mode are no answers"
    assert joined(str(tmp_path), plain, "ttt") == plain, "ttt has no use for answers"


def test_what_a_turn_has_of_its_own_stays(tmp_path: Path) -> None:
    from dataclasses import replace  # noqa: PLC0415

    own = replace(toy_turn(0), answer="the corpus' own", codes=Codes(codec="cosyvoice2", values=CODES[:1]))
    plain = toy_dialogue(own, toy_turn(1), name="c")
    folders = [answers(tmp_path / "a", {"c/0": "made", "c/1": "made"}), codes(tmp_path / "m", {"c/0": CODES})]
    assert [t.answer for t in joined(folders, plain, "sift_s").turns] == ["the corpus' own", "made"]
    kept = joined(folders, plain, "s2s_mimi").turns[0].codes
    assert kept is not None
    assert kept.codec == "cosyvoice2"


def test_codes_are_tables_of_int16_and_units_one_line_of_them(tmp_path: Path) -> None:
    mimi = codes(tmp_path / "mimi", {"c/0": CODES})
    units = codes(tmp_path / "units", {"c/0": np.array([9999, 0], np.int32)}, "units", "hubert_l9_k10000")
    plain = toy_dialogue(toy_turn(0), toy_turn(1), name="c")
    for folders, task, codec, values in [
        ([mimi, units], "s2s_mimi", "mimi", CODES),
        ([mimi, units], "usdm", "hubert_l9_k10000", np.array([[9999, 0]], np.int16)),
        ([mimi, units], "response", "mimi", CODES),
        ([units], "response", "hubert_l9_k10000", np.array([[9999, 0]], np.int16)),
    ]:
        first, second = joined(folders, plain, task).turns
        assert first.codes is not None
        assert first.codes.codec == codec
        assert first.codes.values.dtype == np.int16
        np.testing.assert_array_equal(first.codes.values, values)
        assert second.codes is None


@FEW
@given(seed=st.integers(0, 1 << 30))
def test_values_are_found_in_any_order_with_one_row_group_in_memory(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("answers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechrows.generate.writer.ROWS_PER_FILE", 7)
        patch.setattr("speechrows.generate.writer.ROWS_PER_GROUP", 3)
        patch.setattr(join_module, "_CACHE_BYTES", 1)
        numbers = rng.sample(range(1000), 40)
        opened = GeneratedColumns.open([answers(folder, {f"c{i}/0": f"answer {i}" for i in numbers})])
        for i in rng.sample(range(1000), 200):
            (joined_turn,) = opened.attach(toy_dialogue(toy_turn(0), name=f"c{i}"), TASKS["sift_s"]).turns
            assert joined_turn.answer == (f"answer {i}" if i in numbers else None)


def test_clips_whose_hashes_are_equal_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = answers(tmp_path, {f"c{i}/0": f"answer {i}" for i in range(20)})
    monkeypatch.setattr(join_module, "hash", lambda _: 7, raising=False)
    opened = GeneratedColumns.open([folder])
    for i in (19, 0, 7):
        (joined_turn,) = opened.attach(toy_dialogue(toy_turn(0), name=f"c{i}"), TASKS["sift_s"]).turns
        assert joined_turn.answer == f"answer {i}"
    assert opened.answer("sift_s", "c20/0") == (None, False)


def test_the_digest_is_of_what_is_joined_and_of_no_path(tmp_path: Path) -> None:
    first, second = answers(tmp_path / "1", {"a/0": "x"}), answers(tmp_path / "2", {"b/0": "y"})
    copied = str(shutil.copytree(first, tmp_path / "elsewhere"))
    assert GeneratedColumns.open([first, second]).digest() == GeneratedColumns.open([second, copied]).digest()
    assert GeneratedColumns.open([first]).digest() != GeneratedColumns.open([first, second]).digest()
    other = answers(tmp_path / "3", {"a/0": "z"})
    assert GeneratedColumns.open([first]).digest() != GeneratedColumns.open([other]).digest()
    same = answers(tmp_path / "4", {"a/0": "x"}, temperature=0.1)
    assert GeneratedColumns.open([first]).digest() != GeneratedColumns.open([same]).digest()


def test_another_process_gets_the_same_columns(tmp_path: Path) -> None:
    opened = GeneratedColumns.open([answers(tmp_path, {"a/0": "x"})])
    again = pickle.loads(pickle.dumps(opened))
    assert again.answer("sift_s", "a/0") == ("x", False)
    assert again.kinds == frozenset({"sift_s"})


def test_a_clip_with_two_values_is_refused_and_both_places_are_named(tmp_path: Path) -> None:
    first = answers(tmp_path / "one", {"a/0": "x", "b/0": "y"})
    second = answers(tmp_path / "two", {"b/0": "z"}, temperature=0.1)
    with pytest.raises(UsageError, match=r"b/0: found a value of sift_s in .*/one/part.* and in .*/two/part"):
        GeneratedColumns.open([first, second])
    other = answers(tmp_path / "three", {"b/0": "z"}, "sift_ssp")
    assert GeneratedColumns.open([first, other]).kinds == {"sift_s", "sift_ssp"}


def _rewrite(folder: str, change: Any) -> None:
    path = Path(folder) / "part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def _renamed(table: pa.Table, **names: str) -> pa.Table:
    metadata = table.schema.metadata  # which renaming drops
    columns = [names.get(name, name) for name in table.column_names]
    return table.rename_columns(columns).replace_schema_metadata(metadata)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: _renamed(t, clip_id="id"),
            r"has the columns id \(string\), .*clip_id",
        ),
        (lambda t: t.drop_columns(["answer"]), "expected answer of string"),
        (lambda t: t.append_column("answer", t["answer"]), "expected answer of string"),
        (lambda t: t.set_column(1, "answer", pa.array([[1]])), r"answer \(list.* expected answer of string"),
        (
            lambda t: t.drop_columns(["answer"]).replace_schema_metadata({}),
            "clip_id and one of answer",
        ),
        (lambda t: t.append_column("units", [[[1]]]).replace_schema_metadata({}), "one of answer, codes"),
        (lambda t: t.replace_schema_metadata({"speechrows_generated": '{"kind": "poems"}'}), "holds 'poems'"),
        (
            lambda t: t.replace_schema_metadata({"speechrows_generated": '{"kind": ["mimi"]}'}),
            "holds .'mimi'",
        ),
        (
            lambda t: t.replace_schema_metadata({"speechrows_generated": '{"kind": "mi'}),
            "as its recipe, expected",
        ),
        (lambda t: t.replace_schema_metadata({"speechrows_generated": "[]"}), "as its recipe, expected"),
    ],
)
def test_columns_that_are_missing_or_renamed_are_named(tmp_path: Path, change: Any, words: str) -> None:
    folder = answers(tmp_path, {"a/0": "x"})
    _rewrite(folder, change)
    with pytest.raises(UsageError, match=words):
        GeneratedColumns.open([folder])


def test_columns_that_a_person_made_elsewhere_are_joined_and_checked_as_our_own(tmp_path: Path) -> None:
    dialogue = toy_dialogue(toy_turn(0), toy_turn(1), name="c")
    file = tmp_path / "answers.parquet"
    ids, texts = pa.array(["c/0", "c/1"], pa.large_string()), pa.array(["x", None], pa.large_string())
    pq.write_table(pa.table({"note": ["a", "b"], "clip_id": ids, "answer": texts}), file)
    for task in ("sift_s", "sit_ssp"):
        assert [turn.answer for turn in joined(str(file), dialogue, task).turns] == ["x", None]
    own = tmp_path / "codes"
    own.mkdir()
    values = pa.array([CODES.tolist(), (CODES + 1).tolist()], pa.list_(pa.list_(pa.int64())))
    pq.write_table(pa.table({"clip_id": ids, "codes": values}), own / "mine.parquet")
    opened = pickle.loads(pickle.dumps(GeneratedColumns.open([str(own), str(file)], "mimi")))
    first, second = opened.attach(dialogue, TASKS["s2s_mimi"]).turns
    assert first.codes is not None
    assert (first.codes.codec, second.codes.values.tolist()) == ("mimi", (CODES + 1).tolist())
    assert satisfies(TASKS["sift_ssp"], opened.kinds)
    with pytest.raises(UsageError, match="codec that is not told; say which: --with-codec mimi or"):
        GeneratedColumns.open([str(own)])
    pq.write_table(pa.table({"clip_id": ids, "answer": [[1], [2]]}), file)
    with pytest.raises(UsageError, match=r"answers\.parquet: found .*; expected parquet"):
        joined(str(file), dialogue, "sift_s")


def test_what_is_no_folder_of_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--with .*found no parquet"):
        GeneratedColumns.open([str(tmp_path)])
    with pytest.raises(UsageError, match="--with"):
        GeneratedColumns.open([str(tmp_path / "nowhere")])
    folder = answers(tmp_path / "broken", {"a/0": "x"})
    os.truncate(tmp_path / "broken" / "part-00000.parquet", 60)
    with pytest.raises(UsageError, match=r"part-00000\.parquet: found .*; expected parquet"):
        GeneratedColumns.open([folder])


@pytest.mark.parametrize("value", [[[1, 2], [3]], [[1, None], [2, 3]]])
def test_codes_that_are_no_table_name_their_clip(tmp_path: Path, value: Any) -> None:
    folder = codes(tmp_path, {"c/0": CODES})
    kind = pa.list_(pa.list_(pa.int16()))
    _rewrite(folder, lambda t: t.set_column(1, "codes", pa.array([value], kind)))
    with pytest.raises(UsageError, match="c/0: found codes that are no table"):
        joined(folder, toy_dialogue(toy_turn(0), name="c"), "s2s_mimi")


def test_units_that_no_row_can_hold_name_their_clip(tmp_path: Path) -> None:
    folder = codes(tmp_path, {"c/0": np.array([40_000], np.int32)}, "units", "toy")
    with pytest.raises(UsageError, match="c/0: found units that are no table"):
        joined(folder, toy_dialogue(toy_turn(0), name="c"), "usdm")


def test_what_a_task_needs_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    assert satisfies(TASKS["ttt"], frozenset())
    assert satisfies(TASKS["response"], frozenset())
    assert not satisfies(TASKS["sift_s"], frozenset({"sift_ssp", "mimi"}))
    assert satisfies(TASKS["sift_s"], frozenset({"sift_s"}))
    assert satisfies(TASKS["s2s_mimi"], frozenset({"mimi"}))
    assert not satisfies(TASKS["usdm"], frozenset({"mimi"}))
    assert how_to_make(TASKS["sift_s"], "deepdialogue_ttt") == (
        "config sift_s needs answers; make them with: speechrows generate sift --mode sift_s --source "
        "deepdialogue_ttt --data-dir DIR --out answers/sift_s, then build with --with answers/sift_s"
    )
    assert "generate mimi --source x" in how_to_make(TASKS["s2s_mimi"], "x")
    assert "generate units --model MODEL --layer N --kmeans" in how_to_make(TASKS["usdm"], "x")
    assert "does not make; choose another config" in how_to_make(TASKS["answer_extraction"], "x")


SIFTED = '''
"""The sample corpus with the configs that need answers."""
from deepdialogue_ttt import ABOUT, DeepDialogueConfig, DeepDialogueReader
from speechrows.builder import SpeechBuilder

class Sifted(SpeechBuilder):
    ABOUT = ABOUT
    READER = DeepDialogueReader
    BUILDER_CONFIG_CLASS = DeepDialogueConfig
    BUILDER_CONFIGS = [DeepDialogueConfig(name=n) for n in ("ttt", "sift_s", "s2s_mimi")]
    DEFAULT_CONFIG_NAME = "ttt"
'''


@pytest.fixture(scope="module")
def sifted(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("module") / "sifted_ttt.py"
    file.write_text(SIFTED)
    return str(file)


def test_a_build_joins_answers_to_the_clips_they_were_made_for(tmp_path: Path, sifted: str) -> None:
    clips = list(ClipSelection(address=sifted, data_dir=str(XTTS)).clips(audio=False))
    values = {clip.clip_id: f"You say: {clip.text}" for clip in clips}
    values[clips[0].clip_id] = None
    folder = answers(tmp_path / "answers", dict(reversed(values.items())))
    build_rows(XTTS, tmp_path / "rows", "sift_s", builder=sifted, generated=(folder,))
    rows = read_rows(tmp_path / "rows", "sift_s")
    assert {row["clip_id"]: row["messages"][1]["content"] for row in rows} == {
        clip_id: answer for clip_id, answer in values.items() if answer is not None
    }
    assert all(row["messages"][1]["content"] == f"You say: {row['transcript']}" for row in rows)
    again = build_rows(XTTS, tmp_path / "twice", "sift_s", builder=sifted, generated=(folder,), num_proc=2)
    assert again.left_out == {"no_answer": 1}
    assert read_rows(tmp_path / "twice", "sift_s") == rows


def test_a_build_joins_codes_too(tmp_path: Path, sifted: str) -> None:
    clips = list(ClipSelection(address=sifted, data_dir=str(XTTS)).clips(audio=False))
    values = {clip.clip_id: np.full((8, 2), i, np.int16) for i, clip in enumerate(clips)}
    folder = codes(tmp_path / "codes", values)
    build_rows(XTTS, tmp_path / "rows", "s2s_mimi", builder=sifted, generated=(folder,))
    rows = read_rows(tmp_path / "rows", "s2s_mimi")
    assert len(rows) == len(clips)
    assert all(row["codec"] == "mimi" for row in rows)
    assert all(row["codec_targets"] == values[row["clip_id"]].tolist() for row in rows)


def test_a_build_without_what_it_needs_stops_with_the_command(
    tmp_path: Path, sifted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "rows")
    assert main(["build", sifted, "sift_s", "--data-dir", str(XTTS), "--out", out]) == 2
    assert "speechrows generate sift --mode sift_s --source" in capsys.readouterr().err
    assert not (tmp_path / "rows").exists()
