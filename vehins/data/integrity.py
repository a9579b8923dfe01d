"""Whether some rows are the very test side of a data set: neither resampled nor relabelled, and a fair draw.

The digest that ingest took of the test side holds every row and every label; the hash of the keys says that no row of
another side is among them; and with a key, the size and the base rate of a side follow from the binomial distribution.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vehins.artifacts.evaluation import Integrity
from vehins.data import checks, parts, split
from vehins.data.conform import ROW
from vehins.settings import SplitSettings

if TYPE_CHECKING:
    import polars as pl

    from vehins.artifacts.manifest import Dataset, Validation
    from vehins.artifacts.workspace import Artifact
    from vehins.data.schema import TableSchema

_BATCH_ROWS = 250_000


def examine(test: pl.LazyFrame, dataset: Artifact[Dataset], validation: Artifact[Validation]) -> Integrity:
    """Hold the rows that are evaluated to what ingest and validation say of them."""
    import polars as pl

    schema, made = parts.schema_of(dataset), dataset.manifest.result
    settings = _split_settings(dataset.manifest)
    aside = _aside(validation)
    counted = test.select(
        pl.len().alias("rows"),
        _is_positive(schema).sum().alias("positives"),
        (split.side(schema, settings) != split.TEST).sum().alias("misplaced"),
    )
    found = counted.collect(engine="streaming").row(0, named=True)
    others, their_positives = _other_sides(dataset, validation, schema)
    rate = found["positives"] / found["rows"] if found["rows"] else 0.0
    keyed = schema.key is not None
    return Integrity(
        keyed=keyed,
        rows=found["rows"],
        expected_rows=made.rows_by_side[split.TEST] - aside.height,
        digest_matches=_digest_matches(test, aside, schema, made.digest_by_side.get(split.TEST)),
        duplicated_keys=checks.duplicated_rows(test.with_row_index(ROW), schema).height,
        misplaced_rows=found["misplaced"],
        unjustified_rows=_unjustified(aside, dataset, schema),
        share=made.rows_by_side[split.TEST] / made.rows if made.rows else None,
        expected_share=settings.test,
        share_z=share_z(made.rows_by_side[split.TEST], made.rows, settings.test) if keyed else None,
        base_rate=rate,
        other_base_rate=their_positives / others if others else None,
        base_rate_z=rates_z(found["positives"], found["rows"], their_positives, others) if keyed else None,
    )


def share_z(hits: int, trials: int, share: float) -> float | None:
    """How many standard errors a count lies from what the binomial distribution expects; None without trials."""
    return (hits - trials * share) / math.sqrt(trials * share * (1 - share)) if trials else None


def rates_z(hits: int, trials: int, other_hits: int, other_trials: int) -> float | None:
    """How many standard errors lie between two shares (two-proportion z test, pooled); None when that is no number."""
    if not trials or not other_trials:
        return None
    pooled = (hits + other_hits) / (trials + other_trials)
    error = math.sqrt(pooled * (1 - pooled) * (1 / trials + 1 / other_trials))
    return (hits / trials - other_hits / other_trials) / error if error else None


def _split_settings(manifest: Dataset) -> SplitSettings:
    """The settings that the sides were drawn with."""
    prefix = "split."
    chosen = {name.removeprefix(prefix): v for name, v in manifest.settings.items() if name.startswith(prefix)}
    return SplitSettings.model_validate(chosen)


def _is_positive(schema: TableSchema) -> pl.Expr:
    import polars as pl

    expression: pl.Expr = pl.col(schema.target) == pl.lit(schema.columns[schema.target].positive)
    return expression


def _aside(validation: Artifact[Validation]) -> pl.DataFrame:
    """The test rows in quarantine."""
    import polars as pl

    path = validation.path(parts.QUARANTINE_FILE)
    if not validation.manifest.result.quarantined_rows:
        return pl.DataFrame()
    return pl.scan_parquet(path, glob=False).filter(pl.col(split.SIDE) == split.TEST).collect()


def _unjustified(aside: pl.DataFrame, dataset: Artifact[Dataset], schema: TableSchema) -> int:
    """Rows in quarantine that break no rule: left out, they would change what the others say."""
    import polars as pl

    if aside.is_empty():
        return 0
    rules = checks.checks(schema, dataset.manifest.result.missing_columns)
    unparsed = pl.read_parquet(dataset.path(parts.UNPARSED_FILE), columns=["row"])["row"]
    twice = checks.duplicated_rows(aside.lazy(), schema)[ROW]  # rows of one key are on one side, and all set aside
    good = aside.with_columns(pl.lit(False).alias(checks.UNPARSED)).filter(~checks.any_broken(rules))
    return good.filter(~pl.col(ROW).is_in(pl.concat([unparsed.cast(pl.Int64), twice.cast(pl.Int64)]).implode())).height


def _other_sides(dataset: Artifact[Dataset], validation: Artifact[Validation], schema: TableSchema) -> tuple[int, int]:
    """Rows of the train and valid sides, and positives among them."""
    import polars as pl

    others = parts.clean_rows(dataset, validation).filter(pl.col(split.SIDE) != split.TEST)
    found = others.select(pl.len(), _is_positive(schema).sum()).collect(engine="streaming").row(0)
    return int(found[0]), int(found[1])


def _digest_matches(test: pl.LazyFrame, aside: pl.DataFrame, schema: TableSchema, wanted: str | None) -> bool | None:
    if wanted is None:
        return None
    digest = split.RowDigest(schema.kept)
    for batch in test.select(schema.kept).collect_batches(chunk_size=_BATCH_ROWS):
        digest.add(batch)
    if aside.height:
        digest.add(aside)
    return digest.hexdigest() == wanted
