"""``vehins pipeline run`` and ``vehins pipeline plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from vehins.cli.command import (
    Approve,
    Call,
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

app = typer.Typer(no_args_is_help=True)

Forced = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="[STAGE]", help="Run this stage even if nothing has changed; alone, every stage."),
]


@command(app)
def run(
    call: Call,
    source: Source = None,
    query: Query = None,
    since: Since = None,
    schema: SchemaFile = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    approve: Approve = None,
    seeds: Seeds = None,
    tune: Tune = None,
    force: Forced = None,
) -> None:
    """Run all stages, from customer rows to a registered model; what has not changed is reused."""
    from vehins.cli import reports
    from vehins.pipeline import STAGES, execute

    settings = call.settings(
        source=source,
        ingest__query=query,
        ingest__since=since,
        schema_file=schema,
        registry=registry,
        model_name=model_name,
        gate__approve=approve,
        train__seeds=seeds,
        train__tune_minutes=tune,
    )
    forced = _stages(force)
    take_interrupts()
    report = execute(settings, STAGES, call.terminal.observer(), command=command_line(), force=forced, write_page=True)
    where = call.whereabouts(registry=registry, model_name=model_name)
    reports.show_chain(call.terminal, report, settings, command_line(), where)


@command(app)
def plan(
    call: Call,
    source: Source = None,
    query: Query = None,
    since: Since = None,
    schema: SchemaFile = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
    approve: Approve = None,
    seeds: Seeds = None,
    tune: Tune = None,
    force: Forced = None,
) -> None:
    """Show what `run` would run or reuse, and why; nothing is run."""
    from vehins.pipeline import plan as make_plan

    settings = call.settings(
        source=source,
        ingest__query=query,
        ingest__since=since,
        schema_file=schema,
        registry=registry,
        model_name=model_name,
        gate__approve=approve,
        train__seeds=seeds,
        train__tune_minutes=tune,
    )
    planned = make_plan(settings, _stages(force))
    call.terminal.table(("Stage", "Action", "Why"), [(p.stage, p.action, p.reason) for p in planned])
    call.terminal.data({"stages": [p.__dict__ for p in planned]})


def _stages(force: list[str] | None) -> list[str]:
    """Names of the stages to force."""
    from vehins.errors import UsageError
    from vehins.pipeline import STAGES

    names = [stage.name for stage in STAGES]
    unknown = [name for name in force or [] if name not in {*names, "all"}]
    if unknown:
        hint = f"Name one of {', '.join(names)}, or write `--force` alone for all."
        raise UsageError(f"There is no stage {unknown[0]}", hint=hint)
    return names if "all" in (force or []) else list(force or [])
