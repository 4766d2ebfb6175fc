"""A browser for tests, and pages that are watched: what they ask for, and what they complain of.

The fixture `browser` of tests/conftest.py starts the browser. `watched` opens a page in it:

    @pytest.fixture
    def page(browser: Browser, address: str) -> Iterator[Page]:
        with watched(browser, viewport={"width": 1200, "height": 1000}) as (page, seen):
            page.goto(address)
            yield page
        assert seen.elsewhere(address) == []
        assert seen.complaints == []
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chromium import chromium
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 120_000  # milliseconds for a page to do something, on a machine that runs other tests besides
expect.set_options(timeout=PATIENCE / 4)


@contextmanager
def started_browser() -> Generator[Browser]:
    """Chromium: the one that is named or the system's, else Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Seen:
    """What a page did: the addresses it asked for, and the errors in its console, both in order."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def elsewhere(self, *own: str) -> list[str]:
        """The addresses that begin with none of its own; what comes from nobody (data:, blob:) is its own."""
        return [url for url in self.requests if not url.startswith((*own, "data:", "blob:"))]


@contextmanager
def watched(browser: Browser, **context: Any) -> Generator[tuple[Page, Seen]]:
    """A new page, and what it does from now on.

    Args:
        browser: opens it.
        context: as for Playwright's `new_context`: viewport, color_scheme, offline, …
    """
    opened = browser.new_context(**context)
    opened.set_default_timeout(PATIENCE)
    page, seen = opened.new_page(), Seen()
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    try:
        yield page, seen
    finally:
        opened.close()
