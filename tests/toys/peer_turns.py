"""Three corpora, and cuts of lhotse's whose speakers overlap: their rows, and the turns to be read back."""

import contextlib
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechrows.cli import main
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import SAMPLE_OF

CORPORA = {
    "DeepDialogue": "deepdialogue_ttt",
    "MultiDialog": "multidialog_ttt",
    "DailyTalk": "dailytalk_usdm",
    "cuts": "lhotse_cuts",
}
GAP_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a peer gives back of a turn; None, where its format has no place for it.

    `first` is the sample of the conversation with which it begins.
    """

    role: str
    text: str | None = None
    first: int | None = None
    samples: str | None = None


Talks = Mapping[str, Sequence[Turn]]  # turns of conversations, by the ends of their names


def heard(samples: Any) -> str:
    """Samples of one channel in [-1, 1], as what can be compared, and told."""
    return f"{len(samples)}: {hashlib.sha256(np.asarray(samples, np.float32).tobytes()).hexdigest()[:12]}"


def build_corpus(folder: Path, name: str) -> tuple[Path, Talks]:
    """Build the rows of a corpus; their folder, and their turns."""
    builder = CORPORA[name]
    if builder == "lhotse_cuts":
        cuts = pytest.importorskip("toys.cuts")
        made = [cuts.conversation(folder / "cuts", name, seed) for seed, name in enumerate(("first", "last"))]
        cuts.write_manifest(folder / "cuts", made)
        build_rows(folder / "cuts", folder / "rows", builder=builder, assistant="B")
    else:
        build_rows(SAMPLE_OF[builder], folder / "rows", builder=builder)
    talks, last = defaultdict[str, list[Turn]](list), 0
    for row in read_rows(folder / "rows"):
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        turns, start = talks[row["conversation_id"].rpartition("/")[2]], row["start_s"]
        first = round((last + GAP_S * rate if turns else 0) if start is None else start * rate)
        turns.append(Turn(role=row["role"], text=row["transcript"], first=first, samples=heard(samples)))
        last = first + len(samples)
    return folder / "rows", talks


def export(name: str, rows: Path, *flags: str) -> Path:
    """Write an export by its command; its folder."""
    out = rows.parent / "-".join((name, *flags)).replace("--", "")
    if not out.exists():
        command = ["export", name, str(rows), "--config", "ttt", "--out", str(out), *flags]
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(command) == 0
    return out


def splits_of(rows: Path) -> list[str]:
    """The splits of a folder's rows."""
    return sorted({path.name.split("-")[1] for path in (rows / "data/ttt").rglob("*.parquet")})


def answered(turns: Sequence[Turn]) -> Sequence[Turn]:
    """The turns of a chat: up to the last answer, and of answers the words alone."""
    last = max(number for number, turn in enumerate(turns) if turn.role == "assistant")
    return [
        replace(turn, first=None, samples=None if turn.role == "assistant" else turn.samples)
        for turn in turns[: last + 1]
    ]


def untimed(turns: Sequence[Turn]) -> Sequence[Turn]:
    """The turns of a format that has no time."""
    return [replace(turn, first=None) for turn in turns]


def unwritten(turns: Sequence[Turn]) -> Sequence[Turn]:
    """The turns of a chat, in which what the user says is told by the clip alone."""
    return [replace(turn, text=None) if turn.role == "user" else turn for turn in answered(turns)]


def of_chat(messages: Sequence[Mapping[str, str]], clips: Iterator[Path]) -> list[Turn]:
    """The turns of a chat, whose user speaks."""
    return [
        Turn(role="user", samples=heard(soundfile.read(next(clips), dtype="float32")[0]))
        if message["role"] == "user"
        else Turn(role="assistant", text=message["content"])
        for message in messages
    ]
