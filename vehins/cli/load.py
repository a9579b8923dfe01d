"""``vehins load``: put a file into a store."""

from __future__ import annotations

from typing import Annotated

import typer

from vehins.cli.command import Call, SchemaFile, command, take_interrupts
from vehins.cli.terminal import plain

File = Annotated[str, typer.Argument(help="A CSV or Parquet file, a folder or a glob of them, or demo://.")]
To = Annotated[str, typer.Option("--to", metavar="URL", help="Address of the table: docs/targets.md lists the forms.")]
Key = Annotated[
    str | None, typer.Option("--key", metavar="COLUMN", help="Column that identifies a row; by default the schema's.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace all rows that are there.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(load)


def load(call: Call, file: File, to: To, key: Key = None, replace: Replace = False, schema: SchemaFile = None) -> None:
    """Write a file to MongoDB, SQL Server, PostgreSQL, S3 or another file; twice is the same as once."""
    from vehins import tables

    settings = call.settings(source=file, schema_file=schema)
    take_interrupts()
    with call.terminal.live() as tell:
        done = tables.load(settings, to, key=key, replace=replace, progress=tell)
    rate = done.rows / max(done.seconds, 1e-9)
    call.terminal.say(
        f"Loaded {done.rows:,} rows into {plain(done.target)} in {done.seconds:.1f} s ({rate:,.0f} rows/s)"
    )
    call.terminal.data({**done._asdict(), "seconds": round(done.seconds, 3)})
