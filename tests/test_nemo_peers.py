"""What NeMo wrote becomes rows, and of one manifest NeMo and nemo_manifest give the same utterances."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from toys.audio import wav
from toys.building import build_rows
from toys.building import read_rows
from toys.cuts import RATE
from toys.cuts import noise
from toys.nemo import nemo
from toys.nemo import read
from toys.samples import XTTS

from speechrows.interop.nemo import export
from speechrows.interop.options import NemoOptions

PIECES = [  # of a recording of two seconds: from when on, and how long
    (None, 2.0),
    (0.1, 0.30003),
    (0.75, 0.25),
    (1.5, 0.5),
]


def heard(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def rows_of(folder: Path, out: Path, config: str) -> list[dict[str, Any]]:
    build_rows(folder, out, config, builder="nemo_manifest", max_skipped=0.0)
    return read_rows(out, config)


def test_conversations_that_nemo_wrote_into_archives_become_equal_rows(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "ttt")
    export(str(tmp_path / "ttt"), tmp_path / "files", NemoOptions())
    manifest = str(tmp_path / "files/train.jsonl")
    talks = read([{"type": "multimodal_conversation", "manifest_filepath": manifest}])
    writer = nemo("collections.common.data.lhotse.text_adapters").NeMoMultimodalConversationTarWriter
    with writer(str(tmp_path / "archives"), shard_size=2) as shards:
        for talk in talks:
            shards.write(talk)
    assert len([*(tmp_path / "archives").glob("audio_*.tar")]) == len(talks) / 2 == 2

    def facts(folder: Path) -> list[Any]:
        """All but what is said in a clip, which NeMo does not read."""
        return [
            (
                row["conversation_id"].rpartition("/")[2],
                row["turn_number"],
                [message["content"] for message in row["messages"]],
                heard(row["audio"]["bytes"]).tobytes(),
            )
            for row in rows_of(folder, tmp_path / f"{folder.name}-rows", "chat")
        ]

    assert facts(tmp_path / "archives") == facts(tmp_path / "files")


def pack(path: Path, name: str, data: bytes) -> None:
    """Write an archive of one clip."""
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def write_manifests(folder: Path, *, tarred: bool) -> dict[str, str]:
    """Pieces of two recordings, in a manifest beside them or in two of archives; where NeMo finds them."""
    folder.mkdir()
    manifests = dict[int, list[str]]()
    for shard, name in enumerate("ab"):
        data = wav(noise(shard, 2.0, 1), RATE)
        if tarred:
            pack(folder / f"audio_{shard}.tar", f"{name}.wav", data)
        else:
            (folder / f"{name}.wav").write_bytes(data)
        for number, (offset, seconds) in enumerate(PIECES):
            piece = f"-sub{number}" if tarred and number else ""
            line = {"audio_filepath": f"{name}{piece}.wav", "duration": seconds, "text": f"{name} {number}."}
            line |= {} if offset is None else {"offset": offset}
            manifests.setdefault(shard if tarred else 0, []).append(json.dumps(line))
    for shard, lines in manifests.items():
        (folder / f"manifest_{shard}.json").write_text("\n".join(lines), "utf-8")
    if not tarred:
        return {"type": "nemo", "manifest_filepath": f"{folder}/manifest_0.json"}
    names = {
        "manifest_filepath": "manifest__OP_0..1_CL_.json",
        "tarred_audio_filepaths": "audio__OP_0..1_CL_.tar",
    }
    return {"type": "nemo_tarred"} | {key: f"{folder}/{name}" for key, name in names.items()}


@pytest.mark.parametrize("tarred", [False, True])
def test_of_one_manifest_nemo_and_the_builder_give_the_same_utterances(tmp_path: Path, tarred: bool) -> None:
    theirs = read([write_manifests(tmp_path / "said", tarred=tarred)])
    ours = rows_of(tmp_path / "said", tmp_path / "rows", "transcription")
    by_nemo = {cut.supervisions[0].text: cut for cut in theirs}
    assert len(ours) == len(theirs) == 2 * len(PIECES)
    for row in ours:
        cut = by_nemo.pop(row["transcript"])
        assert cut.num_samples == row["num_samples"]
        assert np.array_equal(heard(row["audio"]["bytes"]), cut.load_audio()[0])
