"""Which token stands for the frames of a clip: the model's own where it has one, else `<audio>`.

A saved tokenizer of rows says so itself: it is the one place that everything that reads rows asks.
"""

import re
from collections import Counter

from transformers import PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.text.messages import FORMS
from speechrows.text.messages import target
from speechrows.text.options import DEFAULT_DATE
from speechrows.text.processor import processor_audio_token
from speechrows.text.render import render_chats
from speechrows.types import AUDIO_TOKEN

_KEY = "audio_token_of_rows"  # of tokenizer_config.json, where it is another than `<audio>`
_BRACKET = re.compile("bos|eos|begin|start|end|open|close", re.IGNORECASE)  # of tokens around the audio's


def audio_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that stands for the audio in the rows of a tokenizer."""
    return tokenizer.init_kwargs.get(_KEY, AUDIO_TOKEN)


def audio_token_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the token that stands for the audio in the rows of a tokenizer.

    Raises:
        UsageError: it has none: transformers opened it, which knows nothing of rows.
    """
    token = audio_token(tokenizer)
    token_id = tokenizer.backend_tokenizer.token_to_id(token)
    if token_id is None:
        raise UsageError(
            f"tokenizer {tokenizer.name_or_path}: has no {token}, which stands for the audio; give its name "
            "or folder in its place, then its audio token is found"
        )
    return int(token_id)


def choose_audio_token(tokenizer: PreTrainedTokenizerFast, address: str | None, given: str | None) -> None:
    """Let a tokenizer's rows have the audio token that is given, or else the model's own.

    The model's own is what its files at `address` call so, or what its template writes for a part of audio.

    Raises:
        UsageError: the template writes several tokens, of which any may be it; or what is given, or told, can
            stand for no audio.
    """
    if given == "":
        raise UsageError(f"--audio-token: found '', expected a token such as {AUDIO_TOKEN}")
    token = given or tokenizer.init_kwargs.get(_KEY)
    if token is None and AUDIO_TOKEN not in special_tokens(tokenizer):
        token = _told(tokenizer, address) or _written(tokenizer)
    tokenizer.init_kwargs.pop(_KEY, None)
    if token not in (None, AUDIO_TOKEN):
        tokenizer.init_kwargs[_KEY] = _checked(tokenizer, str(token))


def _checked(tokenizer: PreTrainedTokenizerFast, token: str) -> str:
    """A token that can stand for audio, and for nothing else."""
    if token.split() != [token]:
        raise UsageError(f"audio token: found {token!r}, expected one without white space, as <|AUDIO|>")
    for name in ("bos_token", "eos_token", "pad_token"):
        if token == getattr(tokenizer, name, None):
            raise UsageError(
                f"audio token: found {token}, which is the tokenizer's {name}; expected one that stands for "
                "audio alone. Name it: --audio-token TOKEN"
            )
    return token


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    """The special tokens of a tokenizer."""
    return {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}


def _told(tokenizer: PreTrainedTokenizerFast, address: str | None) -> str | None:
    """The audio token that a tokenizer's or a processor's config names."""
    token = getattr(tokenizer, "audio_token", None)
    if token is None and address is not None:
        token = processor_audio_token(address)
    return str(token) if token else None


def _written(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The audio token that a chat template writes for a part of audio; None where it takes no such parts."""
    if tokenizer.chat_template is None:
        return None
    forms = [form for form in FORMS if form.user_in_parts]
    users = [f"{AUDIO_TOKEN} Listen.", "Listen."]
    chats = [form.conversation(user, 1) for form in forms for user in users]
    texts = render_chats(tokenizer, chats, DEFAULT_DATE)
    for with_audio, without in zip(texts[::2], texts[1::2], strict=True):
        if isinstance(with_audio, str) and isinstance(without, str) and with_audio.count(target(0)) == 1:
            return _only_one(tokenizer, _specials(tokenizer, with_audio) - _specials(tokenizer, without))
    return None


def _specials(tokenizer: PreTrainedTokenizerFast, text: str) -> Counter[str]:
    """The special tokens of a text, and `<audio>`, each as often as it comes."""
    names = sorted({*special_tokens(tokenizer), AUDIO_TOKEN}, key=len, reverse=True)
    return Counter(re.findall("|".join(map(re.escape, names)), text))


def _only_one(tokenizer: PreTrainedTokenizerFast, written: Counter[str]) -> str | None:
    """Of the tokens that are written for a clip, the one that is no bracket around another."""
    inner = [token for token in written if not _BRACKET.search(token)] if len(written) > 1 else [*written]
    if len(inner) == 1 or not written:
        return inner[0] if inner else None
    raise UsageError(
        f"tokenizer {tokenizer.name_or_path}: its chat template writes {' '.join(written)} for audio; "
        "expected one token that stands for its frames. Name it: --audio-token TOKEN"
    )
