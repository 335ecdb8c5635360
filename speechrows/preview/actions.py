"""What each control does: from the open config, split and task, to new values of the page's components.

Every action takes config, split and task first, and returns values by the names of components.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Literal

import gradio as gr
import numpy as np

from speechrows.errors import UsageError
from speechrows.preview import find
from speechrows.preview import html
from speechrows.preview import summary
from speechrows.preview.rows import Library
from speechrows.preview.rows import View

ALL = "all"  # tasks of a union, reasons of faults
LISTEN, NUMBERS, LEDGER = "listen", "numbers", "ledger"

Values = dict[str, Any]
Step = Literal["before", "next", "turn_before", "next_turn", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A search that may go on: the row it began at, rows with the text in their name, results so far."""

    text: str
    origin: int
    named: tuple[tuple[int, str], ...]
    result: find.Hits


def step_from(view: View, row: int, step: Step) -> int:
    """Return the row that a step leads to; the same one where there is no further."""
    number, start, stop = view.conversation(row)
    last = len(view.conversations) - 1
    if step == "random":
        return random.randrange(view.start, view.stop)
    if step == "before":
        return int(view.conversations[number - 1]) if number else start
    if step == "next":
        return int(view.conversations[min(number + 1, last)]) if number < last else row
    return min(row + 1, stop - 1) if step == "next_turn" else max(row - 1, start)


class Actions:
    """The actions of a page. They keep no state of a visitor: it is passed in."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def open_address(self, config: str, tab: str, address: Mapping[str, str]) -> Values:
        """Open the row that the page's address names by `config`, `split` and `row`: a row_id, or a number.

        What it names and is not there is told, and the first of what is there is opened.
        """
        config = next((name for name in self._library.splits if name == address.get("config")), config)
        splits = self._library.splits[config]
        split = next((name for name in splits if name == address.get("split")), splits[0])
        rows = self._rows_of(self._view(config, split, ALL), address.get("row", "0"))
        values = {"config": config, **self.choose(config, split, None, tab, rows[0] if rows else None)}
        opened = {"config": config, "split": split} | ({} if rows else {"row": None})
        missing = [name for name, value in opened.items() if address.get(name, value) != value]
        if missing:
            named = f"{missing[0]}={address[missing[0]]}"
            values["hits"] = html.trouble(UsageError(f"The address has {named}: there is none such here."))
        return values

    def _rows_of(self, view: View, name: str) -> list[int]:
        """The rows that an address may mean by a name or a number."""
        is_number = name.isascii() and name.isdecimal()
        if is_number:
            return [int(name)] if int(name) < view.stop else []
        return find.by_name(self._library, view, name)

    def choose_config(self, config: str, split: str | None, _: str | None, tab: str) -> Values:
        """Choose another config: all of its tasks, in the same split where it has that."""
        return self.choose(config, split, None, tab)

    def choose(
        self, config: str, split: str | None, task: str | None, tab: str, row: int | None = None
    ) -> Values:
        """Choose another config, split or task; keep the other choices where they fit, open the first row.

        With `row`, that one is opened.
        """
        splits = self._library.splits[config]
        split = split if split in splits else splits[0]
        tasks = self._library.tasks(config, split)
        names = [ALL, *tasks] if len(tasks) > 1 else tasks
        task = task if task in names else names[0]
        view = self._view(config, split, task)
        faults = summary.reasons(view)
        return {
            "split": gr.update(choices=splits, value=split),
            "task": gr.update(choices=names, value=task, visible=len(names) > 1),  # else the config says it
            "head": summary.head(self._library, view),
            **_NO_HITS,
            "reason": gr.update(choices=[ALL, *faults], value=ALL, visible=bool(faults)),
            **self.open_tab(config, split, task, ALL, tab=tab),
            **self._show(view, view.start if row is None else row),
        }

    def select(self, config: str, split: str, task: str, row: int) -> Values:
        """Open a row that was clicked."""
        return self._show(self._view(config, split, task), row)

    def step(self, config: str, split: str, task: str, row: int, *, step: Step) -> Values:
        """Open the row that a step leads to."""
        view = self._view(config, split, task)
        return self._show(view, step_from(view, row, step))

    def open_tab(self, config: str, split: str, task: str, reason: str | None, *, tab: str) -> Values:
        """Render the contents of a tab, when it is opened."""
        view = self._view(config, split, task)
        only = None if reason in (None, ALL) else reason
        return {
            "tab": tab,
            "numbers": summary.numbers(self._library, view) if tab == NUMBERS else "",
            "ledger": summary.ledger(self._library, view, only) if tab == LEDGER else "",
        }

    def search(self, config: str, split: str, task: str, row: int, text: str) -> Values:
        """Open the conversation of that name; else list rows with the text in their name, or said in them."""
        view, text = self._view(config, split, task), text.strip()
        if not text:
            return _NO_HITS
        rows = find.by_name(self._library, view, text)
        if len(np.unique(view.index.conversation[rows])) == 1:
            return {**self._show(view, rows[0]), **_NO_HITS}
        rows = rows[: find.MAX_HITS]
        named = tuple(zip(rows, view.index.row_ids(rows), strict=True))
        result = find.by_words(self._library, view, text, row)
        return self._results(view, Search(text=text, origin=row, named=named, result=result), is_first=True)

    def search_on(self, config: str, split: str, task: str, search: Search) -> Values:
        """Go on with a search where it ended."""
        view, before = self._view(config, split, task), search.result
        if before.next_row is None:
            return {}
        more = find.by_words(self._library, view, search.text, before.next_row, stop_row=search.origin)
        hits, searched = before.hits + more.hits, before.searched + more.searched
        return self._results(view, replace(search, result=replace(more, hits=hits, searched=searched)))

    def _results(self, view: View, search: Search, *, is_first: bool = False) -> Values:
        """Render the results of a search; open the first of a new one."""
        result, rows = search.result, [row for row, _ in search.named]
        rows += [hit.row for hit in result.hits]
        total = view.stop - view.start
        return {
            **(self._show(view, rows[0]) if is_first and rows else {}),
            "hits": html.hits(result, names=search.named, text=search.text, total=total),
            "more": gr.update(visible=result.next_row is not None),
            "search": search,
        }

    def _view(self, config: str, split: str, task: str) -> View:
        view = self._library.view(config, split, None if task == ALL else task)
        if view.start == view.stop:
            raise UsageError(f"{config}, {split}: has no row of {task}; choose another")
        return view

    def _show(self, view: View, row: int) -> Values:
        """Render the conversation of a row, and the row."""
        row = int(np.clip(row, view.start, view.stop - 1))
        return {
            "chat": html.conversation(self._library, view, row),
            "turn": html.turn(self._library, view, row),
            "at": row,
        }


_NO_HITS: Values = {"hits": "", "more": gr.update(visible=False), "search": None}
