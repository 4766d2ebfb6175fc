"""Who may use the page, and what a browser may do with it.

A page on the loopback can be reached by any web site that is open in the same browser. Two rules prevent it: only names
of this machine are answered to, so that no site can make its own name lead here (DNS rebinding), and requests must have
the type application/json, which browsers let other sites send only if the server agrees; it never does.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """Who may use the page.

    Attributes:
        hosts: names under which the page may be asked for, besides IP addresses and the names of this machine.
        password: visitors must give it, with any user name; "" asks for none.
        framed_by: origins, such as https://huggingface.co, that may show the page in a frame.
        local_only: whether only machines of the local network are answered, see `is_local_address`.
    """

    hosts: tuple[str, ...] = ()
    password: str = ""
    framed_by: tuple[str, ...] = ()
    local_only: bool = False

    def knows(self, host: str) -> bool:
        """Whether the page answers to a Host header, with or without a port."""
        name = host.rpartition(":")[0] if _has_port(host) else host
        name = name.strip("[]").rstrip(".").lower()
        return name in own_names() | {each.lower() for each in self.hosts} or _is_address(name)

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header has the password."""
        if not self.password:
            return True
        kind, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        return kind.lower() == "basic" and secrets.compare_digest(given, self.password.encode())


LOCAL = tuple(
    map(
        ip_network,
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)


def is_local_address(address: str) -> bool:
    """Whether an IP address is of this machine (loopback), of a private network, or link-local.

    Python's `is_private` is also true for addresses that are reserved for documentation and tests.
    """
    try:
        number = ip_address(address)
    except ValueError:
        return False
    if isinstance(number, IPv6Address) and number.ipv4_mapped:
        number = number.ipv4_mapped
    return any(number in network for network in LOCAL)


def own_names() -> set[str]:
    """The names under which this machine is known to itself and to its local network."""
    name = socket.gethostname().lower()
    return {"localhost", name, f"{name.partition('.')[0]}.local"}


def _has_port(host: str) -> bool:
    before, _, port = host.rpartition(":")
    return bool(before) and port.isdecimal() and (":" not in before or before.endswith("]"))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses requests that `access` does not allow, and adds the headers for browsers to all answers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        ancestors = " ".join(access.framed_by) or "'none'"
        self.headers = {**HEADERS, "Content-Security-Policy": POLICY.format(ancestors)}
        if not access.framed_by:
            self.headers["X-Frame-Options"] = "DENY"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI prescribes."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, (address, _) = Headers(scope=scope), scope.get("client") or ("", 0)
        if self.access.local_only and not is_local_address(address):
            sentence = "Only machines of the local network are answered; --any-network answers others, too."
            return JSONResponse({"error": sentence}, 403)
        host = headers.get("host", "")
        if not self.access.knows(host):
            sentence = f"The page is not served under the name {host[:60]!r}; allow it with --allow-host."
            return JSONResponse({"error": sentence}, 421)
        if not self.access.admits(headers.get("authorization", "")):
            asked = {"WWW-Authenticate": 'Basic realm="Atelier", charset="UTF-8"'}
            return JSONResponse({"error": "The page asks for its password."}, 401, asked)
        return None
