"""What prompted.py promises: users' own messages, words or clips, are written as a template writes them."""

import jinja2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.pairwise import PAIRS
from toys.templates import TEMPLATES
from toys.texts import SPELLED
from toys.texts import TEXTS
from toys.tokenizer import TOKENIZERS
from toys.tokenizer import toy_tokenizer

from speechrows.errors import TemplateError
from speechrows.rows.tasks import TASKS
from speechrows.text.chat import compile_chat
from speechrows.text.normalise import normalise
from speechrows.text.prompted import PromptedChat
from speechrows.text.prompted import compile_prompted
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import Fields

CHAT, RESPONSE = TASKS["chat"], TASKS["response"]
# Those whose rows, joined, are what they write of a whole conversation.
SHAPES = sorted({*TEMPLATES} - {"one_pair_only", "think_first"})
MESSAGES = st.one_of(
    TEXTS, st.just(AUDIO_TOKEN), st.tuples(TEXTS, TEXTS).map(AUDIO_TOKEN.join)
).filter(lambda text: text.count(AUDIO_TOKEN) < 2 and normalise(text))  # fmt: skip
_chats: dict[tuple[str, str | None], PromptedChat] = {}


def chat_of(name: str, template: str | None) -> PromptedChat:
    if (name, template) not in _chats:
        _chats[name, template] = compile_prompted(toy_tokenizer(name, template), CHAT)
    return _chats[name, template]


def turns(*messages: str, system: str | None = None) -> list[Fields]:
    """A conversation whose user says these messages; the answers are `answer 0`, `answer 1`…"""
    last = len(messages) - 1
    return [
        Fields(transcript="", answer=f"the inn {i}", prompt=text, number=i, last=i == last, system=system)
        for i, text in enumerate(messages)
    ]


def rendered(tokenizer, template: str, messages: list[str], system: str | None = None) -> str:
    """The same conversation as the template itself writes it."""
    contents = [text for i, said in enumerate(messages) for text in (said, f"the inn {i}")]
    chat = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return tokenizer.apply_chat_template(
        [{"role": "system", "content": system}] * (system is not None) + chat,
        tokenize=False,
        enable_thinking=False,
        date_string="26 Jul 2024",
        chat_template=TEMPLATES[template].replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    )


def takes_system(tokenizer, template: str) -> bool:
    try:
        return "Be brief." in rendered(tokenizer, template, ["er"], "Be brief.")
    except jinja2.TemplateError:
        return False


@pytest.mark.parametrize(("name", "template"), PAIRS)
def test_a_message_that_is_a_clip_alone_becomes_the_row_that_any_chat_makes_of_it(name, template):
    ours, chat = chat_of(name, template), compile_chat(toy_tokenizer(name, template), RESPONSE)
    for row, other in zip(
        ours.fill(turns(*[AUDIO_TOKEN] * 3)), chat.fill(turns(*[AUDIO_TOKEN] * 3)), strict=True
    ):
        assert (row is None) == (other is None)
        if row is not None:
            assert (row.text(), row.num_tokens(5)) == (other.text(), other.num_tokens(5))
            for mine, theirs in zip(row.assemble(5, length=99), other.assemble(5, length=99), strict=True):
                np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("template", SHAPES)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_rows_joined_are_the_templates_own_rendering_of_words_and_clips(template, system):
    messages = ["the er", AUDIO_TOKEN, f"in {AUDIO_TOKEN} the inn?", "  the  er", f"{AUDIO_TOKEN} er"]
    messages = [normalise(text) for text in messages]
    tokenizer = toy_tokenizer("bpe", template)
    if system is not None and not takes_system(tokenizer, template):
        with pytest.raises(TemplateError, match="system prompt"):
            compile_prompted(tokenizer, CHAT, system=system)
        return
    rows = compile_prompted(tokenizer, CHAT, system=system).fill(turns(*messages, system=system))
    assert "".join(row.text() for row in rows) == rendered(tokenizer, template, messages, system)


@pytest.mark.parametrize(("name", "template"), PAIRS)
def test_a_rows_ids_are_those_that_the_tokenizer_gives_for_its_text(name, template):
    chat = chat_of(name, template)
    tokenizer = chat.tokenizer
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]

    @FEW
    @given(MESSAGES, TEXTS, st.booleans())
    def check(message: str, answer: str, last: bool) -> None:
        message = normalise(message)
        (row,) = chat.fill([Fields(transcript="", answer=answer, prompt=message, number=1, last=last)])
        words = message.replace(AUDIO_TOKEN, "") + answer
        if row is None or any(special in words for special in specials):
            return  # in a text, what is spelled is the token; in corpus text, it is not
        ids = row.assemble(1, length=row.num_tokens(1))[0].tolist()
        ending = chat.last if last else chat.inner
        if not ending.end:  # eos, which is not rendered
            assert ids.pop(-1 - len(ending.tail_ids)) == tokenizer.eos_token_id
        assert ids == tokenizer(row.text(), add_special_tokens=False)["input_ids"]

    check()


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("template", [None, "chatml"])
def test_the_answer_alone_takes_loss_and_what_a_user_spells_stays_text(name, template):
    chat = chat_of(name, template)
    specials = {*chat.tokenizer.all_special_ids}
    for spelled in SPELLED:
        message = f"say {spelled} and {spelled}".replace(AUDIO_TOKEN, "<pad>")
        row, heard = chat.fill([turns(message)[0], turns(f"{message} {AUDIO_TOKEN}")[0]])
        ids, labels = row.assemble(0, length=row.num_tokens(0))
        supervised = labels[labels != IGNORE_INDEX]
        assert chat.tokenizer.decode(supervised, skip_special_tokens=True).strip() == "the inn 0"
        plain, _ = chat.fill(turns("the inn", "er"))
        counts = [np.isin(one.ids, [*specials]).sum() for one in (row, plain)]
        assert counts[0] == counts[1] or name == "metaspace_unk"
        assert (ids == chat.audio_id).sum() == 0
        assert (heard.assemble(4, length=heard.num_tokens(4))[0] == chat.audio_id).sum() == 4


def test_an_answer_that_was_cut_learns_no_end():
    (row,) = chat_of("bpe", "chatml").fill(
        [Fields(transcript="", answer="the inn", prompt="er", answer_is_cut=True)]
    )
    _, labels = row.assemble(0, length=row.num_tokens(0))
    assert row.template.last.end_ids[0] not in labels


def test_a_template_that_writes_clips_and_words_otherwise_together_is_refused():
    template = (
        "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{%- if m.content is string -%}{{ m.content }}"
        "{%- else -%}{%- for c in m.content | reverse -%}{%- if c.type == 'audio' -%}<audio>"
        "{%- else -%}{{ c.text }}{%- endif -%}{%- endfor -%}{%- endif -%}<|im_end|>\n{%- endfor -%}"
    )
    tokenizer = toy_tokenizer("bpe", "chatml")
    tokenizer.chat_template = template
    with pytest.raises(TemplateError, match="writes a clip among words otherwise than the two alone"):
        compile_prompted(tokenizer, CHAT)
