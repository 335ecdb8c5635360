"""The tab in which a visitor talks with a trained model, turn after turn."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import Protocol

import gradio as gr
import soundfile

from speechrows.errors import SpeechRowsError
from speechrows.preview import html


class Talk(Protocol):
    """A conversation with a model."""

    def hear(self, clip: bytes) -> tuple[str, bytes | None]:
        """Hear the next turn; its answer, and a WAV of that where the model speaks."""
        ...


@dataclass(slots=True)
class _Visit:
    """What a visitor has of their conversation."""

    talk: Talk
    answers: list[str] = field(default_factory=list)

    def hear(self, path: str | None) -> tuple[str, bytes | None]:
        """Hear the clip of a file, or nothing; the conversation as markup, and a WAV of the answer."""
        wav = None
        if path is not None:
            try:
                text, wav = self.talk.hear(Path(path).read_bytes())
            except (SpeechRowsError, OSError) as error:
                return html.trouble(error), None
            self.answers.append(text)
        return html.render("talk.html", turns=self.answers), wav


def talk_tab(open_talk: Callable[[], Talk]) -> None:
    """Add the tab: each visitor has a conversation of their own."""
    with gr.Tab("Talk", id="talk"), gr.Row():
        with gr.Column(scale=5, min_width=340):
            clip = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label="Your turn",
                elem_id="sr-clip",
                buttons=["download"],
            )
            answer = gr.Button("Answer", elem_id="sr-answer", variant="primary")
            anew = gr.Button("New conversation", elem_id="sr-anew")
        with gr.Column(scale=7, min_width=420):
            answers = gr.HTML(html.render("talk.html", turns=[]), apply_default_css=False, elem_id="sr-talk")
            voice = gr.Audio(
                label="Answer", visible=False, interactive=False, elem_id="sr-voice", buttons=["download"]
            )
    visit = gr.State(None, time_to_live=3600)

    def hear(path: str | None, visit: _Visit | None) -> tuple[Any, ...]:
        visit = visit or _Visit(open_talk())
        shown, wav = visit.hear(path)
        if wav is None:
            return visit, shown, gr.skip()
        samples, rate = soundfile.read(io.BytesIO(wav), dtype="int16")
        return visit, shown, gr.Audio((rate, samples), visible=True)

    def begin_anew() -> tuple[Any, ...]:
        return None, html.render("talk.html", turns=[]), gr.Audio(None, visible=False), None

    # One at a time, of all visitors: they have one model.
    answer.click(hear, [clip, visit], [visit, answers, voice], api_visibility="private", concurrency_limit=1)
    anew.click(begin_anew, None, [visit, answers, voice, clip], api_visibility="private")
