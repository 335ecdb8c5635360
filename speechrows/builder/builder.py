"""SpeechBuilder: a corpus module as a datasets builder, and as jobs for `speechrows build`."""

import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from functools import partial
from pathlib import Path
from typing import Any
from typing import ClassVar

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flags_of
from speechrows.builder.find import load_module
from speechrows.builds.pipeline import Pipeline
from speechrows.builds.run import BuildJob
from speechrows.builds.sharding import plan_shards
from speechrows.card.prose import About
from speechrows.codec import parse_rate
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Reader
from speechrows.corpora.reader import Shard
from speechrows.errors import UsageError
from speechrows.rows import schema
from speechrows.rows.curriculum import bands_of
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import Ledger
from speechrows.rows.rows import RowSpec
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import kinds_for
from speechrows.sidecar.columns import satisfies
from speechrows.text.template import compile_template
from speechrows.types import Task

logger = datasets.logging.get_logger(__name__)


class NothingThereError(UsageError):
    """A folder that holds nothing of a task."""


@dataclass(frozen=True, kw_only=True)
class _TaskShards:
    """A task of a config: what reads the corpus for it, what was found, its shards."""

    task: Task
    reader: Reader[Any]
    found: str
    shards: list[Shard]


class SpeechBuilder(datasets.ArrowBasedBuilder):
    """A corpus as a datasets builder. A corpus module fills in the class attributes."""

    ABOUT: ClassVar[About]
    READER: ClassVar[Callable[[Corpus, Any, Task], Reader[Any]]]  # of the corpus: made for each task
    BUILDER_CONFIG_CLASS = SpeechConfig
    config: SpeechConfig
    HAS: ClassVar[frozenset[str]] = frozenset()  # of what tasks need, what the corpus itself brings
    UNIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # configs that show several tasks

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

    def list_units(self, task: Task) -> tuple[Reader[Any], Listing[Any]]:
        """What reads the corpus for a task, and what it finds there.

        Raises:
            UsageError: the folder holds nothing that this builder reads.
        """
        corpus, about = self.config.inputs.corpus, self.ABOUT
        reader = type(self).READER(corpus, self.config, task)
        listing = reader.units(self.config.inputs.listing)
        if not listing.units:
            raise NothingThereError(
                f"{corpus.root}: found {listing.found}; expected {about.title} as it is published "
                f"({about.homepage})"
            )
        return reader, listing

    def _parts(self) -> list[_TaskShards]:
        """What this config builds, task by task; of a union, those tasks that are there.

        Raises:
            UsageError: the folder holds nothing that this builder reads, or lacks what a task needs; of a
                union, where no task of it can be built.
        """
        parts: list[_TaskShards] = []
        refused: list[UsageError] = []
        for task in self.tasks(self.config.name):
            if not self._can_make(task):
                raise UsageError(how_to_make(task, self.name))
            try:
                reader, listing = self.list_units(task)
            except NothingThereError as error:
                refused.append(error)
                continue
            shards = plan_shards(listing.units, self.config.shard_bytes)
            parts.append(_TaskShards(task=task, reader=reader, found=listing.found, shards=shards))
        if not parts:
            raise refused[0]
        return parts

    def _can_make(self, task: Task) -> bool:
        """Whether what the task needs of each clip is there: the corpus' own, or generated."""
        return task.needs in (None, *self.HAS) or satisfies(task, self.config.inputs.generated.kinds)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        corpus = self.config.inputs.corpus
        shards: list[tuple[str, Shard]] = []
        for part in self._parts():
            shards += [(part.task.name, shard) for shard in part.shards]
            logger.warning(f"{corpus.root}: {part.found}")  # a choice that a person has to see
        units = [unit for _, shard in shards for unit in shard.units]
        if self.config.data_dir is None:
            paths = dict.fromkeys(path for unit in units for path in unit.paths)
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
        splits = {name: split for name, split in (self.info.splits or {}).items() if split.num_examples}
        self.info.splits = datasets.SplitDict.from_split_dict(splits, dataset_name=self.dataset_name)

    def _generate_tables(  # pyright: ignore[reportIncompatibleMethodOverride]  # gen_kwargs by name
        self, shards: Sequence[tuple[str, Shard]], corpus: Corpus, split: str
    ) -> Iterator[tuple[str, pa.Table]]:
        make = cache(partial(_pipeline, type(self), self.config, corpus))
        bands = bands_of(self.config.name)
        for task, shard in shards:
            ledger = Ledger()
            for i, (place, table) in enumerate(make(task).tables(shard, ledger, split=split)):
                if place.band is None or place.band in bands:
                    yield f"{task}-{shard.number}-{i}", table
            if ledger.skipped or ledger.unreadable:
                logger.warning(f"{self.name}: shard {shard.number}: {ledger.summary().to_json()}")

    def jobs(self) -> list[BuildJob]:
        """What `speechrows build` builds: all of each task that this config is a view of."""
        return [self._job(part) for part in self._parts()]

    def _job(self, part: _TaskShards) -> BuildJob:
        config, inputs = self.config, self.config.inputs
        paths = {path for shard in part.shards for unit in shard.units for path in unit.paths}
        listing = [entry for entry in inputs.listing if entry.path in paths]  # the others change no row
        is_joined = not inputs.generated.kinds.isdisjoint(kinds_for(part.task))
        recipe = config.recipe(listing, inputs.generated_digest if is_joined else None)
        options = {name: getattr(config, name) for name in ("data_dir", *flags_of(type(config)))}
        return BuildJob(
            builder=self.name,
            about=self.ABOUT,
            task=part.task,
            recipe={**recipe, "shard_bytes": config.shard_bytes},
            tokenizer=inputs.tokenizer,
            tokenizer_digest=inputs.tokenizer_digest,
            template_options=config.template_options,
            found=part.found,
            shards=part.shards,
            pipeline=_pipeline(type(self), config, inputs.corpus, part.task.name, part.reader),
            make_pipeline=partial(
                _pipeline_elsewhere, _where(type(self)), part.task.name, options, inputs.tokenizer
            ),
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


def _pipeline(
    builder: type[SpeechBuilder],
    config: SpeechConfig,
    corpus: Corpus,
    task_name: str,
    reader: Reader[Any] | None = None,
) -> Pipeline:
    """How rows of a task are made of a corpus, by the reader that has listed it, or by another."""
    task = task_of(task_name)
    return Pipeline(
        corpus=corpus,
        reader=reader or builder.READER(corpus, config, task),
        generated=config.inputs.generated if config.generated else None,
        spec=RowSpec(
            builder=builder.__module__.rpartition(".")[2],
            corpus=corpus.label,
            task=task,
            template=compile_template(config.inputs.tokenizer, task, config.template_options),
            tokens_per_second=parse_rate(config.audio_tokens_per_second),
            validation_fraction=config.validation_fraction,
        ),
    )


def _where(builder: type[SpeechBuilder]) -> str:
    """A name under which another process finds a builder: its module's, or its file's."""
    module = sys.modules[builder.__module__]
    return str(Path(module.__file__ or builder.__module__).resolve())


def _pipeline_elsewhere(
    where: str, task_name: str, options: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> Pipeline:
    """The pipeline of a job in another process, where neither its builder nor its corpus is open."""
    builder = load_builder(where)
    config = builder.BUILDER_CONFIG_CLASS(name=task_name, **options)
    config.inputs.tokenizer = tokenizer
    return _pipeline(builder, config, config.inputs.corpus, task_name)


def load_builder(name: str) -> type[SpeechBuilder]:
    """The one builder class of an importable module, or of a .py file.

    Raises:
        UsageError: no such module, or not one builder in it.
    """
    module = load_module(name)
    builders = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, SpeechBuilder)
        and value.__module__ == module.__name__
    ]
    if len(builders) != 1:
        raise UsageError(f"{name}: found {len(builders)} SpeechBuilder classes; expected one a module")
    return builders[0]
