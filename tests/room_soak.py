"""Thirty participants in a room at once: python tests/room_soak.py --minutes 5.

tests/test_room_client.py has a short run. Each participant sends pictures, results and votes, listens to the
news, and now and then vanishes and joins again. An instructor opens and closes polls, and hides pictures. Nothing may
fail, everybody must find their own picture in the news, and the server's memory must not grow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from atelier.room.client import DIRECT, Membership, Place
from page_soak import Outcome, report, run_watched, send
from PIL import Image

PARTICIPANTS = 30
CODE = "SOAK"
PACE = 3.0  # seconds for a round of one participant; a room takes a picture every two seconds
EVERY_VANISHING = 15  # rounds; a room lets one participant a second in from one address
LESSON = "2d"


@dataclass
class RoomOutcome(Outcome):
    """What happened in a room.

    Attributes:
        seconds: how long each request took.
    """

    seconds: list[float] = field(default_factory=list)


def soak(address: str, key: str, process: int, seconds: float) -> RoomOutcome:
    """Let 30 participants and an instructor use a room.

    Args:
        address: of the room, such as http://127.0.0.1:7870.
        key: of the instructor.
        process: the server's process id, for its memory.
        seconds: how long.
    """
    outcome, end = RoomOutcome(), time.monotonic() + seconds
    threads = [
        threading.Thread(target=take_part, args=(Place(address, CODE), number, end, outcome))
        for number in range(PARTICIPANTS)
    ]
    threads.append(threading.Thread(target=instruct, args=(address, key, end, outcome)))
    run_watched(threads, process, seconds, outcome)
    return outcome


def take_part(place: Place, number: int, end: float, outcome: RoomOutcome) -> None:
    """Join, and send a picture, results and a vote in each round."""
    chance = random.Random(number)
    time.sleep(chance.uniform(0, 1))
    member = Membership(place)
    member._token = f"{number:032x}"  # on one machine all would have the same
    for turn in itertools.count():
        if time.monotonic() >= end:
            return
        begun = time.monotonic()
        try:
            one_round(member, number, turn, chance, outcome)
        except Exception as fault:
            outcome.faults.append(f"participant {number}: {fault!r}")
        time.sleep(max(0.0, min(end, begun + PACE) - time.monotonic()))


def one_round(member: Membership, number: int, turn: int, chance: random.Random, outcome: RoomOutcome) -> None:
    prompt = f"picture {turn} of {number}"
    colours = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with timed("picture", outcome):
        member.send_picture(Image.fromarray(colours), prompt)
    member.note_result(f"{LESSON}.{1 + turn % 4}", chance.choice("○✗✓"))
    with timed("results", outcome):
        member.send_results()
    with closing(news(member.place.url, member._token)) as heard:
        parts = dict(itertools.islice(heard, 2))  # all that there is, as it is sent at once
        outcome.done["heard"] += 1
    if prompt not in [picture["prompt"] for picture in parts["pictures"]]:
        outcome.faults.append(f"participant {number} does not find “{prompt}”")
    if (poll := parts["poll"]) and poll["open"]:
        vote(member, poll, chance, outcome)
    if (turn + number) % EVERY_VANISHING == EVERY_VANISHING - 1:
        member.leave()  # the next picture is refused, and joins again
        outcome.done["vanished"] += 1


def vote(member: Membership, poll: dict[str, Any], chance: random.Random, outcome: RoomOutcome) -> None:
    """Vote; the instructor may close the poll at any time."""
    choice = {"token": member._token, "poll": poll["number"], "choice": chance.randrange(len(poll["choices"]))}
    try:
        with timed("vote", outcome):
            member._post("vote", choice)
    except Exception as fault:
        if "This poll is closed" not in str(fault):
            raise


class timed:  # noqa: N801  (it is used like a function)
    """Count a request, and measure how long it takes."""

    def __init__(self, what: str, outcome: RoomOutcome) -> None:
        self.what, self.outcome = what, outcome

    def __enter__(self) -> None:
        self.begun = time.monotonic()

    def __exit__(self, fault: type[BaseException] | None, *_: object) -> None:
        if fault is None:
            self.outcome.done[self.what] += 1
            self.outcome.seconds.append(time.monotonic() - self.begun)


def news(address: str, token: str) -> Generator[tuple[str, Any]]:
    """The parts of the news as they arrive."""
    with DIRECT.open(f"{address}/news?token={token}", timeout=60) as answer:
        part = ""
        for line in answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                part = value
            elif name == "data":
                yield part, json.loads(value)


def instruct(address: str, key: str, end: float, outcome: RoomOutcome) -> None:
    """Open and close the poll, and hide pictures, while a screen listens."""
    try:
        for part, value in news(address, key):
            outcome.done[f"screen: {part}"] += 1
            if part == "pictures" and len(value) > 40 and outcome.done["hidden"] < 20:
                control(address, key, "hide", value[len(value) // 2]["key"])  # neither new nor about to leave the wall
                outcome.done["hidden"] += 1
            if part == "table":
                control(address, key, "close" if outcome.done["poll"] % 2 else "open", LESSON)
                outcome.done["poll"] += 1
            if time.monotonic() >= end:
                return
    except Exception as fault:
        outcome.faults.append(f"instructor: {fault!r}")


def control(address: str, key: str, do: str, what: object) -> None:
    """Do what an instructor can do."""
    send(address, "screen/control", {"do": do, "what": what}, {"X-Room-Key": key}).close()


def main() -> int:
    """Hold a room, and print what happened. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--port", type=int, default=7872)
    given = parser.parse_args()
    command = [sys.executable, "-m", "atelier", "room", "--host", "127.0.0.1", "--port", str(given.port)]
    server = subprocess.Popen([*command, "--code", CODE], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        key = server.stdout.readline().strip().partition("#")[2]
        outcome = soak(f"http://127.0.0.1:{given.port}", key, server.pid, 60 * given.minutes)
        used = psutil.Process(server.pid).cpu_times()
    finally:
        server.terminate()
        server.wait(30)
    times = sorted(outcome.seconds)
    lines = [
        f"requests: median {1000 * statistics.median(times):.0f} ms, 99 % below "
        f"{1000 * times[int(0.99 * len(times))]:.0f} ms, slowest {1000 * times[-1]:.0f} ms",
        f"server: {used.user + used.system:.0f} seconds of processor time in {60 * given.minutes:.0f} seconds",
    ]
    sys.stdout.write("\n".join(report(outcome) + lines) + "\n")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
