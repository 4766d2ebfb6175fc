"""What the shared screen shows: the pictures, the results, the poll. Without a keeper, it is in memory only."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atelier.page.faults import PageError
from atelier.room.keeping import Keeper
from atelier.room.limits import MOST_EXERCISES, MOST_NAME, MOST_PICTURES, MOST_PROMPT, MOST_STREAMS, MOST_WALL_BYTES
from atelier.room.participants import Participant, Participants
from atelier.room.poll import Poll
from atelier.room.texts import shown_text

MARKS = ("○", "✗", "✓")
EXERCISE = re.compile(r"[1-9][a-z]?\.[1-9]\d?")
PARTS = ("about", "pictures", "poll", "table")
CLEARED = ("pictures", "table", "poll")


@dataclass(eq=False)
class Picture:
    """A picture on the wall.

    Attributes:
        key: a secret, so that only who has joined can ask for the picture.
        prompt: from which it was drawn.
        who: the name of its participant, or "".
        content: a PNG file.
        hidden: whether the instructor has taken it off the wall.
        file: its name in the keeper's folder, or "".
    """

    key: str
    prompt: str
    who: str
    content: bytes
    hidden: bool = False
    file: str = ""


class Bell:
    """Wakes all who wait for news.

    Attributes:
        next: is set when it rings next.
    """

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        rung, self.next = self.next, asyncio.Event()
        rung.set()


class Room:
    """A room, with all that is shown in it.

    Args:
        code: with which participants join.
        claims: key of a lesson → its claims, for polls.
        names: whether participants may give names, which are then shown. Otherwise they are numbered.
        keeper: keeps pictures and tables on disk; None: nothing is kept.
        clock: gives the time in seconds.

    Attributes:
        key: a secret with which the instructor's browser asks for the screen's news, and controls the room.
        revisions: part of the news → how often it has changed.
        ended: whether the instructor has ended the room.
    """

    def __init__(
        self,
        code: str,
        claims: dict[str, list[str]],
        names: bool = False,
        keeper: Keeper | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.participants = Participants(code, clock)
        self.code, self.claims, self.names, self.keeper = code, claims, names, keeper
        self.key = secrets.token_urlsafe(24)
        self.screens: deque[object] = deque(maxlen=MOST_STREAMS)
        self.pictures: deque[Picture] = deque()
        self.poll: Poll | None = None
        self.polls = 0
        self.revisions: Counter[str] = Counter()
        self.bell, self.ended = Bell(), False

    def changed(self, *parts: str) -> None:
        """Note that parts of the news have changed, and wake the connections that deliver them."""
        self.revisions.update(parts)
        self.bell.ring()

    # ------------------------------------------------------------------------------------------ participants

    def join(self, code: Any, name: Any, address: str, token: Any = "") -> Participant:
        """Let a participant in; see `Participants.join`."""
        if not isinstance(token, str):
            raise PageError("The token is not text.")
        name = shown_text(name, MOST_NAME, "The name") if self.names else ""
        self.participants.forget_vanished()
        participant = self.participants.join(shown_text(code, 40, "The code"), name, address, token)
        self.changed("about", "table")
        return participant

    def leave(self, participant: Participant) -> None:
        """Forget a participant with the results; the pictures and votes stay."""
        self.participants.leave(participant)
        self.changed("about", "table")

    def forget_vanished(self) -> None:
        """Forget participants who have vanished."""
        if self.participants.forget_vanished():
            self.changed("about", "table")

    # ------------------------------------------------------------------------------------------ pictures

    def add_picture(self, participant: Participant, prompt: Any, content: bytes) -> Picture:
        """Put a picture on the wall; the oldest leave it if there are too many.

        Args:
            participant: who sends it.
            prompt: from which it was drawn.
            content: a PNG file that the server has encoded itself.
        """
        words = shown_text(prompt, MOST_PROMPT, "The prompt")
        picture = Picture(secrets.token_urlsafe(12), words, participant.name, content)
        self.pictures.append(picture)
        self._keep(picture)
        while len(self.pictures) > MOST_PICTURES or sum(len(each.content) for each in self.pictures) > MOST_WALL_BYTES:
            self.pictures.popleft()
        self.changed("pictures")
        return picture

    def picture(self, key: Any) -> Picture:
        """The picture with a key.

        Raises:
            PageError: if there is none.
        """
        found = next((picture for picture in self.pictures if picture.key == key), None)
        if found is None:
            raise PageError("This picture is no longer on the wall.", 404)
        return found

    def hide(self, key: Any, hidden: bool = True) -> None:
        """Take a picture off the wall, or put it back. In the keeper's folder it is removed or written as well."""
        picture = self.picture(key)
        picture.hidden = hidden
        if not hidden:
            self._keep(picture)
        elif self.keeper and picture.file:
            self.keeper.remove(picture.file)
        self.changed("pictures")

    def _keep(self, picture: Picture) -> None:
        if self.keeper:
            picture.file = picture.file or self.keeper.picture_name(picture.prompt)
            self.keeper.add(picture.file, picture.content)
            if self.keeper.fault:
                self.changed("about")

    # ------------------------------------------------------------------------------------------ exercises

    def add_results(self, participant: Participant, results: Any) -> None:
        """Note a participant's results: exercise → mark.

        Raises:
            PageError: if there is no such exercise or mark, or if there are too many.
        """
        if not isinstance(results, dict) or not results:
            raise PageError('The results are not an object such as {"2d.1": "✓"}.')
        for key, mark in results.items():
            if not EXERCISE.fullmatch(key):
                raise PageError(f"There is no exercise {key[:20]!r}.")
            if mark not in MARKS:
                raise PageError(f"A result is one of {', '.join(MARKS)}.")
        if len(participant.results.keys() | results.keys()) > MOST_EXERCISES:
            raise PageError(f"At most {MOST_EXERCISES} exercises are taken from one participant.")
        participant.results |= results
        self.changed("table")

    # ------------------------------------------------------------------------------------------ the poll

    def open_poll(self, lesson: Any) -> None:
        """Begin a poll about the claims of a lesson, or open the same poll again.

        Raises:
            PageError: if there is no such lesson.
        """
        if not isinstance(lesson, str) or lesson not in self.claims:
            raise PageError(f"There are no claims of a lesson {str(lesson)[:20]!r}.")
        if self.poll and self.poll.lesson == lesson:
            self.poll.open = True
        else:
            self._keep_poll()
            self.polls += 1
            self.poll = Poll(self.polls, lesson, self.claims[lesson])
        self.changed("poll")

    def close_poll(self) -> None:
        """End the voting; the votes stay on the screen."""
        if self.poll:
            self.poll.open = False
        self.changed("poll")

    def vote(self, participant: Participant, number: Any, choice: Any) -> None:
        """Count a vote; see `Poll.vote`."""
        if self.poll is None:
            raise PageError("There is no poll now.", 409)
        self.poll.vote(participant.token, number, choice)
        self.changed("poll")

    # ------------------------------------------------------------------------------------------ the instructor

    def clear(self, what: Any) -> None:
        """Remove all pictures from the wall, all results, or all votes. Files that are kept stay.

        Raises:
            PageError: if `what` is not "pictures", "table" or "poll".
        """
        if what not in CLEARED:
            raise PageError(f"One can clear {', '.join(CLEARED)}.")
        if what == "pictures":
            self.pictures.clear()
        elif what == "table":
            self._keep_results()
            for participant in self.participants:
                participant.results.clear()
        elif self.poll:
            self._keep_poll()
            self.polls += 1
            self.poll = Poll(self.polls, self.poll.lesson, self.claims[self.poll.lesson])
        self.changed(what)

    def end(self) -> None:
        """End the room."""
        if not self.ended:
            self.ended = True
            self._keep_results()
            self._keep_poll()
            self.changed()

    def _keep_results(self) -> None:
        if self.keeper:
            rows = [(each.label, key, mark) for each in self.participants for key, mark in sorted(each.results.items())]
            self.keeper.add_table("results", ("participant", "exercise", "result"), rows)

    def _keep_poll(self) -> None:
        if self.keeper and self.poll and sum(self.poll.counts):
            rows = zip([self.poll.lesson] * len(self.poll.choices), self.poll.choices, self.poll.counts, strict=True)
            self.keeper.add_table("poll", ("lesson", "claim", "votes"), rows)

    # ------------------------------------------------------------------------------------------ the news

    def news(self, part: str) -> Any:
        """A part of the news as JSON values.

        It is the whole part, not what has changed, so a browser that missed an event is up to date after the next one.
        """
        match part:
            case "about":
                fault = self.keeper.fault if self.keeper else ""
                return {"people": len(self.participants), "fault": fault}
            case "pictures":
                shown = [each for each in reversed(self.pictures) if not each.hidden]
                return [{"key": each.key, "prompt": each.prompt, "who": each.who} for each in shown]
            case "poll":
                return self.poll.described() if self.poll else None
        return [{"who": each.label, "results": each.results} for each in self.participants if each.results]
