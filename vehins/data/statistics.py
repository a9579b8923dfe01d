"""What the columns of some rows look like, in few numbers: the bins of each, and how many rows lie in them.

They travel with a model, so that the rows of another day can be counted in the same bins. Amounts have the deciles of
the rows that were described; a category has its values, as far as they are not rare.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vehins.artifacts.record import Record
from vehins.data.schema import TableSchema

if TYPE_CHECKING:
    import polars as pl

DECILES = 10
RARE = 0.005
"""Values of fewer rows than this share are counted together: 200 bins of a category at most."""
MISSING, OTHERS = "missing", "others"


class NumberBins(Record):
    """A column of amounts, compared as float32: an edge is then the same number wherever rows are counted."""

    kind: Literal["number"] = "number"
    column: str
    edges: list[float] = Field(description="Upper edges of all bins but the last, each with its bin; ascending.")
    counts: list[int] = Field(description="Rows in each bin; one more than there are edges.")
    missing: int

    @property
    def labels(self) -> list[str]:
        """What to call the bins, that of missing values last."""
        if not self.edges:
            return ["any", MISSING]
        between = [f"{low:g} to {high:g}" for low, high in pairwise(self.edges)]
        return [f"up to {self.edges[0]:g}", *between, f"above {self.edges[-1]:g}", MISSING]

    def tally(self, rows: pl.LazyFrame) -> list[int]:
        """Rows in each bin, missing values last."""
        import polars as pl

        value = pl.col(self.column).cast(pl.Float32, strict=False)
        below = [(value <= edge).sum().cast(pl.Int64).alias(str(i)) for i, edge in enumerate(self.edges)]
        known = (value.is_not_null() & value.is_not_nan()).sum().cast(pl.Int64).alias("known")
        *up_to, known_rows, total = rows.select(*below, known, pl.len()).collect(engine="streaming").row(0)
        steps = [0, *up_to, known_rows]
        return [*(high - low for low, high in pairwise(steps)), total - known_rows]


class CategoryCounts(Record):
    """A column of names."""

    kind: Literal["category"] = "category"
    column: str
    counts: dict[str, int] = Field(description="Rows of each value that is not rare, the most frequent first.")
    others: int = Field(description="Rows of all other values.")
    missing: int

    @property
    def labels(self) -> list[str]:
        """What to call the bins, those of other and of missing values last."""
        return [*self.counts, OTHERS, MISSING]

    def tally(self, rows: pl.LazyFrame) -> list[int]:
        """Rows in each bin, other and missing values last."""
        found = _value_counts(rows, self.column)
        known = dict(found.filter(found["value"].is_in(list(self.counts))).iter_rows())
        missing = int(found.filter(found["value"].is_null())["rows"].sum())
        counts = [int(known.get(value, 0)) for value in self.counts]
        return [*counts, int(found["rows"].sum()) - sum(counts) - missing, missing]


ColumnBins = Annotated[NumberBins | CategoryCounts, Field(discriminator="kind")]


class Statistics(Record):
    """The columns of some rows, features and target."""

    statistics_version: Literal[1] = 1
    rows: int
    target: str
    columns: list[ColumnBins]

    def expected(self, column: ColumnBins) -> list[int]:
        """The rows that were described, in the bins of `tally`."""
        ends = [column.missing] if column.kind == "number" else [column.others, column.missing]
        return [*(column.counts if column.kind == "number" else column.counts.values()), *ends]


def describe(rows: pl.LazyFrame, schema: TableSchema) -> Statistics:
    """Describe some rows, one column after the other: never more than one is held."""
    import polars as pl

    columns: list[ColumnBins] = []
    for name in [*schema.features, schema.target]:
        is_name = name == schema.target or schema.columns[name].is_category
        columns.append(_category(rows, name) if is_name else _number(rows, name))
    total = int(rows.select(pl.len()).collect(engine="streaming").item())
    return Statistics(rows=total, target=schema.target, columns=columns)


def parse(data: bytes) -> Statistics:
    """Read statistics back (`Statistics.model_dump_json`)."""
    return Statistics.model_validate_json(data)


def _number(rows: pl.LazyFrame, name: str) -> NumberBins:
    import numpy as np
    import polars as pl

    values = rows.select(pl.col(name).cast(pl.Float32)).collect(engine="streaming").to_series()
    finite = values.filter(values.is_finite()).sort().to_numpy()
    del values
    edges: list[float] = []
    if finite.size:
        places = (np.arange(1, DECILES) * finite.size // DECILES).clip(max=finite.size - 1)
        edges = [float(edge) for edge in np.unique(finite[places]) if edge < finite[-1]]
    *counts, missing = NumberBins(column=name, edges=edges, counts=[], missing=0).tally(rows)
    return NumberBins(column=name, edges=edges, counts=counts, missing=missing)


def _category(rows: pl.LazyFrame, name: str) -> CategoryCounts:
    found = _value_counts(rows, name)
    total = int(found["rows"].sum())
    known = found.drop_nulls("value").sort(["rows", "value"], descending=[True, False])
    kept = known.filter(known["rows"] >= RARE * total)
    missing = total - int(known["rows"].sum())
    others = int(known["rows"].sum()) - int(kept["rows"].sum())
    return CategoryCounts(column=name, counts=dict(kept.iter_rows()), others=others, missing=missing)


def _value_counts(rows: pl.LazyFrame, name: str) -> pl.DataFrame:
    """How many rows (``rows``) have each value, as text (``value``)."""
    import polars as pl

    counted = rows.group_by(pl.col(name).alias("value")).agg(pl.len().alias("rows"))
    return counted.with_columns(pl.col("value").cast(pl.String)).collect(engine="streaming")
