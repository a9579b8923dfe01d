"""Every rule of the gate, at its very bound and on both sides of it."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from vehins.artifacts.evaluation import Champion, Metrics, Rule
from vehins.model import gate
from vehins.settings import GateSettings

GOOD = {
    "auc": 0.86,
    "auc_low": 0.85,
    "auc_high": 0.87,
    "average_precision": 0.37,
    "log_loss": 0.26,
    "brier": 0.09,
    "rows": 1_000,
    "positives": 120,
}
SETTINGS = GateSettings()
FLOORS = ["enough_rows", "auc_floor", "log_loss_skill"]


def metrics(**changes: float) -> Metrics:
    return Metrics.model_validate({**GOOD, **changes})


def champion(low: float, difference: float = 0.004) -> Champion:
    rival = {"version": 3, "bundle": "b" * 64, "metrics": metrics()}
    return Champion(**rival, auc_difference=difference, auc_difference_low=low)


def judged(found: Metrics, rival: Champion | None = None, **settings) -> dict[str, Rule]:
    return {rule.name: rule for rule in gate.judge(found, rival, GateSettings(**settings))}


def verdict(name: str, found: Metrics, rival: Champion | None = None, **settings) -> str:
    return judged(found, rival, **settings)[name].verdict


def test_the_first_champion_needs_the_floors_alone():
    rules = gate.judge(metrics(), None, SETTINGS)
    assert [rule.name for rule in rules] == FLOORS
    assert gate.accepted(rules)


def test_no_rules_are_no_pass():
    assert not gate.accepted([])


@pytest.mark.parametrize("name", [*FLOORS, "better_than_champion"])
def test_one_rule_that_fails_is_enough(name):
    rules = gate.judge(metrics(), champion(0.001), SETTINGS)
    assert gate.accepted(rules)
    failed = [rule.model_copy(update={"verdict": "fail"}) if rule.name == name else rule for rule in rules]
    assert failed != rules
    assert not gate.accepted(failed)


@pytest.mark.parametrize(
    ("positives", "rows", "wanted"),
    [
        (50, 1_000, "pass"),
        (49, 1_000, "fail"),
        (950, 1_000, "pass"),
        (951, 1_000, "fail"),
        (0, 1_000, "fail"),
        (0, 0, "fail"),
    ],
)
def test_both_classes_need_enough_rows(positives, rows, wanted):
    rule = judged(metrics(positives=positives, rows=rows))["enough_rows"]
    assert (rule.verdict, rule.bound, rule.value) == (wanted, 50, min(positives, rows - positives))


@pytest.mark.parametrize(
    ("low", "wanted"), [(0.7, "pass"), (math.nextafter(0.7, 0), "fail"), (0.99, "pass"), (0.0, "fail")]
)
def test_the_lower_end_of_the_auc_must_reach_the_floor(low, wanted):
    """Not the AUC itself: it is a guess from a few rows."""
    assert verdict("auc_floor", metrics(auc_low=low), min_auc=0.7) == wanted


RATE = 0.12
ENTROPY = -(RATE * math.log(RATE) + (1 - RATE) * math.log(1 - RATE))


@pytest.mark.parametrize(
    ("loss", "wanted"), [(ENTROPY - 1e-9, "pass"), (ENTROPY + 1e-9, "fail"), (0.0, "pass"), (5.0, "fail")]
)
def test_the_log_loss_must_be_below_that_of_the_base_rate(loss, wanted):
    rule = judged(metrics(log_loss=loss))["log_loss_skill"]
    assert rule.verdict == wanted
    assert rule.bound == pytest.approx(ENTROPY)


@pytest.mark.parametrize("positives", [0, 1_000])
def test_nothing_beats_the_base_rate_of_a_single_class(positives):
    assert verdict("log_loss_skill", metrics(positives=positives, log_loss=0.0)) == "fail"


@pytest.mark.parametrize(
    ("low", "wanted"),
    [(5e-324, "pass"), (0.01, "pass"), (0.0, "fail"), (-0.0, "fail"), (-5e-324, "fail"), (-0.5, "fail")],
)
def test_better_is_above_zero_and_not_at_it(low, wanted):
    rule = judged(metrics(), champion(low))["better_than_champion"]
    assert (rule.verdict, rule.value, rule.bound) == (wanted, low, 0.0)


@pytest.mark.parametrize(
    ("low", "wanted"),
    [(-0.002, "pass"), (math.nextafter(-0.002, -1), "fail"), (0.0, "pass"), (0.1, "pass"), (-0.1, "fail")],
)
def test_not_worse_may_reach_the_margin_and_not_pass_it(low, wanted):
    rule = judged(metrics(), champion(low), mode="not-worse", margin=0.002)["not_worse_than_champion"]
    assert (rule.verdict, rule.value, rule.bound) == (wanted, low, -0.002)


@pytest.mark.parametrize(("low", "wanted"), [(0.0, "pass"), (-5e-324, "fail")])
def test_not_worse_without_a_margin(low, wanted):
    assert verdict("not_worse_than_champion", metrics(), champion(low), mode="not-worse", margin=0) == wanted


def test_the_better_point_alone_does_not_win():
    """A point comparison would promote half of all equal models."""
    assert verdict("better_than_champion", metrics(), champion(-0.001, difference=0.01)) == "fail"


@pytest.mark.parametrize("name", ["auc_low", "log_loss"])
@pytest.mark.parametrize("value", [math.nan, None])
def test_a_metric_that_could_not_be_computed_never_passes(name, value):
    broken = Metrics.model_construct(**{**GOOD, name: value})
    with pytest.raises((ValidationError, TypeError)):
        gate.judge(broken, None, SETTINGS)
    with pytest.raises(ValidationError):
        metrics(**{name: value})


@pytest.mark.parametrize("mode", ["better", "not-worse"])
def test_a_comparison_that_could_not_be_computed_never_passes(mode):
    broken = champion(0.1).model_copy(update={"auc_difference_low": math.nan})
    with pytest.raises(ValidationError):
        gate.judge(metrics(), broken, GateSettings(mode=mode))
    with pytest.raises(ValidationError):
        champion(math.nan)


@pytest.mark.parametrize(
    ("confidence", "shown"), [(0.95, "95% confidence"), (0.975, "97.5% confidence"), (0.999, "99.9% confidence")]
)
def test_sentences_say_what_was_compared(confidence, shown):
    rules = judged(metrics(), champion(-0.001), confidence=confidence)
    sentence = rules["better_than_champion"].sentence
    assert shown in sentence
    assert "champion 3" in sentence
    assert "+0.00400" in sentence
    assert "at least -0.00100" in sentence
    assert "needs more than 0" in sentence
    assert "120 customers" in rules["enough_rows"].sentence
    assert "0.8500" in rules["auc_floor"].sentence
    assert "0.2600" in rules["log_loss_skill"].sentence


def test_the_sentence_of_not_worse_names_the_margin():
    rules = judged(metrics(), champion(-0.01), mode="not-worse", margin=0.002)
    assert "needs at least -0.002" in rules["not_worse_than_champion"].sentence
