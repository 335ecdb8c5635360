"""A table of conversations that make an export's life hard, beside the clips of the bundled table."""

import json
import shutil
from pathlib import Path

from toys.building import build_rows
from toys.samples import SAMPLE_OF

CLIPS = ("c1_0", "c1_1", "c1_2", "c2_0", "c2_1")
TALKS = {  # who says what, turn by turn: u the user, a the assistant
    "plain": [("u", "Good morning."), ("a", "Hello."), ("u", "How are you?"), ("a", "Well.")],
    "begins.with.an.answer": [("a", "Yes?"), ("u", "I am"), ("u", "here."), ("a", "Good."), ("u", "Bye.")],
    "spells": [("u", "What is <audio>?"), ("a", "A tag, as <image> is.")],
    "nobody": [("a", "Is there anybody?")],
    "last": [("u", "The end?"), ("a", "The end.")],
}


def clip_of(talk: str, turn: int) -> Path:
    """The clip of a turn."""
    number = [*TALKS].index(talk) + turn
    return SAMPLE_OF["audio_table"] / "clips" / f"{CLIPS[number % len(CLIPS)]}.opus"


def build_talks(folder: Path, config: str = "ttt", **options: object) -> str:
    """Build the rows of the conversations; the built folder."""
    (folder / "talks/clips").mkdir(parents=True, exist_ok=True)
    rows = list[dict[str, object]]()
    for name, turns in TALKS.items():
        for turn, (side, text) in enumerate(turns):
            clip = f"clips/{name.replace('.', '-')}-{turn}.opus"
            shutil.copy(clip_of(name, turn), folder / "talks" / clip)
            role = {"u": "user", "a": "assistant"}[side]
            who = {"u": "Ann", "a": "Bob"}[side]
            facts = {"conversation": name, "turn": turn, "role": role, "speaker": who, "start": 10.0 * turn}
            rows.append({"audio": clip, "text": text, **facts})
    (folder / "talks/talks.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    build_rows(folder / "talks", folder / "rows", config, builder="audio_table", **options)
    return str(folder / "rows")
