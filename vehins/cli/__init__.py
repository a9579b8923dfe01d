"""The terminal: parse, call, render. The only place that prints.

Nothing here imports more than typer before a command runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from vehins.cli.app import app
from vehins.cli.terminal import Terminal, close_streams, open_streams
from vehins.masking import masked_words


def main() -> None:
    """Entry point of the command ``vehins``."""
    _hide_passwords()
    # Looking for plugins of pydantic reads the metadata of every installed package, at each call of a command.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    open_streams()
    arguments = _with_stage_of_force(sys.argv[1:])
    try:
        code = app(arguments, prog_name="vehins", standalone_mode=False)
    except typer.TyperException as error:
        code = _misused(error, as_json="--json" in arguments)
    close_streams()
    sys.exit(code)


def _hide_passwords() -> None:
    """Where the command line has a password, let `ps` show it masked: everybody on the machine can read it there."""
    hidden = masked_words(sys.argv[1:])
    if hidden == sys.argv[1:]:
        return
    import setproctitle

    setproctitle.setproctitle(" ".join(["vehins", *hidden]))


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


def _misused(error: Any, *, as_json: bool) -> int:
    """Tell of a command line that makes no sense, in the form of every other error."""
    from vehins.errors import UsageError
    from vehins.masking import redacted

    message = redacted(error.format_message().strip().rstrip("."))
    if message:  # without one, the help that was asked for has been printed
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "vehins"
        wrong = UsageError(message, hint=f"`{command} --help` shows how it is used.")
        Terminal(as_json=as_json, quiet=False).error(wrong)
    return UsageError.exit_code
