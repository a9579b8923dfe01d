"""A small table of customers, and others that a test describes by a few columns."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from vehins.artifacts.files import record_file
from vehins.artifacts.manifest import Dataset
from vehins.artifacts.workspace import Artifact
from vehins.data import parts, split
from vehins.data.checks import UNPARSED
from vehins.data.conform import conform
from vehins.data.schema import TableSchema
from vehins.data.sources import ReadOptions, open_source
from vehins.settings import SplitSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TARGET = {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1}


def table(columns: dict[str, dict[str, Any]], **others: Any) -> TableSchema:
    """A schema of some columns, and a target ``y``."""
    return TableSchema.model_validate({"name": "small", "columns": {**columns, "y": TARGET}, **others})


CUSTOMERS = table(
    {
        "id": {"dtype": "int", "role": "key"},
        "name": {"dtype": "string", "nullable": True},
        "age": {"dtype": "int"},
        "note": {"dtype": "string", "role": "ignored", "nullable": True},
    }
)
HEADER = "id,name,age,note,y\n"


def read(place: Path | str, schema: TableSchema = CUSTOMERS, **options: Any) -> list[pl.DataFrame]:
    """All batches of a source."""
    return list(open_source(str(place), ReadOptions(**options)).batches(schema))


def dataset(folder: Path, rows: pl.DataFrame, schema: TableSchema, starts: Sequence[int] = (0,)) -> Artifact[Dataset]:
    """A data set of raw rows, cut into parts that start at some rows."""
    unparsed, files = [], []
    for number, (start, end) in enumerate(pairwise([*starts, rows.height])):
        typed = conform(rows[start:end], schema, start)
        bad = pl.int_range(start, end).is_in(typed.unparsed["row"].implode()).alias(UNPARSED)
        unparsed.append(typed.unparsed)
        path = folder / parts.part_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        typed.rows.with_columns(split.side(schema, SplitSettings()), bad).write_parquet(path)
        files.append(record_file(folder, path, end - start))
    pl.concat(unparsed).write_parquet(folder / parts.UNPARSED_FILE)
    (folder / parts.SCHEMA_FILE).write_bytes(schema.to_json())
    files += [record_file(folder, folder / name) for name in (parts.UNPARSED_FILE, parts.SCHEMA_FILE)]
    return Artifact(Dataset.model_construct(files=files), folder)
