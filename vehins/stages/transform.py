"""Clean rows -> a FeatureSet: the encoder fitted on the train side, and the train and valid sides encoded.

The test side stays raw: the evaluation sends it through the written bundle, as serving will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.artifacts.manifest import Dataset, FeatureSet, FeatureSetResult, Validation, digest
from vehins.data import parts
from vehins.data.split import SIDE, TRAIN, VALID
from vehins.errors import AnomaliesError, DataError
from vehins.model import features
from vehins.model.trainer import LABEL
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

FEATURES_FILE = "features.json"


def work(ctx: Context) -> Outcome:
    """Fit the encoder and encode."""
    import polars as pl

    dataset = ctx.input(Dataset)
    _check_accepted(ctx.input(Validation).manifest)
    schema = parts.schema_of(dataset)
    rows = parts.clean_rows(dataset, ctx.input(Validation))
    ctx.progress("learning vocabularies and ranges")
    encoder = features.fit(rows.filter(pl.col(SIDE) == TRAIN), schema)
    (ctx.folder / FEATURES_FILE).write_bytes(encoder.to_json())
    counts, positives = {}, {}
    for side in (TRAIN, VALID):
        ctx.progress(f"encoding the {side} side")
        encoded = _encoded(rows.filter(pl.col(SIDE) == side), encoder, schema)
        path = ctx.folder / f"{side}.parquet"
        encoded.sink_parquet(path)
        found = pl.scan_parquet(path).select(pl.len(), pl.col(LABEL).sum()).collect()
        counts[side], positives[side] = found.row(0)
        _check_classes(side, counts[side], positives[side] or 0)
    result = FeatureSetResult(
        features=encoder.names,
        categories=encoder.vocabulary_sizes,
        train_rows=counts[TRAIN],
        valid_rows=counts[VALID],
        train_positives=positives[TRAIN],
        valid_positives=positives[VALID],
    )
    # The sides hold the clean rows of exactly this data set, in its order: its content and the encoder say all.
    content = {"rows": ctx.input(Validation).manifest.content, "encoder": digest(encoder.model_dump(mode="json"))}
    return Outcome(result, digest(content), {f"{side}.parquet": counts[side] for side in counts})


def _check_accepted(validation: Validation) -> None:
    """A refusal stops `vehins transform` alone as it stops the chain."""
    if validation.result.verdict != "accept":
        raise AnomaliesError(
            f"Validation {validation.id} does not accept these rows",
            detail=" ".join(validation.result.reasons),
            hint="Mend the source, or tolerate it: `vehins validate --set validate.max_bad_values=SHARE` (or "
            "`max_wrong_types`, `max_missing_columns`), then `vehins transform`.",
        )


def _encoded(rows: pl.LazyFrame, encoder: features.Encoder, schema: TableSchema) -> pl.LazyFrame:
    import polars as pl

    label = (pl.col(schema.target) == schema.columns[schema.target].positive).cast(pl.UInt8).alias(LABEL)
    return rows.select(*encoder.expressions(), label)


def _check_classes(side: str, rows: int, positives: int) -> None:
    if 0 < positives < rows:
        return
    raise DataError(
        f"The {side} side does not have customers of both classes: {positives:,} of {rows:,} are positive",
        detail="Training needs both classes on the train side and on the valid side.",
        hint="Bring more rows"
        + (", or give the side a larger share: `--set split.valid=0.25`." if side == VALID else "."),
    )


STAGE = Stage(
    name="transform",
    makes=FeatureSet,
    needs=(Validation, Dataset),
    work=work,
    libraries=("polars",),
)
