"""Local copies of a registered bundle: complete and verified, or not there."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from vehins.artifacts.files import damage
from vehins.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vehins.artifacts.files import FileRecord


def intact(folder: Path, files: Iterable[FileRecord]) -> bool:
    """Whether a folder holds all these files with the right bytes."""
    return all(damage(folder, record) is None for record in files)


def place_copy(folder: Path, files: Iterable[FileRecord], fill: Callable[[Path], None]) -> None:
    """Make ``folder`` hold ``files``: as it is when they are intact, else from what ``fill`` writes into a new folder.

    The new folder takes the name at once, so that no one sees half a copy. Several processes may do this together.
    Raises `ConfigurationError` when other files stand in the folder, what ``fill`` raises, and OSError.
    """
    if intact(folder, files):
        return
    target = folder.resolve()  # a link stays, what it points to is replaced
    _refuse_strangers(target, files)
    fresh = target.with_name(f".tmp-{uuid4().hex}")
    try:
        fresh.mkdir(parents=True)
        fill(fresh)
        _take_place(fresh, target, files)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


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


def _take_place(fresh: Path, target: Path, files: Iterable[FileRecord]) -> None:
    """Rename ``fresh`` to ``target``; of several processes, the first wins, and no intact copy is taken away."""
    try:
        fresh.replace(target)
    except OSError:
        if intact(target, files):
            return
    else:
        return
    old = fresh.with_name(f"{fresh.name}-old")
    try:
        with suppress(FileNotFoundError):
            target.replace(old)
        fresh.replace(target)
    except OSError:
        if not intact(target, files):
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
