"""Controls that change a picture: ipywidgets, and a picture with its alternative text."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from atelier.teaching.figures import with_alt_text

VIEW = "application/vnd.jupyter.widget-view+json"
Control = widgets.IntSlider | widgets.FloatSlider | widgets.SelectionSlider | widgets.Dropdown | widgets.Text
SHOWN_CONTROLS: list[Control] = []  # the controls that `explore` has shown in this process, for `try_controls`


def slider(low: float, high: float, value: float, step: float = 0.1, label: str = "") -> Control:
    """A slider for a number.

    Args:
        low, high: its ends.
        value: at the start.
        step: between two values. The slider is for whole numbers if this and the three numbers above are whole.
        label: before the slider.
    """
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
    """A menu.

    Args:
        options: values, or pairs of a name and a value.
        value: at the start; None chooses the first.
        label: before the menu.
    """
    chosen = {} if value is None else {"value": value}
    return widgets.Dropdown(
        options=list(options),
        description=label,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="min(28em, 95%)"),
        **chosen,
    )


def entry(value: str, label: str = "") -> Control:
    """A text field, whose text takes effect when Enter is pressed.

    Args:
        value: the text at the start.
        label: before the field.
    """
    return widgets.Text(
        value=value,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="min(36em, 95%)"),
    )


def explore(draw: Callable[..., tuple[Figure | Image.Image, str]], **controls: Control) -> None:
    """Show a picture and the controls that change it; a static page shows the picture alone.

    Args:
        draw: takes the controls' values by name, and returns the picture and its alternative text.
        **controls: made by `slider`, `choice` or `entry`.
    """
    SHOWN_CONTROLS.extend(controls.values())
    box = panel(draw, **controls)
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}  # written out: ipywidgets 7 has no method
    bundle = {"text/plain": "controls, and the picture that they change", VIEW: view}
    display({**bundle, "text/html": box.children[-1].value}, raw=True)


def panel(draw: Callable[..., tuple[Figure | Image.Image, str]], **controls: Control) -> widgets.VBox:
    """The widget that `explore` shows: the controls, and below them the picture."""
    picture = widgets.HTML()

    def redraw(_: object = None) -> None:
        image, alt = draw(**{name: control.value for name, control in controls.items()})
        picture.value = _as_html(image, alt)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return widgets.VBox([*controls.values(), picture])


def try_controls() -> None:
    """Move each control that `explore` has shown to its ends, and back.

    Learners move the controls after all cells have run, so the functions that draw must still work then: they may not
    use a name to which a later cell assigns something else.

    Raises:
        Exception: any that drawing a picture raises.
    """
    for control in SHOWN_CONTROLS:
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
    described = with_alt_text(picture, alt)
    data = base64.b64encode(described.png).decode()
    return (
        f'<img alt="{html.escape(alt, quote=True)}" width="{described.width}" style="max-width: 100%; height: auto" '
        f'src="data:image/png;base64,{data}">'
    )
