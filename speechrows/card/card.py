"""The dataset card, README.md of a built folder: written last, from what exists.

Its YAML is what `load_dataset` and the viewer read. Patterns name whole folders that hold
files: a dead pattern alone makes datasets raise, overlapping ones double rows silently.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData
from transformers import PreTrainedTokenizerFast

from speechrows.card import figures
from speechrows.card import pictures
from speechrows.card import prose
from speechrows.card.example import example
from speechrows.card.figures import OpenShard
from speechrows.card.prose import About
from speechrows.folder.layout import PICTURES
from speechrows.folder.manifest import BuiltShard
from speechrows.rows import schema
from speechrows.rows.curriculum import bands_of
from speechrows.rows.curriculum import configs_of
from speechrows.rows.ledger import LedgerSummary
from speechrows.rows.tasks import TASKS
from speechrows.storage.card_head import write_head

__all__ = ["About", "BuiltTask", "describe"]


@dataclass(frozen=True, kw_only=True)
class BuiltTask:
    """A task that a folder holds: its shards in order, its ledger, and the recipe that decided its rows."""

    files: Sequence[BuiltShard]
    ledger: LedgerSummary
    recipe: Mapping[str, Any]

    @property
    def first(self) -> str:
        """The path of the first shard, of train where there is one."""
        return min(self.files, key=lambda file: (_train_first(file.split), file.path)).path


@dataclass(frozen=True, kw_only=True)
class _Split:
    """A split of a config: its folders, in order, and their sums."""

    name: str
    folders: tuple[str, ...]
    rows: int
    num_bytes: int
    size: int
    hours: float
    conversations: int


def describe(
    out: Path,
    builder: str,
    command: str,  # BUILDER, as `speechrows build` takes it
    about: About,
    tasks: Mapping[str, BuiltTask],
    unions: Mapping[str, Sequence[str]],  # configs that show several tasks
    tokenizer: PreTrainedTokenizerFast,
    open_shard: OpenShard,
) -> tuple[str, dict[str, bytes]]:
    """Return the card of a folder with these tasks, and its pictures by path; indexes are read in `out`."""
    ordered = {name: tasks[name] for name in TASKS if name in tasks}
    measured = {name: _measure(out, name, built) for name, built in ordered.items()}
    configs = {
        config: splits
        for name, built in ordered.items()
        for config in configs_of(TASKS[name])
        if (splits := _splits(config, built, measured[name]))
    }
    for union, names in unions.items():
        parts = [configs[name] for name in names if name in configs]
        if len(parts) > 1:  # of one alone it would be another name
            configs[union] = _union(parts)
    drawn = {
        f"{PICTURES}/{name}/{picture}": data
        for name, built in ordered.items()
        for picture, data in _draw(open_shard, built, measured[name]).items()
    }
    stories = {
        name: prose.Story(
            ledger=built.ledger,
            recipe=built.recipe,
            pictures=[path for path in drawn if path.startswith(f"{PICTURES}/{name}/")],
        )
        for name, built in ordered.items()
    }
    row = example(open_shard(next(iter(ordered.values())).first), tokenizer)
    body = prose.write(builder, command, about, _lines(configs), stories, row, tokenizer)
    return f"---\n{_front_matter(builder, about, configs)}\n---\n\n{body}", drawn


def _measure(out: Path, task: str, built: BuiltTask) -> dict[str, figures.Measured]:
    names = sorted({file.split for file in built.files})
    return {name: figures.measure(out, task, name) for name in names}


def _draw(
    open_shard: OpenShard, built: BuiltTask, measured: Mapping[str, figures.Measured]
) -> dict[str, bytes]:
    emotions = figures.emotions(open_shard, [file.path for file in built.files])
    return pictures.draw(figures.join(list(measured.values())), emotions)


def _splits(config: str, built: BuiltTask, measured: Mapping[str, figures.Measured]) -> list[_Split]:
    files = [file for file in built.files if file.band is None or file.band in bands_of(config)]
    splits: list[_Split] = []
    for name in sorted({file.split for file in files}, key=_train_first):
        shown = [file for file in files if file.split == name]
        hours, conversations = measured[name].sums(config)
        splits.append(
            _Split(
                name=name,
                folders=tuple(sorted({file.path.rpartition("/")[0] for file in shown})),
                rows=sum(file.rows for file in shown),
                num_bytes=sum(file.num_bytes for file in shown),
                size=sum(file.size for file in shown),
                hours=hours,
                conversations=conversations,
            )
        )
    return splits


def _train_first(split: str) -> tuple[bool, str]:
    return split != "train", split


def _union(parts: Sequence[Sequence[_Split]]) -> list[_Split]:
    """The splits of several configs as one config's: each row once."""
    names = sorted({split.name for part in parts for split in part}, key=_train_first)
    by_name = {name: [split for part in parts for split in part if split.name == name] for name in names}
    return [
        _Split(
            name=name,
            folders=tuple(folder for split in splits for folder in split.folders),
            rows=sum(split.rows for split in splits),
            num_bytes=sum(split.num_bytes for split in splits),
            size=sum(split.size for split in splits),
            hours=sum(split.hours for split in splits),
            conversations=sum(split.conversations for split in splits),
        )
        for name, splits in by_name.items()
    ]


def _lines(configs: Mapping[str, Sequence[_Split]]) -> list[prose.TableLine]:
    return [
        prose.TableLine(
            config=config,
            split=split.name,
            rows=split.rows,
            conversations=split.conversations,
            hours=split.hours,
            num_bytes=split.num_bytes,
        )
        for config, splits in configs.items()
        for split in splits
    ]


def _front_matter(builder: str, about: About, configs: Mapping[str, Sequence[_Split]]) -> str:
    rows = max(sum(split.rows for split in splits) for splits in configs.values())
    infos = _infos(configs)
    data = DatasetCardData(
        pretty_name=f"{about.title} ({builder})",
        license=about.licence,
        language=list(about.languages),
        task_categories=["automatic-speech-recognition", "audio-text-to-text"],
        tags=["speechrows", "audio", "speech", "dialogue"],
        size_categories=[_size_category(rows)],
        configs=_files_of(configs),
        dataset_info=infos if len(infos) > 1 else infos[0],
    )
    return write_head(data.to_dict())


def _files_of(configs: Mapping[str, Sequence[_Split]]) -> list[dict[str, Any]]:
    once = _Once()
    return [
        {
            "config_name": config,
            "data_files": once(
                {"split": split.name, "path": [f"{folder}/*.parquet" for folder in split.folders]}
                for split in splits
            ),
            **({"default": True} if i == 0 else {}),
        }
        for i, (config, splits) in enumerate(configs.items())
    ]


def _infos(configs: Mapping[str, Sequence[_Split]]) -> list[dict[str, Any]]:
    once = _Once()
    return [
        {
            "config_name": config,
            "features": schema.FEATURES_YAML,
            "splits": once(
                {"name": split.name, "num_bytes": split.num_bytes, "num_examples": split.rows}
                for split in splits
            ),
            "download_size": sum(split.size for split in splits),
            "dataset_size": sum(split.num_bytes for split in splits),
        }
        for config, splits in sorted(configs.items())
    ]


class _Once:
    """Gives one list for all that are equal, as those of stages may be: YAML writes that once."""

    def __init__(self) -> None:
        self._lists = dict[str, list[dict[str, Any]]]()

    def __call__(self, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        listed = list(entries)
        return self._lists.setdefault(repr(listed), listed)


def _size_category(rows: int) -> str:
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next(
        (name for limit, name in limits if rows < limit), "1M<n<10M" if rows < 10**7 else "10M<n<100M"
    )
