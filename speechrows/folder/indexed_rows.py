"""Rows as numpy columns, an entry a row, in file order: of one folder, or of several joined."""

from abc import ABC
from abc import abstractmethod
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from speechrows.folder.manifest import ShardEntry
from speechrows.folder.manifest import TaskFacts
from speechrows.folder.rows_folder import FileVersion
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.shards import check_shard
from speechrows.rows.tasks import TASKS
from speechrows.types import Int32

Int64 = npt.NDArray[np.int64]

_MAX_FOOTERS = 64  # of shards, parsed: some 100 kB each


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IndexedRows(ABC):
    """R rows in file order. Each column is an array [R].

    `conversation` are numbers from 0, one more where a conversation begins; `shard` are positions in
    `shards`. A clip is `audio_length` bytes at `audio_offset` of its shard. `facts` are, by task, what
    indexes say of the whole.
    """

    config: str
    split: str
    shards: tuple[ShardEntry, ...]
    facts: Mapping[str, TaskFacts]
    conversation: Int32
    shard: Int32
    turn_number: Int32
    num_tokens: Int32
    padded_tokens: Int32
    num_samples: Int64
    sampling_rate: Int32
    row_group: Int32
    audio_offset: Int64
    audio_length: Int32
    _verified: dict[int, FileVersion] = field(default_factory=dict, init=False)  # by number of the shard

    @abstractmethod
    def folder_of(self, shard: int) -> RowsFolder:
        """The folder of a shard, by its position in `shards`."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the rows are, for messages."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A digest of the shards: equal if these are the same files, wherever they are."""

    @abstractmethod
    def read_sources(self) -> Int32:
        """The number of each row's source [R], from what the indexes tell: see `sources`."""

    @abstractmethod
    def row_ids(self, rows: Sequence[int]) -> list[str]:
        """The names of some rows."""

    def row_id(self, row: int) -> str:
        """The name of a row."""
        return self.row_ids([row])[0]

    def __len__(self) -> int:
        return len(self.conversation)

    @property
    def whole(self) -> npt.NDArray[np.bool_] | bool:
        """Whether a row's task promises whole conversations: for all, or row by row."""
        promised = np.array([TASKS[shard.task].whole for shard in self.shards])
        return bool(promised.all()) if promised.all() == promised.any() else promised[self.shard]

    @property
    def pad_to_multiple_of(self) -> int:
        """Rows, or conversations, are padded to a multiple of this: the largest of the config's tasks."""
        return max(TASKS[task].pad_to_multiple_of for task in self.facts)

    @property
    def audio_tokens_per_second(self) -> dict[str, Fraction]:
        """The rate of the `<audio>` placeholders of each task."""
        return {task: facts.audio_tokens_per_second for task, facts in self.facts.items()}

    @property
    def is_local(self) -> npt.NDArray[np.bool_]:
        """Whether each shard is on this machine, [shards]."""
        return np.array([self.folder_of(shard).is_local for shard in range(len(self.shards))], bool)

    @cached_property
    def source(self) -> Int32:
        """The number of each row's source [R], read at first use."""
        return self.read_sources()

    @cached_property
    def group_starts(self) -> Int64:
        """The first row of each row group of its files, ascending [G]."""
        begins = (np.diff(self.row_group, prepend=-1) != 0) | (np.diff(self.shard, prepend=-1) != 0)
        return np.flatnonzero(begins)

    @contextmanager
    def open_shard(self, number: int, *, verify_checksums: bool = False) -> Generator[pq.ParquetFile]:
        """Open a shard. Its parsed footer is kept, for a shard is opened for each of its row groups."""
        footer, folder = self._footers.get(number), self.folder_of(number)
        path = self.shards[number].path
        with folder.open_parquet(path, footer, verify_checksums=verify_checksums) as parquet:
            if footer is None:
                if len(self._footers) >= _MAX_FOOTERS:
                    self._footers.clear()
                self._footers[number] = parquet.metadata
            yield parquet

    @cached_property
    def _footers(self) -> dict[int, pq.FileMetaData]:
        return {}

    def check_shard(self, number: int) -> None:
        """Check that a shard is the file that the index was made of, before any offset in it is used.

        It is checked once; on this machine again if the file has changed since.

        Raises:
            ShortfallError: it is not there, or another.
        """
        shard, folder = self.shards[number], self.folder_of(number)
        version = folder.version_of(shard.path)
        if number not in self._verified or self._verified[number] != version:
            check_shard(folder, shard)
            self._verified[number] = version
