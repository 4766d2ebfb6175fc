"""Run lessons one after the other, and stop each kernel before the next one starts: at no time are there two.

    python notebooks/source/tools/run_lessons.py            # all lessons, to check a laptop before a workshop
    python notebooks/source/tools/run_lessons.py 2a 2b      # some of them
    python notebooks/source/tools/run_lessons.py --record   # and write the memory that each needs into memory.json

Each lesson is run as by *Run → Run All Cells*. The notebooks themselves and `runs/mine` stay as they are.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import nbformat
import typer
from atelier.teaching.lessons import LESSONS, NOTEBOOKS
from atelier.teaching.mine import FOLDER_VARIABLE
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

MEMORY_FILE = "source/tools/memory.json"
CELL_SECONDS = 900  # a cell that takes longer counts as failed
START_SECONDS = 300  # until a kernel responds, on a busy machine
MEGABYTE = 10**6


@dataclass(frozen=True)
class Run:
    """A run of a lesson.

    Attributes:
        minutes: from the start of its kernel to the end of its last cell.
        megabytes: the most memory that the kernel had at one time; None if it did not get to the end.
        fault: what went wrong, "" if nothing did.
    """

    minutes: float
    megabytes: int | None
    fault: str = ""


def peak_memory() -> int:
    """The most memory that this process has had at one time, in bytes."""
    import sys
    from pathlib import Path

    if sys.platform == "linux":  # getrusage would count the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on a Mac


MEASURE = f"{inspect.getsource(peak_memory)}\nprint(peak_memory())"


def run(notebook: Path) -> Run:
    """Run a notebook in a kernel of its own, which is stopped afterwards whatever happens.

    Args:
        notebook: the file; it is read only.
    """
    copied = nbformat.read(notebook, as_version=4)
    measure = nbformat.v4.new_code_cell(MEASURE)
    copied.cells.append(measure)
    client = NotebookClient(
        copied,
        timeout=CELL_SECONDS,
        startup_timeout=START_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    start = time.perf_counter()
    fault = ""
    with TemporaryDirectory() as mine:
        try:
            client.execute(env={**os.environ, FOLDER_VARIABLE: mine})
        except CellExecutionError as error:
            fault = f"{error.ename}: {error.evalue}".splitlines()[0]
        except CellTimeoutError:
            fault = f"a cell took more than {CELL_SECONDS // 60} minutes"
        except DeadKernelError:
            fault = "the kernel died, as it does when the memory is used up"
    minutes = (time.perf_counter() - start) / 60
    if fault:
        return Run(minutes, None, fault)
    printed = "".join(output.text for output in measure.outputs if output.output_type == "stream")
    return Run(minutes, round(int(printed) / MEGABYTE))


def memory(folder: Path = NOTEBOOKS) -> dict[str, int]:
    """Name of a lesson → megabytes, as recorded by this command; lessons that were not measured are left out."""
    table = folder / MEMORY_FILE
    return json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}


def record(name: str, megabytes: int, folder: Path = NOTEBOOKS) -> None:
    """Write the memory of a lesson into memory.json, and keep that of the others."""
    known = memory(folder) | {name: megabytes}
    ordered = {lesson.name: known[lesson.name] for lesson in LESSONS.values() if lesson.name in known}
    table = folder / MEMORY_FILE
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def run_all(keys: Sequence[str], recorded: bool, folder: Path = NOTEBOOKS) -> bool:
    """Run lessons in turn, and print a line about each.

    Args:
        keys: of lessons, such as "2a".
        recorded: write what was measured into memory.json.
        folder: of the notebooks.

    Returns:
        Whether all ran to their ends.
    """
    good = True
    for key in keys:
        lesson = LESSONS[key]
        done = run(folder / f"{lesson.name}.ipynb")
        said = done.fault or f"{done.megabytes} MB"
        print(f"{'FAIL' if done.fault else 'OK':4}  {lesson.name}: {done.minutes:.1f} minutes, {said}", flush=True)
        good = good and not done.fault
        if recorded and done.megabytes is not None:
            record(lesson.name, done.megabytes, folder)
    return good


def main(
    lessons: Annotated[list[str] | None, typer.Argument(help="Keys of lessons, such as 2a. Default: all.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Write the measured memory into memory.json.")] = False,
) -> None:
    """Run lessons one after the other, each in a kernel that is stopped before the next one starts."""
    unknown = [key for key in lessons or () if key not in LESSONS]
    if unknown:
        raise typer.BadParameter(f"there is no lesson {', '.join(unknown)}; there are {', '.join(LESSONS)}")
    if not run_all(lessons or list(LESSONS), record):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
