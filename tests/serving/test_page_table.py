"""A CSV on the page is read as `vehins predict` reads it: the same rows are good, with the same values."""

from __future__ import annotations

import csv
import io
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehins.data import checks, conform
from vehins.data.schema import TableSchema
from vehins.serving.failures import RefusalError
from vehins.serving.holder import Ready
from vehins.serving.page import scores, table
from vehins.serving.requests import request_model

SCHEMA = TableSchema.model_validate(
    {
        "name": "customers",
        "null_values": ["", "n/a"],
        "columns": {
            "id": {"dtype": "string", "role": "key"},
            "age": {"dtype": "int", "minimum": 18, "maximum": 120},
            "code": {"dtype": "int", "category": True, "values": [0, 1]},
            "premium": {"dtype": "float", "nullable": True, "minimum": 0},
            "city": {"dtype": "string", "nullable": True},
            "plan": {"dtype": "string", "values": ["S", "Größe M"]},
            "insured": {"dtype": "bool", "nullable": True},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)
NUMBERED = SCHEMA.model_copy(
    update={"columns": {**SCHEMA.columns, "id": SCHEMA.columns["id"].model_copy(update={"dtype": "int"})}}
)
GOOD = {"id": "a1", "age": "44", "code": "1", "premium": "10.5", "city": "Köln", "plan": "S", "insured": "true"}


def ready(schema: TableSchema = SCHEMA) -> Any:
    return Ready(SimpleNamespace(table=schema), request_model(schema, 100), 1 << 20)


def written(rows: list[dict[str, str]], delimiter: str = ",", end: str = "\n") -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def divided(rows: list[dict[str, str]], schema: TableSchema = SCHEMA) -> table.Divided:
    return table.divide(table.read(written(rows).encode(), schema, 1_000), ready(schema))


# fmt: off
ODD = [
    "44", "18", "17", "120.0", "1e2", "1E2", "+44", "-0", "0", "1", "0.0", "1.5", ".5", "5.", "1_0", "0x10",
    "inf", "-inf", "nan", "NaN", "1e400", "1e-400", "true", "True", "FALSE", "yes", "n/a", "S", "", " ",
    " 44 ", "\u00a044\u2003", "\u001f44", "٣", "1,5", "9223372036854775808", "9007199254740993.0", "Größe M",
    "=1",
]
# fmt: on
TEXTS = st.sampled_from(ODD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=4
)
FEATURES = [name for name in GOOD if name != "id"]
# Most rows have one odd value: where there are more, each hides the others.
ROW = st.one_of(
    st.builds(lambda name, text: {**GOOD, name: text}, st.sampled_from(FEATURES), TEXTS),
    st.fixed_dictionaries({name: st.just(GOOD[name]) | TEXTS for name in FEATURES}),
)


def agree(rows: list[dict[str, str]]) -> None:
    rows = [{**row, "id": f"k{number}"} for number, row in enumerate(rows)]
    found = divided(rows)
    raw = pl.DataFrame([{name: row[name] for name in GOOD} for row in rows], schema=dict.fromkeys(GOOD, pl.String))
    typed = conform.conform(raw, SCHEMA, 0)
    unparsed = set(typed.unparsed["row"])
    marked = typed.rows.with_columns(pl.Series(checks.UNPARSED, [n in unparsed for n in range(len(rows))], pl.Boolean))
    broken = marked.select(checks.any_broken(checks.checks(SCHEMA, ["y"])) | pl.col(checks.UNPARSED)).to_series()
    assert [bad.place for bad in found.bad] == [n for n, is_broken in enumerate(broken) if is_broken]
    read = typed.rows.select(list(SCHEMA.features)).to_dicts()
    assert found.good == {n: row for n, row in enumerate(read) if not broken[n]}


def test_each_odd_value_is_good_where_it_is_for_predict() -> None:
    agree([{**GOOD, name: text} for name in FEATURES for text in ODD])


@given(rows=st.lists(ROW, min_size=1, max_size=10))
def test_rows_are_good_and_mean_the_same_as_for_predict(rows: list[dict[str, str]]) -> None:
    agree(rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_it_finds_out_how_the_file_is_written(delimiter: str, end: str, bom: str) -> None:
    text = bom + written([{"note": 'a,b;c "d"\n|', **GOOD, "y": "1"}, {**GOOD, "note": "", "y": "?"}], delimiter, end)
    sheet = table.read(text.encode() + 2 * end.encode(), SCHEMA, 100)
    assert (sheet.delimiter, sheet.has_bom) == (delimiter, bool(bom))
    assert [line.texts["city"] for line in sheet.lines] == ["Köln", "Köln"]


def test_rows_have_the_numbers_of_a_spreadsheet() -> None:
    lines = written([{**GOOD, "city": "two\nlines"}, {**GOOD, "id": "b", "age": "x"}]).split("\n")
    text = "\n".join([*lines[:3], "", *lines[3:]])
    [bad] = table.divide(table.read(text.encode(), SCHEMA, 100), ready()).bad
    assert (bad.number, bad.wrong) == (4, [("age", "x", 'must be a whole number from 18 to 120, not "x"')])


def test_keys() -> None:
    ids = ["1", "2", "x", "", "2", "3.0", "-7"]
    found = divided([{**GOOD, "id": key} for key in ids], NUMBERED)
    assert list(found.good) == [0, 5, 6]
    assert [found.keys[n] for n in found.good] == [1, 3, -7]
    rules = {bad.number: bad.wrong[0].rule for bad in found.bad}
    assert rules[4] == "must be a whole number"
    assert rules[5] == "is empty"
    assert rules[3] == rules[6] == "stands in another row as well, and which of them is right cannot be known"


def test_a_file_without_a_key_is_scored_all_the_same() -> None:
    found = divided([{name: text for name, text in GOOD.items() if name != "id"}] * 2)
    assert (found.key, len(found.good), found.bad) == (None, 2, [])


@pytest.mark.parametrize(
    ("data", "headline"),
    [
        (b"\xff\xfea\x00", "The file is not UTF-8"),
        ("Größe".encode("cp1252"), "The file is not UTF-8"),
        (b"\n\n", "The file is empty"),
        (written([GOOD]).splitlines()[0].encode(), "The file has no rows"),
        (b"a,b\n1,2\n", "The file lacks 3 columns that the model needs"),
        (b"age,age\n", "A column is there more than once"),
        (written([GOOD]).encode() + b"1,2\n", "The file has a ragged row"),
        (written([GOOD]).encode() + b'"1', "The file is not well-formed CSV"),
        (written([GOOD] * 101).encode(), "The file has too many rows"),
        (b"x" * 200_000, "The file is not well-formed CSV"),
    ],
)
def test_files_that_cannot_be_used(data: bytes, headline: str) -> None:
    with pytest.raises(RefusalError) as caught:
        table.read(data, SCHEMA, 100)
    assert caught.value.answer.error.headline == headline
    assert caught.value.answer.error.hint


def test_a_header_of_very_many_columns_is_read_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    plain = TableSchema.nearest

    def nearest(self: TableSchema, name: str) -> str | None:
        looked.append(name)
        return plain(self, name)

    monkeypatch.setattr(TableSchema, "nearest", nearest)
    names = ["Plan" + "x" * 1_000, *(f"c{number}" for number in range(100_000))]
    with pytest.raises(RefusalError) as caught:  # comparing each name with each other would take minutes
        table.read(",".join(names).encode(), SCHEMA, 10)
    assert caught.value.answer.error.headline == "The file lacks 3 columns that the model needs"
    assert len(looked) < 1_000
    assert max(map(len, looked)) < 100


def test_columns_that_nobody_looks_at_are_not_kept() -> None:
    rows = [{**GOOD, "note": "x", "": "y"}]  # ten thousand columns in each of a hundred rows would be a lot
    assert table.read(written(rows).encode(), SCHEMA, 10).lines[0].texts == GOOD


def test_a_name_that_is_nearly_right_is_recognised() -> None:
    with pytest.raises(RefusalError) as caught:
        table.read(written([{**{n: t for n, t in GOOD.items() if n != "plan"}, "Plan ": "S"}]).encode(), SCHEMA, 100)
    assert caught.value.answer.error.hint.endswith("`Plan` looks like `plan`.")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert scores.harmless(text) == "'" + text


def test_numbers_and_other_texts_stay() -> None:
    assert [scores.harmless(cell) for cell in (-7, -0.5, None, "a=b", "")] == [-7, -0.5, None, "a=b", ""]
