"""A Dataset -> a Validation: which rows break the schema, what the columns look like, and whether to go on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vehins.artifacts.drift import Drift
from vehins.artifacts.manifest import (
    Anomaly,
    AnyManifest,
    Dataset,
    DatasetResult,
    Example,
    Validation,
    ValidationResult,
    digest,
)
from vehins.data import checks, parts
from vehins.data.schema import TableSchema
from vehins.data.split import RowDigest
from vehins.errors import AnomaliesError, VehinsError
from vehins.settings import ValidateSettings
from vehins.stages import rivals
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    import polars as pl

MISSING_COLUMN, WRONG_TYPE = "missing column", "wrong type"
_SHOWN = 3


def outside(ctx: Context) -> dict[str, Any]:
    """The champion whose training rows these rows are compared with."""
    content = ctx.input(Dataset).manifest.content
    return {"champion": rivals.recorded(rivals.of_rows(rivals.open_registry(ctx), ctx.settings.alias, content))}


def work(ctx: Context) -> Outcome:
    """Sweep over the rows, set the bad ones aside, and judge."""
    import polars as pl

    dataset = ctx.input(Dataset)
    found = dataset.manifest.result
    schema = parts.schema_of(dataset)
    rows = parts.rows(dataset)
    rules = checks.checks(schema, found.missing_columns)
    ctx.progress(f"checking {found.rows:,} rows")
    counted = checks.sweep(rows, schema, rules)
    unparsed = pl.read_parquet(dataset.path(parts.UNPARSED_FILE))
    duplicated = checks.duplicated_rows(rows, schema)
    quarantined = counted.bad_rows or duplicated.height
    if quarantined:
        ctx.progress("setting bad rows aside")
        path = ctx.folder / parts.QUARANTINE_FILE
        quarantined = checks.write_quarantine(rows, rules, unparsed, duplicated, path)
    anomalies = [
        *_missing(found, schema),
        *_wrong_types(unparsed, schema, found.rows),
        *checks.anomalies(rows, schema, rules, counted),
        *_duplicates(duplicated, schema, found.rows),
    ]
    reasons = _reasons(found, schema, counted, quarantined, ctx.settings.validate_)
    result = ValidationResult(
        rows=found.rows,
        quarantined_rows=quarantined,
        anomalies=anomalies,
        statistics=counted.statistics,
        verdict="refuse" if reasons else "accept",
        reasons=reasons,
        drift=_drift(ctx, parts.rows_without(rows, ctx.folder / parts.QUARANTINE_FILE if quarantined else None)),
    )
    return Outcome(result, _content(ctx, result), {parts.QUARANTINE_FILE: quarantined})


def _drift(ctx: Context, clean: pl.LazyFrame) -> Drift | None:
    """How far the clean rows lie from those that the champion was trained on."""
    registry = rivals.open_registry(ctx)
    champion = rivals.known(ctx, registry)
    if champion is None:
        return None
    ctx.progress(f"comparing with the training rows of champion {champion.version}")
    return rivals.measure_drift(clean, champion, rivals.fetch(ctx, registry, champion))


def _content(ctx: Context, result: ValidationResult) -> str:
    """Later stages depend on which rows are clean, and on nothing else in here."""
    import polars as pl

    aside = ""
    if result.quarantined_rows:
        rows = RowDigest(parts.schema_of(ctx.input(Dataset)).kept)
        rows.add(pl.read_parquet(ctx.folder / parts.QUARANTINE_FILE))
        aside = rows.hexdigest()
    dataset = ctx.input(Dataset).manifest.content
    return digest({"dataset": dataset, "quarantine": aside, "verdict": result.verdict})


def stale(ctx: Context, manifest: AnyManifest) -> str | None:
    """The quarantine names rows by their place, so it goes with one data set and not with another of equal rows."""
    assert isinstance(manifest, Validation)  # noqa: S101 - narrows the type
    same = ctx.input(Dataset).manifest.id in {record.id for record in manifest.inputs}
    return None if same or not manifest.result.quarantined_rows else "the rows may stand in another order"


def _missing(found: DatasetResult, schema: TableSchema) -> list[Anomaly]:
    anomalies = []
    for name in found.missing_columns:
        expected = f"a column `{name}`" + _clue(name, found.extra_columns, schema)
        anomaly = Anomaly(column=name, rule=MISSING_COLUMN, expected=expected, rows=found.rows, share=1, examples=[])
        anomalies.append(anomaly)
    return anomalies


def _clue(missing: str, extra: list[str], schema: TableSchema) -> str:
    """What a missing column may be called in the source."""
    near = next((name for name in extra if schema.nearest(name) == missing), None)
    if near:
        return f" (is it `{near}`?)"
    other = [f"`{name}`" for name in extra if schema.nearest(name) is None]
    if not other:
        return ""
    more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
    return f" (the source has {', '.join(other[:_SHOWN])}{more}, which the schema does not name)"


def _wrong_types(unparsed: pl.DataFrame, schema: TableSchema, rows: int) -> list[Anomaly]:
    anomalies = []
    for (name,), cells in unparsed.group_by("column", maintain_order=True):
        some = cells.head(checks.EXAMPLES).select("key", "row", "value").iter_rows()
        anomaly = Anomaly(
            column=str(name),
            rule=WRONG_TYPE,
            expected=f"type {schema.columns[str(name)].dtype}",
            rows=cells.height,
            share=cells.height / rows,
            examples=[Example(key=key or f"row {row}", value=value) for key, row, value in some],
        )
        anomalies.append(anomaly)
    return anomalies


def _duplicates(duplicated: pl.DataFrame, schema: TableSchema, rows: int) -> list[Anomaly]:
    if duplicated.is_empty() or schema.key is None:
        return []
    some = duplicated.sort("key").head(checks.EXAMPLES).iter_rows()
    return [
        Anomaly(
            column=schema.key,
            rule="duplicated key",
            expected="one row per key",
            rows=duplicated.height,
            share=duplicated.height / rows,
            examples=[Example(key=f"row {row}", value=key) for row, key in some],
        )
    ]


def _reasons(
    found: DatasetResult, schema: TableSchema, counted: checks.Sweep, quarantined: int, tolerance: ValidateSettings
) -> list[str]:
    """Why the data set is not good enough, a sentence each."""
    missing = found.missing_columns
    needed = [name for name in missing if schema.columns[name].role in {"key", "target"}]
    reasons = [f"The column `{name}` is missing, and nothing can be done without it." for name in needed]
    if len(missing) > tolerance.max_missing_columns and not needed:
        names = ", ".join(f"`{name}`" for name in missing)
        reasons.append(
            f"{len(missing)} missing: {names} (validate.max_missing_columns = {tolerance.max_missing_columns})."
        )
    wrong, bad = counted.unparsed_rows, quarantined - counted.unparsed_rows
    reasons += _above("values of the wrong type", wrong, found.rows, "max_wrong_types", tolerance.max_wrong_types)
    reasons += _above("bad values", bad, found.rows, "max_bad_values", tolerance.max_bad_values)
    clean = found.rows - quarantined
    if not needed and clean and counted.targets < 2:
        reasons.append(f"The target `{schema.target}` has one value only; there is nothing to learn.")
    if clean == 0:
        reasons.append("No clean row is left.")
    return reasons


def _above(what: str, rows: int, total: int, setting: str, limit: float) -> list[str]:
    if rows <= limit * total:
        return []
    return [f"{rows:,} of {total:,} rows ({rows / total:.2%}) have {what} (validate.{setting} = {limit:g})."]


def refusal(manifest: AnyManifest) -> VehinsError | None:
    """Stop the chain when the data set is not good enough."""
    assert isinstance(manifest, Validation)  # noqa: S101 - narrows the type
    result = manifest.result
    if result.verdict == "accept":
        return None
    worst = sorted(result.anomalies, key=lambda anomaly: -anomaly.rows)[:_SHOWN]
    shown = [
        f"{a.column}: {a.rule} in {a.rows:,} rows, expected {a.expected}"
        + (f", for example {a.examples[0].value!r} at {a.examples[0].key}" if a.examples else "")
        for a in worst
    ]
    return AnomaliesError(
        result.reasons[0],
        detail=" ".join(result.reasons[1:]) + ("\n" if result.reasons[1:] and shown else "") + "\n".join(shown),
        hint=_hint(result),
    )


def _hint(result: ValidationResult) -> str:
    """What mends it; the settings that would tolerate it, when that is possible at all."""
    mend = "Mend the source, or adapt the schema (`--schema FILE`)"
    wrong = [anomaly.rows for anomaly in result.anomalies if anomaly.rule == WRONG_TYPE]
    needed = {
        "max_missing_columns": sum(anomaly.rule == MISSING_COLUMN for anomaly in result.anomalies),
        "max_wrong_types": _share(sum(wrong), result.rows),
        "max_bad_values": _share(result.quarantined_rows - max(wrong, default=0), result.rows),
    }
    limits = [name for name in needed if any(f"validate.{name} = " in reason for reason in result.reasons)]
    if len(limits) < len(result.reasons):
        return mend + "."
    options = " ".join(f"--set validate.{name}={needed[name]:g}" for name in limits)
    return f"{mend}, or tolerate it: `{options}`."


def _share(rows: int, total: int) -> float:
    """A share that allows for so many rows, with few digits."""
    return min(math.ceil(rows / total * 10_000) / 10_000, 1.0)


STAGE = Stage(
    name="validate",
    makes=Validation,
    needs=(Dataset,),
    work=work,
    reads=("validate_",),
    uses=("workspace", "registry", "model_name", "alias", "s3", "remote"),
    libraries=("polars", "polars-hash", "numpy"),
    outside=outside,
    stale=stale,
    refusal=refusal,
)
