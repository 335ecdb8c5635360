"""Batches: whatever texts weigh together, the same rows come back, from batches that fit into memory."""

import pytest
from toys.tokenizer import toy_tokenizer

from speechrows.rows.tasks import TASKS
from speechrows.text import fill as filling
from speechrows.text.options import TemplateOptions
from speechrows.text.template import compile_template
from speechrows.types import Fields


@pytest.mark.parametrize("most", [1, 50, 200])
def test_rows_are_the_same_in_batches_of_any_weight(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    template = compile_template(toy_tokenizer("bpe"), TASKS["transcription"], TemplateOptions())
    rows = [Fields(transcript="the inner word " * (i % 5)) for i in range(12)]
    whole = [row and row.text() for row in template.fill(rows)]
    monkeypatch.setattr(filling, "_MOST_CHARACTERS", most)
    assert [row and row.text() for row in filling.fill(template, rows)] == whole
    assert filling.fill(template, []) == []
