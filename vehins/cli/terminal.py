"""stdout is data, stderr is people: tables and progress on the one, one JSON object or plain lines on the other."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from vehins.artifacts.runs import StageRecord
    from vehins.errors import VehinsError

STYLES = {"ran": "green", "reused": "cyan", "refused": "yellow", "failed": "red", "skipped": "dim"}


class Terminal:
    """Where a command writes to."""

    def __init__(self, *, as_json: bool, quiet: bool, debug: bool = False) -> None:
        self.as_json, self.quiet, self.debug = as_json, quiet, debug

    @cached_property
    def console(self) -> Console:
        """For people: stderr."""
        return _console(stderr=True, quiet=self.quiet, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print the object of ``--json``."""
        if self.as_json:
            ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
            _print(json.dumps(value, indent=2, ensure_ascii=ascii_only, default=str) + "\n", sys.stdout)

    def out(self, text: str) -> None:
        """Print a line of data, unless ``--json`` prints an object."""
        if not self.as_json:
            _print(text + "\n", sys.stdout)

    def say(self, text: str) -> None:
        """Tell people something; rich's markup is understood."""
        self.console.print(text)

    def line(self, text: str) -> None:
        """Tell people something in which nothing is markup, without rich: its import would hold up a service."""
        if not self.quiet:
            self.err(text)

    def err(self, text: str) -> None:
        """Print on stderr, whatever ``--quiet`` says."""
        _print(_visible(text.rstrip("\n")) + "\n", sys.stderr)

    def error(self, error: VehinsError) -> None:
        """Tell of an error: what happened, the value at fault, what mends it."""
        self.data({"error": error.as_dict()})
        self.err_lines(error)

    def err_lines(self, error: VehinsError) -> None:
        """The three lines of an error, for people; with ``--debug``, where it came from."""
        if self.debug:
            self.err(_traceback(error))
        lines = [f"Error: {error.headline}", *error.detail.splitlines()]
        if error.hint:
            lines += f"Try: {error.hint}".splitlines()
        self.err("\n  ".join(lines))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
        """Print a listing that was asked for: it is data, so it goes to stdout."""
        if self.as_json:
            return
        shown = make_table(columns, [[plain(cell) for cell in row] for row in rows], plain(title))
        _console(width=None if sys.stdout.isatty() else 160).print(shown)

    @contextmanager
    def live(self) -> Iterator[Callable[[str], None]]:
        """A line on a terminal that says what goes on; nobody is told anywhere else."""
        if not self.console.is_terminal or self.quiet:
            yield lambda _: None
            return
        with self.console.status("") as status:
            yield lambda text: status.update(plain(text))

    def observer(self) -> TerminalObserver:
        """Who shows how a run is going."""
        return TerminalObserver(self)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> Any:
    """A plain table for a terminal; rich's markup is understood."""
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
        self._terminal.say(f"Waiting for {plain(holder)}")

    def note(self, text: str) -> None:
        """Say something worth a line."""
        self._terminal.say(f"Note: {plain(text)}")

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
            self._progress.update(self._task, description=plain(text), completed=done, total=total)

    def ended(self, record: StageRecord) -> None:
        """End the live line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if not self._live and record.status != "skipped":
            seconds = f"{record.seconds:.1f} s"
            self._terminal.say(f"{record.stage:<9} {record.status:<7} {seconds:>8}  {plain(record.reason)}")


def plain(value: object) -> str:
    """A value as text in which nothing is markup."""
    from rich.markup import escape

    return escape(_visible(str(value)))


def _traceback(error: VehinsError) -> str:
    import traceback

    from vehins.masking import redacted

    return redacted("".join(traceback.format_exception(error)))


def _visible(text: str) -> str:
    """Text that cannot steer a terminal, whatever a file or a server has put into it."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def open_streams() -> None:
    """Let stdout print, in whatever encoding it has, what that encoding lacks (stderr does so by itself)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def close_streams() -> None:
    """Write what is still held back; a reader that has gone away (``| head``) is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _forget_reader(stream)


def _print(text: str, stream: TextIO) -> None:
    try:
        stream.write(text)
    except BrokenPipeError:
        _forget_reader(stream)


def _console(**options: Any) -> Console:
    from rich.console import Console

    console = Console(highlight=False, **options)
    # A reader that has gone away is no reason to end a run; rich would.
    vars(console)["on_broken_pipe"] = lambda: _forget_reader(sys.stderr if console.stderr else sys.stdout)
    return console


def _forget_reader(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
