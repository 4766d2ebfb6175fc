"""Every lesson: its notebook equals its source, its code the library's; exercises are checked, claims measured."""

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import assembly
import build_lessons
import nbformat
import pytest
import start_pages
from atelier.evaluation.intervals import Estimate
from atelier.teaching.claims import CLAIMS, LESSON_OF
from atelier.teaching.exercises import EXERCISES, grade
from atelier.teaching.glossary import TERMS
from atelier.teaching.lessons import LESSONS, NOTEBOOKS, Lesson, minutes
from claims_page import all_verdicts, claims_table, verdicts

EVERY = pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
CHECK = re.compile(r'^check\("(?P<key>[\w.]+)", (?P<answer>\w+)\)$', re.MULTILINE)
HEADING = re.compile(r"^### Exercise (?P<key>[\w.]+) · .+ \((?P<stars>★{1,3}☆{0,2}), \d+ minutes\)$", re.MULTILINE)
RHYTHM = ("Where we are", "The idea", "Build it", "Train it", "Look inside", "Break it", "Your turn", "What we have")
SHARED = {  # what a lesson defines as its experiments do, or as the modules do that these use
    "2d": ("spectrum", "fit_prior"),
    "2e": ("Setting", "Run", "redraw", "descend", "study", "sharpen"),
    "3": ("infill", "delete", "permute", "SMALL_WORDS", "train_translator", "draw_sprites"),
}
LEFT_OUT = {"1": ("Build it", "Train it"), "5": ("Build it", "Train it")}  # these two build no new block


def code_cells(lesson: Lesson) -> Iterator[tuple[set[str], str]]:
    """Tags and source of each code cell."""
    for cell in assembly.read_source(lesson).cells:
        if cell.cell_type == "code":
            yield set(cell.metadata.get("tags", ())), cell.source


def stored(lesson: Lesson) -> nbformat.NotebookNode:
    """The lesson's notebook in the repository."""
    return nbformat.read(NOTEBOOKS / f"{lesson.name}.ipynb", as_version=4)


def parsed(source: str) -> ast.Module:
    """A cell's syntax tree, without the lines that only IPython understands."""
    return ast.parse("\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))))


def test_the_files_are_those_of_the_table() -> None:
    listed = {lesson.name for lesson in LESSONS.values()}
    assert {path.stem for path in (NOTEBOOKS / "source").glob("*.py")} == listed
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == listed | {"start"}
    assert minutes().keys() == listed


@EVERY
def test_notebook_is_built_from_its_source(lesson: Lesson) -> None:
    assert build_lessons.without_outputs(stored(lesson)) == build_lessons.without_outputs(assembly.assemble(lesson))


@EVERY
def test_notebook_passes_the_gates(lesson: Lesson) -> None:
    assert build_lessons.faults(stored(lesson), lesson.name) == []


@EVERY
def test_lesson_follows_the_rhythm(lesson: Lesson) -> None:
    text = "\n".join(cell.source for cell in assembly.read_source(lesson).cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (?:\d+ · )?(.+)$", text, re.MULTILINE)
    wanted = [name for name in RHYTHM if name not in LEFT_OUT.get(lesson.key, ())]
    assert [next((name for name in wanted if heading.startswith(name)), heading) for heading in headings] == wanted


# ---------------------------------------------------------------------------------------------- the library's code


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_ClassDef = _strip  # noqa: N815


def definitions(code: str) -> dict[str, str]:
    """Name → syntax tree, without docstrings, of what code defines at its top level."""
    defined = {}
    for node in parsed(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = ast.dump(_WithoutDocstrings().visit(node))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            defined[node.targets[0].id] = ast.dump(node)
    return defined


@EVERY
def test_cells_define_the_same_code_as_the_library(lesson: Lesson) -> None:
    in_cells: dict[str, str] = {}
    for tags, source in code_cells(lesson):
        if not tags & {"stub", "solution"}:
            in_cells |= definitions(source)
    for module, names in lesson.blocks.items():
        library = definitions(inspect.getsource(importlib.import_module(f"atelier.blocks.{module}")))
        for name in names or library:
            assert name in library, f"atelier.blocks.{module} has no {name}"
            assert name in in_cells, f"{lesson.name} does not define {name} of atelier.blocks.{module}"
            assert in_cells[name] == library[name], f"{lesson.name} defines another {name} than atelier.blocks.{module}"


@pytest.mark.parametrize("key", SHARED)
def test_an_experiment_runs_the_code_of_its_lesson(key: str) -> None:
    in_cells: dict[str, str] = {}
    for _, source in code_cells(LESSONS[key]):
        in_cells |= definitions(source)
    module = importlib.import_module(f"atelier.teaching.experiments.lesson_{key}")
    library = definitions(inspect.getsource(module))
    for name in SHARED[key]:
        if name not in library:  # the experiments import it
            library |= definitions(inspect.getsource(getattr(module, name)))
        assert in_cells[name] == library[name], f"lesson {key} defines another {name} than its experiments"


def test_different_code_has_a_different_syntax_tree() -> None:
    library = definitions('def f(x):\n    """Adds."""\n    return x + 1\n\nclass C:\n    """A class."""\n')
    assert definitions("def f(x):\n    return x + 1\n\nclass C:\n    pass\n") == library
    assert definitions("def f(x):\n    return x - 1\n")["f"] != library["f"]


# ---------------------------------------------------------------------------------------------- exercises


def exercises(lesson: Lesson) -> dict[str, dict[str, Any]]:
    """Key → stub, name of the answer, hints, solution and tags of each exercise, in the order of the source."""
    found: dict[str, dict[str, Any]] = {}
    heading, stub = None, ""
    for cell in assembly.read_source(lesson).cells:
        tags = set(cell.metadata.get("tags", ()))
        if match := HEADING.search(cell.source):
            heading, stub = match, ""
        if "stub" in tags:
            stub = cell.source
        elif match := CHECK.search(cell.source) if cell.cell_type == "code" else None:
            assert heading is not None, f"{lesson.name}: {match['key']} has no heading"
            assert heading["key"] == match["key"], f"{lesson.name}: {heading['key']} is checked as {match['key']}"
            found[match["key"]] = {"stub": stub, "answer": match["answer"], "hints": [], "tags": tags}
        elif "hint" in tags and heading:
            found[heading["key"]]["hints"].append(cell.source)
        elif "solution" in tags and heading:
            found[heading["key"]]["solution"] = cell.source
    return found


def namespace(lesson: Lesson) -> dict[str, Any]:
    """The names that a lesson imports and defines; the rest of its code is not run."""
    names: dict[str, Any] = {"__name__": lesson.name}
    for tags, source in code_cells(lesson):
        if tags & {"stub", "solution"}:
            continue
        kept = [
            node
            for node in parsed(source).body
            if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper())
        ]
        for node in kept:
            exec(compile(ast.Module([node], []), lesson.name, "exec"), names)
    return names


def wrong_answers(lesson: Lesson) -> ModuleType:
    """The module with a lesson's wrong answers."""
    path = Path(__file__).parent / "wrong_answers" / f"lesson_{lesson.key}.py"
    spec = importlib.util.spec_from_file_location(f"wrong_answers_{lesson.key}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@EVERY
def test_exercises_have_all_their_parts(lesson: Lesson) -> None:
    found = exercises(lesson)
    assert 3 <= len(found) <= 4
    for key, parts in found.items():
        assert parts["stub"], f"{key} has no stub"
        assert len(parts["hints"]) == 2, f"{key} has {len(parts['hints'])} hints"
        assert "solution" in parts, f"{key} has no solution"
        assert "checked" in parts["tags"], f"the check of {key} is not tagged `checked`"
    assert sorted(found) == sorted(key for key in _registered(lesson))


def _registered(lesson: Lesson) -> list[str]:
    """The keys of a lesson's exercises that have a checker."""
    importlib.import_module(f"atelier.teaching.exercises.lesson_{lesson.key}")
    return [key for key in EXERCISES if key.split(".")[0] == lesson.key]


@EVERY
def test_stubs_are_not_tried_yet_and_solutions_are_right(lesson: Lesson) -> None:
    for key, parts in exercises(lesson).items():
        untouched = namespace(lesson)
        exec(parts["stub"], untouched)
        assert grade(key, untouched[parts["answer"]]).mark == "○", key
        solved = namespace(lesson)
        exec(parts["stub"], solved)
        exec(parts["solution"], solved)
        assert str(grade(key, solved[parts["answer"]])) == f"✓ {key}: right."


@EVERY
def test_each_wrong_answer_has_a_message_of_its_own(lesson: Lesson) -> None:
    wrong = wrong_answers(lesson).WRONG
    assert wrong.keys() == exercises(lesson).keys()
    for key, answers in wrong.items():
        results = [grade(key, answer) for answer in answers]
        assert [result.mark for result in results] == ["✗"] * len(answers), [str(result) for result in results]
        assert len({result.message for result in results}) == len(answers) >= 3, [str(result) for result in results]


# ---------------------------------------------------------------------------------------------- claims, quiz, words


@EVERY
def test_each_claim_is_measured_in_a_cell(lesson: Lesson) -> None:
    measured = verdicts(stored(lesson))
    assert measured.keys() == {key for key, of in LESSON_OF.items() if of == lesson.key}


def test_every_stored_verdict_follows_from_its_intervals_and_rules() -> None:
    for key, (_, facts) in all_verdicts(NOTEBOOKS).items():
        estimates = [Estimate(*interval, sampled="") for interval in facts["intervals"]]
        assert CLAIMS[key].outcome(estimates) == facts["outcome"], key


def test_table_of_claims_has_the_notebooks_verdicts() -> None:
    assert (NOTEBOOKS / start_pages.CLAIMS_FILE).read_text(encoding="utf-8") == claims_table(NOTEBOOKS)


def test_the_start_page_lists_the_lessons_with_their_newest_minutes() -> None:
    page = (NOTEBOOKS / start_pages.START_FILE).read_text(encoding="utf-8")
    assert page == start_pages.start_page()
    assert [path for path in re.findall(r"\]\((\S+?)\)", page) if not (NOTEBOOKS / path).exists()] == []


def test_the_start_notebook_links_the_lessons_here() -> None:
    notebook = nbformat.read(NOTEBOOKS / start_pages.START_NOTEBOOK, as_version=4)
    assert notebook == start_pages.start_notebook()
    linked = re.findall(r"\]\((\S+?)\)", notebook.cells[-1].source)
    assert {f"{lesson.name}.ipynb" for lesson in LESSONS.values()} <= set(linked)
    assert [path for path in linked if not (NOTEBOOKS / path).exists()] == []


def test_the_start_notebook_links_the_lessons_in_colab_if_the_repository_is_known(tmp_path: Path) -> None:
    (tmp_path / "source").symlink_to(NOTEBOOKS / "source")
    (tmp_path / assembly.REPOSITORY_FILE).write_text("ada/atelier")
    badge, *_, table = start_pages.start_notebook(tmp_path).cells
    colab = "https://colab.research.google.com/github/ada/atelier/blob/main/notebooks"
    assert f"({colab}/start.ipynb)" in badge.source
    assert f"({colab}/3_bart.ipynb)" in table.source
    assert f"({colab}/build/3_bart.ipynb)" in table.source


@EVERY
def test_quiz_has_five_questions(lesson: Lesson) -> None:
    cells = assembly.read_source(lesson).cells
    assert sum("quiz" in cell.metadata.get("tags", ()) for cell in cells) == 5


@EVERY
def test_terms_are_defined_where_they_first_appear(lesson: Lesson) -> None:
    text = "\n".join(cell.source for cell in assembly.read_source(lesson).cells if cell.cell_type == "markdown")
    bold = {re.sub(r"\s+", " ", term) for term in re.findall(r"\*\*([^*]+?)\*\*", text)}
    mine = {name for name, term in TERMS.items() if term.lesson == lesson.key}
    assert mine, f"{lesson.name} introduces no term"
    assert mine <= bold, f"not in bold in {lesson.name}: {', '.join(sorted(mine - bold))}"
    others = {name for name in TERMS.keys() - mine if name in bold}
    assert not others, f"{lesson.name} sets in bold what another lesson introduces: {', '.join(sorted(others))}"


@EVERY
def test_lesson_imports_nothing_private(lesson: Lesson) -> None:
    for _, source in code_cells(lesson):
        for node in ast.walk(parsed(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not [name for name in (*names, module) if re.search(r"(^|\.)_", name)]


def test_every_lesson_is_collected_for_validation() -> None:
    """A notebook that nbval does not collect would pass because it is not run."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "--collect-only",
        "-qq",
        "--ignore=notebooks/build",  # test_pieces runs these
        "notebooks",
    ]
    listing = subprocess.run(command, cwd=NOTEBOOKS.parent, capture_output=True, text=True, check=True).stdout
    collected = {Path(line.split(":")[0]) for line in listing.splitlines() if ".ipynb" in line}
    lessons = {Path(f"notebooks/{lesson.name}.ipynb") for lesson in LESSONS.values()}
    assert collected == lessons | {Path("notebooks") / start_pages.START_NOTEBOOK}
