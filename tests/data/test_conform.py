"""Raw values of any type become typed ones, or stand among the unparsed; none is lost."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import CUSTOMERS, table

from vehins.data.conform import conform, polars_type

INF, NAN = float("inf"), float("nan")
DTYPES = ("int", "float", "string", "bool")
BIG = 2**53


def typed(dtype: str, values, raw_type=None, **options) -> tuple[list, list]:
    """The typed values of one column, and the texts of those that are unparsed."""
    schema = table({"x": {"dtype": dtype, "nullable": True}}, **options)
    rows, unparsed = conform(pl.DataFrame({"x": pl.Series(values, dtype=raw_type)}), schema, 0)
    assert rows.schema["x"] == polars_type(dtype)
    return rows["x"].to_list(), unparsed["value"].to_list()


TEXTS = [
    # text, int, float, string, bool; "!" where it cannot be of that type
    ("28", 28, 28.0, "28", "!"),
    (" 28\t", 28, 28.0, "28", "!"),
    ("+7", 7, 7.0, "+7", "!"),
    ("-7", -7, -7.0, "-7", "!"),
    ("007", 7, 7.0, "007", "!"),
    ("28.0", 28, 28.0, "28.0", "!"),
    ("28.", 28, 28.0, "28.", "!"),
    ("1e3", 1000, 1000.0, "1e3", "!"),
    ("28.5", "!", 28.5, "28.5", "!"),
    (".5", "!", 0.5, ".5", "!"),
    ("1", 1, 1.0, "1", True),
    ("0", 0, 0.0, "0", False),
    ("1.0", 1, 1.0, "1.0", True),
    ("0.0", 0, 0.0, "0.0", False),
    ("True", "!", "!", "True", True),
    ("FALSE", "!", "!", "FALSE", False),
    ("yes", "!", "!", "yes", "!"),
    ("28,5", "!", "!", "28,5", "!"),
    ("1_000", "!", "!", "1_000", "!"),
    ("1 000", "!", "!", "1 000", "!"),
    ("0x1F", "!", "!", "0x1F", "!"),
    ("NA", "!", "!", "NA", "!"),
    ("NaN", "!", "!", "NaN", "!"),
    ("inf", "!", INF, "inf", "!"),
    ("1e400", "!", INF, "1e400", "!"),
    (str(2**63 - 1), 2**63 - 1, float(2**63), str(2**63 - 1), "!"),
    (str(2**63), "!", float(2**63), str(2**63), "!"),
    (str(BIG + 1), BIG + 1, float(BIG), str(BIG + 1), "!"),
    (f"{BIG + 1}.0", "!", float(BIG), f"{BIG + 1}.0", "!"),
    (f"{BIG - 1}.0", BIG - 1, float(BIG - 1), f"{BIG - 1}.0", "!"),
    ("é\x00\x1f😀", "!", "!", "é\x00\x1f😀", "!"),
    ("", None, None, None, None),
    ("  ", None, None, None, None),
    (None, None, None, None, None),
]


@pytest.mark.parametrize("raw_type", [pl.String, pl.Categorical, pl.Binary])
@pytest.mark.parametrize("dtype", DTYPES)
def test_texts(dtype, raw_type):
    texts = [row[0] for row in TEXTS]
    wanted = [row[1 + DTYPES.index(dtype)] for row in TEXTS]
    raw = [text.encode() if text is not None and raw_type == pl.Binary else text for text in texts]
    values, unparsed = typed(dtype, raw, raw_type)
    assert values == [None if value == "!" else value for value in wanted]
    assert unparsed == [text.strip() for text, value in zip(texts, wanted, strict=True) if value == "!"]


NUMBERS = [
    (pl.Int8, [1, -7, None], [1, -7, None], [1.0, -7.0, None], ["1", "-7", None], [True, "-7", None]),
    (
        pl.UInt64,
        [0, 2**64 - 1],
        [0, "18446744073709551615"],
        [0.0, 2.0**64],
        ["0", str(2**64 - 1)],
        [False, str(2**64 - 1)],
    ),
    (pl.Int64, [BIG + 1], [BIG + 1], [float(BIG)], [str(BIG + 1)], [str(BIG + 1)]),
    (pl.Int128, [2**100, 5], [str(2**100), 5], [2.0**100, 5.0], [str(2**100), "5"], [str(2**100), "5"]),
    (
        pl.Float64,
        [28.0, 28.5, NAN, None],
        [28, "28.5", None, None],
        [28.0, 28.5, None, None],
        ["28", "28.5", None, None],
        ["28.0", "28.5", None, None],
    ),
    (
        pl.Float64,
        [1.0, -0.0, BIG - 1.0],
        [1, 0, BIG - 1],
        [1.0, 0.0, BIG - 1.0],
        ["1", "0", str(BIG - 1)],
        [True, False, f"{BIG - 1}.0"],
    ),
    (pl.Float64, [INF, -INF], ["inf", "-inf"], [INF, -INF], ["inf", "-inf"], ["inf", "-inf"]),
    (pl.Float64, [float(BIG)], [f"{BIG}.0"], [float(BIG)], [f"{BIG}.0"], [f"{BIG}.0"]),
    (pl.Float32, [28.0, 0.5, NAN], [28, "0.5", None], [28.0, 0.5, None], ["28", "0.5", None], ["28.0", "0.5", None]),
    (pl.Boolean, [True, False, None], [1, 0, None], [1.0, 0.0, None], ["true", "false", None], [True, False, None]),
    (
        pl.Decimal(30, 2),
        [Decimal("28.00"), Decimal("28.50"), None],
        [28, "28.50", None],
        [28.0, 28.5, None],
        ["28.00", "28.50", None],
        ["28.00", "28.50", None],
    ),
    (
        pl.Decimal(30, 0),
        [Decimal(BIG + 1), Decimal(10**25)],
        [BIG + 1, str(10**25)],
        [float(BIG), 1e25],
        [str(BIG + 1), str(10**25)],
        [str(BIG + 1), str(10**25)],
    ),
    (pl.Null, [None, None], [None, None], [None, None], [None, None], [None, None]),
]


@pytest.mark.parametrize("case", NUMBERS, ids=lambda case: str(case[0]))
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers(dtype, case):
    """In a column of the expected values, what should be unparsed stands as its text."""
    raw_type, raw, *by_dtype = case
    wanted = by_dtype[DTYPES.index(dtype)]
    values, unparsed = typed(dtype, raw, raw_type)
    fits = {"int": int, "float": float, "string": str, "bool": bool}[dtype]
    if dtype == "string":
        assert (values, unparsed) == (wanted, [])
    else:
        assert values == [value if type(value) is fits else None for value in wanted]
        assert unparsed == [value for value in wanted if isinstance(value, str)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("raw_type", "value", "text"),
    [
        (pl.Date, dt.date(2026, 11, 24), "2026-11-24"),
        (pl.Datetime, dt.datetime(2026, 11, 24, 1, 2), "2026-11-24 01:02:00.000000"),
        (pl.Time, dt.time(1, 2), "01:02:00"),
        (pl.Duration, dt.timedelta(days=3), "3 days, 0:00:00"),
        (pl.List(pl.Int64), [1, 2], "[1, 2]"),
        (pl.Array(pl.Int64, 2), [1, 2], "[1, 2]"),
        (pl.Struct({"a": pl.Int64}), {"a": 1}, "{'a': 1}"),
        (pl.Object, frozenset({1}), "frozenset({1})"),
        (pl.Binary, b"a\xff", "a\\xff"),
    ],
)
def test_what_is_of_no_type_is_shown(dtype, raw_type, value, text):
    assert typed(dtype, [None, value], raw_type) == ([None, None], [text])


def test_an_enum_is_text():
    assert typed("int", ["1", "x", None], pl.Enum(["x", "1"])) == ([1, None, None], ["x"])


def test_only_what_is_not_utf8_is_unparsed():
    assert typed("string", [b"ok", b"\xe9", None, b""], pl.Binary) == (["ok", None, None, None], ["\\xe9"])


@pytest.mark.parametrize(
    ("options", "wanted", "unparsed"),
    [
        ({}, ["a", "?", "NA", None, None], []),
        ({"strip": False}, [" a", "?", " NA", " ", None], []),
        ({"null_values": ["?", "NA"]}, ["a", None, None, "", ""], []),
        ({"null_values": ["?", " NA", " "]}, ["a", None, None, None, None], []),
        ({"null_values": ["NA"], "strip": False}, [" a", "?", " NA", " ", ""], []),
        ({"null_values": []}, ["a", "?", "NA", "", ""], []),
    ],
)
def test_how_missing_is_written_is_the_schemas_to_say(options, wanted, unparsed):
    assert typed("string", [" a", "?", " NA", " ", ""], **options) == (wanted, unparsed)


def test_an_empty_text_is_no_number_when_it_does_not_mean_missing():
    assert typed("int", ["", "1"], null_values=["?"]) == ([None, 1], [""])


def test_absent_columns_are_null_and_others_are_dropped():
    batch = pl.DataFrame({"y": ["1"], "extra": ["x"], "age": ["40"]})
    rows, unparsed = conform(batch, CUSTOMERS, 0)
    assert rows.to_dicts() == [{"id": None, "name": None, "age": 40, "y": 1}]
    assert rows.schema == {"id": pl.Int64, "name": pl.String, "age": pl.Int64, "y": pl.Int64}
    assert unparsed.is_empty()


def test_a_batch_without_any_column_of_the_schema_keeps_its_rows():
    rows, unparsed = conform(pl.DataFrame({"other": [1, 2, 3]}), CUSTOMERS, 0)
    assert rows.rows() == [(None,) * 4] * 3
    assert unparsed.is_empty()


def test_an_unparsed_cell_names_its_row_and_key():
    batch = pl.DataFrame({"id": ["7", "x", None], "age": ["old", "young", "1.5"], "y": ["0", "1", "maybe"]})
    _, unparsed = conform(batch, CUSTOMERS, first_row=1000)
    assert unparsed.rows() == [
        (1001, "x", "id", "x"),
        (1000, "7", "age", "old"),
        (1001, "x", "age", "young"),
        (1002, None, "age", "1.5"),
        (1002, None, "y", "maybe"),
    ]


def test_without_a_key_an_unparsed_cell_names_its_row():
    _, unparsed = conform(pl.DataFrame({"x": ["a"], "y": ["1"]}), table({"x": {"dtype": "int"}}), 5)
    assert unparsed.rows() == [(5, None, "x", "a")]


def test_no_rows_are_fine():
    rows, unparsed = conform(pl.DataFrame(schema={"id": pl.String, "age": pl.String}), CUSTOMERS, 0)
    assert (rows.height, unparsed.height) == (0, 0)
    assert unparsed.schema == {"row": pl.Int64, "key": pl.String, "column": pl.String, "value": pl.String}


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMERIC = st.integers(-(2**70), 2**70).map(str) | st.floats().map(str) | st.decimals(allow_nan=False).map(str)
RAW = st.one_of(
    st.tuples(st.just(pl.String), st.lists(st.none() | TEXT | NUMERIC, max_size=6)),
    st.tuples(st.just(pl.Int64), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=6)),
    st.tuples(st.just(pl.UInt64), st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=6)),
    st.tuples(st.just(pl.Float64), st.lists(st.none() | st.floats(), max_size=6)),
    st.tuples(st.just(pl.Boolean), st.lists(st.none() | st.booleans(), max_size=6)),
    st.tuples(st.just(pl.Binary), st.lists(st.none() | st.binary(max_size=4), max_size=6)),
    st.tuples(st.just(pl.Date), st.lists(st.none() | st.dates(), max_size=6)),
)


def is_missing(value) -> bool:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    blank = isinstance(value, str) and pl.Series([value]).str.strip_chars()[0] in {"", "?"}
    return value is None or value != value or blank


@settings(max_examples=200, deadline=None)
@given(raw=RAW, dtype=st.sampled_from(DTYPES), first=st.integers(0, 10**9))
def test_no_value_is_lost(raw, dtype, first):
    """Every value that is not missing is typed or unparsed, and never both."""
    raw_type, values = raw
    schema = table({"id": {"dtype": "int", "role": "key"}, "x": {"dtype": dtype}}, null_values=["", "?"])
    batch = pl.DataFrame({"id": range(len(values)), "x": pl.Series(values, dtype=raw_type)}, strict=False)
    rows, unparsed = conform(batch, schema, first)
    got_typed = {i for i, value in enumerate(rows["x"]) if value is not None}
    got_unparsed = {row - first for row in unparsed["row"]}
    assert not got_typed & got_unparsed
    assert got_typed | got_unparsed == {i for i, value in enumerate(values) if not is_missing(value)}
    assert unparsed["key"].to_list() == [str(row - first) for row in unparsed["row"]]
    assert unparsed["value"].null_count() == 0


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6))
def test_integers_come_through_exactly_however_they_are_written(values):
    for raw in (values, [str(value) for value in values], [Decimal(value) for value in values]):
        assert typed("int", raw) == (values, [])
