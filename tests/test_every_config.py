"""Every cell of README's table that is not empty: the config is built from real speech, and validates.

What a corpus lacks is joined as `speechrows generate` writes it; the values are made up, the clips are not.
"""

from pathlib import Path

import pytest
from datasets import load_dataset
from toys.building import build_rows
from toys.building import made_up
from toys.samples import LACKS
from toys.samples import SAMPLE_OF

from speechrows.builder.builder import load_builder
from speechrows.codec import CODECS
from speechrows.errors import UsageError
from speechrows.flags import BUILDERS
from speechrows.folder.show import show
from speechrows.rows.tasks import TASKS
from speechrows.sidecar.columns import COLUMN_OF
from speechrows.types import Task
from speechrows.validation.validate import validate

CELLS = [(builder, config.name) for builder in BUILDERS for config in load_builder(builder).BUILDER_CONFIGS]
# Each config at the first and the last builder that have it.
ENDS = {*{c: (b, c) for b, c in CELLS}.values(), *{c: (b, c) for b, c in reversed(CELLS)}.values()}
KIND_OF = {"answer": lambda task: task.name, "codes": lambda _: "mimi", "units": lambda _: "units"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Generated columns for every clip of every sample: their folders by builder and kind."""
    folders: dict[tuple[str, str], str] = {}
    for builder, sample in SAMPLE_OF.items():
        if (builder, "transcription") not in CELLS:  # its rows need nothing that is generated
            continue
        rows = tmp_path_factory.mktemp(builder)
        build_rows(sample, rows, "transcription", builder=builder)
        for kind in set(COLUMN_OF) - {"traits"}:  # which no config needs
            folders[builder, kind] = made_up(rows, kind, rows / "generated" / kind)
    return folders


@pytest.fixture(scope="session")
def built(made: dict[tuple[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every config of every builder, built one after another into a folder a builder."""
    folder = tmp_path_factory.mktemp("built")
    tasks_of = dict.fromkeys(BUILDERS, frozenset[Task]())
    for builder, config in CELLS:
        cls, sample = load_builder(builder), SAMPLE_OF[builder]
        if (builder, config) not in ENDS and tasks_of[builder].issuperset(cls.tasks(config)):
            continue  # it shows rows that are there: nothing is built
        tasks_of[builder] |= {*cls.tasks(config)}
        brings = cls.HAS - LACKS.get(builder, set())
        lacks = [task for task in cls.tasks(config) if task.needs and task.needs not in brings]
        if lacks:
            with pytest.raises(UsageError, match=f"generate (sift|mimi|units) .*{builder}"):
                build_rows(sample, folder / builder, config, builder=builder)
        generated = [made[builder, KIND_OF[task.needs](task)] for task in lacks]
        summary = build_rows(sample, folder / builder, config, builder=builder, generated=generated)
        assert summary.rows, (builder, config)
        skipped, left_out = (sum(counts.values()) for counts in (summary.skipped, summary.left_out))
        assert summary.items == summary.rows + skipped + left_out, (builder, config)
    return folder


@pytest.mark.parametrize("builder", BUILDERS)
def test_rows_of_real_speech_of_every_config_validate(builder: str, built: Path) -> None:
    report = validate(str(built / builder), allow=("silence", "clipping"))
    assert report.ok, str(report)


# The suite loads each config from the first and the last builder that have it: all cards are written alike.
LOADS = [
    pytest.param(*cell, marks=() if cell in ENDS else pytest.mark.soak, id="/".join(cell)) for cell in CELLS
]


@pytest.mark.parametrize(("builder", "config"), LOADS)
def test_a_config_loads_with_the_rows_of_its_tasks(
    builder: str, config: str, built: Path, tmp_path: Path
) -> None:
    folder = str(built / builder)
    loaded = load_dataset(folder, config, cache_dir=str(tmp_path / "cache"), streaming=True)
    rows = [row for split in loaded.values() for row in split.decode(False)]
    assert {row["task"] for row in rows} == {task.name for task in load_builder(builder).tasks(config)}
    for row in rows:
        task = TASKS[row["task"]]
        assert (row["codec_targets"] is not None) or task.needs not in ("codes", "units")
        if task.needs == "codes":
            spec = CODECS["mimi"]
            assert (row["codec"], len(row["codec_targets"])) == ("mimi", spec.num_codebooks)
    shown = next((row["row_id"] for row in rows if TASKS[row["task"]].needs == "codes"), None)
    assert shown is None or "codec_targets        [8, " in show(folder, shown)


def test_every_builder_has_a_sample_and_every_task_a_builder() -> None:
    assert set(SAMPLE_OF) == set(BUILDERS)
    assert {task.name for b, c in CELLS for task in load_builder(b).tasks(c)} == set(TASKS)
    assert all(Path(sample).is_dir() for sample in SAMPLE_OF.values())
