"""``vehins gc``: remove what no longer serves anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, RegistryUrl, command

if TYPE_CHECKING:
    from vehins.settings import Settings

Apply = Annotated[bool, typer.Option("--apply", help="Remove it; without this, only list it.")]
KeepRuns = Annotated[int | None, typer.Option("--keep-runs", min=1, help="Recent runs whose artifacts are kept.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "gc")(gc)


def gc(call: Call, apply: Apply = False, keep_runs: KeepRuns = None, registry: RegistryUrl = None) -> None:
    """List (or, with --apply, remove) artifacts that neither recent runs nor aliases reach."""
    from vehins.artifacts import gc as collector
    from vehins.artifacts.workspace import Workspace
    from vehins.report.words import plural

    settings = call.settings(gc__keep_runs=keep_runs, registry=registry)
    workspace = Workspace(settings.workspace)
    pinned, bundles = _live(settings)
    if apply:
        observer = call.terminal.observer()
        with workspace.writing(settings.lock_timeout, observer.waiting) as notes:
            for note in notes:
                observer.note(note)
            garbage = collector.find(workspace, settings.gc.keep_runs, pinned, bundles)
            collector.remove(workspace, garbage)
    else:
        garbage = collector.find(workspace, settings.gc.keep_runs, pinned, bundles)
    rows = [(item.folder.relative_to(workspace.root), f"{item.size / 1e6:.1f} MB", item.reason) for item in garbage]
    call.terminal.table(("Folder", "Size", "Why"), rows)
    total = sum(item.size for item in garbage)
    done = "Removed" if apply else "Would remove"
    hint = "" if apply or not garbage else "; `vehins gc --apply` does it"
    folders = plural(len(garbage), "folder")
    call.terminal.say(f"{done} {folders}, {total / 1e6:.1f} MB{hint}.")
    listed = [{"folder": str(item.folder), "bytes": item.size, "reason": item.reason} for item in garbage]
    call.terminal.data({"applied": apply, "bytes": total, "folders": listed})


def _live(settings: Settings) -> tuple[set[str], set[str]]:
    """Artifacts and bundles that some alias of some model names, and bundles that a service starts with."""
    from vehins.registry.registry import Registry, model_names
    from vehins.registry.stores import open_store
    from vehins.serving import kept

    store = open_store(settings.registry_url, settings.s3, settings.remote)
    models = [Registry(store, name) for name in model_names(store)]
    versions = [model.resolve(alias) for model in models for alias in model.aliases()]
    live = [version for version in versions if version is not None]
    bundles = {version.bundle for version in live} | kept.bundles(settings.workspace)
    return {name for version in live for name in version.lineage.values()}, bundles
