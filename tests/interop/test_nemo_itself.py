"""NeMo's own code trains on what was exported: the turns, their frames, and rows as they are."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from toys.building import build_rows
from toys.building import read_rows
from toys.nemo import nemo
from toys.nemo import read
from toys.samples import SAMPLE_OF
from toys.talks import build_talks
from toys.timed_talks import EXACT
from toys.timed_talks import RATE
from toys.timed_talks import build_timed
from toys.timed_talks import channels_of

from speechrows.errors import UsageError
from speechrows.interop.nemo import export
from speechrows.interop.options import NemoOptions


class Letters:
    """A tokenizer of NeMo's kind: an id a letter."""

    bos, eos, pad, pad_id = 1, 2, 0, 0

    def text_to_ids(self, text: str) -> list[int]:
        return [*map(ord, text)]


@pytest.fixture(scope="module")
def duplex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations whose samples are known, in two channels."""
    folder = tmp_path_factory.mktemp("duplex")
    lines = export(build_timed(folder, EXACT), folder / "out", NemoOptions(form="duplex"))
    assert [line for line in lines if line.startswith("  ")] == []
    return folder / "out"


def entry_of(out: Path) -> dict[str, Any]:
    """The one entry of the training split's input_cfg."""
    (entry,) = yaml.safe_load((out / "train.yaml").read_text("utf-8"))
    return entry


def read_in(out: Path, entry: dict[str, Any]) -> list[Any]:
    with contextlib.chdir(out):
        return read([entry])


def test_nemos_data_set_of_duplex_talk_has_the_channels_and_the_words_at_their_frames(duplex: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    (cut,) = (cut for cut in read_in(duplex, entry_of(duplex)) if cut.id.endswith("overlap"))
    data = nemo("collections.speechlm2.data.s2s_dataset").DuplexS2SDataset(Letters(), 0.08, RATE, RATE)
    batch = data[lhotse.CutSet.from_cuts([cut])]
    turns = EXACT["overlap"]
    channels = channels_of(turns, [turn[1] or 0.0 for turn in turns])
    for side, channel in zip(("source", "target"), channels, strict=True):
        assert np.array_equal(batch[f"{side}_audio"][0].numpy(), channel.astype(np.float32))
    assert batch["target_texts"] == ["overlap 1."]
    answer = batch["target_tokens"][0].tolist()
    begin = round(1.31 / 0.08)
    assert answer[begin : begin + 11] == [Letters.bos, *map(ord, "overlap 1.")]
    assert answer.index(Letters.eos) == round((1.31 + 1.2) / 0.08)


def test_salm_reads_the_same_cuts_as_conversations(duplex: Path) -> None:
    talks = read_in(duplex, entry_of(duplex) | {"type": "s2s_as_conversation"})
    said = {talk.id.rpartition("/")[2]: talk.turns for talk in talks}
    turns = said["overlap"]
    assert [(turn.role, getattr(turn, "value", None) or turn.text) for turn in turns] == [
        ("user", "overlap 0."),
        ("assistant", "overlap 1."),
        ("user", "overlap 2."),
    ]
    assert np.array_equal(turns[2].cut.load_audio()[0], EXACT["overlap"][2][2][:, 0].astype(np.float32))


def test_an_input_cfg_over_rows_names_their_shards_which_nemo_reads_as_they_are(tmp_path: Path) -> None:
    build_talks(tmp_path, "ttt", shard_bytes=1)
    lines = export(str(tmp_path / "rows"), tmp_path / "out", NemoOptions(form="rows"))
    rows = read_rows(tmp_path / "rows")
    seconds = sum(row["num_samples"] / row["sampling_rate"] for row in rows)
    assert lines[0].endswith(f"train: {len(rows)} conversations, {len(rows)} turns, {seconds:.1f} seconds")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.yaml"]
    talks = read_in(tmp_path / "rows", entry_of(tmp_path / "out"))
    assert len({talk.id for talk in talks}) == len(rows)
    for talk, row in zip(talks, rows, strict=True):
        user, assistant = talk.turns
        samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        assert (user.role, assistant.role, assistant.value) == ("user", "assistant", row["transcript"])
        assert np.array_equal(user.cut.load_audio()[0], samples)


def test_rows_whose_answers_nemo_does_not_find_are_refused(tmp_path: Path) -> None:
    build_rows(SAMPLE_OF["chat_json"], tmp_path / "rows", "chat", builder="chat_json")
    with pytest.raises(UsageError, match=r"rows of chat.*where NeMo does not look.*--form conversations"):
        export(str(tmp_path / "rows"), tmp_path / "out", NemoOptions(form="rows"))


def test_nemo_finds_nothing_below_a_name_that_is_refused(tmp_path: Path) -> None:
    export(build_talks(tmp_path), tmp_path / "plain", NemoOptions())
    (tmp_path / "plain").rename(tmp_path / "v [2]")
    entry = {"type": "multimodal_conversation", "manifest_filepath": str(tmp_path / "v [2]/train.jsonl")}
    with pytest.raises(OSError, match=r"v \{2\}"):
        read([entry])
    with pytest.raises(UsageError, match="takes for braces"):
        export(str(tmp_path / "rows"), tmp_path / "v [2]", NemoOptions(form="duplex"))
