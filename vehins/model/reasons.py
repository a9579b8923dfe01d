"""Why a model gives a row its score: what each feature adds to it, and the strongest of them in words.

A contribution is a SHAP value in log-odds, before any calibration: those of a row and the score that all rows start
from add up to its raw score. LightGBM computes them exactly for trees, by TreeSHAP (Lundberg, Erion and Lee 2018,
"Consistent Individualized Feature Attribution for Tree Ensembles", arXiv:1802.03888).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from vehins.artifacts.manifest import Record
from vehins.data.conform import polars_type
from vehins.data.schema import Column, Scalar
from vehins.model.features import UNKNOWN

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.model.bundle import Bundle
    from vehins.model.features import Feature

_CELLS = 2_000_000  # contributions in memory at once
_SHOWN_VALUES = 10
_STEADY = 0.8
"""Rank correlation from which a feature is said to raise or lower the score steadily."""
_MISSING, _UNSEEN = "missing", " (never seen in training)"


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

    feature: str
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
    """The strongest contributions to the scores of a few rows that are plain mappings, known to be good."""
    frame = _frame(rows, bundle.signature.table)
    found = _picked(bundle, frame, count)
    reasons: list[list[Reason]] = [[] for _ in rows]
    for picked in found.iter_rows(named=True):
        if picked["text"] is not None:
            reasons[picked.pop("row")].append(Reason(**{name: picked[name] for name in Reason.model_fields}))
    return reasons


def influences(bundle: Bundle, rows: pl.DataFrame) -> list[Influence]:
    """Each feature's part in the scores of typed rows (a sample will do), the most influential feature first."""
    import numpy as np

    found = contributions(bundle, rows)
    sizes = np.abs(found.values).mean(axis=0) if rows.height else np.zeros(len(bundle.encoder.features))
    order = np.argsort(-sizes, kind="stable").tolist()
    return [_influence(bundle, rows, found, number, float(sizes[number])) for number in order]


# --- Words ------------------------------------------------------------------------------------------------------------


def _strongest(bundle: Bundle, rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """`strongest` of a few rows: their reasons stand one below the other, and are dealt out to columns."""
    import polars as pl

    texts, deep = _picked(bundle, rows, count)["text"], min(count, len(bundle.encoder.features))
    dealt = [texts.gather_every(deep, rank).alias(name) for rank, name in enumerate(columns(deep))]
    more = [pl.lit(None, dtype=pl.String).alias(name) for name in columns(count)[deep:]]
    return pl.DataFrame(dealt).with_columns(more)


def _picked(bundle: Bundle, rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """The strongest contributions of each row: ``row``, ``feature``, ``value``, ``contribution`` and ``text``.

    Rows stand in their order, and the reasons of each by their strength.
    """
    import numpy as np
    import polars as pl

    found = contributions(bundle, rows)
    order = np.argsort(-np.abs(found.values), axis=1, kind="stable")[:, :count]
    deep, features = order.shape[1], order.ravel()
    amounts = np.take_along_axis(found.values, order, axis=1).ravel()
    parts = [_empty_pick()]
    for number, feature in enumerate(bundle.encoder.features):
        places, about = np.flatnonzero(features == number), _column(bundle, feature)
        if not len(places):
            continue
        at = places // deep
        values = _values(feature, about.unit, rows, found.matrix[:, number], at)
        pick = pl.DataFrame({"place": places, "row": at, "contribution": amounts[places], "value": values})
        texts = _sentence(feature.name, about.description).alias("text")
        parts.append(pick.with_columns(pl.lit(feature.name).alias("feature"), texts).select(parts[0].columns))
    return pl.concat(parts).sort("place").drop("place")


def _column(bundle: Bundle, feature: Feature) -> Column:
    """What the schema says of a feature; one that is made of several columns is in no schema."""
    return bundle.signature.table.columns.get(feature.name) or Column(dtype="float")


def _empty_pick() -> pl.DataFrame:
    import polars as pl

    types: dict[str, Any] = {"place": pl.Int64, "row": pl.Int64, "feature": pl.String, "value": pl.String}
    return pl.DataFrame(schema={**types, "contribution": pl.Float64, "text": pl.String})


def _sentence(name: str, description: str) -> pl.Expr:
    """A reason in words, from its ``value`` and ``contribution``; null when it adds nothing."""
    import polars as pl

    amount = pl.col("contribution")
    verb = pl.when(amount > 0).then(pl.lit("raises")).otherwise(pl.lit("lowers"))
    size = amount.abs().round(2).cast(pl.Decimal(38, 2)).cast(pl.String)
    size = pl.when(amount.abs() < 0.005).then(pl.lit("less than 0.01")).otherwise(size)
    about = f" ({_lowered(description)})" if description else ""
    words = [pl.lit(f"{name} = "), pl.col("value"), pl.lit(" "), verb, pl.lit(" the score by "), size, pl.lit(about)]
    return pl.when(amount != 0).then(pl.concat_str(words))


def _lowered(description: str) -> str:
    """A description as it stands within a sentence."""
    return description[:1].lower() + description[1:] if description[1:2].islower() else description


def _values(feature: Feature, unit: str | None, rows: pl.DataFrame, encoded: np.ndarray, at: np.ndarray) -> pl.Series:
    """What the rows with the numbers ``at`` have in a feature, as texts.

    A feature that is no column of the table, being made of others, shows what the model sees.
    """
    import polars as pl

    code = pl.Series(encoded[at])
    value = _as_text(rows[feature.name].gather(at)) if feature.name in rows.columns else _decoded(feature, code)
    value = value + f" {unit}" if unit else value
    if feature.kind == "category":
        value = value + pl.select(pl.when(code == UNKNOWN).then(pl.lit(_UNSEEN)).otherwise(pl.lit(""))).to_series()
    return value.fill_null(_MISSING)


def _decoded(feature: Feature, code: pl.Series) -> pl.Series:
    """What an encoded value stands for; null for code 0 and for NaN."""
    import polars as pl

    if feature.kind == "number":
        return _as_text(code.fill_nan(None))
    words = pl.Series([None, *feature.vocabulary], dtype=pl.String)
    return words.gather(code.cast(pl.UInt32))


def _as_text(values: pl.Series) -> pl.Series:
    """Values as a person writes them: 18, not 18.0, and at most six significant digits."""
    import polars as pl

    if not values.dtype.is_float():
        return values.cast(pl.String)
    value = pl.col("value").fill_nan(None)
    whole = (value == value.floor()) & (value.abs() < 2**53)
    text = pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String))
    return values.alias("value").to_frame().select(text.otherwise(value.round_sig_figs(6).cast(pl.String))).to_series()


def _frame(rows: Sequence[Mapping[str, Scalar | None]], table: TableSchema) -> pl.DataFrame:
    """Plain mappings as typed rows."""
    import polars as pl

    return pl.DataFrame(
        [
            pl.Series(name, [row.get(name) for row in rows], dtype=polars_type(column.dtype), strict=False)
            for name, column in table.features.items()
        ]
    )


# --- Many rows --------------------------------------------------------------------------------------------------------


def _influence(bundle: Bundle, rows: pl.DataFrame, found: Contributions, number: int, size: float) -> Influence:
    feature = bundle.encoder.features[number]
    amounts, encoded, about = found.values[:, number], found.matrix[:, number], _column(bundle, feature)
    trend = _trend(encoded, amounts) if feature.kind == "number" else None
    effects = list(_effects(feature, rows, encoded, amounts))
    return Influence(
        feature=feature.name,
        unit=about.unit,
        description=about.description,
        mean_absolute=size,
        trend=trend,
        effects=effects,
        sentence=_direction(feature, trend, effects),
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

    if feature.kind == "category":
        named = pl.DataFrame(
            {"value": _values(feature, None, rows, encoded, np.arange(len(encoded))), "amount": amounts}
        )
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
    low, high = _as_text(means["low"]), _as_text(means["high"])
    same = pl.col("low") == pl.col("high")
    value = pl.when(same).then(pl.col("low")).otherwise(pl.col("low") + " to " + pl.col("high")).fill_null(_MISSING)
    return means.with_columns(low.alias("low"), high.alias("high")).with_columns(value.alias("value"))


def _direction(feature: Feature, trend: float | None, effects: list[ValueEffect]) -> str:
    if feature.kind == "number" and trend is not None and abs(trend) >= _STEADY:
        return f"The higher it is, the {'higher' if trend > 0 else 'lower'} the score."
    if len(effects) < 2:
        return "It is the same for all rows."
    low, high = min(effects, key=lambda effect: effect.mean), max(effects, key=lambda effect: effect.mean)
    return f"Lowest for {low.value} ({low.mean:+.2f}), highest for {high.value} ({high.mean:+.2f})."
