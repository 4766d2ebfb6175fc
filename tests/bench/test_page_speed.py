"""The time until the page shows pictures, by the browser's clock: part of `make bench`. It needs Chromium."""

import subprocess
import sys
from collections.abc import Iterator
from statistics import median

import pytest
from playwright.sync_api import Browser

PORT = "7863"
# Milliseconds from the press of DRAW to the first pictures, unfinished, and to nine finished ones.
TIMES = """() => new Promise((done) => {
  const pictures = document.querySelector("#pictures"), start = performance.now();
  let first = null;
  new MutationObserver((_, watcher) => {
    first ??= pictures.querySelector("img") && performance.now() - start;
    if (pictures.querySelectorAll(".picture").length < 9) return;
    watcher.disconnect();
    done([first, performance.now() - start]);
  }).observe(pictures, { childList: true, subtree: true });
  pictures.replaceChildren();
  document.querySelector("#draw").click();
})"""


@pytest.fixture
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "atelier", "serve", "--preset", "laptop", "--port", PORT]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    yield f"http://127.0.0.1:{PORT}/"
    server.terminate()
    server.wait(30)


def test_pictures_on_the_page(note, browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector(".chip")
    taken = [page.evaluate(TIMES) for _ in range(4)][1:]  # the first one warms up
    first, whole = (median(times) / 1000 for times in zip(*taken, strict=True))
    note("the page: from DRAW to the first pictures, laptop, CPU", first)
    note("the page: from DRAW to nine ranked pictures, laptop, CPU", whole)
    assert first <= 2
    assert whole <= 5
    page.close()
