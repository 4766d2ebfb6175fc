"""Claims: every verdict follows from an interval and a rule that can fail; intervals cover; results stay bound."""

import json
import math

import numpy as np
import pytest
from atelier.evaluation import intervals
from atelier.evaluation.intervals import Estimate, difference, difference_of_groups, mean, share, statistic
from atelier.teaching import experiments
from atelier.teaching.claims import CLAIMS, FAILS, HOLDS, LESSON_OF, UNDECIDED, UNTESTABLE, Claim, MeasuredClaim, Rule
from atelier.teaching.experiments import Experiment, ExperimentError, all_experiments
from atelier.teaching.lessons import LESSONS


def estimate(value: float, reach: float = 0.02) -> Estimate:
    return Estimate(value, value - reach, value + reach, "50 pictures")


# ---------------------------------------------------------------------------------------------- rules


def test_the_verdict_follows_from_the_interval():
    rule = Rule("share right", 0.9)
    assert [rule.outcome(estimate(value)) for value in (0.95, 0.91, 0.85)] == [HOLDS, UNDECIDED, FAILS]
    below = Rule("share lost", 0.1, above=False)
    assert [below.outcome(estimate(value)) for value in (0.05, 0.11, 0.15)] == [HOLDS, UNDECIDED, FAILS]


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5])
def test_a_rule_that_cannot_fail_or_cannot_hold_is_refused(threshold):
    with pytest.raises(ValueError, match="leaves one result only"):
        Rule("share right", threshold)
    with pytest.raises(ValueError, match="leaves one result only"):
        Rule.of_number("distance", 0.0, least=0.0)


def test_every_rule_of_the_course_can_have_every_verdict():
    for claim in CLAIMS.values():
        for rule in claim.rules:
            least, most = max(rule.least, -1e6), min(rule.most, 1e6)
            sides = {(least + rule.threshold) / 2, (rule.threshold + most) / 2}
            found = {rule.outcome(Estimate(side, side, side, "1 test")) for side in sides}
            found |= {rule.outcome(Estimate(rule.threshold, least, most, "1 test"))}
            assert found == {HOLDS, FAILS, UNDECIDED}, rule.quantity


def test_a_claim_holds_if_all_its_rules_hold():
    claim = Claim("words", (Rule("a", 0.5), Rule("b", 0.5)))
    good, bad, unclear = estimate(0.9), estimate(0.1), estimate(0.5)
    assert claim.outcome([good, good]) == HOLDS
    assert claim.outcome([good, unclear]) == UNDECIDED
    assert claim.outcome([unclear, bad]) == FAILS
    assert Claim("words", source="published elsewhere").outcome([]) == UNTESTABLE
    with pytest.raises(ValueError, match="2 rules, but 1 measurement"):
        claim.outcome([good])
    with pytest.raises(ValueError, match="needs rules, or else a source"):
        Claim("words")
    with pytest.raises(ValueError, match="needs rules, or else a source"):
        Claim("words", (Rule("a", 0.5),), source="published")


def test_a_value_that_the_quantity_cannot_take_is_refused():
    with pytest.raises(ValueError, match="was 95; it is from 0 to 1"):
        Rule("share right", 0.9).outcome(Estimate(95, 94, 96, "50 pictures"))


def test_a_measured_claim_shows_value_interval_threshold_and_verdict(monkeypatch):
    monkeypatch.setitem(CLAIMS, "test", Claim("It <works>.", (Rule.of_difference("right with it minus without"),)))
    output, metadata = MeasuredClaim("test", (Estimate(0.125, 0.07, 0.18, "64 captions"),), "More.")._repr_mimebundle_()
    line = (
        "right with it minus without: 12.5 points; the interval from 7 points to 18 points (64 captions) lies above "
        "0 points."
    )
    assert output["text/plain"] == f"It <works>.\n{line}\nMore.\n→ holds"
    assert "It &lt;works&gt;." in output["text/html"]
    assert metadata["atelier_claim"] == {
        "claim": "test", "outcome": "holds", "reasons": [line], "figures": "More.", "intervals": [[0.125, 0.07, 0.18]],
    }  # fmt: skip
    with pytest.raises(ValueError, match="no claim 'unknown'"):
        MeasuredClaim("unknown", (), "")


def test_every_lesson_has_claims():
    assert set(LESSON_OF.values()) == set(LESSONS)
    assert CLAIMS.keys() == LESSON_OF.keys()


# ---------------------------------------------------------------------------------------------- intervals


def coverage(make, truth: float, repetitions: int = 120) -> float:
    rng = np.random.default_rng(0)
    found = [make(rng) for _ in range(repetitions)]
    return sum(item.low <= truth <= item.high for item in found) / repetitions


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda rng: share(list(rng.random(40) < 0.8), "pictures"), 0.8),
        (lambda rng: mean(list(rng.normal(2, 1, 4)), "seeds"), 2.0),
        (lambda rng: mean(list(rng.normal(2, 1, 40)), "pictures"), 2.0),
        (lambda rng: difference(*_pairs(rng, 40), "prompts"), -0.5),
        (lambda rng: difference_of_groups(list(rng.normal(1, 1, 5)), list(rng.normal(0, 2, 5)), "seeds"), 1.0),
        (lambda rng: difference_of_groups(list(rng.normal(1, 1, 30)), list(rng.normal(0, 2, 30)), "pictures"), 1.0),
        (lambda rng: statistic(lambda a, b: a.mean() / b.mean(), _pairs(rng, 60), "pictures"), 5.0 / 5.5),
    ],
)
def test_intervals_contain_the_truth_about_as_often_as_they_say(monkeypatch, make, truth):
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    assert coverage(make, truth) >= 0.88


def _pairs(rng: np.random.Generator, number: int) -> tuple[list[float], list[float]]:
    common = rng.normal(5, 1, number)
    return list(common + rng.normal(0, 0.3, number)), list(common + 0.5 + rng.normal(0, 0.3, number))


def test_a_share_of_all_or_none_is_not_certain():
    assert share([True] * 20, "pictures").low == pytest.approx(0.025 ** (1 / 20))
    assert share([False] * 20, "pictures").high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert share([True] * 20, "pictures").sampled == "20 pictures"


def test_intervals_repeat_and_degenerate_samples_give_a_point():
    values = list(np.random.default_rng(1).normal(size=30))
    assert mean(values, "pictures") == mean(values, "pictures")
    assert difference([1.0] * 12, [1.0] * 12, "prompts") == Estimate(0, 0, 0, "12 prompts")
    same = difference_of_groups([1.0] * 3, [1.0] * 3, "seeds")
    assert (same.low, same.high, same.sampled) == (0, 0, "3 and 3 seeds")
    groups = [list(range(12)), list(range(30))]
    for sampled in ("pictures", "12 and 30 pictures"):
        assert difference_of_groups(*groups, sampled).sampled == "12 and 30 pictures"
        ratio = statistic(lambda a, b: (1 + a.mean()) / (1 + b.mean()), groups, sampled, paired=False)
        assert ratio.sampled == "12 and 30 pictures"
    assert statistic(lambda a, b: a.mean() - b.mean(), [groups[0], groups[0]], "pictures").sampled == "12 pictures"


def test_the_interval_of_a_biased_statistic_is_widened_to_contain_the_estimate():
    values = [float(value) for value in range(40)]
    smallest = statistic(lambda a: -a.min(), [values], "values")  # no resample has a smaller minimum
    assert smallest.high == smallest.value == 0
    distinct = statistic(lambda a: float(len(set(a.tolist()))), [values], "values")  # resamples repeat values
    assert distinct.low < distinct.high == distinct.value == 40


def test_too_few_values_and_unequal_pairs_are_refused():
    with pytest.raises(ValueError, match="at least two values"):
        mean([1.0], "seeds")
    with pytest.raises(ValueError, match="at least two values in each group"):
        difference_of_groups([1.0, 2.0], [1.0], "seeds")
    with pytest.raises(ValueError, match="There are 2 and 3 values; paired values must be equally many"):
        difference([1, 2], [1, 2, 3], "seeds")
    with pytest.raises(ValueError, match="does not contain"):
        Estimate(1.0, 2.0, 3.0, "seeds")


# ---------------------------------------------------------------------------------------------- experiments


def test_an_experiment_is_resumed_and_bound_to_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "FOLDER", tmp_path / "data" / "experiments")
    monkeypatch.setattr(experiments, "COURSE", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights").write_bytes(b"first")
    asked = []

    def run(arm: str, seed: int) -> dict[str, float]:
        asked.append((arm, seed))
        return {"score": seed + len(arm)}

    experiment = Experiment("0-test", "Which is better?", ("a", "bb"), (0, 1), run, ("weights",))
    with pytest.raises(ExperimentError, match="lacks a with seed 0, bb with seed 0, a with seed 1"):
        experiment.results()
    lines = experiment.complete()
    assert next(lines) == "0-test: a, seed 0"
    lines.close()  # interrupted
    assert len(list(experiment.complete())) == 3
    assert asked == [("a", 0), ("bb", 0), ("a", 1), ("bb", 1)]
    assert experiment.column("bb", "score") == [2, 3]
    assert json.loads(experiment.path.read_text())["question"] == "Which is better?"
    monkeypatch.setenv("ATELIER_SEED_OFFSET", "1000")
    assert list(experiment.missing()) == [("a", 1000), ("bb", 1000), ("a", 1001), ("bb", 1001)]
    assert len(list(experiment.complete())) == 4
    assert experiment.column("bb", "score") == [1002, 1003]
    assert experiment.path == experiments.FOLDER / "1000" / "0-test.json"
    monkeypatch.delenv("ATELIER_SEED_OFFSET")
    assert experiment.column("bb", "score") == [2, 3]
    (tmp_path / "data" / "weights").write_bytes(b"other")
    with pytest.raises(ExperimentError, match="make claims"):
        experiment.results()


@pytest.mark.parametrize("experiment", all_experiments().values(), ids=lambda item: item.name)
def test_the_stored_results_of_every_experiment_are_complete(experiment):
    assert len(experiment.seeds) >= 3
    assert all(
        math.isfinite(value) for rows in experiment.results().values() for row in rows for value in row.values()
        if isinstance(value, float)
    )  # fmt: skip
