"""Tokenizers of every kind in the field, made in a few lines each, and two real ones."""

import base64
import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from tokenizers import Regex
from tokenizers import Tokenizer
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from speechrows.text.tokenizers import byte_level
from speechrows.types import AUDIO_TOKEN
from toys.templates import EOS
from toys.templates import TEMPLATES

# One list for all toys, so that every template runs under every tokenizer.
BOS, PAD, UNK = "<s>", "<pad>", "<unk>"
SPECIALS = [
    *(UNK, BOS, EOS, PAD, "<|im_start|>", "<|im_end|>", "<think>", "</think>", "[INST]", "[/INST]"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[gMASK]", "<sop>", "<|user|>"),
    *("<|assistant|>", "<start_of_turn>", "<end_of_turn>"),
]


def _fast(core: Tokenizer, **more: str) -> PreTrainedTokenizerFast:
    named = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "unk_token": UNK, **more}
    core.add_special_tokens([*SPECIALS, AUDIO_TOKEN])
    return PreTrainedTokenizerFast(tokenizer_object=core, **named)


def bpe(*, nfc: bool = False, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a handful of merges, as GPT-2's; with NFC or a post-processor that adds BOS."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r"), ("Ċ", "Ċ"), ("Ġ", "Ġ")]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if nfc:
        core.normalizer = normalizers.NFC()
    tokenizer = _fast(core)
    if adds_bos:
        bos_id = tokenizer.convert_tokens_to_ids(BOS)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos_id)]
        )
    return tokenizer


def metaspace(scheme: str, *, byte_fallback: bool = True) -> PreTrainedTokenizerFast:
    """As sentencepiece: words start with U+2581; what has no piece falls back to bytes, or to <unk>."""
    letters = ["\u2581", *map(chr, range(33, 127)), "é", "ü", "ß", "日", "本", "\U0001f600"]
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the"), ("e", "r"), ("\u2581", "a")]
    pieces = [UNK, *(f"<0x{i:02X}>" for i in range(256)), *letters, *(a + b for a, b in merges)]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocab, merges, unk_token=UNK, byte_fallback=byte_fallback, fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _fast(core)


def legacy_metaspace() -> PreTrainedTokenizerFast:
    """As Llama 2, TinyLlama and Mistral 7B are saved: a normalizer writes U+2581 before every stretch."""
    tokenizer = metaspace("always")
    core = tokenizer.backend_tokenizer
    core.pre_tokenizer = None  # pyright: ignore[reportAttributeAccessIssue]
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return tokenizer


def without_pad() -> PreTrainedTokenizerFast:
    """As many published ones are: pads are then its eos."""
    tokenizer = bpe()
    tokenizer.pad_token = None
    return tokenizer


def _of_ranks(ranked: list[bytes], pattern: str, before: Sequence[str] = ()) -> Tokenizer:
    """Byte-level BPE of byte strings in the order in which they merge; the ids of `before` come first."""
    char = bytes_to_unicode()
    pieces = [piece.decode("latin-1").translate(char) for piece in ranked]
    rank = {piece: i for i, piece in enumerate(pieces)}
    merges = list[tuple[str, str]]()
    for piece in pieces:
        pairs = [
            (left, right)
            for at in range(1, len(piece))
            if (left := piece[:at]) in rank and (right := piece[at:]) in rank
        ]
        merges += sorted(pairs, key=lambda pair: (rank[pair[0]], rank[pair[1]])) if len(pairs) > 1 else pairs
    vocab = {piece: i for i, piece in enumerate([*before, *pieces])}
    core = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return core


@cache
def llama3() -> PreTrainedTokenizerFast:
    """Llama 3's, from the llama-models package; skips where that is not installed."""
    spec = importlib.util.find_spec("llama_models")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llama-models is not installed: pip install --no-deps llama-models")
    file = Path(spec.submodule_search_locations[0]) / "llama3" / "tokenizer.model"
    named = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_0|>", "<|reserved_1|>", "<|finetune_pad|>"]
    specials = [*named, "<|reserved_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"]
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    ranked = [base64.b64decode(line.split()[0]) for line in file.read_bytes().splitlines()]
    core = _of_ranks(ranked, pattern)
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    core.add_special_tokens([*specials, "<|eot_id|>", AUDIO_TOKEN])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=named[0], eos_token=named[1], pad_token=named[4]
    )


@cache
def tekken() -> PreTrainedTokenizerFast:
    """Mistral's Tekken, from mistral-common's data: ranked byte strings after 1000 special ids."""
    spec = importlib.util.find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mistral-common is not installed: pip install mistral-common")
    file = Path(spec.submodule_search_locations[0]) / "data" / "tekken_240911.json"
    model = json.loads(file.read_text("utf-8"))
    config = model["config"]
    first = config["default_num_special_tokens"]
    specials = [UNK, BOS, EOS, "[INST]", "[/INST]", *(f"<SPECIAL_{i}>" for i in range(5, first - 2))]
    specials += [PAD, AUDIO_TOKEN]
    ranked = [
        base64.b64decode(one["token_bytes"]) for one in model["vocab"][: config["default_vocab_size"] - first]
    ]
    core = _of_ranks(ranked, config["pattern"], specials)
    core.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNK
    )


def plain_byte_level() -> PreTrainedTokenizerFast:
    """The project's own default, with `<audio>`."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIALS, AUDIO_TOKEN]})
    return tokenizer


TOKENIZERS = {
    "byte_level": plain_byte_level,
    "bpe": bpe,
    "bpe_nfc": lambda: bpe(nfc=True),
    "bpe_adds_bos": lambda: bpe(adds_bos=True),
    "bpe_without_pad": without_pad,
    "metaspace_always": lambda: metaspace("always"),
    "metaspace_legacy": legacy_metaspace,
    "metaspace_first": lambda: metaspace("first"),
    "metaspace_unk": lambda: metaspace("first", byte_fallback=False),
}
# What each does that a template could meddle with.
TOKENIZER_FEATURES = {
    "byte_level": frozenset({"a token a byte"}),
    "bpe": frozenset({"merges line breaks", "merges a space into a word"}),
    "bpe_nfc": frozenset({"merges line breaks", "merges a space into a word", "normalises"}),
    "bpe_adds_bos": frozenset({"merges line breaks", "merges a space into a word", "adds bos"}),
    "bpe_without_pad": frozenset({"merges line breaks", "merges a space into a word", "no pad"}),
    "metaspace_always": frozenset({"space before every piece", "falls back to bytes"}),
    "metaspace_legacy": frozenset({"space before every piece", "falls back to bytes", "normalises"}),
    "metaspace_first": frozenset({"space before the first piece", "falls back to bytes"}),
    "metaspace_unk": frozenset({"space before the first piece", "unknown token"}),
}
REAL_TOKENIZERS = {"llama3": llama3, "tekken": tekken}


def toy_tokenizer(name: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer by name, with a template by name, or the plain form."""
    tokenizer = {**TOKENIZERS, **REAL_TOKENIZERS}[name]()
    tokenizer.chat_template = None if template is None else TEMPLATES.get(template, template)
    return tokenizer
