"""Golden rows: one file a task, every kind of tokenizer and template, the mask as aligned text.

A difference here is a change of what rows are. Where it is meant, rewrite the files with
`REWRITE_GOLDEN=1 python -m pytest tests/rows/test_golden.py` (or `python tests/rows/test_golden.py`)
and let the review see the diff. Spans alternate between `masked` (label -100) and `LEARNT`.
"""

import itertools
import json
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from toys.dialogues import ToyClips
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn
from toys.tokenizer import toy_tokenizer

from speechrows.rows.rows import RowSpec
from speechrows.rows.rows import load_clips
from speechrows.rows.rows import to_rows
from speechrows.rows.tasks import CORRESPOND
from speechrows.rows.tasks import NUM_UNITS
from speechrows.rows.tasks import TASKS
from speechrows.text.options import TemplateOptions
from speechrows.text.template import compile_template
from speechrows.text.template import is_chat
from speechrows.types import IGNORE_INDEX
from speechrows.types import Dialogue
from speechrows.types import Row
from speechrows.types import Task

GOLDEN = Path(__file__).parent / "golden"
CASES = [
    ("byte_level", None),
    ("bpe_adds_bos", None),
    ("bpe", "chatml"),
    ("bpe", "chatml_with_default_system"),
    ("bpe", "llama3_strftime_now"),
    ("bpe_without_pad", "think_first"),
    ("bpe_nfc", "no_end_token"),
    ("metaspace_always", "model_role"),
    ("metaspace_first", "bos_every_turn"),
    ("llama3", "llama3_date_string"),
    ("tekken", "bos_every_turn"),
]
# First and later turns, a decomposed letter, a special token that is only spelled, white space to strip.
TURNS: list[tuple[str, str, dict[str, Any]]] = [
    ("How is the Cafe\u0301 today?", "2000@16000", {"answer": " Thanks for Asking! "}),
    (" The <|im_end|> is the end. ", "1281@16000", {"answer": "A word that was cut", "answer_is_cut": True}),
    ("日本?", "1@8000", {"answer": "日本."}),
    ("Yes </s>", "882@22050", {"answer": "No <audio>"}),
]


def dialogue_for(task: Task) -> Dialogue:
    return toy_dialogue(*(toy_turn(i, needs=task.needs, **_turn_for(task, i)) for i in range(len(TURNS))))


def _turn_for(task: Task, number: int) -> dict[str, Any]:
    text, audio, more = TURNS[number]
    if task.name == "chat":  # a clip among words, then words alone
        return {"text": text, "audio": None if number == 2 else audio} | (
            {"prompt": " In <audio>, who\u0301 speaks? "} if number == 0 else {}
        )
    return {"text": text, "audio": audio} | (more if task.needs == "answer" else {})


def name_of(tokenizer: str, template: str | None) -> str:
    return f"{tokenizer} x {template or 'plain form'}"


def rows_of(task_name: str, tokenizer: str, template: str | None) -> list[dict[str, Any]]:
    task = TASKS[task_name]
    made = toy_tokenizer(tokenizer, template)
    if not is_chat(task):
        made.add_tokens([CORRESPOND, *(f"<|unit{i}|>" for i in range(NUM_UNITS))], special_tokens=True)
    template = compile_template(made, task, TemplateOptions())
    spec = RowSpec(
        builder="toys", corpus="toys", task=task, template=template, tokens_per_second=Fraction(25, 2)
    )
    rows, skipped, _ = to_rows([load_clips(dialogue_for(task), task, ToyClips())], spec)
    assert not skipped
    return [readable(row, made) for row in rows]


def readable(row: Row, tokenizer) -> dict[str, Any]:
    """A row as a person reads it: ids are one string, so that a diff shows them in one line."""
    spans = []
    pairs = zip(row.input_ids.tolist(), row.labels.tolist(), strict=True)
    tokens = list(pairs)
    kept, pads = tokens[: row.num_tokens], len(tokens) - row.num_tokens
    for masked, span in itertools.groupby(kept, key=lambda pair: pair[1] == IGNORE_INDEX):
        text = tokenizer.decode([token for token, _ in span], clean_up_tokenization_spaces=False)
        spans.append(("masked: " if masked else "LEARNT: ") + text)
    assert all(label == IGNORE_INDEX for _, label in tokens[row.num_tokens :])
    codes = {} if row.codes is None else {"codes": f"{row.codes.codec} {row.codes.values.tolist()}"}
    return {
        "row_id": row.row_id,
        "messages": [f"{role}: {content}" for role, content in row.messages],
        "text": row.text,
        "spans": spans,
        "tokens": f"{row.num_tokens} and {pads} pads, {row.conversation_tokens} in the conversation",
        "ids": " ".join(str(token) for token, _ in kept),
        **codes,
    }


@pytest.mark.parametrize(("tokenizer", "template"), CASES, ids=[name_of(*case) for case in CASES])
@pytest.mark.parametrize("task", TASKS)
def test_rows_are_the_golden_ones(task, tokenizer, template):
    file, name = GOLDEN / f"{task}.json", name_of(tokenizer, template)
    found = rows_of(task, tokenizer, template)
    golden = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if os.environ.get("REWRITE_GOLDEN") == "1":
        golden[name] = found
        order = [name_of(*case) for case in CASES]
        kept = {case: golden[case] for case in order if case in golden}
        file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    else:
        assert found == golden[name]


def test_there_is_one_golden_file_a_task_with_every_case():
    assert sorted(file.stem for file in GOLDEN.glob("*.json")) == sorted(TASKS)
    for file in GOLDEN.glob("*.json"):
        assert list(json.loads(file.read_text("utf-8"))) == [name_of(*case) for case in CASES]


if __name__ == "__main__":
    os.environ["REWRITE_GOLDEN"] = "1"
    sys.exit(pytest.main([__file__]))
