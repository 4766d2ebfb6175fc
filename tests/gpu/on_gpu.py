"""Run everything that only a GPU can show, most valuable first: python tests/gpu/on_gpu.py [--rehearse] [--only STEP].

Each step is a command of its own with its own time limit, so a step that fails or hangs does not stop the others. After
each step the results are written to FOLDER/results.json, and pictures are in FOLDER/pictures. `--minutes` limits the
whole; steps that did not pass are run by the next call, those that passed are not, unless `--again` is given.
`--rehearse` runs the same plan on the CPU with tiny sizes, in a few minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "results.json"
LEAST_SECONDS = 10  # a step is not started with less time
TAIL = 4000  # characters of a step's output that are kept
ATELIER, PYTEST = (sys.executable, "-m", "atelier"), (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
EMPTY = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"  # a training does not overwrite another
TINY = "import sys, pathlib, tiny_preset; tiny_preset.tiny_preset(pathlib.Path(sys.argv[1]))"


@dataclass(frozen=True)
class Step:
    """A step of the plan.

    Attributes:
        name: as for `--only`.
        seconds: its limit.
        commands: run one after the other until one fails.
        needs: modules without which it is not run.
    """

    name: str
    seconds: float
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...] = ()


def plan(folder: Path, rehearse: bool) -> list[Step]:
    """List the steps, most valuable first.

    Args:
        folder: for what the steps write.
        rehearse: tiny sizes, for a CPU.
    """
    pictures, smoke, lesson = folder / "pictures", folder / "smoke", folder / "pictures" / "lesson_5.ipynb"
    here = Path(__file__).parent
    mega = (sys.executable, "-W", "ignore", str(here / "mega.py"), str(pictures))
    executed = (sys.executable, str(here / "lesson.py"), str(lesson))
    validated = (*PYTEST, "--nbval-lax", "--nbval-current-env", str(lesson))
    emptied = (sys.executable, "-c", EMPTY, str(smoke))
    drawn = (*ATELIER, "draw", "a red car in the snow", "--preset", str(smoke / "preset"), "--seed", "0", "--out")
    if rehearse:
        tiny = (sys.executable, "-c", TINY, str(folder / "tiny"))
        trained = (*ATELIER, "train", "all", "--preset", str(folder / "tiny"), "--run-dir", str(smoke), "--steps", "4")
        tests = (*PYTEST, "-m", "hardware", "tests/test_world.py", "tests/test_everything.py")
        return [
            Step("tests", 120, (tests,), ("pytest",)),
            Step("smoke", 120, (emptied, tiny, trained, (*drawn, str(pictures / "smoke.png")))),
            Step("mega", 180, ((*mega, "--tiny"),)),
            Step("lesson", 240, ((*executed, "6"), validated, validated), ("nbclient", "nbval", "jupytext")),
            Step("benches", 120, ((*PYTEST, "--collect-only", "tests/bench/test_speed.py"),), ("pytest",)),
        ]
    trained = (*ATELIER, "train", "all", "--preset", "studio", "--run-dir", str(smoke), "--minutes", "1")
    trained += ("--set", "bart.distinct=4000")  # pictures to encode beforehand
    benches = [f"tests/bench/test_{name}.py" for name in ("speed", "training_speed", "clip_speed")]
    return [
        Step("tests", 240, ((*PYTEST, "-m", "hardware", "tests"),), ("pytest",)),
        Step("smoke", 240, (emptied, trained, (*drawn, str(pictures / "smoke.png")))),
        Step("mega", 300, (mega,)),
        Step("lesson", 560, (executed, validated, validated), ("nbclient", "nbval", "jupytext")),
        Step("benches", 420, ((*PYTEST, "-p", "no:xdist", "-s", *benches),), ("pytest",)),
    ]


def run_step(step: Step, limit: float) -> dict[str, Any]:
    """Run the commands of a step.

    Args:
        step: the step.
        limit: seconds for all its commands.

    Returns:
        Its status, "passed", "failed", "timed out" or "not run", the seconds, the end of the output, and as `found`
        what is in the last lines of its commands, see `_found`.
    """
    missing = [name for name in step.needs if importlib.util.find_spec(name) is None]
    if missing:
        return {"status": "not run", "why": f"{', '.join(missing)} cannot be imported", "seconds": 0.0}
    start, output, found, status = time.monotonic(), "", [], "passed"
    for command in step.commands:
        text, code = _run(command, limit - (time.monotonic() - start))
        output += f"$ {' '.join(command)[:300]}\n{text}"
        status = {0: "passed", None: "timed out"}.get(code, "failed")
        found += _found(text)
        if code != 0:
            break
    seconds = round(time.monotonic() - start, 1)
    return {"status": status, "seconds": seconds, "limit": round(limit), "found": found, "output": output[-TAIL:]}


def _run(command: Sequence[str], seconds: float) -> tuple[str, int | None]:
    """Run a command; returns its output and its exit code, None if it took too long. Its children are ended with it."""
    paths = [str(ROOT / "lib"), str(ROOT / "tests"), str(ROOT / "tests" / "parity"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=max(seconds, 0.1))[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], None


def _found(text: str) -> list[Any]:
    """The last line of an output: as JSON if it is JSON, or pytest's count of what passed."""
    last = (text.strip().splitlines() or [""])[-1]
    if last.startswith("{"):
        return [json.loads(last)]
    return [last.strip("= ")] if " in " in last and "s" in last else []


def machine() -> dict[str, Any]:
    """The machine on which the results were measured."""
    import torch

    facts: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "gpu": None}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "gigabytes": round(properties.total_memory / 1e9, 1)}
        facts |= {"cuda": torch.version.cuda, "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False)}
    return facts


def run_plan(
    steps: list[Step], folder: Path, seconds: float, facts: dict[str, Any], again: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the steps that have not passed yet, and write the results after each.

    Args:
        steps: in their order.
        folder: of the results.
        seconds: for all steps together; a step gets what is left, at most its own limit.
        facts: about the machine; results of another machine are not kept.
        again: also run steps that have passed.
        say: called with a line for each step.

    Returns:
        What is in the file of results.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    path, start = folder / RESULTS, time.monotonic()
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results: dict[str, Any] = {"machine": facts, "steps": {}}
    if known.get("machine") == facts and not again:
        results["steps"] = {name: each for name, each in known["steps"].items() if each["status"] == "passed"}
    for step in steps:
        left = seconds - (time.monotonic() - start)
        if step.name in results["steps"]:
            say(f"{step.name}: passed before")
            continue
        if left < LEAST_SECONDS:
            result: dict[str, Any] = {"status": "not run", "why": "no time was left", "seconds": 0.0}
        else:
            result = run_step(step, min(step.seconds, left))
        results["steps"][step.name] = result
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"{step.name}: {result['status']}, {result['seconds']:.0f} s, {result.get('why') or result['found']}")
    return results


def main() -> int:
    """Run the plan; returns 0 if all chosen steps have passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on a CPU")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="only these steps")
    parser.add_argument("--again", action="store_true", help="also run steps that have passed")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all steps together (default 9.5)")
    parser.add_argument("--out", type=Path, help="the folder for results and pictures (default build/gpu)")
    given = parser.parse_args()
    folder = (given.out or ROOT / "build" / ("gpu-rehearsal" if given.rehearse else "gpu")).resolve()
    steps = plan(folder, given.rehearse)
    unknown = set(given.only or ()) - {step.name for step in steps}
    if unknown:
        parser.error(
            f"there is no step {', '.join(sorted(unknown))}; there are {', '.join(step.name for step in steps)}"
        )
    facts = machine()
    if facts["gpu"] is None and not given.rehearse:
        parser.error("there is no GPU here; --rehearse runs the plan on the CPU with tiny sizes")
    os.environ.setdefault("ATELIER_MINE", str(folder / "mine"))  # lesson 5 saves its blocks here, not in runs/mine
    chosen = [step for step in steps if not given.only or step.name in given.only]
    results = run_plan(chosen, folder, 60 * given.minutes, facts, given.again, typer.echo)
    typer.echo(f"{folder / RESULTS}; pictures are beside it")
    return 0 if all(results["steps"][step.name]["status"] == "passed" for step in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
