"""Take the picture of the page for README.md: `make pictures`. It needs Chromium."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from atelier.page.app import LAUNCH_OPTIONS, build_page
from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "slides"))

from chromium import chromium  # noqa: E402  (it needs the folder named above)

PROMPT = "a stained glass window with an image of a blue strawberry"
FINISHED = "#pictures .atelier-grid:not(.unfinished)"


def main() -> None:
    """Write page.png beside this file: the page with nine pictures of a prompt."""
    _, address, _ = build_page("laptop").queue().launch(prevent_thread_lock=True, quiet=True, **LAUNCH_OPTIONS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 1280})
        page.goto(address)
        page.fill("#prompt textarea, #prompt input", PROMPT)
        settings = page.get_by_role("button", name="Settings")
        settings.click()
        page.get_by_label("Seed").fill("0")
        settings.click()
        page.click("#draw")
        page.wait_for_selector(FINISHED, timeout=120_000)
        page.wait_for_timeout(500)
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            shot.convert("RGB").quantize(256).save(HERE / "page.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
