"""The errors that a user of vehins can cause or meet.

Every one carries three lines for a person (``headline``: what happened, ``detail``: the value at fault, ``hint``: the
command or setting that mends it) and one number for a script (``exit_code``)::

    VehinsError                  1    a bug in vehins, or an error without a better name
    ├── UsageError               2    the command line makes no sense
    ├── ConfigurationError       3    settings, schema, credentials
    │   ├── SettingsError             a setting is unknown or has a value that cannot be
    │   ├── CredentialsError          a login is missing, wrong, or lacks a right
    │   ├── SchemaError               the table schema contradicts itself
    │   └── WorkspaceVersionError     the workspace was written by a newer vehins
    ├── DataError                4    what was read is not what it should be
    │   ├── SourceFormatError         a source that cannot be read as the table it claims to be
    │   ├── AnomaliesError            more bad rows than the tolerance allows
    │   ├── ArtifactDamagedError      an artifact whose bytes are not those that its manifest names
    │   └── BundleRefusedError        a model bundle that fails its hashes or its golden rows
    ├── GateRefusedError         5    the challenger has not earned its place
    │   └── DeploymentRefusedError    what was deployed did not become ready; what ran before still serves
    ├── UnreachableError         6    a source, store or registry does not answer
    │   ├── NotFoundError             the thing asked for is not there
    │   ├── StorageError              the disk is full, read-only or forbidden
    │   └── ConflictError             somebody else changed the same object first
    ├── LockedError              7    another process writes to this workspace
    └── InterruptedRunError    130    Ctrl-C
"""

from __future__ import annotations

import errno
from typing import ClassVar

from vehins.masking import redacted


class VehinsError(Exception):
    """Root of all errors that vehins raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, headline: str, *, detail: str = "", hint: str = "") -> None:
        # They may quote what a driver or a server has said, and that may have a password in it.
        self.headline, self.detail, self.hint = redacted(headline), redacted(detail), redacted(hint)
        super().__init__(self.headline)

    def as_dict(self) -> dict[str, str | int]:
        """The error as ``--json`` prints it."""
        return {"headline": self.headline, "detail": self.detail, "hint": self.hint, "exit_code": self.exit_code}


class UsageError(VehinsError):
    """The command line makes no sense."""

    exit_code = 2


class ConfigurationError(VehinsError):
    """Settings, a schema or credentials are wrong."""

    exit_code = 3


class SettingsError(ConfigurationError):
    """A setting is unknown or has a value that cannot be."""


class CredentialsError(ConfigurationError):
    """A login is missing or wrong, or lacks a right."""


class SchemaError(ConfigurationError):
    """A table schema contradicts itself."""


class WorkspaceVersionError(ConfigurationError):
    """The workspace was written by a newer vehins than this one."""


class DataError(VehinsError):
    """What was read is not what it should be."""

    exit_code = 4


class SourceFormatError(DataError):
    """A source cannot be read as the table it claims to be."""


class AnomaliesError(DataError):
    """A data set has more anomalies than the tolerance allows."""


class ArtifactDamagedError(DataError):
    """The bytes of an artifact are not those that its manifest names."""


class BundleRefusedError(DataError):
    """A model bundle fails its hashes or answers its golden rows differently."""


class GateRefusedError(VehinsError):
    """The challenger has not earned its place."""

    exit_code = 5


class DeploymentRefusedError(GateRefusedError):
    """What was deployed did not become ready, and what ran before still serves."""


class UnreachableError(VehinsError):
    """A source, a store or the registry does not answer."""

    exit_code = 6


class NotFoundError(UnreachableError):
    """The file, artifact, version or alias that was asked for is not there."""


class StorageError(UnreachableError):
    """The disk is full, read-only or forbidden."""


class ConflictError(UnreachableError):
    """Somebody else created or changed the same object first."""


class LockedError(VehinsError):
    """Another process is writing to this workspace."""

    exit_code = 7


class InterruptedRunError(VehinsError):
    """The user stopped the command."""

    exit_code = 130


_STORAGE_FAULTS = {
    errno.ENOSPC: ("The disk is full", "Free some space (`vehins gc --apply` removes unreachable artifacts)."),
    errno.EDQUOT: ("The disk quota is used up", "Free some space (`vehins gc --apply` removes unreachable artifacts)."),
    errno.EROFS: ("The disk is read-only", "Choose a folder that can be written: `--workspace DIR`."),
    errno.EACCES: ("Permission denied", "Choose a folder that can be written (`--workspace DIR`), or mend its rights."),
    errno.EPERM: ("Permission denied", "Choose a folder that can be written (`--workspace DIR`), or mend its rights."),
    errno.ENOTDIR: ("A file stands where a folder is needed", "Move the file, or choose another `--workspace DIR`."),
}


def storage_error(error: BaseException) -> StorageError | None:
    """Return the `StorageError` that an operating-system error amounts to, or None when it is something else.

    Libraries with a native part wrap the number of the error in a message of their own, so the text is searched too.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        text = str(error).lower()
        needles = {
            "no space left on device": errno.ENOSPC,
            "os error 28": errno.ENOSPC,
            "read-only file system": errno.EROFS,
        }
        number = next((code for needle, code in needles.items() if needle in text), None)
    if number not in _STORAGE_FAULTS:
        return None
    headline, hint = _STORAGE_FAULTS[number]
    path = getattr(error, "filename", None)
    return StorageError(headline, detail=f"While writing {path}." if path else str(error).splitlines()[0], hint=hint)
