"""Synthetic customers: the same every time, near the published facts, and as hard to predict as the real ones."""

from __future__ import annotations

from itertools import islice

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from vehins.data import demo
from vehins.errors import UsageError
from vehins.model import metrics

PUBLISHED_TYPES = {
    "id": pl.Int64,
    "Gender": pl.String,
    "Age": pl.Int64,
    "Driving_License": pl.Int64,
    "Region_Code": pl.Float64,
    "Previously_Insured": pl.Int64,
    "Vehicle_Age": pl.String,
    "Vehicle_Damage": pl.String,
    "Annual_Premium": pl.Float64,
    "Policy_Sales_Channel": pl.Float64,
    "Vintage": pl.Int64,
    "Response": pl.Int64,
}
AGE, PREMIUM, RESPONSE = pl.col("Age"), pl.col("Annual_Premium"), pl.col("Response")


def vehicle(age: str) -> pl.Expr:
    return pl.col("Vehicle_Age") == age


def draw(rows: int, seed: int, batch_rows: int = 250_000) -> pl.DataFrame:
    return pl.concat(demo.batches(rows, seed, batch_rows))


@pytest.fixture(scope="module")
def customers() -> pl.DataFrame:
    return draw(500_000, seed=1)


def test_has_the_columns_and_types_of_the_published_file(customers):
    assert dict(customers.schema) == PUBLISHED_TYPES
    assert customers["id"].to_list() == list(range(1, 500_001))
    assert customers.null_count().row(0) == (0,) * 12


@pytest.mark.parametrize(
    ("fact", "published", "tolerance"),
    [
        (RESPONSE.mean(), 0.1226, 0.005),
        (AGE.mean(), 38.82, 0.4),
        (AGE.std(), 15.51, 0.5),
        (AGE.min(), 20, 0),
        (AGE.quantile(0.25), 25, 1),
        (AGE.quantile(0.50), 36, 1),
        (AGE.quantile(0.75), 49, 1),
        (AGE.max(), 85, 0),
        (pl.col("Driving_License").mean(), 0.9979, 0.0005),
        (pl.col("Previously_Insured").mean(), 0.4582, 0.005),
        ((pl.col("Gender") == "Male").mean(), 0.5408, 0.005),
        (vehicle("< 1 Year").mean(), 0.432, 0.005),
        (vehicle("1-2 Year").mean(), 0.526, 0.005),
        (vehicle("> 2 Years").mean(), 0.042, 0.002),
        (RESPONSE.filter(vehicle("< 1 Year")).mean(), 0.044, 0.005),
        (RESPONSE.filter(vehicle("1-2 Year")).mean(), 0.174, 0.005),
        (RESPONSE.filter(vehicle("> 2 Years")).mean(), 0.294, 0.01),
        (PREMIUM.mean(), 30_564, 400),
        (PREMIUM.std(), 17_213, 500),
        (PREMIUM.min(), 2_630, 0),
        ((PREMIUM == 2_630).mean(), 0.17, 0.005),
        (PREMIUM.quantile(0.25), 24_405, 250),
        (PREMIUM.quantile(0.50), 31_669, 250),
        (PREMIUM.quantile(0.75), 39_400, 250),
        (pl.col("Vintage").min(), 10, 0),
        (pl.col("Vintage").mean(), 154.5, 0.5),
        (pl.col("Vintage").max(), 299, 0),
        (pl.col("Region_Code").n_unique(), 53, 0),
        (pl.col("Region_Code").min(), 0, 0),
        (pl.col("Region_Code").max(), 52, 0),
        (pl.col("Policy_Sales_Channel").n_unique(), 155, 0),
        (RESPONSE.filter(pl.col("Previously_Insured") == 1).mean(), 0, 0.002),
        (RESPONSE.filter(pl.col("Vehicle_Damage") == "No").mean(), 0, 0.01),
    ],
    ids=str,
)
def test_resembles_the_published_facts(customers, fact, published, tolerance):
    assert customers.select(fact).item() == pytest.approx(published, abs=tolerance)


def test_has_the_published_main_codes(customers):
    regions = customers["Region_Code"].value_counts(sort=True)["Region_Code"]
    channels = customers["Policy_Sales_Channel"].value_counts(sort=True)["Policy_Sales_Channel"]
    assert regions[0] == 28
    assert channels[:3].to_list() == [152, 26, 124]
    assert customers["Policy_Sales_Channel"].is_in([152.0, 26.0, 124.0]).mean() > 0.5
    assert channels.is_between(1, 163).all()


def test_premiums_are_whole_and_have_a_long_tail(customers):
    premium = customers["Annual_Premium"]
    assert (premium == premium.round()).all()
    assert 150_000 < premium.max() <= 540_165


def test_older_customers_have_older_vehicles_and_other_channels(customers):
    means = customers.group_by("Vehicle_Age").agg(AGE.mean()).sort("Age")
    assert means["Vehicle_Age"].to_list() == list(demo.VEHICLE_AGES)
    young = customers.filter(pl.col("Policy_Sales_Channel") == 152)["Age"].mean()
    assert young < 30 < 45 < customers.filter(pl.col("Policy_Sales_Channel") == 26)["Age"].mean()


def test_the_middle_aged_respond_most(customers):
    bands = (AGE < 30, AGE.is_between(30, 59), AGE >= 60)
    young, middle, old = (customers.filter(band)["Response"].mean() for band in bands)
    assert young < old < middle


def test_a_run_can_be_repeated():
    assert_frame_equal(draw(60_000, seed=5), draw(60_000, seed=5))


def test_rows_are_pinned():
    """Another value here means that another numpy, or another version of vehins, draws other customers."""
    assert draw(2, seed=0).rows() == [
        (1, "Male", 32, 1, 28.0, 1, "1-2 Year", "No", 34932.0, 26.0, 48, 0),
        (2, "Female", 40, 1, 39.0, 1, "1-2 Year", "Yes", 154179.0, 116.0, 124, 0),
    ]


@pytest.mark.parametrize("batch_rows", [250_000, 50_000, 70_001, 33_333])
def test_a_shorter_run_is_the_start_of_a_longer_one(batch_rows):
    longer = draw(160_000, seed=6)
    shorter = draw(120_001, seed=6, batch_rows=batch_rows)
    assert_frame_equal(shorter, longer.head(120_001))


def test_batches_are_of_the_size_asked_for():
    assert [batch.height for batch in demo.batches(25, seed=0, batch_rows=10)] == [10, 10, 5]
    assert [batch.height for batch in demo.batches(20, seed=0, batch_rows=10)] == [10, 10]
    assert list(demo.batches(0, seed=0)) == []


def test_nothing_is_drawn_before_it_is_wanted():
    first, second = islice(demo.batches(10**15, seed=0, batch_rows=1_000), 2)
    assert (first["id"][0], second["id"][0]) == (1, 1_001)


def test_another_seed_draws_other_customers_from_the_same_world(customers):
    others = draw(500_000, seed=2**70)
    assert not others.drop("id").head(1_000).equals(customers.drop("id").head(1_000))
    for column in ("Region_Code", "Policy_Sales_Channel"):
        shares = [one[column].value_counts().sort(column)["count"].to_numpy() / 500_000 for one in (customers, others)]
        np.testing.assert_allclose(*shares, atol=0.005)
    same = customers.head(1_000)
    np.testing.assert_array_equal(demo.true_probability(same), demo.true_probability(customers)[:1_000])


def test_blocks_are_independent(customers):
    blocks = customers.head(2 * demo.BLOCK)
    first, second = blocks.head(demo.BLOCK), blocks.tail(demo.BLOCK)
    correlation = np.corrcoef(first["Annual_Premium"], second["Annual_Premium"])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(demo.BLOCK)


def test_labels_are_drawn_from_the_true_probability(customers):
    labels, truth = customers["Response"].to_numpy(), demo.true_probability(customers)
    assert ((truth > 0) & (truth < 1)).all()
    assert truth.max() < 0.9
    spread = np.sqrt((truth * (1 - truth)).sum())
    assert abs(labels.sum() - truth.sum()) < 4 * spread
    assert metrics.expected_calibration_error(labels, truth) < 0.003
    assert 0.84 < metrics.auc(labels, truth) < 0.87


def test_region_and_channel_matter(customers):
    truth = demo.true_probability(customers)
    for column, code in (("Region_Code", 28.0), ("Policy_Sales_Channel", 152.0)):
        levelled = demo.true_probability(customers.with_columns(pl.lit(code).alias(column)))
        assert metrics.auc_difference(customers["Response"], truth, levelled).lower > 0.0005


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [((-1, 0), "rows is -1."), ((1, -2), "seed is -2."), ((1, 0, 0), "batch_rows is 0.")],
)
def test_refuses_numbers_that_cannot_be(arguments, detail):
    with pytest.raises(UsageError, match="cannot draw") as caught:
        demo.batches(*arguments)
    assert caught.value.detail == detail
    assert caught.value.hint


@pytest.mark.slow
def test_lightgbm_learns_what_can_be_learnt_and_no_more():
    lightgbm = pytest.importorskip("lightgbm")
    train, test = draw(300_000, seed=7), draw(150_000, seed=8)
    categories = ["Region_Code", "Vehicle_Age", "Policy_Sales_Channel"]
    settings = {
        "objective": "binary",
        "learning_rate": 0.1,
        "min_data_in_leaf": 100,
        "cat_smooth": 100,
        "cat_l2": 50,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(encoded(train), train["Response"].to_numpy(), categorical_feature=categories)
    model = lightgbm.train(settings, data, 80)
    labels, scores = test["Response"].to_numpy(), model.predict(encoded(test), num_threads=1)
    best = metrics.auc(labels, demo.true_probability(test))
    assert 0.84 < metrics.auc(labels, scores) < min(0.87, best + 0.001)
    assert best - metrics.auc(labels, scores) < 0.006


def encoded(frame: pl.DataFrame) -> pl.DataFrame:
    """Features as narrow numbers, which is what LightGBM takes."""
    return frame.select(
        (pl.col("Gender") == "Male").cast(pl.UInt8),
        pl.col("Vehicle_Age").cast(pl.Enum(demo.VEHICLE_AGES)).to_physical().cast(pl.UInt8),
        (pl.col("Vehicle_Damage") == "Yes").cast(pl.UInt8),
        pl.col("Age", "Driving_License", "Region_Code", "Previously_Insured", "Policy_Sales_Channel").cast(pl.UInt8),
        pl.col("Annual_Premium").cast(pl.Float32),
        pl.col("Vintage").cast(pl.UInt16),
    )
