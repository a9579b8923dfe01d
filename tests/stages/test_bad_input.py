"""Everything that can be wrong with a table of customers: what is said, with which exit code, and what mends it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from vehins_runner import STAGES, WORKSPACE, all_are, customers, folders, manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehins_runner import Answer, Vehins

CSV = Path("customers.csv")
SOURCE = ("--source", "customers.csv")


def write(change: Callable[[str], str] | None = None, rows: pl.DataFrame | None = None) -> None:
    """Write customers as CSV, with the text changed."""
    text = (customers() if rows is None else rows).write_csv()
    CSV.write_text(change(text) if change else text)


def set_values(column: str, value: Any, rows: int) -> pl.DataFrame:
    """Customers of whom the first so many have this value."""
    new = pl.when(pl.int_range(pl.len()) < rows).then(pl.lit(value)).otherwise(pl.col(column))
    return customers().with_columns(new.alias(column))


def set_text(column: str, value: str, rows: int) -> pl.DataFrame:
    """The same, in a column that is text by then."""
    new = pl.when(pl.int_range(pl.len()) < rows).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String))
    return customers().with_columns(new.alias(column))


def check_ingest_fails(answer: Answer, headline: str, *texts: str) -> None:
    """The chain ended at ingest with these words, and made nothing."""
    assert answer.statuses == {"ingest": "failed", **dict.fromkeys(STAGES[1:], "skipped")}
    assert answer.error["headline"] == headline
    assert answer.error["hint"]
    for text in texts:
        assert text in answer.error["detail"] + "\n" + answer.error["hint"]
    assert not (WORKSPACE / "artifacts").exists()
    assert list((WORKSPACE / "drafts").glob("*")) == []


def check_validate_refuses(answer: Answer, headline: str, *texts: str) -> None:
    """The chain ended at validate with these words."""
    assert answer.statuses == {"ingest": "ran", "validate": "refused", **dict.fromkeys(STAGES[2:], "skipped")}
    assert answer.error["headline"] == headline
    for text in texts:
        assert text in answer.error["detail"] + "\n" + answer.error["hint"]
    assert manifest("Validation")["result"]["verdict"] == "refuse"
    assert not (WORKSPACE / "artifacts" / "FeatureSet").exists()


# --- Files that cannot be read ------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(vehins: Vehins) -> None:
    answer = vehins.run(*SOURCE, code=6)
    check_ingest_fails(answer, "There is no file customers.csv", "No file matches it.", "`--source PATH`")
    answer = vehins.run("--source", "no/such/folder/customers.csv", code=6)
    check_ingest_fails(answer, "There is no file no/such/folder/customers.csv", "no/such/folder, does not exist")


def test_an_address_that_nothing_reads(vehins: Vehins) -> None:
    answer = vehins.run("--source", "customers.xlsx", code=3)
    check_ingest_fails(answer, "Nothing reads a source like customers.xlsx", "`PATH.csv`", "`PATH.parquet`", "demo://")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("customers.csv.gz", "Unpack it first: `gunzip --keep customers.csv.gz`."),
        ("customers.zip", "Unpack it first: `unzip customers.zip`."),
        ("customers.xlsx", "Save it as CSV (UTF-8): `--source customers.csv`."),
    ],
)
def test_a_file_that_is_packed_or_a_workbook(name: str, hint: str, vehins: Vehins) -> None:
    answer = vehins.run("--source", name, code=3)
    check_ingest_fails(answer, f"Nothing reads a source like {name}")
    assert answer.error["hint"] == hint


def test_parquet_under_the_name_of_csv(vehins: Vehins) -> None:
    customers(100).write_parquet(CSV)
    answer = vehins.run(*SOURCE, code=4)
    check_ingest_fails(answer, "customers.csv is not CSV", "It is a Parquet file", "mv customers.csv customers.parquet")


def test_an_empty_file(vehins: Vehins) -> None:
    CSV.touch()
    check_ingest_fails(vehins.run(*SOURCE, code=4), "customers.csv is empty", "It has 0 bytes.")


def test_a_header_alone(vehins: Vehins) -> None:
    write(lambda text: text.splitlines()[0] + "\n")
    check_ingest_fails(vehins.run(*SOURCE, code=4), "customers.csv has no rows", "It has a header at most.")


@pytest.mark.parametrize(("line", "fields"), [("1,2,3", 3), (",".join("x" * 13), 13)])
def test_a_ragged_row(line: str, fields: int, vehins: Vehins) -> None:
    write(lambda text: "\n".join([*text.splitlines()[:1500], line, *text.splitlines()[1501:]]) + "\n")
    detail = f"Line 1,501 has {fields} fields, the first line has 12."
    check_ingest_fails(vehins.run(*SOURCE, code=4), "customers.csv has a ragged row", detail)


def test_another_delimiter(vehins: Vehins) -> None:
    write(lambda text: text.replace(",", ";"))
    answer = vehins.run(*SOURCE, code=4)
    check_ingest_fails(answer, "customers.csv has a single column", "`--set ingest.csv_delimiter=';'`")
    # The command that the hint gives works.
    assert all_are("ran", vehins.run(*SOURCE, "--set", "ingest.csv_delimiter=;"))


def test_another_encoding(vehins: Vehins) -> None:
    text = set_values("Gender", "weiblich, 30-jährig", 2).write_csv().encode("latin-1")
    CSV.write_bytes(text)
    answer = vehins.run(*SOURCE, code=4)
    check_ingest_fails(answer, "customers.csv is not UTF-8", "Line 2 has bytes that are no UTF-8 text.", "iconv")


def test_a_byte_order_mark_and_the_line_ends_of_windows(finished: Vehins) -> None:
    CSV.write_bytes(b"\xef\xbb\xbf" + customers().write_csv().replace("\n", "\r\n").encode())
    answer = finished.run(*SOURCE)
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "ingest": "ran"}


def test_a_header_with_a_name_twice(vehins: Vehins) -> None:
    write(lambda text: text.replace("Vintage", "Age", 1))
    check_ingest_fails(vehins.run(*SOURCE, code=4), "customers.csv has the column `Age` 2 times", "first line")


def test_a_quote_that_is_never_closed(vehins: Vehins) -> None:
    write(lambda text: text.replace("Male", '"Male', 1))
    answer = vehins.run(*SOURCE, code=4)
    assert answer.statuses["ingest"] == "failed"
    assert answer.error["headline"].startswith("customers.csv ")


def test_bytes_that_are_no_parquet(vehins: Vehins) -> None:
    Path("customers.parquet").write_bytes(customers(100).write_csv().encode())
    answer = vehins.run("--source", "customers.parquet", code=4)
    check_ingest_fails(answer, "customers.parquet is not readable as Parquet")


# --- Columns ------------------------------------------------------------------------------------------------------


def test_a_missing_column(vehins: Vehins) -> None:
    write(rows=customers().drop("Vintage"))
    answer = vehins.run(*SOURCE, code=4)
    headline = "1 missing: `Vintage` (validate.max_missing_columns = 0)."
    check_validate_refuses(answer, headline, "`--set validate.max_missing_columns=1`")
    # The command that the hint gives works.
    assert vehins.run(*SOURCE, "--set", "validate.max_missing_columns=1").json["version"] == 1


@pytest.mark.parametrize("name", ["id", "Response"])
def test_a_missing_column_without_which_nothing_can_be_done(name: str, vehins: Vehins) -> None:
    write(rows=customers().drop(name))
    headline = f"The column `{name}` is missing, and nothing can be done without it."
    answer = vehins.run(*SOURCE, "--set", "validate.max_missing_columns=5", code=4)
    check_validate_refuses(answer, headline)
    assert "max_missing_columns=" not in answer.error["hint"]  # that would not help


def test_a_renamed_column(vehins: Vehins) -> None:
    write(rows=customers().rename({"Annual_Premium": "annual premium"}))
    answer = vehins.run(*SOURCE, code=4)
    headline = "1 missing: `Annual_Premium` (validate.max_missing_columns = 0)."
    check_validate_refuses(answer, headline, "a column `Annual_Premium` (is it `annual premium`?)")


def test_a_column_under_a_name_that_is_nothing_like_it(vehins: Vehins) -> None:
    write(rows=customers().rename({"Response": "bought"}))
    answer = vehins.run(*SOURCE, code=4)
    headline = "The column `Response` is missing, and nothing can be done without it."
    check_validate_refuses(answer, headline, "(the source has `bought`, which the schema does not name)")


def test_one_column_more(finished: Vehins) -> None:
    write(rows=customers().with_columns(Hobby=pl.lit("chess")))
    assert finished.run(*SOURCE).json["version"] == 1
    assert manifest("Dataset")["result"]["extra_columns"] == ["Hobby"]
    kept = pl.read_parquet(folders("Dataset")[-1] / "parts/*.parquet").columns
    assert [name for name in kept if not name.startswith("__")] == customers(1).columns


# --- Values -------------------------------------------------------------------------------------------------------


def test_text_in_a_column_of_numbers(vehins: Vehins) -> None:
    write(rows=set_text("Age", "forty", 3))
    answer = vehins.run(*SOURCE, code=4)
    headline = "3 of 3,000 rows (0.10%) have values of the wrong type (validate.max_wrong_types = 0)."
    example = "Age: wrong type in 3 rows, expected type int, for example 'forty' at 1"
    check_validate_refuses(answer, headline, example, "`--set validate.max_wrong_types=0.001`")
    # The command that the hint gives works; the rows are set aside with their reason, and no stage sees them.
    assert vehins.run(*SOURCE, "--set", "validate.max_wrong_types=0.001").json["version"] == 1
    quarantine = pl.read_parquet(folders("Validation")[-1] / "quarantine.parquet").sort("id")
    assert quarantine["id"].to_list() == [1, 2, 3]
    assert quarantine["reasons"].to_list() == ["Age: not of its type (`forty`)"] * 3
    result = manifest("Validation")["result"]
    assert (result["quarantined_rows"], result["verdict"]) == (3, "accept")
    kept = manifest("FeatureSet")["result"]
    tested = manifest("Evaluation")["result"]["metrics"]["rows"]
    assert kept["train_rows"] + kept["valid_rows"] + tested == 2997


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (lambda: set_values("id", None, 6), "id: missing in 6 rows, expected a value"),
        (lambda: set_values("Response", None, 6), "Response: missing in 6 rows, expected a value"),
        (lambda: set_values("Gender", "unknown", 6), "Gender: unknown value in 6 rows, expected one of Female"),
        (lambda: set_values("Response", 2, 6), "Response: unknown value in 6 rows, expected one of 0, 1"),
        (lambda: set_values("Age", 5, 6), "Age: too small in 6 rows, expected at least 18"),
        (lambda: set_values("Age", 500, 6), "Age: too large in 6 rows, expected at most 120"),
        (lambda: set_values("Annual_Premium", float("inf"), 6), "Annual_Premium: infinite in 6 rows"),
        (lambda: set_values("id", 77, 5), "id: duplicated key in 6 rows, expected one row per key"),
    ],
)
def test_bad_values(rows: Callable[[], pl.DataFrame], rule: str, vehins: Vehins) -> None:
    write(rows=rows())
    answer = vehins.run(*SOURCE, code=4)
    headline = "6 of 3,000 rows (0.20%) have bad values (validate.max_bad_values = 0.001)."
    check_validate_refuses(answer, headline, rule, "`--set validate.max_bad_values=0.002`")
    # The command that the hint gives works, and the bad rows are gone.
    assert vehins.run(*SOURCE, "--set", "validate.max_bad_values=0.002").json["version"] == 1
    assert manifest("Validation")["result"]["quarantined_rows"] == 6
    assert manifest("TrainedModel")["result"]["rows"] + manifest("Evaluation")["result"]["metrics"]["rows"] == 2994


def test_what_is_wrong_is_shown_and_where_the_rows_are(vehins: Vehins) -> None:
    rows = set_text("Age", "forty", 3).with_columns(Gender=pl.when(pl.col("id") == 9).then(None).otherwise("Gender"))
    write(rows=rows)
    tolerant = ("--set", "validate.max_wrong_types=0.001")
    for words in (("pipeline", "run", *SOURCE, *tolerant), ("validate", *tolerant)):
        told = vehins(*words).err
        table = [" ".join(line.split()) for line in told.splitlines()]
        assert "Column Anomaly Rows Share For example" in table
        assert "Age wrong type 3 0.10% forty at 1" in table
        assert "Gender missing 1 0.03% null at 9" in table
        place = folders("Validation")[-1] / "quarantine.parquet"
        assert f"Set aside 4 rows, each with its reasons: {place}" in table


def test_bad_values_within_the_tolerance(finished: Vehins) -> None:
    write(rows=set_values("Gender", "unknown", 3))
    lenient = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")
    assert all_are("ran", finished.run(*SOURCE, *lenient))
    assert manifest("Validation")["result"]["quarantined_rows"] == 3
    vocabulary = manifest("FeatureSet")["result"]["categories"]
    assert vocabulary["Gender"] == 2


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (float("-inf"), "Annual_Premium: infinite in 6 rows, expected a finite number"),
        (float("nan"), "Annual_Premium: missing in 6 rows, expected a value"),
    ],
)
def test_numbers_that_are_none_in_a_parquet_file(value: float, rule: str, vehins: Vehins) -> None:
    set_values("Annual_Premium", value, 6).write_parquet("customers.parquet")
    answer = vehins.run("--source", "customers.parquet", code=4)
    headline = "6 of 3,000 rows (0.20%) have bad values (validate.max_bad_values = 0.001)."
    check_validate_refuses(answer, headline, rule)


def test_nan_as_text(vehins: Vehins) -> None:
    write(rows=set_text("Annual_Premium", "NaN", 6))
    answer = vehins.run(*SOURCE, code=4)
    check_validate_refuses(answer, answer.error["headline"], "Annual_Premium: ", " in 6 rows, expected ")


def test_several_faults_at_once(vehins: Vehins) -> None:
    rows = set_text("Age", "forty", 3).with_columns(Gender=pl.lit("Male")).drop("Vintage")
    write(rows=rows.with_columns(Vehicle_Age=pl.when(pl.col("id") > 2990).then(None).otherwise("Vehicle_Age")))
    answer = vehins.run(*SOURCE, code=4)
    options = (
        "--set validate.max_missing_columns=1 --set validate.max_wrong_types=0.001 --set validate.max_bad_values=0.0034"
    )
    headline = "1 missing: `Vintage` (validate.max_missing_columns = 0)."
    check_validate_refuses(answer, headline, f"or tolerate it: `{options}`.")
    tolerated = vehins.run(*SOURCE, *options.split(), code=5)
    assert tolerated.statuses["validate"] == "ran"
    assert (
        "the first Gender = Female" in tolerated.error["detail"]
    )  # the gate will not speak for customers it never saw


def test_one_class_only(vehins: Vehins) -> None:
    write(rows=set_values("Response", 0, 3000))
    headline = "The target `Response` has one value only; there is nothing to learn."
    answer = vehins.run(*SOURCE, code=4)
    check_validate_refuses(answer, headline)
    assert "--set" not in answer.error["hint"]  # there is nothing to tolerate


def test_no_good_row(vehins: Vehins) -> None:
    write(rows=set_values("Age", 5, 3000))
    answer = vehins.run(*SOURCE, "--set", "validate.max_bad_values=1", code=4)
    check_validate_refuses(answer, "No clean row is left.", "Age: too small in 3,000 rows")


def test_too_few_customers_to_split(vehins: Vehins) -> None:
    write(rows=customers(60))
    answer = vehins.run(*SOURCE, code=4)
    assert answer.statuses["transform"] == "failed"
    assert answer.error["detail"] == "Training needs both classes on the train side and on the valid side."
    assert "Bring more rows" in answer.error["hint"]


def test_too_small_a_train_side(vehins: Vehins) -> None:
    write(rows=customers(60))
    answer = vehins.run(*SOURCE, "--set", "split.valid=0.9", "--set", "split.test=0.09", code=4)
    assert answer.statuses["transform"] == "failed"
    assert answer.error["headline"].startswith("The train side does not have customers of both classes: 0 of ")
    assert answer.error["hint"] == "Bring more rows."  # a larger valid side would take rows from it


# --- While it is read ---------------------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    from vehins.data import conform

    real = conform.conform

    def slow(*given: Any) -> Any:
        with CSV.open("a") as file:
            file.write("more\n")
        return real(*given)

    write()
    monkeypatch.setattr(conform, "conform", slow)
    answer = vehins.run(*SOURCE, code=4)
    check_ingest_fails(answer, "customers.csv changed while it was being read", "Wait until it is complete")


def test_a_schema_that_is_not_there(vehins: Vehins) -> None:
    answer = vehins.run("--schema", "nowhere.toml", code=3)
    check_ingest_fails(answer, "Cannot read the schema nowhere.toml", "vehicle-insurance")


def test_a_file_that_changes_between_its_fingerprint_and_its_reading(
    vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vehins.stages import ingest

    real = ingest._source

    def replaced(*given: Any) -> Any:
        if inspect.stack()[1].function == "work":
            write(rows=customers(500))
        return real(*given)

    write()
    monkeypatch.setattr(ingest, "_source", replaced)
    answer = vehins.run(*SOURCE, code=4)
    check_ingest_fails(answer, "customers.csv changed while it was being read", "Wait until it is complete")
