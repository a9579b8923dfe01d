"""The gate: what a challenger must show before it may replace the champion.

Each rule gives a value, a bound, a verdict and a sentence. A comparison of two points would let half of all models pass
that are no better; so the champion is met with a confidence bound on the paired difference (DeLong).
"""

from __future__ import annotations

import math

from vehins.artifacts.evaluation import Champion, Metrics, Rule
from vehins.settings import GateSettings


def judge(metrics: Metrics, champion: Champion | None, settings: GateSettings) -> list[Rule]:
    """Judge a challenger by every rule that applies; it is accepted when all pass.

    The first model of a registry has no champion to meet, and needs the floors alone.
    """
    rules = [_enough_rows(metrics, settings), _floor(metrics, settings), _skill(metrics)]
    return rules if champion is None else [*rules, _champion(champion, settings)]


def accepted(rules: list[Rule]) -> bool:
    """Whether all rules passed; no rules at all is no pass."""
    return bool(rules) and all(rule.verdict == "pass" for rule in rules)


def _rule(name: str, value: float, bound: float, sentence: str, *, passed: bool) -> Rule:
    # A comparison with NaN is false, so a metric that could not be computed never passes.
    return Rule(name=name, value=value, bound=bound, verdict="pass" if passed else "fail", sentence=sentence)


def _enough_rows(metrics: Metrics, settings: GateSettings) -> Rule:
    least = min(metrics.positives, metrics.rows - metrics.positives)
    passed = least >= settings.min_positives
    text = f"The test side has {least:,} customers of the rarer class; a verdict needs {settings.min_positives:,}."
    return _rule("enough_rows", least, settings.min_positives, text, passed=passed)


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


def _champion(champion: Champion, settings: GateSettings) -> Rule:
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
