"""The mean of some boosters as one booster."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vehins.model.averaging import average
from vehins.model.library import import_lightgbm

lightgbm = import_lightgbm()
DICE = np.random.default_rng(3)
ROWS = np.column_stack([DICE.normal(size=(3_000, 3)), DICE.integers(0, 40, 3_000)])
ROWS[::17, 1] = np.nan
LABELS = ROWS[:, 0] + np.sin(ROWS[:, 3]) + DICE.normal(size=3_000) > 1


def booster(seed: int, trees: int, **more):
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": seed, "feature_fraction": 0.5}
    data = lightgbm.Dataset(ROWS, LABELS, categorical_feature=[3])
    return lightgbm.train({**parameters, **more}, data, trees)


def merged(boosters):
    return lightgbm.Booster(model_str=average([one.model_to_string() for one in boosters]))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_its_raw_score_is_the_mean_and_its_probability_follows(count):
    boosters = [booster(seed, 5 + 3 * seed) for seed in range(count)]
    found = merged(boosters)
    raw = np.mean([one.predict(ROWS, raw_score=True) for one in boosters], axis=0)
    assert found.num_trees() == sum(one.num_trees() for one in boosters)
    np.testing.assert_allclose(found.predict(ROWS, raw_score=True), raw, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.predict(ROWS), 1 / (1 + np.exp(-raw)), rtol=0, atol=1e-13)


def test_the_average_that_a_fit_starts_from_is_averaged_too():
    """It is in the leaves of the first tree of each, or there is none."""
    boosters = [booster(1, 4), booster(2, 4, boost_from_average=False)]
    raw = np.mean([one.predict(ROWS, raw_score=True) for one in boosters], axis=0)
    np.testing.assert_allclose(merged(boosters).predict(ROWS, raw_score=True), raw, rtol=0, atol=1e-13)


def test_trees_without_a_split_are_averaged_too():
    boosters = [booster(1, 3, min_data_in_leaf=2_999), booster(2, 6)]
    raw = np.mean([one.predict(ROWS, raw_score=True) for one in boosters], axis=0)
    np.testing.assert_allclose(merged(boosters).predict(ROWS, raw_score=True), raw, rtol=0, atol=1e-13)


def test_contributions_are_averaged_too():
    boosters = [booster(seed, 6) for seed in range(3)]
    mean = np.mean([one.predict(ROWS[:50], pred_contrib=True) for one in boosters], axis=0)
    np.testing.assert_allclose(merged(boosters).predict(ROWS[:50], pred_contrib=True), mean, rtol=0, atol=1e-12)


def test_the_mean_of_one_is_itself():
    one = booster(1, 10)
    assert merged([one]).predict(ROWS).tolist() == one.predict(ROWS).tolist()


def test_the_text_says_how_large_its_trees_are():
    """LightGBM reads trees by their sizes; wrong ones end the process."""
    text = average([booster(seed, 12).model_to_string() for seed in range(2)])
    sizes = [int(size) for size in re.search(r"^tree_sizes=(.*)$", text, flags=re.MULTILINE)[1].split()]
    data, begin = text.encode(), text.encode().index(b"Tree=0\n")
    for number, size in enumerate(sizes):
        assert data[begin : begin + size].startswith(f"Tree={number}\n".encode())
        begin += size
    assert data[begin:].startswith(b"end of trees")
    assert len(sizes) == 24
