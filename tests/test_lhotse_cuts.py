"""Cuts that lhotse itself wrote: each layout gives the same rows, slices are exact, faults are told."""

import gzip
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from lhotse import SupervisionSet
from lhotse.cut import Cut
from lhotse.cut import MixedCut
from lhotse.cut import MonoCut
from lhotse.cut import MultiCut
from lhotse.cut.mixed import MixTrack
from toys.building import build_rows
from toys.building import open_reader
from toys.building import read_corpus
from toys.building import read_rows
from toys.building import read_skipped
from toys.cuts import SEGMENTS
from toys.cuts import Heard
from toys.cuts import conversation
from toys.cuts import noise
from toys.cuts import recording
from toys.cuts import samples_of
from toys.cuts import supervisions
from toys.cuts import utterance
from toys.cuts import write_manifest
from toys.cuts import write_recordings
from toys.cuts import write_shar
from toys.examples import MANY
from toys.samples import SAMPLE_OF

from lhotse_cuts import LhotseCuts
from speechrows.corpora.chats import files
from speechrows.corpora.cuts import CutError
from speechrows.corpora.cuts import lines
from speechrows.corpora.cuts import parse_cut
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tables.lines import LineTable
from speechrows.corpora.tables.records import TableFile
from speechrows.types import Dialogue
from speechrows.types import Turn
from speechrows.types import UnreadableFile
from speechrows.validation.validate import validate

CALLS = ("fe/1", "fe.2", "fe3")
CONTENTS = {
    "manifest": "3 cuts in cuts.jsonl",
    "gz": "3 cuts in cuts.jsonl.gz",
    "recordings": "3 recordings with 9 supervisions",
}


def dialogues(folder: Path, config: str = "ttt", **flags: Any) -> dict[str, Dialogue]:
    """The dialogues of a folder by their cuts' ids."""
    items = read_corpus(LhotseCuts, folder, config, **flags)
    return {
        item.conversation_id.partition("/train/")[2]: item for item in items if isinstance(item, Dialogue)
    }


def lost(folder: Path) -> dict[str, str]:
    """What is told of a folder's files, by the place."""
    items = read_corpus(LhotseCuts, folder)
    return {item.file: item.detail for item in items if isinstance(item, UnreadableFile)}


def plain(turn: Turn) -> tuple[Any, ...]:
    fault = (turn.fault.reason, turn.fault.detail) if turn.fault else None
    return turn.number, turn.speaker, turn.role, turn.text, turn.start_s, turn.traits.emotion, fault


def heard(folder: Path, turn: Turn) -> np.ndarray:
    """The samples of a turn as rows have them, int16 [S] or [S, channels]."""
    return soundfile.read(io.BytesIO(Heard(folder).bytes(turn.audio)), dtype="int16")[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same conversations in every layout."""
    place = tmp_path_factory.mktemp("calls")
    folders = {name: place / name / "calls" for name in ("manifest", "gz", "flac", "wav", "recordings")}
    cuts = [
        conversation(folders["manifest"], name.replace("/", "-"), seed) for seed, name in enumerate(CALLS)
    ]
    for cut, name in zip(cuts, CALLS, strict=True):
        cut.id = cut.recording.id = name
        for said in cut.supervisions:
            said.recording_id = name
    for name in ("gz", "recordings"):
        shutil.copytree(folders["manifest"], folders[name])
    write_manifest(folders["manifest"], cuts)
    write_manifest(folders["gz"], cuts, "cuts.jsonl.gz")
    for kind in ("flac", "wav"):
        write_shar(folders[kind], cuts, folders["manifest"], recording=kind)
    said = [said for cut in cuts for said in cut.supervisions]
    write_recordings(folders["recordings"], cuts, said[::-1])  # as no recipe would order them
    return folders


def test_every_layout_gives_the_same_turns_with_their_times_speakers_and_sound(made: dict[str, Path]) -> None:
    expected = {
        name: [
            (i, speaker, "user" if speaker == "A" else "assistant", text, start, "sad", None)
            for i, (start, _, speaker, text) in enumerate(SEGMENTS)
        ]
        for name in CALLS
    }
    for kind, folder in made.items():
        contents = open_reader(LhotseCuts, folder)[1].contents
        assert contents == CONTENTS.get(kind, "3 cuts in 2 shards of SHAR")
        found = dialogues(folder)
        assert {name: [*map(plain, found[name].turns)] for name in found} == expected, kind
        for seed, name in enumerate(CALLS):
            whole = noise(seed)
            for turn, (start, seconds, speaker, _) in zip(found[name].turns, SEGMENTS, strict=True):
                first = round(start * 16_000)
                own = whole[first : first + round(seconds * 16_000), int(speaker == "B")]
                assert np.array_equal(heard(folder, turn), own), (kind, name, turn.number)


def test_rows_of_shar_and_of_a_manifest_differ_in_where_they_come_from_alone(
    made: dict[str, Path], tmp_path: Path
) -> None:
    rows = dict[str, list[dict[str, Any]]]()
    for kind in ("manifest", "wav"):
        build_rows(made[kind], tmp_path / kind, builder="lhotse_cuts")
        rows[kind] = read_rows(tmp_path / kind)
        for row in rows[kind]:
            del row["source"], row["audio"]["path"]
    assert rows["manifest"] == rows["wav"]
    assert [row["start_s"] for row in rows["wav"][:3]] == [start for start, *_ in SEGMENTS]


def test_slices_are_those_that_lhotse_cuts_to_the_sample(tmp_path: Path) -> None:
    times = np.random.default_rng(0).uniform(0.01, 0.5, (6, 3)).round(5).tolist()
    cuts = list[Cut]()
    for i, (start, begin, seconds) in enumerate(times):
        made = recording(tmp_path, f"r{i}", noise(i, 2.0), "flac" if i % 2 else "wav")
        said = supervisions(f"r{i}")[:1]
        said[0].start, said[0].duration = begin, seconds
        if i < 3:
            cuts.append(MonoCut(f"c{i}", start, 1.2, i % 2, said, recording=made))
        else:
            cuts.append(MultiCut(f"c{i}", start, 1.2, [0, 1], said, recording=made))
    write_manifest(tmp_path, cuts)
    found = dialogues(tmp_path)
    for cut in cuts:
        (turn,), (said,) = found[cut.id].turns, cut.supervisions
        part = cut.truncate(offset=said.start, duration=said.duration)
        assert np.array_equal(heard(tmp_path, turn), samples_of(part, tmp_path)), cut.id


def test_tracks_of_a_mix_are_turns_at_their_offsets_and_their_sound_is_not_mixed(tmp_path: Path) -> None:
    first, second = utterance(tmp_path, "a", 1), utterance(tmp_path, "b", 2, speaker="other")
    mixed = first.mix(second, offset_other_by=0.4).pad(duration=2.0).with_id("talk")
    write_manifest(tmp_path, [mixed])
    turns = dialogues(tmp_path)["talk"].turns
    assert [(turn.speaker, turn.role, turn.start_s) for turn in turns] == [
        ("reader", "user", 0.0),
        ("other", "assistant", 0.4),
    ]
    for turn, cut in zip(turns, (first, second), strict=True):
        assert np.array_equal(heard(tmp_path, turn), samples_of(cut, tmp_path))


def test_a_clip_that_is_all_of_its_file_is_stored_as_published(tmp_path: Path) -> None:
    cuts = [utterance(tmp_path / "from", f"u{i}", i) for i in range(3)]
    folder = write_shar(tmp_path / "shar", cuts, tmp_path / "from", recording="flac")
    with tarfile.open(folder / "recording.000000.tar") as tar:
        published = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    for name in ("u0", "u1"):
        (turn,) = dialogues(folder)[name].turns
        assert Heard(folder).bytes(turn.audio) == published[f"{name}.flac"]
        assert turn.audio is not None
        assert turn.audio.path == f"recording.000000.tar/{name}.flac"


def test_target_audio_is_the_assistants_sound_whether_as_long_as_the_cut_or_an_answer_alone(
    tmp_path: Path,
) -> None:
    duplex = utterance(tmp_path, "duplex", 1)
    duplex.recording = recording(tmp_path, "heard", noise(1, 4.0, 1))
    duplex.duration = duplex.recording.duration
    duplex.supervisions = supervisions("heard", channels=(0, 0))
    for said in duplex.supervisions:
        said.speaker = {"A": "user", "B": "agent"}[said.speaker]
    duplex.target_audio = recording(tmp_path, "spoken", noise(2, 4.0, 1))
    asked = utterance(tmp_path, "asked", 3)
    asked.target_audio, asked.answer = recording(tmp_path, "said", noise(4, 0.7, 1)), "An answer."
    written = utterance(tmp_path, "written", 5)
    written.supervisions[0].custom = {"answer": "In writing."}
    write_manifest(tmp_path, [duplex, asked, written])
    folders = [
        tmp_path,
        write_shar(tmp_path / "shar", [duplex], tmp_path, recording="wav", target_audio="flac"),
    ]
    for folder in folders:
        turns = dialogues(folder, file=["cuts*"] if folder == tmp_path else ())["duplex"].turns
        assert [turn.role for turn in turns] == ["user", "assistant", "user"]
        assert np.array_equal(heard(folder, turns[1]), noise(2, 4.0, 1)[20_960:40_160, 0])
        assert np.array_equal(heard(folder, turns[0]), noise(1, 4.0, 1)[4000:28_005, 0])
    found = dialogues(tmp_path, "response", file=["cuts*"])
    question, answer = found["asked"].turns
    assert (question.role, answer.role, answer.text) == ("user", "assistant", "An answer.")
    assert np.array_equal(heard(tmp_path, answer), noise(4, 0.7, 1)[:, 0])
    assert [(turn.role, turn.text, turn.audio is None) for turn in found["written"].turns] == [
        ("user", "Words 5.", False),
        ("assistant", "In writing.", True),
    ]
    assert len(dialogues(tmp_path, file=["cuts*"])["written"].turns) == 1


def test_a_shared_supervision_has_all_channels_of_its_file_or_the_first_of_its_own(tmp_path: Path) -> None:
    made = recording(tmp_path, "array", noise(0, 1.0, 3))
    cuts = list[Cut]()
    for name, channels in (("all", [0, 1, 2]), ("two", [2, 1])):
        said = supervisions("array", channels=(channels, channels))[:1]
        said[0].start, said[0].duration = 0.25, 0.5
        cuts.append(MultiCut(name, 0, 1.0, [0, 1, 2], said, recording=made))
    cuts[0].system_prompt = "Be brief."
    write_manifest(tmp_path, cuts)
    found, whole = dialogues(tmp_path), noise(0, 1.0, 3)[4000:12_000]
    assert np.array_equal(heard(tmp_path, found["all"].turns[0]), whole)
    assert np.array_equal(heard(tmp_path, found["two"].turns[0]), whole[:, 1])
    assert (found["all"].system, found["two"].system) == ("Be brief.", None)


def test_ids_that_are_absolute_paths_name_members_of_shar(tmp_path: Path) -> None:
    cuts = [utterance(tmp_path / "from", f"u{i}", i).with_id(f"/data/u{i}.wav") for i in range(2)]
    folder = write_shar(tmp_path / "shar", cuts, tmp_path / "from", recording="wav")
    assert _reasons(folder) == {"/data/u0.wav": None, "/data/u1.wav": None}


CASTS = {  # speakers in the order in which they speak, flags -> roles, by their first letters
    "two": (("ann", "bob", "ann"), {}, "uau"),
    "two, turned round": (("ann", "bob", "ann"), {"swap_roles": True}, "aua"),
    "roles": (("agent", "User", "agent"), {}, "aua"),
    "one": (("17", "17", "17"), {}, "uuu"),
    "none": ((None, None, None), {}, "uuu"),
    "numbers": (("17", "23", "17"), {}, "???"),
    "numbers, told": (("17", "23", "17"), {"assistant": "17"}, "aua"),
    "numbers, the second": (("17", "23", "17"), {"assistant": "second"}, "uau"),
    "three": (("ann", "bob", "cem"), {}, "ua?"),
    "three, told": (("ann", "bob", "cem"), {"assistant": "ann"}, "auu"),
    "three, the last": (("ann", "bob", "cem"), {"assistant": "last"}, "uua"),
    "one without a name": (("ann", None, "bob"), {}, "u?a"),
}


def test_roles_are_those_of_names_else_of_who_speaks_first_and_numbers_tell_none(tmp_path: Path) -> None:
    made = recording(tmp_path, "r", noise(0))
    cuts = list[Cut]()
    for name, (cast, _, _) in CASTS.items():
        cut = MultiCut(name, 0, 4.0, [0, 1], supervisions("r"), recording=made)
        for said, speaker in zip(cut.supervisions, cast, strict=True):
            said.speaker = speaker
        cuts.append(cut)
    write_manifest(tmp_path, cuts)
    for name, (_, flags, roles) in CASTS.items():
        turns = dialogues(tmp_path, **flags)[name].turns
        assert "".join((turn.role or "?")[0] if not turn.fault else "?" for turn in turns) == roles, name
    found = dialogues(tmp_path)
    numbers, third = found["numbers"].turns[0].fault, found["three"].turns[2].fault
    assert numbers is not None
    assert "found the speakers '17', '23', of whom a number" in numbers.detail
    assert third is not None
    assert "--assistant SPEAKER" in third.detail


def _without_text(cut: MonoCut) -> None:
    cut.supervisions[0].text = None


def _too_long(cut: MonoCut) -> None:
    cut.recording.duration = cut.duration = cut.supervisions[0].duration = 0.9


def _command(cut: MonoCut) -> None:
    cut.recording.sources[0].type = "command"


def _elsewhere(cut: MonoCut) -> None:
    cut.recording.sources[0].source = "../x.wav"


def _beside(cut: MonoCut) -> None:
    cut.supervisions[0].start = -0.3


FAULTS: dict[str, tuple[Callable[[MonoCut], Any], str, str]] = {
    "no text": (_without_text, "empty_text", "found a supervision without text"),
    "an empty text": (lambda cut: setattr(cut.supervisions[0], "text", " "), "empty_text", "is empty"),
    "a text that is a number": (
        lambda cut: setattr(cut.supervisions[0], "text", 5),
        "bad_text",
        "found text 5, expected a string",
    ),
    "a clip that is gone": (
        lambda cut: setattr(cut.recording.sources[0], "source", "none.wav"),
        "missing",
        "there is no such file",
    ),
    "a clip elsewhere": (_elsewhere, "refused_path", "give --audio-root"),
    "a command": (_command, "refused_path", "a source of type 'command', expected a file"),
    "no such channel": (
        lambda cut: setattr(cut, "channel", 3),
        "no_channel",
        "found channel 3, expected one of the recording's: 0",
    ),
    "a channel that the file lacks": (
        lambda cut: (setattr(cut, "channel", 1), setattr(cut.recording.sources[0], "channels", [0, 1])),
        "no_channel",
        "has 1 channels",
    ),
    "an end after the recording's": (_too_long, "truncated", "of a recording of 0.5 s"),
    "a supervision that stands out": (_beside, "metadata_disagrees", "from -0.3 to 0.2 s in a cut of 0.5 s"),
    "no time": (lambda cut: setattr(cut.supervisions[0], "start", None), "bad_number", "found start None"),
    "a speaker that no row can bear": (
        lambda cut: setattr(cut.supervisions[0], "speaker", "\ud800"),
        "bad_speaker",
        "expected a name in UTF-8",
    ),
    "no recording": (lambda cut: setattr(cut, "recording", None), "missing", "a cut without a recording"),
}  # fmt: skip
EFFECTS: dict[str, tuple[Callable[[MonoCut], Cut], str]] = {
    "speed": (lambda cut: cut.perturb_speed(1.1), "the effect Speed on the recording"),
    "volume": (lambda cut: cut.perturb_volume(2.0), "the effect Volume on the recording"),
    "rate": (lambda cut: cut.resample(8000), "the effect Resample on the recording"),
    "a mix": (
        lambda cut: cut.mix(cut.with_id("n").drop_supervisions(), snr=10),
        "at a ratio of signal to noise",
    ),
}
LINES = {
    "half a line": ('{"id": "half", "sta', "Unterminated string"),
    "another type": (
        {"type": "Lattice", "id": "x"},
        "found type 'Lattice', expected a cut: MonoCut, MultiCut or MixedCut",
    ),
    "no id": ({"type": "MonoCut", "start": 0}, "found id None"),
    "an id that no row can bear": (
        {"type": "MonoCut", "id": "\ud800", "start": 0, "duration": 1, "supervisions": [{"text": "x"}]},
        "expected a name in UTF-8",
    ),
    "no tracks": ({"type": "MixedCut", "id": "x", "tracks": []}, "found no track with sound"),
    "no duration": ({"type": "MonoCut", "id": "x", "start": 0, "channel": 0}, "found duration None"),
    "no supervision": (
        {"type": "MonoCut", "id": "x", "start": 0, "duration": 1, "channel": 0},
        "found no supervision",
    ),
}


def test_what_is_wrong_with_a_cut_is_counted_and_the_others_become_rows(tmp_path: Path) -> None:
    folder = tmp_path / "cuts"
    cuts: list[Cut] = [utterance(folder, "good", 0)]
    for name, (spoil, _, _) in FAULTS.items():
        cut = utterance(folder, name, 1)
        cut.recording.sources = [*cut.recording.sources]
        spoil(cut)
        cuts.append(cut)
    cuts += [change(utterance(folder, name, 2)).with_id(name) for name, (change, _) in EFFECTS.items()]
    cuts.append(utterance(folder, "good", 3))
    cuts.append(utterance(folder, "last", 4))
    lines = [json.dumps(cut.to_dict()) for cut in cuts[:-1]]
    lines += [line if isinstance(line, str) else json.dumps(line) for line, _ in LINES.values()]
    lines.append(json.dumps(cuts[-1].to_dict()))
    (folder / "cuts.jsonl").write_text("\n".join(lines), "utf-8")
    build_rows(folder, tmp_path / "rows", "transcription", builder="lhotse_cuts")
    rows, skipped = read_rows(tmp_path / "rows", "transcription"), read_skipped(tmp_path / "rows")
    assert [row["conversation_id"].rpartition("/")[2] for row in rows] == ["good", "last"]
    by_name = {fault["clip_id"].split("/")[2]: fault for fault in skipped if fault["clip_id"]}
    for name, (_, reason, detail) in FAULTS.items():
        assert by_name[name]["reason"] == reason, name
        assert detail in by_name[name]["detail"], name
    for name, (_, detail) in EFFECTS.items():
        assert by_name[name]["reason"] == "metadata_disagrees", name
        assert detail in by_name[name]["detail"], name
    repeat = by_name[f"cuts:{len(cuts) - 1}"]
    assert (repeat["reason"], repeat["detail"][:26]) == ("bad_number", "found the id 'good' again,")
    by_line = {fault["file"]: fault["detail"] for fault in skipped if not fault["clip_id"]}
    for line, (name, (_, detail)) in enumerate(LINES.items(), len(cuts)):
        assert detail in by_line[f"cuts.jsonl:{line}"], name


def test_recordings_alone_are_refused_and_what_is_there_is_said(
    made: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(made["recordings"] / "recordings.jsonl.gz", tmp_path)
    contents = open_reader(LhotseCuts, tmp_path)[1].contents
    assert contents == "no cuts, 1 files of recordings and 0 of supervisions"


def test_clips_without_facts_beside_them_in_their_archive_are_those_of_their_cuts(tmp_path: Path) -> None:
    cuts = [utterance(tmp_path / "from", f"u{i}", i) for i in range(2)]
    folder = write_shar(tmp_path / "shar", cuts, tmp_path / "from", recording="wav")
    path = folder / "cuts.000000.jsonl.gz"
    with tarfile.open(folder / "recording.000000.tar") as tar:
        facts = [json.loads(tar.extractfile(f"u{i}.json").read()) for i in range(2)]
    lines = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    whole = [{**line, "recording": fact} for line, fact in zip(lines, facts, strict=True)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, whole)).encode()))
    _rewrite(folder / "recording.000000.tar", lambda name: name.endswith(".wav"))
    found = dialogues(folder)
    for i in range(2):
        (turn,) = found[f"u{i}"].turns
        assert np.array_equal(heard(folder, turn), noise(i, 0.5, 1)[:, 0])


def _rewrite(path: Path, keep: Callable[[str], bool]) -> None:
    """Write an archive anew, with some of its members."""
    with tarfile.open(path) as tar:
        members = [(info, tar.extractfile(info)) for info in tar.getmembers() if keep(info.name)]
        contents = [(info, file.read()) for info, file in members if file]
    with tarfile.open(path, "w") as tar:
        for info, data in contents:
            tar.addfile(info, io.BytesIO(data))


def _reasons(folder: Path) -> dict[str, str | None]:
    return {
        name: turn.fault.detail if turn.fault else None
        for name, found in dialogues(folder).items()
        for turn in found.turns
    }


def _no_faults(names: Sequence[str]) -> dict[str, str | None]:
    return dict.fromkeys(names)


def test_a_folder_of_shar_keeps_what_is_good_of_it_whatever_else_lies_there(tmp_path: Path) -> None:
    names = [f"u{i}" for i in range(6)]
    cuts = [utterance(tmp_path / "from", name, i) for i, name in enumerate(names)]
    folder = write_shar(tmp_path / "shar", cuts, tmp_path / "from", recording="wav")
    (folder / "README.md").write_text("What this is.")
    (folder / "export.json").write_text('{"made": "by hand"}')
    for path in [*folder.glob("*.tar"), *folder.glob("cuts*")]:
        path.with_name(path.name + ".idx").write_bytes(bytes(24))
    assert _reasons(folder) == _no_faults(names)
    assert lost(folder) == {}
    _rewrite(folder / "recording.000000.tar", lambda name: name not in {"u0.wav", "u0.json"})
    (folder / "recording.000001.tar").unlink()
    cut = folder / "recording.000002.tar"
    cut.write_bytes(cut.read_bytes()[:20_000])  # in the second of its clips
    faults = _reasons(folder)
    assert faults["u0"] == "found no member 'u0' in recording.000000.tar, expected one"
    assert faults["u1"] is faults["u4"] is None
    assert faults["u2"] == faults["u3"] == "found no recording.000001.tar, expected it beside the cuts"
    assert "found no member 'u5' in recording.000002.tar, expected one. It is not whole: " in str(
        faults["u5"]
    )
    assert "expected a whole tar archive" in lost(folder)["recording.000002.tar"]


def test_members_of_shar_in_another_order_placeholders_and_fields_of_text_are_joined_by_id(
    tmp_path: Path,
) -> None:
    cuts = [utterance(tmp_path / "from", f"u{i}", i) for i in range(4)]
    cuts[1].target_audio = recording(tmp_path / "from", "spoken", noise(9, 0.5, 1))
    for cut in cuts:
        cut.answer = f"Answer {cut.id}."
    folder = write_shar(
        tmp_path / "shar",
        cuts,
        tmp_path / "from",
        shard_size=4,
        recording="wav",
        target_audio="wav",
        answer="jsonl",
    )
    lines = gzip.decompress((folder / "cuts.000000.jsonl.gz").read_bytes()).splitlines()
    bare = [{**json.loads(line), "custom": {}} for line in reversed(lines)]
    packed = gzip.compress("\n".join(map(json.dumps, bare)).encode())
    (folder / "cuts.000000.jsonl.gz").write_bytes(packed)
    found = dialogues(folder, "response")
    assert [*found] == ["u3", "u2", "u1", "u0"]
    for i, cut in enumerate(cuts):
        question, answer = found[cut.id].turns
        assert np.array_equal(heard(folder, question), noise(i, 0.5, 1)[:, 0])
        assert answer.text == f"Answer {cut.id}."
        assert (answer.audio is not None) == (i == 1)


def test_a_gzipped_manifest_that_is_cut_gives_what_came_before(made: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(made["gz"], tmp_path / "calls")
    text = gzip.decompress((folder / "cuts.jsonl.gz").read_bytes())
    first, _, rest = text.partition(b"\n")
    packed = gzip.compress(first + b"\n") + gzip.compress(rest)[:100]
    (folder / "cuts.jsonl.gz").write_bytes(packed)
    assert [*dialogues(folder)] == ["fe/1"]
    assert "end-of-stream marker" in lost(folder)["cuts.jsonl.gz"]


def test_supervisions_of_no_recording_and_half_a_line_of_them_are_told(
    made: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made["recordings"], tmp_path / "calls")
    path = folder / "supervisions.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[0] = lines[0].replace('"recording_id": "fe3"', '"recording_id": "gone"')
    path.write_bytes(gzip.compress("\n".join([*lines, '{"id": "ha']).encode()))
    assert [len(found.turns) for found in dialogues(folder).values()] == [3, 3, 2]
    assert lost(folder) == {
        "supervisions.jsonl.gz": "found 1 supervisions whose recordings no manifest has, as 'gone', expected "
        "each recording in a manifest",
        "supervisions.jsonl.gz:10": "found Unterminated string starting at: line 1 column 8 (char 7); "
        "expected a JSON object in a line",
    }


@pytest.mark.parametrize("name", ["supervisions.jsonl.gz", "supervisions.jsonl"])
def test_scattered_supervisions_are_read_once_whatever_the_number_of_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cuts = [conversation(tmp_path, f"r{i}", i) for i in range(12)]
    said = [said for cut in cuts for said in cut.supervisions]
    write_recordings(tmp_path, cuts, said)
    (tmp_path / "supervisions.jsonl.gz").unlink()
    monkeypatch.setattr(files, "_RUN_BYTES", 1)  # a unit a recording
    counts = Counter[str]()

    def open_file(corpus: Corpus, file: TableFile) -> LineTable:
        counts[file.path] += 1
        return LineTable(corpus, file)

    for module in (files, lines):
        monkeypatch.setattr(module, "open_file", open_file)
    for order in (said, said[::2] + said[1::2]):
        SupervisionSet.from_segments(order).to_file(tmp_path / name)
        counts.clear()
        found = dialogues(tmp_path)
        assert {name: [turn.text for turn in talk.turns] for name, talk in found.items()} == {
            f"r{i}": [text for _, _, _, text in SEGMENTS] for i in range(12)
        }
        assert counts[name] <= 5  # what it is, three questions; which lines are whose; and their reading


def test_clips_may_lie_below_another_folder_and_splits_are_those_of_names(
    made: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("cuts_train.jsonl", "cuts_dev.jsonl"):
        shutil.copy(made["manifest"] / "cuts.jsonl", tmp_path / name)
    build_rows(tmp_path, tmp_path / "rows", builder="lhotse_cuts", audio_root=str(made["manifest"]))
    rows = read_rows(tmp_path / "rows")
    assert {row["conversation_id"].split("/")[1] for row in rows} == {"train", "validation"}
    assert len(rows) == 18


def test_the_sample_becomes_rows_with_times_that_validate(tmp_path: Path) -> None:
    folder = SAMPLE_OF["lhotse_cuts"]
    build_rows(folder, tmp_path, "response", builder="lhotse_cuts")
    rows = read_rows(tmp_path, "response")
    assert [(row["conversation_id"], row["start_s"]) for row in rows] == [
        ("cuts/train/sleep", 0.0),
        ("cuts/train/station", 0.0),
    ]
    assert rows[1]["target_audio"]["bytes"] == (folder / "clips/c2_1.opus").read_bytes()
    assert validate(str(tmp_path)).ok


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(
        ["id", "start", "duration", "channel", "supervisions", "recording", "sources", "cut"]
    )
    return st.lists(values, max_size=3) | st.dictionaries(keys, values, max_size=5)


@MANY
@given(
    st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=4), _containers, max_leaves=12)
)
def test_whatever_a_record_holds_it_is_a_cut_or_none(values: Any) -> None:
    track = values if isinstance(values, dict) else {"supervisions": values, "recording": values}
    base = {"id": "x", "start": 0, "duration": 1}
    for record in (
        values,
        {"type": "MonoCut", **track},
        {"type": "MonoCut", **base, **track},
        {"type": "MixedCut", "id": "x", "tracks": [{"cut": {**base, **track}, "offset": values}, values]},
    ):
        try:
            cut = parse_cut(record)
        except CutError:
            continue
        assert cut.tracks


def test_a_mix_without_effects_stays_one_when_a_track_is_muted(tmp_path: Path) -> None:
    first, second = utterance(tmp_path, "a", 1), utterance(tmp_path, "b", 2)
    mixed = MixedCut("talk", [MixTrack(first), MixTrack(second, offset=0.1, mute=True)])
    write_manifest(tmp_path, [mixed])
    assert [turn.text for turn in dialogues(tmp_path)["talk"].turns] == ["Words 1."]
