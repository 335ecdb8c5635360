"""Chats of anyone's: the usual shapes give the same rows, and what is wrong with one costs that one."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import open_reader
from toys.building import read_corpus
from toys.building import read_rows
from toys.building import read_skipped
from toys.examples import MANY
from toys.samples import SAMPLE_OF

import speechrows
from chat_json import ChatJson
from speechrows.corpora.chats import ChatError
from speechrows.corpora.chats import files
from speechrows.corpora.chats import parse_chat
from speechrows.errors import UsageError
from speechrows.folder.show import show
from speechrows.types import IGNORE_INDEX
from speechrows.types import Dialogue
from speechrows.types import UnreadableFile
from speechrows.validation.validate import validate

CHATS = SAMPLE_OF["chat_json"]
HEARD, SPOKEN = "clips/sleep.opus", "clips/mind.opus"


def read(folder: Path, **flags: Any) -> list[Any]:
    """What is read of a folder of chats, as plain values."""
    values = list[Any]()
    for item in read_corpus(ChatJson, folder, "chat", **flags):
        if not isinstance(item, Dialogue):
            values.append((item.file, item.detail))
            continue
        spoken = [
            (turn.role, turn.message, turn.text, turn.audio and turn.audio.path, turn.fault)
            for turn in item.turns
        ]
        values.append((item.conversation_id.rpartition("/")[2], item.split, item.system, spoken))
    return values


def folder_of(place: Path, *records: Any, name: str = "talks.jsonl", as_array: bool = False) -> Path:
    """A folder of chats beside the sample's clips."""
    shutil.copytree(CHATS / "clips", place / "clips", dirs_exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    text = f"[{', '.join(lines)}]" if as_array else "\n".join(lines)
    (place / name).write_text(text + "\n", "utf-8")
    return place


_HEARD_PARTS = [{"type": "text", "text": "Hear: "}, {"type": "audio", "audio": HEARD}]
_PLACED = {"user": "Hear: <audio>", "assistant": "<audio>I am sorry."}
SHAPES = {
    "messages": {
        "system": "Be kind.",
        "messages": [{"role": role, "content": text} for role, text in _PLACED.items()],
        "audios": [HEARD, SPOKEN],
    },
    "sharegpt": {
        "conversations": [
            {"from": "system", "value": "Be kind."},
            {"from": "human", "value": "Hear: <sound>"},
            {"from": "gpt", "value": "<sound>I am sorry."},
        ],
        "sounds": [HEARD, SPOKEN],
    },
    "typed parts": {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": _HEARD_PARTS},
            {
                "role": "assistant",
                "content": [
                    {"type": "audio_url", "audio_url": {"url": SPOKEN}},
                    {"type": "text", "text": "I am sorry."},
                ],
            },
        ]
    },
}  # fmt: skip


def test_every_usual_shape_gives_the_same_chat(tmp_path: Path) -> None:
    for as_array in (False, True):
        records = [{"id": name, **record} for name, record in SHAPES.items()]
        folder = folder_of(tmp_path, *records, as_array=as_array, name="talks.json")
        assert read(folder) == [
            (
                name,
                "train",
                "Be kind.",
                [
                    ("user", "Hear: <audio>", "", HEARD, None),
                    ("assistant", "<audio>", "I am sorry.", SPOKEN, None),
                ],
            )
            for name in SHAPES
        ]


def test_the_sample_becomes_rows_of_sound_and_of_text_that_validate_and_load(tmp_path: Path) -> None:
    summary = build_rows(CHATS, tmp_path, "chat", builder="chat_json")
    rows = read_rows(tmp_path, "chat")
    assert (summary.items, summary.rows, len(rows)) == (5, 5, 5)
    said = {row["clip_id"].rpartition("chats/train/")[2]: row for row in rows}
    assert {name: row["messages"][0]["content"] for name, row in said.items()} == {
        "sleep/0": "<audio>",
        "sleep/2": "Work, mostly. What helps?",
        "station/0": "<audio>What did they miss?",
        "sums/0": "What is two and two?",
        "sums/2": "And one more?",
    }
    assert {name for name, row in said.items() if row["audio"]} == {"sleep/0", "station/0"}
    assert {name for name, row in said.items() if row["target_audio"]} == {"sleep/0"}
    assert said["sleep/0"]["audio"]["bytes"] == (CHATS / HEARD).read_bytes()
    text = said["sums/2"]
    assert (text["sampling_rate"], text["num_samples"], text["transcript"]) == (None, None, "")
    assert text["source"] == "chats/talks.jsonl:3"
    assert validate(str(tmp_path)).ok
    assert "user: 'And one more?'" in show(str(tmp_path), text["row_id"])
    for options in ({"mode": "pack"}, {"mode": "lanes"}):
        (batch,) = speechrows.load(str(tmp_path), "chat", context=1024, batch_size=1, **options)
        supervised = sum(label != IGNORE_INDEX for row in rows for label in row["labels"])
        assert (len(batch), len(batch.clips()), batch.num_supervised) == (5, 2, supervised)


def test_messages_of_one_side_that_follow_one_another_are_one() -> None:
    record = [("user", "<audio>"), ("user", "Hear it."), ("assistant", "Yes."), ("assistant", "I do.")]
    chat = parse_chat(
        {"messages": [{"role": role, "content": text} for role, text in record], "audio": "a.wav"}
    )
    assert [(m.role, m.text, m.clips) for m in chat.messages] == [
        ("user", "<audio>\nHear it.", ("a.wav",)),
        ("assistant", "Yes.\nI do.", ()),
    ]


def test_one_clip_without_a_placeholder_stands_before_the_users_first_words_as_in_ms_swift() -> None:
    record = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Say it."}]}
    chat = parse_chat({**record, "audios": ["a.wav"]})
    assert [(m.text, m.clips) for m in chat.messages] == [("<audio>Say it.", ("a.wav",))]
    with pytest.raises(ChatError, match="found 2 clips and 0 placeholders, expected one for each"):
        parse_chat({**record, "audios": ["a.wav", "b.wav"]})


def test_a_clip_may_come_as_bytes_in_the_record(tmp_path: Path) -> None:
    data = (CHATS / HEARD).read_bytes()
    clip = {"data": base64.b64encode(data).decode(), "format": "ogg"}
    question = {"role": "user", "content": [{"type": "input_audio", "input_audio": clip}]}
    record = {"messages": [question, {"role": "assistant", "content": "Yes."}]}
    build_rows(folder_of(tmp_path / "chats", record), tmp_path / "rows", "chat", builder="chat_json")
    (row,) = read_rows(tmp_path / "rows", "chat")
    assert row["audio"]["bytes"] == data


FAULTS = {
    "two clips": ({"content": "<audio> <audio>", "audios": [HEARD, SPOKEN]}, "metadata_disagrees", "2 clips"),
    "no clip": ({"content": "<audio>"}, "bad_text", "<audio> 1 times in '<audio>', expected it 0 times"),
    "a clip that is gone": ({"content": "<audio>", "audios": ["clips/none.wav"]}, "missing", "no such file"),
    "a clip elsewhere": ({"content": "<audio>", "audios": ["../x.wav"]}, "refused_path", "give --audio-root"),
    "an empty answer": ({"content": "Hello", "answer": " "}, "empty_text", "the text is empty"),
    "an empty question": ({"content": " "}, "empty_text", "the text is empty"),
    "no answer": ({"content": "Hello", "answer": None}, None, ""),
}  # fmt: skip
LINES = {
    "half a line": ('{"messages": [{"ro', "Unterminated string"),
    "no object": ("[1, 2]", r"found '\[1, 2\]', expected a JSON object"),
    "no messages": ({"text": "Hello"}, "found the keys 'text', expected a list of messages"),
    "another role": ({"messages": [{"role": "tool", "content": "x"}]}, "found role 'tool' of message 0"),
    "a picture": ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "a part of type 'image'"),
    "no text": ({"messages": [{"role": "user", "content": 7}]}, "found 7 in message 0"),
    "a spelled token": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "<audio>"}]}]},
        "spelled in a part of text",
    ),
    "a late system prompt": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
        "expected it to be the first",
    ),
    "no base64": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "%"}}]}]},
        "no base64",
    ),
}


def test_what_is_wrong_with_a_chat_is_counted_at_its_line_and_the_others_become_rows(tmp_path: Path) -> None:
    records = list[Any]()
    for name, (change, _, _) in FAULTS.items():
        messages = [{"role": "user", "content": change["content"]}]
        if change.get("answer", "Yes.") is not None:
            messages.append({"role": "assistant", "content": change.get("answer", "Yes.")})
        records.append({"id": name, "messages": messages, "audios": change.get("audios", [])})
    records += [record for record, _ in LINES.values()]
    folder = folder_of(tmp_path / "chats", *records)
    good = json.loads((CHATS / "talks.jsonl").read_text("utf-8").splitlines()[2])
    (folder / "more.jsonl").write_text(json.dumps(good), "utf-8")
    (folder / "notes.json").write_text('{"an": "object"}', "utf-8")
    build_rows(folder, tmp_path / "rows", "chat", builder="chat_json")
    skipped = read_skipped(tmp_path / "rows")
    assert [row["clip_id"].split("/")[2] for row in read_rows(tmp_path / "rows", "chat")] == ["sums", "sums"]
    by_name = {fault["clip_id"].split("/")[2]: fault for fault in skipped if fault["clip_id"]}
    for name, (_, reason, detail) in FAULTS.items():
        if reason is None:  # a rule, counted
            assert name not in by_name
        else:
            assert by_name[name]["reason"] == reason
            assert detail in by_name[name]["detail"]
    by_line = {fault["file"]: fault["detail"] for fault in skipped if not fault["clip_id"]}
    for line, (name, (_, detail)) in enumerate(LINES.items(), len(FAULTS) + 1):
        assert re.search(detail, by_line[f"talks.jsonl:{line}"]), name


def test_files_are_splits_by_their_names_and_chosen_by_a_pattern(tmp_path: Path) -> None:
    one = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for name in ("train.jsonl", "dev.json", "old/more.jsonl"):
        (tmp_path / "old").mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps([one] if name == "dev.json" else one), "utf-8")
    assert [(name, split) for name, split, *_ in read(tmp_path)] == [
        ("dev:0", "validation"),
        ("more:1", "train"),
        ("train:1", "train"),
    ]
    assert [name for name, *_ in read(tmp_path, file=["old/*"])] == ["more:1"]
    with pytest.raises(UsageError, match=r"--file train.json: no file matches; .*did you mean train.jsonl"):
        read(tmp_path, file=["train.json"])


def test_a_large_file_is_read_in_units_of_some_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    folder_of(tmp_path, *({"id": str(number), "messages": said} for number in range(10)))
    monkeypatch.setattr(files, "_RUN_BYTES", 3 * files._TEXT_BYTES)
    reader, listing = open_reader(ChatJson, tmp_path, "chat")
    names = [
        [item.conversation_id[-1] for item in reader.dialogues(unit) if isinstance(item, Dialogue)]
        for unit in listing.units
    ]
    assert names == [["0", "1", "2"], ["3", "4", "5"], ["6", "7", "8"], ["9"]]


def test_a_unit_names_the_clips_that_its_records_name(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "<audio>"}, {"role": "assistant", "content": "So."}]
    folder_of(tmp_path, *({"messages": said, "audios": [clip]} for clip in (HEARD, SPOKEN, "gone.wav")))
    (unit,) = open_reader(ChatJson, tmp_path, "chat")[1].units
    assert unit.files == (HEARD, SPOKEN)
    assert unit.num_bytes > sum((tmp_path / clip).stat().st_size for clip in (HEARD, SPOKEN))


def test_a_named_file_that_can_not_be_read_at_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl.gz").write_bytes(b"no gzip")
    (lost,) = read_corpus(ChatJson, tmp_path, "chat", file=["talks.jsonl.gz"])
    assert isinstance(lost, UnreadableFile)
    assert (lost.file, "Not a gzipped file" in lost.detail) == ("talks.jsonl.gz", True)


def test_an_id_that_another_file_of_the_split_has_is_a_line_of_its_own_file(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    ids = {"a.jsonl": "xy", "b.jsonl": "zyx", "dev.jsonl": "x"}
    for name, own in ids.items():
        folder_of(tmp_path, *({"id": one, "messages": said} for one in own), name=name)
    assert [chat[0] for chat in read(tmp_path)] == ["x", "y", "z", "b:2", "b:3", "x"]


def test_clips_may_lie_in_a_folder_of_their_own_and_no_row_tells_where_that_was(tmp_path: Path) -> None:
    shutil.copy(CHATS / "talks.jsonl", tmp_path / "talks.jsonl")
    build_rows(tmp_path, tmp_path / "rows", "chat", builder="chat_json", audio_root=str(CHATS))
    rows = read_rows(tmp_path / "rows", "chat")
    assert sum(row["audio"] is not None for row in rows) == 2
    assert not [row for row in rows if str(CHATS) in str({**row, "audio": None, "target_audio": None})]


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["role", "content", "from", "value", "type", "text", "audio"])
    return st.lists(values, max_size=3) | st.dictionaries(keys, values, max_size=4)


@MANY
@given(st.recursive(st.none() | st.integers() | st.text(max_size=8), _containers, max_leaves=12))
def test_whatever_a_record_holds_it_is_a_chat_or_no_chat(messages: Any) -> None:
    for record in (messages, {"messages": messages}, {"conversations": [messages], "audios": messages}):
        try:
            chat = parse_chat(record)
        except ChatError:
            continue
        assert all(message.role in ("user", "assistant") for message in chat.messages)
