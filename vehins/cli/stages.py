"""One command per stage: ``vehins ingest`` to ``vehins push``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vehins.cli.command import (
    Approve,
    Call,
    InputManifest,
    ModelName,
    Query,
    RegistryUrl,
    SchemaFile,
    Seeds,
    Since,
    Source,
    Tune,
    command,
    command_line,
    take_interrupts,
)

if TYPE_CHECKING:
    from vehins.pipeline import Report
    from vehins.settings import Settings

LiveSource = Annotated[
    str | None,
    typer.Option(
        "--source",
        "-s",
        metavar="SOURCE",
        help="Instead of a Dataset: rows of today, such as the folder of a prediction log; nothing is written.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run, even if nothing has changed.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (ingest, validate, transform, train, evaluate, push):
        command(app)(function)


def ingest(
    call: Call,
    source: Source = None,
    query: Query = None,
    since: Since = None,
    schema: SchemaFile = None,
    force: Force = False,
) -> None:
    """Read customer rows into a Dataset, typed and split."""
    flags = {"source": source, "ingest__query": query, "ingest__since": since, "schema_file": schema}
    _run(call, "ingest", None, force, **flags)


def validate(
    call: Call,
    input_manifest: InputManifest = None,
    source: LiveSource = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    force: Force = False,
) -> None:
    """Check a Dataset against its schema, set bad rows aside, measure drift from the champion's training rows.

    With --source, compare live rows and their scores with those that the model in production was trained on.
    """
    if source is not None:
        from vehins.cli import drift

        drift.show(call, input_manifest, source=source, registry=registry, model_name=model_name)
        return
    _run(call, "validate", input_manifest, force, registry=registry, model_name=model_name)


def transform(call: Call, input_manifest: InputManifest = None, force: Force = False) -> None:
    """Fit the encoder on the train side and encode the rows."""
    _run(call, "transform", input_manifest, force)


def train(
    call: Call, input_manifest: InputManifest = None, seeds: Seeds = None, tune: Tune = None, force: Force = False
) -> None:
    """Fit LightGBM and write the model bundle."""
    _run(call, "train", input_manifest, force, train__seeds=seeds, train__tune_minutes=tune)


def evaluate(
    call: Call,
    input_manifest: InputManifest = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    approve: Approve = None,
    force: Force = False,
) -> None:
    """Judge a TrainedModel on the test side, beside the champion."""
    _run(call, "evaluate", input_manifest, force, registry=registry, model_name=model_name, gate__approve=approve)


def push(
    call: Call,
    input_manifest: InputManifest = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    force: Force = False,
) -> None:
    """Register an accepted model as a version, and promote it."""
    _run(call, "push", input_manifest, force, registry=registry, model_name=model_name)


def _run(call: Call, name: str, manifest: Path | None, force: bool, **flags: Any) -> None:
    from vehins.cli import reports

    reports.show_stage(call.terminal, execute_stage(call, call.settings(**flags), name, manifest, force))


def execute_stage(call: Call, settings: Settings, name: str, manifest: Path | None, force: bool) -> Report:
    """Run one stage; who is at the terminal sees how it goes."""
    from vehins.pipeline import STAGES, execute

    stage = next(stage for stage in STAGES if stage.name == name)
    take_interrupts()
    return execute(
        settings,
        [stage],
        call.terminal.observer(),
        command=command_line(),
        force=[name] if force else [],
        input_manifest=manifest,
    )
