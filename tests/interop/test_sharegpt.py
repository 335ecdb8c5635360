"""What `export sharegpt` writes, LLaMA-Factory and our own chat_json read as the same chats."""

import json
from pathlib import Path
from typing import Any

import pytest
from toys.building import build_rows
from toys.building import read_rows
from toys.llamafactory import read_chats
from toys.samples import SAMPLE_OF
from toys.talks import build_talks
from toys.talks import clip_of

from speechrows.cli import main
from speechrows.interop.options import ShareGptOptions
from speechrows.interop.sharegpt import export


def chats_of(out: Path, split: str = "train") -> dict[str, tuple[list[str], list[str]]]:
    """The messages of each chat, and the names of its clips."""
    lines = (out / f"{split}.jsonl").read_text("utf-8").splitlines()
    return {
        chat["id"].rpartition("/")[2]: (
            [f"{message['role']}: {message['content']}" for message in chat["messages"]],
            chat["audios"],
        )
        for chat in map(json.loads, lines)
    }


def test_chat_json_reads_equal_rows_back(tmp_path: Path) -> None:
    build_rows(SAMPLE_OF["chat_json"], tmp_path / "rows", "chat", builder="chat_json")
    export(str(tmp_path / "rows"), tmp_path / "out", ShareGptOptions(answer_audio=True))
    build_rows(tmp_path / "out", tmp_path / "again", "chat", builder="chat_json")

    def facts(rows: Path) -> list[Any]:
        return [
            {
                **{
                    name: value
                    for name, value in row.items()
                    if not name.endswith("_id") and name != "source"
                },
                **{name: row[name] and row[name]["bytes"] for name in ("audio", "target_audio")},
                "clip_id": row["clip_id"].rpartition("chats/train/")[2],
            }
            for row in read_rows(rows, "chat")
        ]

    assert facts(tmp_path / "again") == facts(tmp_path / "rows")


def test_turns_alternate_from_the_users_first_to_the_last_answer(tmp_path: Path) -> None:
    rows = build_talks(tmp_path)
    export(rows, tmp_path / "out", ShareGptOptions(spelled="replace"))
    chats = chats_of(tmp_path / "out")
    assert {name: said for name, (said, _) in chats.items()} == {
        "plain": ["user: <audio>", "assistant: Hello.", "user: <audio>", "assistant: Well."],
        "begins.with.an.answer": ["user: <audio>\n<audio>", "assistant: Good."],
        "spells": ["user: <audio>", "assistant: A tag, as [image] is."],
        "last": ["user: <audio>", "assistant: The end."],
    }
    clips = [tmp_path / "out" / path for path in chats["begins.with.an.answer"][1]]
    assert [clip.read_bytes() for clip in clips] == [
        clip_of("begins.with.an.answer", turn).read_bytes() for turn in (1, 2)
    ]
    (split,) = json.loads((tmp_path / "out.export.json").read_text("utf-8"))["splits"].values()
    assert split["changes"] == {
        "answers' clips not written": 5,
        "conversations left out: no answer to a user": 1,
        "turns joined to the one before, of the same side": 1,
        "turns left out: after the last answer": 1,
        "turns left out: before the user's first": 2,
        "words replaced: <audio>, <image> or <video>": 1,
    }


def test_words_that_spell_a_placeholder_are_refused_or_replaced_and_counted(tmp_path: Path) -> None:
    rows = build_talks(tmp_path, "response")
    refused = export(rows, tmp_path / "refused", ShareGptOptions())
    assert "spells" not in chats_of(tmp_path / "refused")
    assert "  conversations left out: words spell <audio>, <image> or <video>: 1" in refused
    export(rows, tmp_path / "replaced", ShareGptOptions(spelled="replace", answer_audio=True))
    said, clips = chats_of(tmp_path / "replaced")["spells"]
    assert said == ["user: <audio>", "assistant: <audio>A tag, as [image] is."]
    assert len(clips) == 2


def test_names_of_clips_are_unique_over_the_whole_export(tmp_path: Path) -> None:
    rows = build_talks(tmp_path, "response")
    export(rows, tmp_path / "out", ShareGptOptions(spelled="replace", answer_audio=True))
    listed = [path for _, clips in chats_of(tmp_path / "out").values() for path in clips]
    assert len({Path(path).stem for path in listed}) == len(listed) == 10
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out/audio").rglob("*.*")}
    assert files == {*listed}


def test_llama_factory_reads_the_same_chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = build_talks(tmp_path)
    export(rows, tmp_path / "out", ShareGptOptions(spelled="replace"))
    read = read_chats(tmp_path / "out", "train", monkeypatch)
    written = [*chats_of(tmp_path / "out").values()]
    assert [
        [f"{message['role']}: {message['content']}" for message in chat["_prompt"] + chat["_response"]]
        for chat in read
    ] == [said for said, _ in written]
    for chat, (_, clips) in zip(read, written, strict=True):
        assert chat["_audios"] == [str(tmp_path / "out" / clip) for clip in clips]
        assert all(Path(clip).is_file() for clip in chat["_audios"])


def test_the_command_takes_the_flags_of_its_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_rows(SAMPLE_OF["chat_json"], tmp_path / "rows", "chat", builder="chat_json")
    words = ["export", "sharegpt", str(tmp_path / "rows"), "--out", str(tmp_path / "out"), "--config", "chat"]
    assert main([*words, "--answer-audio"]) == 0
    assert f"summary: {tmp_path / 'out.export.json'}" in capsys.readouterr().out
    assert main([*words[:-1], "chats"]) == 2
    assert "did you mean chat?" in capsys.readouterr().err
