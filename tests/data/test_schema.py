"""A schema says what a table holds; one that contradicts itself is refused where it does."""

from __future__ import annotations

import tomllib

import pytest

from vehins.data import schema
from vehins.data.schema import TableSchema
from vehins.errors import SchemaError

GOOD = """\
name = "customers"

[columns.id]
dtype = "int"
role = "key"

[columns.age]
dtype = "int"
minimum = 18
maximum = 120

[columns.gender]
dtype = "string"
values = ["f", "m"]
nullable = true

[columns.member]
dtype = "bool"

[columns.region]
dtype = "int"
category = true

[columns.premium]
dtype = "float"
values = [0, 2.5]

[columns.remark]
dtype = "string"
role = "ignored"

[columns.answer]
dtype = "string"
role = "target"
values = ["no", "yes"]
positive = "yes"
"""
KEY = '[columns.id]\ndtype = "int"\nrole = "key"\n'
TARGET = '[columns.answer]\ndtype = "string"\nrole = "target"\nvalues = ["no", "yes"]\npositive = "yes"\n'


@pytest.fixture
def load(tmp_path):
    def load(text: str | bytes) -> TableSchema:
        path = tmp_path / "table.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return schema.load(str(path))

    return load


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_feature_can_be_a_slice(load):
    table = load(changed("maximum = 120\n", "maximum = 120\nslice = true\n"))
    assert [name for name, column in table.features.items() if column.slice] == ["age"]
    packaged = schema.load("vehicle-insurance")
    assert {"Gender", "Age"} < {name for name, column in packaged.features.items() if column.slice}


def test_tells_the_roles_of_its_columns(load):
    table = load(GOOD)
    assert table.key == "id"
    assert table.target == "answer"
    assert list(table.features) == ["age", "gender", "member", "region", "premium"]
    assert table.kept == ["id", "age", "gender", "member", "region", "premium", "answer"]
    assert [name for name, column in table.features.items() if column.is_category] == ["gender", "member", "region"]


def test_a_key_is_not_needed(load):
    assert load(changed(KEY, "")).key is None


def test_travels_as_json(load):
    table = load(GOOD)
    assert schema.parse(table.to_json()) == table
    assert schema.parse(table.to_json()).digest == table.digest


def test_every_change_changes_its_digest(load):
    others = [
        changed("minimum = 18", "minimum = 17"),
        changed("minimum = 18", "minimum = 18\nmonotone = 1"),
        GOOD + "unit = 'x'\n",
        interaction("ratio", "age", "premium"),
        interaction("ratio", "premium", "age"),
    ]
    assert len({load(text).digest for text in (GOOD, *others)}) == 6


def test_interactions_are_no_columns(load):
    table = load(interaction("ratio", "premium", "age"))
    assert list(table.features) == list(load(GOOD).features)
    assert table.interactions["made"].columns == ["premium", "age"]
    assert not table.interactions["made"].is_category


def test_a_byte_order_mark_does_no_harm(load):
    assert load(b"\xef\xbb\xbf" + GOOD.encode()) == load(GOOD)


@pytest.mark.parametrize("name", schema.packaged())
def test_packaged_schemas_load(name):
    table = schema.load(name)
    assert table.name == name
    assert all(column.description for column in table.columns.values())


def test_the_packaged_schema_is_that_of_the_public_data():
    table = schema.load("vehicle-insurance")
    assert (table.key, table.target, len(table.features)) == ("id", "Response", 10)


def interaction(kind: str, first: str, second: str, name: str = "made") -> str:
    return f'{GOOD}\n[interactions."{name}"]\nkind = "{kind}"\ncolumns = ["{first}", "{second}"]\n'


CONTRADICTIONS = {
    "no target": (changed(TARGET, ""), "the whole schema", "exactly one column needs the role `target`"),
    "two targets": (GOOD + TARGET.replace("answer", "other"), "the whole schema", "exactly one column"),
    "two keys": (GOOD + KEY.replace("id", "other"), "the whole schema", "at most one column"),
    "no feature": (f'name = "t"\n{KEY}{TARGET}', "the whole schema", "at least one column needs the role `feature`"),
    "float key": (changed(KEY, KEY.replace('"int"', '"float"')), "the whole schema", "the key is an int or a string"),
    "nullable key": (changed(KEY, KEY + "nullable = true\n"), "columns.id", "the key cannot be nullable"),
    "float category": (GOOD + '[columns.x]\ndtype = "float"\ncategory = true', "columns.x", "not a float"),
    "string with minimum": (changed("nullable = true", "minimum = 1"), "columns.gender", "no minimum or maximum"),
    "bool with maximum": (changed('dtype = "bool"', 'dtype = "bool"\nmaximum = 1'), "columns.member", "a bool has no"),
    "minimum above maximum": (changed("minimum = 18", "minimum = 121"), "columns.age", "above the maximum"),
    "value of another type": (
        changed('["f", "m"]', '["f", 1]'),
        "columns.gender",
        "1 in `values` is not of type string",
    ),
    "bool among ints": (changed("category = true", "values = [0, true]"), "columns.region", "True in `values` is not"),
    "int beyond 64 bits": (changed("category = true", f"values = [{2**63}]"), "columns.region", "is not of type int"),
    "value twice": (
        changed('["f", "m"]', '["f", "m", "f"]'),
        "columns.gender",
        "'f' stands in `values` more than once",
    ),
    "equal floats": (changed("[0, 2.5]", "[0, 0.0]"), "columns.premium", "stands in `values` more than once"),
    "value out of range": (
        changed("[0, 2.5]", "[0, 2.5]\nminimum = 1"),
        "columns.premium",
        "0 in `values` is not between",
    ),
    "target without values": (changed('values = ["no", "yes"]', ""), "columns.answer", "the target needs two `values`"),
    "target with three": (changed('["no", "yes"]', '["no", "yes", "?"]'), "columns.answer", "needs two `values`"),
    "target without positive": (changed('positive = "yes"', ""), "columns.answer", "`positive`: 'no' or 'yes'"),
    "positive is no value": (changed('positive = "yes"', 'positive = "Yes"'), "columns.answer", "`positive`: 'no' or"),
    "key as a slice": (changed(KEY, KEY + "slice = true\n"), "columns.id", "only a feature can be a `slice`"),
    "nullable target": (GOOD + "nullable = true\n", "columns.answer", "the target cannot be nullable"),
    "positive feature": (changed('["f", "m"]', '["f", "m"]\npositive = "f"'), "columns.gender", "only the target"),
    "blank around a value": (changed('["f", "m"]', '["f", " m"]'), "the whole schema", "`strip` drops its blanks"),
    "monotone category": (changed('dtype = "bool"', 'dtype = "bool"\nmonotone = 1'), "columns.member", "an amount"),
    "monotone key": (changed(KEY, KEY + "monotone = 1\n"), "columns.id", "only a feature"),
    "interaction of one": (interaction("product", "age", "age"), "the whole schema", "needs two different columns"),
    "interaction of none": (interaction("product", "age", "aeg"), "the whole schema", "`aeg`, which is no feature"),
    "interaction of a key": (interaction("ratio", "age", "id"), "the whole schema", "`id`, which is no feature"),
    "interaction of the target": (interaction("cross", "gender", "answer"), "the whole schema", "is no feature"),
    "cross of an amount": (interaction("cross", "gender", "age"), "the whole schema", "two categories, and `age`"),
    "ratio of a category": (interaction("ratio", "age", "region"), "the whole schema", "two amounts, and `region`"),
    "interaction named like a column": (
        interaction("ratio", "age", "premium", name="remark"),
        "the whole schema",
        "`remark` has the name of a column",
    ),
    "interaction of a monotone column": (
        interaction("ratio", "age", "premium").replace("minimum = 18", "minimum = 18\nmonotone = 1"),
        "the whole schema",
        "`age` is monotone, and could not be",
    ),
    "value that means missing": (changed('["f", "m"]', '["f", ""]'), "the whole schema", "`null_values` has it"),
}


@pytest.mark.parametrize(("text", "place", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_refuses_contradictions_and_says_where(load, text, place, reason):
    tomllib.loads(text)  # the fault is in what it says
    with pytest.raises(SchemaError, match="makes no sense") as caught:
        load(text)
    assert caught.value.exit_code == 3
    assert f"at `{place}`" in caught.value.headline
    assert reason in caught.value.detail
    assert "vehins config schema" in caught.value.hint


def test_a_bool_is_no_positive_of_an_int_target(load):
    """Python takes True for 1; a comparison of columns does not."""
    target = '[columns.answer]\ndtype = "int"\nrole = "target"\nvalues = [0, 1]\npositive = true\n'
    with pytest.raises(SchemaError) as caught:
        load(changed(TARGET, target))
    assert "0 or 1" in caught.value.detail


SLIPS = {
    "unknown field": (changed("nullable = true", "nulable = true"), "columns.gender.nulable"),
    "unknown dtype": (changed('dtype = "bool"', 'dtype = "boolean"'), "columns.member.dtype"),
    "unknown role": (changed('"ignored"', '"ignore"'), "columns.remark.role"),
    "text for a bool": (changed("nullable = true", 'nullable = "yes"'), "columns.gender.nullable"),
    "text for a number": (changed("minimum = 18", 'minimum = "18"'), "columns.age.minimum"),
    "not a number": (changed("minimum = 18", "minimum = nan"), "columns.age.minimum"),
    "endless": (changed("minimum = 18", "minimum = -inf"), "columns.age.minimum"),
    "date among values": (changed('["f", "m"]', '["f", 2026-01-01]'), "columns.gender.values.1"),
    "no values": (changed('["f", "m"]', "[]"), "columns.gender.values"),
    "no dtype": (changed('dtype = "bool"', ""), "columns.member.dtype"),
    "columns is a number": ('name = "t"\ncolumns = 5', "columns"),
    "columns is a list": ('name = "t"\ncolumns = ["a", "b"]', "columns"),
    "one column": (f'name = "t"\n{TARGET}', "columns"),
    "unknown direction": (changed("minimum = 18", "minimum = 18\nmonotone = 2"), "columns.age.monotone"),
    "unknown interaction": (interaction("sum", "age", "premium"), "interactions.made.kind"),
    "interaction of three": (
        interaction("ratio", "age", "premium").replace('"premium"]', '"premium", "age"]'),
        "interactions.made.columns",
    ),
    "reserved name of an interaction": (interaction("ratio", "age", "premium", name="__label__"), "interactions"),
    "no name": (changed('name = "customers"', ""), "name"),
    "text for a version": (changed('name = "customers"', 'name = "customers"\nversion = "1"'), "version"),
    "reserved name": (GOOD + '[columns.__side__]\ndtype = "int"\n', "columns"),
    "blank in a name": (GOOD + '[columns." x"]\ndtype = "int"\n', "columns"),
    "empty name": (GOOD + '[columns.""]\ndtype = "int"\n', "columns"),
}


@pytest.mark.parametrize(("text", "place"), SLIPS.values(), ids=SLIPS)
def test_refuses_typing_slips_and_says_where(load, text, place):
    tomllib.loads(text)
    with pytest.raises(SchemaError) as caught:
        load(text)
    assert caught.value.headline.endswith(f"at `{place}`")
    assert caught.value.detail


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (changed("minimum = 18", "min = 18"), "`minimum`"),
        ("null_value = []\n" + GOOD, "`null_values`"),
        (GOOD.replace("dtype", "type", 1), "`dtype`"),
        (GOOD + '[interactions.x]\nkinds = "cross"\n', "`kind`"),
    ],
)
def test_a_key_that_there_is_not_names_the_one_that_was_meant(load, text, meant):
    with pytest.raises(SchemaError) as caught:
        load(text)
    assert f"there is no such key (is it {meant}?). The keys are `" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "place"),
    [("name = customers", "line 1, column 8"), (GOOD + "[columns.age]\n", "line 37"), ("a =", "end of document")],
)
def test_what_is_no_toml_is_refused_with_line_and_column(load, text, place):
    with pytest.raises(SchemaError, match="is not valid TOML") as caught:
        load(text)
    assert place in caught.value.detail
    assert caught.value.hint


@pytest.mark.parametrize("name", ["absent.toml", "vehicle-insurance.toml", "", "/dev"])
def test_a_schema_that_cannot_be_read_names_the_packaged_ones(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SchemaError, match="Cannot read") as caught:
        schema.load(name)
    assert "vehicle-insurance" in caught.value.hint


def test_a_schema_that_is_not_utf8_is_refused(load):
    with pytest.raises(SchemaError, match="Cannot read"):
        load('name = "\xe9"'.encode("latin-1"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Age", "age"),
        ("PREMIUM ", "premium"),
        ("is_member", "member"),
        ("premum", "premium"),
        ("Remark", None),
        ("q", None),
    ],
)
def test_finds_the_column_that_was_meant(load, written, meant):
    assert load(GOOD).nearest(written) == meant
