"""``vehins predict``: score customers in bulk, and write the scores where the sales team reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command, take_interrupts
from vehins.cli.terminal import plain

Source = Annotated[
    str | None,
    typer.Argument(help="Customer rows: a file, a folder, or the address of a store; else that of `source`."),
]
Output = Annotated[
    str | None, typer.Argument(help="File for the scores, written anew: its name ends in .csv or .parquet.")
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="Instead of OUTPUT: a store or a file whose rows are updated by key; docs/targets.md lists the forms.",
    ),
]
Reasons = Annotated[
    int,
    typer.Option(
        "--reasons", min=0, max=20, help="How many reasons to give for each score, strongest first, in words."
    ),
]
Top = Annotated[
    int | None,
    typer.Option("--top", min=1, help="Write only this many customers: those with the highest probability, ranked."),
]
Version = Annotated[
    int | None, typer.Option("--version", min=1, help="Version of the model; by default the one behind the alias.")
]
Quarantine = Annotated[
    Path | None,
    typer.Option(
        "--quarantine",
        metavar="FILE",
        help="File for the rows that cannot be scored, .csv or .parquet; by default in the workspace.",
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="With --to: replace all rows that are there.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(predict)


def predict(
    call: Call,
    source: Source = None,
    output: Output = None,
    to: To = None,
    reasons: Reasons = 0,
    top: Top = None,
    version: Version = None,
    quarantine: Quarantine = None,
    replace: Replace = False,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
) -> None:
    """Score customers with the version in production, and write the scores to a file or a store."""
    from vehins import scoring

    target = _target(output, to)
    settings = call.settings(source=source, registry=registry, model_name=model_name)
    wish = scoring.Wish(version, reasons, top, quarantine, replace or to is None)
    take_interrupts()
    with call.terminal.live() as tell:
        done = scoring.score(settings, target, wish, tell)
    by, took = f"{done.model} version {done.version}", f"{done.seconds:.1f} s"
    rate = done.rows / max(done.seconds, 1e-9)
    into = plain(done.target) if top is None else f"{plain(done.target)}: the best {done.written:,}"
    call.terminal.say(f"Scored {done.scored:,} rows with {plain(by)} into {into}, in {took} ({rate:,.0f} rows/s)")
    if done.quarantine:
        call.terminal.say(f"Note: {done.set_aside:,} of {done.rows:,} rows were set aside: {plain(done.quarantine)}")
    call.terminal.data({**done._asdict(), "seconds": round(done.seconds, 3)})


def _target(output: str | None, to: str | None) -> str:
    """Where the scores go: one of the two must be given."""
    from vehins.errors import UsageError
    from vehins.masking import masked_address

    if output is None and to is None:
        hint = "Name a file (`vehins predict customers.csv scores.csv`), or a store: `--to URL`."
        raise UsageError("It is not said where the scores go", detail="There is no OUTPUT and no --to.", hint=hint)
    if output is None or to is None:
        if output is not None and "://" in output.removeprefix("file://"):
            detail, hint = f"OUTPUT is {masked_address(output)}.", "Name a store by `--to URL`."
            raise UsageError("OUTPUT is a file on this machine", detail=detail, hint=hint)
        return str(output or to)
    detail = f"OUTPUT is {masked_address(output)}, and --to is {masked_address(to)}."
    raise UsageError("The scores go to one place", detail=detail, hint="Give OUTPUT or --to, not both.")
