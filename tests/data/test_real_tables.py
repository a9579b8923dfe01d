"""Public tables that nobody made for us, read by schemas that a user would write."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from small_tables import read

from vehins.data import checks, schema, split
from vehins.data.conform import ROW, Conformed, conform
from vehins.settings import SplitSettings

FOLDER = Path(__file__).parents[3] / "shared" / "data"

TELCO = """\
name = "telco"

[columns.customerID]
dtype = "string"
role = "key"

[columns.gender]
dtype = "string"
values = ["Female", "Male"]

[columns.SeniorCitizen]
dtype = "bool"

[columns.tenure]
dtype = "int"
minimum = 0
unit = "months"

[columns.Contract]
dtype = "string"
values = ["Month-to-month", "One year", "Two year"]

[columns.MonthlyCharges]
dtype = "float"
minimum = 0

[columns.TotalCharges]
dtype = "float"
nullable = true

[columns.Churn]
dtype = "string"
role = "target"
values = ["No", "Yes"]
positive = "Yes"
"""
ADULT = """\
name = "adult"
null_values = ["?"]

[columns.age]
dtype = "int"
minimum = 17
maximum = 90

[columns.workclass]
dtype = "string"
nullable = true

[columns.education-num]
dtype = "int"
category = true

[columns.occupation]
dtype = "string"
nullable = true

[columns.sex]
dtype = "string"
values = ["Female", "Male"]

[columns.capital-gain]
dtype = "float"

[columns.native-country]
dtype = "string"
nullable = true

[columns.income]
dtype = "string"
role = "target"
values = ["<=50K", ">50K"]
positive = ">50K"
"""


def real(name: str) -> Path:
    """A file that is no part of vehins."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"shared/data/{name} is not beside the checkout: it is no part of vehins")
    return path


def load(name: str, text: str, folder: Path) -> tuple[schema.TableSchema, Conformed]:
    path = real(f"{name}.csv")
    (folder / f"{name}.toml").write_text(text)
    table = schema.load(str(folder / f"{name}.toml"))
    return table, conform(pl.concat(read(path, table)), table, 0)


@pytest.fixture(scope="module")
def telco(tmp_path_factory):
    return load("telco", TELCO, tmp_path_factory.mktemp("telco"))


@pytest.fixture(scope="module")
def adult(tmp_path_factory):
    return load("adult", ADULT, tmp_path_factory.mktemp("adult"))


def swept(table: schema.TableSchema, rows: pl.DataFrame) -> checks.Sweep:
    numbered = rows.with_row_index(ROW).with_columns(pl.lit(False).alias(checks.UNPARSED))
    return checks.sweep(numbered.lazy(), table, checks.checks(table, []))


def test_telco_reads_blanks_as_missing(telco):
    _, (rows, unparsed) = telco
    assert rows.height == 7_043
    assert unparsed.is_empty()
    assert rows["TotalCharges"].null_count() == 11
    assert rows["tenure"].filter(rows["TotalCharges"].is_null()).to_list() == [0] * 11
    assert rows["SeniorCitizen"].sum() == 1_142
    assert rows["Churn"].value_counts(sort=True).rows() == [("No", 5_174), ("Yes", 1_869)]


def test_telco_breaks_no_rule(telco):
    table, (rows, _) = telco
    found = swept(table, rows)
    assert (found.rows, found.bad_rows, found.targets) == (7_043, 0, 2)
    assert checks.duplicated_rows(rows.with_row_index(ROW).lazy(), table).is_empty()


def test_adult_drops_blanks_and_knows_its_question_marks(adult):
    _, (rows, unparsed) = adult
    assert rows.height == 32_561
    assert unparsed.is_empty()
    nulls = {name: count for name, count in zip(rows.columns, rows.null_count().row(0), strict=True) if count}
    assert nulls == {"workclass": 1_836, "occupation": 1_843, "native-country": 583}
    assert rows["income"].value_counts(sort=True).rows() == [("<=50K", 24_720), (">50K", 7_841)]
    assert rows["sex"].unique().sort().to_list() == ["Female", "Male"]


def test_adult_breaks_no_rule(adult):
    table, (rows, _) = adult
    assert swept(table, rows).bad_rows == 0


def test_adult_has_no_key_and_is_split_by_content(adult):
    table, (rows, _) = adult
    sided = rows.with_columns(split.side(table, SplitSettings()))
    shares = dict(sided[split.SIDE].value_counts(normalize=True).iter_rows())
    assert shares == pytest.approx({"train": 0.64, "valid": 0.16, "test": 0.20}, abs=0.02)
    features = [name for name in table.kept if name != "income"]
    assert sided.group_by(features).agg(pl.col(split.SIDE).n_unique()).get_column(split.SIDE).max() == 1


@pytest.mark.parametrize(("name", "text", "least"), [("telco", TELCO, 0.80), ("adult", ADULT, 0.85)])
def test_the_chain_takes_another_table(vehins, name, text, least):
    Path("table.toml").write_text(text)
    words = ("--source", real(f"{name}.csv"), "--schema", "table.toml", "--set", "train.max_rounds=200")
    answer = vehins("pipeline", "run", "--json", *words).json
    assert answer["evaluation"]["auc"] > least
    assert answer["version"] == 1


def test_the_chain_reaches_its_quality_on_the_published_rows(vehins):
    source = real("vehicle-insurance.parquet")
    answer = vehins("pipeline", "run", "--json", "--source", source, "--set", "train.max_rounds=1000").json
    assert answer["evaluation"]["auc"] >= 0.856
    assert 60_000 < answer["evaluation"]["rows"] < 62_000
    assert answer["gate"]["verdict"] == "accept"
