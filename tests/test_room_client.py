"""Programs that join a room: `atelier draw --room`, lessons, and thirty participants at once, with a real server."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atelier.cli import app
from atelier.drawing.pipeline import Pipeline
from atelier.errors import AtelierError
from atelier.page.listening import listen, page_urls, web_server
from atelier.room import client
from atelier.room.app import build_app
from atelier.room.client import Membership, Place, RoomError, laptop_token, room_place
from atelier.room.limits import RATES
from atelier.room.room import Room
from atelier.teaching import check, drawing_panel, join_room, leave_room, room_panel, share
from atelier.teaching import room as lesson
from PIL import Image
from room_soak import CODE, PARTICIPANTS, soak
from tiny_preset import filled_preset
from typer.testing import CliRunner


@dataclass
class Served:
    """A room and where it is served."""

    room: Room
    url: str

    @property
    def address(self) -> str:
        return f"{self.url.removeprefix('http://')}/K7PX"


@pytest.fixture
def served() -> Iterator[Served]:
    """A room that is served by a thread."""
    room = Room("K7PX", {"1": ["The moon is a cheese."]}, names=True)
    with listen("127.0.0.1", 0) as listener:
        server = web_server(build_app(room))
        thread = threading.Thread(target=server.run, args=[[listener]])
        thread.start()
        (url,) = page_urls(listener)
        yield Served(room, url)
        room.end()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def shut() -> str:
    """The address of a room that has ended."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{asked.getsockname()[1]}/K7PX"


@pytest.fixture(autouse=True)
def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons are in no room at first, and no environment variable names one."""
    monkeypatch.setattr(lesson, "ROOM", lesson.LessonRoom())
    monkeypatch.delenv(lesson.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.from_pretrained(filled_preset(tmp_path_factory.mktemp("data") / "tiny").folder)


# ---------------------------------------------------------------------------------------------- the client


@pytest.mark.parametrize(
    ("address", "code", "place"),
    [
        ("192.168.1.5", "k7px", Place("http://192.168.1.5:7870", "K7PX")),
        ("192.168.1.5:7871/K7PX", "", Place("http://192.168.1.5:7871", "K7PX")),
        (" http://laptop.local/k7px ", "", Place("http://laptop.local:7870", "K7PX")),
        ("https://laptop:443/#K7PX", "", Place("https://laptop:443", "K7PX")),
        ("http://[fd00::1]:7870/K7PX", "", Place("http://[fd00::1]:7870", "K7PX")),
    ],
)
def test_an_address_is_read_as_it_is_typed(address: str, code: str, place: Place) -> None:
    assert room_place(address, code) == place


@pytest.mark.parametrize(
    "address", ["", "ftp://a/K7PX", "a b/K7PX", "http://a:port/K7PX", "[::1/K7PX", "a" * 70 + ".x/K7PX"]
)
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(AtelierError, match=r"is not the address of a room; give one such as 192\.168\.1\.5:7870/CODE"):
        room_place(address, "K7PX")


def test_a_missing_code_is_asked_for() -> None:
    with pytest.raises(AtelierError, match=r"The code of the room is missing.*192\.168\.1\.5:7870/CODE"):
        room_place("192.168.1.5")


def test_all_programs_of_a_laptop_are_one_participant(served: Served) -> None:
    assert re.fullmatch("[0-9a-f]{32}", laptop_token("K7PX"))
    assert laptop_token("K7PX") == laptop_token("K7PX") != laptop_token("K7PY")
    members = [Membership(Place(served.url, "K7PX"), name) for name in ("Ada", "")]
    for member, key in zip(members, ("1.1", "2a.1"), strict=True):
        member.join()
        member.note_result(key, "✓")
        member.send_results()
    assert served.room.news("table") == [{"who": "Ada", "results": {"1.1": "✓", "2a.1": "✓"}}]
    assert members[0].label == "“Ada”"
    assert members[1].label == "participant 1"


def test_a_wrong_code_is_named(served: Served) -> None:
    with pytest.raises(RoomError, match="The room says: This is not the room's code"):
        Membership(Place(served.url, "XXXX")).join()


def test_a_member_who_was_forgotten_joins_again_and_sends_everything(served: Served) -> None:
    member = Membership(Place(served.url, "K7PX"))
    member.note_result("1.1", "✗")
    member.send_results()  # joins
    assert member.number == 1
    (participant,) = served.room.participants
    served.room.leave(participant)
    member.note_result("1.2", "✓")
    member.send_results()
    assert served.room.news("table") == [{"who": "1", "results": {"1.1": "✗", "1.2": "✓"}}]
    member.leave()
    assert served.room.news("table") == []


def test_a_large_picture_is_sent_again_after_joining(served: Served) -> None:
    """The answer that one has not joined arrives although the server does not keep what is sent."""
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    for number in range(3):
        member = Membership(Place(served.url, "K7PX"))
        member._token = f"{number:032x}"
        member.send_picture(Image.fromarray(noise), f"noise {number}")
    assert [picture["prompt"] for picture in served.room.news("pictures")] == ["noise 2", "noise 1", "noise 0"]


def test_what_is_no_room_is_named(tmp_path: Path) -> None:
    """Other servers, such as the log-in page of a network, answer something else."""
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as other:
        assert other.stdout is not None
        port = re.search(r"port (\d+)", other.stdout.readline())
        assert port
        with pytest.raises(RoomError, match=r"is not an `atelier room` \(error 501\)"):
            Membership(Place(f"http://127.0.0.1:{port[1]}", "K7PX")).join()
        other.terminate()


@dataclass
class Answering:
    """A server that gives every request the same answer.

    Attributes:
        url: its address.
        asked: the paths of the requests.
        status, body, location: the answer, with its header Location.
    """

    url: str
    asked: list[str]
    status: int = 200
    body: bytes = b""
    location: str = ""


@pytest.fixture
def answering() -> Iterator[Answering]:
    given = Answering("", [])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            given.asked.append(self.path)
            self.send_response(given.status)
            self.send_header("Location", given.location)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        def do_GET(self) -> None:
            given.asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    given.url = f"http://127.0.0.1:{server.server_port}"
    yield given
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(answering: Answering, status: int) -> None:
    answering.status, answering.location = status, "/elsewhere"
    with pytest.raises(RoomError, match=rf"is not an `atelier room` \(error {status}\)"):
        Membership(Place(answering.url, "K7PX")).join()
    assert answering.asked == ["/join"]


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("body", [b"[" * 90_000, b'{"token": "a", "names": 1, "number": 1e999}', b"\xff"])
def test_an_answer_that_is_no_rooms_gets_a_sentence(answering: Answering, status: int, body: bytes) -> None:
    answering.status, answering.body = status, body
    with pytest.raises(RoomError, match="is not an `atelier room`"):
        Membership(Place(answering.url, "K7PX")).join()


def test_a_refusal_is_shown_without_control_characters_and_not_whole_if_it_is_long(answering: Answering) -> None:
    answering.status, answering.body = 403, json.dumps({"error": "\x1b]0;title\x07No.\n" + "a" * 50_000}).encode()
    with pytest.raises(RoomError) as caught:
        Membership(Place(answering.url, "K7PX")).join()
    assert str(caught.value).startswith("The room says: ]0;titleNo. aaa")
    assert len(str(caught.value)) <= client.MOST_SENTENCE + len("The room says: ")


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(RoomError, match="does not answer"):
            Membership(Place(f"http://127.0.0.1:{silent.getsockname()[1]}", "K7PX")).join()


# ---------------------------------------------------------------------------------------------- atelier draw


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    filled_preset(tmp_path / "data" / "tiny")
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(*words: str) -> Any:
    return CliRunner().invoke(app, ["draw", "a red <cat>", "--n", "2", "--seed", "0", "--preset", "tiny", *words])


def test_draw_shows_its_best_picture_in_the_room(served: Served, tiny: Path) -> None:
    result = draw("--room", served.url, "--code", "k7px", "--name", "Ada", "--json")
    assert result.exit_code == 0, result.output
    assert f"The picture is on the wall of the room at {served.url}." in result.stderr
    assert json.loads(result.stdout)["prompt"] == "a red <cat>"
    (picture,) = served.room.news("pictures")
    assert (picture["prompt"], picture["who"]) == ("a red <cat>", "Ada")
    with urllib.request.urlopen(f"{served.url}/pictures/{picture['key']}.png", timeout=10) as answer:
        shown = Image.open(answer).convert("RGB")
    drawing = Pipeline.from_pretrained("tiny").draw("a red <cat>", n=2, seed=0)
    best = drawing.images[0]
    assert shown.tobytes() == best.resize(shown.size, Image.Resampling.BICUBIC).convert("RGB").tobytes()


def test_draw_takes_the_room_from_the_environment(served: Served, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw().exit_code == 0
    assert served.room.news("pictures") == []
    monkeypatch.setenv("ATELIER_ROOM", served.address)
    assert draw().exit_code == 0
    assert len(served.room.news("pictures")) == 1


def test_draw_saves_its_picture_although_the_room_is_gone_or_refuses(served: Served, tiny: Path, shut: str) -> None:
    for words, sentence in (
        (["--room", shut], "does not answer. Is this laptop in the same network"),
        (["--room", served.url, "--code", "XXXX"], "The room says: This is not the room's code"),
    ):
        result = draw(*words)
        assert result.exit_code == 0, result.output
        assert sentence in result.stderr
        assert (tiny / "drawing.png").is_file()
        (tiny / "drawing.png").unlink()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--room", "a b", "--code", "K"], "is not the address of a room"),
        (["--code", "K7PX"], "give the room's address"),
    ],
)
def test_draw_explains_an_address_before_it_draws(tiny: Path, words: list[str], sentence: str) -> None:
    result = draw(*words)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not (tiny / "drawing.png").exists()


# ---------------------------------------------------------------------------------------------- lessons


def test_check_sends_only_after_joining(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    check("2d.1", None)
    assert (len(served.room.participants), served.room.revisions) == (0, {})
    join_room(served.address)
    check("2d.1", None)
    check("2d.2", lambda: 1 / 0)
    assert served.room.news("table") == [{"who": "1", "results": {"2d.1": "○", "2d.2": "✗"}}]
    leave_room()
    check("2d.3", None)
    assert served.room.news("table") == []
    assert "HTML" in capsys.readouterr().out


def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences that are displayed from now on."""
    sentences: list[str] = []
    monkeypatch.setattr(lesson, "_tell", sentences.append)
    return sentences


def test_a_room_that_is_gone_never_stops_a_lesson(served: Served, shut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = told(monkeypatch)
    join_room(shut)
    assert "does not answer" in sentences.pop()
    check("2d.1", None)
    assert sentences == []  # it has not joined
    join_room(served.address)
    assert re.search(r"You have joined the room at http://127.* as participant 1\. .*not your answers", sentences.pop())
    here = lesson.ROOM.membership
    assert here is not None
    here.place = room_place(shut)
    for key in ("2d.1", "2d.2"):
        check(key, None)
    assert len(sentences) == 1  # once only
    assert "does not answer" in sentences[0]
    assert "The lesson goes on without it." in sentences.pop()
    here.place = room_place(served.address)
    monkeypatch.setattr(lesson.ROOM, "_silent_until", 0.0)
    check("2d.3", None)
    assert sentences == []
    assert served.room.news("table")[0]["results"] == {"2d.1": "○", "2d.2": "○", "2d.3": "○"}


def test_the_environment_joins_every_lesson(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = told(monkeypatch)
    monkeypatch.setenv(lesson.VARIABLE, served.address)
    check("2d.1", None)
    check("2d.2", None)
    assert len(sentences) == 1
    assert "has joined the room" in sentences[0]
    assert served.room.news("table")[0]["results"] == {"2d.1": "○", "2d.2": "○"}
    leave_room()
    check("2d.3", None)
    assert served.room.news("table") == []
    monkeypatch.setenv(lesson.VARIABLE, "no address")
    monkeypatch.setattr(lesson, "ROOM", lesson.LessonRoom())
    check("2d.1", None)
    assert "ATELIER_ROOM: 'no address' is not the address of a room" in sentences.pop()


def test_drawings_are_shared_once_joined(served: Served, pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = told(monkeypatch)
    panel = drawing_panel(pipe, "a cat")
    button = panel.children[4]
    button.click()
    share(pipe.draw("a dog", n=1, seed=0))
    assert sentences.pop() == "You are in no room: join_room(…) first."
    join_room(served.address)
    button.click()
    share(pipe.draw("a dog", n=1, seed=0))
    assert sentences.pop() == "The picture is on the wall."
    assert [picture["prompt"] for picture in served.room.news("pictures")] == ["a dog", "a cat"]
    monkeypatch.setitem(RATES, "picture", (1, 0.0))
    (participant,) = served.room.participants
    participant.allowances.clear()
    for _ in range(2):
        share(pipe.draw("a dog", n=1, seed=0))
    assert sentences[-2:] == [
        "The picture is on the wall.",
        "The room says: You are sending pictures too quickly; wait a few seconds.",
    ]
    check("2d.1", None)  # the results of exercises are still sent
    assert served.room.news("table")[0]["results"] == {"2d.1": "○"}


def test_the_panel_joins_and_leaves(served: Served) -> None:
    panel = room_panel()
    place, code, name, (join, leave), line = (getattr(part, "children", part) for part in panel.children)
    leave.click()
    assert line.value == "You are in no room."
    place.value, code.value = served.url, "XXXX"
    join.click()
    assert "not the room&#x27;s code" in line.value
    assert len(served.room.participants) == 0
    code.value, name.value = "k7px", "Ada"
    join.click()
    assert "as “Ada”" in line.value
    check("1.1", None)
    assert served.room.news("table") == [{"who": "Ada", "results": {"1.1": "○"}}]
    leave.click()
    assert "Nothing more is sent" in line.value
    assert len(served.room.participants) == 0


# ---------------------------------------------------------------------------------------------- many at once


def test_thirty_participants_at_once() -> None:
    command = [
        sys.executable,
        "-m",
        "atelier",
        "room",
        "--host",
        "127.0.0.1",
        "--port",
        str(free_port()),
        "--code",
        CODE,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        screen = server.stdout.readline().split()[-1]
        address, _, key = screen.partition("/screen#")
        outcome = soak(address, key, server.pid, seconds=5)
        server.terminate()
        rest = server.stdout.read()
    assert outcome.faults == []
    assert "Traceback" not in rest
    assert outcome.done["picture"] >= PARTICIPANTS
    assert outcome.done["heard"] == outcome.done["results"] == outcome.done["picture"]
    assert outcome.done["screen: pictures"] >= 1


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]
