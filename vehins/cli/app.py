"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

import vehins
from vehins.cli import (
    chain,
    cloud,
    config,
    doctor,
    gc,
    github,
    history,
    load,
    predict,
    promotion,
    report,
    serve,
    stages,
)

app = typer.Typer(
    name="vehins",
    help="From customer rows to a served model: whom should the sales team call first?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vehins {vehins.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From customer rows to a served model: whom should the sales team call first?"""


stages.register(app)
predict.register(app)
load.register(app)
serve.register(app)
report.register(app)
app.add_typer(chain.app, name="pipeline", help="The whole chain: run it, or see what would run.")
app.add_typer(history.runs, name="runs", help="Earlier runs: list, show and compare them.")
promotion.register(history.models)
app.add_typer(history.models, name="models", help="Registered models: list, show, promote and roll back.")
app.add_typer(config.app, name="config", help="Settings and schemas in force.")
app.add_typer(
    cloud.app, name="cloud", help="The stack in AWS: a bucket, an image registry, roles, and a box that serves."
)
gc.register(app)
github.register(app)
doctor.register(app)
