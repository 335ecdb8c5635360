"""Which ids of a tokenizer begin and end a turn, and stand where nothing is said."""

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from speechrows.conversations.duplex_tokens import SpecialIds
from speechrows.conversations.duplex_tokens import one_id_a_byte
from speechrows.errors import UsageError

_NEEDED = ("bos", "eos", "pad")


def special_ids(tokenizer: PreTrainedTokenizerFast, frame_length_s: float) -> SpecialIds:
    """The ids of a tokenizer's bos, eos and pad.

    Raises:
        UsageError: it lacks one, or two of them are one token.
    """
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in _NEEDED}
    missing = [name for name in _NEEDED if ids[name] is None]
    if missing:
        is_byte_level = tokenizer.vocab_size == len(pre_tokenizers.ByteLevel.alphabet())
        what_does = (
            one_id_a_byte(frame_length_s)
            if is_byte_level
            else f"Name one of its tokens: tokenizer.{missing[0]}_token = …"
        )
        raise UsageError(
            f"tokenizer: found no {' and no '.join(missing)} token; a turn is written as bos, text, eos, "
            f"between pads. {what_does}"
        )
    if len({*ids.values()}) < len(_NEEDED):
        named = ", ".join(f"{name} {getattr(tokenizer, f'{name}_token')!r}" for name in _NEEDED)
        raise UsageError(
            f"tokenizer: found {named}; expected three tokens: a turn's end could not be told from silence. "
            "Name another, as tokenizer.pad_token = …"
        )
    return SpecialIds(**{name: int(ids[name]) for name in _NEEDED})
