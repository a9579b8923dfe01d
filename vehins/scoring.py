"""Customer rows -> what a registered model says of each, in a store or a file; what cannot be scored is set aside."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vehins.artifacts.files import flush_file, flush_folder
from vehins.data import checks, conform
from vehins.data.sinks import Sink, WriteOptions, open_sink
from vehins.data.sources import ReadOptions, Source, open_source
from vehins.data.staging import Staging
from vehins.errors import AnomaliesError, SettingsError, SourceFormatError, VehinsError, storage_error
from vehins.serving import predictor as serving

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

COLUMNS = ("probability", "percentile", "contact", "model", "model_version", "scored_at")


class Scored(NamedTuple):
    """What was done."""

    rows: int
    """Rows of the source: those scored and those set aside."""
    scored: int
    set_aside: int
    quarantine: Path | None
    """Parquet file of the rows that were set aside, with their reasons."""
    source: str
    target: str
    key: str | None
    model: str
    version: int
    replaced: bool
    seconds: float


def score(
    settings: Settings,
    to: str,
    *,
    version: int | None = None,
    quarantine: Path | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Scored:
    """Score the rows of `source` with the version behind the alias, or the one of a number, and write the answers.

    Raises:
        NotFoundError: there is no such version.
        SettingsError: the target needs a key that the rows do not have.
        DataError: the source lacks a column that the model needs, or not one row can be scored.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    sink = open_sink(to, WriteOptions.of(settings))
    source = open_source(settings.source, ReadOptions.of(settings))
    model = serving.load(settings, version)
    _check_key(model.table, sink)
    with tempfile.TemporaryDirectory(prefix="vehins-") as folder:
        staging, missing = _stage(source, model.table, Path(folder), progress)
        rules = checks.checks(model.table, missing)
        bad = Path(folder) / "bad.parquet"
        aside = _set_aside(staging, model.table, rules, bad)
        kept = _keep(bad, quarantine or _default(settings, now)) if aside.len() else None
        if aside.len() == staging.rows:
            detail = f"All {staging.rows:,} rows of {source.label} break the schema."
            raise AnomaliesError("Not one row can be scored", detail=detail, hint=f"See their reasons: {kept}.")
        batches = _answers(model, staging, aside, now)
        scored = sink.write(
            batches,
            model.table.key,  # type: ignore[arg-type]  # None only where the sink takes it, see `_check_key`
            replace=replace,
            on_rows=lambda rows: progress(f"{rows:,} rows written"),
        )
    if scored + aside.len() != staging.rows:
        detail = f"{staging.rows:,} rows came, {scored:,} were scored and {aside.len():,} set aside."
        raise VehinsError("Rows were lost while scoring", detail=detail, hint="Do not use the scores, and report it.")
    seconds = time.monotonic() - began
    label, names = sink.label, (model.name, model.version)
    return Scored(
        staging.rows, scored, aside.len(), kept, source.label, label, model.table.key, *names, replace, seconds
    )


def _check_key(table: TableSchema, sink: Sink) -> None:
    if table.key is None and not getattr(sink, "takes_no_key", False):
        raise SettingsError(
            "Rows without a key cannot be written to a store",
            detail=f"The schema {table.name} has no `key`, so {sink.label} cannot tell them apart.",
            hint="Write a file in the order of the rows (`--to FILE.csv`), or give a column the role `key` and train.",
        )
    if table.key in COLUMNS:
        raise SettingsError(
            f"The key `{table.key}` is called like a column of the scores",
            detail=f"Those are {', '.join(COLUMNS)}.",
            hint="Rename the column in the source and the schema, and train again.",
        )


def _stage(
    source: Source, table: TableSchema, folder: Path, progress: Callable[[str], None]
) -> tuple[Staging, list[str]]:
    """Set down the typed rows; return them and the columns that they lack. The target is not looked at."""
    staging, missing = Staging(folder), list[str]()
    for batch in source.batches(table):
        untargeted = batch.drop(table.target, conform.UNREAD + table.target, strict=False)
        if staging.rows == 0:
            missing = _missing(table, untargeted.columns, source.label)
        typed = conform.conform(untargeted, table, staging.rows)
        staging.add(typed.rows, typed.unparsed)
        progress(f"{staging.rows:,} rows read")
    if staging.rows == 0:
        raise SourceFormatError(f"{source.label} has no rows", hint="Name another source: `vehins predict SOURCE`.")
    return staging, missing


def _missing(table: TableSchema, columns: list[str], label: str) -> list[str]:
    missing = [name for name in table.kept if name not in columns]
    needed = [name for name in missing if name != table.target and not table.columns[name].nullable]
    if needed:
        raise SourceFormatError(
            f"{label} lacks {len(needed)} columns that the model needs",
            detail=f"{', '.join(f'`{name}`' for name in needed)}.",
            hint="Add them to the source, or rename what it calls otherwise.",
        )
    return missing


def _set_aside(staging: Staging, table: TableSchema, rules: list[checks.Check], path: Path) -> pl.Series:
    """Write the rows that break the schema, with their reasons; return their numbers."""
    import polars as pl

    rows = staging.frame()
    duplicated = checks.duplicated_rows(rows, table)
    checks.write_quarantine(rows, rules, staging.unparsed, duplicated, path)
    return pl.read_parquet(path, columns=[conform.ROW], glob=False)[conform.ROW]


def _default(settings: Settings, now: datetime) -> Path:
    return settings.workspace / "predictions" / f"quarantine-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}.parquet"


def _keep(file: Path, path: Path) -> Path:
    """Copy a file to where it stays; it is there whole or not at all."""
    import shutil

    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, temporary)
        flush_file(temporary)
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise storage_error(error) or error from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _answers(model: Predictor, staging: Staging, aside: pl.Series, now: datetime) -> Iterator[pl.DataFrame]:
    """What the model says of the rows that are good, batch by batch."""
    import polars as pl

    moment = now.replace(microsecond=now.microsecond // 1000 * 1000)  # MongoDB keeps milliseconds
    key = [model.table.key] if model.table.key else []
    for rows in staging.batches(without=aside):
        answers = model.score(rows)
        yield answers.select(*(rows[name] for name in key), pl.all()).with_columns(
            pl.lit(model.name).alias("model"),
            pl.lit(model.version, dtype=pl.Int64).alias("model_version"),
            pl.lit(moment).cast(pl.Datetime("us", "UTC")).alias("scored_at"),
        )
