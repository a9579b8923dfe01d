"""A registered version that has been fetched, verified and loaded, and answers rows."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from vehins.data.schema import Scalar
from vehins.errors import BundleRefusedError, NotFoundError
from vehins.masking import masked
from vehins.model.bundle import Bundle
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from vehins.registry.registry import ModelVersion
    from vehins.settings import Settings

_DIGEST = re.compile("[0-9a-f]{64}")
_HINT = "Point the alias to another version (`vehins models list`), or train anew: `vehins pipeline run`."


class Prediction(NamedTuple):
    """What the model says of one customer."""

    probability: float
    """Probability that the customer says yes."""
    percentile: float
    """Share of the training population that scores no higher, in percent."""
    contact: bool
    """Whether contacting this customer pays: probability >= cutoff."""


class Predictor:
    """One registered version, with the bundle that was made for it.

    ``table`` is the schema of the rows that it takes.

    Raises:
        BundleRefusedError: the bundle is not the one that the version names.
    """

    def __init__(self, version: ModelVersion, bundle: Bundle) -> None:
        if bundle.digest != version.bundle:
            raise BundleRefusedError(
                f"Version {version.version} of {version.name} holds another bundle than its own",
                detail=f"It names bundle {version.bundle[:12]} and holds {bundle.digest[:12]}.",
                hint=_HINT,
            )
        self.bundle = bundle
        self.table = bundle.signature.table
        self._version = version

    @property
    def name(self) -> str:
        """Name of the model in the registry."""
        return self._version.name

    @property
    def version(self) -> int:
        """Number of the version."""
        return self._version.version

    @property
    def created_at(self) -> datetime:
        """When the version was registered."""
        return self._version.created_at

    @property
    def trained_at(self) -> datetime | None:
        """When it was trained: the id of the artifact that it comes from begins with that."""
        moment = self._version.lineage.get("TrainedModel", "").partition("-")[0]
        try:
            return datetime.strptime(moment, "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
        except ValueError:  # registered by other means than `vehins push`
            return None

    @property
    def metrics(self) -> dict[str, Scalar | None]:
        """What it was judged by, on the test side."""
        return dict(self._version.evaluation)

    @property
    def cutoff(self) -> float:
        """Probability from which a contact pays."""
        return self.bundle.signature.cutoff

    def predict(self, rows: Sequence[Mapping[str, Scalar | None]], threads: int = 1) -> list[Prediction]:
        """Answer some rows, in their order; they have passed the request model or are otherwise known to be good."""
        bundle = self.bundle
        scores, shares, cutoff = bundle.signature.percentiles, bundle.shares, bundle.signature.cutoff
        # As `Bundle.percentile` and `Bundle.contact`, without a call for each of ten thousand rows.
        return [Prediction(p, shares[bisect_right(scores, p)], p >= cutoff) for p in bundle.predict_rows(rows, threads)]

    def score(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Answer many typed rows that are known to be good: a frame of `Prediction`'s fields, in their order."""
        import polars as pl

        probabilities = self.bundle.predict(rows.lazy())
        return pl.DataFrame(
            {
                "probability": probabilities,
                "percentile": self.bundle.percentiles(probabilities),
                "contact": self.bundle.contacts(probabilities),
            }
        )


def load(settings: Settings, number: int | None = None) -> Predictor:
    """Fetch the version that the alias points to, or the one of this number; verify it and load it.

    Raises:
        NotFoundError: the alias points to no version, or there is none of this number.
        ArtifactDamagedError: what the registry holds is not what its manifest says.
        BundleRefusedError: the bundle fails its hashes or its golden rows, or is not that of the version.
    """
    registry = Registry(open_store(settings.registry_url, settings.s3, settings.remote), settings.model_name)
    version = registry.resolve(settings.alias) if number is None else registry.version(number)
    if version is None:
        raise NotFoundError(
            f"No version of {settings.model_name} is in {settings.alias}",
            detail=f"In the registry at {masked(settings.registry_url)}.",
            hint="Train one, and let it earn its place: `vehins pipeline run`.",
        )
    return opened(version, copied(registry, version, settings.workspace), settings.thread_count)


def copied(registry: Registry, version: ModelVersion, workspace: Path) -> Path:
    """The folder of the local copy of a version's bundle, whose bytes are those that its manifest names.

    Raises:
        ArtifactDamagedError: what the registry holds is not what its manifest says.
        BundleRefusedError: the version names a bundle that cannot be.
    """
    if not _DIGEST.fullmatch(version.bundle):  # it names a folder below, and whoever writes the registry chose it
        raise BundleRefusedError(
            f"Version {version.version} of {version.name} names no bundle that can be",
            detail=f"`{version.bundle[:80]}` is not a SHA-256.",
            hint=_HINT,
        )
    return registry.fetch(version, workspace / "cache" / version.bundle)


def opened(version: ModelVersion, folder: Path, threads: int) -> Predictor:
    """Verify the copy of a version's bundle and load it; errors as `Bundle` and `Predictor`."""
    return Predictor(version, Bundle(folder, threads))
