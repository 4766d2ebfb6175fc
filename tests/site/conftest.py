"""The site, newly built and served: `make test-all`. docs/site must have its node_modules."""

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import browser

BUILDER = Path(__file__).resolve().parents[2] / "docs" / "site" / "make_site.py"
sys.path.insert(0, str(BUILDER.parent))

__all__ = ["browser"]  # a fixture of this folder, too


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. A build with a warning fails."""
    target = tmp_path_factory.mktemp("site")
    built = subprocess.run([sys.executable, str(BUILDER), "--target", str(target)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return target / "html"


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address at which the site is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
