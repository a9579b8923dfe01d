"""Test rows that are not as they were ingested: resampled, relabelled, chosen. On them no model passes.

They are altered where a person could alter them, in the files of a Dataset or a Validation, whose manifest is sealed
again so that no hash gives it away.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from vehins_runner import customers, folders, manifest, production

from vehins.artifacts.files import record_file
from vehins.artifacts.record import canonical, digest
from vehins.data import parts, schema
from vehins.data.split import RowDigest

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehins_runner import Vehins

PART, SIDE = "parts/part-00000.parquet", "__side__"
NAMES = {"train": 0, "valid": 1, "test": 2}


def seal(folder: Path, name: str, rows: int, /, **result: Any) -> None:
    """Write a manifest that fits a file as it is now."""
    path = folder / "manifest.json"
    body = json.loads(path.read_bytes())
    del body["checksum"]
    fresh = record_file(folder, folder / name).model_dump(mode="json") | {"rows": rows}
    body["files"] = [fresh if record["path"] == name else record for record in body["files"]]
    body["result"] |= result
    path.write_bytes(canonical({**body, "checksum": digest(body)}))


def alter(change: Callable[[pl.DataFrame], pl.DataFrame], *, whole: bool = False) -> None:
    """Change the test side of the Dataset; ``whole`` also mends what its manifest counts and digests."""
    (folder,) = folders("Dataset")
    rows = pl.read_parquet(folder / PART)
    changed = pl.concat([rows.filter(pl.col(SIDE) != "test"), change(rows.filter(pl.col(SIDE) == "test"))])
    assert not changed.equals(rows)
    changed.write_parquet(folder / PART)
    seal(folder, PART, changed.height, **(counted(changed) if whole else {}))


def counted(rows: pl.DataFrame) -> dict[str, Any]:
    names = schema.load("vehicle-insurance").kept
    found: dict[str, Any] = {"rows": rows.height, "rows_by_side": {}, "digest_by_side": {}}
    for side in NAMES:
        some, marks = rows.filter(pl.col(SIDE) == side), RowDigest(names)
        marks.add(some)
        found["rows_by_side"][side] = some.height
        found["digest_by_side"][side] = marks.hexdigest()
    return found


def buyers(rows: pl.DataFrame, *, are: bool = True) -> pl.DataFrame:
    return rows.filter((pl.col("Response") == 1) == are)


def oversampled(rows: pl.DataFrame) -> pl.DataFrame:
    """As many buyers as others: drawn again, with a little noise and keys of their own, as SMOTE makes them."""
    missing = buyers(rows, are=False).height - buyers(rows).height
    more = buyers(rows).sample(missing, with_replacement=True, seed=1)
    dice = np.random.default_rng(1)
    made = more.with_columns(
        pl.Series("id", np.arange(1_000_000, 1_000_000 + missing)),
        Annual_Premium=pl.col("Annual_Premium") * pl.Series(dice.uniform(0.95, 1.05, missing)),
    )
    return pl.concat([rows, made.with_columns(pl.col("id").cast(rows.schema["id"]))])


def twice(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, rows])


def undersampled(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([buyers(rows), buyers(rows, are=False).head(buyers(rows).height)])


def bootstrapped(rows: pl.DataFrame) -> pl.DataFrame:
    """As many rows as before, with the same share of buyers."""
    same = [buyers(rows, are=are).sample(fraction=1.0, with_replacement=True, seed=2) for are in (True, False)]
    return pl.concat(same)


def relabelled(rows: pl.DataFrame) -> pl.DataFrame:
    """Labels that suit the model: whoever has a damaged vehicle and no insurance is said to buy."""
    keen = (pl.col("Vehicle_Damage") == "Yes") & (pl.col("Previously_Insured") == 0)
    return rows.with_columns(Response=keen.cast(rows.schema["Response"]))


def one_label(rows: pl.DataFrame) -> pl.DataFrame:
    first = pl.int_range(pl.len()) == 0
    return rows.with_columns(Response=pl.when(first).then(1 - pl.col("Response")).otherwise("Response"))


def one_less(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.head(rows.height - 1)


ALTERED = [oversampled, twice, undersampled, bootstrapped, relabelled, one_label, one_less]


def evaluated(vehins: Vehins, *words: str) -> dict[str, Any]:
    """The rules of an evaluation that must be refused."""
    answer = vehins("evaluate", "--force", "--json", *words, code=5)
    assert answer.json["gate"]["verdict"] == "refuse"
    return {rule["name"]: rule for rule in answer.json["gate"]["rules"]}


@pytest.mark.parametrize("change", ALTERED)
def test_altered_rows_never_pass(change: Callable[[pl.DataFrame], pl.DataFrame], finished: Vehins) -> None:
    alter(change)
    rules = evaluated(finished)
    assert rules["rows_as_ingested"]["verdict"] == "fail"
    # Nor can a person say that they do.
    assert evaluated(finished, "--approve", "I made them myself")["rows_as_ingested"]["verdict"] == "fail"
    assert manifest("Evaluation")["result"]["approved"] is None
    answer = finished("evaluate", "--json", code=5)
    assert answer.error["hint"].startswith("This cannot be overruled.")
    assert production() == 1


@pytest.mark.parametrize("change", ALTERED)
def test_rows_that_are_altered_on_their_way_to_the_model(
    change: Callable[[pl.DataFrame], pl.DataFrame], finished: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip in the code between the files and the model is found as well: the very frame is held to the digest."""
    clean = parts.clean_rows

    def altered(*found: Any) -> pl.LazyFrame:
        rows = clean(*found).collect()
        return pl.concat([rows.filter(pl.col(SIDE) != "test"), change(rows.filter(pl.col(SIDE) == "test"))]).lazy()

    monkeypatch.setattr(parts, "clean_rows", altered)
    assert evaluated(finished)["rows_as_ingested"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (oversampled, "rows_as_ingested"),  # made-up keys fall on all sides
        (twice, "rows_as_ingested"),
        (bootstrapped, "rows_as_ingested"),
        (undersampled, "fair_draw"),
        (relabelled, "fair_draw"),
    ],
)
def test_they_do_not_pass_with_a_new_digest_either(
    change: Callable[[pl.DataFrame], pl.DataFrame], rule: str, finished: Vehins
) -> None:
    """Whoever digests them anew has told of a data set that no hash could have drawn."""
    alter(change, whole=True)
    assert evaluated(finished)[rule]["verdict"] == "fail"


def test_training_rows_do_not_pass_for_test_rows(finished: Vehins) -> None:
    (folder,) = folders("Dataset")
    rows = pl.read_parquet(folder / PART)
    sides = pl.when(pl.col(SIDE) == "valid").then(pl.lit("test")).otherwise(pl.col(SIDE).cast(pl.String))
    moved = rows.with_columns(sides.cast(rows.schema[SIDE]).alias(SIDE))
    moved.write_parquet(folder / PART)
    seal(folder, PART, moved.height, **counted(moved))
    assert evaluated(finished)["rows_as_ingested"]["value"] == (rows[SIDE] == "valid").sum()


def test_rows_that_are_set_aside_without_a_reason(finished: Vehins) -> None:
    """The hardest customers, put into quarantine: buyers whom nobody expects, and nobody else."""
    (dataset,), (validation,) = folders("Dataset"), folders("Validation")
    rows = pl.read_parquet(dataset / PART).with_row_index("__row__").with_columns(pl.col("__row__").cast(pl.Int64))
    hard = rows.filter((pl.col(SIDE) == "test") & (pl.col("Response") == 1)).head(9)
    aside = hard.drop("__unparsed__").with_columns(reasons=pl.lit("Age: too small"))
    aside.write_parquet(validation / parts.QUARANTINE_FILE)
    body = json.loads((validation / "manifest.json").read_bytes())
    del body["checksum"]
    record = record_file(validation, validation / parts.QUARANTINE_FILE).model_dump(mode="json") | {"rows": 9}
    body["files"] = [record]
    body["result"]["quarantined_rows"] = 9
    (validation / "manifest.json").write_bytes(canonical({**body, "checksum": digest(body)}))
    rule = evaluated(finished)["rows_as_ingested"]
    assert (rule["verdict"], rule["value"]) == ("fail", 9)
    assert "9 left out for no reason" in rule["sentence"]


def test_rows_that_are_set_aside_for_a_reason_are_no_fault(vehins: Vehins) -> None:
    rows = customers().with_columns(
        Age=pl.when(pl.col("id") % 300 == 0).then(5).otherwise("Age"),
        id=pl.when(pl.col("id") <= 20).then(pl.col("id") // 2).otherwise("id"),
    )
    texts = rows.with_columns(Vintage=pl.when(pl.col("id") % 400 == 1).then(pl.lit("long")).otherwise("Vintage"))
    texts.write_csv("bad.csv")
    lenient = ("--set", "validate.max_bad_values=0.05", "--set", "validate.max_wrong_types=0.05")
    answer = vehins.run("--source", "bad.csv", *lenient)
    found = manifest("Evaluation")["result"]["integrity"]
    assert manifest("Validation")["result"]["quarantined_rows"] > 30
    assert found["digest_matches"]
    assert found["rows"] == found["expected_rows"] < manifest("Dataset")["result"]["rows_by_side"]["test"]
    assert (found["duplicated_keys"], found["misplaced_rows"], found["unjustified_rows"]) == (0, 0, 0)
    assert answer.json["gate"]["verdict"] == "accept"


def test_a_data_set_without_digests_proves_nothing(finished: Vehins) -> None:
    (folder,) = folders("Dataset")
    seal(folder, PART, 3_000, digest_by_side={})
    rule = evaluated(finished)["rows_as_ingested"]
    assert (rule["verdict"], rule["value"]) == ("fail", None)
    assert "ingest again" in rule["sentence"]


def test_rows_without_a_key_are_judged_by_their_digest_alone(vehins: Vehins) -> None:
    text = (Path(schema.__file__).parent / "schemas" / "vehicle-insurance.toml").read_text()
    start, end = text.index("[columns.id]"), text.index("[columns.Gender]")
    Path("keyless.toml").write_text(text[:start] + text[end:])
    customers().drop("id").write_parquet("keyless.parquet")
    answer = vehins.run("--source", "keyless.parquet", "--schema", "keyless.toml")
    rules = {rule["name"]: rule["verdict"] for rule in answer.json["gate"]["rules"]}
    assert rules["rows_as_ingested"] == "pass"
    assert "fair_draw" not in rules
    alter(one_label)
    assert evaluated(vehins)["rows_as_ingested"]["verdict"] == "fail"
