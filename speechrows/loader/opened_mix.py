"""A mix, opened: its folders and tokenizer, the rows of each source, and how much of them an epoch has."""

import os
from collections.abc import Callable
from collections.abc import Sequence
from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import Any
from typing import TypeVar

import numpy as np
from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.folder.index import Index
from speechrows.folder.indexed_rows import IndexedRows
from speechrows.folder.joined import JoinedIndex
from speechrows.folder.joined import Joining
from speechrows.loader.mix_rows import MixRows
from speechrows.loader.mix_rows import MixSource
from speechrows.loader.mix_rows import size_of
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.loader.plan.order import Int64
from speechrows.loader.read.codecs import codecs_of
from speechrows.loader.read.records import RowTokens
from speechrows.loader.read.rowgroup import ReadRowGroups
from speechrows.loader.rendered import Rendered
from speechrows.loader.rendered import rate_of
from speechrows.loader.rendered import rendered
from speechrows.mix.conditions import Condition
from speechrows.mix.masks import holding
from speechrows.mix.masks import kept_rows
from speechrows.mix.reading import read_mix
from speechrows.mix.resolved import OpenSource
from speechrows.mix.resolved import resolve
from speechrows.mix.shares import schedule
from speechrows.mix.values import Mix
from speechrows.mix.values import Source
from speechrows.storage.filesystem import is_place_here
from speechrows.storage.filesystem import path_text
from speechrows.text.tokenizers import fingerprint
from speechrows.types import Int32

T = TypeVar("T")
_Key = tuple[str, str, str]  # path, config, split


class OpenedMix:
    """A mix, opened once for all its loaders: see OpenedFolder.

    Args:
        mix: a YAML file, a Mix, or paths of folders, each once an epoch, with `config` and `split`.

    Raises:
        UsageError: it contradicts itself, or see Index.open.
    """

    def __init__(
        self, mix: str | Path | Mix | Sequence[str | Path], config: str = "", split: str = "train"
    ) -> None:
        if isinstance(mix, str | Path):
            mix = read_mix(mix)
        elif not isinstance(mix, Mix):
            sources = [Source(path=path_text(path), config=config, split=split) for path in mix]
            mix, config, split = Mix(sources=sources), "", "train"
        self.mix = mix
        self.check_alone(config, split)
        self._resolved = resolve(mix)
        self._folders = {source.path: OpenedFolder(source.path) for source in self._resolved.sources}
        self._rendered: dict[tuple[str, str], Rendered] = {}

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.mix.file or "+".join(dict.fromkeys(self._folders))

    def check_alone(self, config: str, split: str) -> None:
        """Raise UsageError where a config or split is given beside the mix."""
        if config or split != "train":
            raise self.mix.problem(
                f"found config {config!r} and split {split!r} beside a mix; its sources say theirs"
            )

    def rendered(
        self, tokenizer: str | PreTrainedTokenizerFast | None = None, audio_tokens_per_second: object = None
    ) -> Rendered:
        """Its rows under a tokenizer and a rate of audio tokens, by default those of the first source.

        Raises:
            UsageError: a source has no such config or split, no row that its `where` holds for, or rows that
                can not be rendered anew; or codecs differ.
        """
        first = self._resolved.sources[0]
        choose = self._folders[first.path].chosen_tokenizer
        tokenizer = self._of(first, choose, None) if tokenizer is None else choose(tokenizer)
        key = fingerprint(tokenizer), str(audio_tokens_per_second)
        if key not in self._rendered:
            self._rendered.clear()  # an index may be large
            self._rendered[key] = self._render(tokenizer, audio_tokens_per_second)
        return self._rendered[key]

    def _render(self, tokenizer: PreTrainedTokenizerFast, rate: object) -> Rendered:
        keys = {key: source for source in reversed(self._resolved.sources) for key in _keys(source)}
        places = {key: number for number, key in enumerate(reversed(keys))}
        joining = Joining(sum(self._of(keys[key], self._folders[key[0]].count, *key[1:]) for key in places))
        reads, rows = list[ReadRowGroups](), [list[Int32]() for _ in self._resolved.sources]
        first_row = 0
        given: str | None = None if rate is None else str(rate)
        for path, config, split in places:
            folder, source = self._folders[path], keys[path, config, split]
            index = self._of(source, folder.open_index, config, split, allocate=joining.allocate)
            if given is None:
                given = str(rate_of(index))
            index, read = rendered(index, folder.tokenizer, tokenizer, given)
            for number, kept in self._of(source, self._kept, (path, config, split), index):
                rows[number].append((kept + first_row).astype(np.int32))
            first_row += len(index)
            joining.add(index)
            reads.append(read)
        joined = joining.joined(self.name)
        codecs = [codec for part in joined.parts for codec in codecs_of(part)]
        sources = tuple(
            self._source(
                joined, source, np.concatenate(of_source), [places[key] for key in _keys(source)], codecs
            )
            for source, of_source in zip(self._resolved.sources, rows, strict=True)
        )
        mix = MixRows(
            index=joined,
            sources=sources,
            schedule=schedule(self._resolved, [source.size for source in sources]),
            seed=self.mix.seed,
            codecs=_numbered(codecs, {codec for source in sources for codec in source.codecs}),
        )
        return Rendered(index=joined, tokenizer=tokenizer, read=partial(_read, tuple(reads)), mix=mix)

    def _of(self, source: OpenSource, read: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What a source's folder says, or an error that names the source."""
        try:
            return read(*arguments, **options)
        except UsageError as error:
            hint = ""
            is_here = is_place_here(source.path) or "/" not in source.path
            if self.mix.file and is_here and not os.path.exists(source.path):
                hint = f", nor beside {self.mix.file}"
            raise self.mix.problem(f"source {source.name}: {error}{hint}", source.given.line) from error

    def _kept(self, key: _Key, index: Index) -> list[tuple[int, Int64]]:
        """The number of each source that has rows of an index, and which."""
        holds = holding(index, self._conditions(key))
        return [
            (number, np.flatnonzero(kept_rows(index, source.where, holds)))
            for number, source in enumerate(self._resolved.sources)
            if key in _keys(source)
        ]

    def _conditions(self, key: _Key) -> list[Condition]:
        return [
            condition
            for source in self._resolved.sources
            if key in _keys(source)
            for dnf in source.where
            for conjunction in dnf
            for condition in conjunction
        ]

    def _source(
        self,
        joined: JoinedIndex,
        source: OpenSource,
        rows: Int32,
        parts: Sequence[int],
        codecs: Sequence[str | None],
    ) -> MixSource:
        indexes = [joined.parts[part] for part in parts]
        _check_once(self.mix, source, indexes)
        num_rows = sum(map(len, indexes))
        if not len(rows):
            where = f"of its {num_rows:,} rows where holds for none" if num_rows else "it has no rows"
            raise self.mix.problem(f"source {source.name} is empty: {where}", source.given.line)
        return MixSource(
            name=source.name,
            tags=source.tags,
            rows=rows,
            num_left_out=num_rows - len(rows),
            size=size_of(joined, rows),
            codecs=tuple(dict.fromkeys(filter(None, (codecs[i] for i in np.unique(joined.shard[rows]))))),
            state={
                "path": source.path,
                "revision": indexes[0].folder.revision,
                "config": ", ".join(source.configs),
                "split": source.split,
                "rows": [index.digest for index in indexes],
            },
        )


def _keys(source: OpenSource) -> list[_Key]:
    return [(source.path, config, source.split) for config in source.configs or ("",)]


def _check_once(mix: Mix, source: OpenSource, indexes: Sequence[Index]) -> None:
    """Check that no two configs of a source have the same rows, as stages of a curriculum have."""
    shards: dict[str, str] = {}
    for index in indexes:
        for shard in index.shards:
            other = shards.setdefault(shard.path, index.config)
            if other != index.config:
                message = f"source {source.name}: configs {other} and {index.config} have the same rows"
                raise mix.problem(f"{message}; keep one", source.given.line)


def _numbered(codecs: Sequence[str | None], of_sources: Set[str]) -> Int32 | None:
    """The number of each shard's codec, 0 for none; None where sources have one codec at most."""
    if len(of_sources) < 2:
        return None
    numbers = {name: number for number, name in enumerate(sorted(of_sources), 1)}
    return np.array([numbers.get(name or "", 0) for name in codecs], np.int32)


def _read(
    reads: Sequence[ReadRowGroups], index: IndexedRows, shard: int, row_groups: Sequence[int]
) -> RowTokens:
    """Read row groups of a joined index as those of its part are read."""
    assert isinstance(index, JoinedIndex)
    part = index.part_of(shard)
    return reads[part](index.parts[part], shard - index.first_shards[part], row_groups)
