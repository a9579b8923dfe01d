"""``vehins serve``: answer predictions over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command

if TYPE_CHECKING:
    from vehins.settings import Loaded, Settings

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on; 0 takes a free one.")]
Version = Annotated[int | None, typer.Option("--version", help="Serve this version, wherever the alias points.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes that serve.")]
AllowAnonymous = Annotated[
    bool | None, typer.Option("--allow-anonymous", help="Answer others than this machine without an API key.")
]
PrintUnit = Annotated[
    bool, typer.Option("--print-unit", help="Print a systemd unit for these settings on stdout, and serve nothing.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(serve)


def serve(
    call: Call,
    host: Host = None,
    port: Port = None,
    version: Version = None,
    workers: Workers = None,
    allow_anonymous: AllowAnonymous = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    print_unit: PrintUnit = False,
) -> None:
    """Answer POST /v1/predict with the version in production, and change to the next one when it is promoted.

    Beyond this machine a client needs an API key: `VEHINS_API_KEYS=$(openssl rand -hex 32)`.
    """
    from vehins.serving import garbage

    with garbage.at_rest():
        loaded = call.load(
            serve__host=host,
            serve__port=port,
            serve__version=version,
            serve__workers=workers,
            serve__allow_anonymous=allow_anonymous,
            registry=registry,
            model_name=model_name,
        )
        if print_unit:
            _print_unit(call, loaded)
        else:
            _serve(call, loaded.settings)


def _serve(call: Call, settings: Settings) -> None:
    from vehins.serving.server import run

    chosen = settings.alias if settings.serve.version is None else f"version {settings.serve.version}"
    count = f" with {settings.serve.workers} workers" if settings.serve.workers > 1 else ""
    run(
        settings,
        lambda url: call.terminal.line(f"Serving {settings.model_name} ({chosen}) on {url}{count}, try {url}/docs"),
    )


def _print_unit(call: Call, loaded: Loaded) -> None:
    from vehins.serving.unit import unit

    called = Path(sys.argv[0])
    is_module = called.name == "__main__.py" or not called.is_file()
    text = unit(loaded, [sys.executable, "-m", "vehins"] if is_module else [str(called.absolute())])
    call.terminal.out(text.rstrip("\n"))
    call.terminal.data({"unit": text})
