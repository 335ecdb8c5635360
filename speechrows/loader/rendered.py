"""An index as rows are to be loaded: under the tokenizer and rate of audio tokens that are asked for."""

from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedTokenizerFast

from speechrows.codec import parse_rate
from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.loader.mix_rows import MixRows
from speechrows.loader.read.rowgroup import ReadRowGroups
from speechrows.loader.read.rowgroup import read_row_groups
from speechrows.loader.retokenize import Retokenizer
from speechrows.loader.retokenize import retokenized
from speechrows.text.tokenizers import fingerprint


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendered:
    """Rows, the tokenizer that they are under, and what reads their row groups; of a mix, its rows."""

    index: IndexedRows
    tokenizer: PreTrainedTokenizerFast
    read: ReadRowGroups
    mix: MixRows | None = None


def rendered(
    index: Index,
    built_with: PreTrainedTokenizerFast,
    tokenizer: PreTrainedTokenizerFast,
    audio_tokens_per_second: str | float | None,
) -> tuple[Index, ReadRowGroups]:
    """The index, and what reads its row groups: as they are stored, or retokenised where anything differs.

    Raises:
        UsageError: see Retokenizer.of.
    """
    is_other = tokenizer is not built_with and fingerprint(tokenizer) != fingerprint(built_with)
    if not is_other and not _is_other_rate(audio_tokens_per_second, index):
        return index, read_row_groups
    retokenizer = Retokenizer.of(index, built_with, tokenizer, audio_tokens_per_second)
    return retokenized(index, retokenizer), retokenizer.read_row_groups


def rate_of(index: IndexedRows) -> Fraction:
    """The audio tokens a second of all rows.

    Raises:
        UsageError: tasks have different rates.
    """
    rates = index.audio_tokens_per_second
    if len({*rates.values()}) > 1:
        by_task = ", ".join(f"{task} {float(rate):g}" for task, rate in rates.items())
        raise UsageError(
            f"{index.address}: tasks of {index.config} have different audio tokens a second: "
            f"{by_task}. Give audio_tokens_per_second=…, or load them one by one"
        )
    return next(iter(rates.values()))


def _is_other_rate(rate: str | float | None, index: Index) -> bool:
    """Whether a rate of audio tokens is given that is not that of all rows."""
    return rate is not None and {*index.audio_tokens_per_second.values()} != {parse_rate(rate)}
