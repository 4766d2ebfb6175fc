"""Listening at an address of this machine: sockets, the URLs under which they are reached, and the web server."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from types import FrameType

import psutil
import uvicorn
from starlette.types import ASGIApp

from atelier.page.faults import PortError

MAX_CONNECTIONS = 1000


class WebServer(uvicorn.Server):
    """A server that calls a function when Ctrl-C or another signal ends it, before its connections are closed."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None] | None) -> None:
        super().__init__(config)
        self.ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.ending:
            self.ending()
        super().handle_exit(sig, frame)


def web_server(
    application: ASGIApp, behind_proxy: bool = False, ending: Callable[[], None] | None = None
) -> uvicorn.Server:
    """Make the server of a web application.

    Args:
        application: the application.
        behind_proxy: whether all visitors connect through a proxy that gives their addresses in X-Forwarded-For.
        ending: is called when Ctrl-C or another signal ends the server.
    """
    config = uvicorn.Config(
        application,
        log_level="warning",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="*" if behind_proxy else None,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    return WebServer(config, ending)


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that accepts connections.

    Raises:
        PortError: if the port is in use or not allowed, if the address does not belong to this machine, or if the
            system reports another error. The message says what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # on Windows, this option lets two programs share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(256)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as fault:
        raise PortError(_listen_error(host, port, fault)) from fault
    return listener


def _listen_error(host: str, port: int, fault: Exception) -> str:
    """Explain why the page cannot listen at an address and port."""
    code = getattr(fault, "errno", None)
    if code == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return (
            f"Port {port} is used by another program, perhaps by another `atelier serve` or `atelier room`. "
            f"End that program, or choose another port: --port {other}."
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"You may not use port {port}; ports below 1024 need special rights. Choose another: --port 7860."
    reason = (getattr(fault, "strerror", None) or str(fault)).rstrip(".")
    address = with_port(host, port)
    if code == errno.EADDRNOTAVAIL or isinstance(fault, socket.gaierror | UnicodeError):
        return (
            f"The page cannot be served at {address}: this is not an address of this machine ({reason}). "
            "Leave --host out, or give 0.0.0.0 to allow other machines."
        )
    return f"The page cannot be served at {address}: {reason}. Choose another --host or --port."


def page_urls(listener: socket.socket) -> list[str]:
    """List the URLs of the page: the loopback address first, then this machine's addresses in its networks."""
    host, port = listener.getsockname()[:2]
    if not ip_address(host).is_unspecified:
        return [f"http://{with_port(host, port)}"]
    return [f"http://{with_port(address, port)}" for address in ("127.0.0.1", *network_addresses())]


def network_addresses() -> list[str]:
    """List this machine's IPv4 addresses that other machines may be able to reach."""
    found = [each.address for card in psutil.net_if_addrs().values() for each in card if each.family == socket.AF_INET]
    return [address for address in found if not ip_address(address).is_loopback]


def with_port(host: str, port: int) -> str:
    """Join an address and a port; an IPv6 address is put in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only programs on this machine can connect."""
    return ip_address(listener.getsockname()[0]).is_loopback
