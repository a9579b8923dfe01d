"""What the service knows of its model: where it comes from, when the alias was last looked at, what went wrong."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vehins.errors import (
    ArtifactDamagedError,
    BundleRefusedError,
    ConfigurationError,
    CredentialsError,
    LockedError,
    NotFoundError,
    StorageError,
    UnreachableError,
    WorkspaceVersionError,
)

Source = Literal["registry", "cache"]


@dataclass(frozen=True)
class Check:
    """A look at the registry."""

    at: datetime
    fault: str | None
    """Why it told nothing, in words; None when it did."""


@dataclass(frozen=True)
class SwapOutcome:
    """What came of an attempt to let another version answer."""

    version: int | None
    """The version that was to take over; None when the registry did not tell which."""
    previous: int | None
    """The version that answered before; None when none did."""
    reason: str | None
    """Why it did not take over, in words; None when it did."""
    source: Source
    at: datetime
    seconds: float
    """From the moment that it was known of."""

    @property
    def ok(self) -> bool:
        """Whether it took over."""
        return self.reason is None


@dataclass(frozen=True)
class Status:
    """Everything at one moment; a new one takes the place of the old one with each change."""

    source: Source | None = None
    """Where the model that answers comes from; None when there is none."""
    since: datetime | None = None
    """Since when it answers."""
    check: Check | None = None
    """The last look at the registry."""
    failure: SwapOutcome | None = None
    """The last attempt that came to nothing."""
    swaps: int = 0
    """Attempts that let a version take over, the first one of the process included."""
    failed: int = 0
    """Attempts that came to nothing."""
    why: str = "The model is being loaded."
    """Why there is no model, as long as there is none."""


# For whoever asks over HTTP: the errors themselves name paths and addresses, which are for the log alone.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (BundleRefusedError, "The bundle fails its verification: files that do not fit, or other answers to golden rows."),
    (ArtifactDamagedError, "What the registry holds of it is damaged."),
    (CredentialsError, "The registry does not let the service in."),
    (WorkspaceVersionError, "It was written by a newer vehins than this one."),
    (ConfigurationError, "The settings of the service do not fit."),
    (LockedError, "Another process holds the local copy for too long."),
    (StorageError, "The service cannot write to its disk or read from it."),
    (NotFoundError, "The registry has no such version."),
    (UnreachableError, "The registry does not answer."),
)


def in_words(error: Exception) -> str:
    """What went wrong, in words that tell nothing of paths, addresses or stacks."""
    found = next((words for kind, words in _WORDS if isinstance(error, kind)), None)
    if found is not None:
        return found
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return "The service cannot write to its disk or read from it."
    return "The service failed to load it; its log has the reason."
