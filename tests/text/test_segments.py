"""USDM's script under every tokenizer: ids, mask, text, and the ids that its authors' way gives."""

import copy
import unicodedata
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers
from toys.examples import MANY
from toys.texts import SPELLED
from toys.texts import TEXTS
from toys.tokenizer import REAL_TOKENIZERS
from toys.tokenizer import TOKENIZERS
from toys.tokenizer import toy_tokenizer
from transformers import PreTrainedTokenizerFast

from speechrows.errors import TemplateError
from speechrows.errors import UsageError
from speechrows.rows.tasks import CORRESPOND
from speechrows.rows.tasks import TASKS
from speechrows.text.segments import PiecesTemplate
from speechrows.text.segments import RenderedPieces
from speechrows.text.segments import compile_segments
from speechrows.types import Fields

USDM = TASKS["usdm"]
NUM_UNITS = 12  # of the toys
UNITS = st.lists(st.integers(0, NUM_UNITS - 1), max_size=6).map(lambda units: np.array(units, np.int16))
FILLINGS = st.builds(Fields, transcript=TEXTS, answer=TEXTS, units=UNITS, answer_units=UNITS)
NAMES = sorted(
    {*TOKENIZERS, *REAL_TOKENIZERS, "legacy"} - {"metaspace_unk"}
)  # which can not write a line break
SENTENCEPIECE = (
    "legacy",
    "metaspace_always",
    "metaspace_first",
)  # as Llama's and Mistral's, with which USDM is made
INSTRUCTION = (
    "Below is a conversation between the user and the agent. Each turn includes the user's speech and its "
    "corresponding transcript, along with the agent's response text and the corresponding speech.\n"
)


def legacy() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral 7B: a normalizer writes the space, after every special token too."""
    tokenizer = toy_tokenizer("metaspace_always")
    replaced = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.backend_tokenizer.normalizer = replaced
    tokenizer.backend_tokenizer.pre_tokenizer = None
    return tokenizer


@cache
def with_units(name: str) -> PreTrainedTokenizerFast:
    tokenizer = legacy() if name == "legacy" else copy.deepcopy(toy_tokenizer(name))  # some toys are shared
    tokenizer.add_tokens([CORRESPOND, *(f"<|unit{i}|>" for i in range(NUM_UNITS))], special_tokens=True)
    return tokenizer


@cache
def added_tokens(name: str) -> tuple[str, ...]:
    return tuple(with_units(name).get_added_vocab())


@cache
def script(name: str, *, supervise_eos: bool = True) -> PiecesTemplate:
    return compile_segments(with_units(name), USDM, supervise_eos=supervise_eos)


def fill(template: PiecesTemplate, filling: Fields) -> RenderedPieces | None:
    (filled,) = template.fill([filling])
    return filled


def row(template: PiecesTemplate, filling: Fields) -> tuple[list[int], list[int]]:
    filled = fill(template, filling)
    assert filled is not None
    ids, labels = filled.assemble(99, length=filled.num_tokens(99))
    return ids.tolist(), labels.tolist()


def spelled(units: np.ndarray | None) -> str:
    return "".join(f"<|unit{unit}|>" for unit in units if units is not None)


def whole_text(filling: Fields) -> str:
    """USDM's template as one text, for texts that are lower case already."""
    return (
        f"{INSTRUCTION}\n### User\n{spelled(filling.units)}<|correspond|>{filling.transcript}\n"
        f"### Agent\n{filling.answer}<|correspond|>{spelled(filling.answer_units)}\n"
    )


def runs(labels: list[int]) -> list[list[int]]:
    """The runs of supervised ids."""
    found_runs: list[list[int]] = [[]]
    for label in labels:
        if label != -100:
            found_runs[-1].append(label)
        elif found_runs[-1]:
            found_runs.append([])
    return [run for run in found_runs if run]


def decoded(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text of ids, without the spaces that sentencepiece writes after special tokens."""
    return closed_up(tokenizer, tokenizer.decode(ids, clean_up_tokenization_spaces=False)).removeprefix(" ")


def closed_up(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A text without spaces after special tokens, those that it spells too."""
    for token in (CORRESPOND, tokenizer.bos_token or CORRESPOND, *(f"<|unit{i}|>" for i in range(NUM_UNITS))):
        text = text.replace(f"{token} ", token)
    return text


def said(text: str) -> str:
    """What a script makes of a corpus' text, but for its case."""
    return unicodedata.normalize("NFC", " ".join(text.lower().strip().splitlines()))


HEARD = Fields(
    transcript=" Does it cost\nto use it? ",
    answer="No, it is FREE.",
    units=np.array([3, 3, 1], np.int16),
    answer_units=np.array([0, 11], np.int16),
)


@pytest.mark.parametrize("name", NAMES)
@given(filling=FILLINGS)
@MANY
def test_ids_decode_to_the_text_and_the_mask_is_that_of_the_segments(name: str, filling: Fields) -> None:
    template, tokenizer = script(name), with_units(name)
    filled = fill(template, filling)
    if filled is None:
        return
    ids, labels = row(template, filling)
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    eos = str(tokenizer.eos_token)
    text = filled.text()
    transcript, _, rest = text.partition(CORRESPOND)[2].partition("\n### Agent\n")
    assert rest == f"{filled.target}{CORRESPOND}{spelled(filling.answer_units)}\n{eos}"
    assert text.startswith(f"{INSTRUCTION}\n### User\n{spelled(filling.units)}{CORRESPOND}")
    assert "\n" not in transcript + filled.target
    assert decoded(tokenizer, ids[len(template.leading) :]) == closed_up(tokenizer, text)
    heard, agent = runs(labels)
    assert decoded(tokenizer, heard) == closed_up(tokenizer, f"{transcript}\n")
    assert decoded(tokenizer, agent) == closed_up(tokenizer, rest)
    # What is masked is all the rest, BOS among it.
    assert len(heard) + len(agent) + labels.count(-100) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_words_survive_in_every_tokenizer(name: str) -> None:
    texts = ["hello", "the 3 of us: don't!", "¿qué?", "日本", '"quoted" {answer} {units} %s \\']
    for text in [*texts, *SPELLED, "<|correspond|> <|unit1|>", "### Agent"]:
        assert fill(script(name), replace(HEARD, transcript=text, answer=text)) is not None, text


@pytest.mark.parametrize("name", [*SENTENCEPIECE, "bpe", "bpe_adds_bos", "byte_level", *REAL_TOKENIZERS])
@given(filling=FILLINGS)
@MANY
def test_ids_are_those_of_the_whole_text(name: str, filling: Fields) -> None:
    lines = replace(filling, transcript=said(filling.transcript), answer=said(filling.answer))
    tokenizer = with_units(name)
    if any(token in lines.transcript + lines.answer for token in added_tokens(name)):
        return  # the whole text would say it
    if not lines.transcript or not lines.answer or fill(script(name), lines) is None:
        return
    expected = tokenizer(whole_text(lines))["input_ids"] + [tokenizer.eos_token_id]
    assert row(script(name), lines)[0] == expected


def test_a_corpus_text_is_stripped_lowered_and_on_one_line() -> None:
    filled = fill(script("bpe"), HEARD)
    assert filled is not None
    assert filled.target == "no, it is free."
    assert filled.text() == (
        f"{INSTRUCTION}\n### User\n<|unit3|><|unit3|><|unit1|><|correspond|>does it cost to use it?\n"
        "### Agent\nno, it is free.<|correspond|><|unit0|><|unit11|>\n</s>"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("token", ["<|correspond|>", "<|unit1|>", "</s>"])
def test_a_transcript_that_spells_a_special_token_stays_text(name: str, token: str) -> None:
    tokenizer = with_units(name)
    quiet, loud = (
        row(script(name), replace(HEARD, transcript=text, answer=text))[0] for text in ("a", f"a {token} b")
    )
    special = set(tokenizer.all_special_ids) | {
        i for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    assert [i for i in loud if i in special] == [i for i in quiet if i in special]


@pytest.mark.parametrize("name", NAMES)
def test_as_published_the_last_line_break_and_eos_take_no_loss(name: str) -> None:
    tokenizer = with_units(name)
    ids, labels = row(script(name), HEARD)
    published_ids, published = row(script(name, supervise_eos=False), HEARD)
    assert published_ids == ids
    assert labels[-2:] == ids[-2:]
    assert ids[-1] == tokenizer.eos_token_id
    assert published[-2:] == [-100, -100]
    assert published[:-2] == labels[:-2]


@pytest.mark.parametrize("name", ["legacy", "metaspace_always"])
def test_as_published_the_lone_space_after_the_last_unit_takes_loss(name: str) -> None:
    """USDM's inference stops the speech there: it is the token 28705 of Mistral."""
    tokenizer = with_units(name)
    ids, labels = row(script(name, supervise_eos=False), HEARD)
    assert tokenizer.convert_ids_to_tokens(ids[-4:]) == ["<|unit11|>", "\u2581", "<0x0A>", "</s>"]
    assert labels[-4:] == [*ids[-4:-2], -100, -100]


def test_bos_is_written_where_the_tokenizer_writes_it() -> None:
    plain, bos = row(script("bpe"), HEARD)[0], row(script("bpe_adds_bos"), HEARD)
    assert bos[0] == [with_units("bpe").bos_token_id, *plain]
    assert bos[1][0] == -100


def test_rows_are_padded_on_the_right_and_audio_takes_no_room() -> None:
    template = script("bpe")
    filled = fill(template, HEARD)
    assert filled is not None
    length = filled.num_tokens(0)
    assert filled.num_tokens(5000) == length
    ids, labels = filled.assemble(7, length=length + 3)
    assert ids.dtype == labels.dtype == np.int32
    assert ids[length:].tolist() == [with_units("bpe").pad_token_id] * 3
    assert labels[length:].tolist() == [-100] * 3
    assert ids[length - 1] == with_units("bpe").eos_token_id
    assert template.user == "<audio>"


def test_a_text_that_does_not_come_back_costs_its_own_row_alone() -> None:
    good, bad = HEARD, replace(HEARD, transcript="\u2581")
    filled = script("metaspace_first").fill([good, bad, good])
    assert [entry is None for entry in filled] == [False, True, False]
    assert script("metaspace_first").fill([]) == []
    first, _, last = filled
    assert first is not None
    assert last is not None
    assert first.piece_ids[0].tolist() == last.piece_ids[0].tolist()
    assert np.array_equal(np.concatenate(first.piece_ids), np.concatenate(last.piece_ids))


def test_a_batch_gives_each_row_its_own_texts_and_units() -> None:
    other = replace(HEARD, transcript="one", answer="two", units=HEARD.answer_units)
    rendered = script("bpe").fill([HEARD, other, HEARD])
    assert [entry.target if entry else None for entry in rendered] == [
        "no, it is free.",
        "two",
        "no, it is free.",
    ]
    for entry, filling in zip(rendered, [HEARD, other, HEARD], strict=True):
        assert entry is not None
        assert entry.assemble(0, length=entry.num_tokens(0))[0].tolist() == (row(script("bpe"), filling)[0])


@pytest.mark.parametrize(
    ("tokens", "missing"),
    [
        ([], "<|unit0|>"),
        ([CORRESPOND], "<|unit0|>"),
        (["<|unit0|>", "<|unit1|>"], CORRESPOND),
        ([CORRESPOND, "<|unit0|>", "<|unit2|>"], "<|unit1|>"),
    ],
)
def test_a_tokenizer_without_the_scripts_tokens_is_refused(tokens: list[str], missing: str) -> None:
    tokenizer = toy_tokenizer("bpe")
    if tokens:
        tokenizer.add_tokens(tokens, special_tokens=True)
    with pytest.raises(TemplateError) as error:
        compile_segments(tokenizer, USDM, supervise_eos=True)
    assert f"has no special token {missing}" in str(error.value)
    assert "Fix:" in str(error.value)


def test_units_that_are_ordinary_tokens_are_not_enough() -> None:
    """A transcript could spell them."""
    tokenizer = toy_tokenizer("bpe")
    tokenizer.add_tokens([CORRESPOND, "<|unit0|>"])
    with pytest.raises(TemplateError, match="has no special token"):
        compile_segments(tokenizer, USDM, supervise_eos=True)


def test_a_tokenizer_that_can_not_write_a_line_break_is_refused() -> None:
    with pytest.raises(TemplateError, match="gives back"):
        compile_segments(with_units("metaspace_unk"), USDM, supervise_eos=True)


@pytest.mark.parametrize("unit", [-1, NUM_UNITS, 9999])
def test_a_unit_that_the_tokenizer_lacks_stops_with_its_number(unit: int) -> None:
    units = np.array([0, unit], np.int16)
    with pytest.raises(
        UsageError, match=rf"{unit}; the tokenizer has <\|unit0\|> to <\|unit11\|>" if unit > 0 else "-1"
    ):
        script("bpe").fill([replace(HEARD, units=units)])
