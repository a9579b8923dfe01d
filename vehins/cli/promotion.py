"""``vehins models promote``, ``rollback``, ``history`` and ``restore``: which version is in use, by whom and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, ModelName, RegistryUrl, command
from vehins.cli.history import Alias, Limit, open_registry
from vehins.cli.terminal import plain

if TYPE_CHECKING:
    from vehins.registry.registry import AliasMove

Version = Annotated[int, typer.Argument(min=1, help="The version; `vehins models list` shows them.")]
Apply = Annotated[bool, typer.Option("--apply", help="Bring it back; without this, only list it.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it is kept in the history.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (promote, rollback, history, restore):
        command(app)(function)


def promote(
    call: Call,
    version: Version,
    alias: Alias = None,
    reason: Reason = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
) -> None:
    """Point an alias to a version once its files are verified; a move by somebody else is never overwritten."""
    settings, found = open_registry(call, registry, model_name, alias)
    before = found.alias(settings.alias)
    after = before.sequence if before else 0
    move, moved = found.point(settings.alias, version, reason=reason or "promoted by hand", after=after)
    _tell(call, settings.model_name, move, moved, "now points" if moved else "points already")


def rollback(
    call: Call,
    alias: Alias = None,
    reason: Reason = None,
    registry: RegistryUrl = None,
    model_name: ModelName = None,
) -> None:
    """Move an alias back to the version before by undoing its last move; a second time, the one before that."""
    settings, found = open_registry(call, registry, model_name, alias)
    move, moved = found.rollback(settings.alias, reason=reason or "rolled back by hand")
    _tell(call, settings.model_name, move, moved, "is back" if moved else "was rolled back already")


def _tell(call: Call, model: str, move: AliasMove, moved: bool, how: str) -> None:
    before = f" (before: {move.previous})" if moved and move.previous is not None else ""
    call.terminal.say(f"{plain(move.alias)} of {plain(model)} {how} to version {move.version}{before}")
    call.terminal.data({"model": model, "moved": moved, **_facts(move)})


def history(
    call: Call, alias: Alias = None, limit: Limit = 20, registry: RegistryUrl = None, model_name: ModelName = None
) -> None:
    """List the moves of an alias, the newest first: from which version to which, when, by whom and why."""
    settings, found = open_registry(call, registry, model_name, alias)
    moves = found.history(settings.alias)[::-1][:limit]
    rows = [
        (
            m.sequence,
            f"{m.at:%Y-%m-%d %H:%M:%S}",
            m.previous or "-",
            m.version,
            f"takes back {m.undoes}" if m.undoes else "",
            m.actor,
            m.reason,
        )
        for m in moves
    ]
    call.terminal.table(("Move", "Moved (UTC)", "From", "To", "Rollback", "By", "Because"), rows)
    data = {"model": settings.model_name, "alias": settings.alias, "moves": [_facts(move) for move in moves]}
    call.terminal.data(data)


def _facts(move: AliasMove) -> dict[str, object]:
    return move.model_dump(mode="json", exclude={"token"})


def restore(call: Call, apply: Apply = False, registry: RegistryUrl = None) -> None:
    """List (or, with --apply, bring back) what was deleted or overwritten in a bucket that keeps old versions."""
    from vehins.registry import past
    from vehins.registry.s3 import S3Store
    from vehins.registry.stores import open_store

    settings = call.settings(registry=registry)
    store = open_store(settings.registry_url, settings.s3, settings.remote)
    lost = []
    if isinstance(store, S3Store):
        lost = past.find(store)
        if apply:
            past.bring_back(store, lost)
        hint = "" if apply or not lost else "; `vehins models restore --apply` does it"
        call.terminal.say(f"{'Brought' if apply else 'Would bring'} back {len(lost)} objects{hint}.")
    else:
        call.terminal.say("A folder keeps no old versions: copy the registry back from a backup of yours.")
    rows = [(one.key, one.how, f"{one.written_at:%Y-%m-%d %H:%M:%S}") for one in lost]
    call.terminal.table(("Object", "Was", "Written (UTC)"), rows)
    listed = [{"key": one.key, "how": one.how, "written_at": one.written_at.isoformat()} for one in lost]
    call.terminal.data({"applied": apply, "objects": listed})
