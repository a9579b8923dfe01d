"""The terminal: parse, call, render. The only place that prints.

Nothing here imports more than typer before a command runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import json
import sys

import typer

from vehins.cli.app import app


def main() -> None:
    """Entry point of the command ``vehins``."""
    arguments = _with_stage_of_force(sys.argv[1:])
    if "--json" not in arguments:
        app(arguments)
        return
    try:
        code = app(arguments, standalone_mode=False)
    except typer.TyperException as error:
        code = getattr(error, "exit_code", 2)
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        hint = "`vehins COMMAND --help` lists its options."
        found = {"headline": message, "detail": "The command line makes no sense.", "hint": hint, "exit_code": code}
        sys.stdout.write(json.dumps({"error": found}) + "\n")
    sys.exit(code)


def _with_stage_of_force(arguments: list[str]) -> list[str]:
    """Let ``--force`` of the chain stand alone, where it means every stage."""
    if arguments[:1] != ["pipeline"]:
        return arguments
    completed = []
    for position, argument in enumerate(arguments):
        completed.append(argument)
        following = arguments[position + 1 : position + 2]
        if argument == "--force" and (not following or following[0].startswith("-")):
            completed.append("all")
    return completed
