"""The page's drawing in a notebook: a prompt, a button, and the pictures while they are drawn."""

from __future__ import annotations

import html

import ipywidgets as widgets

from atelier.drawing.pipeline import Pipeline, SamplingOptions
from atelier.errors import AtelierError
from atelier.page.gallery import COUNTS, pictures_html
from atelier.teaching.room import send_drawing

WIDE = widgets.Layout(width="min(42em, 95%)")


def drawing_panel(pipe: Pipeline, prompt: str = "the Eiffel tower landing on the moon") -> widgets.VBox:
    """A panel that draws the prompt typed into it; a cell shows it if it is the last expression.

    After `join_room`, the best picture is sent to the room.

    Args:
        pipe: draws the pictures.
        prompt: the text at the start.
    """
    words = widgets.Text(prompt, description="Prompt", layout=WIDE)
    count = widgets.Dropdown(options=COUNTS, value=9, description="Pictures")
    seed = widgets.Text("", description="Seed", placeholder="empty: another each time")
    guidance = widgets.FloatSlider(pipe.sampling.guidance, min=0, max=10, step=0.1, description="Guidance")
    temperature = widgets.FloatSlider(pipe.sampling.temperature, min=0, max=2, step=0.05, description="Temperature")
    button = widgets.Button(description="DRAW", button_style="warning")
    line, pictures = widgets.HTML(), widgets.HTML(layout=WIDE)

    def draw(_: object) -> None:
        button.disabled = True
        chosen: SamplingOptions = {"guidance": guidance.value, "temperature": temperature.value}
        try:
            for step in pipe.stream(words.value, n=count.value, seed=_parse_seed(seed.value), **chosen):
                line.value = f"drawing … {step.progress:.0%}"
                pictures.value = pictures_html(step)
            line.value = html.escape(" ".join([f"Seed {step.seed}, the best first.", *step.remarks]))
            if told := send_drawing(step):
                line.value += f" {html.escape(told)}"
        except AtelierError as fault:
            line.value, pictures.value = f"<b>{html.escape(str(fault))}</b>", ""
        finally:
            button.disabled = False

    button.on_click(draw)
    return widgets.VBox([words, widgets.HBox([count, seed]), guidance, temperature, button, line, pictures])


def _parse_seed(text: str) -> int | None:
    """The number in a text field, or None for an empty one."""
    if not text.strip():
        return None
    if not text.strip().isdecimal():
        raise AtelierError(f"The seed is {text!r}; give a whole number from 0, or leave it empty.")
    return int(text)
