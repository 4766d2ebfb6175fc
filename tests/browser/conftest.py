"""A browser and the page, for the tests of this folder: `make test-all`."""

import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from servers import free_port, serving


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: $CHROME_PATH, else the system's, else Playwright's own."""
    path = os.environ.get("CHROME_PATH") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_address() -> Iterator[str]:
    """Where `atelier serve` serves the page."""
    port = free_port()
    command = [sys.executable, "-m", "atelier", "serve", "--port", str(port), "--preset", "laptop"]
    with serving(command, port) as address:
        yield address
