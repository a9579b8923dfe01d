"""``vehins doctor``: check this installation and the way to each store, with the mend for what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, RegistryUrl, SchemaFile, Source, command
from vehins.cli.terminal import plain

if TYPE_CHECKING:
    from vehins.cli.terminal import Terminal
    from vehins.doctor.examination import Finding

Target = Annotated[str | None, typer.Option("--to", help="Address of a target, to check as well.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(doctor)


def doctor(
    call: Call, source: Source = None, registry: RegistryUrl = None, to: Target = None, schema: SchemaFile = None
) -> None:
    """Check this installation and the connections to source, registry and target; say how to mend each failure."""
    from vehins.doctor import installation, stores
    from vehins.doctor.examination import Subject, examine, exit_code

    settings = call.settings(source=source, registry=registry, schema_file=schema)
    subjects = [
        Subject(
            "installation", lambda: installation.checks(settings, call.config), installation.CHECKS, independent=True
        ),
        stores.source(settings),
        stores.registry(settings),
        *([stores.sink(to, settings)] if to else []),
    ]
    patience = settings.remote.connect_timeout + settings.remote.read_timeout
    with _live(call.terminal) as on_check:
        findings = list(examine(subjects, patience, on_check))
    code = exit_code(findings)
    call.terminal.table(("Of", "Check", "Verdict", "Found", "Mend"), _rows(findings))
    call.terminal.data({"checks": [finding.as_dict() for finding in findings], "ok": code == 0})
    if code:
        raise typer.Exit(code)


def _rows(findings: list[Finding]) -> Iterator[tuple[str, ...]]:
    """The findings; what they are of is named once."""
    before = ""
    for subject, check in findings:
        yield ("" if subject == before else subject, check.name, check.verdict, check.found, check.mend)
        before = subject


@contextmanager
def _live(terminal: Terminal) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being checked; slow stores take a while."""
    if not terminal.console.is_terminal or terminal.quiet:
        yield lambda _: None
        return
    with terminal.console.status("") as status:
        yield lambda text: status.update(f"Checking {plain(text)}")
