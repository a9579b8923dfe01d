"""``vehins predict``: score customers in bulk, and write the scores where the sales team reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command, take_interrupts
from vehins.cli.terminal import plain

Source = Annotated[str | None, typer.Argument(help="Customer rows: a file, a folder, or the address of a store.")]
To = Annotated[
    str, typer.Option("--to", metavar="URL", help="A file, or the address of a table: docs/targets.md lists the forms.")
]
Version = Annotated[
    int | None, typer.Option("--version", min=1, help="Version of the model; by default the one behind the alias.")
]
Quarantine = Annotated[
    Path | None,
    typer.Option("--quarantine", metavar="FILE", help="Where rows go that cannot be scored; by default the workspace."),
]
Replace = Annotated[bool, typer.Option("--replace", help="Let the scores take the place of all that is there.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(predict)


def predict(
    call: Call,
    to: To,
    source: Source = None,
    version: Version = None,
    quarantine: Quarantine = None,
    replace: Replace = False,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
) -> None:
    """Score customers with the version in production, and write the scores to a store or a file."""
    from vehins import scoring

    settings = call.settings(source=source, registry=registry, model_name=model_name)
    take_interrupts()
    with call.terminal.live() as tell:
        done = scoring.score(settings, to, version=version, quarantine=quarantine, replace=replace, progress=tell)
    by, took = f"{done.model} version {done.version}", f"{done.seconds:.1f} s"
    rate = done.rows / max(done.seconds, 1e-9)
    call.terminal.say(
        f"Scored {done.scored:,} rows with {plain(by)} into {plain(done.target)} in {took} ({rate:,.0f} rows/s)"
    )
    if done.quarantine:
        call.terminal.say(f"Note: {done.set_aside:,} of {done.rows:,} rows were set aside: {plain(done.quarantine)}")
    call.terminal.data({**done._asdict(), "seconds": round(done.seconds, 3)})
