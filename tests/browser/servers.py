"""Start a server for a test, wait until it answers, end it."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

PATIENCE = 120  # seconds for a server to answer


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


@contextmanager
def serving(command: list[str], port: int, path: str = "", **process: Any) -> Generator[str]:
    """The address of a server that a command starts at a port; it answers at the path as soon as it is ready."""
    address = f"http://127.0.0.1:{port}/"
    server = subprocess.Popen(command, **process)
    try:
        wait_for(address + path, server)
        yield address
    finally:
        server.terminate()
        server.wait(30)


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
