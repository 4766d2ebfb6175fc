"""`atelier serve`: where it listens, what it prints, and that no proxy or variable of the environment changes it."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from atelier.page.faults import PortError
from atelier.page.listening import listen, page_urls
from atelier.page.server import serve
from page_soak import soak
from tiny_preset import filled_preset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    filled_preset(folder / "tiny")
    return folder


def free_port(family: int = socket.AF_INET) -> int:
    with socket.socket(family) as asked:
        asked.bind(("localhost" if family == socket.AF_INET else "::1", 0))
        return asked.getsockname()[1]


@pytest.fixture
def served(data: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen, str]]:
    """`atelier serve`, started with the test's options and environment, and the first line that it prints."""
    options, environment = request.param
    port = str(free_port())
    command = [sys.executable, "-m", "atelier", "serve", "--preset", "tiny", "--port", port, *options]
    server = subprocess.Popen(
        command,
        env=os.environ | {"ATELIER_DATA": str(data)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    yield server, server.stdout.readline()
    server.send_signal(signal.SIGINT)
    rest = server.communicate(timeout=30)[0]
    assert "Traceback" not in rest
    assert server.returncode in (0, 130)  # 130: it was still starting


PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
GRADIO = {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True"}


@pytest.mark.parametrize("served", [([], PROXIES | GRADIO), (["--host", "::1"], {})], indirect=True)
def test_it_prints_its_address_and_draws_there(served: tuple[subprocess.Popen, str]) -> None:
    server, line = served
    assert line.startswith("The page is at http://")
    assert line.endswith("(preset tiny). Press Ctrl-C to end it.\n")
    address = line.split()[4]
    assert server.poll() is None
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = json.dumps({"prompt": "a cat", "n": 1, "seed": 0}).encode()
    request = urllib.request.Request(f"{address}/draw", body, {"Content-Type": "application/json"})
    with direct.open(request, timeout=60) as answer:
        lines = [json.loads(text) for text in answer]
    assert lines[-1]["progress"] == 1


@pytest.mark.parametrize("served", [(["--host", "0.0.0.0"], {})], indirect=True)
def test_a_page_for_other_machines_comes_with_a_warning(served: tuple[subprocess.Popen, str]) -> None:
    server, line = served
    assert line.startswith("The page is at http://127.0.0.1:")
    assert server.stdout is not None
    assert "Everybody who can reach this machine" in server.stdout.readline()


@pytest.mark.parametrize("served", [(["--host", "0.0.0.0"], {"ATELIER_PASSWORD": "geheim"})], indirect=True)
def test_a_page_with_a_password_asks_for_it(served: tuple[subprocess.Popen, str]) -> None:
    _, line = served
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(line.split()[4], timeout=30)


@pytest.mark.parametrize("served", [([], {})], indirect=True)
def test_eight_visitors_at_once_get_their_own_drawings(served: tuple[subprocess.Popen, str]) -> None:
    server, line = served
    outcome = soak(line.split()[4], server.pid, seconds=15)
    assert outcome.faults == []
    assert min(outcome.done[what] for what in ("drawn", "looked inside", "saved", "vanished")) >= 8
    assert outcome.growth < 40


def test_a_port_in_use_is_explained(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATA", str(data))
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=f"Port {port} is used by another program.*--port {port + 1}"):
            next(serve(port=port, preset="tiny"))


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "::ffff", "a" * 70 + ".x", "ä..x"])
def test_an_address_of_another_machine_is_explained(host: str) -> None:
    with pytest.raises(PortError, match=r"this is not an address of this machine \(.+\)\. Leave --host out"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_another_fault_of_the_system_is_not_blamed_on_the_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("atelier.page.listening.socket.socket", no_socket)
    address = f"[{host}]" if ":" in host else host
    with pytest.raises(PortError) as caught:
        listen(host, 7860)
    assert str(caught.value) == (
        f"The page cannot be served at {address}:7860: Too many open files. Choose another --host or --port."
    )


def test_the_addresses_are_those_that_a_browser_can_open() -> None:
    with listen("::1", 0) as own:
        assert page_urls(own) == [f"http://[::1]:{own.getsockname()[1]}"]
    with listen("0.0.0.0", 0) as every:
        port = every.getsockname()[1]
        first, *others = page_urls(every)
        assert first == f"http://127.0.0.1:{port}"
        assert first not in others
