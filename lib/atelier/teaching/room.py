"""A lesson in a workshop's room: results of exercises and drawings are sent to the shared screen, after joining.

Nothing is sent before `join_room` or the panel's button, unless the environment variable ATELIER_ROOM names a room: it
joins all lessons that are opened in one JupyterLab. A room that does not answer never stops a lesson: one sentence says
so, and results are sent again later.
"""

from __future__ import annotations

import html
import os
import time
from collections.abc import Callable
from contextlib import suppress

import ipywidgets as widgets
from IPython.display import HTML, display

from atelier.drawing.drawing import Drawing
from atelier.errors import AtelierError
from atelier.page.faults import PageError
from atelier.room.client import Membership, RoomError, room_place

VARIABLE = "ATELIER_ROOM"  # the address of a room with its code
TOO_QUICK = 429  # the status of the answer to a program that sends too much
RETRY = 30.0  # seconds after a failure before anything is sent again
SENT = "The results of your exercises and your drawings are shown there, but not your answers."


class LessonRoom:
    """The room of this process.

    Attributes:
        membership: None before joining and after leaving.
    """

    def __init__(self) -> None:
        self.membership: Membership | None = None
        self._asked = False  # whether the environment variable was read
        self._silent_until = 0.0

    def join(self, address: str, code: str = "", name: str = "") -> str:
        """Join a room.

        Returns:
            A sentence that says so.

        Raises:
            AtelierError: if the address is not one, or if the room cannot be reached or refuses.
        """
        membership = Membership(room_place(address, code), name)
        membership.join()
        self.membership, self._asked, self._silent_until = membership, True, 0.0
        return f"You have joined the room at {membership.place.url} as {membership.label}. {SENT}"

    def leave(self) -> str:
        """Leave the room. Returns a sentence that says so."""
        left, self.membership, self._asked = self.membership, None, True
        if left is None:
            return "You are in no room."
        with suppress(RoomError):  # the room forgets participants who send nothing
            left.leave()
        return f"You have left the room at {left.place.url}. Nothing more is sent."

    def send_result(self, key: str, mark: str) -> str:
        """Send the result of an exercise, if there is a room.

        Returns:
            A sentence if there is something to tell, else "".
        """
        told = self._join_from_environment()
        if self.membership is not None:
            self.membership.note_result(key, mark)
            told += self._attempt(self.membership.send_results)
        return told

    def send_drawing(self, drawing: Drawing) -> str:
        """Send the first picture of a drawing, which is the best one if they are ranked. Returns as `send_result`."""
        told = self._join_from_environment()
        if (member := self.membership) is not None:
            told += self._attempt(lambda: member.send_picture(drawing.images[0], drawing.prompt))
        return told

    def _join_from_environment(self) -> str:
        """Join the room that the environment variable names, the first time; returns a sentence if it does."""
        address = os.environ.get(VARIABLE, "").strip()
        if self._asked or not address:
            return ""
        self._asked = True
        try:
            place = room_place(address)
        except AtelierError as fault:
            return f"{VARIABLE}: {fault}"
        self.membership = Membership(place)
        return self._attempt(self.membership.join) or f"This lesson has joined the room at {place.url}. {SENT} "

    def _attempt(self, send: Callable[[], None]) -> str:
        """Send something unless sending has failed just before; returns a sentence if it fails."""
        if time.monotonic() < self._silent_until:
            return ""
        try:
            send()
        except RoomError as fault:
            if fault.status == TOO_QUICK:
                return str(fault)
            self._silent_until = time.monotonic() + RETRY
            return f"{fault} The lesson goes on without it."
        except PageError as fault:  # the picture is too large
            return str(fault)
        return ""


ROOM = LessonRoom()  # the room of this process


def join_room(address: str, code: str = "", name: str = "") -> None:
    """Join the room of a workshop: from now on results of exercises and drawings of this lesson are sent there.

    Args:
        address: of the room, as on the shared screen, such as "192.168.1.5:7870/K7PX".
        code: the code, if the address does not end in it.
        name: is shown if the instructor allows names; otherwise the room shows a number.
    """
    _tell(_sentence(lambda: ROOM.join(address, code, name)))


def leave_room() -> None:
    """Leave the room. Nothing more is sent, and the room forgets the results of this laptop."""
    _tell(ROOM.leave())


def room_panel(address: str = "") -> widgets.VBox:
    """A panel to join and leave a room; a cell shows it if it is the last expression.

    Args:
        address: the text at the start.
    """
    wide = widgets.Layout(width="min(28em, 95%)")
    place = widgets.Text(address, description="Address", placeholder="192.168.1.5:7870", layout=wide)
    code = widgets.Text("", description="Code", placeholder="as on the screen", layout=wide)
    name = widgets.Text("", description="Name", placeholder="optional", layout=wide)
    join, leave = widgets.Button(description="Join", button_style="warning"), widgets.Button(description="Leave")
    line = widgets.HTML()

    def joined(_: object) -> None:
        line.value = html.escape(_sentence(lambda: ROOM.join(place.value, code.value, name.value)))

    def left(_: object) -> None:
        line.value = html.escape(ROOM.leave())

    join.on_click(joined)
    leave.on_click(left)
    return widgets.VBox([place, code, name, widgets.HBox([join, leave]), line])


def share(drawing: Drawing) -> None:
    """Show the first picture of a drawing, the best one if they are ranked, on the wall of the room.

    Args:
        drawing: as `Pipeline.draw` returns it.
    """
    told = send_drawing(drawing)
    _tell(told or ("The picture is on the wall." if ROOM.membership else "You are in no room: join_room(…) first."))


def send_drawing(drawing: Drawing) -> str:
    """Send the first picture of a drawing to the room, if there is one.

    Returns:
        A sentence if there is something to tell, else "".
    """
    return ROOM.send_drawing(drawing)


def send_result(key: str, mark: str) -> None:
    """Send the result of an exercise to the room, if there is one; `check` calls this.

    Args:
        key: of the exercise, such as "2d.1".
        mark: "○", "✗" or "✓".
    """
    if told := ROOM.send_result(key, mark):
        _tell(told)


def _sentence(act: Callable[[], str]) -> str:
    """What an act says, or why it is impossible."""
    try:
        return act()
    except AtelierError as fault:
        return str(fault)


def _tell(sentence: str) -> None:
    display(HTML(f"<p>{html.escape(sentence)}</p>"))
