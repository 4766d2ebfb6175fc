"""A workshop's room: who may join, what it takes, what it shows, and what it forgets."""

import asyncio
import base64
import csv
import io
import json
import socket
import time
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atelier.errors import AtelierError, FileError
from atelier.page.access import Access, is_local_address
from atelier.page.faults import PageError, PortError
from atelier.room.app import RoomApp, build_app
from atelier.room.claims import claims_by_lesson
from atelier.room.code import LETTERS, checked_code, new_code
from atelier.room.keeping import Keeper
from atelier.room.limits import (
    LONG_SILENCE,
    MOST_NAME,
    MOST_PARTICIPANTS,
    MOST_PICTURES,
    MOST_PROMPT,
    MOST_STREAMS,
    RATES,
    SILENCE,
)
from atelier.room.participants import Participant
from atelier.room.pictures import encoded_again, sent_png
from atelier.room.poll import NO_DOUBT
from atelier.room.room import Room
from atelier.room.server import hold_room, usual_first
from atelier.room.texts import shown_text
from atelier.teaching.claims import CLAIMS, LESSON_OF
from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

TEST_CLAIMS = {"1": ["The moon is a cheese.", "<b>Blue</b> is red."], "2d": ["The latent space is discrete."]}


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(clock: Clock) -> Room:
    return Room("K7PX", TEST_CLAIMS, clock=clock)


def visitor(room: Room, address: str = "192.168.1.20", access: Access | None = None) -> TestClient:
    return TestClient(build_app(room, ["http://192.168.1.5:7870"], access), "http://localhost", client=(address, 5000))


@pytest.fixture
def laptop(room: Room) -> TestClient:
    return visitor(room)


def joined(client: TestClient, **values: Any) -> str:
    """Join; returns the token."""
    answer = client.post("/join", json={"code": "K7PX", **values})
    assert answer.status_code == 200, answer.text
    return answer.json()["token"]


def png(size: tuple[int, int] = (8, 8), colour: str = "red", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format="PNG", **options)
    return file.getvalue()


def sent(client: TestClient, token: str, prompt: Any = "a cat", content: bytes | None = None) -> Any:
    encoded = base64.b64encode(png() if content is None else content).decode()
    return client.post("/pictures", json={"prompt": prompt, "png": encoded}, headers={"X-Room-Token": token})


def controlled(client: TestClient, room: Room, do: str, what: Any = None) -> Any:
    return client.post("/screen/control", json={"do": do, "what": what}, headers={"X-Room-Key": room.key})


def refused(answer: Any, status: int, words: str) -> None:
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


# ---------------------------------------------------------------------------------------------- joining


def test_codes_are_random_and_easy_to_read() -> None:
    codes = {new_code() for _ in range(200)}
    assert len(codes) > 190
    assert {len(code) for code in codes} == {4}
    assert set("".join(codes)) <= set(LETTERS)
    assert not set(LETTERS) & set("AEIOUL01")


@pytest.mark.parametrize("code", ["k7px", " K7-PX ", "K7PX"])
def test_the_code_lets_in_however_it_is_typed(laptop: TestClient, room: Room, code: str) -> None:
    answer = laptop.post("/join", json={"code": code}).json()
    assert (answer["number"], answer["names"], len(answer["token"])) == (1, False, 32)
    assert room.news("about")["people"] == 1


def test_without_the_code_nothing_is_taken(laptop: TestClient, room: Room) -> None:
    refused(laptop.post("/join", json={"code": "XXXX"}), 403, "not the room's code")
    refused(laptop.post("/join", json={}), 400, "The code is not text")
    for path, values in (
        ("pictures", {"prompt": "a cat", "png": ""}),
        ("results", {"results": {"1.1": "✓"}}),
        ("vote", {"poll": 1, "choice": 0}),
        ("leave", {}),
    ):
        refused(laptop.post(f"/{path}", json={"token": "f" * 32, **values}), 401, "join with the code")
    refused(laptop.get("/news?token=" + "f" * 32), 401, "join with the code")
    assert [room.news(part) for part in ("pictures", "table", "poll")] == [[], [], None]


def test_codes_cannot_be_guessed(laptop: TestClient, room: Room, clock: Clock) -> None:
    """After many wrong codes an address is refused for a while, even with the right one; others are not."""
    burst = int(RATES["wrong code"][0])
    for number in range(burst):
        refused(laptop.post("/join", json={"code": f"X{number:03}"}), 403, "not the room's code")
    refused(laptop.post("/join", json={"code": "XXXX"}), 429, "wrong codes")
    refused(laptop.post("/join", json={"code": "K7PX"}), 429, "wrong codes")
    assert joined(visitor(room, "192.168.1.21"))
    clock.seconds += 10
    assert joined(laptop)


def test_an_instructor_may_choose_the_code() -> None:
    assert checked_code(" clip-2 ") == "CLIP2"
    for code in ("abc", "café!", "A" * 13, "<b>"):
        with pytest.raises(AtelierError, match="give 4 to 12 of the letters A to Z and digits"):
            checked_code(code)


def test_participants_are_numbered_and_names_are_dropped(laptop: TestClient, room: Room) -> None:
    for number in (1, 2):
        token = joined(laptop, name="Ada")
        laptop.post("/results", json={"token": token, "results": {"1.1": "✓"}})
        assert sent(laptop, token).status_code == 200
        assert room.news("table")[-1]["who"] == str(number)
    assert {picture["who"] for picture in room.news("pictures")} == {""}
    assert "Ada" not in json.dumps([room.news(part) for part in ("about", "pictures", "table", "poll")])


def test_names_are_shown_if_the_instructor_wants_them() -> None:
    room = Room("K7PX", {}, names=True)
    client = visitor(room)
    token = joined(client, name="  Ada \u202e Lovelace, Countess of Everything ")
    client.post("/results", json={"token": token, "results": {"1.1": "✓"}})
    sent(client, token)
    (name,) = {room.news("table")[0]["who"], room.news("pictures")[0]["who"]}
    assert name == "Ada Lovelace, Countess…"
    assert len(name) <= MOST_NAME
    assert client.get("/hello").json() == {"names": True}


# ---------------------------------------------------------------------------------------------- vanishing


def test_whoever_vanishes_is_forgotten_and_comes_back_as_before(laptop: TestClient, room: Room, clock: Clock) -> None:
    first, second = joined(laptop), joined(laptop)
    laptop.post("/results", json={"token": first, "results": {"1.1": "✗"}})
    assert joined(laptop)  # a laptop that has sent nothing yet
    room.participants.find(second).listened = True  # a phone
    clock.seconds += SILENCE + 1
    room.forget_vanished()
    assert [each.number for each in room.participants] == [1, 3]
    refused(sent(laptop, second), 401, "it has forgotten you")
    clock.seconds += LONG_SILENCE
    room.forget_vanished()
    assert (len(room.participants), room.news("table")) == (0, [])
    again = laptop.post("/join", json={"code": "K7PX", "token": second}).json()
    assert (again["token"], again["number"]) == (second, 2)
    assert laptop.post("/join", json={"code": "K7PX"}).json()["number"] == 4


def test_whoever_listens_is_not_forgotten(room: Room, clock: Clock) -> None:
    participant = room.join("K7PX", "", "192.168.1.7")
    participant.streams.append(object())
    clock.seconds += LONG_SILENCE + 1
    room.forget_vanished()
    assert list(room.participants) == [participant]


def test_a_full_room_takes_the_place_of_somebody_silent(room: Room, clock: Clock) -> None:
    def join(number: int) -> Participant:
        return room.join("K7PX", "", f"10.0.0.{number}")

    first = join(0)
    for number in range(1, MOST_PARTICIPANTS):
        join(number)
    with pytest.raises(PageError, match=f"The room is full: {MOST_PARTICIPANTS} participants"):
        join(200)
    clock.seconds += SILENCE - 1
    for participant in list(room.participants)[1:]:
        room.participants.find(participant.token)
    first.results["1.1"] = "✓"  # so that it is not forgotten anyway
    clock.seconds += 2
    join(201)
    assert len(room.participants) == MOST_PARTICIPANTS
    assert first not in list(room.participants)


def test_leaving_removes_the_results_and_not_the_pictures(laptop: TestClient, room: Room) -> None:
    token = joined(laptop)
    sent(laptop, token)
    laptop.post("/results", json={"token": token, "results": {"1.1": "✓"}})
    assert laptop.post("/leave", json={"token": token}).status_code == 200
    assert (room.news("table"), room.news("about")["people"], len(room.news("pictures"))) == ([], 0, 1)


# ---------------------------------------------------------------------------------------------- pictures


def test_a_picture_is_encoded_again_without_what_else_its_file_contains(laptop: TestClient, room: Room) -> None:
    secret = PngImagePlugin.PngInfo()
    secret.add_text("secret", "of the sender")
    content = png((5, 3), "blue", pnginfo=secret) + b"more secrets"
    assert sent(laptop, joined(laptop), "a blue sea", content).status_code == 200
    (picture,) = room.news("pictures")
    answer = laptop.get(f"/pictures/{picture['key']}.png")
    assert answer.headers["content-type"] == "image/png"
    assert b"secret" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.size, image.getpixel((4, 2)), image.info) == ((5, 3), (0, 0, 255), {})


def bomb() -> bytes:
    """A small file that claims to have a million pixels on a side."""
    whole = png((8, 8))
    head = bytearray(whole[:33])
    head[16:24] = (10**6).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, "big")
    return bytes(head) + whole[33:]


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format="JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "not a PNG file"),
        (b"GIF89a" + bytes(50), 400, "not a PNG file"),
        (jpeg(), 400, "not a PNG file"),
        (png((64, 64))[:-30], 400, "its file is damaged"),
        (png((1025, 4)), 413, "1025 × 4 pixels; send at most 1024 × 1024"),
        (bomb(), 413, "too many pixels; send at most 1024 × 1024"),
        (png() + bytes(2_000_001), 413, "send at most 2,000,000"),
        (png() + bytes(2_500_000), 413, "request is too large; send at most 3,000,000"),
    ],
    ids=["nothing", "GIF", "JPEG", "cut off", "too wide", "bomb", "2 MB", "3 MB"],
)
def test_a_picture_that_is_none_or_too_large_is_refused(
    laptop: TestClient, room: Room, content: bytes, status: int, words: str
) -> None:
    refused(sent(laptop, joined(laptop), "a cat", content), status, words)
    assert room.news("pictures") == []


def test_pictures_of_all_modes_are_taken() -> None:
    for mode in ("1", "L", "P", "LA", "RGBA", "I;16"):
        file = io.BytesIO()
        Image.new(mode, (4, 4)).save(file, format="PNG")
        with Image.open(io.BytesIO(encoded_again(file.getvalue()))) as image:
            assert (image.mode, image.size) == ("RGB", (4, 4))
    grey = io.BytesIO()
    Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16)).save(grey, format="PNG")
    with Image.open(io.BytesIO(encoded_again(grey.getvalue()))) as image:
        assert image.getpixel((0, 0)) == (128, 128, 128)
    transparent = io.BytesIO()
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(transparent, format="PNG")
    with Image.open(io.BytesIO(encoded_again(transparent.getvalue()))) as image:
        assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 64), (256, 256)), ((300, 20), (300, 20)), ((3000, 1500), (1024, 512))]
)
def test_a_picture_is_sent_in_a_size_that_a_room_takes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(encoded_again(sent_png(Image.new("RGB", size))))) as image:
        assert image.size == expected


def test_too_many_pictures_in_a_short_time_are_refused(laptop: TestClient, clock: Clock) -> None:
    token, burst = joined(laptop), int(RATES["picture"][0])
    assert [sent(laptop, token).status_code for _ in range(burst)] == [200] * burst
    refused(sent(laptop, token), 429, "too quickly")
    assert sent(laptop, joined(laptop)).status_code == 200  # somebody else
    clock.seconds += 1 / RATES["picture"][1]
    assert [sent(laptop, token).status_code for _ in range(2)] == [200, 429]


def test_the_newest_picture_is_first_and_the_oldest_leave(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    participant = room.join("K7PX", "", "10.0.0.1")
    for number in range(MOST_PICTURES + 5):
        room.add_picture(participant, f"picture {number}", b"x" * 10)
    prompts = [picture["prompt"] for picture in room.news("pictures")]
    assert prompts == [f"picture {number}" for number in range(MOST_PICTURES + 4, 4, -1)]
    monkeypatch.setattr("atelier.room.room.MOST_WALL_BYTES", 100)
    room.add_picture(participant, "the last", b"x" * 50)
    assert [picture["prompt"] for picture in room.news("pictures")] == ["the last", *prompts[:5]]


def test_a_hidden_picture_can_be_put_back(laptop: TestClient, room: Room) -> None:
    token = joined(laptop)
    for prompt in ("one", "two", "three"):
        sent(laptop, token, prompt)
    key = room.news("pictures")[1]["key"]
    assert controlled(laptop, room, "hide", key).status_code == 200
    assert [picture["prompt"] for picture in room.news("pictures")] == ["three", "one"]
    refused(laptop.get(f"/pictures/{key}.png"), 404, "no longer on the wall")
    controlled(laptop, room, "show", key)
    assert [picture["prompt"] for picture in room.news("pictures")] == ["three", "two", "one"]
    refused(controlled(laptop, room, "hide", "unknown"), 404, "no longer on the wall")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("  a \n red\tcar ", "a red car"),
        ("a\u202ecat\u0000 \ud800!", "acat !"),
        ("👩\u200d🎨 <img src=x>", "👩\u200d🎨 <img src=x>"),
        ("x" * 500, "x" * (MOST_PROMPT - 1) + "…"),
        ("\u200b" * 500, ""),
    ],
)
def test_prompts_are_cleaned_and_cut(laptop: TestClient, room: Room, given: str, shown: str) -> None:
    assert shown_text(given, MOST_PROMPT, "The prompt") == shown
    token = joined(laptop)
    body = json.dumps({"prompt": given, "png": base64.b64encode(png()).decode()})  # with ASCII only, also for \ud800
    headers = {"Content-Type": "application/json", "X-Room-Token": token}
    answer = laptop.post("/pictures", content=body, headers=headers)
    assert answer.status_code == 200
    assert room.news("pictures")[0]["prompt"] == shown


# ---------------------------------------------------------------------------------------------- exercises


def test_the_table_has_the_last_result_of_each_exercise(laptop: TestClient, room: Room) -> None:
    ada, boris = joined(laptop), joined(laptop)
    for token, results in ((boris, {"2d.1": "✓"}), (ada, {"2d.1": "○", "2d.2": "✗"}), (ada, {"2d.1": "✓"})):
        assert laptop.post("/results", json={"token": token, "results": results}).status_code == 200
    expected = [{"who": "1", "results": {"2d.1": "✓", "2d.2": "✗"}}, {"who": "2", "results": {"2d.1": "✓"}}]
    assert room.news("table") == expected
    controlled(laptop, room, "clear", "table")
    assert (room.news("table"), room.news("about")["people"]) == ([], 2)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (None, "not an object"),
        ({}, "not an object"),
        (["2d.1"], "not an object"),
        ({"<b>.1": "✓"}, "There is no exercise '<b>.1'"),
        ({"2d.1": "good"}, "one of ○, ✗, ✓"),
        ({"2d.1": ["✓"]}, "one of ○, ✗, ✓"),
        ({f"{lesson}.{number}": "✓" for lesson in range(1, 10) for number in range(1, 8)}, "At most 60 exercises"),
    ],
)
def test_results_that_are_none_are_refused(laptop: TestClient, room: Room, results: Any, words: str) -> None:
    refused(laptop.post("/results", json={"token": joined(laptop), "results": results}), 400, words)
    assert room.news("table") == []


# ---------------------------------------------------------------------------------------------- the poll


def test_the_poll_has_the_claims_of_the_course() -> None:
    read = claims_by_lesson()
    assert list(read) == ["1", "2a", "2b", "2c", "2d", "2e", "3", "4", "5"]
    assert read == {
        lesson: [claim.words for key, claim in CLAIMS.items() if LESSON_OF[key] == lesson] for lesson in read
    }


def test_votes_are_counted_while_the_poll_is_open(laptop: TestClient, room: Room, clock: Clock) -> None:
    tokens = [joined(laptop) for _ in range(3)]

    def vote(token: str, choice: Any, poll: Any = 1) -> Any:
        clock.seconds += 2
        return laptop.post("/vote", json={"token": token, "poll": poll, "choice": choice})

    refused(vote(tokens[0], 0), 409, "no poll")
    controlled(laptop, room, "open", "1")
    assert room.news("poll")["choices"] == [*TEST_CLAIMS["1"], NO_DOUBT]
    for token, choice in ((tokens[0], 0), (tokens[1], 1), (tokens[2], 2), (tokens[0], 1)):
        assert vote(token, choice).status_code == 200
    assert (room.news("poll")["counts"], room.news("poll")["open"]) == ([0, 2, 1], True)
    for choice in (3, -1, "1", True, None, 0.5):
        refused(vote(tokens[0], choice), 400, "There is no such choice; give a number from 0 to 2")
    controlled(laptop, room, "close")
    refused(vote(tokens[0], 0), 409, "This poll is closed")
    controlled(laptop, room, "open", "1")  # the same poll, with its votes
    assert room.news("poll")["counts"] == [0, 2, 1]
    controlled(laptop, room, "clear", "poll")
    assert room.news("poll")["counts"] == [0, 0, 0]
    refused(vote(tokens[0], 0), 409, "This poll is closed")  # a vote for the cleared poll comes too late
    assert vote(tokens[0], 0, poll=2).status_code == 200
    controlled(laptop, room, "open", "2d")
    assert (room.news("poll")["lesson"], room.news("poll")["number"]) == ("2d", 3)
    refused(controlled(laptop, room, "open", "6"), 400, "no claims of a lesson '6'")


# ---------------------------------------------------------------------------------------------- the instructor


def test_only_the_instructor_controls_the_room(laptop: TestClient, room: Room) -> None:
    for key in (b"", b"x" * len(room.key), joined(laptop).encode(), "é".encode()):
        headers = {b"X-Room-Key": key}
        refused(laptop.get("/screen/about", headers=headers), 403, "Only the instructor")
        refused(laptop.post("/screen/control", json={"do": "stop"}, headers=headers), 403, "Only the instructor")
    assert not room.ended
    about = laptop.get("/screen/about", headers={"X-Room-Key": room.key}).json()
    assert about["code"] == "K7PX"
    assert about["places"][0]["joining"] == "http://192.168.1.5:7870/K7PX"
    assert about["lessons"] == {"1": 2, "2d": 1}
    assert room.key not in laptop.get("/screen").text
    refused(controlled(laptop, room, "dance"), 400, "no such control")
    refused(controlled(laptop, room, "clear", "everything"), 400, "One can clear pictures, table, poll")


def test_stop_ends_the_room_and_its_server(room: Room) -> None:
    stopped = []
    app = build_app(room, stop=lambda: stopped.append(True))
    with TestClient(app, "http://localhost", client=("127.0.0.1", 5000)) as client:
        controlled(client, room, "stop")
        end = time.monotonic() + 20
        while not stopped and time.monotonic() < end:
            client.get("/hello")
    assert (stopped, room.ended) == ([True], True)


# ---------------------------------------------------------------------------------------------- news


async def events(stream: AsyncGenerator[str], count: int) -> list[tuple[str, Any]]:
    """The next events of a stream."""
    found: list[tuple[str, Any]] = []
    async with asyncio.timeout(20):
        async for text in stream:
            if text.startswith("event: "):
                name, data = text.removeprefix("event: ").rstrip("\n").split("\ndata: ")
                found.append((name, json.loads(data)))
                if len(found) == count:
                    break
    return found


def test_news_begin_with_everything_and_go_on_with_changes(room: Room) -> None:
    async def listen() -> None:
        participant, app = room.join("K7PX", "", "10.0.0.1"), RoomApp(room, [], None)
        room.add_picture(participant, "a cat", b"")
        phone, screen = app._news(participant), app._news(None)
        assert [name for name, _ in await events(phone, 2)] == ["pictures", "poll"]
        assert [name for name, _ in await events(screen, 4)] == ["about", "pictures", "poll", "table"]
        room.open_poll("1")
        assert [(name, news["lesson"]) for name, news in await events(phone, 1)] == [("poll", "1")]
        room.add_results(participant, {"1.1": "✓"})  # phones are not told
        room.add_picture(participant, "two", b"")
        room.add_picture(participant, "three", b"")
        ((name, pictures),) = await events(phone, 1)
        assert (name, [each["prompt"] for each in pictures]) == ("pictures", ["three", "two", "a cat"])
        room.end()
        assert await events(phone, 1) == [("ended", {})]
        await phone.aclose()
        assert len(participant.streams) == 0
        await screen.aclose()

    asyncio.run(listen())


def test_a_connection_without_news_shows_that_it_lives(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atelier.room.app.HEARTBEAT", 0.01)

    async def listen() -> list[str]:
        stream = RoomApp(room, [], None)._news(None)
        texts = [await anext(stream) for _ in range(7)]
        await stream.aclose()
        return texts

    assert asyncio.run(listen())[-2:] == [": still here\n\n"] * 2


def test_a_participant_who_connects_again_replaces_the_oldest_connection(room: Room) -> None:
    async def listen() -> list[int]:
        participant, app = room.join("K7PX", "", "10.0.0.1"), RoomApp(room, [], None)
        streams = [app._news(participant) for _ in range(MOST_STREAMS + 1)]
        for stream in streams:
            await events(stream, 2)
        room.open_poll("1")
        found = [len(await events(stream, 1)) for stream in streams]
        for stream in streams:
            await stream.aclose()
        return found

    assert asyncio.run(listen()) == [0] + [1] * MOST_STREAMS


# ---------------------------------------------------------------------------------------------- the local network


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("192.168.178.20", True),
        ("10.1.2.3", True),
        ("172.31.0.9", True),
        ("169.254.3.4", True),
        ("::1", True),
        ("fd12::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:192.168.1.2", True),
        ("8.8.8.8", False),
        ("172.32.0.1", False),
        ("203.0.113.7", False),
        ("2001:db8::1", False),
        ("::ffff:8.8.8.8", False),
        ("testclient", False),
        ("", False),
    ],
)
def test_only_the_local_network_is_answered(room: Room, address: str, local: bool) -> None:
    assert is_local_address(address) is local
    answer = visitor(room, address).get("/hello")
    assert answer.status_code == (200 if local else 403)
    assert local or "Only machines of the local network" in answer.json()["error"]
    assert visitor(room, address, Access(local_only=False)).get("/hello").status_code == 200


def test_other_web_sites_cannot_use_the_room(laptop: TestClient, room: Room) -> None:
    body = json.dumps({"code": "K7PX"})
    refused(laptop.post("/join", content=body, headers={"Content-Type": "text/plain"}), 415, "application/json")
    refused(laptop.get("/hello", headers={"Host": "attacker.example"}), 421, "not served under the name")
    headers = laptop.get("/K7PX").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert room.news("about")["people"] == 0


def test_there_are_no_other_pages(laptop: TestClient) -> None:
    for path in ("/", "/K7PX", "/screen", "/room/screen.js", "/static/palette.css"):
        assert laptop.get(path).status_code == 200
    for path in ("/favicon.ico", "/a-b", "/room/../app.py", "/room/%2e%2e/app.py", "/pictures/x.png"):
        assert laptop.get(path).status_code == 404
    refused(
        laptop.post("/join", content=b"[1]", headers={"Content-Type": "application/json"}), 400, "not a JSON object"
    )


# ---------------------------------------------------------------------------------------------- keeping


def test_nothing_is_written_unless_asked(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    laptop = visitor(room)
    token = joined(laptop)
    sent(laptop, token)
    laptop.post("/results", json={"token": token, "results": {"1.1": "✓"}})
    room.end()
    assert list(tmp_path.iterdir()) == []


def test_a_keeper_writes_pictures_and_tables(tmp_path: Path) -> None:
    folder = tmp_path / "workshop"
    room = Room("K7PX", TEST_CLAIMS, names=True, keeper=Keeper(folder))
    laptop = visitor(room)
    token = joined(laptop, name="=Ada()")
    for prompt in ("A red car / ../..", "日本", "a cat"):
        sent(laptop, token, prompt)
    laptop.post("/results", json={"token": token, "results": {"1.2": "✓", "1.1": "✗"}})
    controlled(laptop, room, "open", "1")
    laptop.post("/vote", json={"token": token, "poll": 1, "choice": 1})
    names = ["picture-001-a-red-car.png", "picture-002-日本.png", "picture-003-a-cat.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    key = room.news("pictures")[0]["key"]
    room.hide(key)
    assert not (folder / names[2]).exists()
    room.hide(key, hidden=False)
    assert (folder / names[2]).read_bytes() == room.picture(key).content
    room.end()
    room.end()
    with (folder / "results-001.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["participant", "exercise", "result"],
            ["'=Ada()", "1.1", "✗"],
            ["'=Ada()", "1.2", "✓"],
        ]
    with (folder / "poll-001.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[2] == ["1", "<b>Blue</b> is red.", "1"]
    assert len(list(folder.iterdir())) == 5


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, room: Room) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file cannot be read or written"):
        next(hold_room("127.0.0.1", 0, keep=tmp_path / "file"))
    room.keeper = Keeper(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    laptop = visitor(room)
    assert sent(laptop, joined(laptop)).status_code == 200  # the room goes on, and the screen says what is wrong
    assert "Nothing more is kept in" in room.news("about")["fault"]


# ---------------------------------------------------------------------------------------------- serving


def test_it_prints_where_the_screen_is_and_how_to_join() -> None:
    sentences = hold_room("127.0.0.1", 0, code="clip")
    assert next(sentences).startswith("The shared screen is at http://127.0.0.1:")
    assert "with the code CLIP. Press Ctrl-C" in next(sentences)
    assert "Only this machine can reach it" in next(sentences)
    sentences.close()


def test_a_port_in_use_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=f"Port {port} is used by another program.*`atelier room`"):
            next(hold_room("127.0.0.1", port))


def test_the_usual_address_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["http://172.17.0.1:7870", "http://192.168.1.5:7870", "http://192.168.1.50:7870"]

    class Socket(socket.socket):
        def connect(self, address: object) -> None:
            if not routes:
                raise OSError("no route")

        def getsockname(self) -> tuple[str, int]:
            return ("192.168.1.5", 1)

    monkeypatch.setattr("atelier.room.server.socket.socket", Socket)
    routes = True
    assert usual_first(addresses) == [addresses[1], addresses[0], addresses[2]]
    routes = False
    assert usual_first(addresses) == addresses
