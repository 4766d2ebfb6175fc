"""Serving the page: `atelier serve`."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Iterator
from contextlib import suppress

from atelier.page.access import Access
from atelier.page.app import build_app
from atelier.page.listening import is_local, listen, page_urls, web_server
from atelier.page.presets import Presets


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
        if not is_local(listener) and not access.password:
            yield "Everybody who can reach this machine can draw with it; --password asks visitors for a password."
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[urls[0]], daemon=True).start()
        with suppress(KeyboardInterrupt):
            web_server(build_app(presets, access), behind_proxy).run([listener])
