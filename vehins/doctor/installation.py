"""Checks of this installation: Python, libraries, LightGBM's native part, the workspace, settings files, the clock."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import vehins
from vehins.errors import ConfigurationError, DataError, VehinsError, storage_error
from vehins.remote import probes
from vehins.remote.probes import Check
from vehins.settings import CONFIG_FILE, ENV_FILE, Settings

CHECKS = ("Python", "libraries", "LightGBM", "workspace", "settings", "clock")
_CONFIGURATION = ConfigurationError.exit_code
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 100 << 20
_DAY = 86_400


def checks(settings: Settings, config: Path | None) -> Iterator[Check]:
    """Check all of it; one that fails does not keep the others from being tried."""
    yield Check("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _libraries()
    yield _lightgbm()
    yield _workspace(settings.workspace)
    yield _settings_files([ENV_FILE, config or CONFIG_FILE])
    yield _clock(settings.workspace)


def _libraries() -> Check:
    """What the package asks for, against what is installed."""
    try:
        wanted = [_wanted(line) for line in requires("vehins") or []]
    except PackageNotFoundError:
        return Check("libraries", "skipped", "vehins runs from its source, without being installed")
    found, wrong = [], []
    for name, least in filter(None, wanted):
        has = _version(name)
        if has is None or _numbers(has) < _numbers(least):
            wrong.append((f"{name} {has or 'is absent'} (at least {least} is needed)", f"'{name}>={least}'"))
        else:
            found.append(f"{name} {has}")
    if wrong:
        mend = f"`pip install --upgrade {' '.join(words for _, words in wrong)}`."
        return Check("libraries", "failed", ", ".join(text for text, _ in wrong), mend, _CONFIGURATION)
    return Check("libraries", "ok", f"vehins {vehins.__version__}, " + ", ".join(found))


def _wanted(line: str) -> tuple[str, str] | None:
    """Name and least version of a requirement; None for one of an extra or of another system."""
    requirement, _, marker = line.partition(";")
    if "extra" in marker or ("win32" in marker and sys.platform == "win32"):
        return None
    name, least = re.match(r"([\w.-]+)", requirement), re.search(r">=\s*([\d.]+)", requirement)
    return (name[1], least[1] if least else "0") if name else None


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)[:3]]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lightgbm() -> Check:
    """Its native part needs a library of the system that many small images lack."""
    from vehins.model.library import import_lightgbm

    try:
        lightgbm = import_lightgbm()
    except (ImportError, OSError) as error:
        mend = "Install OpenMP: `apt-get install libgomp1`, `dnf install libgomp`, or `brew install libomp`."
        return Check("LightGBM", "failed", f"{error}", mend, _CONFIGURATION)
    return Check("LightGBM", "ok", f"{lightgbm.__version__} loads")


def _workspace(root: Path) -> Check:
    """Whether files can be made there, and how much space is left."""
    from vehins.artifacts.workspace import Workspace

    try:
        Workspace(root)
        place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        _write_something(place)
        free = shutil.disk_usage(place).free
    except VehinsError as error:
        return probes.failed("workspace", error)
    except OSError as error:
        known = storage_error(error)
        if known:
            return probes.failed("workspace", known)
        return Check("workspace", "failed", f"{root}: {error.strerror}", "Choose another: `--workspace DIR`.")
    found = f"{root} can be written, {free / 1e9:.1f} GB are free"
    if free < _NO_SPACE:
        return Check("workspace", "failed", found, "Free some space (`vehins gc --apply`), or `--workspace DIR`.")
    return Check("workspace", "ok", found, "That is little; see `vehins gc`." if free < _LITTLE_SPACE else "")


def _write_something(folder: Path) -> None:
    import tempfile

    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"vehins")
        file.flush()
        os.fsync(file.fileno())


def _settings_files(paths: list[Path]) -> Check:
    """They have been read by now, or there would be no checks; but who else can read them?"""
    there = [path for path in paths if path.is_file()]
    open_to_all = [path for path in there if os.name == "posix" and path.stat().st_mode & stat.S_IROTH]
    found = " and ".join(str(path) for path in there) or f"none ({' and '.join(map(str, paths))} are not there)"
    if open_to_all:
        names = " ".join(map(str, open_to_all))
        return Check(
            "settings", "ok", found, f"If there are passwords in it, keep it to yourself: `chmod 600 {names}`."
        )
    return Check("settings", "ok", found)


def _clock(root: Path) -> Check:
    """A clock that is behind gives records in the wrong order, and logins that are refused."""
    from vehins.artifacts.workspace import RUNS

    now = time.time()
    known = [path.stat().st_mtime for path in (Path(vehins.__file__), *(root / RUNS).glob("*.json")) if path.exists()]
    ahead = max(known, default=now) - now
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if ahead > _DAY:
        mend = "Set the clock of this machine (`timedatectl set-ntp true`)."
        found = f"{shown}, but there are files from {ahead / _DAY:.0f} days later"
        return Check("clock", "failed", found, mend, DataError.exit_code)
    return Check("clock", "ok", shown)
