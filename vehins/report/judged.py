"""The models that a page sets side by side: a run's own and its champion, or those of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vehins.artifacts.evaluation import CalibrationBin, Gain, Metrics, ModelCurves, Profit
from vehins.artifacts.manifest import Evaluation
from vehins.report.blocks import Key
from vehins.report.story import Story

FIRST, SECOND = "first", "second"


@dataclass(frozen=True)
class Judged:
    """One model on the test side."""

    name: str
    style: str
    metrics: Metrics
    gains: Sequence[Gain]
    calibration: Sequence[CalibrationBin]
    profit: Profit | None
    curves: ModelCurves | None


def with_champion(story: Story, name: str = "this model") -> list[Judged]:
    """The model of a run and, where there was one, the champion that it met on the same rows."""
    own = alone(story, name, FIRST)
    evaluation = story.manifest(Evaluation)
    champion = evaluation.result.champion if evaluation else None
    if own is None or champion is None:
        return [own] if own else []
    rival = Judged(
        name=f"champion (version {champion.version})",
        style=SECOND,
        metrics=champion.metrics,
        gains=champion.gains,
        calibration=champion.calibration,
        profit=champion.profit,
        curves=story.curves.champion if story.curves else None,
    )
    return [own, rival]


def alone(story: Story, name: str, style: str) -> Judged | None:
    """The model of a run."""
    evaluation = story.manifest(Evaluation)
    if evaluation is None:
        return None
    result = evaluation.result
    return Judged(
        name=name,
        style=style,
        metrics=result.metrics,
        gains=result.gains,
        calibration=result.calibration,
        profit=result.profit,
        curves=story.curves.challenger if story.curves else None,
    )


def keys(models: Sequence[Judged]) -> list[Key]:
    """The legend of a chart that shows them all; none is needed for one."""
    return [Key(model.style, model.name) for model in models] if len(models) > 1 else []
