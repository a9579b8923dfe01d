"""Raw values of any type -> the types of the schema, without losing a value that does not fit.

A value that is not of its column's type becomes null in the typed table, and stands as text in a second table of
"unparsed cells", so that `validate` can show it. A float NaN means missing (the text does where the schema's
`null_values` has it). Nothing here judges: that is `checks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vehins.data.schema import Column, Dtype, TableSchema

if TYPE_CHECKING:
    import polars as pl

ROW = "__row__"
# Columns about the rows that a source may add to those of the table.
ID = "__id__"
"""What its store calls a row, as text: shown where the row has no key."""
UNREAD = "__unread__:"
"""In front of a column's name: texts of values that are of none of the schema's types, and null in that column."""
_RAW = "__raw__:"
# From here on a float no longer tells one integer from the next.
_EXACT = 2**53


class Conformed(NamedTuple):
    """A batch in the schema's types."""

    rows: pl.DataFrame
    """The columns that the schema keeps, in its order."""
    unparsed: pl.DataFrame
    """Values that are not of their column's type: ``row`` (of the data set), ``key``, ``column``, ``value``."""


def plain(batch: pl.DataFrame) -> pl.DataFrame:
    """A batch with the columns of the table alone."""
    return batch.drop([name for name in batch.columns if name == ID or name.startswith(UNREAD)])


def polars_type(dtype: Dtype) -> pl.DataType:
    """The type in which a column is kept."""
    import polars as pl

    return {"int": pl.Int64(), "float": pl.Float64(), "string": pl.String(), "bool": pl.Boolean()}[dtype]


def conform(batch: pl.DataFrame, schema: TableSchema, first_row: int) -> Conformed:
    """Type a batch of raw rows; columns that it does not have become null.

    ``first_row`` is the number of the batch's first row in the data set, from 0.
    """
    import polars as pl

    raw = {name: _cleaned(batch.schema[name], name, schema) for name in schema.kept if name in batch.columns}
    typed = [
        (
            _typed(batch.schema[name], name, raw[name], schema.columns[name])
            if name in raw
            else pl.lit(None, dtype=polars_type(schema.columns[name].dtype))
        ).alias(name)
        for name in schema.kept
    ]
    # Not `select`: where the batch has none of the columns, that would make one row of all.
    plan = batch.lazy().with_columns(*typed, *(expr.alias(_RAW + name) for name, expr in raw.items()))
    about = [name for name in batch.columns if name == ID or name.startswith(UNREAD)]
    both = plan.select(*schema.kept, *(_RAW + name for name in raw), *about).collect()
    return Conformed(both.select(schema.kept), _unparsed(both, list(raw), schema, first_row))


def _cleaned(dtype: pl.DataType, name: str, schema: TableSchema) -> pl.Expr:
    """The raw value with every way to write "missing" turned into null."""
    import polars as pl

    column = pl.col(name)
    if dtype.is_float():
        return column.fill_nan(None)
    if _is_text(dtype):
        column = column.map_elements(_decoded, return_dtype=pl.String) if dtype == pl.Binary else column.cast(pl.String)
        column = column.str.strip_chars() if schema.strip else column
        missing = schema.missing_texts
        return pl.when(column.is_in(missing)).then(None).otherwise(column) if missing else column
    return column


def _is_text(dtype: pl.DataType) -> bool:
    import polars as pl

    return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum, pl.Binary))


def _decoded(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _typed(dtype: pl.DataType, name: str, value: pl.Expr, column: Column) -> pl.Expr:
    """The cleaned value in the column's type; null where it does not fit."""
    import polars as pl

    if dtype == pl.Binary:
        value = pl.when(pl.col(name).map_elements(_is_utf8, return_dtype=pl.Boolean)).then(value)
    dtype = pl.String() if _is_text(dtype) else dtype
    if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Object:
        return pl.lit(None, dtype=polars_type(column.dtype))
    match column.dtype:
        case "int":
            return _as_int(dtype, value)
        case "float":
            return value.cast(pl.Float64, strict=False).fill_nan(None)
        case "bool":
            return _as_bool(dtype, value)
        case "string":
            return _as_text(dtype, value)


def _as_int(dtype: pl.DataType, value: pl.Expr) -> pl.Expr:
    import polars as pl

    whole = value.cast(pl.Int64, strict=False)
    if dtype.is_integer() or dtype == pl.Boolean:
        return whole
    if dtype.is_decimal():
        return pl.when(whole.cast(dtype, strict=False) == value).then(whole)
    number = value.cast(pl.Float64, strict=False)
    whole = pl.when((number == number.floor()) & (number.abs() < _EXACT)).then(number).cast(pl.Int64, strict=False)
    if dtype == pl.String:
        return pl.coalesce(value.cast(pl.Int64, strict=False), whole)
    return whole


def _as_bool(dtype: pl.DataType, value: pl.Expr) -> pl.Expr:
    import polars as pl

    if dtype == pl.Boolean:
        return value
    text = _as_text(dtype, value).str.to_lowercase()
    return pl.when(text.is_in(["true", "1", "1.0"])).then(True).when(text.is_in(["false", "0", "0.0"])).then(False)


def _as_text(dtype: pl.DataType, value: pl.Expr) -> pl.Expr:
    import polars as pl

    if dtype.is_float():  # a code kept as a float: 28.0 means 28
        whole = (value == value.floor()) & (value.abs() < _EXACT)
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    return value.cast(pl.String, strict=False)


def _unparsed(both: pl.DataFrame, names: list[str], schema: TableSchema, first_row: int) -> pl.DataFrame:
    import polars as pl

    numbered = both.with_row_index(ROW, offset=first_row)
    cells = [pl.DataFrame(schema={"row": pl.Int64, "key": pl.String, "column": pl.String, "value": pl.String})]
    for name in names:
        if both[name].null_count() > both[_RAW + name].null_count():
            wrong = numbered.filter(pl.col(name).is_null() & pl.col(_RAW + name).is_not_null())
            cells.append(_cells(wrong, name, _RAW + name, schema))
    for unread in (column for column in both.columns if column.startswith(UNREAD)):
        wrong = numbered.filter(pl.col(unread).is_not_null())
        cells.append(_cells(wrong, unread.removeprefix(UNREAD), unread, schema))
    return pl.concat(cells)


def _cells(wrong: pl.DataFrame, name: str, raw: str, schema: TableSchema) -> pl.DataFrame:
    """The cells of one column in some rows; ``raw`` has their values as they were read."""
    import polars as pl

    return wrong.select(
        row=pl.col(ROW).cast(pl.Int64), key=_keys(wrong, schema), column=pl.lit(name), value=_printable(wrong[raw])
    )


def _keys(rows: pl.DataFrame, schema: TableSchema) -> pl.Series:
    """What to call some rows: by their key as it was read or, where there is none, as their store calls them."""
    import polars as pl

    raw = _RAW + (schema.key or "")
    keys = _printable(rows[raw]) if raw in rows.columns else pl.Series([None] * rows.height, dtype=pl.String)
    if ID not in rows.columns:
        return keys
    known = rows[schema.key].is_not_null() if schema.key else pl.repeat(False, rows.height, eager=True)
    named = pl.DataFrame({"key": keys, "known": known, "id": rows[ID]})
    shown = pl.when("known").then("key").otherwise(pl.coalesce("id", "key"))
    return named.select(shown).to_series()


def _printable(values: pl.Series) -> pl.Series:
    """Any values as text, for a person to look at."""
    import polars as pl

    if values.dtype.is_nested() or values.dtype in (pl.Object, pl.Duration):
        return pl.Series([None if value is None else str(value) for value in values.to_list()], dtype=pl.String)
    return values.cast(pl.String)
