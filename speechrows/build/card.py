"""The dataset card, README.md of a built folder: written last, from what exists.

Its YAML is what `load_dataset` and the viewer read. Patterns name whole folders that hold
files: a dead pattern alone makes datasets raise, overlapping ones double rows silently.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import DatasetInfo
from datasets import SplitDict
from datasets import SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from speechrows import schema
from speechrows.budget import STAGE_LIMITS
from speechrows.configs import bands_of
from speechrows.configs import configs_of
from speechrows.layout import shard_folder
from speechrows.ledger import describe
from speechrows.tasks import TASKS

Commits = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class About:
    """What a corpus is and under which licence: text of its cards, beside its reader."""

    title: str
    summary: str
    licence: str  # an identifier the Hub knows
    licence_note: str
    homepage: str
    citation: str
    languages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Split:
    """A split of a config: its folders, in order, and their sums."""

    name: str
    folders: tuple[str, ...]
    rows: int
    num_bytes: int
    size: int


def render(
    builder: str,
    about: About,
    tasks: Mapping[str, Commits],
    ledgers: Mapping[str, Any],
    unions: Mapping[str, Sequence[str]],
) -> str:
    """The card of a folder with these tasks; `ledgers` are their summaries.

    `unions` are configs that show several tasks; they are there once two of these are.
    """
    configs = {
        config: splits
        for task in TASKS.values()
        if task.name in tasks
        for config in configs_of(task)
        if (splits := _splits(task.name, config, tasks[task.name], banded=task.banded))
    }
    for union, names in unions.items():
        parts = [configs[name] for name in names if name in configs]
        if len(parts) > 1:
            configs[union] = _union(parts)
    front = _front_matter(builder, about, configs)
    return f"---\n{front}\n---\n\n{_body(builder, about, configs, ledgers)}"


def _splits(task: str, config: str, commits: Commits, *, banded: bool) -> list[_Split]:
    files = [file for commit in commits for file in commit["files"]]
    if banded:
        files = [file for file in files if file["band"] in bands_of(config)]
    splits: list[_Split] = []
    for name in sorted({file["split"] for file in files}):
        mine = [file for file in files if file["split"] == name]
        bands = sorted({file["band"] for file in mine})
        splits.append(
            _Split(
                name=name,
                folders=tuple(shard_folder(task, name, band) for band in bands),
                rows=sum(file["rows"] for file in mine),
                num_bytes=sum(file["num_bytes"] for file in mine),
                size=sum(file["size"] for file in mine),
            )
        )
    return splits


def _union(parts: Sequence[Sequence[_Split]]) -> list[_Split]:
    """The splits of several configs as one config's: each row once."""
    names = sorted({split.name for part in parts for split in part})
    mine = {name: [split for part in parts for split in part if split.name == name] for name in names}
    return [
        _Split(
            name=name,
            folders=tuple(folder for split in splits for folder in split.folders),
            rows=sum(split.rows for split in splits),
            num_bytes=sum(split.num_bytes for split in splits),
            size=sum(split.size for split in splits),
        )
        for name, splits in mine.items()
    ]


def _front_matter(builder: str, about: About, configs: Mapping[str, Sequence[_Split]]) -> str:
    infos: dict[str, DatasetInfo] = {}
    for config, splits in configs.items():
        sums = SplitDict()
        for split in splits:
            sums.add(SplitInfo(split.name, num_bytes=split.num_bytes, num_examples=split.rows))
        infos[config] = DatasetInfo(
            features=schema.FEATURES,
            config_name=config,
            splits=sums,
            download_size=sum(split.size for split in splits),
            dataset_size=sum(split.num_bytes for split in splits),
        )
    rows = max(sum(split.rows for split in splits) for splits in configs.values())
    data = DatasetCardData(
        pretty_name=f"{about.title} ({builder})",
        license=about.licence,
        language=list(about.languages),
        task_categories=["automatic-speech-recognition", "audio-text-to-text"],
        tags=["speechrows", "audio", "speech", "dialogue"],
        size_categories=[_size_category(rows)],
        configs=[
            {
                "config_name": config,
                "data_files": [
                    {"split": split.name, "path": [f"{folder}/*.parquet" for folder in split.folders]}
                    for split in splits
                ],
                **({"default": True} if i == 0 else {}),
            }
            for i, (config, splits) in enumerate(configs.items())
        ],
    )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data.to_yaml().strip()


def _size_category(rows: int) -> str:
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in limits if rows < limit), "1M<n<10M")


def _body(
    builder: str, about: About, configs: Mapping[str, Sequence[_Split]], ledgers: Mapping[str, Any]
) -> str:
    lines = [
        f"# {about.title}, as training rows",
        "",
        f"{about.summary} Made from [{about.homepage}]({about.homepage}) by speechrows, builder "
        f"`{builder}`: audio as published, chat text, token ids and labels in every row.",
        "",
        "```python",
        "from datasets import load_dataset",
        f'rows = load_dataset("org/{builder}", "{next(iter(configs))}", streaming=True)',
        "```",
        "",
        "| config | split | rows | audio and text, bytes |",
        "|---|---|---:|---:|",
    ]
    for config, splits in configs.items():
        lines += [f"| {config} | {s.name} | {s.rows:,} | {s.num_bytes:,} |" for s in splits]
    if "stage_1" in configs:
        limits = ", ".join(str(limit) for limit in STAGE_LIMITS.values())
        lines += ["", f"Stages are nested: stage_1…stage_4 hold the conversations of at most {limits} "
                  "padded tokens, so stages that look alike share their files."]  # fmt: skip
    lines += ["", "`tokenizer/` is the tokenizer of `input_ids`, with `<audio>` added."]
    lines += ["", "## What became of the corpus' items", ""]
    for task, summary in ledgers.items():
        lines += [f"{task}:", "", "```", describe(summary), "```", ""]
    lines += ["The skipped ones are listed in `skipped.jsonl`, each with its reason."]
    lines += ["", "## Licence and citation", "", about.licence_note, "", "```", about.citation, "```", ""]
    return "\n".join(lines)
