"""A conversation with a model gives the answers that rows in lanes have, turn after turn."""

import io
import logging
import wave
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import XTTS
from toys.tokenizer import toy_tokenizer

from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.loader.load import load
from speechrows.loader.loader import Loader
from speechrows.loader.plan.values import MicroBatch
from speechrows.model.config import RowsFacts
from speechrows.model.omni import Omni
from speechrows.model.omni import omni
from speechrows.model.session import Answer
from speechrows.model.session import Session
from speechrows.model.shape import ModelShape
from speechrows.types import IGNORE_INDEX

torch.set_num_threads(1)

TTT: dict[str, Any] = {"ttt_layers": 1, "ttt_at": "1", "ttt_mini_batch": 16}
MAX_TOKENS = 3


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rows of a task and tokenizer; each is built once."""

    @cache
    def built(task: str = "ttt", template: str | None = None) -> Path:
        out, options = tmp_path_factory.mktemp("session"), {}
        if template is not None:
            toy_tokenizer("bpe", template).save_pretrained(out / "tokenizer")
            options = {"tokenizer": str(out / "tokenizer")}
        build_rows(XTTS, out / "rows", task, **options)
        return out / "rows"

    return built


def opened(rows: Path, task: str = "ttt", *, mode: str = "lanes") -> Loader:
    size: Any = {"budget_seconds": 60} if mode == "bucket" else {"context": 2048}
    return load(str(rows), task, mode=mode, mel=80, **size)  # type: ignore[arg-type]


def model(loader: Loader, **shape: Any) -> Omni:
    """A model whose weights are large enough that what one token does to another shows."""
    torch.manual_seed(0)
    made = omni(ModelShape(**shape), loader.tokenizer)
    for parameter in made.speech_lm.lm.parameters():
        parameter.data.mul_(3)
    for layer in made.speech_lm.stateful:
        layer.gate.data.mul_(20)
    made.config = replace(made.config, rows=RowsFacts.of(loader))
    return made.eval()


def turns(rows: Path, task: str = "ttt") -> list[dict[str, Any]]:
    """The rows of the first conversation, in order."""
    all_rows = read_rows(rows, task)
    return [row for row in all_rows if row["conversation_id"] == all_rows[0]["conversation_id"]]


def with_answers(loader: Loader, answers: list[Answer], *, together: bool) -> list[Batch]:
    """The first rows of a loader as it collates them, each with its answer in the place of its target.

    They follow one another in a lane, or stand alone.
    """
    (whole,) = loader._read([_micro_batch([*range(len(answers))], [0] * len(answers))])
    ends = np.cumsum(whole.num_tokens)
    rows = []
    for end, length, answer in zip(ends, whole.num_tokens, answers, strict=True):
        ids, labels = whole.input_ids[end - length : end], whole.labels[end - length : end]
        supervised = np.flatnonzero(labels != IGNORE_INDEX)
        target = supervised[: len(supervised) - 1]  # all but the end token
        assert not answer.is_cut or len(answer.token_ids) == MAX_TOKENS
        parts = [ids[: target[0]], np.array(answer.token_ids, np.int32), ids[target[-1] + 1 :]]
        new = np.concatenate(parts).astype(np.int32)
        masked = new.copy()
        masked[: target[0]] = IGNORE_INDEX
        rows.append((new, masked))
    if together:
        lengths = [len(ids) for ids, _ in rows]
        ragged = replace(
            whole,
            micro_batch=_micro_batch([*range(len(rows))], lengths),
            num_tokens=np.array(lengths, np.int32),
            input_ids=np.concatenate([ids for ids, _ in rows]),
            labels=np.concatenate([labels for _, labels in rows]),
        )
        return [loader._collator(ragged, 0)]
    batches = []
    for number, (ids, labels) in enumerate(rows):
        (alone,) = loader._read([_micro_batch([number], [0])])
        alone = replace(alone, num_tokens=np.array([len(ids)], np.int32), input_ids=ids, labels=labels)
        batches.append(loader._collator(alone, 0))
    return batches


def _micro_batch(numbers: list[int], lengths: list[int]) -> MicroBatch:
    rows, starts = np.array(numbers, np.int32), np.cumsum([0, *lengths[:-1]]).astype(np.int32)
    zeros = np.zeros(len(rows), np.int32)
    return MicroBatch(
        step=0, number=0, num_sequences=1, rows=rows, sequence=zeros, start=starts, position=starts
    )


def greedy(session: Session, batches: list[Batch]) -> list[list[int]]:
    """What the session's model says in rows."""
    ends = {int(end.end_ids[0]) for end in (session._template.inner, session._template.last)}
    return [
        tokens
        for batch in batches
        for tokens in session.model.speech_lm.generate(batch, max_new_tokens=MAX_TOKENS, end_ids=ends).tokens
    ]


SPANS = ("conversation", "turn", "40")
TEMPLATES = ("chatml_with_default_system", "harmony", "bos_every_turn")
CASES = [(span, layers, None) for span in SPANS for layers in ({}, TTT)]
CASES += [("conversation", TTT, template) for template in TEMPLATES]


@pytest.mark.parametrize(("span", "layers", "template"), CASES)
def test_the_answers_of_a_conversation_are_those_of_its_rows_in_a_lane(
    build: Any, span: str, layers: dict[str, Any], template: str | None
) -> None:
    rows = build(template=template)
    loader, heard = opened(rows), turns(rows)[:3]
    net = model(loader, attention_span=span, **layers)
    session = Session(net, max_tokens=MAX_TOKENS)
    answers = [session.respond(row["audio"]["bytes"]) for row in heard]
    (lane,) = batches = with_answers(loader, answers, together=True)
    assert greedy(session, batches) == [[*answer.token_ids] for answer in answers]
    assert session._memory is not None
    assert int(session._memory.num_tokens[0]) == int(lane.attention_mask.sum())
    session.begin_anew()
    alone = []
    for row in heard:
        alone.append(session.respond(row["audio"]["bytes"]))
        session._memory = None
    assert alone[0] == answers[0], "a new conversation begins as the first one did"
    assert (alone == answers) == (span == "turn" and not layers), "earlier turns are remembered"


@pytest.mark.parametrize(("task", "mode"), [("ttt", "bucket"), ("transcription", "lanes")])
def test_where_rows_stood_alone_so_do_turns(build: Any, task: str, mode: str) -> None:
    rows = build(task)
    loader, heard = opened(rows, task, mode=mode), turns(rows, task)[:3]
    net = model(loader)
    session = Session(net, max_tokens=MAX_TOKENS)
    answers = [session.respond(row["audio"]["bytes"]) for row in heard]
    batches = with_answers(loader, answers, together=False)
    assert greedy(session, batches) == [[*answer.token_ids] for answer in answers]


def test_drawn_answers_are_the_same_for_a_seed_and_told_piece_by_piece(build: Any) -> None:
    rows = build()
    net, clip = model(opened(rows)), turns(rows)[0]["audio"]["bytes"]
    told: list[str] = []

    def said(seed: int, **options: Any) -> Answer:
        return Session(net, seed=seed, temperature=2.0, max_tokens=12, **options).respond(clip, told.append)

    first = said(1)
    assert "".join(told) == first.text
    assert len(told) > 1
    assert said(1) == first
    assert len({said(seed).token_ids for seed in (2, 3, 4)}) == 3
    likeliest = Session(net, max_tokens=12).respond(clip)
    assert said(5, top_p=1e-6) == likeliest


def silent_wav(num_samples: int, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.arange(2 * num_samples, dtype="<i2").tobytes())
    return file.getvalue()


def test_clips_of_other_rates_are_heard_and_what_is_no_clip_is_refused_by_name(
    build: Any, tmp_path: Path
) -> None:
    session = Session(model(opened(build())), max_tokens=2)
    (tmp_path / "slow.wav").write_bytes(silent_wav(4_000, 8_000))
    assert len(session.respond(tmp_path / "slow.wav").token_ids) <= 2
    (tmp_path / "empty.wav").write_bytes(silent_wav(0))
    (tmp_path / "text.wav").write_text("no sound")
    for name, message in {
        "empty.wav": "empty.wav: .*give another clip",
        "text.wav": "text.wav: .*give another clip",
        "none.wav": "none.wav: can not be read .No such file",
    }.items():
        with pytest.raises(UsageError, match=message):
            session.respond(tmp_path / name)


def test_a_conversation_longer_than_the_rows_is_warned_of_and_beyond_the_positions_refused(
    build: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = build()
    net, clip = model(opened(rows)), turns(rows)[0]["audio"]["bytes"]
    assert net.config.rows is not None
    session = Session(net, max_tokens=8)
    session.respond(clip)
    one_turn = session._num_tokens
    net.config = replace(net.config, rows=replace(net.config.rows, longest=one_turn))
    net.speech_lm.lm.config.max_position_embeddings = 3 * one_turn - 6
    session = Session(net, max_tokens=8)
    with caplog.at_level(logging.WARNING):
        lengths = [len(session.respond(clip).token_ids) for _ in range(3)]
    (warning,) = caplog.records
    assert f"has {2 * one_turn - 8} tokens, and the longest that the model was trained on {one_turn}" in (
        warning.message
    )
    assert lengths == [8, 8, 2], "an answer ends where the positions do"
    with pytest.raises(UsageError, match=f"has {3 * one_turn - 6} positions; begin a new conversation"):
        session.respond(clip)
    session.begin_anew()
    assert len(session.respond(clip).token_ids) == 8


def test_models_that_can_not_answer_are_refused(build: Any) -> None:
    loader = opened(build())
    with pytest.raises(UsageError, match="no rows trained"):
        Session(omni(ModelShape(), loader.tokenizer))
    net = model(loader)
    with pytest.raises(UsageError, match="found sing, expected one that the model learnt: ttt"):
        Session(net, task="sing")
    with pytest.raises(UsageError, match="no audio head"):
        Session(net, speaks=True)
    assert net.config.rows is not None
    options = net.config.rows.templates["ttt"]
    net.config = replace(
        net.config, rows=replace(net.config.rows, templates={"ttt": options, "usdm": options})
    )
    with pytest.raises(UsageError, match="found none, expected one that the model learnt: ttt, usdm"):
        Session(net)
    with pytest.raises(UsageError, match="hears units"):
        Session(net, task="usdm")
