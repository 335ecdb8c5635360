"""Tokenizers: open any fast one, or make the byte-level default; add an audio token; save."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from tokenizers import Tokenizer
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.models import is_from_cache
from speechrows.text.audio_token import audio_token
from speechrows.text.audio_token import choose_audio_token
from speechrows.text.audio_token import special_tokens
from speechrows.text.processor import processor_template
from speechrows.types import AUDIO_TOKEN

BYTE_LEVEL = "byte-level"
_PAD, _END = "<|pad|>", "<|end|>"
_NAME = "tokenizer_of_rows"  # in tokenizer_config.json: the Hub repository that it was opened from
_GENERIC = ("TokenizersBackend", "PreTrainedTokenizerFast")  # two names of one class, of transformers 5 and 4


def byte_level() -> PreTrainedTokenizerFast:
    """Make the default tokenizer: one token a UTF-8 byte, a pad and an end token, no template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=_PAD, eos_token=_END)


def open_tokenizer(
    name: str | None, extra: Sequence[str] = (), audio: str | None = None
) -> PreTrainedTokenizerFast:
    """Open the tokenizer of a Hub repository or folder, the byte-level one for None, with an audio token.

    `audio` names the audio token; without it, it is the model's own where it has one, else `<audio>`.
    `extra` are special tokens that the tokenizer has to have, too; those that it lacks are added.

    Raises:
        UsageError: it is not there, not a fast one, or empty (some sentencepiece files load
            as three tokens).
    """
    address = None if name in (None, BYTE_LEVEL) else os.path.expanduser(name)
    tokenizer = byte_level() if address is None else _from_pretrained(address)
    if not tokenizer.encode("speech rows", add_special_tokens=False):
        raise UsageError(
            f"tokenizer {name}: finds no token in 'speech rows'; its vocabulary did not load "
            "(a sentencepiece model alone is not enough: give a folder with tokenizer.json)"
        )
    if tokenizer.eos_token_id is None:
        raise UsageError(f"tokenizer {name}: has no eos token; expected one to end a turn with")
    # A tokenizer may hold it as an ordinary token already: a transcript that spells it would say it.
    if address is not None and (template := processor_template(address)):
        tokenizer.chat_template = template
    if address is not None and not Path(address).exists():
        tokenizer.init_kwargs[_NAME] = address
    choose_audio_token(tokenizer, address, audio)
    specials = special_tokens(tokenizer)
    missing = [token for token in (audio_token(tokenizer), *extra) if token not in specials]
    if missing:
        tokenizer.add_tokens(missing, special_tokens=True)  # pyright: ignore[reportArgumentType]
    return tokenizer


def _from_pretrained(name: str) -> PreTrainedTokenizerFast:
    is_from_cache(name, "tokenizer")  # before AutoTokenizer imports torch
    try:
        tokenizer = _open(name)
    except Exception as error:  # of transformers, of Hub and network, and the bare ones of tokenizers
        if "trust_remote_code" in str(error):  # transformers' advice
            raise UsageError(
                f"tokenizer {name}: brings code of its own, which is never run; expected a fast tokenizer of "
                "transformers, a folder or a Hub repository with tokenizer.json"
            ) from error
        raise UsageError(
            f"tokenizer {name}: can not be opened; expected a Hub repository or a folder with "
            f"tokenizer.json, and for a gated one `hf auth login`. What was found: {first_line(error)}"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UsageError(
            f"tokenizer {name}: is {type(tokenizer).__name__}, not a fast one; expected a "
            "repository or folder with tokenizer.json"
        )
    return tokenizer


def _open(name: str) -> Any:
    """Open what AutoTokenizer would; do without it where a folder names the class.

    AutoTokenizer imports torch, where that is installed: seconds, to show a row.
    """
    named = _named_class(Path(name))
    if named is not None:
        # The generic class has them by the rules already: given none, it neither reads nor copies them again,
        # which takes most of a second for ten thousand units.
        more: dict[str, Any] = {"added_tokens_decoder": {}} if named is PreTrainedTokenizerFast else {}
        return named.from_pretrained(name, **more)
    from transformers import AutoTokenizer  # noqa: PLC0415

    # Said, not left out: left out, transformers asks on a terminal whether to run what the repository brings.
    return AutoTokenizer.from_pretrained(
        name, trust_remote_code=False, local_files_only=is_from_cache(name, "tokenizer")
    )


def _named_class(folder: Path) -> type[PreTrainedTokenizerFast] | None:
    """Return the fast class that a saved tokenizer names; None where AutoTokenizer has to decide."""
    config_file, rules_file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    # Beside a model's config.json, the model may decide.
    if not config_file.is_file() or not rules_file.is_file() or (folder / "config.json").exists():
        return None
    config = json.loads(config_file.read_text("utf-8"))
    name = str(config.get("tokenizer_class"))
    is_llama = name.removesuffix("Fast") == "LlamaTokenizer"
    if "added_tokens_decoder" in config:
        return None  # of an older transformers, and edited since, maybe: tokens that the rules lack
    if "auto_map" in config or (is_llama and '"ByteLevel"' in rules_file.read_text("utf-8")):
        return None  # code of its own; Llama 3, which is no LlamaTokenizer whatever it says
    if name in _GENERIC:
        return PreTrainedTokenizerFast
    named = getattr(transformers, name, None)
    is_fast = isinstance(named, type) and issubclass(named, PreTrainedTokenizerFast)
    return named if is_fast else None


def describe(tokenizer: PreTrainedTokenizerFast) -> str:
    """Say in Markdown which tokenizer it is, wherever it was opened from now, and how many tokens it has."""
    is_default = tokenizer.vocab_size == len(pre_tokenizers.ByteLevel.alphabet())
    kind = "one token a byte" if is_default else "of no name"
    name = tokenizer.init_kwargs.get(_NAME, "")
    with suppress(HFValidationError):  # of a stranger's folder it may be anything
        validate_repo_id(name)
        kind = f"that of `{name}`"
    return f"{kind}, {len(tokenizer):,} tokens"


def pad_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the id that rows are padded with: the pad token's, else eos."""
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return int(str(pad))


def text_ids(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, split: bool = False
) -> list[list[int]]:
    """Return the ids of each text alone; with `split`, a special token that it spells stays text."""
    return tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=split,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def decoded(tokenizer: PreTrainedTokenizerFast, ids: Sequence[Sequence[int]]) -> list[str]:
    """The text of each row's ids, as it is, without special tokens; in one batch.

    By the tokenizer's core: transformers looks at each id's type first, which takes longer than decoding.
    """
    return tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=True)


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return a digest of everything that decides ids: vocabulary, rules, special tokens, template."""
    # Padding and truncation are per call: the first call with them would change the digest.
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    core.update(padding=None, truncation=None)
    decisive = [
        core,
        tokenizer.chat_template,
        sorted((name, str(token)) for name, token in tokenizer.special_tokens_map.items()),
    ]
    if audio_token(tokenizer) != AUDIO_TOKEN:
        decisive.append(audio_token(tokenizer))
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer without any path of this machine or code of its own; replace the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer.save_pretrained(folder)
    config_file = folder / "tokenizer_config.json"
    config = json.loads(config_file.read_text("utf-8"))
    for key in (
        "name_or_path",
        "_commit_hash",
        "local_files_only",
        "is_local",
        "auto_map",
        "trust_remote_code",
    ):
        config.pop(key, None)
    config_file.write_text(json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
