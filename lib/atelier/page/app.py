"""The page with the DRAW button: `atelier serve`. It needs no network and gives no access to the machine's files."""

from __future__ import annotations

import html
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import gradio as gr

from atelier.drawing.attention import attention_to_words
from atelier.drawing.pipeline import Drawing, Pipeline, best_preset
from atelier.errors import AtelierError
from atelier.page.gallery import COUNTS, grid_link, inside_html, pictures_html, settings
from atelier.weights.preset import load_preset, log_skipped, readable_presets

MOST_CHARACTERS = 500
LARGEST_SEED = 2**31 - 1
EXAMPLES = (
    "the Eiffel tower landing on the moon",
    "a stained glass window with an image of a blue strawberry",
    "sunset over a lake in the mountains",
    "a photo of the food of china",
    "a cartoon of a green cat in the snow",
)
# System fonts: the fonts of Gradio's themes would be loaded from the network.
FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]
MONO = ["ui-monospace", "monospace"]
CSS = """
.gradio-container { max-width: 1000px !important; margin: 0 auto; }
#draw { min-width: 8rem; font-weight: 700; letter-spacing: .06em; color: #1F2937; }
#title h1 { margin-bottom: 0; }
footer { display: none !important; }
"""
LAUNCH_OPTIONS: dict[str, Any] = {  # the appearance of the page
    "theme": gr.themes.Soft(primary_hue="amber", font=FONTS, font_mono=MONO),
    "css": CSS,
    "footer_links": [],
}


class PageError(AtelierError):
    """A request to the page cannot be fulfilled; the message says why in one sentence."""


class PortError(PageError, OSError):
    """The page cannot be served at an address and port."""


@lru_cache(maxsize=2)
def pipeline(preset: str) -> Pipeline:
    """Load the pipeline of a preset; the last two are kept in memory."""
    return Pipeline.from_pretrained(preset)


def drawable_presets() -> list[str]:
    """List the names of the complete and readable presets."""
    readable, _ = readable_presets()
    return [name for name, preset in readable.items() if preset.complete]


def validated(
    prompt: str, seed: float | None, guidance: float, temperature: float, n: int, preset: str
) -> dict[str, Any]:
    """Check a request, which may come from a program instead of the page's controls.

    Returns:
        The arguments of `Pipeline.stream`.

    Raises:
        PageError: if a value is out of range.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise PageError("The prompt is empty; say what to draw.")
    if len(prompt) > MOST_CHARACTERS:
        raise PageError(f"The prompt has {len(prompt):,} characters; give at most {MOST_CHARACTERS}.")
    if preset not in drawable_presets():
        raise PageError(f"There is no preset {str(preset)[:40]!r} here; choose one from the list.")
    if n not in COUNTS:
        raise PageError(f"Draw {', '.join(map(str, COUNTS))} pictures, not {n!r}.")
    if seed is not None and not (_within(seed, 0, LARGEST_SEED) and seed == int(seed)):
        raise PageError(f"The seed is {seed}; give a whole number from 0 to {LARGEST_SEED}, or leave it empty.")
    if not _within(guidance, 0, 10) or not _within(temperature, 0, 2):
        raise PageError("Give a guidance from 0 to 10 and a temperature from 0 to 2.")
    seed = None if seed is None else int(seed)
    return {"prompt": prompt, "seed": seed, "guidance": guidance, "temperature": temperature, "n": n}


def _within(number: Any, low: float, high: float) -> bool:
    return isinstance(number, int | float) and low <= number <= high


Update = tuple[str, str, Drawing | None]


def draw(prompt: str, seed: float | None, guidance: float, temperature: float, n: int, preset: str) -> Iterator[Update]:
    """Stream a drawing to the page.

    Yields:
        The HTML of the pictures, the status line, and the drawing, which is None until it is finished.
    """
    try:
        request = validated(prompt, seed, guidance, temperature, n, preset)
        for step in pipeline(preset).stream(**request):
            finished = step.progress >= 1
            facts = settings(step, preset=preset, guidance=guidance, temperature=temperature)
            yield pictures_html(step, facts), status(step, facts), step if finished else None
    except AtelierError as fault:
        yield "", f'<p role="alert"><b>{html.escape(str(fault))}</b></p>', None


def status(step: Drawing, facts: dict[str, Any]) -> str:
    """Make the status line: the progress, or for a finished drawing its seed, its remarks, and a link to save it."""
    if step.progress < 1:
        return f'<p role="status">drawing … {step.progress:.0%}</p>'
    ranking = "the best first, by CLIP’s score" if step.scores else "not ranked"
    remarks = " ".join(map(html.escape, step.remarks))
    return f'<p role="status">Seed {step.seed}, {ranking}. {grid_link(step, facts)} {remarks}</p>'


def look_inside(drawing: Drawing | None, place: int, preset: str) -> str:
    """Show the codes of a picture and their attention to the words of the prompt.

    Args:
        drawing: the last drawing of the page; None if there is none.
        place: of the picture in the drawing, from 1.
        preset: that the drawing was made with.

    Returns:
        HTML.
    """
    if drawing is None:
        return "Draw something first."
    place = min(max(int(place), 1), len(drawing.pictures))
    return inside_html(drawing, attention_to_words(pipeline(preset), drawing.prompt, drawing.codes), place - 1)


def build_page(preset_first: str | None = None) -> gr.Blocks:
    """Build the page without serving it.

    Args:
        preset_first: the preset that is selected first; None selects the best.

    Returns:
        The page.

    Raises:
        PresetError: if there is no such preset, or no complete preset.
    """
    if preset_first is None:
        first = best_preset().folder.name  # also logs the presets that it skips
    else:
        first = preset_first if preset_first in drawable_presets() else load_preset(preset_first).name
        log_skipped(readable_presets()[1])
    defaults = pipeline(first).sampling
    with gr.Blocks(title="Atelier", analytics_enabled=False) as page:
        gr.Markdown("# Atelier\nType a prompt, press DRAW. Nine pictures, the best first.", elem_id="title")
        last_drawing = gr.State(None)
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(
                value=EXAMPLES[0],
                label="Prompt",
                placeholder="a cartoon of a green cat in the snow",
                lines=1,
                scale=5,
                max_length=MOST_CHARACTERS,
                elem_id="prompt",
            )
            button = gr.Button("DRAW", variant="primary", scale=1, elem_id="draw")
        gr.Examples(
            [[example] for example in EXAMPLES], inputs=prompt, label="Or take one of these", cache_examples=False
        )
        line = gr.HTML("", elem_id="status")
        pictures = gr.HTML("", elem_id="pictures")
        with gr.Accordion("Settings", open=False):
            with gr.Row():
                preset = gr.Dropdown(drawable_presets(), value=first, label="Preset")
                count = gr.Radio(COUNTS, value=9, label="Pictures")
                seed = gr.Number(None, label="Seed (empty: another each time)", precision=None, minimum=0)
            with gr.Row():
                guidance = gr.Slider(0, 10, defaults.guidance, step=0.1, label="Guidance: how much the prompt counts")
                temperature = gr.Slider(0, 2, defaults.temperature, step=0.05, label="Temperature: how much chance")
        with gr.Accordion("Look inside", open=False):
            place = gr.Slider(1, 9, 1, step=1, label="Picture")
            look = gr.Button("Show its codes, and the words they looked at", elem_id="look")
            inside = gr.HTML("", elem_id="inside")
        inputs = [prompt, seed, guidance, temperature, count, preset]
        outputs = [pictures, line, last_drawing]
        for event in (button.click, prompt.submit):
            event(draw, inputs, outputs, show_progress="hidden", concurrency_id="draw", concurrency_limit=1)
        look.click(look_inside, [last_drawing, place, preset], inside, show_progress="hidden")
    return page


def serve(host: str = "127.0.0.1", port: int = 7860, preset: str | None = None, open_browser: bool = False) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host: address to listen at; 0.0.0.0 allows other machines.
        port: to listen at.
        preset: the preset that is selected first; None selects the best.
        open_browser: whether to open the page in a browser.

    Raises:
        PresetError: as for `build_page`.
        PortError: if the port is in use, or if the address is not this machine's.
    """
    page = build_page(preset).queue(max_size=64)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            quiet=True,
            max_file_size=1,
            **LAUNCH_OPTIONS,
        )
    except OSError as fault:
        raise PortError(
            f"The page cannot be served at {host}:{port}; give another --port or --host. ({fault})"
        ) from fault
