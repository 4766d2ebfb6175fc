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

MOST_CONNECTIONS = 1000


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
        host: address to listen at; 0.0.0.0 or :: allows other machines.
        port: to listen at.
        preset: the name or folder of the preset that is selected first; None selects the best.
        open_browser: whether to open the page in a browser.
        access: who may use the page; None: everybody who reaches it.
        behind_proxy: whether all visitors come through a proxy that names them in the header X-Forwarded-For.

    Yields:
        Sentences for whoever starts the page, as soon as it accepts connections; then serves it.

    Raises:
        PresetError: if there is no such preset, or no complete preset.
        PortError: if the port is in use, or if the address is not this machine's.
    """
    access = access or Access()
    with listen(host, port) as listener:
        presets = Presets(preset)
        presets.pipeline(presets.first)  # a damaged preset is reported now and not at the first drawing
        addresses = page_addresses(listener)
        yield f"The page is at {' and '.join(addresses)} (preset {presets.first}). Press Ctrl-C to end it."
        if not _is_own(listener) and not access.password:
            yield "Everybody who can reach this machine can draw with it; --password asks visitors for a password."
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[addresses[0]], daemon=True).start()
        config = uvicorn.Config(
            build_app(presets, access),
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=behind_proxy,
            forwarded_allow_ips="*" if behind_proxy else None,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])


def listen(host: str, port: int) -> socket.socket:
    """Make a socket that accepts connections.

    Raises:
        PortError: if the port is in use, or the address is not this machine's; the message says what to do.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # there it would let two programs share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(256)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as fault:
        raise PortError(_refusal(place, port, fault)) from fault
    return listener


def _refusal(place: str, port: int, fault: Exception) -> str:
    code = getattr(fault, "errno", None)
    if code == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return (
            f"Port {port} is used by another program, perhaps by another `atelier serve`. "
            f"End it, or choose another port: --port {other}."
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"You may not use port {port}; ports below 1024 belong to the system. Choose another: --port 7860."
    return (
        f"The page cannot be served at {place}, which is not an address of this machine; "
        "leave --host out, or give 0.0.0.0 to allow other machines."
    )


def page_addresses(listener: socket.socket) -> list[str]:
    """The addresses at which browsers find a page: this machine's own first, then those in its networks."""
    host, port = listener.getsockname()[:2]
    if not ip_address(host).is_unspecified:
        return [_url(host, port)]
    return [_url(each, port) for each in ("127.0.0.1", *network_addresses())]


def network_addresses() -> list[str]:
    """This machine's IPv4 addresses that other machines may reach."""
    found = [each.address for card in psutil.net_if_addrs().values() for each in card if each.family == socket.AF_INET]
    return [address for address in found if not ip_address(address).is_loopback]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_own(listener: socket.socket) -> bool:
    """Whether only programs of this machine can connect."""
    return ip_address(listener.getsockname()[0]).is_loopback
