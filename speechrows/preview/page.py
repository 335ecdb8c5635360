"""The page: Gradio components around the markup of html.py and summary.py, and which event does what."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from typing import Literal
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
from speechrows.preview.talk import Talk
from speechrows.preview.talk import talk_tab

Components = dict[str, Any]

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
  if (!open) return;
  const room = Math.max(turns.clientHeight - open.offsetHeight, 0);
  turns.scrollTop = open.offsetTop - turns.offsetTop - room / 3;
});
"""
# The address is that of the open row: copied, it opens the row again.
_ADDRESS = """
watch('value', () => {
  const row = element.querySelector('#sr-row-id');
  if (!row) return;
  const named = new URLSearchParams(location.search);
  named.set('config', row.dataset.config);
  named.set('split', row.dataset.split);
  named.set('row', row.textContent);
  history.replaceState(history.state, '', `?${named.toString().replaceAll('%2F', '/')}`);
});
"""
# By the page itself, at once: a late response of the server would bring back a visitor who has gone on.
_TO_LISTEN = """() => {
  const tabs = [...document.querySelectorAll('[role=tab]')];
  tabs.find((tab) => tab.textContent.trim() === 'Listen' && tab.ariaSelected !== 'true')?.click();
}"""
_KEPT: Any = {"delete_cache": (600, 3600)}  # seconds: how often what visitors gave is looked for, and kept
_CHOICE = ("config", "split", "task")
_SHOWN = ("chat", "turn", "at")
_STEPS: dict[Step, str] = {
    "before": "\N{LEFTWARDS ARROW} Conversation",
    "next": "Conversation \N{RIGHTWARDS ARROW}",
    "turn_before": "\N{LEFTWARDS ARROW} Turn",
    "next_turn": "Turn \N{RIGHTWARDS ARROW}",
    "random": "Random",
}


@dataclass(slots=True)
class _Visit:
    """How often a visitor has chosen a config, split or task: Gradio hands all their actions the same one."""

    choices: int = 0


def make_page(library: Library, open_talk: Callable[[], Talk] | None = None) -> gr.Blocks:
    """Make the page of a library; the clips that it plays come from the routes of sound.py.

    With `open_talk`, which begins a conversation with a model, it has a tab to talk in.
    """
    components: Components = {}
    name = library.folder.address.rstrip("/").rpartition("/")[2]
    with gr.Blocks(title=f"{name} · speechrows", fill_width=True, analytics_enabled=False, **_KEPT) as blocks:
        components["head"] = _markup()
        _bar(components, list(library.splits))
        components |= {"at": gr.State(0), "tab": gr.State(LISTEN), "search": gr.State(None)}
        components["visit"] = gr.State(_Visit())
        with gr.Tabs(selected=LISTEN):
            _listen(components)
            with gr.Tab("Distributions", id=NUMBERS) as components["numbers_tab"]:
                components["numbers"] = _markup(_SELECT)
            with gr.Tab("Ledger", id=LEDGER) as components["ledger_tab"]:
                components["reason"] = gr.Dropdown([ALL], label="Skipped because", elem_id="sr-reason")
                components["ledger"] = _markup()
            if open_talk is not None:
                talk_tab(open_talk)
        _wire(blocks, components, Actions(library))
    return blocks


def _markup(script: str | None = None, name: str | None = None) -> Any:
    return gr.HTML(apply_default_css=False, js_on_load=script, elem_id=name)


def _bar(components: Components, configs: Sequence[str]) -> None:
    with gr.Row(elem_id="sr-bar"):
        components["config"] = gr.Dropdown(
            list(configs), value=configs[0], label="Config", elem_id="sr-config", min_width=165
        )
        components["split"] = gr.Dropdown([], label="Split", elem_id="sr-split", min_width=110)
        components["task"] = gr.Dropdown(
            [ALL], value=ALL, label="Task", elem_id="sr-task", min_width=165, visible=False
        )
        hint = "a row, a conversation, or words"
        components["find"] = gr.Textbox(
            label="Find", placeholder=hint, elem_id="sr-find", scale=3, min_width=240, max_lines=1
        )
        components["go"] = _button("Find", "sr-find-go")
        for step, label in _STEPS.items():
            components[step] = _button(label, f"sr-{step.replace('_', '-')}")


def _button(label: str, name: str) -> Any:
    return gr.Button(label, elem_id=name, elem_classes="sr-step", scale=0, min_width=40)


def _listen(components: Components) -> None:
    with gr.Tab("Listen", id=LISTEN) as components["listen_tab"]:
        components["hits"] = _markup(_SELECT, "sr-hits")
        components["more"] = gr.Button(
            "Search on", visible=False, elem_id="sr-more", elem_classes="sr-more", size="sm"
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=340):
                components["chat"] = _markup(_SELECT + _SCROLL)
            with gr.Column(scale=7, min_width=420):
                components["turn"] = _markup(_ADDRESS)


def _wire(blocks: gr.Blocks, components: Components, actions: Actions) -> None:
    """Bind each event to its action: the components whose values it takes, and those that it changes."""
    on = partial(_on, components)
    results = (*_SHOWN, "hits", "more", "search")
    tabs = ("tab", "numbers", "ledger")
    chosen = (*_SHOWN, *tabs, "split", "task", "head", "hits", "more", "search", "reason")
    # Bound first: Gradio handles an event in the order in which its actions were bound.
    steps = [components[step].click for step in get_args(Step)]
    for event in (components["find"].submit, components["go"].click, components["numbers"].select, *steps):
        event(None, js=_TO_LISTEN)
    for event in (components["find"].submit, components["go"].click):
        on(event, actions.search, (*_CHOICE, "at", "find"), results, shows_progress=True)
    on(components["more"].click, actions.search_on, (*_CHOICE, "search"), results, shows_progress=True)
    on(components["config"].input, actions.choose_config, (*_CHOICE, "tab"), chosen, chooses=True)
    on(
        blocks.load,
        actions.open_address,
        ("config", "tab"),
        ("config", *chosen),
        chooses=True,
        takes="address",
    )
    for event in (components["split"].input, components["task"].input):
        on(event, actions.choose, (*_CHOICE, "tab"), chosen, chooses=True)
    for name in ("chat", "hits", "numbers"):
        on(components[name].select, actions.select, _CHOICE, _SHOWN, takes="row")
    for step in get_args(Step):
        on(components[step].click, partial(actions.step, step=step), (*_CHOICE, "at"), _SHOWN)
    for tab in (LISTEN, NUMBERS, LEDGER):
        opened = partial(actions.open_tab, tab=tab)
        on(components[f"{tab}_tab"].select, opened, (*_CHOICE, "reason"), tabs, shows_progress=True)
    on(components["reason"].input, partial(actions.open_tab, tab=LEDGER), (*_CHOICE, "reason"), tabs)


def _on(
    components: Components,
    bind: Any,
    action: Callable[..., Values],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    takes: Literal["row", "address"] | None = None,
    shows_progress: bool = False,
    chooses: bool = False,
) -> None:
    """Bind an event to an action on the values of `inputs`; it may take the row clicked, or the address.

    An action that `chooses` makes whatever still runs of the same visitor too late.
    """
    guarded = _guarded(action, components, outputs, chooses=chooses)

    def clicked(visit: _Visit, config: str, split: str, task: str, event: gr.EventData) -> dict[Any, Any]:
        return guarded(visit, config, split, task, int(event.row))

    def addressed(visit: _Visit, config: str, tab: str, request: gr.Request) -> dict[Any, Any]:
        return guarded(visit, config, tab, dict(request.query_params))

    bind(
        {"row": clicked, "address": addressed, None: guarded}[takes],
        [components[name] for name in ("visit", *inputs)],
        [components[name] for name in outputs],
        show_progress="minimal" if shows_progress else "hidden",
        api_visibility="private",
        preprocess=False,  # a choice that another control has just replaced is no error
    )


def _guarded(
    action: Callable[..., Values], components: Components, outputs: Sequence[str], *, chooses: bool
) -> Callable[..., dict[Any, Any]]:
    """Wrap an action for Gradio: errors are shown in the page as text, for Gradio's toasts take markup.

    What ends after another choice was made changes nothing. (Gradio's own `cancels` does not hold that: it
    asks for a cancellation by a number that the page may not have been told yet.)
    """
    shown_in = "turn" if "turn" in outputs else outputs[-1]

    def run(visit: _Visit, *inputs: Any) -> Any:
        visit.choices += chooses
        choice = visit.choices
        try:
            values = action(*inputs)
        except (SpeechRowsError, OSError) as error:  # a store that does not answer, too
            values = {shown_in: html.trouble(error)}
        if visit.choices != choice or not values:
            return gr.skip()  # Gradio takes no empty dict
        return {components[name]: value for name, value in values.items()}

    return run
