"""README tells the truth: its card is valid, its row is the one that is built, its table is the code's."""

import re
from pathlib import Path

from huggingface_hub import DatasetCard
from toys.building import build_rows
from toys.mini_hub import MiniHub
from toys.samples import XTTS

from speechrows.builder.builder import load_builder
from speechrows.flags import BUILDERS
from speechrows.folder.show import show

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def block(heading: str) -> str:
    """The first code block below a heading that names no language."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```([^\n]*)\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    return next(text for language, text in blocks if not language)


def test_its_head_is_a_valid_dataset_card(hub: MiniHub) -> None:
    card = DatasetCard(README)
    card.validate(repo_type="dataset")
    assert card.data.license == "apache-2.0"
    assert [request[0] for request in hub.log] == ["POST"]


def test_its_row_is_the_one_that_the_demo_builds(tmp_path: Path) -> None:
    build_rows(XTTS, tmp_path / "rows")
    shown = show(str(tmp_path / "rows")).splitlines()
    printed = block("Your first rows, in two minutes").splitlines()
    assert len(printed) > 12
    assert [line for line in printed if line not in shown] == []


def test_its_table_says_of_each_builder_and_config_what_holds() -> None:
    """A cell: `yes`, what has to be given with --with, or a dash. test_every_config builds what is there."""
    building = (ROOT / "docs/building.md").read_text("utf-8")
    table = building.partition("## Builders and configs\n\n")[2].partition("\n\n")[0]
    lines = [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    heads = [[name for name in re.findall(r"\w+", head) if name != "4"] for head in lines[0]]
    assert [line[0] for line in lines[2:]] == list(BUILDERS)
    for name, *cells in lines[2:]:
        builder = load_builder(name)
        configs = {config.name for config in builder.BUILDER_CONFIGS}
        for names, cell in zip(heads[1:], cells, strict=True):
            assert not configs & set(names) or set(names) <= configs
            needs = {task.needs for one in names if one in configs for task in builder.tasks(one)} - {None}
            lacks = [need.replace("answer", "answers") for need in needs - builder.HAS]
            there = f"with {lacks[0]}" if lacks else "yes"
            assert cell == (there if configs & set(names) else "–"), (name, names, cell)


def test_every_file_it_names_exists() -> None:
    for name in re.findall(
        r"^(\S+\.py|speechrows/\S+|docs/\S+\.md)\s", block("Where things are"), re.MULTILINE
    ):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\((docs/[\w.]+|benchmarks/[\w.]+)\)", README):
        assert (ROOT / name).exists(), name


def test_the_table_of_changes_names_files_and_symbols_that_exist() -> None:
    design = (ROOT / "docs/design.md").read_text("utf-8")
    table = design.partition("### To change X, go to Y\n")[2].partition("\n## ")[0]
    changes = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(changes) > 20
    for change in changes:
        places = re.findall(r"[\w/-]+\.(?:py|toml|md)\b", change.replace("](", " "))
        bases = (ROOT, ROOT / "speechrows", ROOT / "speechrows/hub/viewer", ROOT / "docs")
        files = [next(base / place for base in bases if (base / place).exists()) for place in places]
        text = "".join(file.read_text("utf-8") for file in files)
        for symbol in re.findall(r"`([\w.]+)`", change):
            assert symbol in places or symbol.rpartition(".")[2] in text, (symbol, change)
