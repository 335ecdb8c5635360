"""Rows for models that hear are what their own processors, of transformers, make of the same messages."""

import json
import re
import shutil

import numpy as np
import pytest
from tokenizers import AddedToken
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import SAMPLE_OF
from toys.tokenizer import toy_tokenizer
from transformers import Gemma3nAudioFeatureExtractor
from transformers import Gemma3nProcessor
from transformers import PreTrainedTokenizerFast
from transformers import Qwen2AudioProcessor
from transformers import SiglipImageProcessor
from transformers import WhisperFeatureExtractor

from speechrows.errors import TemplateError
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.loader.retokenize import Retokenizer
from speechrows.rows.conversation import ClipCount
from speechrows.rows.tasks import TASKS
from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import audio_token_id
from speechrows.text.chat import compile_chat
from speechrows.text.prompted import compile_prompted
from speechrows.text.tokenizers import fingerprint
from speechrows.text.tokenizers import open_tokenizer
from speechrows.text.tokenizers import save
from speechrows.types import Fields
from speechrows.validation.validate import validate

QWEN2_AUDIO = Qwen2AudioProcessor.default_chat_template.fget(None)
QWEN2_TOKENS = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
_PARTS = (
    "{% for c in m.content %}{% if c.type == 'audio' %}AUDIO{% else %}{{ c.text }}{% endif %}{% endfor %}"
)


def parts(audio: str, opening: str, answer: str = "", closing: str = "<|im_end|>\n") -> str:
    """A template of typed parts; for the user alone, where the assistant's `answer` is a string."""
    content = _PARTS.replace("AUDIO", audio)
    if answer:
        content = "{% if m.role == 'user' %}" + content + "{% else %}" + answer + "{% endif %}"
    return "{% for m in messages %}" + opening + content + closing + "{% endfor %}"


CHATML = "<|im_start|>{{ m.role }}\n"
# Template, special tokens, what configs say of them, and the token that rows are to have.
MODELS = {
    "Qwen2-Audio": (QWEN2_AUDIO, QWEN2_TOKENS, {}, "<|AUDIO|>"),
    "Qwen2.5-Omni": (
        parts("<|audio_bos|><|AUDIO|><|audio_eos|>", CHATML),
        QWEN2_TOKENS,
        {"extra_special_tokens": {"audio_token": "<|AUDIO|>", "audio_bos_token": "<|audio_bos|>"}},
        "<|AUDIO|>",
    ),
    "parts alone": (
        parts("<|audio_start|><|audio_pad|><|audio_end|>", CHATML),
        ("<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"),
        {},
        "<|audio_pad|>",
    ),
    "Voxtral": (
        parts(
            "[BEGIN_AUDIO][AUDIO]", "", "{{ m.content + eos_token }}", "{{ '[/INST]' if m.role == 'user' }}"
        ),
        ("[BEGIN_AUDIO]", "[AUDIO]"),
        {"audio_token": "[AUDIO]"},
        "[AUDIO]",
    ),
    "Granite speech": (  # strings
        "{% for m in messages %}<|user|>{{ m.content }}<|im_end|>\n{% endfor %}",
        ("<|audio|>",),
        {"processor_config.json": {"audio_token": "<|audio|>"}},
        "<|audio|>",
    ),
    "Phi-4-multimodal": (
        "{% for m in messages %}{{ '<|user|>' + m.content + '<|im_end|>' }}{% endfor %}",
        ("<|endoftext10|>", "<|endoftext11|>"),
        {"audio_token": "<|endoftext11|>"},
        "<|endoftext11|>",
    ),
    "a template in the processor's file": (
        None,
        QWEN2_TOKENS,
        {"chat_template.json": {"chat_template": QWEN2_AUDIO}},
        "<|AUDIO|>",
    ),
    "no audio token": (parts("", CHATML), (), {}, "<audio>"),
}


def saved(folder, template: str | None, tokens: tuple[str, ...], told: dict) -> str:
    """A tokenizer's folder as a model publishes it, without `<audio>`."""
    tokenizer = toy_tokenizer("bpe", template)
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    core["added_tokens"] = [token for token in core["added_tokens"] if token["content"] != "<audio>"]
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(core), "utf-8")
    again = PreTrainedTokenizerFast.from_pretrained(folder)
    again.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    again.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    for name, value in told.items():
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(value), "utf-8")
        else:
            config[name] = value
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return str(folder)


def messages(targets: list[str], instruction: str, system: str | None) -> list[dict]:
    """A conversation as one gives it to a processor."""
    asked = [{"type": "audio", "audio": "clip.wav"}]
    if instruction:
        asked.append({"type": "text", "text": instruction})
    told = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    for target in targets:
        told += [{"role": "user", "content": asked}, {"role": "assistant", "content": target}]
    return told


def collapsed(ids: list[int], audio_id: int) -> list[int]:
    """Ids in which a run of placeholders is one."""
    return [one for i, one in enumerate(ids) if one != audio_id or i == 0 or ids[i - 1] != audio_id]


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("task", ["ttt", "transcription"])
def test_rows_are_what_qwen2_audios_processor_makes_of_the_same_messages(task, system, tmp_path):
    tokenizer = open_tokenizer(saved(tmp_path, QWEN2_AUDIO, QWEN2_TOKENS, {}))
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer, QWEN2_AUDIO)
    chat = compile_chat(tokenizer, TASKS[task], system=system)
    instruction = "Transcribe:" if task == "transcription" else ""
    for targets in (["the inn"], ["er", "in the", "inn", "a", "the er"] + ["in"] * 7):
        if task == "transcription" and len(targets) > 1:
            continue
        last = len(targets) - 1
        rows = chat.fill(
            [Fields(transcript=one, number=i, last=i == last, system=system) for i, one in enumerate(targets)]
        )
        text = "".join(row.text() for row in rows)
        assert text == processor.apply_chat_template(messages(targets, instruction, system), tokenize=False)
        made = processor(text=text, audio=[np.zeros(16_000, np.float32)] * len(targets), sampling_rate=16_000)
        assert made["input_ids"][0].count(chat.audio_id) > len(targets)
        ids = [one for row in rows for one in row.assemble(3, length=row.num_tokens(3))[0].tolist()]
        assert collapsed(ids, chat.audio_id) == collapsed(made["input_ids"][0], chat.audio_id)


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_words_beside_a_clip_and_words_alone_are_what_qwen2_audios_processor_makes_of_them(system, tmp_path):
    tokenizer = open_tokenizer(saved(tmp_path, QWEN2_AUDIO, QWEN2_TOKENS, {}))
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer, QWEN2_AUDIO)
    chat = compile_prompted(tokenizer, TASKS["chat"], system=system)
    asked = ["the inn?", "Hear: <audio> What is it?", "in the er", "<audio>", "<audio> er", "the inn?"]
    told = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    for text in asked:
        before, audio, after = text.partition("<audio>")
        parts = [{"type": "text", "text": part.strip()} if part.strip() else None for part in (before, after)]
        clip = {"type": "audio", "audio": "clip.wav"} if audio else None
        content = [part for part in (parts[0], clip, parts[1]) if part is not None]
        told += [{"role": "user", "content": content}, {"role": "assistant", "content": "the inn"}]
    last = len(asked) - 1
    clips = ClipCount()
    rows = chat.fill([
        Fields(
            transcript="",
            answer="the inn",
            prompt=text,
            number=i,
            last=i == last,
            system=system,
            clips_before=clips.before(i, has_clip="<audio>" in text),
        )
        for i, text in enumerate(asked)
    ])  # fmt: skip
    text = "".join(row.text() for row in rows)
    assert text == processor.apply_chat_template(told, tokenize=False)
    made = processor(text=text, audio=[np.zeros(16_000, np.float32)] * 3, sampling_rate=16_000)
    ids = [
        one for row in rows for one in row.assemble(3, length=row.num_tokens(3 * row.has_audio))[0].tolist()
    ]
    assert collapsed(ids, chat.audio_id) == collapsed(made["input_ids"][0], chat.audio_id)


def test_a_clip_has_its_own_number_behind_turns_of_text_in_builds_checks_and_retokenising(
    tmp_path,
):
    saved(tmp_path / "qwen", QWEN2_AUDIO, QWEN2_TOKENS, {})
    said = ["the inn?", "<audio>", "er", "<audio> in the er"]
    record = {
        "messages": [
            message
            for text in said
            for message in ({"role": "user", "content": text}, {"role": "assistant", "content": "the inn"})
        ],
        "audios": ["clips/sleep.opus", "clips/train.opus"],
    }
    shutil.copytree(SAMPLE_OF["chat_json"] / "clips", tmp_path / "talks/clips")
    (tmp_path / "talks/talks.jsonl").write_text(f"{json.dumps(record)}\n" * 3, "utf-8")
    out = tmp_path / "rows"
    build_rows(tmp_path / "talks", out, "chat", builder="chat_json", tokenizer=str(tmp_path / "qwen"))
    rows = read_rows(out, "chat")
    assert [re.findall(r"Audio \d+: ", row["text"]) for row in rows] == [
        [],
        ["Audio 1: "],
        [],
        ["Audio 2: "],
    ] * 3
    assert validate(str(out)).ok
    index, tokenizer = Index.open(str(out), "chat"), open_tokenizer(str(out / "tokenizer"))
    anew = Retokenizer.of(index, tokenizer, tokenizer, None).read_row_groups(index, 0, [0])
    assert anew.input_ids.tolist() == [one for row in rows for one in row["input_ids"][: row["num_tokens"]]]


GEMMA_3N = (  # as published, without pictures
    "{{ bos_token }}{%- set start = 0 -%}{%- set prefix = '' -%}{%- if messages[0].role == 'system' -%}"
    "{%- set start = 1 -%}{%- set prefix = messages[0].content[0].text + '\n\n' -%}"
    "{%- if messages[0].content is string -%}{%- set prefix = messages[0].content + '\n\n' -%}{%- endif -%}"
    "{%- endif -%}{%- for m in messages[start:] -%}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ prefix if loop.first else '' }}"
    "{%- if m.content is string -%}{{ m.content | trim }}{%- else -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}<audio_soft_token>{%- else -%}{{ c.text | trim }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}{{ '<end_of_turn>\n' }}{%- endfor -%}"
)


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_rows_are_what_gemma_3ns_processor_makes_of_the_same_messages_brackets_too(system, tmp_path):
    names = {
        f"{short}_token": f"<{name}>"
        for short, name in (
            *(("audio", "audio_soft_token"), ("boa", "start_of_audio"), ("eoa", "end_of_audio")),
            *(("image", "image_soft_token"), ("boi", "start_of_image"), ("eoi", "end_of_image")),
        )
    }
    told = {**names, "processor_class": "Gemma3nProcessor"}
    save(open_tokenizer(saved(tmp_path / "model", GEMMA_3N, (*names.values(),), told)), tmp_path / "rows")
    tokenizer = open_tokenizer(str(tmp_path / "rows"))
    heard, seen = Gemma3nAudioFeatureExtractor(), SiglipImageProcessor()
    processor = Gemma3nProcessor(heard, seen, tokenizer, chat_template=GEMMA_3N)
    chat = compile_chat(tokenizer, TASKS["ttt"], system=system)
    targets = ["the inn", "er"]
    rows = chat.fill(
        [Fields(transcript=one, number=i, last=i == 1, system=system) for i, one in enumerate(targets)]
    )
    text = processor.apply_chat_template(messages(targets, "", system), tokenize=False)
    audio, around = "<audio_soft_token>", "\n\n<start_of_audio><audio_soft_token><end_of_audio>\n\n"
    assert "".join(row.text() for row in rows) == text.replace(audio, around)
    made = processor(text=text, audio=[np.zeros(16_000, np.float32)] * 2, add_special_tokens=False)
    ids = [one for row in rows for one in row.assemble(3, length=row.num_tokens(3))[0].tolist()]
    assert collapsed(ids, chat.audio_id) == collapsed([*made["input_ids"][0]], chat.audio_id)


@pytest.mark.parametrize(("template", "tokens", "told", "expected"), MODELS.values(), ids=MODELS)
def test_the_audio_token_is_the_models_own_in_text_ids_and_the_saved_tokenizer(
    template, tokens, told, expected, tmp_path
):
    tokenizer = open_tokenizer(saved(tmp_path / "model", template, tokens, told))
    assert audio_token(tokenizer) == expected
    assert "<audio>" not in tokenizer.get_vocab() or expected == "<audio>"
    chat = compile_chat(tokenizer, TASKS["ttt"]) if expected != "<audio>" else None
    save(tokenizer, tmp_path / "rows")
    again = open_tokenizer(str(tmp_path / "rows"))
    assert (audio_token(again), audio_token_id(again)) == (expected, audio_token_id(tokenizer))
    assert fingerprint(again) == fingerprint(tokenizer)
    if chat is not None:
        (row,) = chat.fill([Fields(transcript=f"say {expected} now")])
        ids = row.assemble(4, length=row.num_tokens(4))[0].tolist()
        assert ids.count(chat.audio_id) == 4  # what a transcript spells stays text
        assert row.text().count(expected) == 2
        assert "".join(tokens) in row.text() or "endoftext" in expected


def test_the_audio_token_can_be_named_and_is_told_from_the_others(tmp_path):
    template = parts("<|clip|><|sound|>", CHATML)
    folder = saved(tmp_path / "model", template, ("<|clip|>", "<|sound|>"), {})
    with pytest.raises(UsageError, match=r"writes <\|clip\|> <\|sound\|> for audio.*--audio-token TOKEN"):
        open_tokenizer(folder)
    named = open_tokenizer(folder, audio="<|sound|>")
    chat = compile_chat(named, TASKS["ttt"])
    assert chat.shape.head_first == "<|im_start|>user\n<|clip|>"
    save(named, tmp_path / "rows")
    assert audio_token(open_tokenizer(str(tmp_path / "rows"))) == "<|sound|>"
    assert audio_token(open_tokenizer(str(tmp_path / "rows"), audio="<audio>")) == "<audio>"
    added = open_tokenizer(None, audio="<speech>")
    assert (audio_token(added), audio_token_id(added)) == ("<speech>", len(added) - 1)
    assert fingerprint(added) != fingerprint(open_tokenizer(None))


@pytest.mark.parametrize("token", [" ", "<my audio>", "</s>", "<pad>"])
def test_a_token_that_means_something_else_is_refused(token, tmp_path):
    save(toy_tokenizer("bpe"), tmp_path)
    with pytest.raises(UsageError, match=r"audio token: found .*expected one"):
        open_tokenizer(str(tmp_path), audio=token)


@pytest.mark.parametrize("text", ["[1]", "{", '{"audio_token": 7}', '{"audio_token": ""}', "\x00"])
def test_a_processors_config_that_is_damaged_names_no_token(text, tmp_path):
    folder = saved(tmp_path, None, (), {})
    for name in ("processor_config.json", "chat_template.json"):
        (tmp_path / name).write_text(text, "utf-8")
    assert audio_token(open_tokenizer(folder)) == "<audio>"


def test_a_template_that_takes_parts_and_no_audio_is_refused_with_what_it_does(tmp_path):
    tokenizer = open_tokenizer(saved(tmp_path, parts("", CHATML), (), {}))
    with pytest.raises(TemplateError, match="takes typed parts, and writes no <audio> for one of audio"):
        compile_chat(tokenizer, TASKS["ttt"])


def test_a_tokenizer_without_an_audio_token_is_refused_with_what_to_give(tmp_path):
    folder = saved(tmp_path, QWEN2_AUDIO, QWEN2_TOKENS, {})
    with pytest.raises(UsageError, match=r"has no <audio>.* give its name or folder"):
        compile_chat(PreTrainedTokenizerFast.from_pretrained(folder), TASKS["ttt"])
