"""``vehins runs`` and ``vehins models``: what has been run, what is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command

if TYPE_CHECKING:
    from vehins.registry.registry import Registry
    from vehins.settings import Settings

runs = typer.Typer(no_args_is_help=True)
models = typer.Typer(no_args_is_help=True)

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")]
_RUN = "the beginning of its id, or last, last-1, ..."
RunId = Annotated[str | None, typer.Argument(help=f"The run: {_RUN}; the newest by default.")]
FirstRun = Annotated[str, typer.Argument(metavar="A", help=f"The first run: {_RUN}; by default the last but one.")]
SecondRun = Annotated[str, typer.Argument(metavar="B", help=f"The second run: {_RUN}; by default the last.")]
VersionNumber = Annotated[int | None, typer.Argument(help="The version; the one of the alias by default.")]
Alias = Annotated[str | None, typer.Option("--alias", help="Name of the alias; that of the settings by default.")]


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


@command(runs, "diff")
def diff_runs(call: Call, a: FirstRun = "last-1", b: SecondRun = "last") -> None:
    """Compare two runs: which stage made something else and why, and what differs in settings, data and metrics."""
    from vehins.artifacts import runs as records
    from vehins.artifacts.comparison import compare
    from vehins.artifacts.workspace import Workspace

    workspace = Workspace(call.settings().workspace)
    first, second = records.find(workspace, a), records.find(workspace, b)
    found = compare(workspace, first, second)
    for name, run in (("A", first), ("B", second)):
        call.terminal.out(f"{name}: run {run.run}, {run.outcome}: {run.command}")
    stages = [(s.stage, s.a or "-", s.b or "-", s.change, "; ".join(s.reasons)) for s in found.stages]
    call.terminal.table(("Stage", "A", "B", "Change", "Why"), stages)
    for title, differences in (("Setting", found.settings), ("Data", found.data)):
        if differences:
            call.terminal.table((title, "A", "B"), [(d.name, _number(d.a), _number(d.b)) for d in differences])
    if found.metrics:
        rows = [(m.name, _number(m.a), _number(m.b), _signed(m.difference)) for m in found.metrics]
        call.terminal.table(("Metric", "A", "B", "B - A"), rows)
    call.terminal.data(found.model_dump(mode="json"))


def _signed(difference: float | None) -> str:
    if difference is None:
        return ""
    return "=" if difference == 0 else f"{difference:+,}" if isinstance(difference, int) else f"{difference:+.5f}"


@command(models, "list")
def list_models(call: Call, registry: RegistryUrl = None, model_name: ModelName = None) -> None:
    """List the registered versions, the newest first."""
    settings, found = open_registry(call, registry, model_name)
    aliases = found.aliases()
    versions = found.versions()[::-1]
    rows = [
        (
            v.version,
            ", ".join(name for name, version in aliases.items() if version == v.version),
            _number(v.evaluation.get("auc", "-")),
            f"{v.created_at:%Y-%m-%d %H:%M:%S}",
            v.actor,
            v.approved or "",
        )
        for v in versions
    ]
    if not versions:
        call.terminal.say(f"No version of {settings.model_name} is registered yet; `vehins pipeline run` makes one.")
    call.terminal.table(("Version", "Alias", "AUC", "Registered (UTC)", "By", "Overruled because"), rows)
    shown = [v.model_dump(mode="json") for v in versions]
    call.terminal.data({"model": settings.model_name, "aliases": aliases, "versions": shown})


@command(models, "show")
def show_model(
    call: Call,
    version: VersionNumber = None,
    alias: Alias = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
) -> None:
    """Show one version: its metrics, where it came from, its files."""
    from vehins.errors import NotFoundError
    from vehins.masking import masked

    settings, models_of = open_registry(call, registry, model_name, alias)
    found = models_of.version(version) if version is not None else models_of.resolve(settings.alias)
    if found is None:
        detail = f"The registry {masked(settings.registry_url)} has no {settings.alias} of {settings.model_name}."
        headline = f"No model is in {settings.alias}"
        raise NotFoundError(headline, detail=detail, hint="Make one: `vehins pipeline run`.")
    call.terminal.out(f"{found.name} version {found.version}, registered {found.created_at:%Y-%m-%d %H:%M:%S} UTC")
    judged = f"judged against version {found.champion}" if found.champion else "the first of its registry"
    facts = [("bundle", found.bundle), ("champion", judged), ("by", found.actor)]
    facts += [("alias", name) for name, number in models_of.aliases().items() if number == found.version]
    facts += [("overruled because", found.approved)] if found.approved else []
    facts += [(kind, name) for kind, name in found.lineage.items()]
    facts += [(name, _number(value)) for name, value in found.evaluation.items()]
    facts += [(record.path, f"{record.bytes:,} bytes") for record in found.files]
    call.terminal.table(("What", "Value"), facts)
    call.terminal.data(found.model_dump(mode="json"))


def _number(value: Any) -> str:
    if isinstance(value, (bool, list)) or value is None:
        return "-" if value is None else str(value).lower() if isinstance(value, bool) else ", ".join(map(str, value))
    return f"{value:.5f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def open_registry(call: Call, url: str | None, name: str | None, alias: str | None = None) -> tuple[Settings, Registry]:
    """The settings, and the versions of the model that they name."""
    from vehins.registry.registry import Registry
    from vehins.registry.stores import open_store

    settings = call.settings(registry=url, model_name=name, alias=alias)
    return settings, Registry(open_store(settings.registry_url, settings.s3, settings.remote), settings.model_name)
