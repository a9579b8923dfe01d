"""What a stage's result depends on besides its inputs: the package's own source and the libraries."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

import vehins
from vehins.artifacts.files import sha256_file
from vehins.artifacts.manifest import CodeRecord, digest

_PACKAGE = Path(vehins.__file__).parent
# What is here shows or serves results and never shapes one; import-linter holds that no stage imports it.
_WITHOUT_INFLUENCE = {
    "cli",
    "doctor",
    "serving",
    "report",
    "cloud",
    "scoring.py",
    "tables.py",
    "monitoring.py",
    "__main__.py",
}
_SOURCE_SUFFIXES = {".py", ".toml"}


@cache
def source_digest() -> str:
    """Digest of every source file of the package that can shape an artifact."""
    files = {path.relative_to(_PACKAGE): path for path in _PACKAGE.rglob("*") if path.suffix in _SOURCE_SUFFIXES}
    shaping = {name.as_posix(): path for name, path in files.items() if name.parts[0] not in _WITHOUT_INFLUENCE}
    return digest({name: sha256_file(path) for name, path in shaping.items()})


@cache
def code_record() -> CodeRecord:
    """The code that runs now."""
    return CodeRecord(version=vehins.__version__, source=source_digest(), revision=_revision())


def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of some distributions."""
    return {name: _version(name) for name in names}


@cache
def _version(name: str) -> str:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return "absent"


def _revision() -> str | None:
    """Git revision of the checkout that the package runs from; None for an installed package."""
    if not (_PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(_PACKAGE.parent), "rev-parse", "HEAD"]  # git is found on PATH as the user has it
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
