"""How often the gate errs, by simulation with all rules in force; seeded, so that a failure is no bad luck."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from vehins.artifacts.evaluation import Champion, Integrity
from vehins.data import integrity, statistics
from vehins.data.schema import TableSchema
from vehins.model import drift, gate, metrics, slices
from vehins.settings import GateSettings

SCHEMA = TableSchema.model_validate(
    {
        "name": "simulated",
        "columns": {
            "id": {"dtype": "int", "role": "key"},
            "gender": {"dtype": "string", "values": ["f", "m"], "slice": True},
            "age": {"dtype": "int", "slice": True},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)
RATE = 0.12
# Probit of a probability, as a table: `NormalDist().cdf` takes one number at a time.
GRID = np.linspace(-8, 8, 16_001)
CDF = np.array([NormalDist().cdf(x) for x in GRID])


class World:
    """Customers whose response follows a probit model, and models that each know the shared part and one of their own.

    What both models see has the variance `shared`, what only one sees 1 - `shared` each, and the rest is noise: so both
    rank equally well, both give true probabilities, and their scores are correlated as those of two seeds would be.
    """

    def __init__(self, seed: int, rows: int, shared: float = 0.9) -> None:
        self.dice = np.random.default_rng(seed)
        self.gender = self.dice.integers(0, 2, rows)
        self.age = self.dice.integers(20, 80, rows)
        own = (1 - shared) ** 0.5
        common, ours, theirs = shared**0.5 * self._draw(rows), own * self._draw(rows), own * self._draw(rows)
        common = common + 0.3 * (self.gender - 0.5)
        edge = NormalDist(0, (1 + own**2 + 1 + 0.0225) ** 0.5).inv_cdf(1 - RATE)
        self.labels = (common + ours + theirs + self._draw(rows) > edge).astype(np.uint8)
        self.challenger, self.champion = (
            self._probability(common + own_part - edge, own) for own_part in (ours, theirs)
        )

    def _draw(self, rows: int) -> np.ndarray:
        return self.dice.standard_normal(rows)

    def _probability(self, signal: np.ndarray, own: float) -> np.ndarray:
        return np.interp(signal / (1 + own**2) ** 0.5, GRID, CDF)

    def frame(self) -> pl.LazyFrame:
        words = pl.Series(["f", "m"]).gather(self.gender)
        return pl.LazyFrame({"gender": words, "age": self.age, "y": self.labels})


def failures(world: World, settings: GateSettings, reference: statistics.Statistics) -> list[str]:
    """The rules that refuse the challenger, by all that an evaluation would find."""
    rows = world.labels.size
    ours, theirs = (metrics.rank(world.labels, scores, "probability") for scores in (world.challenger, world.champion))
    difference = metrics.difference(ours, theirs, settings.confidence)
    bounds = slices.Bounds(settings.min_slice_positives, settings.confidence, gate.slice_margin(settings), 0.95)
    elsewhere = world.dice.binomial(4 * rows, RATE)
    found = gate.Evidence(
        metrics=metrics.measure(ours, 0.95, settings.confidence),
        integrity=Integrity(
            rows=rows,
            expected_rows=rows,
            digest_matches=True,
            duplicated_keys=0,
            misplaced_rows=0,
            share=0.2,
            expected_share=0.2,
            share_z=integrity.share_z(world.dice.binomial(5 * rows, 0.2), 5 * rows, 0.2),
            base_rate=ours.positives / rows,
            other_base_rate=elsewhere / (4 * rows),
            base_rate_z=integrity.rates_z(ours.positives, rows, elsewhere, 4 * rows),
        ),
        slices=slices.judge(list(slices.cuts(world.frame(), SCHEMA, 4)), ours, theirs, bounds),
        champion=Champion(
            version=1,
            bundle="b",
            metrics=metrics.measure(theirs, 0.95, settings.confidence),
            auc_difference=difference.difference,
            auc_difference_low=difference.lower,
        ),
        drift=drift.measure(world.frame(), reference, version=1, bundle="b"),
    )
    rules = gate.judge(found, settings)
    assert len(rules) == 10
    assert gate.accepted(rules) == (not gate.failed(rules))
    return gate.failed(rules)


@pytest.fixture(scope="module")
def reference() -> statistics.Statistics:
    """What the champion's training rows looked like."""
    return statistics.describe(World(999, 20_000).frame(), SCHEMA)


@pytest.mark.slow
def test_of_equal_models_few_are_called_better(reference):
    """At most 5% of 400 pairs; the default confidence makes it 2.5% of all."""
    promoted = sum(not failures(World(seed, 2_000), GateSettings(), reference) for seed in range(400))
    assert 0 < promoted <= 20


def test_of_equal_models_nearly_all_are_called_not_worse(reference):
    """All the other rules together refuse few good models: that the gate promotes no more is not their doing."""
    settings = GateSettings(mode="not-worse", margin=0.05)
    promoted = sum(not failures(World(seed, 2_000), settings, reference) for seed in range(1_000, 1_100))
    assert promoted >= 93


def noise_that_costs(loss: float) -> float:
    """The standard deviation of noise on the logits by which the AUC falls so much."""
    world = World(998, 60_000)
    logit = np.log(world.challenger / (1 - world.challenger))
    noise, before = world.dice.standard_normal(logit.size), metrics.auc(world.labels, world.challenger)
    low, high = 0.0, 4.0
    for _ in range(14):
        middle = (low + high) / 2
        found = before - metrics.auc(world.labels, logit + middle * noise)
        low, high = (low, middle) if found > loss else (middle, high)
    return low


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "times"), [("not-worse", 100), ("better", 10)])
def test_a_damaged_model_is_refused(mode, times, reference):
    """0.01 of AUC at 60,000 rows: refused 99 of 100 times, by the comparison alone, even with a margin of 0.002."""
    settings, deviation = GateSettings(mode=mode), noise_that_costs(0.01)
    refused = 0
    for seed in range(times):
        world = World(seed, 60_000)
        logit = np.log(world.challenger / (1 - world.challenger))
        world.challenger = 1 / (1 + np.exp(-(logit + deviation * world.dice.standard_normal(logit.size))))
        refused += f"{mode.replace('-', '_')}_than_champion" in failures(world, settings, reference)
    assert refused >= 0.99 * times
