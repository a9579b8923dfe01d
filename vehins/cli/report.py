"""``vehins report``: what a run came to, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, command
from vehins.cli.history import RunId

if TYPE_CHECKING:
    from vehins.cli.terminal import Terminal

Other = Annotated[
    str | None, typer.Option("--compare", metavar="RUN", help="Compare with another run: its id, or the beginning.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "report")(report)


def report(call: Call, run: RunId = None, compare: Other = None, open_: Open = False) -> None:
    """Write the report of a run, or of two side by side, as one HTML file; print where it is."""
    from vehins.artifacts import runs
    from vehins.artifacts.workspace import Workspace
    from vehins.report import files

    workspace = Workspace(call.settings().workspace)
    found = runs.find(workspace, run)
    other = None if compare is None else runs.find(workspace, compare)
    path = files.write(workspace, found) if other is None else files.compare(workspace, found, other)
    call.terminal.out(str(path))
    if open_:
        _open(call.terminal, path)
    call.terminal.data({"run": found.run, "compared_with": other.run if other else None, "report": str(path)})


def _open(terminal: Terminal, path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        terminal.say("Note: No browser could be opened here; open the file yourself.")
