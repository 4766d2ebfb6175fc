"""The page, for the tests of this folder: `make test-all`."""

import sys
from collections.abc import Iterator

import pytest
from servers import free_port, serving


@pytest.fixture(scope="session")
def page_address() -> Iterator[str]:
    """Where `atelier serve` serves the page."""
    port = free_port()
    command = [sys.executable, "-m", "atelier", "serve", "--port", str(port), "--preset", "laptop"]
    with serving(command, port) as address:
        yield address
