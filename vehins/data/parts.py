"""The rows of a data set as its Parquet parts, and those of them that validation let through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.data import schema as table_schema
from vehins.data.conform import ROW

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from vehins.artifacts.manifest import Dataset, Validation
    from vehins.artifacts.workspace import Artifact

SCHEMA_FILE = "schema.json"
UNPARSED_FILE = "unparsed.parquet"
QUARANTINE_FILE = "quarantine.parquet"
_PARTS = "parts"


def part_name(number: int) -> str:
    """File name of a part, counted from 0."""
    return f"{_PARTS}/part-{number:05}.parquet"


def schema_of(dataset: Artifact[Dataset]) -> table_schema.TableSchema:
    """The schema that typed a data set; it travels with it."""
    return table_schema.parse(dataset.path(SCHEMA_FILE).read_bytes())


def rows(dataset: Artifact[Dataset]) -> pl.LazyFrame:
    """All rows of a data set, numbered from 0 in the column ``__row__``, with their side in ``__side__``."""
    import polars as pl

    names = [record.path for record in dataset.manifest.files if record.path.startswith(_PARTS + "/")]
    # By number, and not by name: five digits are a minimum.
    paths = [dataset.path(name) for name in sorted(names, key=lambda name: (len(name), name))]
    return pl.scan_parquet(paths, glob=False).with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))


def clean_rows(dataset: Artifact[Dataset], validation: Artifact[Validation]) -> pl.LazyFrame:
    """The rows of a data set without those in quarantine."""
    bad = validation.path(QUARANTINE_FILE) if validation.manifest.result.quarantined_rows else None
    return rows_without(rows(dataset), bad)


def rows_without(everything: pl.LazyFrame, quarantine: Path | None) -> pl.LazyFrame:
    """Numbered rows without those in a quarantine file, and without their numbers."""
    import polars as pl

    if quarantine is not None:
        bad = pl.scan_parquet(quarantine, glob=False).select(ROW)
        everything = everything.join(bad, on=ROW, how="anti", maintain_order="left")
    return everything.drop(ROW)
