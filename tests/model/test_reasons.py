"""Reasons add up to the score they explain, the strongest come first, and the words say what the row has."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from vehins.data.schema import TableSchema
from vehins.model import bundle, features, reasons
from vehins.model.bundle import Bundle
from vehins.model.library import import_lightgbm

SCHEMA = TableSchema.model_validate(
    {
        "name": "customers",
        "columns": {
            "id": {"dtype": "int", "role": "key"},
            "age": {"dtype": "int", "unit": "years", "description": "Age of the customer"},
            "premium": {"dtype": "float", "nullable": True, "description": "EUR a year"},
            "city": {"dtype": "string", "nullable": True},
            "insured": {"dtype": "bool", "description": "Whether insured"},
            "idle": {"dtype": "int"},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)


def customers(count: int) -> pl.DataFrame:
    dice = np.random.default_rng(1)
    premium = dice.normal(30_000, 9_000, count).round(2)
    rows = {
        "id": np.arange(count),
        "age": dice.integers(18, 90, count),
        "premium": pl.Series(premium).set(pl.Series(dice.random(count) < 0.1), None),
        "city": dice.choice(["a", "b", "c"], count),
        "insured": dice.random(count) < 0.5,
        "idle": np.ones(count, dtype=np.int64),
    }
    return pl.DataFrame(rows).with_columns(city=pl.when(pl.col("id") % 11 != 0).then("city"))


def fitted(folder, encoder: features.Encoder) -> Bundle:
    rows = customers(3_000)
    likely = rows["age"].to_numpy() / 30 + 2.0 * (rows["city"] == "b").fill_null(False).to_numpy()
    likely = likely - 3.0 * rows["insured"].to_numpy()
    labels = np.random.default_rng(2).random(3_000) < 1 / (1 + np.exp(1.5 - likely))
    lightgbm = import_lightgbm()
    codes = [encoder.names.index(name) for name in encoder.categories]
    data = lightgbm.Dataset(encoder.matrix(rows.lazy()), labels, categorical_feature=codes)
    booster = lightgbm.train({"objective": "binary", "num_threads": 1, "verbose": -1}, data, 25)
    answer = booster.predict(encoder.matrix(rows[:1].lazy()), num_threads=1)[0]
    bundle.write(
        folder,
        model=booster.model_to_string(),
        encoder=encoder,
        signature=bundle.Signature(table=SCHEMA, cutoff=0.2, percentiles=[number / 100 for number in range(100)]),
        golden=[bundle.GoldenRow(row=rows.row(0, named=True), probability=answer)],
    )
    return Bundle(folder, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Bundle:
    return fitted(tmp_path_factory.mktemp("bundle"), features.fit(customers(3_000).lazy(), SCHEMA))


def sizes(model: Bundle, rows: pl.DataFrame) -> np.ndarray:
    return np.abs(reasons.contributions(model, rows).values)


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_contributions_and_the_start_add_up_to_the_score(model):
    rows = customers(500)
    found = reasons.contributions(model, rows)
    scores = found.values.sum(axis=1) + found.start
    assert found.values.shape == found.matrix.shape == (500, 5)
    assert 1 / (1 + np.exp(-scores)) == pytest.approx(model.predict(rows.lazy()), abs=1e-12)


def test_a_feature_that_tells_nothing_contributes_nothing(model):
    assert not sizes(model, customers(500))[:, model.encoder.names.index("idle")].any()


def test_what_was_put_in_comes_out(model):
    rows = customers(500)
    found = reasons.contributions(model, rows).values
    insured = rows["insured"].to_numpy()
    assert found[insured, 3].max() < 0 < found[~insured, 3].min()
    in_b = (rows["city"] == "b").fill_null(False).to_numpy()
    assert found[~in_b, 2].mean() < 0 < found[in_b, 2].min()


# --- Words ------------------------------------------------------------------------------------------------------------


def test_the_strongest_come_first_whatever_the_batches(model, monkeypatch):
    rows = customers(300)
    found = reasons.strongest(model, rows, 3)
    assert found.columns == ["reason_1", "reason_2", "reason_3"]
    order = np.argsort(-sizes(model, rows), axis=1, kind="stable")[:, :3]
    named = [[re.match(r"\w+", text)[0] for text in row] for row in found.iter_rows()]
    assert named == [[model.encoder.names[number] for number in row] for row in order]
    monkeypatch.setattr(reasons, "_CELLS", 42)
    assert reasons.strongest(model, rows, 3).equals(found)


def test_a_few_rows_have_the_reasons_of_many(model):
    rows = customers(40)
    bulk = reasons.strongest(model, rows, 5)
    few = reasons.of_rows(model, rows.to_dicts(), 5)
    assert [[reason.text for reason in row] for row in few] == [[t for t in row if t] for row in bulk.iter_rows()]
    exact = np.sort(sizes(model, rows), axis=1)[:, ::-1]
    for row, wanted in zip(few, exact, strict=True):
        assert [abs(reason.contribution) for reason in row] == [size for size in wanted.tolist() if size]


def test_no_rows_have_no_reasons(model):
    assert reasons.strongest(model, customers(0), 2).columns == ["reason_1", "reason_2"]
    assert reasons.of_rows(model, [], 2) == []
    assert len(reasons.influences(model, customers(0))) == 5


def test_where_there_are_fewer_the_rest_is_null(model):
    found = reasons.strongest(model, customers(50), 9)
    assert found.width == 9
    assert found["reason_1"].null_count() == 0
    assert found["reason_5"].null_count() == found["reason_9"].null_count() == 50  # `idle` is no reason


def texts(model: Bundle, **row) -> dict[str, str]:
    """The reasons of one row, by feature."""
    whole = {"age": 50, "premium": 30_000.0, "city": "a", "insured": True, "idle": 1}
    return {reason.feature: reason.text for reason in reasons.of_rows(model, [{**whole, **row}], 5)[0]}


@pytest.mark.parametrize(
    ("feature", "value", "beginning", "end"),
    [
        ("age", 50, "age = 50 years ", " (age of the customer)"),
        ("age", 10**6, "age = 1000000 years ", " (age of the customer)"),
        ("premium", 30_000.0, "premium = 30000 ", " (EUR a year)"),
        ("premium", 12_345.678, "premium = 12345.7 ", " (EUR a year)"),
        ("premium", None, "premium = missing ", " (EUR a year)"),
        ("city", "b", "city = b raises the score by ", ""),
        ("city", None, "city = missing ", ""),
        ("city", "nowhere", "city = nowhere (never seen in training) ", ""),
        ("insured", True, "insured = true lowers the score by ", " (whether insured)"),
        ("insured", False, "insured = false raises the score by ", " (whether insured)"),
    ],
)
def test_the_words(model, feature, value, beginning, end):
    text = texts(model, **{feature: value})[feature]
    assert text.startswith(beginning)
    assert text.endswith(end)
    form = r"(raises|lowers) the score by (\d+\.\d\d|less than 0\.01)"
    assert re.fullmatch(
        form, text.removeprefix(beginning.split(" raises")[0].split(" lowers")[0]).removesuffix(end).strip()
    )


def test_a_column_that_a_row_lacks_is_missing(model):
    assert reasons.of_rows(model, [{"age": 50}], 5)[0]
    assert texts(model, premium=None) == {
        reason.feature: reason.text
        for reason in reasons.of_rows(model, [{"age": 50, "city": "a", "insured": True, "idle": 1}], 5)[0]
    }


def test_amounts_are_told_to_the_cent():
    frame = pl.DataFrame({"value": ["x"] * 5, "contribution": [1.0, -0.256, 12.3449, 0.0049, 0.0]})
    assert frame.select(reasons._sentence("f", "").alias("text"))["text"].to_list() == [
        "f = x raises the score by 1.00",
        "f = x lowers the score by 0.26",
        "f = x raises the score by 12.34",
        "f = x raises the score by less than 0.01",
        None,
    ]


def test_a_feature_made_of_two_columns_shows_what_they_have(tmp_path):
    made = {
        "age x premium": {"kind": "product", "columns": ["age", "premium"]},
        "city, insured": {"kind": "cross", "columns": ["city", "insured"]},
    }
    schema = TableSchema.model_validate({**SCHEMA.model_dump(), "interactions": made})
    rows = customers(400)
    model = fitted(tmp_path, features.fit(customers(3_000).lazy(), schema))
    found = pl.concat(reasons.strongest(model, rows, 7).get_columns()).drop_nulls().to_list()
    products = [text for text in found if text.startswith("age x premium = ")]
    assert sum(" = missing " in text for text in products) == rows["premium"].null_count()
    crosses = {
        text.partition(" = ")[2].split(" raises ")[0].split(" lowers ")[0] for text in found if ", insured" in text
    }
    assert crosses == {*(f"{city} and {word}" for city in "abc" for word in ("true", "false")), "missing"}
    assert {found.feature for found in reasons.influences(model, rows)} >= set(made)


# --- Many rows --------------------------------------------------------------------------------------------------------


def test_influences_are_the_mean_sizes_and_say_which_way(model):
    rows = customers(2_000)
    found = reasons.influences(model, rows)
    means = dict(zip(model.encoder.names, sizes(model, rows).mean(axis=0).tolist(), strict=True))
    assert {item.feature: item.mean_absolute for item in found} == pytest.approx(means)
    assert [item.mean_absolute for item in found] == sorted(means.values(), reverse=True)
    by = {item.feature: item for item in found}
    assert (by["age"].unit, by["age"].description) == ("years", "Age of the customer")
    assert by["age"].trend > 0.9
    assert by["age"].sentence == "The higher it is, the higher the score."
    assert by["insured"].trend is None
    assert re.fullmatch(r"Lowest for true \(-\d\.\d\d\), highest for false \(\+\d\.\d\d\)\.", by["insured"].sentence)
    assert (by["idle"].trend, by["idle"].sentence) == (None, "It is the same for all rows.")


def test_the_effects_of_values_and_of_fifths(model):
    rows = customers(2_000)
    found = reasons.contributions(model, rows)
    by = {item.feature: item for item in reasons.influences(model, rows)}
    for item in by.values():
        assert sum(effect.rows for effect in item.effects) == 2_000
    cities = {effect.value: effect for effect in by["city"].effects}
    assert set(cities) == {"a", "b", "c", "missing"}
    in_b = (rows["city"] == "b").fill_null(False).to_numpy()
    assert cities["b"].mean == pytest.approx(found.values[in_b, 2].mean())
    fifths = by["premium"].effects
    assert [effect.value == "missing" for effect in fifths] == [False] * 5 + [True]
    assert fifths[-1].rows == rows["premium"].null_count()
    assert {effect.rows for effect in fifths[:5]} <= {358, 359, 360, 361, 362, 363}
    ages = [tuple(map(int, effect.value.split(" to "))) for effect in by["age"].effects]
    assert ages == sorted(ages)
    assert all(left[1] < right[0] for left, right in pairwise(ages))
