"""The page's parts, and which control does what; Gradio's, around the markup of html.py and summary.py."""

from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from typing import Any
from typing import get_args

import gradio as gr

from speechrows.errors import SpeechRowsError
from speechrows.preview import html
from speechrows.preview.actions import ALL
from speechrows.preview.actions import LEDGER
from speechrows.preview.actions import LISTEN
from speechrows.preview.actions import NUMBERS
from speechrows.preview.actions import Actions
from speechrows.preview.actions import Step
from speechrows.preview.actions import Values
from speechrows.preview.rows import Library

Parts = dict[str, Any]

# A click on what names a row opens it; so does playing a turn, which plays on meanwhile.
_SELECT = """
const open = (event) => {
  const named = event.target.closest('[data-row]');
  if (named && !named.closest('.is-open')) trigger('select', {row: Number(named.dataset.row)});
};
element.addEventListener('click', open);
element.addEventListener('play', open, true);
"""
# The open turn is scrolled to inside the conversation, which the page itself stays out of.
_SCROLL = """
watch('value', () => {
  const turns = element.querySelector('.turns');
  const open = turns?.querySelector('.is-open');
  if (open) turns.scrollTop = open.offsetTop - turns.offsetTop - turns.clientHeight / 3;
});
"""
# By the page itself, at once: an answer of the server may be late, and bring back who has gone on.
_TO_LISTEN = """() => {
  const tabs = [...document.querySelectorAll('[role=tab]')];
  tabs.find((tab) => tab.textContent.trim() === 'Listen' && tab.ariaSelected !== 'true')?.click();
}"""
_PLACE = ("config", "split", "task")
_SHOWN = ("chat", "turn", "at")
_STEPS: dict[Step, str] = {
    "before": "\N{LEFTWARDS ARROW} Conversation",
    "next": "Conversation \N{RIGHTWARDS ARROW}",
    "turn_before": "\N{LEFTWARDS ARROW} Turn",
    "next_turn": "Turn \N{RIGHTWARDS ARROW}",
    "random": "Random",
}


def make_page(library: Library) -> gr.Blocks:
    """The page of a library; what it plays comes from the routes of sound.py."""
    parts: Parts = {}
    name = library.folder.address.rstrip("/").rpartition("/")[2]
    with gr.Blocks(title=f"{name} · speechrows", fill_width=True, analytics_enabled=False) as blocks:
        parts["head"] = _markup()
        _bar(parts, list(library.splits))
        parts |= {"at": gr.State(0), "tab": gr.State(LISTEN), "search": gr.State(None)}
        with gr.Tabs(selected=LISTEN):
            _listen(parts)
            with gr.Tab("Distributions", id=NUMBERS) as parts["numbers_tab"]:
                parts["numbers"] = _markup(_SELECT)
            with gr.Tab("Ledger", id=LEDGER) as parts["ledger_tab"]:
                parts["reason"] = gr.Dropdown([ALL], label="Skipped because", elem_id="sr-reason")
                parts["ledger"] = _markup()
        _wire(blocks, parts, Actions(library))
    return blocks


def _markup(script: str | None = None, name: str | None = None) -> Any:
    return gr.HTML(apply_default_css=False, js_on_load=script, elem_id=name)


def _bar(parts: Parts, configs: Sequence[str]) -> None:
    with gr.Row(elem_id="sr-bar"):
        parts["config"] = gr.Dropdown(
            list(configs), value=configs[0], label="Config", elem_id="sr-config", min_width=165
        )
        parts["split"] = gr.Dropdown([], label="Split", elem_id="sr-split", min_width=110)
        parts["task"] = gr.Dropdown([ALL], value=ALL, label="Task", elem_id="sr-task", min_width=165)
        hint = "a row, a conversation, or words that are said  ( / )"
        parts["find"] = gr.Textbox(
            label="Find", placeholder=hint, elem_id="sr-find", scale=3, min_width=240, max_lines=1
        )
        parts["go"] = _button("Find", "sr-find-go")
        for step, label in _STEPS.items():
            parts[step] = _button(label, f"sr-{step.replace('_', '-')}")


def _button(label: str, name: str) -> Any:
    return gr.Button(label, elem_id=name, elem_classes="sr-step", scale=0, min_width=40)


def _listen(parts: Parts) -> None:
    with gr.Tab("Listen", id=LISTEN) as parts["listen_tab"]:
        parts["hits"] = _markup(_SELECT, "sr-hits")
        parts["more"] = gr.Button(
            "Search on", visible=False, elem_id="sr-more", elem_classes="sr-more", size="sm"
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=340):
                parts["chat"] = _markup(_SELECT + _SCROLL)
            with gr.Column(scale=7, min_width=420):
                parts["turn"] = _markup()


def _wire(blocks: gr.Blocks, parts: Parts, actions: Actions) -> None:
    """Which control does what, with which parts' values, to which parts."""
    on = partial(_on, parts)
    results = (*_SHOWN, "hits", "more", "search")
    tabs = ("tab", "numbers", "ledger")
    chosen = (*_SHOWN, *tabs, "split", "task", "head", "hits", "more", "search", "reason")
    # Told first: Gradio does what one event asks for in the order in which it was told.
    steps = [parts[step].click for step in get_args(Step)]
    for asked in (parts["find"].submit, parts["go"].click, parts["numbers"].select, *steps):
        asked(None, js=_TO_LISTEN)
    searches = [
        on(asked, actions.look_for, (*_PLACE, "at", "find"), results, shows_progress=True)
        for asked in (parts["find"].submit, parts["go"].click)
    ]
    searches.append(
        on(parts["more"].click, actions.look_on, (*_PLACE, "search"), results, shows_progress=True)
    )
    on(blocks.load, actions.choose, (*_PLACE, "tab"), chosen)
    on(parts["config"].input, actions.choose_config, (*_PLACE, "tab"), chosen, cancels=searches)
    for name in ("split", "task"):
        on(parts[name].input, actions.choose, (*_PLACE, "tab"), chosen, cancels=searches)
    for name in ("chat", "hits", "numbers"):
        on(parts[name].select, actions.select, _PLACE, _SHOWN, takes_row=True)
    for step in get_args(Step):
        on(parts[step].click, partial(actions.step, step=step), (*_PLACE, "at"), _SHOWN)
    for tab in (LISTEN, NUMBERS, LEDGER):
        opened = partial(actions.open_tab, tab=tab)
        on(parts[f"{tab}_tab"].select, opened, (*_PLACE, "reason"), tabs, shows_progress=True)
    on(parts["reason"].input, partial(actions.open_tab, tab=LEDGER), (*_PLACE, "reason"), tabs)


def _on(
    parts: Parts,
    listen: Any,
    act: Callable[..., Values],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    takes_row: bool = False,
    shows_progress: bool = False,
    cancels: Sequence[Any] = (),
) -> Any:
    """Let an event act: on these parts' values, and, where told, on the row that was clicked.

    What of `cancels` is still under way then changes nothing any more.
    """
    told = _told(act, parts, outputs)

    def clicked(config: str, split: str, task: str, event: gr.EventData) -> dict[Any, Any]:
        return told(config, split, task, int(event.row))

    return listen(
        clicked if takes_row else told,
        [parts[name] for name in inputs],
        [parts[name] for name in outputs],
        show_progress="minimal" if shows_progress else "hidden",
        api_visibility="private",
        cancels=[*cancels],
        preprocess=False,  # a choice that another control has just replaced is no error
    )


def _told(act: Callable[..., Values], parts: Parts, outputs: Sequence[str]) -> Callable[..., dict[Any, Any]]:
    """An action for Gradio. What goes wrong is shown in the page as text: Gradio's toasts take markup."""
    place = "turn" if "turn" in outputs else outputs[-1]

    def answer(*values: Any) -> dict[Any, Any]:
        try:
            made = act(*values)
        except (SpeechRowsError, OSError) as error:  # a store that does not answer, too
            made = {place: html.trouble(error)}
        return {parts[name]: value for name, value in made.items()}

    return answer
