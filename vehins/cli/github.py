"""``vehins github``: a stage as a step of a GitHub workflow.

What a runner understands: annotations are lines on its terminal (``::error title=...::...``), outputs are lines in the
file that ``GITHUB_OUTPUT`` names, and what goes to the file of ``GITHUB_STEP_SUMMARY`` is shown on the job's page.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, InputManifest, command
from vehins.cli.stages import Force, execute_stage

if TYPE_CHECKING:
    from vehins.artifacts.runs import StageRecord
    from vehins.cli.terminal import Terminal
    from vehins.errors import VehinsError
    from vehins.pipeline import Report
    from vehins.settings import Settings


class StageName(StrEnum):
    """What may be a step."""

    INGEST = "ingest"
    VALIDATE = "validate"
    TRANSFORM = "transform"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PUSH = "push"


Name = Annotated[StageName, typer.Argument(help="The stage; its options are settings here (`--set`, environment).")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "github")(github)


def github(call: Call, stage: Name, input_manifest: InputManifest = None, force: Force = False) -> None:
    """Run one stage as a step of a GitHub workflow: a summary, outputs, annotations; a refusal is no failure."""
    from vehins.cli import reports
    from vehins.errors import GateRefusedError, VehinsError

    terminal, error = call.terminal, None
    with _commands_stopped(terminal, when=not terminal.quiet):
        try:
            settings = call.settings()
            report = execute_stage(call, settings, stage.value, input_manifest, force)
            error = report.error
            summary, outputs = _summary(settings, report), _outputs(report)
            with _commands_stopped(terminal, when=terminal.quiet and error is not None), suppress(typer.Exit):
                reports.show_stage(terminal, report)
        except VehinsError as before:
            error = before
            summary = f"### {stage.value}: failed\n\n{_told(error)}"
            outputs = {"exit-code": error.exit_code, "status": "failed"}
            with _commands_stopped(terminal, when=terminal.quiet):
                terminal.error(error)
    _append("GITHUB_STEP_SUMMARY", summary.rstrip("\n") + "\n\n")
    _append("GITHUB_OUTPUT", "".join(f"{name}={_line(value)}\n" for name, value in outputs.items()))
    if error is not None:
        _annotate(terminal, error)
        if not isinstance(error, GateRefusedError):
            raise typer.Exit(error.exit_code)


def _summary(settings: Settings, report: Report) -> str:
    """A heading for the stage, and below it what it says to people."""
    from vehins.report.markdown import escaped

    lines = [f"### {record.stage}: {record.status}\n\n{escaped(_came_to(record))}\n" for record in report.stages]
    if report.error is not None:
        lines.append(_told(report.error))
    return "\n".join([*lines, _judged(settings, report)])


def _came_to(record: StageRecord) -> str:
    made = f"`{record.artifact}`, " if record.artifact else ""
    return f"{made}{record.seconds:.1f} s: {record.reason}"


def _told(error: VehinsError) -> str:
    """The three lines of an error."""
    from vehins.report.markdown import escaped

    lines = [
        f"**{escaped(error.headline)}**",
        escaped(error.detail),
        f"Try: {escaped(error.hint)}" if error.hint else "",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _judged(settings: Settings, report: Report) -> str:
    """The verdict in plain words, and the rules where the gate has judged."""
    from vehins.artifacts import runs
    from vehins.artifacts.manifest import Evaluation, PushedModel
    from vehins.artifacts.workspace import Workspace
    from vehins.report import markdown, story

    if report.manifest(Evaluation) is None and report.manifest(PushedModel) is None:
        return ""
    workspace = Workspace(settings.workspace)
    found = story.of_run(workspace, runs.find(workspace, report.run))
    return markdown.outcome(found) if report.manifest(Evaluation) is None else markdown.of_run(found)


def _outputs(report: Report) -> dict[str, object]:
    """What later steps need to know."""
    from vehins.artifacts.manifest import Evaluation, PushedModel

    found: dict[str, object] = {"exit-code": report.error.exit_code if report.error else 0}
    for record in report.stages:
        found |= {"status": record.status, "manifest": record.manifest or ""}
    judged, pushed = report.manifest(Evaluation), report.manifest(PushedModel)
    if judged is not None:
        found["verdict"] = judged.result.verdict
    if pushed is not None:
        found["version"] = pushed.result.version
    return found


def _annotate(terminal: Terminal, error: VehinsError) -> None:
    """What happened, what is at fault and what mends it, on top of the job's page; a refusal is a notice there."""
    from vehins.errors import GateRefusedError

    kind = "notice" if isinstance(error, GateRefusedError) else "error"
    text = "\n".join(filter(None, [error.detail, f"Try: {error.hint}" if error.hint else ""])) or error.headline
    title = _quoted(error.headline).replace(":", "%3A").replace(",", "%2C")
    terminal.err(f"::{kind} title={title}::{_quoted(text)}")


def _quoted(text: str) -> str:
    """A text as the value of a runner's command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


@contextmanager
def _commands_stopped(terminal: Terminal, *, when: bool) -> Iterator[None]:
    """Let no line that a stage prints be a command to the runner: what it prints may quote customers' rows."""
    token = secrets.token_hex(16)
    if when:
        terminal.err(f"::stop-commands::{token}")
    try:
        yield
    finally:
        if when:
            terminal.err(f"::{token}::")


def _line(value: object) -> str:
    """A value as the file of outputs takes it."""
    return " ".join(str(value).splitlines())


def _append(variable: str, text: str) -> None:
    """Write to the file that a runner's variable names; elsewhere there is none."""
    path = os.environ.get(variable)
    if path:
        with Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
