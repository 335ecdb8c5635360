"""What the index of a task and split says of the whole: its shards, ledger, rate, template options.

It is one JSON in the index's parquet metadata, written and read here alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from speechrows.codec import MAX_RATE
from speechrows.errors import UsageError
from speechrows.folder.layout import is_shard
from speechrows.rows.ledger import LedgerSummary
from speechrows.text.options import TemplateOptions

_KEY = b"speechrows"  # of the parquet metadata


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardEntry:
    """A shard, and what its index was bound to when it was written."""

    path: str  # in the folder
    rows: int
    size: int  # bytes of the file
    footer_sha256: str

    @property
    def task(self) -> str:
        """The name of the task whose rows it holds: the second part of its path."""
        return self.path.split("/")[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltShard(ShardEntry):
    """A shard as its build knows it.

    `num_bytes` are those of its rows in memory, which a card tells; `index` is the name of its part of
    the index.
    """

    split: str
    band: int | None
    num_bytes: int
    index: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    """What an index says of its task and split; `shards` are in the order of its lines, that of their paths.

    The ledger is of the task's splits together.
    """

    shards: tuple[ShardEntry, ...]
    ledger: LedgerSummary
    audio_tokens_per_second: Fraction
    template_options: TemplateOptions

    def to_metadata(self) -> dict[bytes, bytes]:
        """The facts as an index's parquet metadata."""
        facts = {
            "shards": {
                shard.path: {"size": shard.size, "rows": shard.rows, "footer_sha256": shard.footer_sha256}
                for shard in self.shards
            },
            "ledger": self.ledger.to_json(),
            "audio_tokens_per_second": str(self.audio_tokens_per_second),
            "form": self.template_options.to_json(),
        }
        return {_KEY: json.dumps(facts, sort_keys=True).encode()}

    @staticmethod
    def from_metadata(metadata: Mapping[bytes, bytes] | None, where: str) -> "TaskFacts":
        """Read the facts in the parquet metadata of an index; `where` names it in an error.

        Raises:
            UsageError: no build wrote it, or what it says is damaged.
        """
        text = (metadata or {}).get(_KEY)
        if text is None:
            raise UsageError(
                f"{where} is no index that a build wrote; expected what it says of its shards. Build or "
                "download the folder again"
            )
        try:
            return _parse(json.loads(text))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise UsageError(
                f"{where}: its parquet metadata is damaged: found {error!r}; expected shards, ledger, audio "
                "tokens a second and template options as a build writes them. Build or download the folder "
                "again"
            ) from error


def _parse(facts: Mapping[str, Any]) -> TaskFacts:
    strange = [path for path in facts["shards"] if not is_shard(path)]
    if strange:
        raise ValueError(f"the shard {strange[0]!r:.200}, where no build writes rows")
    shards = [
        ShardEntry(
            path=path, rows=int(entry["rows"]), size=int(entry["size"]), footer_sha256=entry["footer_sha256"]
        )
        for path, entry in sorted(facts["shards"].items())
    ]
    rate = Fraction(facts["audio_tokens_per_second"])
    for shard in shards:
        if min(shard.rows, shard.size) < 0:
            raise ValueError(f"{shard.path!r:.80} of {shard.rows} rows and {shard.size} bytes")
    if not 0 < rate <= MAX_RATE:
        raise ValueError(f"{rate} audio tokens a second")
    return TaskFacts(
        shards=tuple(shards),
        ledger=LedgerSummary.from_json(facts["ledger"]),
        audio_tokens_per_second=rate,
        template_options=TemplateOptions.from_json(facts["form"]),
    )
