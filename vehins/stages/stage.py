"""What a stage is: its name, what it consumes and makes, which settings it reads, and its work.

The settings are enforced: a stage is given those that it names and no others, so that a fingerprint cannot miss one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from vehins.artifacts.manifest import AnyManifest, Recipe, Record
from vehins.artifacts.workspace import Artifact
from vehins.errors import VehinsError
from vehins.settings import Settings, flatten

M = TypeVar("M", bound=AnyManifest)


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def __call__(self, text: str, done: float = 0, total: float | None = None) -> None:
        """Say what is being done and, if known, how much of how much."""


@dataclass(frozen=True)
class Context:
    """All that a stage is given."""

    settings: Settings
    inputs: Mapping[str, Artifact[AnyManifest]]
    folder: Path
    """The draft in which it makes its files."""
    progress: Progress
    recipe: Recipe | None = None
    """What decides the result; None while it is being written."""
    forced: bool = False
    """Whether nothing that was made before is to be taken over."""

    @property
    def known(self) -> Mapping[str, Any]:
        """The state outside, as the recipe has it."""
        return self.recipe.outside if self.recipe else {}

    def input(self, kind: type[M]) -> Artifact[M]:
        """The input of a kind."""
        return cast("Artifact[M]", self.inputs[kind.__name__])


@dataclass(frozen=True)
class Outcome:
    """What a stage found; its files are in the draft."""

    result: Record
    content: str
    """Digest of what later stages depend on."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of the files that are tables, by path."""


def _nothing_outside(_: Context) -> dict[str, Any]:
    return {}


def _never_stale(_: Context, __: AnyManifest) -> str | None:
    return None


def _never_refuses(_: AnyManifest) -> VehinsError | None:
    return None


@dataclass(frozen=True)
class Stage:
    """One stage of the chain."""

    name: str
    makes: type[AnyManifest]
    needs: tuple[type[AnyManifest], ...]
    """Kinds it consumes. The first is the one that a person names; the others are found through it."""
    work: Callable[[Context], Outcome]
    reads: tuple[str, ...] = ()
    """Settings (or sections) that shape the result, and so the fingerprint."""
    uses: tuple[str, ...] = ()
    """Settings that it needs and that shape nothing."""
    libraries: tuple[str, ...] = ()
    """Libraries that shape the result."""
    outside: Callable[[Context], dict[str, Any]] = _nothing_outside
    """State outside the workspace that shapes the result."""
    stale: Callable[[Context, AnyManifest], str | None] = _never_stale
    """Why an artifact with the right fingerprint must be made again all the same."""
    refusal: Callable[[AnyManifest], VehinsError | None] = _never_refuses
    """Why the chain stops after this artifact, although the stage did its work."""

    def settings_of(self, settings: Settings) -> Settings:
        """The settings without those that the stage does not name: touching one of them is an AttributeError."""
        named = {name: getattr(settings, name) for name in (*self.reads, *self.uses)}
        view = Settings.model_construct()
        view.__dict__.clear()  # model_construct fills in defaults, which would hide a setting that is not named
        view.__dict__.update(named)
        return view

    def read_settings(self, settings: Settings) -> dict[str, Any]:
        """The values that shape the result, as the manifest records them."""
        return flatten(settings.model_dump(mode="json", include=set(self.reads), by_alias=True))
