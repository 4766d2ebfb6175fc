"""Many visitors of the page at once: python tests/page_soak.py --minutes 5. tests/test_server.py runs a short form.

Eight visitors draw, look inside, save, and vanish in the middle of a drawing, each as a new session every time. Nothing
may fail, each must get their own drawing, and the server's memory must not grow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil

COLOURS = ("red", "blue", "green", "yellow", "white", "purple", "orange", "brown")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Outcome:
    """What happened.

    Attributes:
        done: how often each thing was done.
        faults: what went wrong, in words.
        megabytes: the server's memory, measured regularly.
    """

    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Megabytes by which the last third of the measurements exceeds the second, on average."""
        third = len(self.megabytes) // 3
        second, last = self.megabytes[third : 2 * third], self.megabytes[2 * third : 3 * third]
        return sum(last) / len(last) - sum(second) / len(second)


def soak(address: str, process: int, seconds: float) -> Outcome:
    """Let eight visitors use a page.

    Args:
        address: of the page, such as http://127.0.0.1:7860.
        process: the server's process id, for its memory.
        seconds: how long.
    """
    outcome, end = Outcome(), time.monotonic() + seconds
    threads = [threading.Thread(target=visit, args=(address, number, end, outcome)) for number in range(8)]
    run_watched(threads, process, seconds, outcome)
    return outcome


def run_watched(threads: list[threading.Thread], process: int, seconds: float, outcome: Outcome) -> None:
    """Run threads until all have ended, and meanwhile measure the memory of a process."""
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        outcome.megabytes.append(psutil.Process(process).memory_info().rss / 2**20)
        time.sleep(max(0.1, seconds / 200))


def visit(address: str, number: int, end: float, outcome: Outcome) -> None:
    """Draw, look inside, save and vanish in turn until the time is over."""
    prompt, rounds = f"a {COLOURS[number]} car", 0
    while time.monotonic() < end:
        visitor = {"X-Visitor": f"{number}-{rounds}"}
        try:
            drawn = draw(address, prompt, visitor)
            outcome.done["drawn"] += 1
            if drawn["settings"]["prompt"] != prompt:
                outcome.faults.append(f"visitor {number} got {drawn['settings']['prompt']!r}")
            picture = {"prompt": prompt, "preset": drawn["settings"]["preset"], "codes": drawn["codes"][0]}
            words = json.loads(post(address, "look", picture, visitor))["words"]
            outcome.done["looked inside"] += 1
            if words != prompt.split():
                outcome.faults.append(f"visitor {number} got the words {words}")
            post(address, "save", {"settings": drawn["settings"], "pictures": drawn["codes"]}, visitor)
            outcome.done["saved"] += 1
            with send(address, "draw", {"prompt": prompt}, visitor) as answer:
                answer.readline()  # and vanish
            outcome.done["vanished"] += 1
        except Exception as fault:
            outcome.faults.append(f"visitor {number}: {fault!r}")
        rounds += 1


def draw(address: str, prompt: str, visitor: dict[str, str]) -> dict[str, Any]:
    """Draw four pictures; returns the finished drawing."""
    with send(address, "draw", {"prompt": prompt, "n": 4, "seed": 1}, visitor) as answer:
        return json.loads(list(answer)[-1])


def post(address: str, path: str, value: object, visitor: dict[str, str]) -> bytes:
    """The whole answer to a request."""
    with send(address, path, value, visitor) as answer:
        return answer.read()


def send(address: str, path: str, value: object, visitor: dict[str, str]) -> Any:
    """Send a request; returns the open answer."""
    headers = {"Content-Type": "application/json", **visitor}
    request = urllib.request.Request(f"{address}/{path}", json.dumps(value).encode(), headers)
    return DIRECT.open(request, timeout=120)


def main() -> int:
    """Serve the shipped preset, and print what happened. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--port", type=int, default=7862)
    given = parser.parse_args()
    command = [sys.executable, "-m", "atelier", "serve", "--preset", "laptop", "--port", str(given.port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        outcome = soak(f"http://127.0.0.1:{given.port}", server.pid, 60 * given.minutes)
    finally:
        server.terminate()
        server.wait(30)
    sys.stdout.write("\n".join(report(outcome)) + "\n")
    return 1 if outcome.faults else 0


def report(outcome: Outcome) -> list[str]:
    """What happened, in lines to print."""
    lines = [f"{what:16} {times:6}" for what, times in outcome.done.items()]
    lines += [f"{'faults':16} {len(outcome.faults):6}", *outcome.faults[:5]]
    lines += [
        f"memory {outcome.megabytes[0]:.0f} MB at first, {outcome.megabytes[-1]:.0f} MB at last, growth in the last "
        f"third {outcome.growth:+.1f} MB"
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
