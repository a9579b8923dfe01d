"""The gate: what a challenger must show before it may replace the champion.

Each rule gives a value, a bound, a verdict and a sentence. A comparison of two points would let half of all models pass
that are no better; so the champion is met with a confidence bound on the paired difference (DeLong), on all customers
and on each slice. What could not be computed is None, and never passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vehins.artifacts.drift import Drift
from vehins.artifacts.evaluation import Champion, Integrity, Metrics, Rule, Slice
from vehins.settings import GateSettings

ROWS_AS_INGESTED = "rows_as_ingested"


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on."""

    metrics: Metrics
    integrity: Integrity
    slices: list[Slice]
    """Of the columns that the schema marks; none, when it marks none."""
    champion: Champion | None
    drift: Drift | None
    """Against the champion's training rows."""


def judge(found: Evidence, settings: GateSettings) -> list[Rule]:
    """Judge a challenger by every rule that applies; it is accepted when all pass.

    The first model of a registry has no champion to meet, and needs the floors alone.
    """
    rules = [_rows_as_ingested(found.integrity)]
    if found.integrity.keyed:  # without keys, equal rows fall on one side together, and chance can do more
        rules.append(_fair_draw(found.integrity, settings))
    rules += [
        _enough_rows(found.metrics, settings),
        _floor(found.metrics, settings),
        _skill(found.metrics),
        _calibrated(found.metrics, settings),
    ]
    if found.slices:
        rules.append(_no_empty_slice(found.slices))
    if found.champion is not None:
        rules.append(_against_champion(found.champion, settings))
        if found.slices:
            rules.append(_no_worse_slice(found.slices, found.champion, settings))
        rules.append(_no_drift(found.drift, found.champion, settings))
    return rules


def failed(rules: list[Rule]) -> list[str]:
    """Names of the rules that did not pass."""
    return [rule.name for rule in rules if rule.verdict == "fail"]


def accepted(rules: list[Rule]) -> bool:
    """Whether all rules passed; no rules at all is no pass."""
    return bool(rules) and not failed(rules)


def can_be_overruled(rules: list[Rule]) -> bool:
    """Whether a person may accept a model all the same; what was judged on other rows than these was not judged."""
    return bool(rules) and ROWS_AS_INGESTED not in failed(rules)


def _rule(name: str, value: float | None, bound: float, sentence: str, *, passed: bool) -> Rule:
    # A comparison with NaN is false, so a metric that could not be computed never passes.
    good = passed and value is not None
    return Rule(name=name, value=value, bound=bound, verdict="pass" if good else "fail", sentence=sentence)


# --- The rows -------------------------------------------------------------------------------------------------------


def _rows_as_ingested(found: Integrity) -> Rule:
    """Every row of the test side once, as it was ingested, and no other."""
    name = ROWS_AS_INGESTED
    if found.digest_matches is None:
        text = (
            "The data set has no digest of its test side, so nobody can tell whether these rows are it: ingest again."
        )
        return _rule(name, None, 0, text, passed=False)
    strangers = found.duplicated_keys + found.misplaced_rows + found.unjustified_rows
    odd = abs(found.rows - found.expected_rows) + strangers
    faults = odd or (0 if found.digest_matches else 1)
    if not faults:
        text = f"The {found.rows:,} rows scored are the test side, each as it was ingested."
        return _rule(name, 0, 0, text, passed=True)
    text = (
        f"The rows scored are not the test side as it was ingested: {found.rows:,} rows instead of "
        f"{found.expected_rows:,}, {found.duplicated_keys:,} with the key of another, {found.misplaced_rows:,} of "
        f"another side, {found.unjustified_rows:,} left out for no reason, and their digest is "
        f"{'the same' if found.digest_matches else 'another'}."
    )
    return _rule(name, faults, 0, text, passed=False)


def _fair_draw(found: Integrity, settings: GateSettings) -> Rule:
    """The size and the base rate of a side that a hash of the keys has drawn."""
    name, bound = "fair_draw", settings.max_surprise
    if found.share_z is None or found.base_rate_z is None:
        return _rule(name, None, bound, "There is nothing to compare the test side with.", passed=False)
    worst = max(abs(found.share_z), abs(found.base_rate_z))
    text = (
        f"The test side has {found.share or 0:.2%} of the rows ({found.expected_share:.2%} were asked for) and a base "
        f"rate of {found.base_rate:.2%} ({found.other_base_rate or 0:.2%} elsewhere): at most {worst:.1f} standard "
        f"errors from what is expected; {bound:g} are allowed."
    )
    return _rule(name, worst, bound, text, passed=worst <= bound)


def _enough_rows(metrics: Metrics, settings: GateSettings) -> Rule:
    least = min(metrics.positives, metrics.rows - metrics.positives)
    passed = least >= settings.min_positives
    text = f"The test side has {least:,} customers of the rarer class; a verdict needs {settings.min_positives:,}."
    return _rule("enough_rows", least, settings.min_positives, text, passed=passed)


# --- The model alone ------------------------------------------------------------------------------------------------


def _floor(metrics: Metrics, settings: GateSettings) -> Rule:
    passed = metrics.auc_low >= settings.min_auc
    text = f"The AUC is at least {metrics.auc_low:.4f} with confidence; the floor is {settings.min_auc:g}."
    return _rule("auc_floor", metrics.auc_low, settings.min_auc, text, passed=passed)


def _skill(metrics: Metrics) -> Rule:
    """The log loss must be below that of giving every customer the base rate (its entropy, in nats)."""
    rate = metrics.positives / metrics.rows if metrics.rows else 0.0
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate)) if 0 < rate < 1 else 0.0
    passed = metrics.log_loss < entropy
    text = f"The log loss is {metrics.log_loss:.4f}; giving everybody the base rate has {entropy:.4f}."
    return _rule("log_loss_skill", metrics.log_loss, entropy, text, passed=passed)


def _calibrated(metrics: Metrics, settings: GateSettings) -> Rule:
    """The bound has what chance adds to the error of true probabilities: few rows must not refuse a good model."""
    error, chance = metrics.expected_calibration_error, metrics.calibration_chance
    if error is None or chance is None:
        text = "The calibration error could not be computed."
        return _rule("calibrated", None, settings.max_calibration_error, text, passed=False)
    bound = settings.max_calibration_error + chance
    text = (
        f"The probabilities miss the observed rates by {error:.4f} on average; {bound:.4f} is allowed "
        f"({settings.max_calibration_error:g}, and {chance:.4f} that chance adds with {metrics.rows:,} customers)."
    )
    return _rule("calibrated", error, bound, text, passed=error <= bound)


def _no_empty_slice(slices: list[Slice]) -> Rule:
    empty = [f"{found.column} = {found.slice}" for found in slices if found.rows == 0]
    text = f"Each of {len(slices)} slices has customers on the test side."
    if empty:
        text = f"{len(empty)} of {len(slices)} slices have no customer on the test side, the first {empty[0]}."
    return _rule("no_empty_slice", len(empty), 0, text, passed=not empty)


# --- Against the champion -------------------------------------------------------------------------------------------


def _against_champion(champion: Champion, settings: GateSettings) -> Rule:
    better = settings.mode == "better"
    bound = 0.0 if better else -settings.margin
    low = champion.auc_difference_low
    passed = low > bound if better else low >= bound
    wanted = "more than 0" if better else f"at least -{settings.margin:g}"
    text = (
        f"Against champion {champion.version} on the same rows the AUC differs by {champion.auc_difference:+.5f}, and "
        f"with {100 * settings.confidence:g}% confidence by at least {low:+.5f}; `{settings.mode}` needs {wanted}."
    )
    return _rule("better_than_champion" if better else "not_worse_than_champion", low, bound, text, passed=passed)


def slice_margin(settings: GateSettings) -> float:
    """The AUC that a slice may lose beyond what chance explains: as much as all customers together may."""
    return 0.0 if settings.mode == "better" else settings.margin


def _no_worse_slice(slices: list[Slice], champion: Champion, settings: GateSettings) -> Rule:
    """The slice that falls short of its bound the most, or exceeds it the least, stands for all."""
    name = "no_slice_worse"
    large = [s for s in slices if min(s.positives, s.rows - s.positives) >= settings.min_slice_positives]
    compared = [(s, s.comparison) for s in large if s.comparison is not None]
    if not large or len(compared) < len(large):
        missing = [s for s in large if s.comparison is None]
        text = (
            f"The slice {missing[0].column} = {missing[0].slice} was not compared with champion {champion.version}."
            if missing
            else f"None of {len(slices)} slices has {settings.min_slice_positives:,} customers of each class, so none "
            "can be compared (`gate.min_slice_positives`)."
        )
        return _rule(name, None, 0, text, passed=False)
    worst, seen = min(compared, key=lambda pair: pair[1].auc_difference - pair[1].bound)
    text = (
        f"Of {len(compared)} slices with enough customers, {worst.column} = {worst.slice} is nearest to being worse "
        f"than with champion {champion.version}: the AUC differs by {seen.auc_difference:+.5f}; chance and margin "
        f"explain down to {seen.bound:+.5f}."
    )
    return _rule(name, seen.auc_difference, seen.bound, text, passed=seen.auc_difference >= seen.bound)


def _no_drift(found: Drift | None, champion: Champion, settings: GateSettings) -> Rule:
    name, bound = "no_drift", settings.max_drift
    if found is None or not found.columns or found.reason is not None:
        reason = found.reason if found is not None and found.reason else "There are no columns to compare."
        return _rule(name, None, bound, f"The drift is unknown. {reason} A person may `--approve` it.", passed=False)
    unknown = next((column for column in found.columns if column.psi is None or column.chance is None), None)
    if unknown is not None:
        text = f"The drift of `{unknown.column}` is unknown. {unknown.reason or ''}".rstrip()
        return _rule(name, None, bound, text, passed=False)
    worst = max(found.columns, key=lambda column: (column.psi or 0.0) - (column.chance or 0.0))
    psi, allowed = worst.psi or 0.0, bound + (worst.chance or 0.0)
    text = (
        f"Since champion {champion.version} was trained, `{worst.column}` has drifted the most: its stability index is "
        f"{psi:.4f}; {allowed:.4f} is allowed ({bound:g}, and {allowed - bound:.4f} that chance explains)."
    )
    return _rule(name, psi, allowed, text, passed=psi <= allowed)
