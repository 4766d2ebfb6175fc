"""What a server of this package reads and writes: JSON in a request, lines in an answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from atelier.page.faults import PageError

MOST_BYTES = 200_000  # of a request
PATIENCE = 20.0  # seconds for a visitor to send a request, or to take a part of an answer


def sentence(_: Request, fault: Exception) -> Response:
    """Answer with the sentence of an AtelierError; Starlette calls this for the exceptions of requests."""
    return JSONResponse({"error": str(fault)}, getattr(fault, "status", 400))


class Lines(StreamingResponse):
    """Streams lines. It ends if a visitor does not take them in time, and closes their generator in any case."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI prescribes."""
        with suppress(ClientDisconnect):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send all lines."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(PATIENCE):
                    await send(message)
            except TimeoutError as fault:
                raise ClientDisconnect from fault

        async with aclosing(self.body_iterator):  # ty: ignore[invalid-argument-type]
            await super().stream_response(send_in_time)


async def read_json(request: Request, most: int = MOST_BYTES) -> Any:
    """Read the body of a request.

    Args:
        request: the request.
        most: bytes of the body.

    Raises:
        PageError: if it is not JSON, too large, or does not arrive in time.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise PageError("Send the request as JSON, with the header Content-Type: application/json.", 415)
    try:
        async with asyncio.timeout(PATIENCE):
            return json.loads(await _body(request, most))
    except TimeoutError as fault:
        raise PageError(f"The request did not arrive within {PATIENCE:g} seconds.", 408) from fault
    except (ValueError, RecursionError) as fault:
        if isinstance(fault, PageError):
            raise
        raise PageError("The request is not valid JSON.") from fault


async def _body(request: Request, most: int) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise PageError(f"The request is too large; send at most {most:,} bytes.", 413)
    return body


async def discard_body(request: Request, most: int) -> None:
    """Read the body of a request that is refused without keeping it: many programs read no answer before all is sent.

    Args:
        request: the request.
        most: bytes after which the rest is not read.
    """
    count = 0
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                count += len(part)
                if count > most:
                    return
