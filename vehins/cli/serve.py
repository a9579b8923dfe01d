"""``vehins serve``: answer predictions over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on; 0 takes a free one.")]
AllowAnonymous = Annotated[
    bool | None, typer.Option("--allow-anonymous", help="Answer others than this machine without an API key.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(serve)


def serve(
    call: Call,
    host: Host = None,
    port: Port = None,
    allow_anonymous: AllowAnonymous = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
) -> None:
    """Load the version in production, verify it, and answer POST /v1/predict.

    Beyond this machine a client needs an API key: `VEHINS_API_KEYS=$(openssl rand -hex 32)`.
    """
    from vehins.serving.server import run

    settings = call.settings(
        serve__host=host,
        serve__port=port,
        serve__allow_anonymous=allow_anonymous,
        registry=registry,
        model_name=model_name,
    )
    run(
        settings,
        lambda url: call.terminal.say(f"Serving {settings.model_name} ({settings.alias}) on {url}, try {url}/docs"),
    )
