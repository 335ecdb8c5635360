"""What chat.py promises: the supervised tokens, decoded, are exactly the target, under any template.

Over 300 lines, because the promises of one module stand in one file.
"""

import datetime
import fcntl
import itertools
import os
import signal
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence

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
from speechrows.text import render
from speechrows.text.chat import ChatTemplate
from speechrows.text.chat import RenderedChat
from speechrows.text.chat import compile_chat
from speechrows.text.normalise import normalise
from speechrows.text.options import DEFAULT_DATE
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import Fields

TTT, TRANSCRIPTION = TASKS["ttt"], TASKS["transcription"]
# Texts that begin and end with what tokenizers treat in ways of their own.
EDGES = st.sampled_from(["", " ", "\n", "日", "é", "7", "…", "\u2581"])
TARGETS = st.one_of(TEXTS, st.tuples(EDGES, TEXTS, EDGES).map("".join)).filter(
    lambda text: bool(text.strip())
)
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


def fill(chat: ChatTemplate, *targets: str) -> list[RenderedChat | None]:
    """The turns of a conversation with these targets."""
    turns = range(len(targets))
    fields = [Fields(transcript=targets[i], number=i, last=i == turns[-1]) for i in turns]
    return chat.fill(fields)


def row_of(
    chat: ChatTemplate,
    target: str,
    num_audio: int = 3,
    *,
    first: bool = True,
    last: bool = True,
    pads: int = 0,
):
    """`input_ids` and `labels` of a row with `pads` pads; None where the target does not round trip."""
    (row,) = chat.fill([Fields(transcript=target, number=0 if first else 1, last=last)])
    return row and row.assemble(num_audio, length=row.num_tokens(num_audio) + pads)


def text_of(chat: ChatTemplate, target: str, **which: int) -> str:
    (row,) = chat.fill([Fields(transcript=target, **which)])
    assert row is not None
    return row.text()


@pytest.mark.parametrize(("name", "template"), [*PAIRS, *REAL_PAIRS])
def test_the_supervised_tokens_decoded_are_exactly_the_target_for_any_text(name, template):
    chat = chat_of(name, template, "transcription")

    @FEW
    @given(st.lists(TEXTS.map(normalise).filter(bool), min_size=1, max_size=6))
    def check(targets: list[str]) -> None:
        for target in targets:
            row = row_of(chat, target, 2, pads=5)
            if row is not None:
                target = normalise(target, lower_case=True)  # noqa: PLW2901
                assert decode(chat, row[1][row[1] != IGNORE_INDEX]) in (target, f" {target}")

    check()


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if not name.startswith("metaspace")])
def test_a_byte_level_tokenizer_gives_back_every_normalised_text(name):
    chat = chat_of(name, "chatml")

    @MANY
    @given(TEXTS.map(normalise).filter(bool))
    def check(target: str) -> None:
        # The tokenizers package has Unicode tables of its own: NFC may differ for the newest characters.
        assert row_of(chat, target) is not None or name == "bpe_nfc"

    check()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("metaspace_unk", "snow\u2603man"),
        ("metaspace_unk", "\u2603"),
        ("metaspace_always", "a\u2581b"),
    ],
)
def test_a_target_that_the_tokenizer_does_not_give_back_is_none(name, target):
    bad, good = fill(chat_of(name, "chatml"), target, "the inn")
    assert bad is None
    assert good is not None


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
            at = len(chat.heads.of(Fields(transcript="")).ids)
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
        (row,) = fill(chat, target)
        assert row is None or not special & set(row.ids[row.is_target].tolist())
        assert row is not None or name == "metaspace_unk"


def test_corpus_text_does_not_change_how_the_template_is_tokenised():
    tokenizer = toy_tokenizer("bpe", "chatml")
    before = compile_chat(tokenizer, TTT)
    fill(before, "<|im_end|>")
    after = compile_chat(tokenizer, TTT)
    heads = [chat.heads.of(Fields(transcript="")).ids.tolist() for chat in (before, after)]
    assert heads[0] == heads[1]
    assert heads[0][0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


@pytest.mark.parametrize(("name", "template"), [pair for pair in PAIRS if pair[1] is not None])
def test_the_end_token_is_supervised_and_gap_and_tail_are_not(name, template):
    chat = chat_of(name, template)
    end, tail = ENDS[template]
    end, tail = (text.replace(EOS, chat.tokenizer.eos_token) for text in (end, tail))
    assert (chat.last.end, chat.last.tail) == (end, tail)
    end_id = chat.tokenizer.convert_tokens_to_ids(end) if end else chat.tokenizer.eos_token_id
    assert chat.last.end_ids.tolist() == [end_id]
    input_ids, labels = row_of(chat, "the inn")
    supervised = np.flatnonzero(labels != IGNORE_INDEX)
    assert labels[supervised[-1]] == end_id
    after = len(input_ids) - 1 - supervised[-1]
    assert after == len(chat.last.tail_ids)
    assert (supervised[0] > np.flatnonzero(input_ids == chat.audio_id)[-1]).all()
    num_between = supervised[-1] - supervised[0] + 1 - len(supervised)
    assert num_between <= len(chat.last.gap)


def test_a_space_before_the_end_token_is_a_gap_without_loss():
    chat = chat_of("bpe", "bos_every_turn")
    assert chat.last.gap == " "
    assert chat.lead == " "
    _, labels = row_of(chat, "the inn")
    assert labels.tolist()[-2:] == [IGNORE_INDEX, chat.last.end_ids[0]]


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
    assert text_of(chat, "the inn") == rendered
    assert text_of(chat, "the inn").count(AUDIO_TOKEN) == 1


def conversation(tokenizer, template: str, targets: Sequence[str]) -> str:
    """A conversation as the template itself writes it."""
    contents = [content for target in targets for content in (TTT.segments[0].text, target)]
    return tokenizer.apply_chat_template(
        [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)],
        tokenize=False,
        enable_thinking=False,
        date_string="26 Jul 2024",
        chat_template=TEMPLATES[template].replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    )


@pytest.mark.parametrize(
    "template", [shape for shape in SHAPES if shape not in ("one_pair_only", "think_first")]
)
@pytest.mark.parametrize("num_turns", [1, 2, 3, 7])
def test_rows_of_a_conversation_joined_are_the_templates_own_rendering(template, num_turns):
    targets = [("the inn", "er", "in the")[i % 3] + f" {i}" for i in range(num_turns)]
    chat = chat_of("bpe", template)
    assert "".join(row.text() for row in fill(chat, *targets)) == conversation(
        chat.tokenizer, template, targets
    )


def test_a_template_that_rewrites_history_is_taken_in_the_form_in_which_answers_are_generated():
    chat = chat_of("bpe", "think_first")
    assert chat.shape.rewrites_history
    joined = "".join(row.text() for row in fill(chat, "the inn", "er", "in"))
    block = "<think>\n\n</think>\n\n"
    assert joined.count(block) == 3
    expected = conversation(chat.tokenizer, "think_first", ["the inn", "er", "in"])
    assert expected.count(block) == 1
    assert joined.replace(block, "") == expected.replace(block, "")


def test_what_is_written_once_stands_in_the_first_or_the_last_row_alone():
    first, middle, last = (row.text() for row in fill(chat_of("bpe", "harmony"), "a", "b", "c"))
    assert [text.count("You help.") for text in (first, middle, last)] == [1, 0, 0]
    assert [text.count("</s>") for text in (first, middle, last)] == [0, 0, 1]
    turn = "<start_of_turn>user\n<audio><end_of_turn><start_of_turn>assistant\nb<end_of_turn>"
    assert middle == turn
    *_, before, last = (row.text() for row in fill(chat_of("bpe", "end_of_conversation"), "a", "b"))
    assert (before.count("</s>"), last.endswith("<|im_end|>\n</s>")) == (0, True)
    with_bos = [row.text() for row in fill(chat_of("bpe", "llama3_date_string"), "a", "b", "c")]
    assert [text.count("<s>") for text in with_bos] == [1, 0, 0]


def test_a_template_for_one_turn_alone_gives_later_rows_without_bos():
    chat = chat_of("bpe", "one_pair_only")
    assert text_of(chat, "the inn", number=1) == "[INST]<audio>[/INST]the inn</s>"


def without_repeats(ids: list[int], audio_id: int) -> list[int]:
    return [one for i, one in enumerate(ids) if one != audio_id or i == 0 or ids[i - 1] != audio_id]


@pytest.mark.parametrize(("name", "template"), [*PAIRS, *REAL_PAIRS])
def test_a_rows_ids_are_those_that_the_tokenizer_gives_for_its_text(name, template):
    chat = chat_of(name, template)
    tokenizer, eos = chat.tokenizer, chat.tokenizer.eos_token_id
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]

    @FEW
    @given(TARGETS, st.booleans(), st.booleans())
    def check(target: str, first: bool, last: bool) -> None:
        (row,) = chat.fill([Fields(transcript=target, number=0 if first else 1, last=last)])
        if row is None or any(special in row.target for special in specials):
            return  # in a text, what is spelled is the token; in corpus text, it is not
        ids = without_repeats(row.assemble(5, length=row.num_tokens(5))[0].tolist(), chat.audio_id)
        expected = tokenizer(row.text(), add_special_tokens=False)["input_ids"]
        ending = chat.last if last else chat.inner
        if not ending.end:  # eos, which is not rendered
            assert ids.pop(-1 - len(ending.tail_ids)) == eos
        if template is None and first and name == "bpe_adds_bos":
            assert ids.pop(0) == tokenizer.bos_token_id
        assert ids == expected

    check()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_plain_form_reads_as_documented(name):
    chat = chat_of(name, None, "transcription")
    weather = "the weather is beautiful today."
    assert text_of(chat, weather) == f"User: <audio> Transcribe:\nAssistant: {weather}"
    assert chat.last.end_ids.tolist() == [chat.tokenizer.eos_token_id]
    assert chat.last.end == chat.last.tail == chat.last.gap == ""


def test_the_plain_form_begins_with_the_bos_that_the_tokenizer_adds_and_only_at_turn_0():
    chat = chat_of("bpe_adds_bos", None)
    bos = chat.tokenizer.bos_token_id
    assert row_of(chat, "the inn", first=True)[0].tolist().count(bos) == 1
    assert chat.heads.of(Fields(transcript="")).ids[0] == bos
    assert bos not in row_of(chat, "the inn", first=False)[0]
    assert bos not in chat_of("bpe", None).heads.of(Fields(transcript="")).ids


@pytest.mark.parametrize("template", ["llama3_date_string", "bos_every_turn"])
def test_a_template_that_writes_bos_is_not_given_a_second_one(template):
    chat = chat_of("bpe_adds_bos", template)
    assert row_of(chat, "the inn")[0].tolist().count(chat.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("template", ["llama3_date_string", "llama3_strftime_now"])
def test_the_date_is_the_one_given_and_never_today(template):
    tokenizer = toy_tokenizer("bpe", template)
    today = datetime.datetime.now().astimezone().strftime("%d %b %Y")
    text = text_of(compile_chat(tokenizer, TTT), "the inn")
    assert "Date: 26 Jul 2024" in text
    given_date = text_of(compile_chat(tokenizer, TTT, datetime.date(1999, 1, 2)), "the inn")
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
    assert chat.shape.head_first == f"Date: {date.strftime(form)};[INST]"


def test_thinking_is_off_and_the_empty_think_block_takes_no_loss():
    chat = chat_of("bpe", "think_first")
    assert chat.shape.between.endswith("<think>\n\n</think>\n\n")
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


@pytest.mark.parametrize(
    ("template", "word"),
    [
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "does not end within",
        ),
        ("{{ 'x' * 9000000000 }}", "more memory than a template may"),
        ("{{ 'x' * 9000000 }}", "writes 9000000 characters"),
        ("{{ range(99999) | random }}{{ messages[0].content + messages[1].content }}</s>", "in two ways"),
    ],
    ids=["never ends", "writes gigabytes", "writes megabytes", "answers differently each time"],
)
def test_a_template_that_misbehaves_is_refused_within_a_deadline(template, word, monkeypatch):
    if "does not end" in word:  # the others may take their time on a machine that is busy
        monkeypatch.setattr(render, "DEADLINE_S", 1.0)
    with pytest.raises(TemplateError, match=word):
        compile_chat(toy_tokenizer("bpe", template), TTT)


@pytest.mark.parametrize(
    ("death", "told"),
    [
        (lambda *_: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9, Killed"),
        (lambda *_: os._exit(7), "ended with exit code 7"),
    ],
    ids=["signal", "exit code"],
)
def test_the_death_of_the_process_that_runs_a_template_is_told_as_what_it_was(death, told, monkeypatch):
    monkeypatch.setattr(render, "_process", render._Process())
    with monkeypatch.context() as patch:
        patch.setattr(render, "_render", death)
        with pytest.raises(TemplateError, match=f"the process that ran it .*{told}"):
            compile_chat(toy_tokenizer("bpe", "chatml"), TTT)
    assert text_of(compile_chat(toy_tokenizer("bpe", "chatml"), TTT), "the inn")  # another runs the next


def test_a_process_that_runs_templates_is_kept_and_ends_when_none_comes(monkeypatch):
    monkeypatch.setattr(render, "_process", render._Process())
    monkeypatch.setattr(render, "_REST_S", 0.3)
    pids = list[int]()
    for _ in range(2):
        compile_chat(toy_tokenizer("bpe", "chatml"), TTT)
        pids.append(render._process._pid)
    assert pids[0] == pids[1]
    os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOWAIT)
    compile_chat(toy_tokenizer("bpe", "chatml"), TTT)
    assert render._process._pid != pids[0]
    asked = toy_tokenizer("bpe", "chatml"), [[{"role": "user", "content": "er"}]], DEFAULT_DATE
    expected, own = render.render_chats(*asked), render._process._pid
    with render._process._lock:  # as another thread may hold it
        if not (fork := os.fork()):  # it asks no process of its parent's
            is_right = render.render_chats(*asked) == expected and render._process._pid != own
            os._exit(0 if is_right else 1)
    assert os.waitpid(fork, 0)[1] == 0
    assert render.render_chats(*asked) == expected


def rendered(text: str) -> str:
    chat = [{"role": "user", "content": text}]
    return str(render.render_chats(toy_tokenizer("bpe", "chatml"), [chat], DEFAULT_DATE)[0])


def test_after_ctrl_c_the_next_rendering_is_its_own(monkeypatch):
    monkeypatch.setattr(render, "_process", render._Process())
    expected = rendered("er")
    with monkeypatch.context() as patch:
        patch.setattr(render, "_read", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            rendered("you")
    assert rendered("er") == expected


def test_the_process_that_runs_templates_holds_no_lock_of_its_parent(monkeypatch, tmp_path):
    monkeypatch.setattr(render, "_process", render._Process())
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        rendered("er")
    with (tmp_path / "lock").open("w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_templates_are_rendered_where_ended_processes_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(render, "_process", render._Process())
    monkeypatch.setattr(render, "_REST_S", 0.1)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        expected, pid = rendered("er"), render._process._pid
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.02)
        assert rendered("er") == expected
    finally:
        signal.signal(signal.SIGCHLD, before)


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
    assert chat_of("bpe", "chatml").fill([]) == []


@MANY
@given(TEXTS, st.booleans())
def test_normalise_is_nfc_stripped_and_done_once(text, lower_case):
    once = normalise(text, lower_case=lower_case)
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)
    assert normalise(once, lower_case=lower_case) == once
