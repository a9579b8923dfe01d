"""The least that a Typer application with commands can be; its `--help` is what ours is measured against."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def hello() -> None:
    """Say hello."""


@app.command()
def bye() -> None:
    """Say good-bye."""


app()
