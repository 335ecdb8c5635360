"""What tokenizers.py promises: any fast tokenizer opens, gains `<audio>`, and is saved as it is."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from toys.examples import FEW
from toys.tokenizer import TOKENIZERS
from toys.tokenizer import llama3
from toys.tokenizer import toy_tokenizer
from transformers import AutoTokenizer

from speechrows.errors import UsageError
from speechrows.rows.tasks import TASKS
from speechrows.text.chat import compile_chat
from speechrows.text.tokenizers import BYTE_LEVEL
from speechrows.text.tokenizers import byte_level
from speechrows.text.tokenizers import describe
from speechrows.text.tokenizers import fingerprint
from speechrows.text.tokenizers import open_tokenizer
from speechrows.text.tokenizers import save
from speechrows.types import AUDIO_TOKEN
from speechrows.types import Fields


@FEW
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_byte_level_is_one_token_a_byte_and_gives_every_text_back(text):
    tokenizer = byte_level()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("name", [None, BYTE_LEVEL])
def test_the_default_needs_no_download_and_holds_the_audio_token_once(name):
    tokenizer = open_tokenizer(name)
    assert tokenizer(AUDIO_TOKEN)["input_ids"] == [tokenizer.get_vocab()[AUDIO_TOKEN]]
    assert len(tokenizer) == 259


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_saved_tokenizer_opens_the_same(name, tmp_path):
    tokenizer = toy_tokenizer(name, "chatml")
    save(tokenizer, tmp_path / "tokenizer")
    again = open_tokenizer(str(tmp_path / "tokenizer"))
    assert fingerprint(again) == fingerprint(tokenizer)
    assert len(again) == len(tokenizer)
    before, after = (compile_chat(opened, TASKS["ttt"]) for opened in (tokenizer, again))
    fields = [Fields(transcript="the inn 日本")]
    (first,), (second,) = before.fill(fields), after.fill(fields)
    assert first is not None
    assert second is not None
    assert first.text() == second.text()
    assert first.ids.tolist() == second.ids.tolist()


@pytest.mark.parametrize(
    ("toy", "named", "beside"),
    [
        ("bpe", "TokenizersBackend", {}),
        ("bpe", "PreTrainedTokenizerFast", {}),
        ("bpe", "Qwen2Tokenizer", {}),
        ("bpe", "Qwen2TokenizerFast", {}),
        ("bpe", "LlamaTokenizer", {}),  # its rules are Llama 3's, which no LlamaTokenizer has
        ("metaspace_always", "LlamaTokenizerFast", {}),
        ("bpe", "NoSuchTokenizer", {}),
        ("bpe", None, {}),
        ("bpe", "PreTrainedTokenizerFast", {"config.json": '{"model_type": "gpt2"}'}),
    ],
)
def test_a_folder_opens_as_autotokenizer_opens_it(toy, named, beside, tmp_path):
    save(toy_tokenizer(toy, "chatml"), tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text("utf-8")) | {"tokenizer_class": named}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8")
    for name, text in beside.items():
        (tmp_path / name).write_text(text, "utf-8")
    expected, opened = AutoTokenizer.from_pretrained(tmp_path), open_tokenizer(str(tmp_path))
    assert type(opened) is type(expected)
    assert fingerprint(opened) == fingerprint(expected)
    assert opened.special_tokens_map == expected.special_tokens_map
    text = "The inn, isn't it?  日本\n\n<|im_end|> </s> 12"
    assert opened(text)["input_ids"] == expected(text)["input_ids"]


def test_saving_twice_gives_the_same_bytes_and_says_nothing_of_this_machine(tmp_path):
    source, first, second = (tmp_path / name for name in ("source", "first", "second"))
    save(toy_tokenizer("bpe", "chatml"), source)
    save(open_tokenizer(str(source)), first)
    (second / "left").mkdir(parents=True)
    save(open_tokenizer(str(first)), second)
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert files == {path.name: path.read_bytes() for path in second.iterdir()}
    assert not any(str(tmp_path).encode() in data for data in files.values())


def test_the_audio_token_is_added_as_special_where_it_is_missing(tmp_path):
    save(byte_level(), tmp_path / "without")
    tokenizer = open_tokenizer(str(tmp_path / "without"))
    (added,) = tokenizer(AUDIO_TOKEN, add_special_tokens=False)["input_ids"]
    assert tokenizer.added_tokens_decoder[added].special
    assert added == len(tokenizer) - 1


@pytest.mark.parametrize("kind", ["added token", "piece of the vocabulary"])
def test_an_audio_token_that_was_ordinary_keeps_its_id_and_is_never_said_by_a_transcript(tmp_path, kind):
    source = tmp_path / "ordinary"
    tokenizer = byte_level()
    if kind == "added token":
        tokenizer.add_tokens([AddedToken(AUDIO_TOKEN, special=False, normalized=False)])
        save(tokenizer, source)
    else:
        save(tokenizer, source)
        file = source / "tokenizer.json"
        core = json.loads(file.read_text("utf-8"))
        core["model"]["vocab"][AUDIO_TOKEN] = 258
        file.write_text(json.dumps(core), "utf-8")
    opened = open_tokenizer(str(source))
    assert opened.get_vocab()[AUDIO_TOKEN] == 258
    assert opened(AUDIO_TOKEN)["input_ids"] == [258]
    (row,) = compile_chat(opened, TASKS["ttt"]).fill([Fields(transcript="say <audio> now")])
    assert row is not None
    assert 258 not in row.ids
    assert opened.decode(row.ids[row.is_target].tolist()) == " say <audio> now"


def test_the_fingerprint_ignores_what_a_call_leaves_behind_and_sees_what_decides_ids():
    tokenizer = toy_tokenizer("bpe", "chatml")
    before = fingerprint(tokenizer)
    tokenizer(["the inn", "a"], padding=True, truncation=True, max_length=4, split_special_tokens=True)
    assert fingerprint(tokenizer) == before
    others = [
        toy_tokenizer("bpe", "trims"),
        toy_tokenizer("bpe_nfc", "chatml"),
        toy_tokenizer("bpe_without_pad", "chatml"),
    ]
    assert len({before, *map(fingerprint, others)}) == 4
    tokenizer.add_tokens(["word"])
    assert fingerprint(tokenizer) != before


def test_the_repository_of_a_tokenizer_is_told_and_remembered_wherever_it_is_saved(tmp_path, monkeypatch):
    name, commit = "org/tokenizer-of-a-model", "0" * 40
    cache = Path(constants.HF_HUB_CACHE) / "models--org--tokenizer-of-a-model"
    byte_level().save_pretrained(cache / "snapshots" / commit)
    (cache / "snapshots" / commit / "config.json").write_text("{}")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    try:
        tokenizer = open_tokenizer(name)
    finally:
        shutil.rmtree(cache)
    save(tokenizer, tmp_path / "saved")
    assert describe(open_tokenizer(str(tmp_path / "saved"))) == f"that of `{name}`, 259 tokens"
    assert describe(open_tokenizer(None)) == "one token a byte, 259 tokens"


@pytest.mark.parametrize("name", ["", 3, "<img src=x>", "a`b", ["org/name"]])
def test_a_repository_that_is_none_is_not_told(name):
    tokenizer = byte_level()
    tokenizer.init_kwargs["tokenizer_of_rows"] = name
    assert describe(tokenizer) == "one token a byte, 258 tokens"


def test_a_tokenizer_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="no such folder") as refusal:
        open_tokenizer(str(tmp_path / "nowhere"))
    assert "nowhere" in str(refusal.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"tokenizer .*empty"):
        open_tokenizer(str(tmp_path / "empty"))


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    tokenizer = toy_tokenizer("bpe")
    tokenizer.eos_token = None
    save(tokenizer, tmp_path / "no_eos")
    with pytest.raises(UsageError, match="has no eos token"):
        open_tokenizer(str(tmp_path / "no_eos"))


def test_a_tokenizer_whose_vocabulary_did_not_load_is_refused(tmp_path):
    save(byte_level(), tmp_path / "hollow")
    file = tmp_path / "hollow" / "tokenizer.json"
    core = json.loads(file.read_text("utf-8"))
    core["model"]["vocab"] = {}
    for i, token in enumerate(core["added_tokens"]):
        token["id"] = i
    file.write_text(json.dumps(core), "utf-8")
    with pytest.raises(UsageError, match="finds no token"):
        open_tokenizer(str(tmp_path / "hollow"))


def test_a_tokenizer_that_is_not_a_fast_one_is_refused_by_name(tmp_path: Path):
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\nspeech\nrows\n", "utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}', "utf-8")
    with pytest.raises(UsageError, match=r"tokenizer .*slow"):
        open_tokenizer(str(folder))


def test_a_real_tokenizer_opens_after_saving_with_the_same_ids(tmp_path):
    tokenizer = llama3()
    save(tokenizer, tmp_path / "llama3")
    again = open_tokenizer(str(tmp_path / "llama3"))
    text = "The weather, isn't it?  日本 😀\n\n<|eot_id|> </s> 1234"
    ids = tokenizer(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert again(text, split_special_tokens=True, add_special_tokens=False)["input_ids"] == ids
    assert len(again) == len(tokenizer)
