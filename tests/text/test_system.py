"""What heads.py promises: a system prompt stands where the template puts it, at a conversation's head."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.templates import TEMPLATES
from toys.texts import SPELLED as SPELLED_TOKENS
from toys.texts import TEXTS
from toys.tokenizer import TOKENIZERS
from toys.tokenizer import toy_tokenizer

from speechrows.errors import TemplateError
from speechrows.errors import UsageError
from speechrows.rows.tasks import TASKS
from speechrows.text import render
from speechrows.text.chat import ChatTemplate
from speechrows.text.chat import compile_chat
from speechrows.text.normalise import normalise
from speechrows.text.options import TemplateOptions
from speechrows.text.template import compile_template
from speechrows.types import Fields

TTT = TASKS["ttt"]
PROMPTS = ["Be brief.", "system", "Say é 日本\n\n the inn\u2581", "x" * 999]
SPELLED = "</s> <|im_end|><audio><s> the"
LOOP = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
FIRST = "messages[0].role == 'system'"
TEMPLATES_OF_OTHERS = {
    "demands one": "{% if not " + FIRST + " %}{{ raise_exception('no system prompt') }}{% endif %}" + LOOP,
    "in the first user's turn": (  # as Llama 2's
        "{% set start = 1 if " + FIRST + " else 0 %}{% for m in messages[start:] %}{% if m.role == 'user' %}"
        "{{ bos_token + '[INST] ' }}{% if start and loop.first %}{{ '<<' + messages[0].content + '>>\n' }}"
        "{% endif %}{{ m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}"
        "{% endfor %}"
    ),
}
REFUSALS = {
    "refuses one": (  # as Gemma 2's
        "{% if " + FIRST + " %}{{ raise_exception('System role not supported') }}{% endif %}" + LOOP,
        r"refuses a system prompt \(System role not supported\)",
    ),
    "leaves it out": (
        LOOP.replace("in messages", "in messages | rejectattr('role', 'equalto', 'system')"),
        "0 times",
    ),
    "writes it twice": ("{% if " + FIRST + " %}{{ messages[0].content }}{% endif %}" + LOOP, "2 times"),
    "in the last user's turn": (  # as Mistral 7B's v0.3
        "{% set start = 1 if " + FIRST + " else 0 %}{% for m in messages[start:] %}{% if m.role == 'user' %}"
        "{{ '[INST]' }}{% if start and loop.revindex == 2 %}{{ messages[0].content }}{% endif %}"
        "{{ m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
        "otherwise than those of 2",
    ),
    "after the audio": (
        "{% set start = 1 if " + FIRST + " else 0 %}{% for m in messages[start:] %}{% if m.role == 'user' %}"
        "{{ '[INST]' + m.content }}{% if start and loop.first %}{{ messages[0].content }}{% endif %}"
        "{{ '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
        "0 of them before the user's audio",
    ),
}


def rows_of(system: str | None, targets: list[str]) -> list[Fields]:
    """The turns of a conversation."""
    last = len(targets) - 1
    return [
        Fields(transcript=target, number=i, last=i == last, system=system) for i, target in enumerate(targets)
    ]


def conversation(chat: ChatTemplate, system: str | None, targets: list[str]) -> str:
    """The text of a conversation's rows, joined."""
    return "".join(row.text() for row in chat.fill(rows_of(system, targets)) if row is not None)


def rendered(chat: ChatTemplate, template: str, system: str | None, targets: list[str]) -> str:
    """The same as the template itself writes it."""
    messages = [{"role": "system", "content": system}] if system else []
    for target in targets:
        messages += [{"role": "user", "content": "<audio>"}, {"role": "assistant", "content": target}]
    return chat.tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        enable_thinking=False,
        date_string="26 Jul 2024",
        chat_template=template.replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    )


ALL = {**TEMPLATES, **TEMPLATES_OF_OTHERS}


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("one_pair_only", "think_first")])
def test_rows_joined_are_the_templates_own_rendering_with_the_system_prompt(name):
    demanded = name == "demands one"
    prompts = [*PROMPTS, SPELLED, *([] if demanded else [None])]
    conversations = [(one, targets) for one in prompts for targets in (["the inn"], ["er", "in the", "inn"])]
    # The prompt of the whole build makes no difference to rows that have another.
    for system in [PROMPTS[0]] if demanded or name not in ("chatml", "harmony") else [None, PROMPTS[0]]:
        chat = compile_chat(toy_tokenizer("bpe", ALL[name]), TTT, system=system)
        expected = "".join(rendered(chat, ALL[name], *one) for one in conversations)
        rows = chat.fill([row for one in conversations for row in rows_of(*one)])
        assert "".join(row.text() for row in rows if row is not None) == expected


@pytest.mark.parametrize("template", [None, "chatml"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_rows_ids_are_those_of_its_text_and_what_a_prompt_spells_stays_text(name, template):
    chat = compile_chat(toy_tokenizer(name, template), TTT)
    prompts = [None, *PROMPTS, SPELLED]
    rows = chat.fill([Fields(transcript="the inn", last=False, system=one) for one in prompts])
    special = {i for i, token in chat.tokenizer.added_tokens_decoder.items() if token.special}
    num_special = set[int]()
    for prompt, row in zip(prompts, rows, strict=True):
        ids = row.assemble(1, length=row.num_tokens(1))[0].tolist()
        num_special.add(sum(one in special and one != chat.tokenizer.unk_token_id for one in ids))
        if prompt != SPELLED:
            if not chat.inner.end:  # eos, which is not rendered
                del ids[-1 - len(chat.inner.tail_ids)]
            assert ids == chat.tokenizer(row.text(), add_special_tokens=template is None)["input_ids"]
    assert len(num_special) == (2 if template else 1)  # chatml marks a system prompt with tokens of its own


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("bpe", "chatml"),
        ("metaspace_legacy", "in the first user's turn"),
        ("metaspace_first", "llama3_date_string"),
    ],
)
def test_conversations_of_any_texts_are_the_templates_own_rendering_and_its_ids(name, template):
    chat = compile_chat(toy_tokenizer(name, ALL[template]), TTT)

    @FEW
    @given(TEXTS.map(normalise), st.lists(TEXTS.map(normalise).filter(bool), min_size=1, max_size=4))
    def check(prompt: str, targets: list[str]) -> None:
        rows = chat.fill(rows_of(prompt or None, targets))
        text = rendered(chat, ALL[template], prompt, targets)
        if None in rows or any(special in one for one in [prompt, *targets] for special in SPELLED_TOKENS):
            return  # the tokenizer does not give it back; in a template's text, what is spelled is the token
        assert "".join(row.text() for row in rows) == text
        ids = [one for row in rows for one in row.assemble(1, length=row.num_tokens(1))[0].tolist()]
        assert ids == chat.tokenizer(text, add_special_tokens=False)["input_ids"]

    check()


def test_the_plain_form_begins_with_the_system_prompt():
    chat = compile_chat(toy_tokenizer("bpe_adds_bos"), TTT)
    expected = "System: Be brief.\nUser: <audio>\nAssistant: the innUser: <audio>\nAssistant: er"
    assert conversation(chat, "Be brief.", ["the inn", "er"]) == expected
    (row,) = chat.fill([Fields(transcript="a", system="Be brief.")])
    assert row.assemble(1, length=row.num_tokens(1))[0].tolist().count(chat.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(("template", "word"), REFUSALS.values(), ids=REFUSALS)
def test_a_template_that_does_not_write_a_system_prompt_at_the_head_is_refused_with_what_it_does(
    template, word
):
    tokenizer = toy_tokenizer("bpe", template)
    tokenizer.name_or_path = "org/model"
    with pytest.raises(TemplateError, match=f"org/model .*{word}"):
        compile_chat(tokenizer, TTT, system="Be brief.")
    chat = compile_chat(tokenizer, TTT)  # without one it does
    with pytest.raises(TemplateError, match=f"org/model .*({word}|otherwise where there is a system prompt)"):
        conversation(chat, "Be brief.", ["the inn"])


def test_a_template_that_demands_a_system_prompt_says_so_and_works_with_one():
    tokenizer = toy_tokenizer("bpe", TEMPLATES_OF_OTHERS["demands one"])
    with pytest.raises(TemplateError, match=r"demands a system prompt \(no system prompt\).*--system TEXT"):
        compile_chat(tokenizer, TTT)
    with pytest.raises(TemplateError, match="demands a system prompt"):
        conversation(compile_chat(tokenizer, TTT, system="Be brief."), None, ["the inn"])


def test_a_prompt_that_a_template_reads_is_written_as_it_writes_it_unless_it_spells_a_token():
    reads = LOOP.replace("m.content", "(m.content | replace('/no_think', '') | trim)")  # as SmolLM 3's
    chat = compile_chat(toy_tokenizer("bpe", reads), TTT)
    text = conversation(chat, "Be brief. /no_think", ["the inn"])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<audio>")
    with pytest.raises(TemplateError, match=r"changes a system prompt that spells <\|im_end\|>"):
        conversation(chat, "<|im_end|> /no_think", ["the inn"])


def test_each_distinct_prompt_is_rendered_once_and_many_at_once(monkeypatch):
    chat, asked = compile_chat(toy_tokenizer("bpe", "chatml"), TTT), list[int]()
    ask = render._Process.ask
    monkeypatch.setattr(render._Process, "ask", lambda *of: asked.append(1) or ask(*of))
    rows = [Fields(transcript="the inn", system=f"You are number {i % 50}.") for i in range(200)]
    assert all(f"number {i % 50}." in row.text() for i, row in enumerate(chat.fill(rows)))
    assert len(asked) == 2  # the place of a prompt, and all prompts
    chat.fill(rows)
    assert len(asked) == 2


def test_a_task_that_is_no_chat_takes_no_system_prompt():
    with pytest.raises(UsageError, match="usdm: found a system prompt"):
        compile_template(toy_tokenizer("bpe"), TASKS["usdm"], TemplateOptions(system="Be brief."))
