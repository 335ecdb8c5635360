"""A shard screened: the scores of its rows, as a parquet of one row group."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechrows.errors import BadClipError
from speechrows.folder.manifest import ShardEntry
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.scores import SCHEMA
from speechrows.folder.scores import UNDECODABLE
from speechrows.folder.scores import to_metadata
from speechrows.folder.shards import check_shard
from speechrows.screening.measures import OF_SOUND
from speechrows.screening.measures import Measures
from speechrows.screening.measures import measures_of
from speechrows.screening.measures import measures_of_text
from speechrows.text.letters import scripts_of_language

_ROWS = 32  # with their clips, at once
_COLUMNS = ("row_id", "transcript", "messages", "audio")
VERSION = 1  # of how rows are measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What decides the scores of a row besides the row: languages, and the recogniser, a model's folder."""

    languages: tuple[str, ...] = ()
    asr: str | None = None
    kept: str | None = None  # without one: the recogniser, as a recipe names it, whose scores are kept

    @property
    def recipe(self) -> dict[str, Any]:
        """The choices, without paths of this machine: the recogniser by its name and its size."""
        recogniser = self.kept
        if self.asr is not None:
            size = (Path(self.asr) / "model.bin").stat().st_size
            recogniser = f"{Path(self.asr).resolve().name}, {size} bytes"
        return {"version": VERSION, "languages": list(self.languages), "asr": recogniser}

    @property
    def scripts(self) -> frozenset[str]:
        """The scripts that texts should be in; none where no language is told."""
        return frozenset(script for language in self.languages for script in scripts_of_language(language))


def heard_as(languages: Sequence[str]) -> str | None:
    """The language that a recogniser hears; None for whichever it is."""
    return languages[0].partition("-")[0] if len(languages) == 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Scores of a shard that are there: a row group of a parquet, and how they were made."""

    path: Path
    group: int
    recipe: Mapping[str, Any]

    def read(self) -> pa.Table:
        """The scores, a line a row of the shard."""
        with pq.ParquetFile(self.path) as parquet:
            return parquet.read_row_group(self.group, use_threads=False)

    def hears_as(self, recipe: Mapping[str, Any]) -> bool:
        """Whether clips were heard as a recipe says: by its recogniser, in its language."""
        if self.recipe["asr"] is None or self.recipe["asr"] != recipe["asr"]:
            return self.recipe["asr"] == recipe["asr"]
        return heard_as(self.recipe["languages"]) == heard_as(recipe["languages"])


@dataclass(frozen=True)
class Screener:
    """Screens shards of a folder into a folder of parts; what `earlier` scores say is not made anew."""

    folder: RowsFolder
    choices: Choices
    parts: Path
    earlier: Mapping[ShardEntry, Sequence[Earlier]] = field(default_factory=dict)

    def part_of(self, shard: ShardEntry) -> Path:
        """Where a shard's scores are once they are made: named by all that decides them."""
        facts = [self.choices.recipe, shard.path, shard.rows, shard.size, shard.footer_sha256]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        return self.parts / f"{digest}.parquet"

    def screen(self, shard: ShardEntry) -> int:
        """Write the scores of a shard; return the number of its rows.

        Raises:
            ShortfallError: it is not there, damaged, or another than its index says.
        """
        check_shard(self.folder, shard)
        path = self.part_of(shard)
        with self.folder.naming(shard.path):
            schema = SCHEMA.with_metadata(to_metadata([shard], self.choices.recipe))
            table = pa.Table.from_pylist([*self._scores(shard)], schema=schema)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
        pq.write_table(table, temporary, compression="zstd", row_group_size=max(len(table), 1))
        temporary.replace(path)
        return len(table)

    def _scores(self, shard: ShardEntry) -> Iterator[dict[str, Any]]:
        recipe, earlier = self.choices.recipe, self.earlier.get(shard, ())
        heard = next((scores for scores in earlier if scores.hears_as(recipe)), None)
        known = (heard or earlier[0]).read().to_pylist() if earlier else None
        at = 0
        with self.folder.open_parquet(shard.path) as parquet:
            for batch in parquet.iter_batches(_ROWS, columns=[*_COLUMNS], use_threads=False):
                clips = pc.struct_field(batch["audio"], "bytes")
                cells = batch.select(["row_id", "transcript", "messages"]).to_pylist()
                for row, clip in zip(cells, clips, strict=True):
                    data = memoryview(clip.as_buffer()) if clip.is_valid else None
                    measures = self._measure(row, data, known[at] if known else None, is_heard=bool(heard))
                    yield {"row_id": row["row_id"], **measures.columns()}
                    at += 1

    def _measure(
        self,
        row: Mapping[str, Any],
        data: memoryview | None,
        known: Mapping[str, Any] | None,
        *,
        is_heard: bool,
    ) -> Measures:
        """Measure a row; `known` are its earlier scores, of which `is_heard` takes what was heard, too."""
        text = row["transcript"] if data is not None else _words(row["messages"])
        if known is None:
            measures = measures_of(data, text, self.choices.scripts)
        else:
            kept = {name: known[name] for name in (*OF_SOUND, *(("wer", "heard") if is_heard else ()))}
            kept["is_undecodable"] = known["worst"] == UNDECODABLE
            measures = replace(measures_of_text(text, self.choices.scripts), **kept)
        if self._hearing is None or is_heard or data is None or measures.is_undecodable or not text.strip():
            return measures
        try:
            wer, heard = self._hearing.hear(data, text)
        except BadClipError:
            return measures
        return replace(measures, wer=wer, heard=heard)

    @cached_property
    def _hearing(self) -> Any:
        if self.choices.asr is None:
            return None
        from speechrows.screening.hearing import Hearing  # noqa: PLC0415  # an extra

        return Hearing(self.choices.asr, heard_as(self.choices.languages))


def _words(messages: Sequence[Mapping[str, str]]) -> str:
    return " ".join(message["content"] for message in messages)
