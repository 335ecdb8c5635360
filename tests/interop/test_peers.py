"""Each peer reads what was written for it, and gives back the same turns: their words, sides, times, sound.

Of three corpora, and of cuts that lhotse wrote, whose speakers overlap.
"""

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from toys.building import read_rows
from toys.llamafactory import read_chats
from toys.nemo import AUDIO
from toys.nemo import read as read_by_nemo
from toys.peer_turns import CORPORA
from toys.peer_turns import Talks
from toys.peer_turns import Turn
from toys.peer_turns import answered
from toys.peer_turns import build_corpus
from toys.peer_turns import export
from toys.peer_turns import heard
from toys.peer_turns import of_chat
from toys.peer_turns import splits_of
from toys.peer_turns import untimed
from toys.peer_turns import unwritten

SIDES = {"user": "user", "agent": "assistant"}


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Talks]:
    """The rows of a corpus, and their turns."""
    return build_corpus(tmp_path_factory.mktemp("corpus"), request.param)


def of_cut(cut: Any) -> list[Turn]:
    """The turns of a cut of two channels."""
    channels = {"user": cut.load_audio()[0], "agent": cut.load_target_audio()[0]}
    turns = list[Turn]()
    for said in cut.supervisions:
        first = round(said.start * cut.sampling_rate)
        samples = channels[said.speaker][first : first + round(said.duration * cut.sampling_rate)]
        turns.append(Turn(role=SIDES[said.speaker], text=said.text, first=first, samples=heard(samples)))
    return turns


def by_lhotse(rows: Path) -> Talks:
    lhotse = pytest.importorskip("lhotse")
    out = export("lhotse", rows)
    cuts = [cut for split in out.iterdir() for cut in lhotse.CutSet.from_shar(in_dir=str(split))]
    return {cut.id.rpartition("/")[2]: of_cut(cut) for cut in cuts}


def by_nemo(out: Path) -> list[Any]:
    with contextlib.chdir(out):
        entries = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(out.glob("*.yaml"))]
        return [cut for entry in entries for cut in read_by_nemo(entry)]


def by_nemo_in_two_channels(rows: Path) -> Talks:
    return {
        cut.id.rpartition("/")[2]: of_cut(cut) for cut in by_nemo(export("nemo", rows, "--form", "duplex"))
    }


def by_nemo_as_conversations(rows: Path, *flags: str) -> Talks:
    """Of a clip NeMo is told the words as another turn of the same side."""
    out = export("nemo", rows, "--transcripts", *flags)
    talks = dict[str, list[Turn]]()
    with contextlib.chdir(out):
        for talk in by_nemo(out):
            turns = talks[talk.id.rpartition("/")[2]] = list[Turn]()
            for turn in talk.turns:
                if hasattr(turn, "cut"):
                    assert turn.audio_locator_tag == AUDIO
                    turns.append(Turn(role=turn.role, samples=heard(turn.cut.load_audio()[0])))
                elif turn.role == "user":
                    turns[-1] = replace(turns[-1], text=turn.value)
                else:
                    turns.append(Turn(role=turn.role, text=turn.value))
    return talks


def by_nemo_in_archives(rows: Path) -> Talks:
    return by_nemo_as_conversations(rows, "--tar")


def by_sphn(rows: Path) -> Talks:
    """The words of each side, parted where its turns begin, and its samples up to the end of the last."""
    sphn, out = pytest.importorskip("sphn"), export("moshi", rows)
    talks = dict[str, list[Turn]]()
    for row in read_rows(rows):
        talks.setdefault(row["conversation_id"].rpartition("/")[2], []).append(row)
    lines = [line for path in sorted(out.rglob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    paths = [next(out.rglob(Path(json.loads(line)["path"]).name)) for line in lines]
    read = dict[str, list[Turn]]()
    for path, (name, own) in zip(paths, talks.items(), strict=True):
        sound, rate = sphn.read(str(path))
        words = json.loads(path.with_suffix(".json").read_text("utf-8"))["alignments"]
        sides = {
            role: [word for word in words if word[2] == speaker]
            for role, speaker in (("assistant", "SPEAKER_MAIN"), ("user", "SPEAKER_USER"))
        }
        read[name] = list[Turn]()
        for row in own:
            side, size = sides[row["role"]], len(row["transcript"].split())
            first = round(side[0][1][0] * rate)
            samples = sound[int(row["role"] == "user"), first : first + row["num_samples"]]
            text = " ".join(word for word, *_ in side[:size])
            read[name].append(Turn(role=row["role"], text=text, first=first, samples=heard(samples)))
            del side[:size]
        assert sides == {"assistant": [], "user": []}
    return read


def by_webdataset(rows: Path) -> Talks:
    webdataset, out = pytest.importorskip("webdataset"), export("webdataset", rows)
    talks = defaultdict[str, list[Turn]](list)
    tars = sorted(map(str, out.glob("*.tar")))
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        row = json.loads(sample["json"])
        samples, _ = soundfile.read(io.BytesIO(sample["wav"]), dtype="float32")
        turn = Turn(role=row["role"], text=row["transcript"], samples=heard(samples))
        talks[row["conversation_id"].rpartition("/")[2]].append(turn)
    return talks


def by_llama_factory(rows: Path) -> Talks:
    out = export("sharegpt", rows)
    talks = dict[str, list[Turn]]()
    for split in splits_of(rows):
        names = [json.loads(line)["id"] for line in (out / f"{split}.jsonl").read_text("utf-8").splitlines()]
        with pytest.MonkeyPatch.context() as patch:
            read = read_chats(out, split, patch)
        for name, chat in zip(names, read, strict=True):
            said = chat["_prompt"] + chat["_response"]
            talks[name.rpartition("/")[2]] = of_chat(said, map(Path, chat["_audios"]))
    return talks


PEERS: dict[str, tuple[Callable[[Path], Talks], Callable[[Sequence[Turn]], Sequence[Turn]]]] = {
    "lhotse": (by_lhotse, list),
    "NeMo's duplex": (by_nemo_in_two_channels, list),
    "NeMo's conversations": (by_nemo_as_conversations, answered),
    "NeMo's archives": (by_nemo_in_archives, answered),
    "sphn": (by_sphn, list),
    "webdataset": (by_webdataset, untimed),
    "LLaMA-Factory": (by_llama_factory, unwritten),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_gives_back_the_turns_that_were_written(corpus: tuple[Path, Talks], peer: str) -> None:
    rows, talks = corpus
    read, kept = PEERS[peer]
    assert read(rows) == {name: kept(turns) for name, turns in talks.items()}
