"""Writes moshi_streams.json: what moshi-finetune and moshi make of words and streams of ours.

    SPEECHROWS_MOSHI_FINETUNE=CHECKOUT PYTHONPATH=.:tests \\
      python tests/conversations/golden/make_moshi_streams.py

Words are those of the bundled DailyTalk, DeepDialogue and cuts, timed by their letters, and made-up ones
that are hard; ids are of a sentencepiece model that is trained on them.
"""

import io
import json
import random
import subprocess
import tempfile
from collections import Counter
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import sentencepiece
from toys.building import build_rows
from toys.moshi_finetune import Words
from toys.moshi_finetune import delayed
from toys.moshi_finetune import module
from toys.moshi_finetune import text_stream
from toys.samples import SAMPLE_OF

from speechrows.conversations.timeline import timeline
from speechrows.conversations.turns import COLUMNS
from speechrows.conversations.turns import conversations
from speechrows.conversations.words import Proportional
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.interop.parts import plan_parts
from speechrows.interop.parts import read_part

SPEAKERS = {"assistant": "SPEAKER_MAIN", "user": "SPEAKER_USER"}


def spoken(builder: str, count: int) -> dict[str, tuple[int, Words]]:
    """Words of a bundled corpus' first conversations, and the frames that these take."""
    rows = Path(tempfile.mkdtemp())
    build_rows(SAMPLE_OF[builder], rows, "ttt", builder=builder)
    folder, cases = RowsFolder.open(rows), dict[str, tuple[int, Words]]()
    for part in plan_parts(Index.open(folder, "ttt"), max_bytes=1 << 30, max_rows=1 << 30):
        for conversation in conversations(read_part(folder, part, COLUMNS)):
            talk = timeline(conversation.turns, 0.5, Counter())
            words = [
                (word.text, round(word.start_s, 4), round(word.stop_s, 4), SPEAKERS[turn.role])
                for turn, start, form in zip(talk.turns, talk.times_s, talk.forms, strict=True)
                for word in Proportional().words(turn, start, start + form.num_samples / form.rate_hz)
            ]
            num_frames = -(-talk.num_samples * 25 // (2 * talk.rate_hz))
            cases[conversation.id] = num_frames, sorted(words, key=lambda word: word[1])
    return dict([*cases.items()][:count])


def hard(seed: int) -> tuple[int, Words]:
    """Words that crowd a frame, last no time, are of many ids, or begin behind the end."""
    rng = random.Random(seed)
    words = [
        (rng.choice(["a", "to", "understand", "incomprehensibilities"]),
         start, start + rng.choice([0, 0.1, 0.8]), rng.choice([*SPEAKERS.values()]))
        for start in sorted(round(rng.uniform(-0.1, 6), 3) for _ in range(rng.choice([3, 30, 90])))
    ]  # fmt: skip
    return rng.randrange(40, 70), words


def main() -> None:
    """Write the JSON beside this file."""
    talks = {f"hard {seed}": hard(seed) for seed in range(6)}
    for builder in ("dailytalk_usdm", "deepdialogue_ttt", "lhotse_cuts"):
        talks |= spoken(builder, 2)
    texts = [word for _, words in talks.values() for word, *_ in words]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=200, hard_vocab_limit=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=3, minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids_of = {text: processor.encode(text) for text in sorted({*texts})}
    checkout = Path(module("finetune").__file__).parents[1]
    commit = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    streams = np.random.default_rng(0).integers(0, 2048, (17, 7))
    golden = {
        "made_by": "make_moshi_streams.py, with the Interleaver of moshi-finetune's checkout",
        "moshi_finetune": commit or "unknown",
        "moshi": version("moshi"),
        "streams": streams.tolist(),
        "delays": module("moshi.models.loaders")._lm_kwargs["delays"],
        "delayed": delayed(streams),
        "ids_of": ids_of,
        "cases": [
            {
                "name": name,
                "num_frames": num_frames,
                "words": words,
                "main_only": main_only,
                "keep_all": keep_all,
                "stream": text_stream(words, ids_of, num_frames, main_only=main_only, keep_all=keep_all),
            }
            for (name, (num_frames, words)), main_only, keep_all in product(
                talks.items(), (True, False), (False, True)
            )
        ],
    }
    text = json.dumps(golden, separators=(",", ":"), ensure_ascii=False)
    Path(__file__).with_name("moshi_streams.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
