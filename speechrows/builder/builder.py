"""SpeechBuilder: a corpus module as a datasets builder, and as jobs for `speechrows build`."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from functools import partial
from typing import Any
from typing import ClassVar

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from speechrows.builder.config import SpeechConfig
from speechrows.builder.config import flags_of
from speechrows.builder.find import address_of
from speechrows.builder.find import command_of
from speechrows.builder.find import load_module
from speechrows.builder.find import stem_of
from speechrows.builder.nearby import hint
from speechrows.builds.pipeline import Pipeline
from speechrows.builds.run import BuildJob
from speechrows.builds.sharding import plan_shards
from speechrows.builds.sharding import shard_size
from speechrows.builds.sharding import shards_of
from speechrows.card.prose import About
from speechrows.codec import parse_rate
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Reader
from speechrows.corpora.reader import Shard
from speechrows.corpora.reader import list_units
from speechrows.errors import UsageError
from speechrows.errors import printable
from speechrows.rows import schema
from speechrows.rows.curriculum import bands_of
from speechrows.rows.curriculum import task_of
from speechrows.rows.ledger import Ledger
from speechrows.rows.rows import RowSpec
from speechrows.sidecar.columns import are_joined
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import satisfies
from speechrows.text.template import compile_template
from speechrows.types import Task

logger = datasets.logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _TaskShards:
    """A task of a config: its reader, what that listed (in words), and the shards of it."""

    task: Task
    reader: Reader[Any]
    contents: str
    shards: list[Shard]
    shard_bytes: int


class SpeechBuilder(datasets.ArrowBasedBuilder):
    """A corpus as a datasets builder. A corpus module sets the class attributes, and nothing else.

    Attributes:
        ABOUT: what the corpus is, and its licence.
        READER: the class that reads it; one is made for each task.
        BUILDER_CONFIG_CLASS: the config's class, whose fields are the flags of `speechrows build`.
        BUILDER_CONFIGS: one config for each name that can be built, as datasets has it.
        HAS: which of `Task.needs` the corpus itself brings.
        UNIONS: the configs that show several tasks, by name.
    """

    ABOUT: ClassVar[About]
    READER: ClassVar[Callable[[Corpus, Any, Task], Reader[Any]]]
    BUILDER_CONFIG_CLASS = SpeechConfig
    config: SpeechConfig
    HAS: ClassVar[frozenset[str]] = frozenset()
    UNIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a builder that came out of a file so that another process loads the file first."""
        address = address_of(type(self))
        if not address.endswith(".py") or self.__module__ == "__main__":
            return super().__reduce_ex__(protocol)
        return _new_builder, (address,), self.__getstate__()

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
        """The tasks that a config shows: one, or those of a union."""
        return tuple(task_of(name) for name in cls.UNIONS.get(config_name, (config_name,)))

    def list_units(self, task: Task) -> tuple[Reader[Any], Listing[Any]]:
        """The reader of the corpus for a task, and the units that it lists.

        Raises:
            UsageError: the folder holds nothing that this builder reads.
        """
        corpus, entries = self.config.inputs.corpus, self.config.inputs.listing
        reader, listing = self._list(task, corpus, entries)
        if not listing.units:
            raise self._nothing(task, listing.contents)
        return reader, listing

    def _list(self, task: Task, corpus: Corpus, entries: list[Entry]) -> tuple[Reader[Any], Listing[Any]]:
        reader = type(self).READER(corpus, self.config, task)
        return reader, list_units(reader, corpus, entries, self.name)

    def _nothing(self, task: Task, contents: str) -> UsageError:
        """What is said of a corpus that holds nothing that a task's rows could be made of."""
        corpus, entries, about = self.config.inputs.corpus, self.config.inputs.listing, self.ABOUT
        nearby = hint(corpus, entries, lambda *other: len(self._list(task, *other)[1].units))
        return UsageError(
            f"{corpus.root}: found {contents}; expected {about.title} as it is published "
            f"({about.homepage}){nearby}"
        )

    def _task_shards(self) -> list[_TaskShards]:
        """The shards of each task of this config; of a union, those tasks that have any.

        Raises:
            UsageError: the folder holds nothing that this builder reads, or lacks what a task needs; of a
                union, where no task of it can be built.
        """
        tasks: list[_TaskShards] = []
        empty: list[tuple[Task, str]] = []
        for task in self.tasks(self.config.name):
            if not self._can_make(task):
                raise UsageError(how_to_make(task, command_of(type(self))))
            reader, listing = self._list(task, self.config.inputs.corpus, self.config.inputs.listing)
            if not listing.units:
                empty.append((task, listing.contents))
                continue
            size = shard_size(listing.units, self.config.shard_bytes)
            shards = plan_shards(listing.units, size, self.config.inputs.listing)
            tasks.append(
                _TaskShards(
                    task=task, reader=reader, contents=listing.contents, shards=shards, shard_bytes=size
                )
            )
        if not tasks:
            raise self._nothing(*empty[0])
        return tasks

    def _can_make(self, task: Task) -> bool:
        """Whether the corpus, or generated columns, bring what the task needs of each clip."""
        return task.needs in (None, *self.HAS) or satisfies(task, self.config.inputs.generated.kinds)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        corpus = self.config.inputs.corpus
        shards: list[tuple[str, Shard]] = []
        for task in self._task_shards():
            shards += [(task.task.name, shard) for shard in task.shards]
            logger.warning(printable(f"{corpus.root}: {task.contents}"))  # a choice that a person has to see
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
                gen_kwargs={"shards": shards_of(split, shards), "corpus": corpus, "split": split},
            )
            for split in sorted(splits)
        ]

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """As datasets does, without the splits that got no row: as_dataset would raise."""
        super()._download_and_prepare(*args, **kwargs)
        splits = {name: split for name, split in (self.info.splits or {}).items() if split.num_examples}
        self.info.splits = datasets.SplitDict.from_split_dict(splits, dataset_name=self.dataset_name)

    def _generate_tables(  # pyright: ignore[reportIncompatibleMethodOverride]  # gen_kwargs by name
        self, shards: Sequence[tuple[str, Shard]], corpus: Corpus, split: str
    ) -> Iterator[tuple[str, pa.Table]]:
        pipeline_of = cache(partial(_pipeline, type(self), self.config, corpus))
        bands = bands_of(self.config.name)
        for task, shard in shards:
            ledger = Ledger()
            for i, (destination, table) in enumerate(pipeline_of(task).tables_ahead(shard, ledger, split)):
                if destination.band is None or destination.band in bands:
                    yield f"{task}-{shard.number}-{i}", table
            if ledger.skipped or ledger.unreadable:
                logger.warning(printable(f"{self.name}: shard {shard.number}: {ledger.summary().to_json()}"))

    def jobs(self) -> list[BuildJob]:
        """The jobs of `speechrows build`: one a task, all of the task where the config shows a band of it."""
        return [self._job(task) for task in self._task_shards()]

    def _job(self, task: _TaskShards) -> BuildJob:
        config, inputs = self.config, self.config.inputs
        paths = {path for shard in task.shards for unit in shard.units for path in unit.paths}
        listing = [entry for entry in inputs.listing if entry.path in paths]  # the others change no row
        is_joined = are_joined(inputs.generated.kinds, task.task)
        recipe = config.recipe(listing, inputs.generated_digest if is_joined else None)
        options = {name: getattr(config, name) for name in ("data_dir", *flags_of(type(config)))}
        return BuildJob(
            builder=stem_of(type(self)),
            command=command_of(type(self)),
            about=self.ABOUT,
            task=task.task,
            recipe={**recipe, "shard_bytes": task.shard_bytes},
            tokenizer=inputs.tokenizer,
            tokenizer_digest=inputs.tokenizer_digest,
            template_options=config.template_options,
            contents=task.contents,
            shards=task.shards,
            pipeline=_pipeline(type(self), config, inputs.corpus, task.task.name, task.reader),
            make_pipeline=_PipelineElsewhere(
                address=address_of(type(self)),
                task=task.task.name,
                options=options,
                tokenizer=inputs.tokenizer,
            ),
            unions=self.UNIONS,
        )


def _pipeline(
    builder: type[SpeechBuilder],
    config: SpeechConfig,
    corpus: Corpus,
    task_name: str,
    reader: Reader[Any] | None = None,
) -> Pipeline:
    """The pipeline of a task's rows, with the reader that has listed the corpus, or a new one."""
    task = task_of(task_name)
    return Pipeline(
        corpus=corpus,
        reader=reader or builder.READER(corpus, config, task),
        generated=config.inputs.generated if config.generated else None,
        channel=config.kept_channel,
        segmentation=config.segmentation,
        spec=RowSpec(
            builder=stem_of(builder),
            corpus=corpus.label,
            task=task,
            template=compile_template(config.inputs.tokenizer, task, config.template_options),
            tokens_per_second=parse_rate(config.audio_tokens_per_second),
            validation_fraction=config.validation_fraction,
            system=config.template_options.system,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _PipelineElsewhere:
    """Makes a job's pipeline in another process, where neither its builder nor its corpus is open."""

    address: str
    task: str
    options: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerFast

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the builder's module at once: units, which come next, may have payloads of its classes."""
        self.__dict__.update(state)
        load_builder(self.address)

    def __call__(self) -> Pipeline:
        """The pipeline."""
        builder = load_builder(self.address)
        config = builder.BUILDER_CONFIG_CLASS(name=self.task, **self.options)
        config.inputs.tokenizer = self.tokenizer
        return _pipeline(builder, config, config.inputs.corpus, self.task)


def _new_builder(address: str) -> SpeechBuilder:
    """A builder without its state, which pickle sets."""
    builder = load_builder(address)
    return builder.__new__(builder)


def load_builder(name: str) -> type[SpeechBuilder]:
    """Return the builder class of a module: of its name where it can be imported, or of its .py file.

    Raises:
        UsageError: no such module, or not one builder in it.
    """
    module = load_module(name)
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    builders = [value for value in own if isinstance(value, type) and issubclass(value, SpeechBuilder)]
    if len(builders) != 1:
        raise UsageError(f"{name}: found {len(builders)} SpeechBuilder classes; expected one a module")
    return builders[0]
