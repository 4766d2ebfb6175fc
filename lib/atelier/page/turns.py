"""Turns: visitors work one after the other, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from atelier.page.faults import PageError

MOST_WAITING = 64
MOST_OF_ONE = 16  # requests of one visitor, so that a single one cannot fill the queue
NEWS_SECONDS = 2.0  # between two messages to a visitor who waits


class BusyError(PageError):
    """The queue has no room; the message says whose requests fill it."""


@dataclass(eq=False)
class Ticket:
    """A place in the queue: whose it is, and an event that is set when its turn has come."""

    visitor: str
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """A queue in which only the first may work.

    A visitor joins, waits for the turn of the ticket, works, and leaves; who goes away while waiting leaves, too.
    """

    def __init__(self) -> None:
        self._queue: list[Ticket] = []

    def check_room(self, visitor: str) -> None:
        """Check that a visitor may join.

        Raises:
            BusyError: if the queue is full, or has too many requests of the same visitor.
        """
        if sum(ticket.visitor == visitor for ticket in self._queue) >= MOST_OF_ONE:
            raise BusyError(f"{MOST_OF_ONE} of your requests are waiting already; wait for one of them.", 429)
        if len(self._queue) >= MOST_WAITING:
            raise BusyError(f"{MOST_WAITING} requests are waiting already; try again in a minute.", 503)

    def join(self, visitor: str) -> Ticket:
        """Take the last place.

        Raises:
            BusyError: as for `check_room`.
        """
        self.check_room(visitor)
        ticket = Ticket(visitor)
        self._queue.append(ticket)
        self._call_first()
        return ticket

    async def wait(self, ticket: Ticket) -> AsyncIterator[int]:
        """Wait for the turn of a ticket.

        Yields:
            Every few seconds, how many are ahead of it.
        """
        while not ticket.turn.is_set():
            yield self._queue.index(ticket)
            try:
                await asyncio.wait_for(ticket.turn.wait(), NEWS_SECONDS)
            except TimeoutError:
                continue

    def leave(self, ticket: Ticket) -> None:
        """Give a place up, before or after its turn. To leave a second time has no effect."""
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._call_first()

    def _call_first(self) -> None:
        if self._queue:
            self._queue[0].turn.set()
