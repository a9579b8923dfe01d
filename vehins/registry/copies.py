"""Local copies of a registered bundle: complete and verified, or not there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from uuid import uuid4

from vehins.artifacts.files import damage
from vehins.errors import ConfigurationError
from vehins.registry.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vehins.artifacts.files import FileRecord

_PATIENCE = 600.0  # seconds; the lock is held for a download


def intact(folder: Path, files: Iterable[FileRecord]) -> bool:
    """Whether a folder holds all these files with the right bytes."""
    try:
        return all(damage(folder, record) is None for record in files)
    except FileNotFoundError:  # another process has just taken a damaged copy away
        return False


def place_copy(folder: Path, files: Iterable[FileRecord], fill: Callable[[Path], None]) -> None:
    """Make ``folder`` hold ``files``: as it is when they are intact, else from what ``fill`` writes into a new folder.

    The new folder takes the name at once, so that no one sees half a copy. Of several processes, one fills and the
    others wait. Raises `ConfigurationError` when other files stand in the folder, `LockedError` when the wait is too
    long, what ``fill`` raises, and OSError.
    """
    if intact(folder, files):
        return
    target = folder.resolve()  # a link stays, what it points to is replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f".{target.name}.lock"), _PATIENCE):
        if not intact(target, files):
            _refuse_strangers(target, files)
            _replace(target, fill)


def _refuse_strangers(folder: Path, files: Iterable[FileRecord]) -> None:
    """Never sweep away files that are somebody's own: only a damaged copy may be replaced."""
    if not folder.exists():
        return
    known = {folder / record.path for record in files}
    next(folder.iterdir(), None)  # a file in its place is an error here; rglob would call it empty
    others = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    stranger = next((path for path in others if path not in known), None)
    if stranger is not None:
        raise ConfigurationError(
            "A model cannot be copied over other files",
            detail=f"{stranger} is not of this model.",
            hint="Name a folder that is new or empty.",
        )


def _replace(target: Path, fill: Callable[[Path], None]) -> None:
    fresh = target.with_name(f".tmp-{uuid4().hex}")
    old = fresh.with_name(f"{fresh.name}-old")
    try:
        fresh.mkdir()
        fill(fresh)
        if target.exists():
            target.replace(old)
        fresh.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
