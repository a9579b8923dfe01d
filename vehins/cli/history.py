"""``vehins runs`` and ``vehins models``: what has been run, what is registered."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command

runs = typer.Typer(no_args_is_help=True)
models = typer.Typer(no_args_is_help=True)

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")]
RunId = Annotated[str | None, typer.Argument(help="The run, or the beginning of its id; the newest by default.")]
VersionNumber = Annotated[int | None, typer.Argument(help="The version; the one in production by default.")]


@command(runs, "list")
def list_runs(call: Call, limit: Limit = 20) -> None:
    """List the runs, the newest first."""
    from vehins.artifacts import runs as records
    from vehins.artifacts.workspace import Workspace

    found = records.listing(Workspace(call.settings().workspace))[:limit]
    rows = [
        (r.run, r.outcome, f"{r.started_at:%Y-%m-%d %H:%M:%S}", _seconds(r), _summary(r.stages), r.command)
        for r in found
    ]
    call.terminal.table(("Run", "Outcome", "Started (UTC)", "Seconds", "Stages", "Command"), rows)
    call.terminal.data({"runs": [r.model_dump(mode="json") for r in found]})


def _seconds(record: Any) -> str:
    return f"{(record.ended_at - record.started_at).total_seconds():.1f}" if record.ended_at else "-"


def _summary(stages: list[Any]) -> str:
    counts: dict[str, int] = {}
    for stage in stages:
        counts[stage.status] = counts.get(stage.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in counts.items())


@command(runs, "show")
def show_run(call: Call, run: RunId = None) -> None:
    """Show one run: what each stage did, and why."""
    from vehins.artifacts import runs as records
    from vehins.artifacts.workspace import Workspace

    found = records.find(Workspace(call.settings().workspace), run)
    call.terminal.out(f"Run {found.run}: {found.outcome}\n{found.command}")
    rows = [(s.stage, s.status, f"{s.seconds:.2f}", s.reason, s.artifact or "-") for s in found.stages]
    call.terminal.table(("Stage", "Status", "Seconds", "Why", "Artifact"), rows)
    call.terminal.data(found.model_dump(mode="json"))


@command(models, "list")
def list_models(call: Call, registry: RegistryUrl = None, model_name: ModelName = None) -> None:
    """List the registered versions, the newest first."""
    settings, found = _registry(call, registry, model_name)
    production = found.alias(settings.alias)
    versions = found.versions()[::-1]
    rows = [
        (
            v.version,
            settings.alias if production and production.version == v.version else "",
            f"{v.evaluation['auc']:.4f}",
            f"{v.created_at:%Y-%m-%d %H:%M:%S}",
            v.actor,
            v.approved or "",
        )
        for v in versions
    ]
    call.terminal.table(("Version", "Alias", "AUC", "Registered (UTC)", "By", "Overruled because"), rows)
    aliases = {settings.alias: production.version} if production else {}
    shown = [v.model_dump(mode="json") for v in versions]
    call.terminal.data({"model": settings.model_name, "aliases": aliases, "versions": shown})


@command(models, "show")
def show_model(
    call: Call, version: VersionNumber = None, registry: RegistryUrl = None, model_name: ModelName = None
) -> None:
    """Show one version: its metrics, where it came from, its files."""
    from vehins.errors import NotFoundError

    settings, models_of = _registry(call, registry, model_name)
    found = models_of.version(version) if version is not None else models_of.resolve(settings.alias)
    if found is None:
        detail = f"The registry {settings.registry_url} has no {settings.alias} of {settings.model_name}."
        raise NotFoundError("No model is in production", detail=detail, hint="Make one: `vehins pipeline run`.")
    call.terminal.out(f"{found.name} version {found.version}, registered {found.created_at:%Y-%m-%d %H:%M:%S} UTC")
    judged = f"judged against version {found.champion}" if found.champion else "the first of its registry"
    facts = [("bundle", found.bundle), ("champion", judged), ("by", found.actor)]
    facts += [("overruled because", found.approved)] if found.approved else []
    facts += [(kind, name) for kind, name in found.lineage.items()]
    facts += [(name, _number(value)) for name, value in found.evaluation.items()]
    facts += [(record.path, f"{record.bytes:,} bytes") for record in found.files]
    call.terminal.table(("What", "Value"), facts)
    call.terminal.data(found.model_dump(mode="json"))


def _number(value: Any) -> str:
    return f"{value:.5f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _registry(call: Call, url: str | None, name: str | None) -> tuple[Any, Any]:
    from vehins.registry.registry import Registry
    from vehins.registry.stores import open_store

    settings = call.settings(registry=url, model_name=name)
    return settings, Registry(open_store(settings.registry_url, settings.s3, settings.remote), settings.model_name)
