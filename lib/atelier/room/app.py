"""The room as a web application.

GET  /, /CODE            the page for phones
GET  /screen             the shared screen; only the browser that has the instructor's key gets its news
POST /join               {"code", "name", "token"} → {"token", "number", "names"}
POST /leave              {"token"}
POST /pictures           {"token", "prompt", "png": base64}
POST /results            {"token", "results": {"2d.1": "✓"}}
POST /vote               {"token", "poll", "choice"}
GET  /news?token=        what has changed, as server-sent events
GET  /pictures/KEY.png   a picture of the wall
GET  /screen/about       the addresses for joining and the lessons with claims; needs the instructor's key
POST /screen/control     what the instructor wants; needs the instructor's key
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from atelier.errors import AtelierError
from atelier.page.access import Access, Guard
from atelier.page.faults import PageError
from atelier.page.messages import Lines, discard_body, read_json, sentence
from atelier.room.limits import HEARTBEAT, MOST_REQUEST_BYTES, PAUSE
from atelier.room.participants import Participant
from atelier.room.pictures import encoded_again
from atelier.room.qr import qr_path
from atelier.room.room import PARTS, Room

STATIC = Path(__file__).parent / "static"
PAGE_STATIC = Path(__file__).parents[1] / "page" / "static"
FOR_PARTICIPANTS = ("pictures", "poll")  # the parts of the news that phones get
SMALL = 20_000  # bytes of a request without a picture


def build_app(
    room: Room, addresses: Sequence[str] = (), access: Access | None = None, stop: Callable[[], None] | None = None
) -> Starlette:
    """Build the application.

    Args:
        room: that it serves.
        addresses: under which other machines reach it, such as "http://192.168.1.5:7870".
        access: who may use it; None: only machines of the local network.
        stop: ends the server; called when the instructor ends the room.
    """
    app = RoomApp(room, addresses, stop)
    routes = [
        Route("/", app.phone_page),
        Route("/screen", lambda _: FileResponse(STATIC / "screen.html")),
        Route("/screen/about", app.about),
        Route("/screen/control", app.control, methods=["POST"]),
        Route("/hello", app.hello),
        Route("/join", app.join, methods=["POST"]),
        Route("/leave", app.leave, methods=["POST"]),
        Route("/pictures", app.add_picture, methods=["POST"]),
        Route("/pictures/{key}.png", app.picture),
        Route("/results", app.add_results, methods=["POST"]),
        Route("/vote", app.vote, methods=["POST"]),
        Route("/news", app.news),
        Mount("/static", StaticFiles(directory=PAGE_STATIC)),
        Mount("/room", StaticFiles(directory=STATIC)),
        Route("/{code}", app.phone_page),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access or Access(local_only=True))],
        exception_handlers={AtelierError: sentence},
    )


class RoomApp:
    """The answers to requests."""

    def __init__(self, room: Room, addresses: Sequence[str], stop: Callable[[], None] | None) -> None:
        self.room, self.addresses, self.stop = room, addresses, stop

    async def phone_page(self, request: Request) -> Response:
        """Answer with the page for phones, under the plain address and under the address with the code."""
        code = request.path_params.get("code", "")
        if code and not code.isalnum():
            raise PageError("There is no such page here.", 404)
        return FileResponse(STATIC / "phone.html")

    # ------------------------------------------------------------------------------------------ participants

    async def hello(self, _: Request) -> Response:
        """Answer with what the page needs to know before joining."""
        return JSONResponse({"names": self.room.names})

    async def join(self, request: Request) -> Response:
        """Let a participant in."""
        values = await _object(request, SMALL)
        address = request.client.host if request.client else ""
        joined = self.room.join(values.get("code"), values.get("name", ""), address, values.get("token", ""))
        return JSONResponse({"token": joined.token, "number": joined.number, "names": self.room.names})

    async def leave(self, request: Request) -> Response:
        """Forget a participant who leaves."""
        _, participant = await self._from_participant(request)
        self.room.leave(participant)
        return JSONResponse({})

    async def add_picture(self, request: Request) -> Response:
        """Put a picture on the wall. The token is in a header, so that only a participant's megabytes are kept."""
        try:
            participant = self.room.participants.find(request.headers.get("x-room-token", ""))
            self.room.participants.check_rate("picture", participant)
        except PageError:
            await discard_body(request, MOST_REQUEST_BYTES)
            raise
        values = await _object(request, MOST_REQUEST_BYTES)
        try:
            content = base64.b64decode(values.get("png", ""), validate=True)
        except (binascii.Error, ValueError, TypeError) as fault:
            raise PageError("The picture is not given as base64.") from fault
        self.room.add_picture(participant, values.get("prompt", ""), await run_sync(encoded_again, content))
        return JSONResponse({})

    async def picture(self, request: Request) -> Response:
        """Answer with a picture that is on the wall, or that the instructor may put back."""
        picture = self.room.picture(request.path_params["key"])
        if picture.hidden:
            raise PageError("This picture is no longer on the wall.", 404)
        return Response(picture.content, media_type="image/png")

    async def add_results(self, request: Request) -> Response:
        """Note results of exercises."""
        values, participant = await self._from_participant(request)
        self.room.participants.check_rate("results", participant)
        self.room.add_results(participant, values.get("results"))
        return JSONResponse({})

    async def vote(self, request: Request) -> Response:
        """Count a vote."""
        values, participant = await self._from_participant(request)
        self.room.participants.check_rate("vote", participant)
        self.room.vote(participant, values.get("poll"), values.get("choice"))
        return JSONResponse({})

    async def _from_participant(self, request: Request) -> tuple[dict[str, Any], Participant]:
        """A small request and the participant whose token it contains."""
        values = await _object(request, SMALL)
        return values, self.room.participants.find(str(values.get("token", "")))

    # ------------------------------------------------------------------------------------------ the instructor

    async def about(self, request: Request) -> Response:
        """Answer with what the screen shows from the beginning."""
        self._check_key(request)
        joining = [f"{address}/{self.room.code}" for address in self.addresses]
        codes = map(qr_path, joining)
        places = [
            {"address": address, "joining": join, "qr": code.path, "size": code.size}
            for address, join, code in zip(self.addresses, joining, codes, strict=True)
        ]
        lessons = {lesson: len(claims) for lesson, claims in self.room.claims.items()}
        return JSONResponse(
            {"code": self.room.code, "places": places, "lessons": lessons, "kept": self.room.keeper is not None}
        )

    async def control(self, request: Request) -> Response:
        """Do what the instructor wants: {"do": "open", "close", "clear", "hide", "show" or "stop", "what": …}."""
        self._check_key(request)
        values = await _object(request, SMALL)
        what = values.get("what")
        match values.get("do"):
            case "open":
                self.room.open_poll(what)
            case "close":
                self.room.close_poll()
            case "clear":
                self.room.clear(what)
            case "hide":
                self.room.hide(what)
            case "show":
                self.room.hide(what, hidden=False)
            case "stop":
                self.room.end()
                if self.stop:
                    asyncio.get_running_loop().call_later(2 * PAUSE, self.stop)
            case _:
                raise PageError("There is no such control.")
        return JSONResponse({})

    def _check_key(self, request: Request) -> None:
        if not self._is_key(request.headers.get("x-room-key", "")):
            raise PageError("Only the instructor may do this; open the address that `atelier room` printed.", 403)

    def _is_key(self, key: str) -> bool:
        return secrets.compare_digest(key.encode(), self.room.key.encode())

    # ------------------------------------------------------------------------------------------ news

    async def news(self, request: Request) -> Response:
        """Answer with a stream of what changes, until the room ends or the browser disconnects."""
        token = request.query_params.get("token", "")
        if self._is_key(token):
            return Lines(self._news(None), media_type="text/event-stream")
        return Lines(self._news(self.room.participants.find(token)), media_type="text/event-stream")

    async def _news(self, participant: Participant | None) -> AsyncGenerator[str]:
        """Yield parts of the news as events, each when it has changed, and signs of life between them."""
        streams, parts = self.room.screens, PARTS
        if participant is not None:
            streams, parts = participant.streams, FOR_PARTICIPANTS
            participant.listened = True
        ticket, told = object(), dict[str, int]()
        streams.append(ticket)
        try:
            yield "retry: 2000\n\n"
            while not self.room.ended and ticket in streams:
                bell = self.room.bell.next  # before the revisions are read, so that no change is missed
                revisions = {part: self.room.revisions[part] for part in parts}
                for part in (each for each in parts if told.get(each) != revisions[each]):
                    yield f"event: {part}\ndata: {json.dumps(self.room.news(part))}\n\n"
                told = revisions
                try:
                    await asyncio.wait_for(bell.wait(), HEARTBEAT)
                except TimeoutError:
                    yield ": still here\n\n"
                    self.room.forget_vanished()
                await asyncio.sleep(PAUSE)
            if self.room.ended:
                yield "event: ended\ndata: {}\n\n"
        finally:
            if ticket in streams:
                streams.remove(ticket)
            if participant is not None:
                participant.seen = self.room.participants.clock()


async def _object(request: Request, most: int) -> dict[str, Any]:
    """The body of a request, which must be a JSON object."""
    values = await read_json(request, most)
    if not isinstance(values, dict):
        raise PageError("The request is not a JSON object.")
    return values
