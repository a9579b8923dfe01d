"""Why a model gives a row its score: what each feature adds to it, and the strongest of them in words.

A contribution is a SHAP value in log-odds, before any calibration: those of a row and the score that all rows start
from add up to its raw score. LightGBM computes them exactly for trees, by TreeSHAP (Lundberg, Erion and Lee 2018,
"Consistent Individualized Feature Attribution for Tree Ensembles", arXiv:1802.03888).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from vehins.artifacts.record import Record
from vehins.data.schema import Column, Scalar
from vehins.model import wording

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from vehins.model.bundle import Bundle
    from vehins.model.features import Feature

_CELLS = 2_000_000  # contributions in memory at once
_SHOWN_VALUES = 10
_STEADY = 0.8
"""Rank correlation from which a feature is said to raise or lower the score steadily."""
_NO_COLUMN = Column(dtype="string")


class Contributions(NamedTuple):
    """What the features add to the raw scores of some rows."""

    values: np.ndarray
    """Log-odds, rows x features of the encoder."""
    start: float
    """The raw score that every row starts from."""
    matrix: np.ndarray
    """The encoded rows, of the same shape."""


class Reason(Record):
    """One feature's part in the score of one row."""

    feature: str = Field(description="Name of the feature.")
    value: str = Field(description="What the row has there, with its unit.")
    contribution: float = Field(description="What that adds to the score, in log-odds.")
    text: str = Field(description="The same in words.")


class ValueEffect(Record):
    """What one value of a category does, or one range of a number."""

    value: str
    rows: int
    mean: float = Field(description="Mean contribution of those rows, in log-odds.")


class Influence(Record):
    """One feature's part in the scores of many rows."""

    feature: str
    unit: str | None = None
    description: str = ""
    mean_absolute: float = Field(description="Mean of the contributions' sizes, in log-odds.")
    trend: float | None = Field(
        default=None, description="Rank correlation of value and contribution; null for categories and constants."
    )
    effects: list[ValueEffect] = Field(description="By value, the most frequent first; by fifth of the rows, upwards.")
    sentence: str = Field(description="Which way it pushes, in words.")


def contributions(bundle: Bundle, rows: pl.DataFrame) -> Contributions:
    """The contributions to the scores of typed rows, all of them at once: for so many rows as fit in memory."""
    matrix = bundle.encoder.matrix(rows.lazy())
    found = bundle.contributions(matrix)
    start = float(found[0, -1]) if len(found) else 0.0
    return Contributions(found[:, :-1], start, matrix)


def columns(count: int) -> list[str]:
    """Names of the columns of `strongest`."""
    return [f"reason_{rank}" for rank in range(1, count + 1)]


def strongest(bundle: Bundle, rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """The ``count`` strongest contributions to the score of each typed row in words, a column each.

    A feature that does nothing to a row is no reason: where there are fewer, the rest is null.
    """
    import polars as pl

    step = max(1, _CELLS // (len(bundle.encoder.features) + 1))
    parts = [_strongest(bundle, part, count) for part in rows.iter_slices(step)]
    empty = pl.DataFrame(schema=dict.fromkeys(columns(count), pl.String))
    return pl.concat([empty, *parts])


def of_rows(bundle: Bundle, rows: Sequence[Mapping[str, Scalar | None]], count: int) -> list[list[Reason]]:
    """The strongest contributions to the scores of a few rows that are plain mappings, known to be good.

    The serving path, without polars: some 25 us a row and what LightGBM takes.
    """
    import numpy as np

    if not rows:
        return []
    matrix = np.array([bundle.encoder.encode_row(row) for row in rows], dtype=np.float64)
    found = bundle.contributions(matrix)[:, :-1]
    order = _order(found, count)
    amounts = np.take_along_axis(found, order, axis=1).tolist()
    features = [(feature, _column(bundle, feature)) for feature in bundle.encoder.features]
    reasons: list[list[Reason]] = []
    for row, codes, numbers, sizes in zip(rows, matrix.tolist(), order.tolist(), amounts, strict=True):
        reasons.append([])
        for number, amount in zip(numbers, sizes, strict=True):
            feature, column = features[number]
            reason = _reason(feature, column, row, codes[number], amount)
            reasons[-1] += [] if reason is None else [reason]
    return reasons


def influences(bundle: Bundle, rows: pl.DataFrame) -> list[Influence]:
    """Each feature's part in the scores of typed rows (a sample will do), the most influential feature first."""
    import numpy as np

    found = contributions(bundle, rows)
    sizes = np.abs(found.values).mean(axis=0) if rows.height else np.zeros(len(bundle.encoder.features))
    order = np.argsort(-sizes, kind="stable").tolist()
    return [_influence(bundle, rows, found, number, float(sizes[number])) for number in order]


# --- Words ------------------------------------------------------------------------------------------------------------


def _order(found: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the features that contribute most to each row, the strongest first."""
    import numpy as np

    order: np.ndarray = np.argsort(-np.abs(found), axis=1, kind="stable")[:, :count]
    return order


def _strongest(bundle: Bundle, rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """`strongest` of a few rows, feature by feature: so no column is looked at where it is no reason."""
    import numpy as np
    import polars as pl

    found = contributions(bundle, rows)
    order = _order(found.values, count)
    amounts = np.take_along_axis(found.values, order, axis=1)
    texts = np.full((rows.height, count), None, dtype=object)
    for number, feature in enumerate(bundle.encoder.features):
        at, rank = np.nonzero(order == number)
        about = _column(bundle, feature)
        values = _values(feature, about, rows, found.matrix[:, number], at)
        picked = zip(values, amounts[at, rank].tolist(), strict=True)
        texts[at, rank] = [wording.sentence(feature.name, about.description, *pair) for pair in picked]
    return pl.DataFrame(
        {name: pl.Series(texts[:, place], dtype=pl.String) for place, name in enumerate(columns(count))}
    )


def _reason(
    feature: Feature, column: Column, row: Mapping[str, Scalar | None], code: float, amount: float
) -> Reason | None:
    value = wording.value(feature, column, row, code)
    text = wording.sentence(feature.name, column.description, value, amount)
    return None if text is None else Reason(feature=feature.name, value=value, contribution=amount, text=text)


def _column(bundle: Bundle, feature: Feature) -> Column:
    """What the schema says of a feature; one that is made of several columns is in no schema."""
    return bundle.signature.table.columns.get(feature.name) or _NO_COLUMN


def _values(feature: Feature, column: Column, rows: pl.DataFrame, encoded: np.ndarray, at: np.ndarray) -> list[str]:
    """What the rows with the numbers ``at`` have in a feature, as texts."""
    made_of = getattr(feature, "columns", (feature.name,))
    cells = rows.select(made_of)[at].iter_rows(named=True)
    return [wording.value(feature, column, *pair) for pair in zip(cells, encoded[at].tolist(), strict=True)]


# --- Many rows --------------------------------------------------------------------------------------------------------


def _influence(bundle: Bundle, rows: pl.DataFrame, found: Contributions, number: int, size: float) -> Influence:
    feature = bundle.encoder.features[number]
    amounts, encoded, about = found.values[:, number], found.matrix[:, number], _column(bundle, feature)
    trend = None if feature.is_category else _trend(encoded, amounts)
    effects = list(_effects(feature, rows, encoded, amounts))
    return Influence(
        feature=feature.name,
        unit=about.unit,
        description=about.description,
        mean_absolute=size,
        trend=trend,
        effects=effects,
        sentence=_direction(trend, effects),
    )


def _trend(values: np.ndarray, amounts: np.ndarray) -> float | None:
    """Spearman's rank correlation over the rows that have a value; None when one of the two is constant."""
    import numpy as np
    import polars as pl

    pairs = pl.DataFrame({"value": values, "amount": amounts}).filter(pl.col("value").is_not_nan())
    found = pairs.select(pl.corr("value", "amount", method="spearman")).item() if pairs.height > 1 else None
    return found if found is not None and np.isfinite(found) else None


def _effects(feature: Feature, rows: pl.DataFrame, encoded: np.ndarray, amounts: np.ndarray) -> Iterator[ValueEffect]:
    """Mean contributions by value of a category, and by fifth of the rows of a number."""
    import numpy as np
    import polars as pl

    if feature.is_category:
        values = _values(feature, _NO_COLUMN, rows, encoded, np.arange(len(encoded)))
        named = pl.DataFrame({"value": values, "amount": amounts}, schema_overrides={"value": pl.String})
        means = named.group_by("value").agg(pl.len().alias("rows"), pl.col("amount").mean().alias("mean"))
        top = means.sort(["rows", "value"], descending=[True, False]).head(_SHOWN_VALUES)
    else:
        top = _fifths(pl.DataFrame({"number": encoded, "amount": amounts}))
    for value, count, mean in top.select("value", "rows", "mean").iter_rows():
        yield ValueEffect(value=value, rows=count, mean=mean)


def _fifths(pairs: pl.DataFrame) -> pl.DataFrame:
    """Mean contributions by fifth of the rows; equal numbers stay together, and missing ones are by themselves."""
    import polars as pl

    number = pl.col("number").fill_nan(None)
    ranked = pairs.with_columns(number, ((number.rank("max").cast(pl.Int64) - 1) * 5 // number.count()).alias("fifth"))
    means = ranked.group_by("fifth").agg(
        pl.col("number").min().alias("low"),
        pl.col("number").max().alias("high"),
        pl.len().alias("rows"),
        pl.col("amount").mean().alias("mean"),
    )
    means = means.sort("fifth", nulls_last=True)
    low, high = (_amount_texts(means[name]) for name in ("low", "high"))
    same = pl.col("low") == pl.col("high")
    value = (
        pl.when(same).then(pl.col("low")).otherwise(pl.col("low") + " to " + pl.col("high")).fill_null(wording.MISSING)
    )
    return means.with_columns(low.alias("low"), high.alias("high")).with_columns(value.alias("value"))


def _amount_texts(numbers: pl.Series) -> pl.Series:
    import polars as pl

    texts = [None if number is None else wording.amount_text(number) for number in numbers.to_list()]
    return pl.Series(texts, dtype=pl.String)


def _direction(trend: float | None, effects: list[ValueEffect]) -> str:
    if trend is not None and abs(trend) >= _STEADY:
        return f"The higher it is, the {'higher' if trend > 0 else 'lower'} the score."
    if len(effects) < 2:
        return "It is the same for all rows."
    low, high = min(effects, key=lambda effect: effect.mean), max(effects, key=lambda effect: effect.mean)
    return f"Lowest for {low.value} ({low.mean:+.2f}), highest for {high.value} ({high.mean:+.2f})."
