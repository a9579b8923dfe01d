"""The champion that a model or some rows are held to: never a model to itself, nor rows to what they trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vehins.errors import NotFoundError
from vehins.model import bundle, drift
from vehins.registry.registry import ModelVersion, Registry
from vehins.registry.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from vehins.artifacts.drift import Drift
    from vehins.stages.stage import Context

OVERRULED = "overruled"
"""Where the evaluation of a version has the rules that a person overruled."""
ROWS = "rows"
"""Where the lineage of a version has the content digest of the data set that it was trained on."""


def open_registry(ctx: Context) -> Registry:
    """The registry of the settings."""
    return Registry(open_store(ctx.settings.registry_url), ctx.settings.model_name)


def of_model(registry: Registry, alias: str, digest: str) -> tuple[ModelVersion | None, ModelVersion | None]:
    """The version that a bundle is compared with, and the version that it is, when it is in production already.

    A model in production keeps the rival of its own judgement: evaluated again it is told what it was told then, and
    as nothing can take its own place, no verdict about it moves the alias to anything that was not compared.
    """
    production = registry.resolve(alias)
    if production is None or production.bundle != digest:
        return production, None
    return _before(registry, production), production


def joined(rules: list[str]) -> str:
    """Names of rules as the evaluation of a version carries them."""
    return ", ".join(sorted(rules))


def covers(overruled: str | None, failed: list[str]) -> bool:
    """Whether a person who overruled some rules before, as `joined` has them, knew of all that fail now.

    An older vehins did not write down which: then there is nothing to hold the approval to.
    """
    return overruled is None or set(failed) <= set(overruled.split(", "))


def of_rows(registry: Registry, alias: str, content: str) -> ModelVersion | None:
    """The version whose training rows these rows are compared with.

    Versions that were trained on these very rows are passed by, back to the one before them: so that rows keep their
    rival when a model of theirs takes the alias.
    """
    version = registry.resolve(alias)
    while version is not None and version.lineage.get(ROWS) == content:
        version = _before(registry, version)
    return version


def _before(registry: Registry, version: ModelVersion) -> ModelVersion | None:
    """The version that a version was judged against, unless a person has deleted it since; numbers only fall."""
    try:
        return None if version.champion is None else registry.version(version.champion)
    except NotFoundError:  # the store answered; one that does not is an UnreachableError
        return None


def recorded(version: ModelVersion | None) -> dict[str, Any] | None:
    """A version as a recipe names it."""
    return None if version is None else {"version": version.version, "bundle": version.bundle}


def known(ctx: Context, registry: Registry) -> ModelVersion | None:
    """The version that the recipe names, whatever the alias points to by now."""
    champion = ctx.known["champion"]
    return None if champion is None else registry.version(champion["version"])


def fetch(ctx: Context, registry: Registry, version: ModelVersion) -> Path:
    """A verified copy of a version's bundle."""
    return registry.fetch(version, ctx.settings.workspace / "cache" / version.bundle)


def measure_drift(rows: pl.LazyFrame, version: ModelVersion, folder: Path) -> Drift:
    """Some rows against the training rows of a version, whose bundle lies in ``folder``."""
    return drift.measure(rows, bundle.statistics(folder), version=version.version, bundle=version.bundle)
