"""stdout is data, stderr is people: tables and progress on the one, one JSON object or plain lines on the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from vehins.artifacts.runs import StageRecord
    from vehins.errors import VehinsError

STYLES = {"ran": "green", "reused": "cyan", "refused": "yellow", "failed": "red", "skipped": "dim"}


class Terminal:
    """Where a command writes to."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet

    @cached_property
    def console(self) -> Console:
        """For people: stderr."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet, highlight=False, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print the object of ``--json``."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")

    def out(self, text: str) -> None:
        """Print a line of data, unless ``--json`` prints an object."""
        if not self.as_json:
            sys.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """Tell people something; rich's markup is understood."""
        self.console.print(text)

    def err(self, text: str) -> None:
        """Print as it is on stderr, whatever ``--quiet`` says."""
        sys.stderr.write(text.rstrip("\n") + "\n")

    def error(self, error: VehinsError) -> None:
        """Tell of an error: what happened, the value at fault, what mends it."""
        self.data({"error": error.as_dict()})
        self.err_lines(error)

    def err_lines(self, error: VehinsError) -> None:
        """The three lines of an error, for people."""
        self.err(f"Error: {error.headline}")
        for line in error.detail.splitlines():
            self.err(f"  {line}")
        if error.hint:
            self.err(f"  Try: {error.hint}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
        """Print a listing that was asked for: it is data, so it goes to stdout."""
        if self.as_json:
            return
        from rich.console import Console

        Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(make_table(columns, rows, title))

    def observer(self) -> TerminalObserver:
        """Who shows how a run is going."""
        return TerminalObserver(self)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> Any:
    """A plain table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    numbers = {"Seconds", "Rows", "Size", "Version", "AUC"}
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


class TerminalObserver:
    """Shows a run: a live line on a terminal, and a line per stage anywhere else."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._live = terminal.console.is_terminal and not terminal.quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def waiting(self, holder: str) -> None:
        """Say who holds the workspace."""
        self._terminal.say(f"Waiting for {_plain(holder)}")

    def note(self, text: str) -> None:
        """Say something worth a line."""
        self._terminal.say(f"Note: {_plain(text)}")

    def started(self, stage: str) -> None:
        """Begin a live line."""
        if not self._live:
            return
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<9}"),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns, console=self._terminal.console, transient=True)
        self._task = self._progress.add_task("", total=None, stage=stage)
        self._progress.start()

    def progress(self, text: str, done: float = 0, total: float | None = None) -> None:
        """Move the live line."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=_plain(text), completed=done, total=total)

    def ended(self, record: StageRecord) -> None:
        """End the live line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if not self._live and record.status != "skipped":
            seconds = f"{record.seconds:.1f} s"
            self._terminal.say(f"{record.stage:<9} {record.status:<7} {seconds:>8}  {_plain(record.reason)}")


def _plain(text: str) -> str:
    """Text in which nothing is markup."""
    from rich.markup import escape

    return escape(text)


plain = _plain
