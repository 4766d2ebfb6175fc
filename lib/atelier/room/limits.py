"""How much a room accepts: sizes, counts, and rates."""

from __future__ import annotations

from dataclasses import dataclass

PORT = 7870

MOST_PARTICIPANTS = 100
MOST_STREAMS = 3  # open connections of one participant for news; a further one replaces the oldest
MOST_PICTURES = 60  # the oldest leave the wall
MOST_WALL_BYTES = 64 * 2**20  # of all pictures on the wall, encoded
MOST_SIDE = 1024  # pixels of a picture
MOST_PICTURE_BYTES = 2 * 10**6  # of a PNG file that is sent
MOST_REQUEST_BYTES = 3 * 10**6  # of a request with a picture, which base64 makes a third larger
MOST_PROMPT = 200  # characters
MOST_NAME = 24  # characters
MOST_EXERCISES = 60  # of one participant

SILENCE = 120.0  # seconds without a connection after which a phone is forgotten
LONG_SILENCE = 3600.0  # seconds without a request after which a laptop is forgotten; exercises take long
HEARTBEAT = 15.0  # seconds between two signs of life on a connection without news
PAUSE = 0.3  # seconds between two deliveries of news on a connection, so that several changes go together


@dataclass
class Allowance:
    """How often something may be done: a number of times at once, and then at a rate (a token bucket).

    Attributes:
        burst: times at once.
        per_second: the rate.
        left: times that are left now.
        at: when `left` was computed, in seconds of the caller's clock.
    """

    burst: float
    per_second: float
    left: float
    at: float

    @classmethod
    def of(cls, rate: tuple[float, float], now: float) -> Allowance:
        """Make a full one for a rate of RATES."""
        burst, per_second = rate
        return cls(burst, per_second, burst, now)

    def take(self, now: float) -> bool:
        """Use it once; false if nothing is left."""
        self.left, self.at = self.available(now), now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def available(self, now: float) -> float:
        """The times that are left at a time."""
        return min(self.burst, self.left + (now - self.at) * self.per_second)


RATES: dict[str, tuple[float, float]] = {  # kind of request → times at once, and times per second afterwards
    "join": (60, 1),  # of one address, behind which a network may hide many laptops
    "wrong code": (20, 0.2),  # of one address
    "picture": (6, 0.5),
    "results": (40, 2),
    "vote": (10, 1),
}
