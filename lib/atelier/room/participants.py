"""Who is in the room: joining with the code, limits on requests, and forgetting those who have vanished."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from atelier.page.faults import PageError
from atelier.room.code import cleaned_code
from atelier.room.limits import (
    LONG_SILENCE,
    MOST_PARTICIPANTS,
    MOST_STREAMS,
    RATES,
    SILENCE,
    Allowance,
)

TOKEN = re.compile(r"[0-9a-f]{32}")
KEPT_NUMBERS = 1000  # of participants who were forgotten and may come back
KEPT_ADDRESSES = 500
RATE_SENTENCES = {
    "join": "Too many laptops join from this address at once; wait a minute.",
    "wrong code": "Too many wrong codes came from this address; wait a minute.",
    "picture": "You are sending pictures too quickly; wait a few seconds.",
    "results": "You are sending results too quickly; wait a few seconds.",
    "vote": "You are voting too quickly; wait a few seconds.",
}


@dataclass(eq=False)
class Participant:
    """A laptop or phone that has joined.

    Attributes:
        token: a secret that every request contains.
        number: a number that is shown instead of a name.
        name: "" unless the room shows names and the participant has given one.
        seen: the time of the last sign of life, in seconds.
        streams: the open connections for news; a new one replaces the oldest, which then ends.
        listened: whether it has had such a connection, as phones have and laptops that only send have not.
        results: exercise → "○", "✗" or "✓".
        allowances: kind of request → how often it may still be sent.
    """

    token: str
    number: int
    name: str
    seen: float
    streams: deque[object] = field(default_factory=lambda: deque(maxlen=MOST_STREAMS))
    listened: bool = False
    results: dict[str, str] = field(default_factory=dict)
    allowances: dict[str, Allowance] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, or the number."""
        return self.name or str(self.number)


class Participants:
    """All participants of a room.

    Args:
        code: with which they join.
        clock: gives the time in seconds.
    """

    def __init__(self, code: str, clock: Callable[[], float]) -> None:
        self.code, self.clock = code, clock
        self._present: dict[str, Participant] = {}
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._last_number = 0
        self._addresses: OrderedDict[tuple[str, str], Allowance] = OrderedDict()

    def __iter__(self) -> Iterator[Participant]:
        return iter(sorted(self._present.values(), key=lambda each: each.number))

    def __len__(self) -> int:
        return len(self._present)

    def join(self, code: str, name: str, address: str, token: str = "") -> Participant:
        """Let a participant in.

        Args:
            code: as it was typed.
            name: "" if there is none.
            address: from which the request comes.
            token: of a participant who was forgotten, or who joins again from another program of the same laptop; ""
                makes a new one.

        Raises:
            PageError: if the code is wrong, if too many requests come from the address, or if the room is full.
        """
        _check(self._allowance("join", address), "join", self.clock())
        wrong = self._allowance("wrong code", address)
        right = secrets.compare_digest(cleaned_code(code).encode(), self.code.encode())
        if not right or wrong.available(self.clock()) < 1:  # then the right code is refused, too, or one could guess on
            _check(wrong, "wrong code", self.clock())
            raise PageError("This is not the room's code; it is on the shared screen.", 403)
        if token and not TOKEN.fullmatch(token):
            raise PageError("The token is not one of this room; leave it out.")
        token = token or secrets.token_hex(16)
        if token not in self._present:
            self._make_place()
            self._present[token] = Participant(token, self._number(token), name, self.clock())
        participant = self._present[token]
        participant.name, participant.seen = name or participant.name, self.clock()
        return participant

    def find(self, token: str) -> Participant:
        """Find the participant with a token, and note that it is there.

        Raises:
            PageError: with the status 401 if there is no such participant, so that the program joins again.
        """
        participant = self._present.get(token)
        if participant is None:
            raise PageError("You have not joined this room, or it has forgotten you; join with the code.", 401)
        participant.seen = self.clock()
        return participant

    def leave(self, participant: Participant) -> None:
        """Forget a participant who leaves."""
        participant.streams.clear()
        self._present.pop(participant.token, None)

    def check_rate(self, kind: str, participant: Participant) -> None:
        """Count a request of a participant.

        Raises:
            PageError: if there were too many of this kind.
        """
        now = self.clock()
        _check(participant.allowances.setdefault(kind, Allowance.of(RATES[kind], now)), kind, now)

    def forget_vanished(self) -> bool:
        """Forget participants of whom nothing has been heard for long; returns whether there were any."""
        now = self.clock()
        gone = [each for each in self._present.values() if not each.streams and now - each.seen > _patience(each)]
        for participant in gone:
            self.leave(participant)
        return bool(gone)

    def _make_place(self) -> None:
        """Forget the one who has been silent longest if the room is full."""
        if len(self._present) < MOST_PARTICIPANTS:
            return
        silent = [each for each in self._present.values() if not each.streams and self.clock() - each.seen > SILENCE]
        if not silent:
            raise PageError(f"The room is full: {MOST_PARTICIPANTS} participants have joined.", 503)
        self.leave(min(silent, key=lambda each: each.seen))

    def _number(self, token: str) -> int:
        """The number of a token, the same as before for a participant who comes back."""
        if token not in self._numbers:
            self._last_number += 1
            self._numbers[token] = self._last_number
            if len(self._numbers) > KEPT_NUMBERS:
                self._numbers.popitem(last=False)
        return self._numbers[token]

    def _allowance(self, kind: str, address: str) -> Allowance:
        """How often an address may still send a kind of request."""
        allowance = self._addresses.setdefault((kind, address), Allowance.of(RATES[kind], self.clock()))
        if len(self._addresses) > KEPT_ADDRESSES:
            self._addresses.popitem(last=False)
        return allowance


def _patience(participant: Participant) -> float:
    """The seconds after which a silent participant is forgotten; a laptop without connection may still be in use."""
    return SILENCE if participant.listened and not participant.results else LONG_SILENCE


def _check(allowance: Allowance, kind: str, now: float) -> None:
    if not allowance.take(now):
        raise PageError(RATE_SENTENCES[kind], 429)
