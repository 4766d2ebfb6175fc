"""Run the Linux legs of .github/workflows/test.yml here: `make matrix`, or `make matrix LEG=3.11-lowest-direct`.

Each leg gets an environment of its own in build/matrix. The commands are those of the workflow. A leg whose Python is
missing, and that uv cannot fetch, is reported as not run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"
JOB = "platforms"
ENVIRONMENTS = ROOT / "build" / "matrix"
UV = [sys.executable, "-m", "uv"]

Leg = dict[str, str]


def read_job(path: Path = WORKFLOW) -> dict[str, Any]:
    """The job of the workflow that has a leg for each platform."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"][JOB]


def linux_legs(job: dict[str, Any]) -> dict[str, Leg]:
    """The legs of a job that run on Linux, by name: "3.12-highest" → the values of the matrix."""
    axes = {name: values for name, values in job["strategy"]["matrix"].items() if name != "include"}
    products = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    legs = [*products, *job["strategy"]["matrix"].get("include", [])]
    return {f"{leg['python']}-{leg['resolution']}": leg for leg in legs if leg["os"].startswith("ubuntu")}


def commands(job: dict[str, Any], leg: Leg, python: Path, has_browser: bool) -> list[list[str]]:
    """The commands of a leg, for an environment's Python.

    Args:
        job: of the workflow.
        leg: the values of the matrix.
        python: the environment's.
        has_browser: whether Chromium is installed; if not, the leg fetches its own.
    """
    lines = [step["run"] for step in job["steps"] if "run" in step]
    found = []
    for line in lines:
        if line.endswith("pip install uv") or (has_browser and "playwright install" in line):
            continue  # it is here already
        line = re.sub(r"\$\{\{ *matrix\.(\w+) *\}\}", lambda match: leg[match[1]], line)
        words = [word.strip('"') for word in line.split()]
        if words[1:3] == ["-m", "uv"]:
            found.append([*UV, *words[3:5], "--python", str(python), *(w for w in words[5:] if w != "--system")])
        else:
            found.append([str(python), *words[1:]])
    return found


def run_leg(name: str, leg: Leg, tests: list[str]) -> str:
    """Make the environment of a leg and run its commands, the last of them, which tests, with further arguments.

    Returns:
        The outcome: "passed", or what failed.
    """
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run([*UV, "venv", "--quiet", "--python", leg["python"], str(folder)])
    if made.returncode:
        return f"not run: there is no Python {leg['python']} here"
    job = read_job()
    environment = {**os.environ, **{key: str(value) for key, value in job.get("env", {}).items()}}
    *install, test = commands(job, leg, folder / "bin" / "python", shutil.which("chromium") is not None)
    for command in [*install, [*test, *tests]]:
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            return f"failed: {' '.join(command[1:])}"
    return "passed"


def main() -> None:
    """Run the legs that are named, or all, and print what became of them."""
    legs = linux_legs(read_job())
    parser = argparse.ArgumentParser(description="Run the Linux legs of the test workflow on this machine.")
    parser.add_argument("--leg", choices=legs, action="append", help="can be given several times; all if it is not")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, default=[], help="further arguments for pytest")
    options = parser.parse_args()
    outcomes = {}
    for name in options.leg or legs:
        start = time.monotonic()
        outcomes[name] = f"{run_leg(name, legs[name], options.tests)}, {(time.monotonic() - start) / 60:.0f} minutes"
    print("\n".join(f"{name:22} {outcome}" for name, outcome in outcomes.items()))
    sys.exit(any(outcome.startswith("failed") for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
