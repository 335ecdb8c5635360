"""Where `generate` takes clips from: a corpus, a built folder, any parquet, here and on the Hub."""

import io
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from toys.audio import wav
from toys.building import build_rows
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.mini_hub import MiniHub
from toys.samples import SAMPLE_OF
from toys.samples import XTTS

from speechrows.cli import main
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.generate.clip import InputClip
from speechrows.generate.selection import ClipSelection

BYTES = wav(bytes(3200), 16000)


def facts(clips: list[InputClip]) -> dict[str, tuple[Any, ...]]:
    """What a source says of each clip, but for what only rows know."""
    assert len({clip.clip_id for clip in clips}) == len(clips)
    return {
        clip.clip_id: (clip.text, clip.traits, bytes(clip.audio.load()) if clip.audio else None)
        for clip in clips
    }


def table(folder: Path, name: str = "a.parquet", **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "rows"
    build_rows(XTTS, out, "ttt", validation_fraction=0.4)
    build_rows(XTTS, out, "transcription", validation_fraction=0.4)
    return out


def test_a_corpus_and_the_rows_built_of_it_give_the_same_clips(built: Path) -> None:
    corpus = facts(list(ClipSelection(address="deepdialogue_ttt", data_dir=str(XTTS)).clips(audio=True)))
    rows = facts(list(ClipSelection(address=str(built)).clips(audio=True)))
    assert rows == corpus
    assert len(corpus) == 17, "rows of two tasks share their clips"
    text, traits, data = corpus["deepdialogue-xtts/dialogues_llama3-8B_cohere7B/health_2_4/0"]
    assert (text, traits.emotion) == ("I have not slept well for a week.", "sad")
    assert soundfile.read(io.BytesIO(data))[1] == 24000


def test_the_channel_that_a_build_keeps_is_the_one_that_is_generated_from(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=1, turns=2, seconds=0.2)
    for file in corpus.rglob("*.wav"):
        samples, rate = soundfile.read(file)
        soundfile.write(file, np.stack([samples, -samples], 1), rate)
    build_rows(corpus, tmp_path / "rows", channel="right")
    rows, chosen = read_rows(tmp_path / "rows"), ("channel=1",)
    for row, file in zip(rows, sorted(corpus.rglob("*.wav")), strict=True):
        stored, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
        assert np.array_equal(stored, soundfile.read(file)[0][:, 1])
    clips = ClipSelection(address="deepdialogue_ttt", data_dir=str(corpus), settings=chosen).clips(audio=True)
    assert [bytes(clip.audio.load()) for clip in clips] == [row["audio"]["bytes"] for row in rows]
    published = build_rows(corpus, tmp_path / "mean"), build_rows(corpus, tmp_path / "mean", channel="mean")
    assert published[0] == published[1]
    assert read_rows(tmp_path / "mean")[0]["audio"]["bytes"] == min(corpus.rglob("*.wav")).read_bytes()
    with pytest.raises(UsageError, match="channel: found 'centre', expected mean, left, right or a number"):
        build_rows(corpus, tmp_path / "rows", channel="centre")


def test_rows_know_the_length_of_their_clips(built: Path) -> None:
    for clip in ClipSelection(address=str(built)).clips(audio=True):
        assert clip.audio is not None
        with soundfile.SoundFile(io.BytesIO(bytes(clip.audio.load()))) as file:
            assert (clip.num_samples, clip.sampling_rate) == (file.frames, file.samplerate)


def test_without_audio_no_audio_is_read(built: Path, tmp_path: Path) -> None:
    corpus = shutil.copytree(XTTS, tmp_path / "corpus")
    for clip in corpus.rglob("*.wav"):
        clip.write_bytes(b"")
    clips = list(ClipSelection(address="deepdialogue_ttt", data_dir=str(corpus)).clips(audio=False))
    assert len(clips) == 17
    assert all(clip.audio is None for clip in clips)
    assert all(clip.audio is None for clip in ClipSelection(address=str(built)).clips(audio=False))


def test_a_split_is_that_split_alone(built: Path) -> None:
    parts = [
        {c.clip_id for c in ClipSelection(address=str(built), split=s).clips(audio=False)}
        for s in ("train", "validation")
    ]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 17
    with pytest.raises(UsageError, match="no parquet of split test"):
        list(ClipSelection(address=str(built), split="test").clips(audio=False))


def test_the_share_of_the_source_grows_to_its_end(built: Path) -> None:
    for source in (
        ClipSelection(address=str(built)),
        ClipSelection(address="deepdialogue_ttt", data_dir=str(XTTS)),
    ):
        shares = [clip.share for clip in source.clips(audio=False)]
        positive = [share for share in shares if share is not None]
        assert positive == sorted(positive)
        assert 0 < positive[0] < positive[-1] <= 1


def test_faulty_turns_are_not_among_the_clips_and_bad_audio_says_why(tmp_path: Path) -> None:
    corpus = shutil.copytree(XTTS, tmp_path / "corpus")
    folder = corpus / "data" / "dialogues_llama3-8B_cohere7B" / "health_2_4" / "segments"
    missing, short, *_ = sorted(folder.glob("*.wav"))
    missing.unlink()
    short.write_bytes(short.read_bytes()[:2000])
    clips = list(ClipSelection(address="deepdialogue_ttt", data_dir=str(corpus)).clips(audio=True))
    assert len(clips) == 16
    with pytest.raises(BadClipError, match="truncated"):
        clips[0].audio.load()  # pyright: ignore[reportOptionalMemberAccess]


def test_any_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "c.wav").write_bytes(BYTES)
    table(
        tmp_path,
        key=["x", "y", "z"],
        said=["Hello", "Bye", None],
        sound=[
            {"bytes": BYTES, "path": "a.wav"},
            {"bytes": None, "path": "c.wav"},
            {"bytes": None, "path": None},
        ],
        emotion=["Anger", "confused", None],
        gender=["m", "F", ""],
    )
    selection = ClipSelection(
        address=str(tmp_path), id_column="key", text_column="said", audio_column="sound"
    )
    first, second, third = selection.clips(audio=True)
    assert (first.clip_id, first.text, first.traits.emotion, first.traits.gender) == (
        "x",
        "Hello",
        "angry",
        "male",
    )
    assert (second.text, second.traits.emotion, third.text) == ("Bye", None, "")
    for clip in (first, second):
        assert clip.audio is not None
        assert bytes(clip.audio.load()) == BYTES
    assert third.audio is not None
    with pytest.raises(BadClipError, match="found no bytes"):
        third.audio.load()


def test_a_path_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(BYTES)
    folder = table(
        tmp_path / "in", clip_id=["x"], text=["a"], audio=[{"bytes": None, "path": "../secret.wav"}]
    )
    (clip,) = ClipSelection(address=str(folder)).clips(audio=True)
    assert clip.audio is not None
    with pytest.raises(BadClipError):
        clip.audio.load()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"id": ["x"], "text": ["a"]},
            r"has the columns id, text; expected one called clip_id.*--id",
        ),
        ({"clip_id": ["x"], "sentence": ["a"]}, "expected one called text. Name yours with --text-column"),
        (
            {"clip_id": ["x"], "text": ["a"], "wav": [b""]},
            "expected one called audio. Name yours with --audio",
        ),
        ({"clip_id": ["x"], "text": [1], "audio": [b""]}, "found int64 in column text, expected strings"),
        ({"clip_id": ["x"], "text": ["a"], "audio": [[0.1]]}, r"found list.*expected bytes"),
        ({"clip_id": [None], "text": ["a"], "audio": [b""]}, "row 1: found no id"),
        (
            {"clip_id": ["x", "x"], "text": ["a", "b"], "audio": [b"", b""]},
            "found 'x' twice; expected one",
        ),
    ],
)
def test_columns_that_are_not_there_or_no_good_are_named(tmp_path: Path, columns: Any, words: str) -> None:
    table(tmp_path, **columns)
    with pytest.raises(UsageError, match=words):
        list(ClipSelection(address=str(tmp_path)).clips(audio=True))


def test_parquet_that_breaks_off_is_refused_by_name(tmp_path: Path) -> None:
    table(tmp_path, clip_id=["x"], text=["a"])
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(UsageError, match=r"a\.parquet: found .*expected parquet"):
        list(ClipSelection(address=str(tmp_path)).clips(audio=False))


def test_a_data_set_of_the_hub_is_read_like_a_folder(hub: MiniHub, built: Path) -> None:
    from huggingface_hub import HfApi  # noqa: PLC0415

    HfApi().create_repo("org/rows_for_generate", repo_type="dataset", exist_ok=True)
    HfApi().upload_folder(
        repo_id="org/rows_for_generate", repo_type="dataset", folder_path=built, ignore_patterns=[".build/*"]
    )
    clips = facts(list(ClipSelection(address="org/rows_for_generate").clips(audio=True)))
    assert clips == facts(list(ClipSelection(address=str(built)).clips(audio=True)))


def test_a_builders_flags_are_settings(tmp_path: Path) -> None:
    selection = ClipSelection(address="deepdialogue_ttt", data_dir=str(XTTS), settings=("swap-roles=true",))
    assert len(list(selection.clips(audio=False))) == 17
    for settings, words in [
        (("swap=1",), "NAME of .*swap-roles"),
        (("swap-roles",), "expected NAME=VALUE"),
    ]:
        with pytest.raises(UsageError, match=words):
            ClipSelection(address="deepdialogue_ttt", data_dir=str(XTTS), settings=settings).clips(
                audio=False
            )
    with pytest.raises(UsageError, match=r"has no config 'poems'"):
        ClipSelection(address="deepdialogue_ttt", data_dir=str(XTTS), config="poems").clips(audio=False)


def test_a_source_that_is_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("no_such_module", str(tmp_path / "nowhere")):
        arguments = ["--mode", "sift_s", "--source", address, "--out", str(tmp_path / "out")]
        assert main(["generate", "sift", "--endpoint", "http://127.0.0.1:9/v1", *arguments]) == 2
        error = capsys.readouterr().err
        assert f"--source {address}: no such folder" in error
        assert "nor a builder; expected a built folder, org/name" in error
    assert not (tmp_path / "out").exists(), "nothing is left behind"
    with pytest.raises(UsageError, match="expected DeepDialogue as it is published"):
        list(ClipSelection(address="deepdialogue_ttt", data_dir=str(tmp_path)).clips(audio=False))


def test_archives_of_a_remote_corpus_are_streamed_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """`generate` reads a corpus as `build` does: what a unit says it opens itself is never held whole."""
    memory = fsspec.filesystem("memory")
    memory.put(str(SAMPLE_OF["omni_tasks"]), "/streamed", recursive=True)
    fetched: list[str] = []
    monkeypatch.setattr(type(memory), "cat_file", lambda _, path, **__: fetched.append(path) or b"")
    try:
        clips = list(
            ClipSelection(address="omni_tasks", data_dir="memory://streamed", config="sift_s").clips(
                audio=True
            )
        )
        assert clips
        assert all(clip.audio is not None and len(clip.audio.load()) > 44 for clip in clips)
    finally:
        memory.rm("/streamed", recursive=True)
    assert fetched == []
