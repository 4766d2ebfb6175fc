"""The instructor's kit: what is built is current, the answers are complete, the test has ten questions and a key."""

import re
from pathlib import Path

import kit
import pytest
from atelier.teaching.lessons import LESSONS, NOTEBOOKS

BUILT = ["ANSWERS.md", "TEST.md", "SCHEDULE.md"]


def guide() -> str:
    """The text of the instructor's guide."""
    return kit.GUIDE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outputs() -> dict[Path, str]:
    """What the script would write now."""
    return kit.outputs()


@pytest.mark.parametrize("name", BUILT)
def test_what_is_built_is_current(outputs: dict[Path, str], name: str) -> None:
    assert (kit.KIT / name).read_text(encoding="utf-8") == outputs[kit.KIT / name], "Run python slides/kit.py."


def test_building_changes_only_the_table_of_the_guide(outputs: dict[Path, str]) -> None:
    before, after = (re.split(r"<!-- (?:end of )?lessons -->", text) for text in (guide(), outputs[kit.GUIDE]))
    assert (before[0], before[2]) == (after[0], after[2])


def test_the_answer_sheet_has_all_exercises_with_their_solutions_and_all_questions(outputs: dict[Path, str]) -> None:
    sheet = outputs[kit.KIT / "ANSWERS.md"]
    for lesson in LESSONS.values():
        source = (NOTEBOOKS / "source" / f"{lesson.name}.py").read_text(encoding="utf-8")
        for part in re.findall(r'tags=\["solution"\]\n(.+?)(?=\n# %%|\Z)', source, flags=re.DOTALL):
            assert f"```python\n{part.strip()}\n```" in sheet
        for heading in re.findall(r"^# (### Exercise .+)$", source, flags=re.MULTILINE):
            assert f"\n{heading}\n" in sheet
        part = sheet[sheet.index(f"## Lesson {lesson.key} ·") :].split("\n## Lesson", 2)[0]
        assert part.count("Solution:") == len(re.findall(r"^# ### Exercise", source, flags=re.MULTILINE))
        assert part.count("\n> ") == source.count('tags=["quiz"]')
    assert sheet.count("\n> ") == 45


def test_a_changed_lesson_changes_the_answer_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = kit.read_source(LESSONS["2d"])
    (cell,) = [each for each in notebook.cells if each.source.startswith("perplexity = 2 **")]
    cell.source = "perplexity = 7"
    monkeypatch.setattr(kit, "read_source", lambda lesson: notebook)
    answers = "\n\n".join(kit.lesson_answers(LESSONS["2d"]))
    assert "```python\nperplexity = 7\n```" in answers


def test_the_test_has_ten_questions_from_all_parts_and_a_fair_key() -> None:
    questions = kit.questions()
    assert [question.partition(" ")[0] for question, _ in questions] == [f"**{place}.**" for place in range(1, 11)]
    assert {part for question, _ in questions for part in re.findall(r"\(part (\d)\)$", question)} == set("12345")
    key = "".join(kit.LETTERS[[right for right, _, _ in options].index(True)] for _, options in questions)
    assert all(len(options) == 3 and sum(right for right, _, _ in options) == 1 for _, options in questions)
    assert all(2 <= key.count(letter) <= 5 for letter in kit.LETTERS), key


def test_the_printed_test_gives_no_answer_away(outputs: dict[Path, str]) -> None:
    sheet = outputs[kit.KIT / "TEST.md"]
    for _, options in kit.questions():
        for _, option, why in options:
            assert option in sheet
            assert why not in sheet
    assert sheet.count(kit.DO_NOT_KNOW) == 10
    assert "[x]" not in sheet


def test_the_schedule_is_one_page_from_the_first_minute_to_the_ninetieth() -> None:
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (\d+)(?:–(\d+))? \|", kit.schedule(), flags=re.MULTILINE)
    assert 10 <= len(rows) <= 25
    assert rows[0][0] == "0:00:00"
    assert rows[-1][1] == "1:30:00"
    assert [row[1] for row in rows[:-1]] == [row[0] for row in rows[1:]]
    shown = [number for _, _, first, last in rows for number in range(int(first), int(last or first) + 1)]
    assert shown == list(range(1, len(kit.deck_slides()) + 1))


def test_the_guide_has_objectives_in_testable_verbs_for_each_part() -> None:
    section = guide().partition("## What people can do afterwards")[2].partition("\n## ")[0]
    for part in range(1, 6):
        text = section.partition(f"**Part {part}, ")[2].partition("**Part")[0]
        assert len(re.findall(r"\*[a-z]+\*|\*[A-Z][a-z]+\*", text)) >= 3
    assert not re.search(r"\b(understand|know|learn about|appreciate)\b", section, flags=re.IGNORECASE)
