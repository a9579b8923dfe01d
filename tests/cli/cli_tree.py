"""The tree of commands as typer builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vehins.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("ingest", "validate", "transform", "train", "evaluate", "push")


def commands() -> dict[str, Any]:
    """Every command that does something, by what one types."""
    return dict(_walk(typer.main.get_command(app), ()))


def _walk(group: Any, above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


COMMANDS = sorted(commands())
