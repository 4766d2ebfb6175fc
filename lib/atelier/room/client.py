"""Joining a room from a program: sending a picture, and results of exercises. Nothing is sent before joining."""

from __future__ import annotations

import base64
import getpass
import hashlib
import http.client
import json
import socket
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from atelier.arguments import shown
from atelier.errors import AtelierError
from atelier.room.code import cleaned_code
from atelier.room.limits import PORT
from atelier.room.pictures import sent_png
from atelier.room.texts import shown_text

PATIENCE = 5.0  # seconds for an answer
MOST_ANSWER = 100_000  # bytes
MOST_SENTENCE = 500  # characters of a refusal
FORGOTTEN = 401  # the status of the answer to a program that has not joined, or was forgotten


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for a refusal: a room never sends one, and the token is for no other server."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


# A proxy does not know the local network.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


class RoomError(AtelierError):
    """A room cannot be reached, or refuses a request; the message says why in one sentence.

    Attributes:
        status: the HTTP status of a refusal; 0 if there was no answer.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Place:
    """Where a room is.

    Attributes:
        url: such as "http://192.168.1.5:7870".
        code: with which one joins, or "".
    """

    url: str
    code: str


def room_place(address: str, code: str = "") -> Place:
    """Read the address of a room as it is typed: 192.168.1.5, 192.168.1.5:7870/K7PX, or http://192.168.1.5:7870.

    Args:
        address: the address, which may end in the code.
        code: the code, if the address does not end in it.

    Raises:
        AtelierError: if it is no address, or if there is no code.
    """
    sentence = f"{shown(address)} is not the address of a room; give one such as 192.168.1.5:{PORT}/CODE."
    try:
        parts = urlsplit(address.strip() if "://" in address else f"http://{address.strip()}")
        port = parts.port or PORT
        host = parts.hostname or ""
        host.encode("idna")
    except (ValueError, AttributeError) as fault:  # UnicodeError is a ValueError
        raise AtelierError(sentence) from fault
    if parts.scheme not in ("http", "https") or not host or any(each.isspace() for each in host):
        raise AtelierError(sentence)
    code = cleaned_code(code or parts.fragment or parts.path.strip("/"))
    if not code:
        raise AtelierError(f"The code of the room is missing; give it after the address, as in {host}:{port}/CODE.")
    return Place(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}", code)


def laptop_token(code: str) -> str:
    """A token that is the same for all programs of one user on one machine, and different in each room.

    So the lessons on one laptop, each in its own process, are one participant. The token is a hash, and the
    room stores it only in memory.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without an entry in the system's list
        user = ""
    secret = f"{uuid.getnode()} {user} {socket.gethostname()} {code}"
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()[:32]


class Membership:
    """A program's place in a room.

    Args:
        place: of the room.
        name: to be shown, if the room shows names.

    Attributes:
        number: that the room shows instead of a name; 0 before joining.
    """

    def __init__(self, place: Place, name: str = "") -> None:
        self.place, self.name, self.number = place, name, 0
        self._token, self._named = laptop_token(place.code), False
        self._results: dict[str, str] = {}

    @property
    def label(self) -> str:
        """How the room shows this participant."""
        return f"“{self.name}”" if self.name and self._named else f"participant {self.number}"

    def join(self) -> None:
        """Join, or join again after the room has forgotten this program.

        Raises:
            RoomError: if the room cannot be reached, or refuses.
        """
        joined = self._post("join", {"code": self.place.code, "name": self.name, "token": self._token})
        try:
            self._token, self.number = str(joined["token"]), int(joined["number"])
            self._named = bool(joined["names"])
        except (KeyError, TypeError, ValueError, OverflowError) as fault:
            raise RoomError(self._not_a_room()) from fault

    def send_picture(self, image: Image.Image, prompt: str) -> None:
        """Show a picture on the wall.

        Raises:
            RoomError: as for `join`.
        """
        content = base64.b64encode(sent_png(image)).decode()
        self._post_joined("pictures", {"prompt": prompt, "png": content})

    def note_result(self, key: str, mark: str) -> None:
        """Note the result of an exercise for the next call of `send_results`.

        Args:
            key: of the exercise, such as "2d.1".
            mark: "○", "✗" or "✓".
        """
        self._results[key] = mark

    def send_results(self) -> None:
        """Send all results that were noted, also those that could not be sent before.

        Raises:
            RoomError: as for `join`.
        """
        self._post_joined("results", {"results": self._results})

    def leave(self) -> None:
        """Let the room forget this participant.

        Raises:
            RoomError: as for `join`.
        """
        self._post("leave", {"token": self._token})

    def _post_joined(self, path: str, values: dict[str, Any]) -> None:
        """Send a request; if the room does not know this participant (any more), join and send it again."""
        try:
            self._post(path, {"token": self._token, **values})
        except RoomError as fault:
            if fault.status != FORGOTTEN:
                raise
            self.join()
            self._post(path, {"token": self._token, **values})

    def _post(self, path: str, values: dict[str, Any]) -> Any:
        """Send a request and return its answer, which is JSON."""
        url, headers = f"{self.place.url}/{path}", {"Content-Type": "application/json", "X-Room-Token": self._token}
        request = urllib.request.Request(url, json.dumps(values).encode(), headers)
        try:
            with DIRECT.open(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read(MOST_ANSWER))
        except urllib.error.HTTPError as fault:
            with fault:
                raise RoomError(self._refusal(fault), fault.code) from fault
        except (OSError, http.client.HTTPException) as fault:
            raise RoomError(
                f"The room at {self.place.url} does not answer. "
                "Is this laptop in the same network, and is `atelier room` running?"
            ) from fault
        except (ValueError, RecursionError) as fault:  # no JSON, or JSON that is nested too deeply
            raise RoomError(self._not_a_room()) from fault

    def _refusal(self, fault: urllib.error.HTTPError) -> str:
        """The sentence of a refusal."""
        try:
            sentence = json.loads(fault.read(MOST_ANSWER))["error"]
            return f"The room says: {shown_text(sentence, MOST_SENTENCE, 'The refusal')}"
        except (OSError, http.client.HTTPException, ValueError, RecursionError, KeyError, TypeError, AtelierError):
            return f"{self._not_a_room()[:-1]} (error {fault.code})."

    def _not_a_room(self) -> str:
        return f"What answers at {self.place.url} is not an `atelier room`."
