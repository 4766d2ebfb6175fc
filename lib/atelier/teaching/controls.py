"""Controls that change a picture: ipywidgets, with the picture's words beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from atelier.teaching.figures import described

Control = widgets.ValueWidget


def slider(low: float, high: float, value: float, step: float = 0.1, label: str = "") -> Control:
    """A slider for a number; for whole numbers if all four are whole."""
    whole = all(isinstance(number, int) for number in (low, high, value, step))
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(
        value=value,
        min=low,
        max=high,
        step=step,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="min(28em, 95%)"),
    )


def choice(options: Sequence[Any] | Sequence[tuple[str, Any]], value: Any = None, label: str = "") -> Control:
    """A menu; options are values, or pairs of a name and a value."""
    chosen = {} if value is None else {"value": value}
    return widgets.Dropdown(
        options=list(options),
        description=label,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="min(28em, 95%)"),
        **chosen,
    )


def explore(draw: Callable[..., tuple[Figure | Image.Image, str]], **controls: Control) -> None:
    """Show a picture and the controls that change it.

    Args:
        draw: takes the controls' values by name, and returns the picture and the words that stand for it.
        **controls: made by `slider` or `choice`.
    """
    display(panel(draw, **controls))


def panel(draw: Callable[..., tuple[Figure | Image.Image, str]], **controls: Control) -> widgets.VBox:
    """The widget that `explore` shows: the controls, and under them the picture."""
    picture = widgets.HTML()

    def redraw(_: object = None) -> None:
        drawn, alt = draw(**{name: control.value for name, control in controls.items()})
        picture.value = _as_html(drawn, alt)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return widgets.VBox([*controls.values(), picture])


def _as_html(picture: Figure | Image.Image, alt: str) -> str:
    made = described(picture, alt)
    data = base64.b64encode(made.png).decode()
    return (
        f'<img alt="{html.escape(alt, quote=True)}" width="{made.width}" style="max-width: 100%; height: auto" '
        f'src="data:image/png;base64,{data}">'
    )
