"""Rows of today against the rows that the model in production was trained on, and its scores against those of then.

The rows are those of any source, without key and target as a service sees them; where they come with the probability
that the model gave them, as in a prediction log or in what `vehins predict` writes, that is compared as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vehins.data import checks
from vehins.data.schema import Column, TableSchema
from vehins.data.sources import ReadOptions, open_source
from vehins.data.staging import scratch, stage
from vehins.errors import AnomaliesError, NotFoundError
from vehins.model import bundle, drift
from vehins.serving.predictor import load

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from vehins.artifacts.drift import ColumnDrift, Drift
    from vehins.artifacts.manifest import Anomaly
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

SCORE = "probability"


class Watched(NamedTuple):
    """What was found."""

    source: str
    model: str
    drift: Drift
    """Over the rows that fit the schema."""
    rows: int
    left_out: int
    """Rows that break the schema."""
    anomalies: list[Anomaly]
    max_drift: float

    @property
    def worst(self) -> ColumnDrift | None:
        """The column that is furthest beyond what chance explains; None when nothing could be compared."""
        known = [column for column in self.drift.columns if column.psi is not None]
        return max(known, key=lambda column: (column.psi or 0.0) - (column.chance or 0.0), default=None)

    def allowed(self, column: ColumnDrift) -> float:
        """Index that a column may have, as the gate has it: the setting, and what chance explains."""
        return self.max_drift + (column.chance or 0.0)

    @property
    def refusal(self) -> AnomaliesError | None:
        """Why these are other rows than the model was made for."""
        worst = self.worst
        if worst is None:
            hint = "Train it again (`vehins pipeline run`), and promote that version."
            return AnomaliesError("The drift is unknown", detail=self.drift.reason or "", hint=hint)
        if (worst.psi or 0.0) <= self.allowed(worst):
            return None
        return AnomaliesError(
            f"`{worst.column}` has drifted since version {self.drift.version} was trained",
            detail=f"Its stability index is {worst.psi:.4f}; {self.allowed(worst):.4f} is allowed "
            f"({self.max_drift:g}, and {worst.chance or 0.0:.4f} that chance explains).",
            hint="Train on newer rows (`vehins pipeline run --source ...`), or allow more: `--set gate.max_drift=...`.",
        )


def watch(settings: Settings, progress: Callable[[str], None] = lambda _: None) -> Watched:
    """Compare the rows of ``source`` with the version in production.

    Raises:
        NotFoundError: no version is in production, or a prediction log has no rows of it.
        SourceFormatError: the rows lack a column that the model needs.
        AnomaliesError: not one row fits the schema.
    """
    import polars as pl

    model = load(settings)
    source = open_source(_place(settings.source, model), ReadOptions.of(settings))
    table = _as_answered(model.table)
    with scratch() as folder:
        staging, missing = stage(source, table, folder, progress)
        rows, rules = staging.frame(), checks.checks(table, missing)
        counted = checks.sweep(rows, table, rules)
        clean = rows.filter(~(checks.any_broken(rules) | pl.col(checks.UNPARSED)))
        if counted.bad_rows == staging.rows:
            detail = f"All {staging.rows:,} rows of {source.label} break the schema of {model.name}."
            raise AnomaliesError("There is nothing to compare", detail=detail, hint="Name other rows: `--source`.")
        progress(f"comparing with the training rows of version {model.version}")
        return Watched(
            source=source.label,
            model=model.name,
            drift=_drift(clean, model, scored=SCORE not in missing),
            rows=staging.rows,
            left_out=counted.bad_rows,
            anomalies=checks.anomalies(rows, table, rules, counted),
            max_drift=settings.gate.max_drift,
        )


def _place(source: str, model: Predictor) -> str:
    """The part of a prediction log that belongs to the version in production; any other source as it is."""
    log = Path(source.removeprefix("file://")) / model.name
    versions = sorted(log.glob("version-*")) if log.is_dir() else []
    if not versions:
        return source
    place = log / f"version-{model.version}"
    if place not in versions:
        found = ", ".join(version.name.replace("-", " ") for version in versions[:5])
        raise NotFoundError(
            f"The prediction log has no rows of version {model.version}, which is in production",
            detail=f"{log} has rows of {found}.",
            hint="Wait until it has answered some requests; a service writes them once a minute.",
        )
    return str(place)


def _as_answered(table: TableSchema) -> TableSchema:
    """The table as answers have it: no key, and the score beside the features."""
    columns = {name: column for name, column in table.columns.items() if column.role != "key"}
    columns = {SCORE: Column(dtype="float", nullable=True), **columns}
    # Not `model_copy`: it would keep what the table has found out about its columns.
    return TableSchema(**{name: getattr(table, name) for name in TableSchema.model_fields} | {"columns": columns})


def _drift(rows: pl.LazyFrame, model: Predictor, *, scored: bool) -> Drift:
    """The features against the training rows, and the scores against those that the model gave them."""
    reference = bundle.statistics(model.bundle.folder)
    if reference is not None:
        columns = [column for column in reference.columns if column.column != reference.target]
        if scored and SCORE not in model.table.columns:
            columns.append(drift.score_bins(SCORE, model.bundle.signature.percentiles, reference.rows))
        reference = reference.model_copy(update={"columns": columns})
    found = drift.measure(rows, reference, version=model.version, bundle=model.bundle.digest)
    named = [c.model_copy(update={"role": "score"}) if c.column == SCORE and scored else c for c in found.columns]
    return found.model_copy(update={"columns": named})
