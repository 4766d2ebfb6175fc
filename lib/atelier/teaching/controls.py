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

VIEW = "application/vnd.jupyter.widget-view+json"
Control = widgets.IntSlider | widgets.FloatSlider | widgets.SelectionSlider | widgets.Dropdown | widgets.Text
SHOWN: list[Control] = []  # what `explore` has shown in this process, for `try_controls`


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


def entry(value: str, label: str = "") -> Control:
    """A line to type into; what is typed counts when Enter is pressed."""
    return widgets.Text(
        value=value,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="min(36em, 95%)"),
    )


def explore(draw: Callable[..., tuple[Figure | Image.Image, str]], **controls: Control) -> None:
    """Show a picture and the controls that change it; where no controls can be, on a page, the picture alone.

    Args:
        draw: takes the controls' values by name, and returns the picture and the words that stand for it.
        **controls: made by `slider`, `choice` or `entry`.
    """
    SHOWN.extend(controls.values())
    made = panel(draw, **controls)
    view = {"version_major": 2, "version_minor": 0, "model_id": made.model_id}  # as ipywidgets 8 says it; 7 cannot
    bundle = {"text/plain": "controls, and the picture that they change", VIEW: view}
    display({**bundle, "text/html": made.children[-1].value}, raw=True)


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


def try_controls() -> None:
    """Move each control that `explore` has shown to its ends, and put it back. Raises whatever its picture raises.

    A learner moves them when all cells have run: the picture must not need a name that a later cell gave away.
    """
    for control in SHOWN:
        before = control.value
        if isinstance(control, widgets.SelectionSlider | widgets.Dropdown):
            for place in range(len(control.options)):
                control.index = place
        elif isinstance(control, widgets.Text):
            control.value, control.value = "", "🦒 any words at all"
        else:
            control.value, control.value = control.min, control.max
        control.set_trait("value", before)


def _as_html(picture: Figure | Image.Image, alt: str) -> str:
    made = described(picture, alt)
    data = base64.b64encode(made.png).decode()
    return (
        f'<img alt="{html.escape(alt, quote=True)}" width="{made.width}" style="max-width: 100%; height: auto" '
        f'src="data:image/png;base64,{data}">'
    )
