"""How a run is told: one object, or tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vehins.artifacts.manifest import Evaluation, PushedModel
from vehins.cli.terminal import STYLES, Terminal, make_table, plain

if TYPE_CHECKING:
    from vehins.pipeline import Report
    from vehins.settings import Settings


def show_stage(terminal: Terminal, report: Report) -> None:
    """Tell of a single stage; its manifest's path is the data."""
    terminal.data(report.as_dict())
    for record in report.stages:
        if record.manifest:
            terminal.out(record.manifest)
    _end(terminal, report)


def show_chain(terminal: Terminal, report: Report, settings: Settings, command: str) -> None:
    """Tell of the whole chain."""
    terminal.data(report.as_dict())
    if report.stages:
        rows = [
            (
                r.stage,
                f"[{STYLES[r.status]}]{r.status}[/]",
                f"{r.seconds:.2f}",
                plain(r.artifact or r.reason),
            )
            for r in report.stages
        ]
        terminal.console.print(make_table(("Stage", "Status", "Seconds", "Artifact"), rows))
    _sentences(terminal, report)
    if report.error is None:
        _next_steps(terminal, report, settings)
    elif report.error.exit_code not in {4, 5}:
        report.error.hint = f"{report.error.hint}\nResume, finished stages are kept: {command}".strip()
    _end(terminal, report)


def _sentences(terminal: Terminal, report: Report) -> None:
    shown = report.as_dict()
    evaluation, gate = shown["evaluation"], shown["gate"]
    if evaluation is None:
        return
    artifact = report.artifacts[Evaluation.__name__].manifest
    assert isinstance(artifact, Evaluation)  # noqa: S101 - narrows the type
    confidence = f"{artifact.result.confidence:.0%}"
    interval = f"{confidence} interval {evaluation['auc_low']:.4f} to {evaluation['auc_high']:.4f}"
    terminal.say(f"Test AUC  {evaluation['auc']:.4f} ({interval}, {evaluation['rows']:,} customers)")
    verdict = "[green]accepted[/]" if gate["verdict"] == "accept" else "[yellow]refused[/]"
    overruled = f", overruled: {plain(gate['approved'])}" if gate["approved"] else ""
    terminal.say(f"Gate      {verdict}{overruled}")
    for rule in gate["rules"]:
        mark = "[green]pass[/]" if rule["verdict"] == "pass" else "[red]fail[/]"
        terminal.say(f"          {mark}  {plain(rule['sentence'])}")


def _next_steps(terminal: Terminal, report: Report, settings: Settings) -> None:
    artifact = report.artifacts[PushedModel.__name__].manifest
    assert isinstance(artifact, PushedModel)  # noqa: S101 - narrows the type
    pushed = artifact.result
    done = "registered and promoted" if report.stages[-1].status == "ran" and pushed.promoted else "in place already"
    terminal.say(f"Version   {pushed.model} {pushed.version} ({pushed.alias}), {done}, in {plain(pushed.registry)}")
    source = "customers.csv" if settings.source.startswith("demo:") else "newer.csv"
    terminal.say("")
    terminal.say("Next:")
    terminal.say("  vehins serve                                 answer predictions over HTTP")
    terminal.say(f"  vehins models show {pushed.version:<26}what is registered, and how good it is")
    terminal.say(f"  vehins pipeline run --source {source:<16}your own customers")


def _end(terminal: Terminal, report: Report) -> None:
    if report.error is not None:
        terminal.err_lines(report.error)
        raise typer.Exit(report.error.exit_code)
