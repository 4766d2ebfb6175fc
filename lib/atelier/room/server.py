"""Serving a room: `atelier room`."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from atelier.errors import AtelierError
from atelier.page.access import Access, is_local_address
from atelier.page.listening import is_local, listen, page_urls, web_server
from atelier.room.app import build_app
from atelier.room.claims import claims_by_lesson
from atelier.room.code import checked_code, new_code
from atelier.room.keeping import Keeper
from atelier.room.limits import PORT
from atelier.room.room import Room

EVERYWHERE = "0.0.0.0"  # listens at all IPv4 addresses of the machine
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation (RFC 5737), to which nothing is sent


def hold_room(
    host: str = EVERYWHERE,
    port: int = PORT,
    code: str = "",
    names: bool = False,
    keep: Path | None = None,
    any_network: bool = False,
    allow_hosts: tuple[str, ...] = (),
    open_browser: bool = False,
) -> Generator[str]:
    """Serve a room until the instructor ends it, or until Ctrl-C.

    Args:
        host: the address to listen at.
        port: the port to listen at.
        code: with which participants join; "" chooses one at random.
        names: whether participants may give names, which are then shown.
        keep: a folder for the pictures and tables; None: nothing is written.
        any_network: whether machines with public addresses are answered, too.
        allow_hosts: names under which the room may be asked for, besides addresses and the names of this machine.
        open_browser: whether to open the shared screen in a browser.

    Yields:
        Sentences to print, as soon as the room accepts connections. It is served after the last one.

    Raises:
        AtelierError: if the code has other characters than letters and digits.
        FileError: if the folder cannot be written.
        PortError: for the reasons in `atelier.page.listening.listen`.
    """
    code = checked_code(code) if code else new_code()
    keeper = Keeper(keep) if keep else None
    with listen(host, port) as listener:
        room = Room(code, claims_by_lesson(), names, keeper)
        own, *others = page_urls(listener)
        addresses = usual_first(others) or [own]
        access = Access(allow_hosts, local_only=not any_network)

        def stop() -> None:
            server.should_exit = True

        server = web_server(build_app(room, addresses, access, stop), ending=room.end)
        screen = f"{own}/screen#{room.key}"
        yield f"The shared screen is at {screen}"
        yield f"Participants join at {' or '.join(addresses)} with the code {code}. Press Ctrl-C to end the room."
        if is_local(listener):
            yield "Only this machine can reach it; leave --host out, so that laptops can join."
        elif not others and own.startswith("http://127."):
            yield "This machine is in no network now; connect it to the laptops' network and start the room again."
        elif not any_network and not any(is_local_address(urlsplit(each).hostname or "") for each in addresses):
            yield "These addresses are public ones; laptops with such addresses are answered only with --any-network."
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[screen], daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):
                server.run([listener])
        finally:
            room.end()
        if keeper and keeper.fault:
            raise AtelierError(keeper.fault)


def usual_first(addresses: list[str]) -> list[str]:
    """Put the address through which this machine reaches other networks first.

    The others may belong to virtual machines or containers, which no laptop can reach.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(ELSEWHERE)  # a UDP socket sends nothing when it is connected
            usual = f"//{asked.getsockname()[0]}:"
        except OSError:  # there is no route to other networks
            return addresses
    return sorted(addresses, key=lambda address: usual not in address)
