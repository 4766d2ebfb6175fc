"""A browser and the page, for the tests of this folder: `make test-all`."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90  # seconds for a server to answer


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: $CHROME_PATH, else the system's, else Playwright's own."""
    path = os.environ.get("CHROME_PATH") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def wait_for(address: str, server: subprocess.Popen) -> None:
    """Until the address answers. Raises RuntimeError if the server ends, or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"The server of {address} ended with {server.returncode}.")
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{address} did not answer in {PATIENCE} seconds.")


@pytest.fixture(scope="session")
def page_address() -> Iterator[str]:
    """Where `atelier serve` serves the page."""
    port = free_port()
    command = [sys.executable, "-m", "atelier.cli", "serve", "--port", str(port), "--preset", "laptop"]
    server = subprocess.Popen(command, cwd=ROOT)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(20)
