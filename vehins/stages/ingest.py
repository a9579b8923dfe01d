"""Customer rows from a source -> a Dataset: typed by the schema, each row on its side of the split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import AnyManifest, ChangesRecord, Dataset, DatasetResult, digest
from vehins.artifacts.workspace import Artifact, Workspace
from vehins.data import conform, parts, split
from vehins.data import schema as table_schema
from vehins.data.changes import Changes
from vehins.data.checks import UNPARSED
from vehins.data.sources import Counting, Incremental, ReadOptions, Source, open_source
from vehins.errors import SettingsError, SourceFormatError
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema


def _source(ctx: Context) -> Source:
    return open_source(ctx.settings.source, replace(ReadOptions.of(ctx.settings), scratch=ctx.folder, say=ctx.progress))


def outside(ctx: Context) -> dict[str, Any]:
    """The source's address and content, and the schema.

    Raises:
        SettingsError: the source cannot tell what changed since the last Dataset, and is asked to.
    """
    schema = table_schema.load(ctx.settings.schema_file)
    source = _source(ctx)
    if ctx.settings.ingest.since and not isinstance(source, Incremental):
        raise SettingsError(
            f"{source.label} cannot tell which rows have changed",
            detail=f"It was asked for those since the last Dataset, by `{ctx.settings.ingest.since}`.",
            hint="Leave out `--since`: files that did not change are not read again anyway.",
        )
    return {"source": source.label, "content": source.token(), "schema": schema.digest}


def stale(_: Context, manifest: AnyManifest) -> str | None:
    """A source that cannot tell whether it changed is read again."""
    return None if manifest.outside["content"] else "the source cannot tell whether it changed"


def work(ctx: Context) -> Outcome:
    """Stream the source into Parquet parts."""
    schema = table_schema.load(ctx.settings.schema_file)
    source = _source(ctx)
    writer = _Writer(ctx, schema)
    changes, workspace = None, Workspace(ctx.settings.workspace)
    if ctx.settings.ingest.since:
        changes = _merge(ctx, workspace, source, writer)
    else:
        _read(ctx, source.batches(schema), writer)
    read = source.rows_read if isinstance(source, Counting) else None
    _check(ctx, source, read, writer)
    writer.finish()
    result = DatasetResult(
        source=source.label,
        schema_name=schema.name,
        rows=writer.rows,
        rows_by_side=writer.sides,
        row_digest=writer.digest.hexdigest(),
        digest_by_side={side: digest.hexdigest() for side, digest in writer.digests.items()},
        missing_columns=[name for name in schema.kept if name not in writer.columns],
        extra_columns=[name for name in writer.columns if name not in schema.columns],
        unparsed_cells=writer.cells,
        rows_read=read,
        changes=changes,
    )
    found = result.model_dump(mode="json", exclude={"source", "rows_read", "changes"})
    content = {"result": found, "split": ctx.settings.split.model_dump(mode="json"), "schema": schema.digest}
    return Outcome(result, digest(content), writer.rows_by_file)


def _read(ctx: Context, batches: Iterable[pl.DataFrame], writer: _Writer) -> None:
    for batch in batches:
        writer.add(batch)
        ctx.progress(f"{writer.rows:,} rows")


def _check(ctx: Context, source: Source, read: int | None, writer: _Writer) -> None:
    """Raise unless all that the source sent has become rows, of one state of it."""
    if read is not None and read != writer.rows_added:
        raise SourceFormatError(
            f"Of {read:,} rows that {source.label} sent, {writer.rows_added:,} came out",
            detail="No row may be lost or doubled on the way, so nothing was written.",
            hint="This is a bug in vehins; report it.",
        )
    if writer.rows == 0:
        detail = "It has a header at most."
        raise SourceFormatError(f"{source.label} has no rows", detail=detail, hint="Name another source: `--source`.")
    if outside(ctx) != ctx.known:  # what is recorded must be what was read
        raise SourceFormatError(
            f"{source.label} changed while it was being read",
            detail="Another program wrote to it, or to the schema.",
            hint="Wait until it is complete, and run the command again.",
        )


def _merge(ctx: Context, workspace: Workspace, source: Source, writer: _Writer) -> ChangesRecord:
    """Read what changed since the last Dataset of the same recipe, and keep the rest of its rows."""
    assert isinstance(source, Incremental)  # noqa: S101 - `outside` has refused any other
    field = str(ctx.settings.ingest.since)
    previous, reason = _previous(ctx, workspace)
    mark = None
    if previous is not None:
        before = previous.manifest.result.changes
        mark = before.mark if before else None
    if mark is None:
        reason = reason or f"no row of Dataset {previous.manifest.id if previous else ''} tells its place by `{field}`"
        previous = None
    _read(ctx, source.changes(writer.schema, field, mark), writer)
    read = writer.rows
    if previous is not None:
        for kept in writer.changes.kept(previous):
            writer.keep(kept.rows, kept.cells)
            ctx.progress(f"{writer.rows:,} rows")
    known, same = writer.changes.known, writer.changes.same
    return ChangesRecord(
        field=field,
        since=mark,
        mark=source.mark,
        previous=previous.manifest.id if previous else None,
        reason=reason,
        new=read - known,
        changed=known - same,
        kept=writer.rows - read + same,
    )


def _previous(ctx: Context, workspace: Workspace) -> tuple[Artifact[Dataset] | None, str | None]:
    """The last Dataset that was made in the same way; or None, and why there is none to build on."""
    assert ctx.recipe is not None  # noqa: S101 - there is one where a stage works
    if ctx.forced:
        return None, "forced"
    found = workspace.with_fingerprint(Dataset, ctx.recipe.fingerprint)
    if found is None:
        newest = workspace.newest(Dataset)
        if newest is None:
            return None, "there is no earlier Dataset"
        return None, "; ".join(ctx.recipe.changes_since(newest.manifest.recipe)) or "the earlier Dataset is gone"
    damaged = found.damage()
    return (None, f"Dataset {found.manifest.id} is damaged: {damaged}") if damaged else (found, None)


class _Writer:
    """Types, splits, digests and writes one batch after the other."""

    def __init__(self, ctx: Context, schema: TableSchema) -> None:
        self._folder, self._part_rows = ctx.folder, ctx.settings.ingest.part_rows
        self._merges = ctx.settings.ingest.since is not None
        self._side = split.side(schema, ctx.settings.split)
        self._held: list[pl.DataFrame] = []
        self._unparsed: list[pl.DataFrame] = []
        self.schema = schema
        self.digest = split.RowDigest(schema.kept)
        self.digests = {side: split.RowDigest(schema.kept) for side in split.SIDES}
        self.changes = Changes(schema.kept)
        self.columns: list[str] = []
        self.sides = dict.fromkeys(split.SIDES, 0)
        self.rows = self.rows_added = self.cells = 0
        self.rows_by_file: dict[str, int] = {}

    def add(self, batch: pl.DataFrame) -> None:
        """Take in raw rows."""
        import polars as pl

        self.columns = self.columns or conform.plain(batch).columns
        typed = conform.conform(batch, self.schema, 0)
        unparsed = pl.int_range(batch.height).is_in(typed.unparsed["row"].implode())
        rows = typed.rows.with_columns(self._side, unparsed.alias(UNPARSED), *self._ids(batch, typed.rows))
        self.rows_added += rows.height
        if self._merges:
            self.changes.add(rows)
        self.keep(rows, typed.unparsed)

    def _ids(self, batch: pl.DataFrame, typed: pl.DataFrame) -> list[pl.Series]:
        """What the store calls the rows: all of them where rows are to be found again, else those without a key."""
        import polars as pl

        if conform.ID not in batch.columns:
            return []
        if self._merges or self.schema.key is None:
            return [batch[conform.ID]]
        named = pl.DataFrame({"key": typed[self.schema.key], conform.ID: batch[conform.ID]})
        return [named.select(pl.when(pl.col("key").is_null()).then(conform.ID)).to_series()]

    def keep(self, rows: pl.DataFrame, cells: pl.DataFrame) -> None:
        """Take in typed rows; ``cells`` are those of them that are unparsed, by their place in this batch."""
        import polars as pl

        self.digest.add(rows)
        for (side,), some in rows.partition_by(split.SIDE, as_dict=True).items():
            self.sides[side] += some.height
            self.digests[side].add(some)
        if cells.height or not self._unparsed:
            self._unparsed.append(cells.with_columns(pl.col("row") + self.rows))
        self.cells += cells.height
        self.rows += rows.height
        if self._held and sum(one.height for one in self._held) + rows.height > self._part_rows:
            self._write_part()
        self._held.append(rows)

    def _write_part(self) -> None:
        import polars as pl

        name = parts.part_name(len(self.rows_by_file))
        (self._folder / name).parent.mkdir(exist_ok=True)
        rows = pl.concat(self._held)
        self._held = []
        rows.write_parquet(self._folder / name)
        self.rows_by_file[name] = rows.height

    def finish(self) -> None:
        """Write what is left, and what stands beside the parts."""
        import polars as pl

        self._write_part()
        pl.concat(self._unparsed).write_parquet(self._folder / parts.UNPARSED_FILE)
        self.rows_by_file[parts.UNPARSED_FILE] = self.cells
        (self._folder / parts.SCHEMA_FILE).write_bytes(self.schema.to_json())


STAGE = Stage(
    name="ingest",
    makes=Dataset,
    needs=(),
    work=work,
    reads=("split", "ingest"),
    uses=("source", "schema_file", "workspace", "remote", "credentials", "s3", "mongodb", "redshift"),
    libraries=("polars", "polars-hash", "numpy"),
    outside=outside,
    stale=stale,
)
