"""``vehins serve``: answer predictions over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command

if TYPE_CHECKING:
    from vehins.settings import Loaded

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on; 0 takes a free one.")]
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
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    print_unit: PrintUnit = False,
) -> None:
    """Load the version in production, verify it, and answer POST /v1/predict."""
    from vehins.serving.server import run

    loaded = call.load(serve__host=host, serve__port=port, registry=registry, model_name=model_name)
    if print_unit:
        _print_unit(call, loaded)
        return
    settings = loaded.settings
    if settings.serve.host not in {"127.0.0.1", "::1", "localhost"}:
        call.terminal.say("Note: whoever reaches this address can ask for predictions; there is no access control yet.")
    run(
        settings,
        lambda url: call.terminal.say(f"Serving {settings.model_name} ({settings.alias}) on {url}, try {url}/docs"),
    )


def _print_unit(call: Call, loaded: Loaded) -> None:
    from vehins.serving.unit import unit

    called = Path(sys.argv[0])
    is_module = called.name == "__main__.py" or not called.is_file()
    text = unit(loaded, [sys.executable, "-m", "vehins"] if is_module else [str(called.absolute())])
    call.terminal.out(text.rstrip("\n"))
    call.terminal.data({"unit": text})
