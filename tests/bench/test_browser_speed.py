"""Drawing in a browser with the site's scripts, by the browser's own clock. docs/site must have its node_modules."""

import functools
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import watched
from playwright.sync_api import Browser, expect

SITE = Path(__file__).resolve().parents[2] / "docs" / "site"
sys.path.insert(0, str(SITE))

import make_site  # noqa: E402  (it needs the folder named above)

PROMPT = "a stained glass window with an image of a blue strawberry"
MINUTE = 60_000  # milliseconds
PAGE = f"""<!doctype html><meta charset="utf-8"><title>Draw</title>
<div data-draw data-pictures="9" data-prompts='["{PROMPT}"]'></div>
<script type="module" src="_static/drawing/draw.js"></script>"""
WATCH = """() => {
  const start = performance.now();
  window.taken = {};
  const look = () => {
    const seconds = (performance.now() - start) / 1000;
    const labels = [...document.querySelectorAll('.pictures canvas')].map(each => each.getAttribute('aria-label'));
    if (labels.some(label => /picture 1(, score.*)?$/.test(label))) window.taken.first ??= seconds;
    if (/pictures in/.test(document.querySelector('p.status').textContent)) window.taken.nine = seconds;
    else requestAnimationFrame(look);
  };
  document.querySelector('button.draw').click();
  requestAnimationFrame(look);
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder with the controls, the scripts and the models of the site, served."""
    folder = tmp_path_factory.mktemp("site")
    make_site.vendor(folder / "_static")
    (folder / "draw.html").write_text(PAGE, encoding="utf-8")
    (folder / "favicon.ico").touch()
    (folder / "service-worker.js").write_text((SITE / "drawing" / "service-worker.js").read_text(encoding="utf-8"))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_nine_pictures_in_a_browser(note, browser: Browser, address: str) -> None:
    with watched(browser) as (page, _):
        page.goto(address + "draw.html")
        expect(page.locator("p.status")).to_have_text("Ready.", timeout=MINUTE)
        loaded = page.evaluate("performance.now() / 1000")
        page.evaluate(WATCH)
        page.wait_for_function("window.taken.nine", timeout=MINUTE)
        taken = page.evaluate("window.taken")
    note("the site's page, loading laptop, chromium", loaded)
    note("the site's page, the first picture, laptop, chromium", taken["first"])
    note("the site's page, nine ranked pictures, laptop, chromium", taken["nine"])
    assert taken["first"] <= 3
    assert taken["nine"] <= 10
