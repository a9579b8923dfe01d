"""``vehins serve``: answer predictions over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on; 0 takes a free one.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(serve)


def serve(
    call: Call, host: Host = None, port: Port = None, registry: RegistryUrl = None, model_name: ModelName = None
) -> None:
    """Load the version in production, verify it, and answer POST /v1/predict."""
    from vehins.serving.server import run

    settings = call.settings(serve__host=host, serve__port=port, registry=registry, model_name=model_name)
    if settings.serve.host not in {"127.0.0.1", "::1", "localhost"}:
        call.terminal.say("Note: whoever reaches this address can ask for predictions; there is no access control yet.")
    run(
        settings,
        lambda url: call.terminal.say(f"Serving {settings.model_name} ({settings.alias}) on {url}, try {url}/docs"),
    )
