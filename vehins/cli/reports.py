"""How a run is told: one object, or tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vehins.artifacts.evaluation import EvaluationResult
from vehins.artifacts.manifest import Anomaly, Dataset, Evaluation, PushedModel, TrainedModel, Validation
from vehins.cli.command import program
from vehins.cli.terminal import STYLES, Terminal, make_table, plain
from vehins.data.parts import QUARANTINE_FILE
from vehins.errors import GateRefusedError, InterruptedRunError

if TYPE_CHECKING:
    from vehins.pipeline import Report
    from vehins.settings import Settings

_SHOWN_SHARE = 0.1


def show_stage(terminal: Terminal, report: Report) -> None:
    """Tell of a single stage; its manifest's path is the data."""
    terminal.data(report.as_dict())
    for record in report.stages:
        if record.manifest:
            terminal.out(record.manifest)
    _changes(terminal, report)
    _anomalies(terminal, report)
    _search(terminal, report)
    _judgement(terminal, report)
    _version(terminal, report)
    _end(terminal, report)


def show_chain(terminal: Terminal, report: Report, settings: Settings, command: str, where: str = "") -> None:
    """Tell of the whole chain; ``where`` has the options by which the next commands find what it made."""
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
    _changes(terminal, report)
    _anomalies(terminal, report)
    _search(terminal, report)
    _judgement(terminal, report)
    _version(terminal, report)
    if report.page is not None:
        terminal.say(f"Report    {plain(str(report.page))}")
    if report.error is None:
        _next_steps(terminal, report, settings, where)
    elif report.finished and not isinstance(report.error, (GateRefusedError, InterruptedRunError)):
        hint = f"{report.error.hint}\nThen go on, finished stages are kept: {command}"
        report.error.hint = hint.strip()
    _end(terminal, report)


def _changes(terminal: Terminal, report: Report) -> None:
    """What `--since` has read and what it has kept."""
    found = report.manifest(Dataset)
    changes = found.result.changes if found else None
    if changes is None:
        return
    if changes.reason:
        read = f"all rows read ({changes.reason})"
    else:
        read = f"read since {changes.field} {changes.since}, upon Dataset {changes.previous}"
    counts = f"{changes.new:,} rows new, {changes.changed:,} changed, {changes.kept:,} kept"
    terminal.say(f"Changes   {counts}; {plain(read)}")


def _anomalies(terminal: Terminal, report: Report) -> None:
    """What validation found wrong, and where the bad rows are."""
    found = report.manifest(Validation)
    if found is None or not found.result.anomalies:
        return
    rows = [
        (plain(a.column), plain(a.rule), f"{a.rows:,}", f"{a.share:.2%}", plain(_example(a)))
        for a in found.result.anomalies
    ]
    terminal.console.print(make_table(("Column", "Anomaly", "Rows", "Share", "For example"), rows))
    if found.result.quarantined_rows:
        place = report.artifacts[found.kind].path(QUARANTINE_FILE)
        terminal.say(f"Set aside {found.result.quarantined_rows:,} rows, each with its reasons: {plain(str(place))}")


def _example(anomaly: Anomaly) -> str:
    return f"{anomaly.examples[0].value} at {anomaly.examples[0].key}" if anomaly.examples else "-"


def _search(terminal: Terminal, report: Report) -> None:
    """What a search for settings has brought."""
    found = report.manifest(TrainedModel)
    if found is None or found.result.tuning is None:
        return
    tuned = found.result.tuning
    losses = f"log loss {tuned.first_log_loss:.5f} as it was, {tuned.log_loss:.5f} at best"
    terminal.say(f"Search    {tuned.trials:,} trials on {tuned.folds} folds of the train side: {losses}")


def _judgement(terminal: Terminal, report: Report) -> None:
    """What the evaluation found, rule by rule."""
    found = report.manifest(Evaluation)
    if found is None:
        return
    result, metrics = found.result, found.result.metrics
    interval = f"{result.confidence:.0%} interval {metrics.auc_low:.4f} to {metrics.auc_high:.4f}"
    terminal.say(f"Test AUC  {metrics.auc:.4f} ({interval}, {metrics.rows:,} customers)")
    _business(terminal, result)
    verdict = "[green]accepted[/]" if result.verdict == "accept" else "[yellow]refused[/]"
    overruled = f", overruled: {plain(result.approved)}" if result.approved else ""
    terminal.say(f"Gate      {verdict}{overruled}")
    for rule in result.rules:
        mark = "[green]pass[/]" if rule.verdict == "pass" else "[red]fail[/]"
        terminal.say(f"          {mark}  {plain(rule.sentence)}")


def _business(terminal: Terminal, result: EvaluationResult) -> None:
    """What a list of the best tenth catches, and what the calls bring."""
    tenth = next((gain for gain in result.gains if gain.share == _SHOWN_SHARE), None)
    if tenth is not None:
        text = f"{tenth.recall:.1%} of all responses, {tenth.lift:.1f} times as many as chance"
        terminal.say(f"Top {tenth.share:.0%}   {text}")
    if result.profit is not None:
        money = result.profit
        others = f"as many at random: {money.random.profit:,.0f}, everybody: {money.everybody.profit:,.0f}"
        calls = f"{money.model.customers:,.0f} calls (probability {money.cutoff:.4f} or more)"
        terminal.say(f"Profit    {money.model.profit:,.0f} from {calls}; {others}")


def _version(terminal: Terminal, report: Report) -> None:
    """Which version is registered, and whether this run made any difference."""
    found = report.manifest(PushedModel)
    if found is None:
        return
    pushed = found.result
    done = "registered and promoted" if pushed.registered else "promoted"
    done = done if report.stages[-1].status == "ran" and pushed.promoted else "in place already"
    place = plain(pushed.registry)
    terminal.say(f"Version   {plain(pushed.model)} {pushed.version} ({plain(pushed.alias)}), {done}, in {place}")


def _next_steps(terminal: Terminal, report: Report, settings: Settings, where: str) -> None:
    pushed = report.manifest(PushedModel)
    number = pushed.result.version if pushed else 1
    source = "customers.csv" if settings.source.startswith("demo:") else "newer.csv"
    steps = {
        "serve": "answer predictions over HTTP",
        f"models show {number}": "what is registered, and how good it is",
        f"pipeline run --source {source}": "your own customers",
    }
    commands = {f"{words} {where}".rstrip(): purpose for words, purpose in steps.items()}
    width = max(map(len, commands)) + 3
    terminal.say("\nNext:")
    for words, purpose in commands.items():
        terminal.say(f"  {plain(program())} {plain(words)}{' ' * (width - len(words))}{purpose}")


def _end(terminal: Terminal, report: Report) -> None:
    if report.error is not None:
        terminal.err_lines(report.error)
        raise typer.Exit(report.error.exit_code)
