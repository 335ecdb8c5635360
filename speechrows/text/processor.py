"""What a model's processor says beside its tokenizer: its audio token, its chat template, its brackets."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from speechrows.storage.models import is_from_cache


def processor_audio_token(address: str) -> str | None:
    """The audio token that the processor's config names, in a Hub repository or folder."""
    token = _read(address, "processor_config.json").get("audio_token")
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def processor_template(address: str) -> str | None:
    """The processor's own chat template, where it is one for audio; the tokenizer's may know text alone."""
    template = _read(address, "chat_template.json").get("chat_template")
    return template if isinstance(template, str) and "audio" in template else None


def brackets(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the processor itself, not the template, writes before and after the audio."""
    if tokenizer.init_kwargs.get("processor_class") == "Gemma3nProcessor":
        begin, end = (getattr(tokenizer, name, "") for name in ("boa_token", "eoa_token"))
        return f"\n\n{begin}", f"{end}\n\n"
    return "", ""


def _read(address: str, name: str) -> dict[str, Any]:
    """A JSON file of a Hub repository or folder; empty where there is none, which is the rule."""
    try:
        file = cached_file(
            address,
            name,
            local_files_only=is_from_cache(address, "tokenizer"),
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        values = json.loads(Path(file).read_text("utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
