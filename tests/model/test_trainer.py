"""Fits: what they are judged by, the mean of several, and promises about the direction of a column."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from encoded_tables import encoded, monotone

from vehins.model import trainer
from vehins.model.metrics import auc
from vehins.model.trainer import LABEL, thinned
from vehins.settings import TrainSettings

SETTINGS = TrainSettings(max_rounds=40, learning_rate=0.1, min_data_in_leaf=20)


@pytest.mark.parametrize(("height", "at_most"), [(1, 1), (10, 10), (10, 3), (11, 10), (1_000, 999), (100_000, 7)])
def test_thinned_rows_are_at_most_so_many_and_evenly_spaced(height: int, at_most: int) -> None:
    found = thinned(pl.DataFrame({"at": range(height)}), at_most)["at"]
    assert at_most / 2 <= found.len() <= at_most
    assert found[0] == 0
    assert found.diff(null_behavior="drop").n_unique() <= 1


def test_a_small_table_is_kept_whole() -> None:
    rows = pl.DataFrame({"at": range(5)})
    assert thinned(rows, 5).equals(rows)
    assert thinned(rows, 250_000).equals(rows)


# --- Seeds ------------------------------------------------------------------------------------------------------------


def silent(*_) -> None:
    pass


def fitted(threads: int = 1, **more) -> trainer.Fit:
    encoder, rows = encoded(4_000)
    settings = SETTINGS.model_copy(update=more)
    return trainer.fit(rows[:3_000], rows[3_000:], encoder, settings, threads, silent)


def raw(fit: trainer.Fit) -> np.ndarray:
    _, rows = encoded(1_000, seed=9)
    return np.asarray(fit.booster.predict(rows.drop(LABEL).to_numpy(), raw_score=True, num_threads=1))


def test_several_seeds_are_the_mean_of_the_fits_of_each():
    together = fitted(seeds=3, seed=5)
    alone = [fitted(seed=5 + number) for number in range(3)]
    assert together.trees == [fit.trees[0] for fit in alone]
    assert together.booster.num_trees() == sum(together.trees)
    np.testing.assert_allclose(raw(together), np.mean([raw(fit) for fit in alone], axis=0), rtol=0, atol=1e-12)
    odds = np.mean([np.log(fit.probabilities / (1 - fit.probabilities)) for fit in alone], axis=0)
    np.testing.assert_allclose(together.probabilities, 1 / (1 + np.exp(-odds)), rtol=0, atol=1e-12)
    assert len({tuple(raw(fit)) for fit in alone}) == 3


def test_the_same_seeds_give_the_same_bytes_with_any_number_of_threads():
    assert trainer.model_text(fitted(seeds=2).booster) == trainer.model_text(fitted(threads=2, seeds=2).booster)


def test_a_seed_beyond_the_last_starts_again():
    assert fitted(seeds=2, seed=2**31 - 1).trees[1] == fitted(seed=0).trees[0]


def test_importance_of_several_seeds_is_shared_out():
    encoder, _ = encoded(10)
    shares = trainer.importance(fitted(seeds=3).booster, encoder)
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "age"


def test_every_tree_is_told_of():
    encoder, rows = encoded(4_000)
    told = []
    settings = SETTINGS.model_copy(update={"seeds": 2})
    trainer.fit(rows[:3_000], rows[3_000:], encoder, settings, 1, lambda *words: told.append(words))
    assert {text for text, *_ in told} == {
        "fit 1 of 2, ",
        "fit 2 of 2, ",
        "fit 1 of 2, refitting on train and valid, ",
        "fit 2 of 2, refitting on train and valid, ",
    }
    assert all((loss is None) == ("refitting" in text) for text, _, loss in told)


# --- Monotone columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [1, -1])
def test_the_probability_keeps_to_the_direction_of_a_column(direction):
    encoder, rows = encoded(4_000, schema=monotone(direction))
    fit = trainer.fit(rows[:3_000], rows[3_000:], encoder, SETTINGS.model_copy(update={"seeds": 2}), 1, silent)
    someone = rows.drop(LABEL).to_numpy()[:200]
    scores = []
    for age in range(18, 90):
        someone[:, 0] = age
        scores.append(fit.booster.predict(someone, num_threads=1))
    steps = np.diff(scores, axis=0) * direction
    assert (steps >= -1e-12).all()
    assert (auc(fit.labels, fit.probabilities) > 0.6) or direction < 0


def test_without_a_promise_it_bends():
    """The same rows, so that the test above tells something."""
    someone = encoded(4_000)[1].drop(LABEL).to_numpy()[:200]
    booster, scores = fitted().booster, []
    for age in range(18, 90):
        someone[:, 0] = age
        scores.append(booster.predict(someone, num_threads=1))
    steps = np.diff(scores, axis=0)
    assert (steps > 0.01).any()
    assert (steps < -0.01).any()


def test_a_direction_gives_the_same_bytes_with_any_number_of_threads():
    encoder, rows = encoded(4_000, schema=monotone(1))
    texts = {
        trainer.model_text(trainer.fit(rows[:3_000], rows[3_000:], encoder, SETTINGS, threads, silent).booster)
        for threads in (1, 2, 3)
    }
    assert len(texts) == 1
