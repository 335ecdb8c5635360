"""SpeechBuilder: a corpus module as a datasets builder, and as jobs for `speechrows build`."""

import inspect
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from functools import cached_property
from functools import partial
from pathlib import Path
from typing import Any
from typing import ClassVar

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flag
from speechrows.builder.config import flags_of
from speechrows.builder.find import load_module
from speechrows.builds.pipeline import Pipeline
from speechrows.builds.pipeline import Reader
from speechrows.builds.run import BuildJob
from speechrows.builds.sharding import SHARD_BYTES
from speechrows.builds.sharding import plan_shards
from speechrows.card.prose import About
from speechrows.codec import parse_rate
from speechrows.corpora.folder import Corpus
from speechrows.corpora.folder import Entry
from speechrows.errors import UsageError
from speechrows.rows import schema
from speechrows.rows.curriculum import bands_of
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import Ledger
from speechrows.rows.rows import RowSpec
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import kinds_for
from speechrows.sidecar.columns import satisfies
from speechrows.sidecar.join import Generated
from speechrows.text.template import compile_form
from speechrows.types import Dialogue
from speechrows.types import Shard
from speechrows.types import Task
from speechrows.types import Unit
from speechrows.types import UnreadableFile

__all__ = ["About", "Reader", "SpeechBuilder", "SpeechConfig", "flag", "load_builder"]

logger = datasets.logging.get_logger(__name__)


class NothingThereError(UsageError):
    """A folder that holds nothing of a task."""


class SpeechBuilder(datasets.ArrowBasedBuilder):
    """A corpus as a datasets builder. A corpus module fills in the class attributes."""

    ABOUT: ClassVar[About]
    BUILDER_CONFIG_CLASS = SpeechConfig
    config: SpeechConfig
    shard_bytes = SHARD_BYTES  # of corpus files, at most, that one process builds in one go
    HAS: ClassVar[frozenset[str]] = frozenset()  # of what tasks need, what the corpus itself brings
    UNIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # configs that show several tasks

    list_units: ClassVar[Callable[[Corpus, list[Entry]], tuple[str, list[Unit]]]]
    read_dialogues: ClassVar[Callable[..., Iterator[Dialogue | UnreadableFile]]]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.ABOUT.summary,
            features=schema.FEATURES,
            homepage=self.ABOUT.homepage,
            license=self.ABOUT.licence,
            citation=self.ABOUT.citation,
        )

    @classmethod
    def tasks(cls, config_name: str) -> tuple[Task, ...]:
        """The tasks that a config shows: one, but for the builder's unions."""
        return tuple(task_of(name) for name in cls.UNIONS.get(config_name, (config_name,)))

    @classmethod
    def reader(cls, config: SpeechConfig, task: Task) -> Reader:  # noqa: ARG003  # for those who override
        """What reads units for a task: one a process, so that it may go on from shard to shard."""
        own = [name for name in flags_of(type(config)) if name not in flags_of(SpeechConfig)]
        known = inspect.signature(cls.read_dialogues).parameters
        return partial(cls.read_dialogues, **{name: getattr(config, name) for name in own if name in known})

    def units(self, task: Task, corpus: Corpus, listing: list[Entry]) -> tuple[str, list[Unit]]:  # noqa: ARG002
        """What was found in a corpus for a task, in words, and its units in order."""
        return type(self).list_units(corpus, listing)

    def shards(self, task: Task, corpus: Corpus, listing: list[Entry]) -> tuple[str, list[Shard]]:
        """What was found in a corpus, in words, and its shards.

        Raises:
            UsageError: the folder holds nothing that this builder reads, or lacks what the task needs.
        """
        if task.needs and task.needs not in self.HAS and not satisfies(task, self._generated.kinds):
            raise UsageError(how_to_make(task, self.name))
        found, units = self.units(task, corpus, listing)
        if not units:
            raise NothingThereError(
                f"{corpus.root}: found {found}; expected {self.ABOUT.title} as it is published "
                f"({self.ABOUT.homepage})"
            )
        return found, plan_shards(units, self.shard_bytes)

    def _parts(self, corpus: Corpus, listing: list[Entry]) -> list[tuple[Task, str, list[Shard]]]:
        """The tasks of this config, what was found for each, its shards; of a union, those that are there.

        Raises:
            UsageError: as shards; of a union, where no task of it can be built.
        """
        parts: list[tuple[Task, str, list[Shard]]] = []
        refused: list[UsageError] = []
        for task in self.tasks(self.config.name):
            try:
                parts.append((task, *self.shards(task, corpus, listing)))
            except NothingThereError as error:
                refused.append(error)
        if not parts:
            raise refused[0]
        return parts

    @cached_property
    def _generated(self) -> Generated:
        return Generated.open(self.config.generated)

    @cached_property
    def _joined(self) -> str:
        return self._generated.digest()  # reads all of it

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        corpus = self.config.corpus()
        listing, shards = corpus.list(), list[tuple[str, Shard]]()
        for task, found, mine in self._parts(corpus, listing):
            shards += [(task.name, shard) for shard in mine]
            logger.warning(f"{corpus.root}: {found}")  # a choice that a person has to see
        units = [unit for _, shard in shards for unit in shard.units]
        if self.config.data_dir is None:
            paths = dict.fromkeys(path for unit in units for path in (unit.file, *unit.files))
            files = {path: corpus.address(path) for path in paths}
            corpus = Corpus(root=corpus.root, located=dl_manager.download(files))
        splits = {split for unit in units for split in unit.splits}
        if self.config.validation_fraction and "train" in splits:
            splits.add("validation")
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={"shards": _shards_of(split, shards), "corpus": corpus, "split": split},
            )
            for split in sorted(splits)
        ]

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """As datasets does; a split that no row is of is no split: as_dataset would raise."""
        super()._download_and_prepare(*args, **kwargs)
        there = {name: told for name, told in (self.info.splits or {}).items() if told.num_examples}
        self.info.splits = datasets.SplitDict.from_split_dict(there, dataset_name=self.dataset_name)

    def _generate_tables(  # pyright: ignore[reportIncompatibleMethodOverride]  # gen_kwargs by name
        self, shards: Sequence[tuple[str, Shard]], corpus: Corpus, split: str
    ) -> Iterator[tuple[str, pa.Table]]:
        tokenizer = self.config.open_tokenizer()
        make = cache(partial(make_pipeline, type(self), self.config, corpus, tokenizer))
        bands = bands_of(self.config.name)
        for task, shard in shards:
            ledger = Ledger()
            for i, (place, table) in enumerate(make(task).tables(shard, ledger, split=split)):
                if place.band is None or place.band in bands:
                    yield f"{task}-{shard.number}-{i}", table
            if ledger.skipped or ledger.unreadable:
                logger.warning(f"{self.name}: shard {shard.number}: {ledger.summary()}")

    def jobs(self) -> list[BuildJob]:
        """What `speechrows build` builds: all of each task that this config is a view of."""
        corpus, tokenizer = self.config.corpus(), self.config.open_tokenizer()
        listing = corpus.list()
        parts = self._parts(corpus, listing)
        return [self._job(task, found, shards, listing, tokenizer) for task, found, shards in parts]

    def _job(
        self,
        task: Task,
        found: str,
        shards: list[Shard],
        listing: list[Entry],
        tokenizer: PreTrainedTokenizerFast,
    ) -> BuildJob:
        config, units = self.config, [unit for shard in shards for unit in shard.units]
        read = {path for unit in units for path in (unit.file, *unit.files)}
        listing = [entry for entry in listing if entry.path in read]  # what else is there changes no row
        joined = None if self._generated.kinds.isdisjoint(kinds_for(task)) else self._joined
        options = {name: getattr(config, name) for name in ("data_dir", *flags_of(type(config)))}
        return BuildJob(
            builder=self.name,
            about=self.ABOUT,
            task=task,
            recipe={**config.recipe(listing, tokenizer, joined), "shard_bytes": self.shard_bytes},
            tokenizer=tokenizer,
            found=found,
            shards=shards,
            make_pipeline=partial(_pipeline_of, _where(type(self)), task.name, options, tokenizer),
            unions=self.UNIONS,
        )


def _shards_of(split: str, shards: Sequence[tuple[str, Shard]]) -> list[tuple[str, Shard]]:
    """The shards that may have rows of a split, less the units that have none: archives are read once."""
    wanted = {split, "train"} if split == "validation" else {split}
    kept = [
        (task, replace(shard, units=tuple(unit for unit in shard.units if wanted & {*unit.splits})))
        for task, shard in shards
    ]
    return [(task, shard) for task, shard in kept if shard.units]


def make_pipeline(
    builder: type[SpeechBuilder],
    config: SpeechConfig,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    task_name: str,
) -> Pipeline:
    """How rows of a task are made of a corpus."""
    task = task_of(task_name)
    return Pipeline(
        corpus=corpus,
        read=builder.reader(config, task),
        generated=Generated.open(config.generated) if config.generated else None,
        spec=RowSpec(
            builder=builder.__module__.rpartition(".")[2],
            corpus=corpus.label,
            task=task,
            form=compile_form(tokenizer, task, vars(config)),
            tokens_per_second=parse_rate(config.audio_tokens_per_second),
            validation_fraction=config.validation_fraction,
        ),
    )


def _where(builder: type[SpeechBuilder]) -> str:
    """A name under which another process finds a builder: its module's, or its file's."""
    module = sys.modules[builder.__module__]
    return str(Path(module.__file__ or builder.__module__).resolve())


def _pipeline_of(
    where: str, task_name: str, options: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> Pipeline:
    """The pipeline of a job in another process, where neither its builder nor its corpus is open."""
    builder = load_builder(where)
    config = builder.BUILDER_CONFIG_CLASS(name=task_name, **options)
    return make_pipeline(builder, config, config.corpus(), tokenizer, task_name)


def load_builder(name: str) -> type[SpeechBuilder]:
    """The one builder class of an importable module, or of a .py file.

    Raises:
        UsageError: no such module, or not one builder in it.
    """
    module = load_module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, SpeechBuilder)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UsageError(f"{name}: found {len(found)} SpeechBuilder classes; expected one a module")
    return found[0]
