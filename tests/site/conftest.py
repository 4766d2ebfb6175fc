"""The site, newly built and served: `make test-all`. docs/site must have its node_modules."""

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

BUILDER = Path(__file__).resolve().parents[2] / "docs" / "site" / "make_site.py"
sys.path.insert(0, str(BUILDER.parent))


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the built site, which all test processes share. A build with a warning fails."""
    folder = tmp_path_factory.getbasetemp()
    target = (folder if worker_id == "master" else folder.parent) / "site"
    with FileLock(f"{target}.lock"):
        if not target.exists():
            command = [sys.executable, str(BUILDER), "--target", f"{target}.new"]
            built = subprocess.run(command, capture_output=True, text=True)
            assert built.returncode == 0, built.stdout + built.stderr
            Path(f"{target}.new").rename(target)
    return target / "html"


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address at which the site is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
