"""The page with the DRAW button, as a web application. It keeps nothing about its visitors and writes no files.

    GET  /           the page; its files are in the folder static
    GET  /presets    what can be drawn, and with which presets
    POST /draw       a drawing, row by row: one JSON object in a line
    POST /look       the attention of a picture's codes to the words of its prompt
    POST /save       pictures as a PNG file with their settings

A picture is its codes: a browser that has them can ask for everything else, so the server need not remember a drawing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from atelier.drawing.drawing import Drawing
from atelier.errors import AtelierError
from atelier.page.access import Access, Guard
from atelier.page.messages import Lines, read_json, sentence
from atelier.page.presets import Presets
from atelier.page.replies import drawing_reply, look_reply, save_reply
from atelier.page.requests import DrawRequest, draw_request, look_request, save_request
from atelier.page.turns import Turns

STATIC = Path(__file__).parent / "static"

Work = TypeVar("Work")


def build_app(presets: Presets, access: Access | None = None) -> Starlette:
    """Build the application.

    Args:
        presets: that it draws with.
        access: who may use it; None: everybody who reaches this machine.
    """
    page = Page(presets)
    routes = [
        Route("/", lambda _: FileResponse(STATIC / "index.html")),
        Route("/presets", page.describe),
        Route("/draw", page.draw, methods=["POST"]),
        Route("/look", page.look, methods=["POST"]),
        Route("/save", page.save, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access or Access())],
        exception_handlers={AtelierError: sentence},
    )


class Page:
    """The answers to the page's requests. Drawings have one queue, and quick requests another."""

    def __init__(self, presets: Presets) -> None:
        self.presets = presets
        self.drawings, self.quick = Turns(), Turns()

    async def describe(self, _: Request) -> Response:
        """Answer with what can be drawn."""
        return JSONResponse(self.presets.described())

    async def draw(self, request: Request) -> Response:
        """Answer with a drawing, as it is drawn; see `drawing_reply`."""
        wanted = draw_request(await read_json(request), self.presets)
        visitor = visitor_of(request)
        self.drawings.check_room(visitor)  # so that the answer has the right status
        return Lines(self._draw(wanted, visitor), media_type="application/x-ndjson")

    async def _draw(self, wanted: DrawRequest, visitor: str) -> AsyncGenerator[str]:
        try:
            finished = None
            async for news in self._drawn(wanted, visitor):
                finished = news
                if isinstance(news, int):
                    yield _line({"ahead": news})
                elif news.progress < 1:
                    yield _line(drawing_reply(news, wanted))
            if isinstance(finished, Drawing):  # sent after the turn: who reads slowly keeps nobody waiting
                yield _line(drawing_reply(finished, wanted))
        except AtelierError as fault:
            yield _line({"error": str(fault)})

    async def _drawn(self, wanted: DrawRequest, visitor: str) -> AsyncGenerator[int | Drawing]:
        """Yield how many are ahead while others draw, then the drawing, unfinished and finished."""
        ticket = self.drawings.join(visitor)
        try:
            async for ahead in self.drawings.wait(ticket):
                yield ahead
            pipeline = await run_sync(self.presets.pipeline, wanted.preset)
            steps = pipeline.stream(
                wanted.prompt,
                wanted.n,
                wanted.seed,
                wanted.rank,
                first_codes=wanted.first_codes,
                **wanted.sampling,
            )
            async for step in _in_thread(steps):
                yield step
        finally:
            self.drawings.leave(ticket)

    async def look(self, request: Request) -> Response:
        """Answer with the attention of a picture's codes; see `look_reply`."""
        wanted = look_request(await read_json(request), self.presets)
        async with self._quick_turn(request):
            pipeline = await run_sync(self.presets.pipeline, wanted.preset)
            return JSONResponse(await run_sync(look_reply, pipeline, wanted))

    async def save(self, request: Request) -> Response:
        """Answer with a PNG file; see `save_reply`."""
        wanted = save_request(await read_json(request), self.presets)
        async with self._quick_turn(request):
            pipeline = await run_sync(self.presets.pipeline, wanted.preset)
            name, content = await run_sync(save_reply, pipeline, wanted)
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
        return Response(content, media_type="image/png", headers=headers)

    @asynccontextmanager
    async def _quick_turn(self, request: Request) -> AsyncGenerator[None]:
        ticket = self.quick.join(visitor_of(request))
        try:
            await ticket.turn.wait()
            yield
        finally:
            self.quick.leave(ticket)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


async def _in_thread(steps: Iterator[Work]) -> AsyncIterator[Work]:
    """Iterate in a thread, so that other visitors are answered meanwhile."""
    step: Callable[[], Work | None] = lambda: next(steps, None)  # noqa: E731
    while (value := await run_sync(step)) is not None:
        yield value


def visitor_of(request: Request) -> str:
    """Whose request it is: the address, and the number that each page in a browser makes up."""
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get('x-visitor', '')[:40]}"
