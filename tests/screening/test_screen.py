"""Screening: a bad clip is found first, scores belong to their rows, and what is there is not heard again."""

import json
import shutil
import sys
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import read_rows
from toys.examples import MANY
from toys.mini_hub import MiniHub
from toys.publishing import clean  # noqa: F401  # a fixture
from toys.publishing import files_of
from toys.publishing import publish
from toys.samples import XTTS
from toys.speech_like import noise

from speechrows.cli import main
from speechrows.errors import ShortfallError
from speechrows.folder.index import Index
from speechrows.folder.layout import screen_path
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.scores import SCHEMA
from speechrows.folder.scores import scores
from speechrows.folder.scores import scores_of
from speechrows.screening import shard as shard_module
from speechrows.screening.measures import LIMITS
from speechrows.screening.measures import Measures
from speechrows.screening.measures import worst_of
from speechrows.screening.screen import screen
from speechrows.workers.local import LocalEngine

SCORES = screen_path("transcription", "train")
SAID = "I keep mixing up mitosis and meiosis, and I do not know why."
Spoil = Callable[[np.ndarray], np.ndarray]

HALF_A_MINUTE = np.zeros(24_000 * 30)

# Real speech, each clip spoiled in one way, and what has to be called its worst.
SPOILED: dict[str, tuple[str, Spoil, str]] = {
    "good": ("", lambda wave: wave, SAID),
    "cut_off": ("clipping", lambda wave: np.clip(8 * wave, -0.4, 0.4), SAID),
    "noisy": ("snr_db", lambda wave: wave + noise(wave, float(np.mean(wave**2)) / 2), SAID),
    "soft": ("level_db", lambda wave: wave / 300, SAID),
    "empty": (
        "silence",
        lambda wave: np.concatenate([np.zeros(24_000 * 30), wave, np.zeros(24_000 * 30)]),
        SAID,
    ),
    "too_much": ("speaking_rate", lambda wave: wave, SAID * 6),
    "too_little": ("speaking_rate", lambda wave: np.tile(wave, 5), "No."),
    "elsewhere": ("other_script", lambda wave: wave, "Я не знаю, зачем это нужно и почему."),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoiled")
    wave, rate_hz = soundfile.read(next(iter(sorted(XTTS.rglob("education_1_4/segments/*.wav")))))
    lines = list[str]()
    for name, (_, spoil, text) in SPOILED.items():
        soundfile.write(folder / f"{name}.wav", spoil(wave), rate_hz)
        lines.append(json.dumps({"audio": f"{name}.wav", "text": text}))
    (folder / "clips.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def spoiled(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = tmp_path_factory.mktemp("rows") / "spoiled"
    build_rows(corpus, rows, "transcription", builder="audio_table")
    return rows


@pytest.fixture
def rows(spoiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(spoiled, tmp_path / "rows"))


def table(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_what_is_bad_of_a_clip_is_named_and_comes_before_what_is_good(rows: Path) -> None:
    report = screen(str(rows), languages=["en"])
    by_row = {row["row_id"]: row for row in table(rows / SCORES)}
    names = {row["row_id"]: Path(row["source"]).stem for row in read_rows(rows, "transcription")}
    found = {names[row_id]: row["worst"] for row_id, row in by_row.items() if row["badness"] >= 0.3}
    assert found == {name: worst for name, (worst, _, _) in SPOILED.items() if worst}
    assert [row["badness"] for row in report.worst] == sorted(
        (r["badness"] for r in report.worst), reverse=True
    )
    assert "good" not in [names[row["row_id"]] for row in report.worst[: len(SPOILED) - 1]]
    assert f"{len(SPOILED)} rows screened" in str(report)
    assert "letters are of another script" in str(report)


def test_scores_stand_in_the_order_of_the_index_and_are_never_no_number(rows: Path) -> None:
    screen(str(rows))
    folder = RowsFolder.open(rows)
    stored = scores(folder, "transcription", "train")
    assert stored is not None
    assert stored.schema.equals(SCHEMA)
    assert (
        stored["row_id"].to_pylist()
        == folder.index("transcription", "train", ["row_id"])["row_id"].to_pylist()
    )
    for name in SCHEMA.names:
        if pa.types.is_floating(SCHEMA.field(name).type):
            values = stored[name].drop_null().to_numpy()
            assert np.isfinite(values).all()
            assert stored[name].null_count == (len(stored) if name == "wer" else 0)


def test_datasets_takes_no_score_for_a_row_and_publish_carries_them(rows: Path, hub: MiniHub) -> None:
    screen(str(rows))
    dataset = load_dataset(str(rows), "transcription", split="train", streaming=True)
    assert len([*dataset.decode(False)]) == len(SPOILED)
    everything = load_dataset(str(rows), streaming=True)
    assert {split: len([*part.decode(False)]) for split, part in everything.items()} == {
        "train": len(SPOILED)
    }
    publish(rows)
    assert files_of(hub)[SCORES] == (rows / SCORES).read_bytes()
    assert main(["check-viewer", "org/rows"]) == 0
    remote = scores(RowsFolder.open("org/rows"), "transcription", "train")
    assert remote == pq.read_table(rows / SCORES)


def test_scores_follow_the_rows_of_any_config(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path, "ttt", shard_bytes=1, audio_tokens_per_second="1000")
    folder = RowsFolder.open(tmp_path)
    assert scores_of(folder, Index.open(folder, "ttt")) is None
    screen(str(tmp_path))
    sizes = set[int]()
    for config in ("ttt", "stage_1", "stage_4"):
        index = Index.open(folder, config)
        stored = scores_of(folder, index, ["row_id"])
        assert stored is not None
        assert stored["row_id"].to_pylist() == index.row_ids(range(len(index)))
        sizes.add(len(index))
    assert len(sizes) > 1, "a stage is a part of them"


def test_scores_of_other_rows_are_refused(rows: Path, corpus: Path, tmp_path: Path) -> None:
    screen(str(rows))
    kept = (rows / SCORES).read_bytes()
    build_rows(corpus, rows, "transcription", builder="audio_table", overwrite=True, validation_fraction=0.4)
    assert not (rows / SCORES).exists(), "an overwritten task's scores go with it"
    (rows / SCORES).parent.mkdir(parents=True)
    (rows / SCORES).write_bytes(kept)
    with pytest.raises(ShortfallError, match="scores of other rows"):
        scores(RowsFolder.open(rows), "transcription", "train")
    with pytest.raises(ShortfallError, match="Run `speechrows screen` again"):
        publish(rows)
    screen(str(rows))
    assert scores(RowsFolder.open(rows), "transcription", "train") is not None


def screened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of shards that are screened from now on."""
    heard = list[str]()
    screen_shard = shard_module.Screener.screen

    def note(self: shard_module.Screener, shard: Any) -> int:
        heard.append(shard.path)
        return screen_shard(self, shard)

    monkeypatch.setattr(shard_module.Screener, "screen", note)
    return heard


def test_only_what_changed_is_heard_again_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows"
    build_rows(XTTS, rows, shard_bytes=1)
    path = rows / screen_path("ttt", "train")
    shards = [shard.path for shard in RowsFolder.open(rows).index_facts("ttt", "train").shards]
    assert len(shards) == 4

    class StoppedError(Exception): ...

    heard = screened(monkeypatch)
    screen_shard = shard_module.Screener.screen

    def stop(self: shard_module.Screener, shard: Any) -> int:
        if len(heard) == 2:
            raise StoppedError
        return screen_shard(self, shard)

    monkeypatch.setattr(shard_module.Screener, "screen", stop)
    with pytest.raises(StoppedError):
        screen(str(rows))
    assert not path.exists(), "whole, or not at all"
    monkeypatch.setattr(shard_module.Screener, "screen", screen_shard)
    screen(str(rows))
    assert heard == shards, "each once"
    first, kept = path.read_bytes(), heard.copy()
    assert screen(str(rows)).num_kept == 17
    assert heard == kept
    assert path.read_bytes() == first
    stored = pq.read_table(path)
    facts = json.loads(stored.schema.metadata[b"speechrows_screen"])
    facts["shards"][1][3] = "of an earlier build"
    with pq.ParquetWriter(
        path, stored.schema.with_metadata({"speechrows_screen": json.dumps(facts)})
    ) as writer:
        at = 0
        for _, number, *_ in facts["shards"]:
            writer.write_table(stored.slice(at, number).replace_schema_metadata(writer.schema.metadata))
            at += number
    screen(str(rows))
    assert heard == [*kept, shards[1]]
    assert pq.read_table(path) == stored
    screen(str(rows), languages=["ru"])
    assert len(heard) == len(kept) + 1 + len(shards), "for other languages: all of them, their texts alone"


class OneWordTooMany:
    """A recogniser that hears each clip's words, and one too many; it counts what it heard."""

    clips = 0

    def __init__(self, folder: str, language: str | None) -> None:
        self.extra = f"{Path(folder).name} {language}"

    def hear(self, data: bytes | memoryview, text: str) -> tuple[float, str]:
        assert len(data)
        OneWordTooMany.clips += 1
        return 1 / len(text.split()), f"{text} {self.extra}"


def test_other_languages_or_another_recogniser_keep_what_does_not_depend_on_them(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("base", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(name.encode())
    module = SimpleNamespace(Hearing=OneWordTooMany)  # the real one needs faster-whisper, and a model
    monkeypatch.setitem(sys.modules, "speechrows.screening.hearing", module)  # type: ignore[arg-type]
    base, large = (str(tmp_path / name) for name in ("base", "large"))

    def screened_with(
        languages: Sequence[str], asr: str | None, *, overwrite: bool = False
    ) -> tuple[bytes, int]:
        OneWordTooMany.clips = 0
        screen(str(rows), languages=languages, asr=asr, overwrite=overwrite)
        return (rows / SCORES).read_bytes(), OneWordTooMany.clips

    def must_not_decode(*_: Any) -> Any:
        raise AssertionError("a clip was measured again")

    fresh = {
        key: screened_with(*key, overwrite=True)[0]
        for key in ((("en",), None), (("en",), base), (("ru",), base), (("en", "ru"), large))
    }
    screened_with(("en",), None, overwrite=True)
    monkeypatch.setattr(shard_module, "measures_of", must_not_decode)
    assert screened_with(("en",), base) == (fresh[("en",), base], len(SPOILED))
    assert screened_with(("en",), base) == (fresh[("en",), base], 0)
    assert screened_with(("en",), None) == (fresh[("en",), base], 0), "without --asr, too"
    assert screened_with(("ru",), base) == (fresh[("ru",), base], len(SPOILED)), "heard in another language"
    assert screened_with(("en", "ru"), large) == (fresh[("en", "ru"), large], len(SPOILED))

    assert main(["screen", str(rows), "--language", "en"]) == 2, "heard in any language"
    error = capsys.readouterr().err
    assert f"found word error rates by large, 5 bytes, and {len(SPOILED)} rows without, or heard in" in error
    assert "expected --asr MODEL, or --overwrite, which drops all scores" in error
    assert (rows / SCORES).read_bytes() == fresh[("en", "ru"), large]


def test_a_stopped_run_goes_on_with_other_languages_from_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows"
    build_rows(XTTS, rows, shard_bytes=1)
    screen(str(rows), languages=["ru"])
    expected = (rows / screen_path("ttt", "train")).read_bytes()
    (rows / screen_path("ttt", "train")).unlink()
    measured, measure = list[int](), shard_module.measures_of

    def stop_after(most: int) -> Callable[..., Any]:
        def measure_some(*arguments: Any) -> Any:
            if len(measured) == most:
                raise KeyboardInterrupt
            measured.append(1)
            return measure(*arguments)

        return measure_some

    monkeypatch.setattr(shard_module, "measures_of", stop_after(10))
    with pytest.raises(KeyboardInterrupt):
        screen(str(rows), languages=["en"])
    in_parts = sum(pq.read_metadata(part).num_rows for part in (rows / ".build" / "screen").glob("*.parquet"))
    assert in_parts
    measured.clear()
    monkeypatch.setattr(shard_module, "measures_of", stop_after(17))
    screen(str(rows), languages=["ru"])
    assert len(measured) == 17 - in_parts
    assert (rows / screen_path("ttt", "train")).read_bytes() == expected


def test_processes_change_no_byte_and_a_file_of_ones_own_has_all_tasks(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    build_rows(XTTS, rows, "ttt", shard_bytes=1)
    build_rows(XTTS, rows, "transcription", shard_bytes=1)
    screen(str(rows))
    screen(str(rows), out=tmp_path / "all.parquet", engine=LocalEngine(num_proc=2))
    together = pq.read_table(tmp_path / "all.parquet")
    apart = [pq.read_table(rows / screen_path(task, "train")) for task in ("transcription", "ttt")]
    assert together == pa.concat_tables(apart)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not (rows / ".build" / "screen").exists()


def test_rows_of_text_alone_have_scores_of_their_text(tmp_path: Path) -> None:
    chats = Path(__file__).parents[2] / "samples" / "chats"
    build_rows(chats, tmp_path / "rows", "chat", builder="chat_json")
    screen(str(tmp_path / "rows"))
    texts = {row["row_id"] for row in read_rows(tmp_path / "rows", "chat") if row["audio"] is None}
    assert texts
    for row in table(tmp_path / "rows" / screen_path("chat", "train")):
        assert (row["silence"] is None) == (row["row_id"] in texts)
        assert row["speaking_rate"] is None, "nobody knows what is said in these clips"
        assert row["script"] == ("LATIN" if row["row_id"] in texts else "")
        assert 0 <= row["badness"] <= 1


@MANY
@given(name=st.sampled_from(sorted(LIMITS)), value=st.floats(-200, 200))
def test_badness_is_from_0_to_1_and_names_its_measure(name: str, value: float) -> None:
    worst, badness = worst_of(Measures(**{name: value}))
    assert 0 <= badness <= 1
    assert worst == (name if badness else "")
    for fine, terrible in LIMITS[name]:
        assert worst_of(Measures(**{name: terrible})) == (name, 1.0)
        assert worst_of(Measures(**{name: fine})) == ("", 0.0)


def test_a_clip_that_does_not_decode_is_the_worst() -> None:
    assert worst_of(Measures(is_undecodable=True, other_script=1.0)) == ("audio", 1.0)


def test_wrong_calls_are_told_in_a_line(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / ".build").mkdir(parents=True)
    (tmp_path / "begun" / ".build" / "recipe.json").write_text(
        '{"builder": "audio_table", "tasks": {"ttt": {}}}'
    )
    for arguments, words in (
        ([str(tmp_path / "none")], "no such"),
        ([str(tmp_path / "empty")], "found no index"),
        ([str(tmp_path / "begun")], "unfinished build of audio_table ttt"),
        ([str(rows), "--out", "scores.csv"], "ends with .parquet"),
        ([str(rows), "--num-proc", "0"], "expected at least 1"),
        ([str(rows), "--worst", "-1"], "expected 0 or more"),
    ):
        assert main(["screen", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
