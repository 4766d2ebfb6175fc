"""`make recheck`: measures the claims of lessons once more, with other seeds, and compares the verdicts.

Every seed in the code of a lesson is shifted by the same number, so that pictures, captions, noise and the trainings in
the lesson are new. The experiments are shifted, too, if `make claims OFFSET=…` has run them with the same number, which
takes hours; otherwise their stored results are used again, and a line says so. The measurements are stored in
data/experiments/rechecks.json, and the table notebooks/RECHECK.md is made of them.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import re
from tempfile import TemporaryDirectory

import nbformat
from assembly import assemble
from atelier.teaching.experiments import all_experiments
from atelier.teaching.lessons import LESSONS, NOTEBOOKS, Lesson
from atelier.teaching.mine import FOLDER_VARIABLE
from claims_page import verdicts
from nbclient import NotebookClient
from nbformat import NotebookNode
from recheck_page import RECHECK_FILE, recheck_page, store

SEEDING = {"manual_seed", "default_rng", "Random"}  # functions whose first argument is a seed


class ShiftSeeds(ast.NodeTransformer):
    """Adds an offset to every seed in a syntax tree that is written as a number.

    These are arguments and defaults of parameters named `seed`, and the first arguments of the functions in SEEDING.

    Args:
        offset: what is added.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Shift the seeds among the arguments of a call."""
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in SEEDING and node.args:
            node.args[0] = self._shifted(node.args[0])
        for keyword in node.keywords:
            if keyword.arg == "seed":
                keyword.value = self._shifted(keyword.value)
        return node

    def _shifted(self, value: ast.expr) -> ast.expr:
        if isinstance(value, ast.Constant) and isinstance(value.value, int):
            return ast.copy_location(ast.Constant(value.value + self.offset), value)
        return value

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Shift the default of a parameter named `seed`."""
        self.generic_visit(node)
        parameters = node.args.args[len(node.args.args) - len(node.args.defaults) :]
        node.args.defaults = [
            self._shifted(default) if parameter.arg == "seed" else default
            for parameter, default in zip(parameters, node.args.defaults, strict=True)
        ]
        return node


def with_other_seeds(source: str, offset: int) -> str:
    """The source of a cell with every seed shifted; a cell with commands of Jupyter stays as it is."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    return ast.unparse(ShiftSeeds(offset).visit(tree))


def measure_again(lesson: Lesson, offset: int) -> NotebookNode:
    """Execute a lesson with other seeds.

    A cell that raises an exception does not end the run: a lesson asserts some of its own results, and with other seeds
    these may differ.

    Args:
        lesson: the lesson.
        offset: what is added to every seed.
    """
    notebook = copy.deepcopy(assemble(lesson))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = with_other_seeds(cell.source, offset)
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    client = NotebookClient(notebook, timeout=1200, kernel_name="python3", allow_errors=True, resources=resources)
    with TemporaryDirectory() as mine:
        client.execute(env={**os.environ, FOLDER_VARIABLE: mine})
    return notebook


def shift_experiments(lesson: Lesson, offset: int) -> list[str]:
    """Let the kernels read the experiments with shifted seeds, if all that the lesson uses have been run.

    Args:
        lesson: the lesson.
        offset: what is added to every seed.

    Returns:
        The names of the experiments that have not been run with this offset; if there is one, none is shifted.
    """
    os.environ["ATELIER_SEED_OFFSET"] = str(offset)
    shown = "\n".join(cell.source for cell in assemble(lesson).cells if cell.cell_type == "code")
    owners = {lesson.key, *re.findall(r"atelier\.teaching\.experiments\.lesson_(\w+)", shown)}
    mine = [item for name, item in all_experiments().items() if name.partition("-")[0] in owners]
    missing = [item.name for item in mine if next(item.missing(), None)]
    if missing:
        del os.environ["ATELIER_SEED_OFFSET"]
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="keys of lessons, all without them")
    parser.add_argument("--offset", type=int, action="append", help="added to every seed; may be given several times")
    chosen = parser.parse_args()
    unknown = [key for key in chosen.lessons if key not in LESSONS]
    if unknown:
        parser.error(f"there is no lesson {', '.join(unknown)}; there are {', '.join(LESSONS)}")
    for key in chosen.lessons or LESSONS:
        lesson = LESSONS[key]
        known = verdicts(nbformat.read(NOTEBOOKS / f"{lesson.name}.ipynb", as_version=4))
        stored = {claim: facts["outcome"] for claim, (_, facts) in known.items()}
        for offset in chosen.offset or [1000]:
            kept = shift_experiments(lesson, offset)
            for name in kept:
                print(f"{key} +{offset}: {name} keeps its stored results (make claims OFFSET={offset})", flush=True)
            again = measure_again(lesson, offset)
            for claim, (_, facts) in verdicts(again).items():
                values = ", ".join(f"{value:.3g} ({low:.3g} to {high:.3g})" for value, low, high in facts["intervals"])
                outcomes = f"{stored.get(claim, 'not stored')} → {facts['outcome']}"
                print(f"{key} +{offset} {claim}: {outcomes}; {values}", flush=True)
                if facts["intervals"]:
                    store(claim, offset, facts["intervals"], not kept)
            (NOTEBOOKS / RECHECK_FILE).write_text(recheck_page(), encoding="utf-8")
            for place, cell in enumerate(again.cells):
                for output in cell.get("outputs", ()):
                    if output.output_type == "error":
                        print(f"{key} +{offset}, cell {place}: {output.ename}: {output.evalue}"[:200], flush=True)


if __name__ == "__main__":
    main()
