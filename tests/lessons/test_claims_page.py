"""The page of all claims: verdicts from the notebooks, a table, and a figure of all intervals."""

import io

import nbformat
import pytest
from atelier.teaching.claims import CLAIMS, METADATA, Rule
from atelier.teaching.lessons import LESSONS
from claims_page import REACH, all_verdicts, claims_figure, claims_table, support
from PIL import Image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Notebooks in which every claim is measured at its rule's threshold plus a tenth of a unit."""
    from atelier.teaching.claims import LESSON_OF

    for lesson in LESSONS.values():
        notebook = nbformat.v4.new_notebook()
        for number, key in enumerate(key for key, of in LESSON_OF.items() if of == lesson.key):
            intervals = [[r.threshold + 0.1, r.threshold + 0.01, r.threshold + 0.2] for r in CLAIMS[key].rules]
            facts = {"claim": key, "outcome": "holds", "reasons": ["a | b"], "figures": "More.", "intervals": intervals}
            output = nbformat.v4.new_output("display_data", {"text/plain": "x"}, metadata={METADATA: facts})
            cell = nbformat.v4.new_code_cell("verdict()", outputs=[output], id=f"{lesson.key}-{number:03}")
            notebook.cells.append(cell)
        nbformat.write(notebook, tmp_path / f"{lesson.name}.ipynb")
    return tmp_path


def test_the_table_has_a_row_for_each_claim_in_their_order(folder):
    assert list(all_verdicts(folder)) == list(CLAIMS)
    text = claims_table(folder)
    rows = [line for line in text.splitlines() if line.endswith("| holds |")]
    assert len(rows) == len(CLAIMS)
    assert all("| a \\| b More. |" in row for row in rows)
    assert f"Of {len(CLAIMS)} claims: {len(CLAIMS)} holds, 0 does not hold" in text


def test_the_figure_is_a_picture_with_room_for_each_rule(folder):
    picture = Image.open(io.BytesIO(claims_figure(folder)))
    rules = sum(len(claim.rules) for claim in CLAIMS.values())
    assert picture.width > 1000
    assert picture.height >= 30 * rules


def test_support_is_positive_on_the_side_that_supports_the_claim():
    assert support(Rule("share", 0.9), 0.95) == pytest.approx(5)
    assert support(Rule("share", 0.2, above=False), 0.05) == pytest.approx(15)
    assert support(Rule.of_difference("gain"), -0.1) == pytest.approx(-10)
    assert support(Rule.of_number("decibels", 20.0), 25.0) == pytest.approx(25)
    assert support(Rule.of_number("ratio", 0.0), 0.3) == pytest.approx(30)
    assert abs(support(Rule("share", 0.5), 1.0)) < REACH
