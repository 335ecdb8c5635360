"""What chat.py promises: the supervised tokens, decoded, are exactly the target, under any template.

Over 300 lines, because the promises of one module stand in one file.
"""

import datetime
import itertools
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.examples import MANY
from toys.pairwise import PAIRS
from toys.pairwise import pairwise
from toys.templates import ENDS
from toys.templates import EOS
from toys.templates import REFUSED_TEMPLATES
from toys.templates import TEMPLATE_FEATURES
from toys.templates import TEMPLATES
from toys.texts import SPELLED
from toys.texts import TEXTS
from toys.tokenizer import REAL_TOKENIZERS
from toys.tokenizer import TOKENIZER_FEATURES
from toys.tokenizer import TOKENIZERS
from toys.tokenizer import toy_tokenizer

from speechrows.errors import TemplateError
from speechrows.rows.tasks import TASKS
from speechrows.text.chat import ChatTemplate
from speechrows.text.chat import compile_chat
from speechrows.text.normalise import normalise
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX

TTT, TRANSCRIPTION = TASKS["ttt"], TASKS["transcription"]
REAL_PAIRS = [
    ("llama3", None),
    ("llama3", "llama3_date_string"),
    ("tekken", None),
    ("tekken", "bos_every_turn"),
    ("tekken", "one_pair_only"),
]
SHAPES = sorted(TEMPLATES)
_chats: dict[tuple[str, str | None, str], ChatTemplate] = {}


def chat_of(name: str, template: str | None, task: str = "ttt") -> ChatTemplate:
    key = (name, template, task)
    if key not in _chats:
        _chats[key] = compile_chat(toy_tokenizer(name, template), TASKS[task])
    return _chats[key]


def decode(chat: ChatTemplate, ids: np.ndarray) -> str:
    return chat.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def row_of(chat: ChatTemplate, target: str, num_audio: int = 3, *, first: bool = True, pads: int = 0):
    """`input_ids` and `labels` of a row with `pads` pads; None where the target does not round trip."""
    (ids,) = chat.encode([target])
    if ids is None:
        return None
    length = chat.num_tokens(len(ids), num_audio, first=first) + pads
    return chat.assemble(ids, num_audio, first=first, length=length)


@pytest.mark.parametrize(("name", "template"), [*PAIRS, *REAL_PAIRS])
def test_the_supervised_tokens_decoded_are_exactly_the_target_for_any_text(name, template):
    chat = chat_of(name, template, "transcription")

    @FEW
    @given(st.lists(TEXTS.map(normalise).filter(bool), min_size=1, max_size=6))
    def check(targets: list[str]) -> None:
        for target, ids in zip(targets, chat.encode(targets), strict=True):
            if ids is None:
                continue
            _, labels = chat.assemble(ids, 2, first=True, length=chat.num_tokens(len(ids), 2, first=True) + 5)
            assert decode(chat, labels[labels != IGNORE_INDEX]).removeprefix(chat.lead) == target

    check()


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if not name.startswith("metaspace")])
def test_a_byte_level_tokenizer_gives_back_every_normalised_text(name):
    chat = chat_of(name, "chatml")

    @MANY
    @given(TEXTS.map(normalise).filter(bool))
    def check(target: str) -> None:
        # The tokenizers package has Unicode tables of its own: NFC may differ for the newest characters.
        assert chat.encode([target])[0] is not None or name == "bpe_nfc"

    check()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("metaspace_unk", "snow\u2603man"),
        ("metaspace_unk", "\u2603"),
        ("metaspace_always", "a\u2581b"),
        ("bpe_nfc", "e\u0301"),
    ],
)
def test_a_target_that_the_tokenizer_does_not_give_back_is_none(name, target):
    assert chat_of(name, "chatml").encode([target, "the inn"])[0] is None
    assert chat_of(name, "chatml").encode([target, "the inn"])[1] is not None


@pytest.mark.parametrize(("name", "template"), [*PAIRS, *REAL_PAIRS])
def test_exactly_the_audio_tokens_are_audio_and_labels_are_ignored_or_equal(name, template):
    chat = chat_of(name, template, "transcription")
    for target in ("the inn", "say <audio> twice <audio>", "İ 日本"):
        for num_audio in (0, 1, 7):
            row = row_of(chat, target, num_audio, pads=9)
            if row is None:
                continue
            input_ids, labels = row
            is_audio = input_ids == chat.audio_id
            assert is_audio.sum() == num_audio
            at = len(chat.before_first.ids)
            assert is_audio[at : at + num_audio].all()
            assert (labels[is_audio] == IGNORE_INDEX).all()
            assert ((labels == IGNORE_INDEX) | (labels == input_ids)).all()
            assert input_ids.dtype == labels.dtype == np.int32
            assert (input_ids[-9:] == chat.pad_id).all()
            assert (labels[-9:] == IGNORE_INDEX).all()


@pytest.mark.parametrize("name", [*TOKENIZERS, *REAL_TOKENIZERS])
def test_a_transcript_that_spells_a_special_token_stays_text(name):
    chat = chat_of(name, None)
    special = set(chat.tokenizer.all_special_ids)
    spellings = ("{0}", "a {0} b", "{0}{0}{0}", "{0}\n{0}")
    for target in (spelling.format(token) for token in SPELLED for spelling in spellings):
        (ids,) = chat.encode([target])
        assert ids is None or not special & set(ids.tolist())
        assert ids is not None or name == "metaspace_unk"


def test_corpus_text_does_not_change_how_the_template_is_tokenised():
    tokenizer = toy_tokenizer("bpe", "chatml")
    before = compile_chat(tokenizer, TTT)
    before.encode(["<|im_end|>"])
    after = compile_chat(tokenizer, TTT)
    assert after.before_first.ids.tolist() == before.before_first.ids.tolist()
    assert after.before_first.ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


@pytest.mark.parametrize(("name", "template"), [pair for pair in PAIRS if pair[1] is not None])
def test_the_end_token_is_supervised_and_gap_and_tail_are_not(name, template):
    chat = chat_of(name, template)
    end, tail = ENDS[template]
    end = chat.tokenizer.eos_token if end == EOS else end
    assert (chat.end.text, chat.tail.text) == (end, tail)
    end_id = chat.tokenizer.convert_tokens_to_ids(end) if end else chat.tokenizer.eos_token_id
    assert chat.end.ids.tolist() == [end_id]
    input_ids, labels = row_of(chat, "the inn")
    supervised = np.flatnonzero(labels != IGNORE_INDEX)
    assert labels[supervised[-1]] == end_id
    after = len(input_ids) - 1 - supervised[-1]
    assert after == len(chat.tail.ids)
    assert (supervised[0] > np.flatnonzero(input_ids == chat.audio_id)[-1]).all()
    num_between = supervised[-1] - supervised[0] + 1 - len(supervised)
    assert num_between == len(chat.gap.ids)


def test_a_space_before_the_end_token_is_a_gap_without_loss():
    chat = chat_of("bpe", "bos_every_turn")
    assert chat.gap.text == " "
    assert chat.lead == " "
    _, labels = row_of(chat, "the inn")
    assert labels.tolist()[-2:] == [IGNORE_INDEX, chat.end.ids[0]]


@pytest.mark.parametrize(("name", "template"), [*PAIRS, *REAL_PAIRS])
def test_num_tokens_is_the_length_that_assemble_fills(name, template):
    chat = chat_of(name, template)
    for first in (True, False):
        full, labels = row_of(chat, "the inn", 2, first=first, pads=0)
        padded, padded_labels = row_of(chat, "the inn", 2, first=first, pads=4)
        assert padded[:-4].tolist() == full.tolist()
        assert padded_labels[:-4].tolist() == labels.tolist()


def test_without_a_pad_token_pads_are_eos_and_never_supervised():
    chat = chat_of("bpe_without_pad", "chatml")
    assert chat.pad_id == chat.tokenizer.eos_token_id
    input_ids, labels = row_of(chat, "the inn", pads=3)
    assert input_ids[-3:].tolist() == [chat.pad_id] * 3
    assert labels[-3:].tolist() == [IGNORE_INDEX] * 3


@pytest.mark.parametrize("template", SHAPES)
@pytest.mark.parametrize("task", [TTT, TRANSCRIPTION], ids=lambda task: task.name)
def test_the_text_of_a_first_row_is_what_the_template_renders(template, task):
    chat = chat_of("bpe", template, task.name)
    messages = [
        {"role": "user", "content": task.segments[0].text},
        {"role": "assistant", "content": "the inn"},
    ]
    rendered = chat.tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        enable_thinking=False,
        date_string="26 Jul 2024",
        chat_template=TEMPLATES[template].replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    )
    assert chat.render("the inn", first=True) == rendered
    assert chat.render("the inn", first=True).count(AUDIO_TOKEN) == 1


@pytest.mark.parametrize("template", SHAPES)
def test_later_turns_drop_bos_and_the_default_system_header(template):
    chat = chat_of("bpe", template)
    specials = chat.before_later.ids.tolist()
    assert chat.tokenizer.bos_token_id not in specials
    assert "system" not in chat.before_later.text
    assert "Date" not in chat.before_later.text
    assert "[gMASK]" not in chat.before_later.text
    assert chat.before_first.text.endswith(chat.before_later.text)
    assert chat.before_later.text  # and the user's header stays


def two_turns(tokenizer, template: str, task) -> str:
    ask = task.segments[0].text
    contents = [ask, "the inn", ask, "er"]
    return tokenizer.apply_chat_template(
        [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)],
        tokenize=False,
        enable_thinking=False,
        date_string="26 Jul 2024",
        chat_template=TEMPLATES[template].replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    )


def joined(chat: ChatTemplate) -> tuple[str, list[int]]:
    """The texts and the unpadded ids of turns 0 and 1, one audio token each."""
    text = chat.render("the inn", first=True) + chat.render("er", first=False)
    ids = [row_of(chat, target, 1, first=target == "the inn")[0] for target in ("the inn", "er")]
    return text, np.concatenate(ids).tolist()


@pytest.mark.parametrize(
    ("name", "template"),
    [
        *((name, shape) for name in ("bpe", "bpe_nfc", "byte_level") for shape in ("chatml", "trims")),
        ("bpe", "chatml_with_default_system"),
        ("bpe", "model_role"),
        ("llama3", "llama3_date_string"),
        ("llama3", "llama3_strftime_now"),
        ("byte_level", "llama3_date_string"),
    ],
)
def test_joining_the_rows_of_two_turns_gives_what_the_template_renders_for_both(name, template):
    chat = chat_of(name, template)
    text, ids = joined(chat)
    rendered = two_turns(chat.tokenizer, template, TTT)
    assert text == rendered
    assert ids == chat.tokenizer(rendered, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("template", ["end_only_between_turns", "no_end_token"])
def test_joining_rows_without_a_rendered_end_token_ends_each_turn_once(template):
    chat = chat_of("bpe", template)
    _, ids = joined(chat)
    assert ids.count(chat.tokenizer.eos_token_id) == 2


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_plain_form_reads_as_documented(name):
    chat = chat_of(name, None, "transcription")
    weather = "the weather is beautiful today."
    assert chat.render(weather, first=True) == f"User: <audio> Transcribe:\nAssistant: {weather}"
    assert chat.lead == " "
    assert chat.end.ids.tolist() == [chat.tokenizer.eos_token_id]
    assert chat.end.text == chat.tail.text == chat.gap.text == ""


def test_the_plain_form_begins_with_the_bos_that_the_tokenizer_adds_and_only_at_turn_0():
    chat = chat_of("bpe_adds_bos", None)
    bos = chat.tokenizer.bos_token_id
    assert row_of(chat, "the inn", first=True)[0].tolist().count(bos) == 1
    assert chat.before_first.ids[0] == bos
    assert bos not in row_of(chat, "the inn", first=False)[0]
    assert bos not in chat_of("bpe", None).before_first.ids


@pytest.mark.parametrize("template", ["llama3_date_string", "bos_every_turn"])
def test_a_template_that_writes_bos_is_not_given_a_second_one(template):
    chat = chat_of("bpe_adds_bos", template)
    assert row_of(chat, "the inn")[0].tolist().count(chat.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("template", ["llama3_date_string", "llama3_strftime_now"])
def test_the_date_is_the_one_given_and_never_today(template):
    tokenizer = toy_tokenizer("bpe", template)
    today = datetime.datetime.now().astimezone().strftime("%d %b %Y")
    text = compile_chat(tokenizer, TTT).render("the inn", first=True)
    assert "Date: 26 Jul 2024" in text
    given_date = compile_chat(tokenizer, TTT, datetime.date(1999, 1, 2)).render("the inn", first=True)
    assert "Date: 02 Jan 1999" in given_date
    assert today not in text + given_date


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%-d %B %Y", "%A, %d.%m.%y", "%H:%M", "today"])
def test_a_template_may_write_the_date_in_any_form_and_from_inside_a_macro(form):
    template = (
        "{% macro head() %}{% set day = strftime_now('" + form + "') %}Date: {{ day }};{% endmacro %}"
        "{{ head() }}{{ '[INST]' + messages[0].content + '[/INST]' + messages[1].content + '</s>' }}"
    )
    date = datetime.date(2024, 7, 6)
    chat = compile_chat(toy_tokenizer("bpe", template), TTT, date)
    assert chat.before_first.text == f"Date: {date.strftime(form)};[INST]"


def test_thinking_is_off_and_the_empty_think_block_takes_no_loss():
    chat = chat_of("bpe", "think_first")
    assert chat.between.text.endswith("<think>\n\n</think>\n\n")
    input_ids, labels = row_of(chat, "the inn")
    think = chat.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert [token_id for token_id in input_ids if token_id in think] == think
    assert not set(labels.tolist()) & set(think)


@pytest.mark.parametrize(("template", "word"), REFUSED_TEMPLATES.values(), ids=REFUSED_TEMPLATES)
def test_a_template_that_leaves_no_place_for_the_target_is_refused_with_what_it_does(template, word):
    tokenizer = toy_tokenizer("bpe", template)
    tokenizer.name_or_path = "org/model"
    with pytest.raises(TemplateError, match="org/model") as refusal:
        compile_chat(tokenizer, TTT)
    assert word in str(refusal.value)
    assert "Give a tokenizer with another template" in str(refusal.value)


def test_each_feature_of_a_template_is_tested_with_each_of_a_tokenizer() -> None:
    assert set(TEMPLATE_FEATURES) == {"plain form", *TEMPLATES}
    assert set(TOKENIZER_FEATURES) == set(TOKENIZERS)
    pairs = [(name, template or "plain form") for name, template in PAIRS]
    met = {
        meeting
        for name, template in pairs
        for meeting in itertools.product(TOKENIZER_FEATURES[name], TEMPLATE_FEATURES[template])
    }
    one, other = (set().union(*table.values()) for table in (TOKENIZER_FEATURES, TEMPLATE_FEATURES))
    assert met == set(itertools.product(one, other))
    assert min(Counter(name for pair in pairs for name in pair).values()) >= 2
    assert set(Counter(name for pair in pairs for name in pair)) == {*TOKENIZERS, *TEMPLATE_FEATURES}
    assert len(pairs) < len(TOKENIZERS) * len(TEMPLATE_FEATURES) * 2 / 3
    assert pairwise(TOKENIZER_FEATURES, TEMPLATE_FEATURES) == pairs


def test_nothing_to_encode_is_nothing():
    assert chat_of("bpe", "chatml").encode([]) == []


@MANY
@given(TEXTS, st.booleans())
def test_normalise_is_nfc_stripped_and_done_once(text, lower_case):
    once = normalise(text, lower_case=lower_case)
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)
    assert normalise(once, lower_case=lower_case) == once
