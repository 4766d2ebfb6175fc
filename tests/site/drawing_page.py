"""The page that draws, for tests: opens it, waits, and compares with the library."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

SECONDS = 120_000  # milliseconds to wait for a model to load, or for a drawing
PAINTER = """
const painting = async (address, folder) => {
  const { Painter, listOfModels } = await import(address + '_static/drawing/painter.js');
  const painter = new Painter();
  await painter.load(await listOfModels(), folder);
  return painter;
};
"""


def open_ready(page: Page, address: str) -> None:
    """Open the page that draws, and wait until its model is loaded."""
    page.goto(address + "draw.html")
    expect(page.locator("p.status")).to_have_text("Ready.", timeout=SECONDS)


def control(page: Page, name: str) -> Locator:
    """The control with a name: prompt, seed, guidance or temperature."""
    role: Any = {"prompt": "textbox", "seed": "spinbutton"}.get(name, "slider")
    return page.get_by_role(role, name=re.compile(f"^{name}", re.IGNORECASE))


def draw(page: Page, prompt: str, **settings: float) -> list[float]:
    """Fill in the controls, press DRAW, and wait; returns the scores in the order of the pictures."""
    control(page, "prompt").fill(prompt)
    for name, value in settings.items():
        control(page, name).fill(str(value))
    page.get_by_role("button", name="DRAW").click()
    return finished(page)


def finished(page: Page) -> list[float]:
    """Wait for the pictures; returns their scores in their order."""
    expect(page.locator("p.status")).to_contain_text("pictures in", timeout=SECONDS)
    captions = page.locator(".pictures .caption").all_text_contents()
    return [float(caption.split()[1].removesuffix("Save")) for caption in captions]


def pixels(page: Page) -> list[str]:
    """The content of each picture, to compare it with another."""
    return page.evaluate("() => [...document.querySelectorAll('.pictures canvas')].map(each => each.toDataURL())")


def painted(page: Page, address: str, script: str, argument: Any = None, folder: str = "laptop") -> Any:
    """Run a function of a `Painter` that has loaded a folder, and of an argument, in the page."""
    work = f"return ({script})(await painting(address, folder), argument);"
    return page.evaluate(f"async ([address, folder, argument]) => {{ {PAINTER} {work} }}", [address, folder, argument])
