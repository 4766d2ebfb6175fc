"""The page of the claims that are measured again with other seeds."""

import recheck_page
from atelier.teaching.claims import CLAIMS, FAILS, HOLDS, UNDECIDED
from atelier.teaching.lessons import NOTEBOOKS
from claims_page import all_verdicts


def around(key: str, *, above: float, below: float) -> list[list[float]]:
    """For each rule of a claim an interval that reaches from `below` under its threshold to `above` over it."""
    return [[rule.threshold, rule.threshold - below, rule.threshold + above] for rule in CLAIMS[key].rules]


def row(page: str, key: str) -> list[str]:
    """The verdicts in the row of a claim."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {CLAIMS[key].words} |")]
    return [cell.strip().split("**")[1] if "**" in cell else cell.strip() for cell in line.split(" | ")[2:]]


def test_verdicts_follow_from_the_intervals() -> None:
    key = next(key for key, claim in CLAIMS.items() if claim.rules)
    up, down = ([[r.threshold + d] * 3 for r in CLAIMS[key].rules] for d in (1e-3, -1e-3))
    high, low = (HOLDS, FAILS) if CLAIMS[key].rules[0].above else (FAILS, HOLDS)
    both = around(key, above=1e-3, below=1e-3)
    again = {
        key: {
            "1000": {"intervals": both, "experiments": True},
            "2000": {"intervals": up, "experiments": False},
            "3000": {"intervals": down, "experiments": True},
        }
    }
    page = recheck_page.recheck_page(rechecks=again)
    published = all_verdicts(NOTEBOOKS)[key][1]["outcome"]
    assert row(page, key)[:4] == [published, UNDECIDED, high, low]
    assert "seeds + 1000 | seeds + 2000 | seeds + 3000" in page
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {CLAIMS[key].words} |")]
    assert line.count(" * |") == 1


def test_a_claim_that_was_not_measured_again_says_so() -> None:
    first, second, *_ = [key for key, claim in CLAIMS.items() if claim.rules]
    again = {first: {"5": {"intervals": around(first, above=1e-3, below=1e-3), "experiments": True}}}
    assert "not measured" in row(recheck_page.recheck_page(rechecks=again), second)[1]


def test_measurements_are_stored_beside_those_of_other_offsets(tmp_path) -> None:
    path = tmp_path / "rechecks.json"
    first, second, *_ = CLAIMS
    recheck_page.store(second, 1000, [[0.5, 0.4, 0.6]], True, path)
    recheck_page.store(first, 1000, [[0.1, 0.0, 0.2]], True, path)
    recheck_page.store(second, 2000, [[0.7, 0.6, 0.8]], False, path)
    stored = recheck_page.read_rechecks(path)
    assert list(stored) == [first, second]
    assert stored[second]["1000"] == {"intervals": [[0.5, 0.4, 0.6]], "experiments": True}
    assert stored[second]["2000"]["experiments"] is False
