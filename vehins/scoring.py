"""Customer rows -> what a registered model says of each, in a store or a file; what cannot be scored is set aside.

The rows are set down on disk first and then scored batch by batch, so that memory does not grow with the table.
"""

from __future__ import annotations

import glob
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vehins.artifacts.files import flush_file, flush_folder
from vehins.data import checks, conform
from vehins.data.sinks import Sink, WriteOptions, open_sink
from vehins.data.sources import ReadOptions, open_source
from vehins.data.staging import Staging, scratch, stage
from vehins.errors import AnomaliesError, SettingsError, VehinsError, storage_error
from vehins.masking import masked_address
from vehins.model import reasons
from vehins.serving import predictor as serving

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

COLUMNS = ("rank", "probability", "percentile", "contact", "model", "model_version", "scored_at")
_REASON = re.compile(r"reason_[0-9]+")
QUARANTINE_SUFFIXES = (".csv", ".parquet", ".pq")
_SLICE_ROWS, _EXPLAINED_ROWS = 250_000, 10_000  # explaining takes long: so many rows until one hears of it


class Wish(NamedTuple):
    """What the scores should be like."""

    version: int | None = None
    """Version of the model; by default the one behind the alias."""
    reasons: int = 0
    """How many of the strongest contributions to tell with each score."""
    top: int | None = None
    """Only so many rows: those of the highest probability, ranked. By default all, in their order."""
    quarantine: Path | None = None
    """Where rows go that cannot be scored; by default the workspace."""
    replace: bool = False
    """Whether the scores take the place of all that is there."""


class Scored(NamedTuple):
    """What was done."""

    rows: int
    """Rows of the source: those scored and those set aside."""
    scored: int
    set_aside: int
    written: int
    """Rows of the target: those scored, or the first of them with `top`."""
    quarantine: Path | None
    """Parquet file of the rows that were set aside, with their reasons."""
    source: str
    target: str
    key: str | None
    model: str
    version: int
    replaced: bool
    seconds: float


def score(settings: Settings, to: str, wish: Wish, progress: Callable[[str], None] = lambda _: None) -> Scored:
    """Score the rows of `source` with a registered version, and write the answers.

    Raises:
        NotFoundError: there is no such version.
        SettingsError: the target needs a key that the rows do not have, or would take the place of the source.
        DataError: the source lacks a column that the model needs, or not one row can be scored.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    sink = open_sink(to, WriteOptions.of(settings))
    _check_places(settings, to, wish.quarantine)
    source = open_source(settings.source, ReadOptions.of(settings))
    model = serving.load(settings, wish.version)
    _check_key(model.table, sink)
    with scratch() as folder:
        staging, missing = stage(source, model.table, folder, progress)
        rules = checks.checks(model.table, missing)
        bad = folder / "bad"
        bad.mkdir()
        aside = _set_aside(staging, model.table, rules, bad)
        kept = _keep(bad, wish.quarantine or _default(settings, now)) if aside.len() else None
        if aside.len() == staging.rows:
            detail = f"All {staging.rows:,} rows of {source.label} break the schema."
            raise AnomaliesError("Not one row can be scored", detail=detail, hint=f"See their reasons: {kept}.")
        scoring = _Scoring(model, staging, aside, wish, now, progress)
        written = sink.write(
            scoring.answers(),
            model.table.key,  # type: ignore[arg-type]  # None only where the sink takes it, see `_check_key`
            replace=wish.replace,
            on_rows=lambda rows: progress(f"{rows:,} rows written"),
        )
    _check_count(staging.rows, scoring.rows, aside.len(), written, wish.top)
    return Scored(
        rows=staging.rows,
        scored=scoring.rows,
        set_aside=aside.len(),
        written=written,
        quarantine=kept,
        source=source.label,
        target=sink.label,
        key=model.table.key,
        model=model.name,
        version=model.version,
        replaced=wish.replace,
        seconds=time.monotonic() - began,
    )


def _check_count(rows: int, scored: int, aside: int, written: int, top: int | None) -> None:
    if scored + aside != rows or written != (scored if top is None else min(top, scored)):
        detail = f"{rows:,} rows came, {scored:,} were scored, {aside:,} set aside and {written:,} written."
        raise VehinsError("Rows were lost while scoring", detail=detail, hint="Do not use the scores, and report it.")


def _check_places(settings: Settings, to: str, quarantine: Path | None) -> None:
    """Neither the scores nor the quarantine may take the place of the source, or of each other."""
    target = Path(to.removeprefix("file://"))
    for path in filter(None, (target, quarantine)):
        if path.is_file() and _is_read(path, Path(settings.source.removeprefix("file://"))):
            raise SettingsError(
                "The scores would take the place of the rows that they are made from",
                detail=f"{path} belongs to the source {masked_address(settings.source)}.",
                hint="Name another file for the scores.",
            )
    if quarantine is None:
        return
    if quarantine.suffix.lower() not in QUARANTINE_SUFFIXES:
        detail, hint = f"It is {quarantine}.", "Name a file that ends in .csv or .parquet: `--quarantine bad.csv`."
        raise SettingsError("The quarantine is no CSV and no Parquet file", detail=detail, hint=hint)
    if quarantine.absolute() == target.absolute():
        raise SettingsError(
            "Scores and quarantine cannot be one file", detail=f"Both are {target}.", hint="Name two files."
        )


def _is_read(path: Path, source: Path) -> bool:
    """Whether a file is among those behind a path, a folder or a glob."""
    if source.is_dir():
        return source.resolve() in path.resolve().parents
    found = [source] if source.exists() else map(Path, glob.glob(str(source), recursive=True))  # noqa: PTH207
    return any(path.samefile(file) for file in found)


def _check_key(table: TableSchema, sink: Sink) -> None:
    if table.key is None and not getattr(sink, "takes_no_key", False):
        raise SettingsError(
            "Rows without a key cannot be written to a store",
            detail=f"The schema {table.name} has no `key`, so {sink.label} cannot tell them apart.",
            hint="Write a file (`vehins predict SOURCE scores.csv`), or give a column the role `key` and train.",
        )
    if table.key is not None and (table.key in COLUMNS or _REASON.fullmatch(table.key)):
        raise SettingsError(
            f"The key `{table.key}` is called like a column of the scores",
            detail=f"Those are {', '.join(COLUMNS)} and reason_1, reason_2, ...",
            hint="Rename the column in the source and the schema, and train again.",
        )


def _set_aside(staging: Staging, table: TableSchema, rules: list[checks.Check], folder: Path) -> pl.Series:
    """Write the rows that break the schema, with their reasons, part by part into a folder; return their numbers."""
    import polars as pl

    duplicated, numbers = checks.duplicated_rows(staging.frame(), table), [pl.Series(dtype=pl.Int64)]
    for place, (rows, cells) in enumerate(staging.parts()):
        path = folder / f"{place:05}.parquet"
        twice = duplicated.filter(duplicated[conform.ROW].is_between(rows[conform.ROW][0], rows[conform.ROW][-1]))
        if checks.write_quarantine(rows.lazy(), rules, cells, twice, path):
            numbers.append(pl.read_parquet(path, columns=[conform.ROW], glob=False)[conform.ROW])
        else:
            path.unlink()
    return pl.concat(numbers)


def _default(settings: Settings, now: datetime) -> Path:
    return settings.workspace / "predictions" / f"quarantine-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}.parquet"


def _keep(folder: Path, path: Path) -> Path:
    """Put the quarantined rows where they stay, as CSV or Parquet; they are there whole or not at all."""
    import polars as pl

    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    rows = pl.scan_parquet(sorted(folder.iterdir()), glob=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.sink_csv(temporary) if path.suffix.lower() == ".csv" else rows.sink_parquet(temporary)
        flush_file(temporary)
        temporary.replace(path)
        flush_folder(path.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise storage_error(error) or error from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


class _Scoring:
    """What the model says of the good rows."""

    def __init__(
        self,
        model: Predictor,
        staging: Staging,
        aside: pl.Series,
        wish: Wish,
        now: datetime,
        progress: Callable[[str], None],
    ) -> None:
        self._model, self._staging, self._aside, self._wish = model, staging, aside, wish
        self._moment = now.replace(microsecond=now.microsecond // 1000 * 1000)  # MongoDB keeps milliseconds
        self._progress = progress
        self.rows = 0

    def answers(self) -> Iterator[pl.DataFrame]:
        """The rows of the target in batches: all in their order, or the best, ranked."""
        batches = self._all() if self._wish.top is None else self._best(self._wish.top)
        return map(self._signed, batches)

    def _all(self) -> Iterator[pl.DataFrame]:
        count = self._wish.reasons
        for part in self._staging.batches(without=self._aside):
            for rows in part.iter_slices(_EXPLAINED_ROWS if count else _SLICE_ROWS):
                answers = self._scored(rows)
                yield answers.hstack(reasons.strongest(self._model.bundle, rows, count)) if count else answers

    def _best(self, count: int) -> Iterator[pl.DataFrame]:
        """Hold the best so far, and no row more; of equals, the one that came first is the better."""
        import polars as pl

        best = pl.DataFrame()
        for rows in self._staging.batches(without=self._aside, numbered=True):
            some = self._scored(rows).with_columns(rows[conform.ROW])
            if best.height == count:
                some = some.filter(pl.col("probability") > best["probability"][-1])
            best = pl.concat([best, some], how="vertical" if best.width else "diagonal")
            best = best.sort("probability", descending=True, maintain_order=True).head(count)
        best = best.with_columns(pl.int_range(1, best.height + 1, dtype=pl.Int64).alias("rank"))
        if self._wish.reasons:
            best = best.join(self._reasons(best[conform.ROW]), on=conform.ROW, how="left", maintain_order="left")
        keys = [self._model.table.key] if self._model.table.key else []
        yield from best.drop(conform.ROW).select(*keys, "rank", pl.exclude(*keys, "rank")).iter_slices(_SLICE_ROWS)

    def _reasons(self, numbers: pl.Series) -> pl.DataFrame:
        """The reasons of the rows of these numbers, with ``__row__``."""
        import polars as pl

        parts, explained = [], 0
        for rows in self._staging.batches(numbered=True):
            chosen = rows.filter(pl.col(conform.ROW).is_in(numbers.implode()))
            for some in chosen.iter_slices(_EXPLAINED_ROWS):
                why = reasons.strongest(self._model.bundle, some, self._wish.reasons)
                parts.append(why.with_columns(some[conform.ROW]))
                explained += some.height
                self._progress(f"{explained:,} rows explained")
        return pl.concat(parts)

    def _scored(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The key of each row, and what the model says of it."""
        import polars as pl

        answers = self._model.score(rows)
        self.rows += rows.height
        self._progress(f"{self.rows:,} rows scored")
        return answers.select(*(rows[name] for name in [self._model.table.key] if name), pl.all())

    def _signed(self, answers: pl.DataFrame) -> pl.DataFrame:
        """The answers with what gave them, and when."""
        import polars as pl

        return answers.with_columns(
            pl.lit(self._model.name).alias("model"),
            pl.lit(self._model.version, dtype=pl.Int64).alias("model_version"),
            pl.lit(self._moment).cast(pl.Datetime("us", "UTC")).alias("scored_at"),
        )
