"""A first-come, first-served queue: the page handles one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from atelier.page.faults import PageError

MAX_REQUESTS = 64
MAX_REQUESTS_PER_VISITOR = 16  # below MAX_REQUESTS, so that one visitor cannot fill the queue
NEWS_SECONDS = 2.0  # between two messages to a waiting visitor


class BusyError(PageError):
    """The queue is full, or a visitor has too many requests in it."""


@dataclass(eq=False)
class Ticket:
    """A place in the queue.

    Attributes:
        visitor: the visitor who joined.
        turn: an event that is set when the ticket is the first in the queue.
    """

    visitor: str
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """A first-come, first-served queue of requests; only the first request in the queue is handled.

    A visitor joins, waits for the ticket's turn, has the request handled, and leaves. A visitor who disconnects while
    waiting leaves as well.
    """

    def __init__(self) -> None:
        self._queue: list[Ticket] = []

    def check_room(self, visitor: str) -> None:
        """Check that a visitor may join.

        Raises:
            BusyError: if the queue is full, or if the visitor has too many requests in it.
        """
        if sum(ticket.visitor == visitor for ticket in self._queue) >= MAX_REQUESTS_PER_VISITOR:
            raise BusyError(
                f"You already have {MAX_REQUESTS_PER_VISITOR} requests in the queue; wait until one is finished.", 429
            )
        if len(self._queue) >= MAX_REQUESTS:
            raise BusyError(f"The queue already has {MAX_REQUESTS} requests; try again in a minute.", 503)

    def join(self, visitor: str) -> Ticket:
        """Join the end of the queue.

        Raises:
            BusyError: for the reasons in `check_room`.
        """
        self.check_room(visitor)
        ticket = Ticket(visitor)
        self._queue.append(ticket)
        self._call_first()
        return ticket

    async def wait(self, ticket: Ticket) -> AsyncIterator[int]:
        """Wait for a ticket's turn.

        Yields:
            Every few seconds, the number of requests ahead of it.
        """
        while not ticket.turn.is_set():
            yield self._queue.index(ticket)
            try:
                await asyncio.wait_for(ticket.turn.wait(), NEWS_SECONDS)
            except TimeoutError:
                continue

    def leave(self, ticket: Ticket) -> None:
        """Leave the queue, before or after the ticket's turn. Leaving twice has no further effect."""
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._call_first()

    def _call_first(self) -> None:
        if self._queue:
            self._queue[0].turn.set()
