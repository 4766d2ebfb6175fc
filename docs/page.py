"""Take the picture of the page for README.md: `make pictures`. It needs Chromium."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "slides"))

from chromium import chromium  # noqa: E402  (it needs the folder named above)
from pictures import JPEG  # noqa: E402

PORT = 7861
WAIT = 120_000  # milliseconds for a drawing


@contextmanager
def served() -> Generator[str]:
    """Serve the page; the value is its address."""
    command = [sys.executable, "-m", "atelier", "serve", "--preset", "studio", "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        server.stdout.readline()  # printed as soon as it accepts connections
        yield f"http://127.0.0.1:{PORT}/"
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    """Write page.jpg beside this file: the page with nine pictures of a prompt."""
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        page.goto(address)
        for name in ("strawberry", "blue", "stained glass"):
            page.click(f".chip[data-name='{name}']")
        page.fill("#seed", "0")
        page.click("#draw")
        page.wait_for_selector("#pictures .best", timeout=WAIT)
        page.locator("header").hover()
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            shot.convert("RGB").save(HERE / "page.jpg", **JPEG)
        browser.close()


if __name__ == "__main__":
    main()
