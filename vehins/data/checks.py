"""The schema compiled to expressions: which rows break which rule, and what the columns look like.

Counting everything is one streaming sweep over the rows; a second one, over few rows, only follows where something is
wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import Anomaly, ColumnStatistics, Example
from vehins.data.conform import ID, ROW, polars_type
from vehins.data.schema import Column, TableSchema
from vehins.data.split import text_hash

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

UNPARSED = "__unparsed__"
EXAMPLES = 10
_TOP = 10
_FLOAT32_MAX = 3.4028234e38


@dataclass(frozen=True)
class Check:
    """One rule: rows for which ``broken`` is true break it."""

    column: str
    rule: str
    expected: str
    broken: pl.Expr

    @property
    def label(self) -> str:
        """The rule as a quarantined row names it."""
        return f"{self.column}: {self.rule}"


@dataclass(frozen=True)
class Sweep:
    """What one pass over the rows counted."""

    rows: int
    unparsed_rows: int
    bad_rows: int
    broken: dict[str, int]
    """Rows that break each check, by its label."""
    statistics: list[ColumnStatistics]
    targets: int
    """Different values of the target among good rows."""


def checks(schema: TableSchema, missing: list[str]) -> list[Check]:
    """The checks of every column that the source has. A row with an unparsed cell breaks none: it is bad as it is."""
    present = [(name, schema.columns[name]) for name in schema.kept if name not in missing]
    return [check for name, column in present for check in _column_checks(name, column)]


def _column_checks(name: str, column: Column) -> list[Check]:
    import polars as pl

    value = pl.col(name)
    finite = value.is_finite() if column.dtype == "float" else pl.lit(True)
    found = []
    if not column.nullable:
        found.append(Check(name, "missing", "a value", value.is_null()))
    if column.dtype == "float":
        found.append(Check(name, "infinite", "a finite number", value.is_infinite()))
    if column.values is not None:
        names = ", ".join(str(allowed) for allowed in column.values)
        allowed = pl.Series(column.values, dtype=polars_type(column.dtype), strict=False)
        found.append(Check(name, "unknown value", f"one of {names}", ~value.is_in(allowed.implode())))
    if column.minimum is not None:
        found.append(Check(name, "too small", f"at least {column.minimum:.15g}", finite & (value < column.minimum)))
    if column.maximum is not None:
        found.append(Check(name, "too large", f"at most {column.maximum:.15g}", finite & (value > column.maximum)))
    return [Check(c.column, c.rule, c.expected, (c.broken.fill_null(False) & ~pl.col(UNPARSED))) for c in found]


def any_broken(rules: list[Check]) -> pl.Expr:
    """Whether a row breaks at least one check."""
    import polars as pl

    return pl.any_horizontal(check.broken for check in rules) if rules else pl.lit(False)


def sweep(rows: pl.LazyFrame, schema: TableSchema, rules: list[Check]) -> Sweep:
    """Count broken rules and describe every column, in one streaming pass."""
    import polars as pl

    bad = any_broken(rules) | pl.col(UNPARSED)
    numbers = [name for name in schema.kept if _is_number(schema, name)]
    names = [name for name in schema.kept if _is_name(schema, name)]
    totals = rows.select(
        pl.len().alias("rows"),
        pl.col(UNPARSED).sum().alias("unparsed"),
        bad.sum().alias("bad"),
        pl.col(schema.target).filter(~bad).n_unique().alias("targets"),
        *(check.broken.sum().alias(f"check:{check.label}") for check in rules),
        *(pl.col(name).null_count().alias(f"nulls:{name}") for name in schema.kept),
        *(expr for name in numbers for expr in _moments(name)),
    )
    found = totals.collect(engine="streaming").row(0, named=True)
    # Quartiles and counts need a whole column: one after the other, they never hold more than one.
    found |= {key: value for name in numbers for key, value in _quartiles(rows, name).items()}
    tables = {name: _counts(rows, name) for name in names}
    return Sweep(
        rows=found["rows"],
        unparsed_rows=found["unparsed"],
        bad_rows=found["bad"],
        broken={check.label: found[f"check:{check.label}"] for check in rules},
        statistics=[_statistics(name, schema.columns[name], found, tables.get(name)) for name in schema.kept],
        targets=found["targets"],
    )


def _is_number(schema: TableSchema, name: str) -> bool:
    column = schema.columns[name]
    return column.role == "feature" and not column.is_category


def _is_name(schema: TableSchema, name: str) -> bool:
    """Whether its values are worth counting; those of the key are as many as the rows."""
    return name == schema.target or (name != schema.key and schema.columns[name].is_category)


def _moments(name: str) -> list[pl.Expr]:
    import polars as pl

    value = pl.col(name).cast(pl.Float64)
    value = pl.when(value.is_finite()).then(value)
    return [
        value.min().alias(f"min:{name}"),
        value.max().alias(f"max:{name}"),
        value.mean().alias(f"mean:{name}"),
        value.std().alias(f"std:{name}"),
    ]


def _quartiles(rows: pl.LazyFrame, name: str) -> dict[str, float | None]:
    import polars as pl

    value = rows.select(pl.col(name).cast(pl.Float32)).collect(engine="streaming").to_series()
    finite = value.filter(value.is_finite()).sort()
    return {f"q{q}:{name}": finite.quantile(q / 4, "linear") for q in (1, 2, 3)}


def _counts(rows: pl.LazyFrame, name: str) -> pl.DataFrame:
    import polars as pl

    return rows.group_by(pl.col(name).alias("value")).agg(pl.len().alias("rows")).collect(engine="streaming")


def _statistics(name: str, column: Column, found: dict[str, Any], table: pl.DataFrame | None) -> ColumnStatistics:
    nulls = found[f"nulls:{name}"]
    if table is not None:
        known = table.drop_nulls("value")
        top = known.sort(["rows", "value"], descending=[True, False]).head(_TOP)
        return ColumnStatistics(
            column=name,
            dtype=column.dtype,
            nulls=nulls,
            distinct=known.height,
            top={str(value): rows for value, rows in top.iter_rows()},
        )
    if f"min:{name}" not in found or found[f"min:{name}"] is None:
        return ColumnStatistics(column=name, dtype=column.dtype, nulls=nulls)
    quartiles = (found[f"q1:{name}"], found[f"q2:{name}"], found[f"q3:{name}"])
    in_reach = max(abs(found[f"min:{name}"]), abs(found[f"max:{name}"])) <= _FLOAT32_MAX
    return ColumnStatistics(
        column=name,
        dtype=column.dtype,
        nulls=nulls,
        mean=_finite(found[f"mean:{name}"]),
        standard_deviation=_finite(found[f"std:{name}"]),
        minimum=found[f"min:{name}"],
        quartiles=quartiles if in_reach else None,
        maximum=found[f"max:{name}"],
    )


def _finite(value: float | None) -> float | None:
    """None for what is too large to be computed from values that are not."""
    return value if value is not None and math.isfinite(value) else None


def duplicated_rows(rows: pl.LazyFrame, schema: TableSchema) -> pl.DataFrame:
    """Rows (``__row__``, ``key``) whose key stands in another row as well; which of them is right cannot be known."""
    import numpy as np
    import polars as pl

    if schema.key is None:
        return pl.DataFrame(schema={ROW: pl.Int64, "key": pl.String})
    key = pl.col(schema.key)
    mark = key if schema.columns[schema.key].dtype == "int" else text_hash(key, "duplicates")
    # One column of 8 bytes a row is sorted in memory; a hash table over the keys would take five times as much.
    marks = rows.select(mark.alias("mark")).drop_nulls().collect(engine="streaming")["mark"].to_numpy().copy()
    marks.sort()
    twice = pl.Series("twice", np.unique(marks[1:][marks[1:] == marks[:-1]]))
    del marks
    if twice.is_empty():
        return pl.DataFrame(schema={ROW: pl.Int64, "key": pl.String})
    suspects = rows.filter(mark.is_in(twice.implode())).select(ROW, key.cast(pl.String).alias("key")).collect()
    return suspects.filter(pl.col("key").is_duplicated())


def anomalies(rows: pl.LazyFrame, schema: TableSchema, rules: list[Check], counted: Sweep) -> list[Anomaly]:
    """An `Anomaly` with examples for every check that some row breaks."""
    broken = [check for check in rules if counted.broken[check.label]]
    return [
        Anomaly(
            column=check.column,
            rule=check.rule,
            expected=check.expected,
            rows=counted.broken[check.label],
            share=counted.broken[check.label] / counted.rows,
            examples=_examples(rows.filter(check.broken), schema, check.column),
        )
        for check in broken
    ]


def _examples(broken: pl.LazyFrame, schema: TableSchema, column: str) -> list[Example]:
    import polars as pl

    names = [pl.col(schema.key).cast(pl.String)] if schema.key else []
    if ID in broken.collect_schema():
        names.append(pl.col(ID))
    key = pl.coalesce(*names, *([] if schema.key else ["row " + pl.col(ROW).cast(pl.String)]))
    value = pl.col(column).cast(pl.String)
    few = broken.select(key.fill_null("null").alias("key"), value.fill_null("null").alias("value")).head(EXAMPLES)
    return [Example(key=key, value=value) for key, value in few.collect().iter_rows()]


def write_quarantine(
    rows: pl.LazyFrame, rules: list[Check], unparsed: pl.DataFrame, duplicated: pl.DataFrame, path: Path
) -> int:
    """Write the bad rows with their reasons to a Parquet file; return how many there are."""
    import polars as pl

    cells = unparsed.lazy().select(
        pl.col("row").alias(ROW),
        (pl.col("column") + ": not of its type (`" + pl.col("value") + "`)").alias("why"),
    )
    wrong_types = cells.group_by(ROW).agg(pl.col("why").sort().str.join("; ").alias("unparsed_why"))
    twice = duplicated.lazy().select(pl.col(ROW), pl.lit("key: duplicated").alias("duplicated_why"))
    broken = [pl.when(check.broken).then(pl.lit(check.label)) for check in rules]
    bad = any_broken(rules) | pl.col(UNPARSED) | pl.col(ROW).is_in(duplicated[ROW].implode())
    (
        rows.filter(bad)
        .join(wrong_types, on=ROW, how="left")
        .join(twice, on=ROW, how="left")
        .with_columns(
            pl.concat_str(
                [pl.col("unparsed_why"), pl.col("duplicated_why"), *broken], separator="; ", ignore_nulls=True
            ).alias("reasons")
        )
        .drop("unparsed_why", "duplicated_why", UNPARSED)
        .sort(ROW)
        .sink_parquet(path)
    )
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())
