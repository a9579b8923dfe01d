"""Every rule of the gate, at its very bound and on both sides of it."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from vehins.artifacts.drift import ColumnDrift, Drift, DriftBin
from vehins.artifacts.evaluation import Champion, Integrity, Metrics, Rule, Slice, SliceComparison
from vehins.model import gate
from vehins.settings import GateSettings

GOOD = {
    "auc": 0.86,
    "auc_low": 0.85,
    "auc_high": 0.87,
    "average_precision": 0.37,
    "log_loss": 0.26,
    "brier": 0.09,
    "expected_calibration_error": 0.02,
    "calibration_chance": 0.03,
    "rows": 1_000,
    "positives": 120,
}
SETTINGS = GateSettings()
FLOORS = [
    "rows_as_ingested",
    "fair_draw",
    "enough_rows",
    "auc_floor",
    "log_loss_skill",
    "calibrated",
    "no_empty_slice",
]
AGAINST = ["better_than_champion", "no_slice_worse", "no_drift"]
WHOLE = {
    "rows": 1_000,
    "expected_rows": 1_000,
    "digest_matches": True,
    "duplicated_keys": 0,
    "misplaced_rows": 0,
    "share": 0.2,
    "expected_share": 0.2,
    "share_z": 0.1,
    "base_rate": 0.12,
    "other_base_rate": 0.121,
    "base_rate_z": -0.2,
}


def metrics(**changes: float) -> Metrics:
    return Metrics.model_validate({**GOOD, **changes})


def champion(low: float, difference: float = 0.004) -> Champion:
    rival = {"version": 3, "bundle": "b" * 64, "metrics": metrics()}
    return Champion(**rival, auc_difference=difference, auc_difference_low=low)


def integrity(**changes) -> Integrity:
    return Integrity.model_validate({**WHOLE, **changes})


def a_slice(name: str = "Male", difference: float | None = 0.001, bound: float = -0.002, **changes) -> Slice:
    """A slice that is large enough; without a difference, it was not compared."""
    seen = None
    if difference is not None:
        seen = SliceComparison(champion_auc=0.8, auc_difference=difference, standard_error=0.001, bound=bound)
    fields = {"rows": 600, "positives": 60, "mean_probability": 0.1, "observed_rate": 0.1, "auc": 0.8}
    return Slice.model_validate({"column": "Gender", "slice": name, "comparison": seen, **fields, **changes})


def drift(psi: float | None = 0.1, chance: float | None = 0.01, **changes) -> Drift:
    bins = [DriftBin(label="a", expected=1, actual=1)]
    column = ColumnDrift(
        column="Age", role="feature", psi=psi, chance=chance, bins=bins, reason=changes.pop("why", None)
    )
    fields = {"version": 3, "bundle": "b" * 64, "rows": 5_000, "reference_rows": 4_000, "columns": [column]}
    return Drift.model_validate({**fields, **changes})


def evidence(found: Metrics | None = None, rival: Champion | None = None, **changes) -> gate.Evidence:
    fields = {"integrity": integrity(), "slices": [a_slice()], "drift": drift() if rival else None, **changes}
    return gate.Evidence(metrics=found or metrics(), champion=rival, **fields)


def judged(found: Metrics, rival: Champion | None = None, **settings) -> dict[str, Rule]:
    return {rule.name: rule for rule in gate.judge(evidence(found, rival), GateSettings(**settings))}


def verdict(name: str, found: Metrics, rival: Champion | None = None, **settings) -> str:
    return judged(found, rival, **settings)[name].verdict


def rule_of(name: str, *, settings: GateSettings = SETTINGS, **changes) -> Rule:
    """One rule, with a champion, when some of the evidence is otherwise."""
    rules = gate.judge(evidence(rival=champion(0.001), **changes), settings)
    return next(rule for rule in rules if rule.name == name)


def test_the_first_champion_needs_the_floors_alone():
    rules = gate.judge(evidence(), SETTINGS)
    assert [rule.name for rule in rules] == FLOORS
    assert gate.accepted(rules)


def test_a_challenger_meets_every_rule():
    assert [rule.name for rule in gate.judge(evidence(rival=champion(0.001)), SETTINGS)] == [*FLOORS, *AGAINST]


def test_what_is_not_there_is_not_judged():
    """No column is marked as a slice; rows have no key."""
    rules = gate.judge(evidence(rival=champion(0.001), slices=[], integrity=integrity(keyed=False)), SETTINGS)
    assert [rule.name for rule in rules] == [
        name for name in [*FLOORS, *AGAINST] if name not in {"fair_draw", "no_empty_slice", "no_slice_worse"}
    ]


def test_no_rules_are_no_pass():
    assert not gate.accepted([])
    assert not gate.can_be_overruled([])


@pytest.mark.parametrize("name", [*FLOORS, *AGAINST])
def test_one_rule_that_fails_is_enough(name):
    rules = gate.judge(evidence(rival=champion(0.001)), SETTINGS)
    assert gate.accepted(rules)
    failed = [rule.model_copy(update={"verdict": "fail"}) if rule.name == name else rule for rule in rules]
    assert failed != rules
    assert not gate.accepted(failed)
    assert gate.failed(failed) == [name]
    # A person may overrule what a model lacks, and not that it was judged on other rows.
    assert gate.can_be_overruled(failed) == (name != "rows_as_ingested")


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
        gate.judge(evidence(broken), SETTINGS)
    with pytest.raises(ValidationError):
        metrics(**{name: value})


@pytest.mark.parametrize("mode", ["better", "not-worse"])
def test_a_comparison_that_could_not_be_computed_never_passes(mode):
    broken = champion(0.1).model_copy(update={"auc_difference_low": math.nan})
    with pytest.raises(ValidationError):
        gate.judge(evidence(rival=broken), GateSettings(mode=mode))
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


# --- The rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"rows": 999}, 1),
        ({"rows": 1_400, "duplicated_keys": 800}, 1_200),
        ({"misplaced_rows": 7}, 7),
        ({"digest_matches": False}, 1),
        ({"digest_matches": None}, None),
    ],
)
def test_other_rows_than_those_of_the_test_side_never_pass(changes, value):
    rule = rule_of("rows_as_ingested", integrity=integrity(**changes))
    assert (rule.verdict, rule.value, rule.bound) == ("fail", value, 0)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"share_z": 5.0}, "pass"),
        ({"share_z": -5.01}, "fail"),
        ({"base_rate_z": -5.0}, "pass"),
        ({"base_rate_z": 5.01}, "fail"),
        ({"share_z": None}, "fail"),
        ({"base_rate_z": None}, "fail"),
        ({"share_z": None, "base_rate_z": None, "other_base_rate": None}, "fail"),
    ],
)
def test_a_test_side_that_no_hash_has_drawn(changes, wanted):
    rule = rule_of("fair_draw", integrity=integrity(**changes))
    assert (rule.verdict, rule.bound) == (wanted, 5.0)
    assert rule.verdict == wanted


# --- Calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "chance", "wanted"),
    [(0.04, 0.03, "pass"), (0.0401, 0.03, "fail"), (0.0, 0.0, "pass"), (None, 0.03, "fail"), (0.0, None, "fail")],
)
def test_probabilities_may_miss_by_the_bound_and_by_chance(error, chance, wanted):
    found = metrics(expected_calibration_error=error, calibration_chance=chance)
    rule = judged(found, max_calibration_error=0.01)["calibrated"]
    assert rule.verdict == wanted
    assert rule.value == (None if None in {error, chance} else error)


def test_a_calibration_error_of_nan_never_passes():
    broken = Metrics.model_construct(**{**GOOD, "expected_calibration_error": math.nan})
    with pytest.raises(ValidationError):
        gate.judge(evidence(broken), SETTINGS)


# --- Slices -----------------------------------------------------------------------------------------------------------


def test_an_empty_slice_never_passes():
    empty = a_slice("Female", None, rows=0, positives=0, auc=None, mean_probability=None, observed_rate=None)
    for rival in (None, champion(0.001)):
        rules = gate.judge(evidence(rival=rival, slices=[a_slice(), empty]), SETTINGS)
        failed = [rule for rule in rules if rule.verdict == "fail"]
        assert [(rule.name, rule.value) for rule in failed] == [("no_empty_slice", 1)]
        assert "the first Gender = Female" in failed[0].sentence


@pytest.mark.parametrize(
    ("difference", "bound", "wanted"),
    [(-0.002, -0.002, "pass"), (-0.0021, -0.002, "fail"), (0.0, 0.0, "pass"), (-5e-324, 0.0, "fail")],
)
def test_a_slice_may_reach_its_own_bound_and_not_pass_it(difference, bound, wanted):
    rule = rule_of("no_slice_worse", slices=[a_slice(), a_slice("Female", difference, bound)])
    assert (rule.verdict, rule.value, rule.bound) == (wanted, difference, bound)
    assert "Gender = Female" in rule.sentence
    assert "Of 2 slices" in rule.sentence


def test_a_slice_that_was_not_compared_never_passes():
    rule = rule_of("no_slice_worse", slices=[a_slice(), a_slice("Female", None)])
    assert (rule.verdict, rule.value) == ("fail", None)
    assert "Gender = Female was not compared" in rule.sentence


@pytest.mark.parametrize(("rows", "positives"), [(600, 49), (600, 551)])
def test_when_all_slices_are_too_small_nothing_was_shown(rows, positives):
    few = a_slice(difference=None, rows=rows, positives=positives)
    rule = rule_of("no_slice_worse", slices=[few])
    assert (rule.verdict, rule.value) == ("fail", None)
    assert "gate.min_slice_positives" in rule.sentence
    # Beside one that is large enough, a small one is no matter.
    assert rule_of("no_slice_worse", slices=[few, a_slice()]).verdict == "pass"


def test_a_slice_may_lose_the_margin_only_where_all_customers_may():
    assert gate.slice_margin(GateSettings(mode="better", margin=0.002)) == 0
    assert gate.slice_margin(GateSettings(mode="not-worse", margin=0.002)) == 0.002


# --- Drift ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("psi", "wanted"), [(0.26, "pass"), (0.2601, "fail"), (0.0, "pass"), (9.0, "fail")])
def test_a_column_may_drift_up_to_the_bound_and_what_chance_explains(psi, wanted):
    rule = rule_of("no_drift", drift=drift(psi, 0.01))
    assert (rule.verdict, rule.value, rule.bound) == (wanted, psi, 0.26)
    assert "`Age`" in rule.sentence


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "no columns to compare"),
        (drift(columns=[]), "no columns to compare"),
        (
            drift(columns=[], reason="Champion 3 carries no statistics."),
            "carries no statistics. A person may `--approve`",
        ),
        (drift(None, 0.1, why="These rows have no such column."), "`Age` is unknown. These rows have no such column."),
        (drift(0.1, None), "`Age` is unknown."),
    ],
)
def test_drift_that_is_unknown_never_passes(found, said):
    rule = rule_of("no_drift", drift=found)
    assert (rule.verdict, rule.value) == ("fail", None)
    assert said in rule.sentence


def test_a_drift_of_nan_never_passes():
    with pytest.raises(ValidationError):
        drift(math.nan)
    broken = drift().model_copy(update={"columns": [drift().columns[0].model_copy(update={"psi": math.nan})]})
    with pytest.raises(ValidationError):
        rule_of("no_drift", drift=broken)
