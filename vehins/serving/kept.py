"""What the service keeps on disk, so that it can start while the registry does not answer.

In the workspace: ``cache/<digest>/``, copies of bundles, which other commands use too; and ``serving/<name>.json``, the
version that answered last, for each registry, model and alias. The first are bounded in number, the second in size.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from pydantic import AwareDatetime, Field, ValidationError

from vehins.artifacts.files import write_atomically
from vehins.artifacts.record import Record
from vehins.errors import LockedError, VehinsError
from vehins.registry import copies
from vehins.registry.locks import locked
from vehins.registry.registry import ModelVersion
from vehins.serving import trial
from vehins.serving.predictor import Predictor, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehins.settings import Settings

CACHE, SERVING = "cache", "serving"
COPIES = 8
"""Copies of bundles that stay, beside those that a service needs for its next start."""
RECORDS = 32
"""Versions that are remembered for a start, one for each registry, model and alias: the last used."""
_STALE = 3600.0  # seconds after which nobody can still be filling a temporary folder
_DIGEST = re.compile("[0-9a-f]{64}")
_log = logging.getLogger(__name__)


class Kept(Record):
    """The version that answered last, for the next start."""

    registry: str = Field(description="Where the registry is: a version of another one must not take its place.")
    chosen: str = Field(description="The alias, or the number of the version, that it was chosen by.")
    version: ModelVersion
    verified_at: AwareDatetime = Field(description="When it was last seen in the registry, and verified.")


class Place(NamedTuple):
    """For which registry, model and alias something is kept."""

    workspace: Path
    registry: str
    model: str
    chosen: str

    @classmethod
    def of(cls, settings: Settings, registry: str) -> Place:
        """That of a service; ``registry`` is its address without secrets."""
        number = settings.serve.version
        chosen = f"alias {settings.alias}" if number is None else f"version {number}"
        return cls(settings.workspace, registry, settings.model_name, chosen)

    @property
    def path(self) -> Path:
        """The file that names the version."""
        mark = hashlib.sha256("\n".join(self[1:]).encode()).hexdigest()[:12]
        return self.workspace / SERVING / f"{self.model}-{mark}.json"


def keep(place: Place, version: ModelVersion) -> None:
    """Remember a version that answers now, and let old copies go; a disk that cannot be written stops nobody."""
    found = Kept(registry=place.registry, chosen=place.chosen, version=version, verified_at=datetime.now(UTC))
    try:
        write_atomically(place.path, found.model_dump_json(indent=2).encode() + b"\n")
        prune(place.workspace, {version.bundle})
    except OSError as error:
        _log.warning("Version %s is not kept for the next start: %s", version.version, error)


def find(place: Place) -> Kept | None:
    """The version that answered last; None when there is none, or what was kept is damaged."""
    found = _read(place.path)
    if found is None:
        return None
    is_same = (found.registry, found.version.name, found.chosen) == (place.registry, place.model, place.chosen)
    return found if is_same else None


def restored(found: Kept, place: Place, threads: int, is_over: Callable[[], bool]) -> Predictor | None:
    """Load it from its copy, whose hashes and golden rows are checked as ever; None when the copy does not pass."""
    folder = place.workspace / CACHE / found.version.bundle
    try:
        if not _DIGEST.fullmatch(found.version.bundle) or not copies.intact(folder, found.version.files):
            _log.warning("The copy of version %s in the cache is damaged or gone", found.version.version)
            return None
        touch(folder)
        trial.run(folder, is_over)
        return opened(found.version, folder, threads)
    except (VehinsError, OSError) as error:
        _log.warning("The copy of version %s in the cache cannot be used: %s", found.version.version, error)
        return None


def _read(path: Path) -> Kept | None:
    try:
        return Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _log.warning("What was kept for a start without the registry cannot be read: %s: %s", path, error)
        return None


def touch(folder: Path) -> None:
    """Mark a copy as used just now."""
    with suppress(OSError):
        os.utime(folder)


def prune(workspace: Path, needed: set[str]) -> None:
    """Remove all but the `COPIES` copies that were used last, those ``needed``, and those that a start may need."""
    for _, record in _by_age(workspace / SERVING)[RECORDS:]:
        record.unlink(missing_ok=True)
    cache = workspace / CACHE
    found = [path for _, path in _by_age(cache) if path.is_dir() and _DIGEST.fullmatch(path.name)]
    needed = needed | bundles(workspace)
    for folder in found[COPIES:]:
        if folder.name not in needed:
            _remove(folder)
    for age, path in _by_age(cache):
        if path.name.startswith(".tmp-") and age > _STALE:  # of a process that was killed
            shutil.rmtree(path, ignore_errors=True)


def _by_age(folder: Path) -> list[tuple[float, Path]]:
    """What is in a folder and the seconds since each was used, the last used first."""
    now, found = time.time(), []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process tidies up as well
            found.append((now - path.stat().st_mtime, path))
    return sorted(found)


def bundles(workspace: Path) -> set[str]:
    """The digests of the bundles that a start may need."""
    places = (_read(path) for path in (workspace / SERVING).glob("*.json"))
    return {kept.version.bundle for kept in places if kept is not None}


def _remove(folder: Path) -> None:
    """Take a copy away at once, unless somebody is at work on it."""
    gone = folder.with_name(f".tmp-{uuid4().hex}")
    with suppress(LockedError, FileNotFoundError), locked(folder.with_name(f".{folder.name}.lock"), 0):
        trial.mark_of(folder).unlink(missing_ok=True)
        folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)
