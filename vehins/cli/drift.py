"""``vehins validate --source``: whether the rows of today are still those that the model was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vehins.cli.command import Call, take_interrupts
from vehins.cli.terminal import plain

if TYPE_CHECKING:
    from pathlib import Path

    from vehins.artifacts.drift import ColumnDrift
    from vehins.monitoring import Watched


def show(call: Call, manifest: Path | None, **flags: str | None) -> None:
    """Print the drift of each column; exit as for bad data when one has drifted too far."""
    from vehins import monitoring
    from vehins.errors import UsageError

    if manifest is not None:
        hint = "Leave out --input: rows of a source are compared as they are."
        raise UsageError("--source and --input are two things to look at", detail=f"--input is {manifest}.", hint=hint)
    settings = call.settings(**flags)
    take_interrupts()
    with call.terminal.live() as tell:
        found = monitoring.watch(settings, tell)
    call.terminal.data(_data(found))
    _tell(call, found)
    if found.refusal is not None:
        call.terminal.err_lines(found.refusal)
        raise typer.Exit(found.refusal.exit_code)


def _data(found: Watched) -> dict[str, Any]:
    refusal = found.refusal
    return {
        "source": found.source,
        "model": found.model,
        "rows": found.rows,
        "left_out": found.left_out,
        "anomalies": [anomaly.model_dump(mode="json") for anomaly in found.anomalies],
        "drift": found.drift.model_dump(mode="json"),
        "max_drift": found.max_drift,
        "verdict": "accept" if refusal is None else "refuse",
        **({} if refusal is None else {"error": refusal.as_dict()}),
    }


def _tell(call: Call, found: Watched) -> None:
    from vehins.report.drift import judged

    drift = found.drift
    rows = [
        (
            column.column,
            column.role,
            f"{column.psi:.4f}",
            f"{found.allowed(column):.4f}",
            judged(column),
            _moved(column),
        )
        for column in drift.columns
        if column.psi is not None
    ]
    call.terminal.table(("Column", "Role", "PSI", "Allowed", "In words", "What moved most"), rows)
    against = f"the {drift.reference_rows:,} training rows of version {drift.version}" if drift.reference_rows else ""
    call.terminal.say(f"{drift.rows:,} rows of {plain(found.source)} against {against or 'nothing'}")
    for anomaly in found.anomalies:
        expected = f"expected {anomaly.expected}"
        call.terminal.say(f"Left out  {anomaly.rows:,} rows, {plain(f'{anomaly.column}: {anomaly.rule}, {expected}')}")


def _moved(column: ColumnDrift) -> str:
    """The bin whose share has changed the most."""
    if not column.bins:
        return ""
    one = max(column.bins, key=lambda found: abs(found.actual - found.expected))
    return f"{one.label}: {one.expected:.1%} to {one.actual:.1%}"
