"""Build the parts of the instructor's kit that follow from the lessons, the deck and the measurements.

    python slides/kit.py

It writes kit/ANSWERS.md (exercises, solutions and quizzes, from the lessons' sources), kit/TEST.md (from
kit/QUESTIONS.md), kit/SCHEDULE.md (from the deck's notes) and the table of lessons in INSTRUCTOR.md (from minutes.json
and memory.json), so nothing in them is typed twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from atelier.teaching.lessons import LESSONS, Lesson, minutes
from deck import PARTS, SOURCE, Slide, clock, slides, starts

HERE = Path(__file__).parent
KIT, GUIDE = HERE / "kit", HERE / "INSTRUCTOR.md"
sys.path.insert(0, str(HERE.parent / "notebooks" / "source" / "tools"))

from assembly import OPTION, read_source  # noqa: E402  (a script of the lessons, not a package)
from run_lessons import memory  # noqa: E402

TABLE = re.compile(r"(?<=<!-- lessons -->\n).*?(?=<!-- end of lessons -->)", re.DOTALL)
EXERCISE = re.compile(r"^### (Exercise (\d\w?)\.\d · .+)$", re.MULTILINE)
EXERCISE_MINUTES = re.compile(r", (\d+) minutes\)$")
ON_A_SLIDE = re.compile(r"Exercise (\d\w?\.\d)")
LETTERS = "ABC"
DO_NOT_KNOW = "I do not know"


# ---------------------------------------------------------------------------------------------- answers


def quiz(source: str) -> tuple[str, list[tuple[bool, str, str]]]:
    """A question of a quiz, and its options: whether it is right, the option, and why."""
    joined = re.sub(r"\n {2,}", " ", source)  # an option may continue on the next line, indented
    question = "\n".join(line for line in joined.splitlines() if not line.startswith("- [")).strip()
    found = [OPTION.match(line) for line in joined.splitlines() if line.startswith("- [")]
    return question, [(each["right"] == "x", each["option"], each["why"]) for each in found if each]


def lesson_answers(lesson: Lesson) -> Iterator[str]:
    """The paragraphs of the answer sheet for a lesson: its exercises with their solutions, and its quiz."""
    yield f"## Lesson {lesson.key} · {lesson.title}"
    questions = []
    for cell in read_source(lesson).cells:
        tags = set(cell.metadata.get("tags", ()))
        if "quiz" in tags:
            questions.append(quiz(cell.source))
        elif "solution" in tags:
            yield f"Solution:\n\n```python\n{cell.source}\n```"
        elif cell.cell_type == "markdown" and (begins := EXERCISE.search(cell.source)):
            yield cell.source[begins.start() :].strip()
    yield "### Quiz"
    for question, options in questions:
        right = next((option, why) for is_right, option, why in options if is_right)
        yield f"{question}\n\n> {right[0]}: {right[1]}"


def answers() -> str:
    """The text of ANSWERS.md."""
    head = (
        "# The answer sheet",
        "For the instructor and the helpers, made by `python slides/kit.py` from the sources of the lessons. Other\n"
        "answers can be right, too: the check in the notebook decides.",
    )
    parts = [*head, *(part for lesson in LESSONS.values() for part in lesson_answers(lesson))]
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------------------------------- the test


def questions() -> list[tuple[str, list[tuple[bool, str, str]]]]:
    """The questions of QUESTIONS.md, see `quiz`."""
    text = (KIT / "QUESTIONS.md").read_text(encoding="utf-8")
    return [quiz(part) for part in re.split(r"\n(?=\*\*\d+\.\*\*)", text)[1:]]


def sheet() -> str:
    """The text of TEST.md: the questions without the key."""
    lines = [
        "# Ten questions",
        "",
        "Ten minutes. Tick one answer for each question. If you do not know, say so: a guess tells nobody anything.",
        "",
        "Nickname: ______________________ ☐ before ☐ after",
    ]
    for question, options in questions():
        lines += ["", re.sub(r" \(part \d\)$", "", question), ""]
        lines += [f"- ☐ {letter}: {option}" for letter, (_, option, _) in zip(LETTERS, options, strict=True)]
        lines += [f"- ☐ D: {DO_NOT_KNOW}"]
    return "\n".join([*lines, ""])


# ---------------------------------------------------------------------------------------------- the schedule


def deck_slides() -> list[Slide]:
    """The slides of the deck."""
    return slides(SOURCE.read_text(encoding="utf-8"))


def is_turn(slide: Slide) -> bool:
    """Whether the room works at this slide."""
    return "_class: turn" in slide.source


def exercises_on(slide: Slide) -> list[str]:
    """The exercises that everybody does at a slide, without those for people who are done early."""
    return ON_A_SLIDE.findall(slide.source.partition("<!--\nMinutes")[0].partition("Done early?")[0])


def blocks(deck: list[Slide]) -> Iterator[list[Slide]]:
    """The slides in the blocks of the schedule: each exercise alone, and the slides of a part between exercises."""
    block: list[Slide] = []
    for slide in deck:
        if block and (is_turn(slide) or is_turn(block[-1]) or slide.part != block[-1].part):
            yield block
            block = []
        block.append(slide)
    yield block


def schedule() -> str:
    """The text of SCHEDULE.md: the ninety minutes of the deck, on one page."""
    deck = deck_slides()
    start = dict(zip((slide.number for slide in deck), starts(deck), strict=True))
    lines = [
        "# Ninety minutes on one page",
        "",
        "Made by `python slides/kit.py` from the notes of the slides. Reach the first slide of a row at its time; the",
        "presenter's window shows the time since the start. If you are late, leave out what is marked “may go”. If you",
        "have more than ninety minutes, make a break after the exercise on slide "
        f"{next(slide.number for slide in reversed(deck) if slide.part == '2')}.",
        "",
        "| from | to | slides | what | on the laptops |",
        "|---|---|---|---|---|",
    ]
    opened = {part: key for part, (_, key) in PARTS.items()}
    for block in blocks(deck):
        first, last = block[0], block[-1]
        numbers = f"{first.number}–{last.number}" if len(block) > 1 else str(first.number)
        if is_turn(first):
            what = f"**Your turn**: {first.title}"
            laptops = ", ".join(f"lesson {key.partition('.')[0]}, exercise {key}" for key in exercises_on(first))
            laptops = laptops or "“Now you” in the lesson"
        else:
            name = PARTS[first.part][0] if first.part in PARTS else "Opening"
            what = "; ".join([f"{name}, to “{last.title.strip('“”')}”", *_marks(block)])
            key = opened.pop(first.part, None)
            laptops = f"shut down the last kernel; run lesson {key}" if key else ""
        end = start[last.number] + last.minutes
        lines.append(f"| {clock(start[first.number])} | {clock(end)} | {numbers} | {what} | {laptops} |")
    return "\n".join([*lines, ""])


def _marks(block: list[Slide]) -> list[str]:
    """What is special about the slides of a block: where the room votes, and which slides show code."""
    found = []
    for slide in block:
        if "{{vote " in slide.source:
            found.append(f"vote at {slide.number}")
        if "{{code " in slide.source:
            found.append(f"code at {slide.number} (may go)")
    return found


# ---------------------------------------------------------------------------------------------- the guide


def lessons_table() -> str:
    """The table of the lessons in INSTRUCTOR.md, with their minutes and their memory."""
    lines = ["| lesson | read | run | exercises | memory |", "|---|---|---|---|---|"]
    taken, needed = minutes(), memory()
    for lesson in LESSONS.values():
        tried = [
            int(found[1])
            for cell in read_source(lesson).cells
            for heading in EXERCISE.finditer(cell.source)
            if cell.cell_type == "markdown" and (found := EXERCISE_MINUTES.search(heading[1]))
        ]
        takes, megabytes = taken[lesson.name], needed.get(lesson.name)
        held = f"{megabytes / 1000:.1f} GB" if megabytes else "not measured"
        title = re.sub(r"^The |, the \w+$", "", lesson.title)
        lines.append(
            f"| {lesson.key} {title[0].upper()}{title[1:]} | {takes.read:g} | {takes.cpu:g} | {sum(tried)} | {held} |"
        )
    return "\n".join([*lines, ""])


def outputs() -> dict[Path, str]:
    """File → its text, of all that this script writes."""
    guide = GUIDE.read_text(encoding="utf-8")
    return {
        KIT / "ANSWERS.md": answers(),
        KIT / "TEST.md": sheet(),
        KIT / "SCHEDULE.md": schedule(),
        GUIDE: TABLE.sub(lambda _: lessons_table(), guide),
    }


def main() -> None:
    """Write all files of the kit that are built."""
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
