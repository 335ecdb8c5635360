"""dataset_infos.json: features, licence and citation of every config of every builder.

Documentation that datasets still reads. It holds no splits and no sizes: those are the card's,
which knows what was built.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechrows.builder.builder import load_builder
from speechrows.builder.find import stem_of
from speechrows.rows import schema


def infos(builders: Sequence[str]) -> dict[str, Any]:
    """The infos of builders, modules or .py files, by `<builder>/<config>`."""
    entries: dict[str, Any] = {}
    for address in builders:
        builder = load_builder(address)
        name = stem_of(builder)
        for config in builder.BUILDER_CONFIGS:
            entries[f"{name}/{config.name}"] = {
                "description": builder.ABOUT.summary,
                "citation": builder.ABOUT.citation,
                "homepage": builder.ABOUT.homepage,
                "license": builder.ABOUT.licence,
                "features": schema.features_json(),
                "builder_name": name,
                "config_name": config.name,
                "version": str(config.version),
            }
    return entries


def write_infos(builders: Sequence[str], out: Path) -> int:
    """Write the file and return the number of configs in it."""
    entries = infos(builders)
    out.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return len(entries)
