"""Customer rows from a source -> a Dataset: typed by the schema, each row on its side of the split."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import AnyManifest, Dataset, DatasetResult, digest
from vehins.data import conform, parts, split
from vehins.data import schema as table_schema
from vehins.data.checks import UNPARSED
from vehins.data.sources import ReadOptions, Source, open_source
from vehins.errors import SourceFormatError
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema


def _source(ctx: Context) -> Source:
    return open_source(ctx.settings.source, replace(ReadOptions.of(ctx.settings), scratch=ctx.folder, say=ctx.progress))


def outside(ctx: Context) -> dict[str, Any]:
    """The source's address and content, and the schema."""
    schema = table_schema.load(ctx.settings.schema_file)
    source = _source(ctx)
    return {"source": source.label, "content": source.token(), "schema": schema.digest}


def stale(_: Context, manifest: AnyManifest) -> str | None:
    """A source that cannot tell whether it changed is read again."""
    return None if manifest.outside["content"] else "the source cannot tell whether it changed"


def work(ctx: Context) -> Outcome:
    """Stream the source into Parquet parts."""
    schema = table_schema.load(ctx.settings.schema_file)
    source = _source(ctx)
    writer = _Writer(ctx, schema)
    for batch in source.batches(schema):
        writer.add(batch)
        ctx.progress(f"{writer.rows:,} rows")
    if writer.rows == 0:
        detail = "It has a header at most."
        raise SourceFormatError(f"{source.label} has no rows", detail=detail, hint="Name another source: `--source`.")
    if outside(ctx) != ctx.known:  # what is recorded must be what was read
        raise SourceFormatError(
            f"{source.label} changed while it was being read",
            detail="Another program wrote to it, or to the schema.",
            hint="Wait until it is complete, and run the command again.",
        )
    writer.write_extras()
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
    )
    found = result.model_dump(mode="json", exclude={"source"})
    content = {"result": found, "split": ctx.settings.split.model_dump(mode="json"), "schema": schema.digest}
    return Outcome(result, digest(content), writer.rows_by_file)


class _Writer:
    """Types, splits, digests and writes one batch after the other."""

    def __init__(self, ctx: Context, schema: TableSchema) -> None:
        self._folder, self._schema = ctx.folder, schema
        self._side = split.side(schema, ctx.settings.split)
        self._unparsed: list[pl.DataFrame] = []
        self.digest = split.RowDigest(schema.kept)
        self.digests = {side: split.RowDigest(schema.kept) for side in split.SIDES}
        self.columns: list[str] = []
        self.sides = dict.fromkeys(split.SIDES, 0)
        self.rows = self.cells = 0
        self.rows_by_file: dict[str, int] = {}

    def add(self, batch: pl.DataFrame) -> None:
        import polars as pl

        self.columns = self.columns or batch.columns
        typed = conform.conform(batch, self._schema, self.rows)
        unparsed = pl.int_range(self.rows, self.rows + batch.height).is_in(typed.unparsed["row"].implode())
        rows = typed.rows.with_columns(self._side, unparsed.alias(UNPARSED))
        self.digest.add(typed.rows)
        for (side,), some in rows.partition_by(split.SIDE, as_dict=True).items():
            self.sides[side] += some.height
            self.digests[side].add(some)
        name = parts.part_name(len(self.rows_by_file))
        (self._folder / name).parent.mkdir(exist_ok=True)
        rows.write_parquet(self._folder / name)
        self.rows_by_file[name] = rows.height
        self.rows += rows.height
        self.cells += typed.unparsed.height
        if typed.unparsed.height or not self._unparsed:
            self._unparsed.append(typed.unparsed)

    def write_extras(self) -> None:
        import polars as pl

        pl.concat(self._unparsed).write_parquet(self._folder / parts.UNPARSED_FILE)
        self.rows_by_file[parts.UNPARSED_FILE] = self.cells
        (self._folder / parts.SCHEMA_FILE).write_bytes(self._schema.to_json())


STAGE = Stage(
    name="ingest",
    makes=Dataset,
    needs=(),
    work=work,
    reads=("split", "ingest"),
    uses=("source", "schema_file", "remote", "credentials", "s3", "mongodb", "redshift"),
    libraries=("polars", "polars-hash", "numpy"),
    outside=outside,
    stale=stale,
)
