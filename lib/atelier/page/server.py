"""Serving the page: `atelier serve`."""

from __future__ import annotations

import errno
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import psutil
import uvicorn

from atelier.page.access import Access
from atelier.page.app import build_app
from atelier.page.faults import PortError
from atelier.page.presets import Presets

MAX_CONNECTIONS = 1000


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    preset: str | None = None,
    open_browser: bool = False,
    access: Access | None = None,
    behind_proxy: bool = False,
) -> Iterator[str]:
    """Serve the page until Ctrl-C.

    Args:
        host: the address to listen at; 0.0.0.0 or :: allows other machines.
        port: the port to listen at.
        preset: the name or folder of the preset that is selected first; None: the best preset.
        open_browser: whether to open the page in a browser.
        access: who may use the page; None: everybody who can reach it.
        behind_proxy: whether all visitors connect through a proxy that gives their addresses in X-Forwarded-For.

    Yields:
        Sentences to print, as soon as the page accepts connections. The page is served after the last one.

    Raises:
        PresetError: if there is no such preset, or no complete preset.
        PortError: for the reasons in `listen`.
    """
    access = access or Access()
    with listen(host, port) as listener:
        presets = Presets(preset)
        presets.pipeline(presets.first)  # report a damaged preset now, not at the first drawing
        urls = page_urls(listener)
        yield f"The page is at {' and '.join(urls)} (preset {presets.first}). Press Ctrl-C to end it."
        if not _is_local(listener) and not access.password:
            yield "Everybody who can reach this machine can draw with it; --password asks visitors for a password."
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[urls[0]], daemon=True).start()
        config = uvicorn.Config(
            build_app(presets, access),
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=behind_proxy,
            forwarded_allow_ips="*" if behind_proxy else None,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])


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
            f"Port {port} is used by another program, perhaps by another `atelier serve`. "
            f"End that program, or choose another port: --port {other}."
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"You may not use port {port}; ports below 1024 need special rights. Choose another: --port 7860."
    reason = (getattr(fault, "strerror", None) or str(fault)).rstrip(".")
    address = _with_port(host, port)
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
        return [f"http://{_with_port(host, port)}"]
    return [f"http://{_with_port(address, port)}" for address in ("127.0.0.1", *network_addresses())]


def network_addresses() -> list[str]:
    """List this machine's IPv4 addresses that other machines may be able to reach."""
    found = [each.address for card in psutil.net_if_addrs().values() for each in card if each.family == socket.AF_INET]
    return [address for address in found if not ip_address(address).is_loopback]


def _with_port(host: str, port: int) -> str:
    """Join an address and a port; an IPv6 address is put in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_local(listener: socket.socket) -> bool:
    """Whether only programs on this machine can connect."""
    return ip_address(listener.getsockname()[0]).is_loopback
