"""The instructor's guide: the times of its plans add up and fit the measured minutes of slides, lessons and exercises.

A plan is a heading such as "### Half a day: 9:00 to 12:30, 210 minutes" and a table whose rows state the start, what is
done, and the minutes. In a row, "slides 2" are those of the deck's part 2, "run 2d" runs a lesson, "read 2d" reads all
of it, "read 2d §2–4" its sections 2 to 4, and "exercises 2d.1, 2d.3" are these two exercises. A notebook runs while
slides are shown.
"""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import build_lessons
import kit
import nbformat
import pytest
from atelier.doctor import CHECKS, PORTS
from atelier.teaching.lessons import LESSONS, NOTEBOOKS, minutes
from run_lessons import memory

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [ROOT / "slides" / "INSTRUCTOR.md", ROOT / "slides" / "TEACH_A_PART.md"]
TEXT = "\n".join(guide.read_text(encoding="utf-8") for guide in GUIDES)
DECK = ROOT / "slides" / "session.md"

PLAN = re.compile(r"^#{2,4} (?P<name>.+): (?P<start>\d+:\d\d) to (?P<end>\d+:\d\d), (?P<minutes>\d+) minutes$", re.M)
ROW = re.compile(r"^\| (?P<start>\d+:\d\d) \| (?P<what>.+?) \| (?P<minutes>\d+) \|$", re.M)
PLANS = ["Half a day", "One day", "First day", "Second day", "Only part 2", "Only CLIP"]
LONGEST = 75  # minutes without a break
TOLERANCE = 2.0  # minutes by which the overview may differ from the newest measurement


def clock(text: str) -> int:
    """A time of day in minutes: 9:30 → 570."""
    hours, rest = text.split(":")
    return 60 * int(hours) + int(rest)


@dataclass(frozen=True)
class Row:
    """A row of a plan.

    Attributes:
        start: in minutes after midnight.
        what: what is done.
        minutes: how long.
    """

    start: int
    what: str
    minutes: int


@dataclass(frozen=True)
class Plan:
    """A plan of a guide.

    Attributes:
        name: of its heading.
        start, end: of its heading, in minutes after midnight.
        minutes: of its heading.
        rows: of its table.
    """

    name: str
    start: int
    end: int
    minutes: int
    rows: tuple[Row, ...]


def plans() -> dict[str, Plan]:
    """Name → plan, of all plans in the guides."""
    headings = list(PLAN.finditer(TEXT))
    found = {}
    for heading in headings:
        below = re.split(r"^#", TEXT[heading.end() :], maxsplit=1, flags=re.M)[0]
        rows = tuple(Row(clock(row["start"]), row["what"], int(row["minutes"])) for row in ROW.finditer(below))
        times = clock(heading["start"]), clock(heading["end"]), int(heading["minutes"])
        found[heading["name"]] = Plan(heading["name"], *times, rows)
    return found


# ---------------------------------------------------------------------------------------------- what was measured


@cache
def deck_minutes() -> dict[str, float]:
    """Part of the deck → the sum of the minutes in its slides' notes; part 0 comes before part 1."""
    part, found = "0", {}
    for slide in DECK.read_text(encoding="utf-8").split("\n---\n"):
        if begins := re.search(r'<div class="digit">(\d)</div>', slide):
            part = begins[1]
        for stated in re.findall(r"^Minutes: ([\d.]+)$", slide, flags=re.M):
            found[part] = found.get(part, 0.0) + float(stated)
    return found


@cache
def section_minutes(key: str) -> dict[int, float]:
    """Section of a lesson → minutes to read it, at the pace of minutes.json; section 0 comes before the first."""
    notebook = nbformat.read(NOTEBOOKS / f"{LESSONS[key].name}.ipynb", as_version=4)
    section, cells = 0, {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (begins := re.search(r"^## (\d) · ", cell.source, flags=re.M)):
            section = int(begins[1])
        cells.setdefault(section, []).append(cell)
    return {number: build_lessons.reading_minutes(nbformat.v4.new_notebook(cells=own)) for number, own in cells.items()}


@cache
def exercise_minutes() -> dict[str, int]:
    """Exercise → the minutes in its heading."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (NOTEBOOKS / "source").glob("*.py"))
    headings = re.findall(r"^# ### Exercise ([\w.]+) · .+, (\d+) minutes\)$", sources, flags=re.M)
    return {key: int(stated) for key, stated in headings}


def keys_after(word: str, what: str) -> list[str]:
    """The keys after a word, for "run 2a, 2b" the keys 2a and 2b."""
    lists = re.findall(rf"\b{word} (\d\w?(?:, \d\w?)*)", what)
    return [key for keys in lists for key in keys.split(", ")]


def exercises_in(what: str) -> list[str]:
    """The exercises that a row of a plan lists."""
    return re.findall(r"\b\d\w?\.\d\b", what)


def exercises_on_slides() -> dict[str, str]:
    """Exercise → the part of the deck on whose slides everybody does it."""
    return {key: slide.part for slide in kit.deck_slides() for key in kit.exercises_on(slide) if kit.is_turn(slide)}


def needed_minutes(what: str) -> float:
    """The measured minutes of what a row of a plan lists, 0 if nothing in it was measured."""
    slides = sum(deck_minutes()[part] for part in keys_after("slides", what))
    running = sum(minutes()[LESSONS[key].name].cpu or 0 for key in keys_after("run", what))
    reading = 0.0
    for key, first, last in re.findall(r"\bread (\d\w?)(?: §(\d)(?:–(\d))?)?(?![\w.])", what):
        chosen = range(int(first), int(last or first) + 1) if first else ()
        reading += sum(section_minutes(key)[each] for each in chosen) or minutes()[LESSONS[key].name].read
    tried = sum(exercise_minutes()[key] for key in exercises_in(what))
    return max(slides, running) + reading + tried


# ---------------------------------------------------------------------------------------------- the plans


def test_needed_minutes_add_up_what_a_row_lists() -> None:
    deck, table = deck_minutes(), minutes()
    whole = table["2d_vq_vae"].read
    assert sum(section_minutes("2d").values()) == pytest.approx(whole, abs=3)
    assert needed_minutes("slides 1; run 1") == max(deck["1"], table["1_building_blocks"].cpu or 0)
    assert needed_minutes("read 2d") == whole
    assert (
        needed_minutes("read 2d §2–3, then exercises 2d.1, 2d.3")
        == sum(section_minutes("2d")[each] for each in (2, 3)) + 11
    )
    assert needed_minutes("a break") == 0


def test_the_guides_have_all_plans() -> None:
    assert list(plans()) == PLANS


@pytest.mark.parametrize("name", PLANS)
def test_plan_adds_up(name: str) -> None:
    plan = plans()[name]
    assert len(plan.rows) >= 3
    time = plan.start
    for row in plan.rows:
        assert row.start == time, f"{name}: “{row.what}” should begin at {time // 60}:{time % 60:02}."
        time += row.minutes
    assert time == plan.end, f"{name} ends at {time // 60}:{time % 60:02}."
    assert sum(row.minutes for row in plan.rows) == plan.minutes


@pytest.mark.parametrize("name", PLANS)
def test_plan_allows_the_measured_minutes(name: str) -> None:
    for row in plans()[name].rows:
        measured = needed_minutes(row.what)
        if measured:
            stated = f"{name}: “{row.what}” has {row.minutes} minutes and needs {measured:g}"
            assert measured <= row.minutes + 0.5, f"{stated}: give it more."
            assert row.minutes <= 1.2 * measured + 5, f"{stated}: give it less."


def test_the_two_day_plan_has_the_whole_course() -> None:
    what = " ".join(row.what for name in ("First day", "Second day") for row in plans()[name].rows)
    assert set(re.findall(r"\bread (\d\w?)(?! §)(?![\w.])", what)) == LESSONS.keys()
    assert set(keys_after("run", what)) == LESSONS.keys()
    assert {*exercises_in(what), *exercises_on_slides()} == exercise_minutes().keys()
    assert sorted(keys_after("slides", what)) == sorted(deck_minutes())


def test_every_lesson_of_a_plan_is_run_before_it_is_read_or_practised() -> None:
    for plan in plans().values():
        run: set[str] = set()
        for row in plan.rows:
            run |= set(keys_after("run", row.what))
            used = re.findall(r"\bread (\d\w?)", row.what) + re.findall(r"\b(\d\w?)\.\d\b", row.what)
            assert set(used) <= run, f"{plan.name}: “{row.what}” uses a lesson that was not run."


def longest_stretch(plan: Plan) -> int:
    """The most minutes of a plan between two breaks, before the first or after the last."""
    longest = stretch = 0
    for row in plan.rows:
        stretch = 0 if re.match(r"(Break|Lunch)\b", row.what) else stretch + row.minutes
        longest = max(longest, stretch)
    return longest


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_has_a_break_at_least_every_75_minutes(name: str) -> None:
    assert longest_stretch(plans()[name]) <= LONGEST


def test_a_plan_without_breaks_is_found() -> None:
    rows = [Row(0, "slides 1", 40), Row(40, "Break", 10), Row(50, "slides 2", 40), Row(90, "a talk about Breaks", 36)]
    assert longest_stretch(Plan("", 0, 126, 126, tuple(rows))) == 76


def test_every_exercise_is_counted_once() -> None:
    assert exercises_on_slides() == {"2c.1": "2", "2d.1": "2", "3.1": "3", "4.1": "4", "5.1": "5"}
    two_days = [*plans()["First day"].rows, *plans()["Second day"].rows]
    for rows in [two_days, *(plan.rows for name, plan in plans().items() if not name.endswith("day") or "One" in name)]:
        what = " ".join(row.what for row in rows)
        shown = [key for key, part in exercises_on_slides().items() if part in keys_after("slides", what)]
        listed = [*exercises_in(what), *shown]
        assert sorted(set(listed)) == sorted(listed)


def test_no_row_of_a_plan_starts_two_kernels() -> None:
    for plan in plans().values():
        for row in plan.rows:
            assert len(keys_after("run", row.what)) <= 1, f"{plan.name}: {row.what}"


# ---------------------------------------------------------------------------------------------- other statements


def test_overview_has_the_measured_minutes() -> None:
    rows = re.findall(r"^\| (\d\w?) [^|]+\| ([\d.]+) \| ([\d.]+) \| (\d+) \| ([^|]+) \|$", TEXT, flags=re.M)
    assert [key for key, *_ in rows] == list(LESSONS)
    for key, read, run, exercises, held in rows:
        megabytes = memory().get(LESSONS[key].name)
        assert held == (f"{megabytes / 1000:.1f} GB" if megabytes else "not measured"), "run slides/kit.py"
        measured = minutes()[LESSONS[key].name]
        assert float(read) == pytest.approx(measured.read, abs=TOLERANCE), f"lesson {key}, to read"
        assert float(run) == pytest.approx(measured.cpu, abs=TOLERANCE), f"lesson {key}, to run"
        assert int(exercises) == sum(each for name, each in exercise_minutes().items() if name.startswith(f"{key}."))


def test_targets_files_checks_and_ports_in_the_guides_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, flags=re.M)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), f"there is no make {target}"
    for path in set(re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXT)):
        assert (ROOT / "slides" / path).exists(), f"{path} is not there"
    for path in set(re.findall(r"`(?:python )?((?:slides|notebooks)/[\w./]+\.\w+)", TEXT)):
        assert (ROOT / path).is_file(), f"{path} is not there"
    for what in set(re.findall(r"FAIL +(\w+)", TEXT)):
        assert what in {*CHECKS, "torchvision"}, f"the doctor has no line {what}"
    assert all(str(port) in TEXT for port in PORTS)


def test_packages_are_installed_from_the_usb_stick_alone(tmp_path: Path) -> None:
    """With the variables that the guide sets, pip and uv use the packages in the folder and no index."""
    metadata = "Metadata-Version: 2.1\nName: leaf\nVersion: 1.0\n"
    stick = tmp_path / "wheels"
    stick.mkdir()
    with zipfile.ZipFile(stick / "leaf-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("leaf.py", "")
        wheel.writestr("leaf-1.0.dist-info/METADATA", metadata)
        wheel.writestr("leaf-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("leaf-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256((stick / "leaf-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    wanted = tmp_path / "requirements.txt"
    wanted.write_text(f"leaf==1.0 --hash=sha256:{digest}\n")

    exported = re.findall(r"^export (.+)$", TEXT, flags=re.M)
    variables = dict(word.split("=", 1) for line in exported for word in line.split())
    assert variables.keys() == {"PIP_NO_INDEX", "PIP_FIND_LINKS", "UV_OFFLINE", "UV_FIND_LINKS"}
    given = {name: value.replace("/media/stick/wheels", str(stick)) for name, value in variables.items()}
    no_index = "http://127.0.0.1:9/simple"  # no server answers there
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    indexes = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": no_index, "UV_INDEX_URL": no_index, "UV_NO_CONFIG": "1"}
    for tool in ("pip", "uv pip"):
        target = tmp_path / tool
        command = [sys.executable, "-m", *tool.split(), "install", "--quiet", "--require-hashes"]
        command += ["--target", str(target), "-r", str(wanted)]
        cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
        subprocess.run(command, env=inherited | indexes | cache | given, check=True, timeout=60)
        assert (target / "leaf.py").is_file()
