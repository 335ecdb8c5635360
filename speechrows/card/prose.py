"""The card's text below its YAML, in Markdown. A corpus' own texts stand in code blocks, never as markup.

All of it lies between two marks: what a person writes before or after them is kept when the
card is published again.
"""

import math
import re
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerFast

from speechrows.card.columns import COLUMNS
from speechrows.rows.curriculum import STAGE_LIMITS
from speechrows.rows.ledger import MAX_SKIPPED
from speechrows.rows.ledger import LedgerSummary
from speechrows.rows.tasks import TASKS
from speechrows.text.audio_token import audio_token
from speechrows.text.tokenizers import describe
from speechrows.types import AUDIO_TOKEN

BEGIN, END = "<!-- speechrows:begin -->", "<!-- speechrows:end -->"
_NO_FLAGS = (
    "row_version",
    "tokenizer",
    "corpus",
    "revision",
    "listing",
    "shard_bytes",
    "source",
    "generated",
)


@dataclass(frozen=True, kw_only=True)
class About:
    """What a corpus is, in the words that stand on the card of its rows.

    Attributes:
        title: its name.
        summary: what it holds, in a sentence or two.
        licence: an identifier that the Hub knows, as "cc-by-4.0" or "other".
        licence_note: what else is to be said of the licence.
        homepage: an address, or a page of these guides where the corpus is one's own.
        citation: BibTeX, or any text.
        languages: ISO 639-1 codes.
    """

    title: str
    summary: str
    licence: str
    licence_note: str
    homepage: str
    citation: str
    languages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLine:
    """A line of the card's table: a split of a config."""

    config: str
    split: str
    rows: int
    conversations: int
    hours: float
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What the card says of a task: its ledger's summary, its recipe, the paths of its pictures."""

    ledger: LedgerSummary
    recipe: Mapping[str, Any]
    pictures: Sequence[str]


def write(
    builder: str,
    command: str,
    about: About,
    lines: Sequence[TableLine],
    stories: Mapping[str, Story],
    example: str,
    tokenizer: PreTrainedTokenizerFast,
) -> str:
    """Return the card's text below its YAML.

    `command` is BUILDER as `speechrows build` takes it.
    """
    sections = [
        _head(builder, about, lines[0]),
        _configs(lines),
        _rows(example, tokenizer),
        _pictures(stories),
        _how_built(builder, command, stories),
        _ledgers(stories),
        f"## Licence and citation\n\nLicence: `{about.licence}`. {about.licence_note}\n\n"
        + fenced(about.citation),
    ]
    # A mark inside a code block would end the text that is replaced when the card is published again.
    text = "\n\n".join(section for section in sections if section).replace(
        "<!-- speechrows:", "<!- speechrows:"
    )
    return f"{BEGIN}\n{text}\n{END}\n"


def fenced(text: str, language: str = "") -> str:
    """Text as a Markdown code block, with a fence that the text can not close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _head(builder: str, about: About, first: TableLine) -> str:
    source = f" from <{about.homepage}>" if "://" in about.homepage else ""
    load = f'load_dataset("org/{builder}", "{first.config}", split="{first.split}", streaming=True)'
    return (
        f"# {about.title}, as training rows\n\n"
        f"{about.summary} Made{source} by speechrows, builder "
        f"`{builder}`: audio as published, chat text, token ids and labels in every row.\n\n"
        + fenced(f"from datasets import load_dataset\nrows = {load}", "python")
        + "\n\ndatasets 4 and later decode `audio` with torchcodec (`pip install torchcodec`); "
        "`rows.decode(False)` gives the files' bytes without it."
    )


def _configs(lines: Sequence[TableLine]) -> str:
    names = list(dict.fromkeys(line.config for line in lines))
    text = ["## Configs", "", *(f"- `{name}`: {TASKS[name].asks}" for name in names if name in TASKS)]
    if "stage_1" in names:
        limits = ", ".join(f"{limit:,}" for limit in STAGE_LIMITS.values())
        text.append(
            f"- `stage_1`…`stage_4`: of `ttt`, the conversations of at most {limits} padded tokens; each "
            "holds the one before, and they share their files"
        )
    rows_of = {name: {line.split: line.rows for line in lines if line.config == name} for name in names}
    nested = [name for name in (*STAGE_LIMITS, "ttt") if name in names]
    for _, same in groupby(nested, key=rows_of.__getitem__):
        if len(alike := [f"`{name}`" for name in same]) > 1:
            text.append(f"- {' = '.join(alike)}: they hold the same rows")
    unions = [name for name in names if name not in (*TASKS, *STAGE_LIMITS)]
    text += [f"- `{name}`: the rows of the others, each once" for name in unions]
    text += [
        "",
        "| config | split | rows | conversations | hours | audio and text, bytes |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for line in lines:
        numbers = f"{line.rows:,} | {line.conversations:,} | {line.hours:,.2f} | {line.num_bytes:,}"
        text.append(f"| {line.config} | {line.split} | {numbers} |")
    return "\n".join(text)


def _pictures(stories: Mapping[str, Story]) -> str:
    text = ["## In pictures"]
    for task, story in stories.items():
        shown = [
            f"![{task}: {path.rpartition('/')[2].removesuffix('.png')}]({path})" for path in story.pictures
        ]
        text += ["", f"`{task}`", "", *shown]
    return "\n".join(text)


def _rows(example: str, tokenizer: PreTrainedTokenizerFast) -> str:
    audio = audio_token(tokenizer)
    table = "\n".join(f"| `{name}` | {what} |" for name, what in COLUMNS.items())
    columns = table.replace(AUDIO_TOKEN, audio)
    what = f"with `{audio}` added" if audio == AUDIO_TOKEN else f"whose own `{audio}` stands for the audio"
    return (
        f"## A row\n\nThe first one; ⟦ ⟧ is around what takes loss:\n\n{fenced(example)}\n\n"
        f"| column | what it is |\n|---|---|\n{columns}\n\n"
        f"`tokenizer/` is the tokenizer of `input_ids`: {describe(tokenizer)}, {what}."
    )


def _how_built(builder: str, command: str, stories: Mapping[str, Story]) -> str:
    text = ["## How it was built", ""]
    text.append(
        f"By speechrows {version('speechrows')}, with the tokenizer of this repository's `tokenizer/`:"
    )
    commands = [_command(builder, command, task, story) for task, story in stories.items()]
    text += ["", fenced("\n".join(commands)), ""]
    tasks_of: dict[str, list[str]] = {}
    for task, story in stories.items():
        facts = [f"rows of version {story.recipe['row_version']}"]
        if "revision" in story.recipe:
            facts.append(f"from revision {story.recipe['revision']} of the corpus")
        if "channel" in story.recipe:
            facts.append(f"of clips with several channels number {story.recipe['channel']} alone, from 0")
        if "generated" in story.recipe:
            facts.append(f"joined with generated columns of digest `{story.recipe['generated'][:16]}`")
        tasks_of.setdefault(", ".join(facts), []).append(task)
    text += [f"- {', '.join(tasks)}: {facts}." for facts, tasks in tasks_of.items()]
    return "\n".join(text)


def _command(builder: str, command: str, task: str, story: Story) -> str:
    recipe, faulty = story.recipe, story.ledger.faulty_share()
    words = ["speechrows", "build", command, task, "--data-dir", str(recipe["corpus"])]
    words += ["--tokenizer", "tokenizer"]
    for name, value in sorted(recipe.items()):
        if name not in _NO_FLAGS and value is not None:
            words += _flag(name.replace("_", "-"), value)
    if "generated" in recipe:
        words += ["--with", "GENERATED"]
    if faulty > MAX_SKIPPED:
        words += ["--max-skipped", f"{math.ceil(faulty * 100) / 100}"]
    return shlex.join([*words, "--out", f"rows/{builder}"])


def _flag(name: str, value: Any) -> list[str]:
    """A flag as a command line has it; of several values, once for each."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list) else [value]
    return [word for each in values for word in (f"--{name}", str(each))]


def _ledgers(stories: Mapping[str, Story]) -> str:
    tables = "\n".join(f"{task}\n{story.ledger.describe()}" for task, story in stories.items())
    return (
        f"## What became of the corpus' items\n\n{fenced(tables)}\n\n"
        "Those that were skipped are listed in `skipped.jsonl`, each with its reason."
    )
