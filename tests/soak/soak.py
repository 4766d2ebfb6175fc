"""Attack the library for a long time, and write what happened as a table: python tests/soak/soak.py [--minutes 30].

Each part has numbered cases, and a case depends only on its number. What is done is kept in build/soak.json, so that a
run that was stopped goes on where it was. The parts are tried in turn until all are complete or the time is over.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]

from atelier.cli import app  # noqa: E402
from atelier.drawing.pipeline import Pipeline  # noqa: E402
from atelier.errors import AtelierError  # noqa: E402
from atelier.weights.preset import add_file, load_preset  # noqa: E402
from atelier.weights.storage import replace_file  # noqa: E402
from tiny_preset import filled_preset, tiny_preset  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

STATE, TABLE = ROOT / "build" / "soak.json", ROOT / "docs" / "SOAK.md"
STEPS = 400  # of a training that is killed
ALPHABET = [
    *"abcxyz ,.;:'\"#@<>/\\%$&*()[]{}=+-_~`\t\n\r\0",
    "é",
    "日本",
    "🐱",
    "\u202e",
    "\u200d",
    "\ud800",
    "A" * 500,
]
OPTIONS = ["--n", "--seed", "--place", "--preset", "--out", "--guidance", "--temperature", "--top-k", "--top-p", "--x"]
VALUES = [
    "1",
    "0",
    "-1",
    "2",
    "nan",
    "inf",
    "1e9",
    "9" * 50,
    "x",
    "",
    "~",
    "/proc/x.png",
    "x.png",
    "日本",
    "a\\b",
    "--",
]


@dataclass(frozen=True)
class Part:
    """One kind of attack.

    Attributes:
        name: what is done.
        cases: how often.
        expected: what must happen in each case.
        run: runs a case by its number; returns "" or what went wrong.
    """

    name: str
    cases: int
    expected: str
    run: Callable[[int], str]


@cache
def tiny_folder() -> Path:
    """The folder of a tiny preset with random weights."""
    return filled_preset(Path(tempfile.mkdtemp()) / "tiny").folder


@cache
def tiny_pipeline() -> Pipeline:
    """A pipeline with this preset."""
    return Pipeline.from_pretrained(tiny_folder(), device="cpu")


def fuzzed_prompt(number: int) -> str:
    """Draw a random text and show, record and save what comes of it."""
    chosen = random.Random(number)
    prompt = "".join(chosen.choices(ALPHABET, k=chosen.randrange(40)))
    try:
        drawing = tiny_pipeline().draw(prompt, n=1, seed=number)
        json.dumps([drawing.record(), drawing.remarks]).encode()
        "".join([drawing.prompt, *drawing.remarks]).encode()
    except AtelierError as fault:
        return "" if "\n" not in str(fault) else f"{prompt!r}: several lines"
    except Exception as fault:
        return f"{prompt!r}: {type(fault).__name__}"
    return ""


def fuzzed_command(number: int) -> str:
    """Run a random command line in an empty folder, with the tiny preset as the only one."""
    chosen = random.Random(number)
    words = [chosen.choice(["draw", "draw", "words", "paint", "export-clip", "train", "evaluate", "no"])]
    words += chosen.choice([[], ["a cat"], ["vqgan"], ["all"], ["-a cat"], ["\ud800"]])
    for _ in range(chosen.randrange(4)):
        words += [chosen.choice(OPTIONS), chosen.choice(VALUES)]
    if words[0] == "evaluate":
        words += ["--preset", "no"]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ATELIER_DATA"], os.environ["HOME"] = folder, folder
        shutil.copytree(tiny_folder(), Path(folder) / "tiny")
        os.chdir(folder)
        try:
            result = CliRunner().invoke(app, words)
        finally:
            os.chdir(before)
    fault = result.exception
    return "" if fault is None or isinstance(fault, SystemExit) else f"{words!r}: {type(fault).__name__}"


def damaged_file(number: int) -> str:
    """Damage one file of a preset, with its new hash recorded in every other case, and draw."""
    chosen = random.Random(number)
    with tempfile.TemporaryDirectory() as parent:
        folder = shutil.copytree(tiny_folder(), Path(parent) / "tiny")
        file = chosen.choice(["config.json", "tokenizer.json", "bart.safetensors", "vqgan.safetensors"])
        content = bytearray((folder / file).read_bytes())
        start = chosen.randrange(min(len(content), 2000))
        content[start : start + chosen.randrange(1, 400)] = chosen.randbytes(chosen.randrange(300))
        if number % 2 and file != "config.json":
            add_file(load_preset(folder), file, bytes(content))
        else:
            (folder / file).write_bytes(content)
        try:
            Pipeline.from_pretrained(folder, device="cpu").draw("a cat", n=1, seed=0)
        except AtelierError as fault:
            return "" if "\n" not in str(fault) else f"{number}: several lines"
        except Exception as fault:
            return f"{number} ({file}): {type(fault).__name__}: {str(fault)[:80]}"
    return "" if number % 2 else f"{number} ({file}): accepted"


def training(folder: Path, *more: str) -> list[str]:
    """The command of a small training."""
    preset = ["--preset", str(folder / "tiny"), "--run-dir", str(folder / "run"), "--steps", str(STEPS)]
    return [sys.executable, "-m", "atelier", "train", "judge", *preset, "--precision", "no", *more]


def metrics(folder: Path) -> list[dict[str, float]]:
    """The metrics of a training, without its seconds."""
    lines = map(json.loads, (folder / "run" / "judge" / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@cache
def uninterrupted() -> tuple[list[dict[str, float]], bytes]:
    """The metrics and the weights of a training that nobody disturbs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_preset(folder / "tiny")
        subprocess.run(training(folder), check=True, capture_output=True)
        return metrics(folder), (folder / "run" / "preset" / "judge.safetensors").read_bytes()


def killed_training(number: int) -> str:
    """Stop a training with SIGTERM, so that it has a checkpoint, kill it on resuming, and resume it again."""
    expected, chosen = uninterrupted(), random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_preset(folder / "tiny")
        for sent, more in ((signal.SIGTERM, []), (signal.SIGKILL, ["--resume"])):
            victim = subprocess.Popen(training(folder, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(victim, folder / "run" / "judge" / "samples")
            time.sleep(chosen.uniform(0, 1))
            victim.send_signal(sent)
            victim.wait()
        shown = subprocess.run(training(folder, "--resume"), capture_output=True, text=True)
        if shown.returncode:
            return f"{number}: {shown.stderr[-200:]!r}"
        same = (metrics(folder), (folder / "run" / "preset" / "judge.safetensors").read_bytes()) == expected
        return "" if same else f"{number}: other metrics or weights"


def wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    """Wait until a path exists, or the process has ended."""
    while process.poll() is None and not path.exists():
        time.sleep(0.02)


def second_training(number: int) -> str:
    """Start two trainings in one folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_preset(folder / "tiny")
        both = [subprocess.Popen(training(folder), stderr=subprocess.PIPE, text=True) for _ in range(2)]
        errors = [process.communicate()[1] for process in both]
        refused = [error for process, error in zip(both, errors, strict=True) if process.returncode == 1]
        good = len(refused) == 1 and "Traceback" not in refused[0]
        return (
            ""
            if good and ("Another training" in refused[0] or "already holds" in refused[0])
            else f"{number}: {errors}"
        )


PARTS = [
    Part("fuzzed prompts", 2000, "a picture or one sentence", fuzzed_prompt),
    Part("fuzzed command lines", 300, "no traceback", fuzzed_command),
    Part("damaged weights, config and tokenizer files", 60, "one sentence, nothing accepted unnoticed", damaged_file),
    Part("two trainings started in one folder", 5, "the second is refused", second_training),
    Part("trainings killed with SIGKILL and resumed", 40, "the same metrics and weights", killed_training),
]


def table(state: dict[str, dict]) -> str:
    """Write the results as Markdown."""
    lines = [
        "# Soak",
        "",
        "What `make soak` has tried so far. The command goes on where it was; it is not part of `make test`.",
        "",
        "| attack | expected | tried | of | faults |",
        "|---|---|---:|---:|---:|",
    ]
    for part in PARTS:
        done = state.get(part.name, {"done": 0, "faults": []})
        lines.append(f"| {part.name} | {part.expected} | {done['done']} | {part.cases} | {len(done['faults'])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the cases that are left, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="when to stop; the next run goes on")
    end = time.monotonic() + 60 * parser.parse_args().minutes
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    STATE.parent.mkdir(exist_ok=True)
    state: dict[str, dict] = json.loads(STATE.read_text()) if STATE.is_file() else {}
    while time.monotonic() < end:
        open_parts = [part for part in PARTS if state.get(part.name, {}).get("done", 0) < part.cases]
        if not open_parts:
            break
        for part in open_parts:  # a slice of each in turn
            found = state.setdefault(part.name, {"done": 0, "faults": []})
            slice_end = min(end, time.monotonic() + 60)
            while found["done"] < part.cases and time.monotonic() < slice_end:
                fault = part.run(found["done"])
                found["done"] += 1
                if fault:
                    found["faults"].append(fault)
                    typer.echo(f"{part.name}: {fault}")
            replace_file(STATE, json.dumps(state, indent=1).encode())
    replace_file(TABLE, table(state).encode())
    typer.echo(table(state))


if __name__ == "__main__":
    main()
