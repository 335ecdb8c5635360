"""SpeechBuilder: a corpus module as a datasets builder, and as a job for `speechrows build`."""

import datetime
import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from typing import ClassVar

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from speechrows import schema
from speechrows import tokenizers
from speechrows.build.card import About
from speechrows.build.pipeline import Pipeline
from speechrows.build.plan import SHARD_BYTES
from speechrows.build.plan import plan_shards
from speechrows.build.run import BuildJob
from speechrows.chat import DEFAULT_DATE
from speechrows.chat import compile_chat
from speechrows.codec import parse_rate
from speechrows.configs import bands_of
from speechrows.configs import task_of
from speechrows.corpus import Corpus
from speechrows.corpus import Entry
from speechrows.corpus import listing_digest
from speechrows.errors import UsageError
from speechrows.ledger import Ledger
from speechrows.rows import RowSpec
from speechrows.types import Dialogue
from speechrows.types import Shard
from speechrows.types import Unit
from speechrows.types import UnreadableFile

__all__ = ["About", "SpeechBuilder", "SpeechConfig", "flag", "load_builder"]

ROW_VERSION = "1.0.0"  # of the row's content; a change makes caches and folders stale
logger = datasets.logging.get_logger(__name__)


def flag(default: Any, text: str) -> Any:
    """A field of a config that is a flag of `speechrows build`, with its help."""
    return field(default=default, metadata={"help": text})


@dataclass
class SpeechConfig(datasets.BuilderConfig):
    """What a person chooses about rows. Each field is a flag of `speechrows build`."""

    version: datasets.Version | str | None = datasets.Version(ROW_VERSION)  # noqa: RUF009
    source: str | None = flag(None, "the Hub repository that is read when there is no --data-dir")
    tokenizer: str | None = flag(None, "a Hub repository or a folder; without one, one token a byte")
    audio_tokens_per_second: str = flag("12.5", "placeholders a second of audio")
    validation_fraction: float = flag(0.0, "share of train that becomes validation, by a stable hash")
    date: str = flag(DEFAULT_DATE.isoformat(), "the date that chat templates write")

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """The name of this config's cache: it changes with the corpus and the tokenizer.

        datasets itself would hash the name of data_dir, and return yesterday's rows for today's files.
        """
        self.check()
        told = super().create_config_id(config_kwargs, custom_features)
        recipe = self.recipe(self.corpus().list(), tokenizers.open_tokenizer(self.tokenizer))
        return f"{told}-{hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]}"

    def check(self) -> None:
        """Refuse values that make no rows.

        Raises:
            UsageError: which, what was found, what was expected.
        """
        parse_rate(self.audio_tokens_per_second)
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation fraction: found {self.validation_fraction}, expected from 0 to 1")
        try:
            self.date = datetime.date.fromisoformat(self.date).isoformat()
        except ValueError:
            raise UsageError(f"date: found {self.date!r}, expected a day such as 2024-07-26") from None

    def recipe(self, listing: list[Entry], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        """Everything that decides the rows, by name, without paths of this machine."""
        own = {name: getattr(self, name) for name in flags_of(type(self)) if name != "source"}
        return {
            **own,
            "row_version": ROW_VERSION,
            "tokenizer": tokenizers.fingerprint(tokenizer),
            "audio_tokens_per_second": str(parse_rate(self.audio_tokens_per_second)),
            "corpus": self.corpus().label,
            "listing": listing_digest(listing),
        }

    def corpus(self) -> Corpus:
        """The corpus at data_dir, or the Hub repository `source`.

        Raises:
            UsageError: there is none.
        """
        if not (self.data_dir or (self.data_dir is None and self.source)):
            raise UsageError("no data_dir; expected the corpus' folder, or hf://datasets/org/name")
        return Corpus.open(str(self.data_dir) if self.data_dir else f"hf://datasets/{self.source}")


def flags_of(config_class: type[SpeechConfig]) -> list[str]:
    """The fields of a config that are its own choices, not datasets' bookkeeping."""
    theirs = {field.name for field in fields(datasets.BuilderConfig)}
    return [field.name for field in fields(config_class) if field.name not in theirs]


class SpeechBuilder(datasets.ArrowBasedBuilder):
    """A corpus as a datasets builder. A corpus module fills in the class attributes."""

    ABOUT: ClassVar[About]
    BUILDER_CONFIG_CLASS = SpeechConfig
    config: SpeechConfig
    shard_bytes = SHARD_BYTES  # of corpus files, at most, that one process builds in one go

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

    def shards(self, corpus: Corpus, listing: list[Entry]) -> tuple[str, list[Shard]]:
        """What was found in a corpus, in words, and its shards.

        Raises:
            UsageError: the folder holds nothing that this builder reads.
        """
        found, units = type(self).list_units(corpus, listing)
        if not units:
            raise UsageError(
                f"{corpus.root}: found {found}; expected {self.ABOUT.title} as it is published "
                f"({self.ABOUT.homepage})"
            )
        return found, plan_shards(units, self.shard_bytes)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        corpus = self.config.corpus()
        found, shards = self.shards(corpus, corpus.list())
        logger.warning(f"{corpus.root}: {found}")  # a choice that a person has to see
        if self.config.data_dir is None:
            paths = [path for shard in shards for unit in shard.units for path in (unit.file, *unit.files)]
            files = {path: corpus.address(path) for path in paths}
            corpus = Corpus(root=corpus.root, located=dl_manager.download(files))
        splits = ["train"] + (["validation"] if self.config.validation_fraction else [])
        return [
            datasets.SplitGenerator(
                name=split, gen_kwargs={"shards": shards, "corpus": corpus, "split": split}
            )
            for split in splits
        ]

    def _generate_tables(  # pyright: ignore[reportIncompatibleMethodOverride]  # gen_kwargs by name
        self, shards: Sequence[Shard], corpus: Corpus, split: str
    ) -> Iterator[tuple[str, pa.Table]]:
        tokenizer = tokenizers.open_tokenizer(self.config.tokenizer)
        pipeline = make_pipeline(type(self), self.config, corpus, tokenizer)
        bands = bands_of(self.config.name)
        for shard in shards:
            ledger = Ledger()
            for i, (place, table) in enumerate(pipeline.tables(shard, ledger, split=split)):
                if place.band is None or place.band in bands:
                    yield f"{shard.number}-{i}", table
            if ledger.skipped or ledger.unreadable:
                logger.warning(f"{self.name}: shard {shard.number}: {ledger.summary()}")

    def job(self) -> BuildJob:
        """What `speechrows build` builds: all of the task that this config is a view of."""
        config = self.config
        corpus, tokenizer = config.corpus(), tokenizers.open_tokenizer(config.tokenizer)
        listing = corpus.list()
        found, shards = self.shards(corpus, listing)
        options = {name: getattr(config, name) for name in ("data_dir", *flags_of(type(config)))}
        return BuildJob(
            builder=self.name,
            about=self.ABOUT,
            task=task_of(config.name),
            recipe={**config.recipe(listing, tokenizer), "shard_bytes": self.shard_bytes},
            tokenizer=tokenizer,
            found=found,
            shards=shards,
            make_pipeline=partial(_pipeline_of, _where(type(self)), config.name, options, tokenizer),
        )


def make_pipeline(
    builder: type[SpeechBuilder], config: SpeechConfig, corpus: Corpus, tokenizer: PreTrainedTokenizerFast
) -> Pipeline:
    """How rows of a config are made of a corpus."""
    task = task_of(config.name)
    own = [name for name in flags_of(type(config)) if name not in flags_of(SpeechConfig)]
    return Pipeline(
        corpus=corpus,
        read=partial(builder.read_dialogues, **{name: getattr(config, name) for name in own}),
        spec=RowSpec(
            builder=builder.__module__.rpartition(".")[2],
            corpus=corpus.label,
            task=task,
            chat=compile_chat(tokenizer, task, datetime.date.fromisoformat(config.date)),
            tokens_per_second=parse_rate(config.audio_tokens_per_second),
            validation_fraction=config.validation_fraction,
        ),
    )


def _where(builder: type[SpeechBuilder]) -> str:
    """A name under which another process finds a builder: its module's, or its file's."""
    module = sys.modules[builder.__module__]
    return str(Path(module.__file__ or builder.__module__).resolve())


def _pipeline_of(
    where: str, config_name: str, options: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> Pipeline:
    """The pipeline of a job in another process, where neither its builder nor its corpus is open."""
    builder = load_builder(where)
    config = builder.BUILDER_CONFIG_CLASS(name=config_name, **options)
    return make_pipeline(builder, config, config.corpus(), tokenizer)


def load_builder(name: str) -> type[SpeechBuilder]:
    """The one builder class of an importable module, or of a .py file.

    Raises:
        UsageError: no such module, or not one builder in it.
    """
    module = _load_file(Path(name)) if name.endswith(".py") else _import(name)
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


def _load_file(path: Path) -> ModuleType:
    """The module of a file, under the file's name, so that its classes can be pickled."""
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected a corpus module")
    there = sys.modules.get(path.stem)
    if there is not None:
        if Path(there.__file__ or "").resolve() == path.resolve():
            return there
        raise UsageError(f"{path}: another module is called {path.stem}; give the file another name")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name}: {error}; expected a corpus module such as deepdialogue_ttt, or its file"
        ) from error
