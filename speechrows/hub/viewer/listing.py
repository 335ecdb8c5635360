"""The viewer's rules for a card: configs, their splits, and the files that these list."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Features
from datasets.data_files import sanitize_patterns
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard

from speechrows.folder.layout import CARD
from speechrows.hub.viewer.findings import ViewerReport
from speechrows.hub.viewer.repository import Repository

MAX_CONFIGS, MAX_SPLITS = 4_000, 30


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSplit:
    """A split of a config as the card lists it; `features` are None where the card has none."""

    config: str
    split: str
    files: tuple[str, ...]
    features: Features | None

    def __str__(self) -> str:
        return f"{self.config}/{self.split}"


def listed_splits(repository: Repository, report: ViewerReport) -> list[ListedSplit]:
    """Return every split of every config; report what is wrong with the card."""
    if CARD not in repository.files:
        report.fail("card", CARD, "found none", "Write one whose YAML lists configs and their data_files")
        return []
    try:
        data: Any = DatasetCard(repository.read(CARD).decode("utf-8"), ignore_metadata_errors=True).data
        configs: list[dict[str, Any]] = data.to_dict().get("configs") or []
        infos = DatasetInfosDict.from_dataset_card_data(data)
    except Exception as error:  # of yaml, which is hub's dependency, or of datasets
        report.fail(
            "card",
            CARD,
            f"its YAML can not be read ({error})",
            "Mend what stands between its two lines of ---",
        )
        return []
    report.num_configs = len(configs)
    if not 0 < len(configs) <= MAX_CONFIGS:
        report.fail("configs", CARD, f"found {len(configs):,} configs", f"List from 1 to {MAX_CONFIGS:,}")
    splits: list[ListedSplit] = []
    for config in configs:
        name = str(config.get("config_name", "default"))
        features = infos[name].features if name in infos else None
        splits += _splits_of(name, config, features, repository, report)
    return splits


def _splits_of(
    name: str,
    config: Mapping[str, Any],
    features: Features | None,
    repository: Repository,
    report: ViewerReport,
) -> list[ListedSplit]:
    if "data_files" not in config:
        report.fail("configs", name, "it has no data_files", "Name the files of each split")
        return []
    patterns_of = sanitize_patterns(config["data_files"])
    if len(patterns_of) > MAX_SPLITS:
        report.fail(
            "splits", name, f"found {len(patterns_of)} splits", f"Have at most {MAX_SPLITS} in a config"
        )
    splits: list[ListedSplit] = []
    for split, patterns in patterns_of.items():
        files: list[str] = []
        for pattern in patterns:
            matching = repository.matching(str(pattern))
            if not matching:
                why = "Remove it, or upload the files: load_dataset raises too"
                report.fail("configs", f"{name}/{split}", f"no file matches {pattern}", why)
            files += matching
        splits.append(ListedSplit(config=name, split=split, files=tuple(files), features=features))
    counts = Counter(path for split in splits for path in split.files)
    for path in sorted(path for path, count in counts.items() if count > 1):
        report.fail(
            "configs",
            name,
            f"{path} is matched more than once",
            "Let patterns not overlap: its rows are doubled",
        )
    return splits
