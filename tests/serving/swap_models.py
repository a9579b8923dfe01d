"""Versions of a model that differ in what they answer, good ones and broken ones."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_models import GOOD

from vehins.data.schema import load as load_schema
from vehins.model import bundle
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehins.model.bundle import Bundle
    from vehins.settings import Settings

SHORT = {name: value for name, value in GOOD.items() if name != "Vintage"}
"""A row for a model that does not look at Vintage."""


def narrow_schema(path: Path) -> str:
    """Write the schema of a table whose models do not look at Vintage; its path."""
    lines = load_schema_text().replace("[columns.Vintage]\n", '[columns.Vintage]\nrole = "ignored"\n')
    path.write_text(lines)
    assert "Vintage" not in load_schema(str(path)).features
    return str(path)


def load_schema_text() -> str:
    import vehins.data

    return (Path(vehins.data.__file__).parent / "schemas" / "vehicle-insurance.toml").read_text()


def variant(base: Bundle, folder: Path, trees: int, *, golden_error: float = 0.0, keep: float = 1.0) -> str:
    """Write a bundle with the first trees of another, which answers otherwise; its digest.

    ``keep`` is the share of the model's text that stays, with hashes that fit what is left.
    """
    import lightgbm
    import numpy as np

    booster = lightgbm.Booster(model_file=base.folder / bundle.MODEL_FILE)
    text = booster.model_to_string(num_iteration=trees)
    rows = [json.loads(line)["row"] for line in (base.folder / bundle.GOLDEN_FILE).read_bytes().splitlines()]
    matrix = np.array([base.encoder.encode_row(row) for row in rows], dtype=np.float64)
    answers = booster.predict(matrix, num_iteration=trees, num_threads=1)
    golden = [
        bundle.GoldenRow(row=row, probability=float(answer) + golden_error)
        for row, answer in zip(rows, answers, strict=True)
    ]
    return bundle.write(
        folder,
        model=text[: int(len(text) * keep)],
        encoder=base.encoder,
        signature=base.signature,
        golden=golden,
    )


@dataclass(frozen=True)
class Publisher:
    """Writes to a registry as `vehins push` and `vehins models promote` do, and as a vandal does."""

    settings: Settings

    @property
    def store(self) -> Any:
        return open_store(self.settings.registry_url, self.settings.s3, self.settings.remote)

    @property
    def registry(self) -> Registry:
        return Registry(self.store, self.settings.model_name)

    def publish(self, folder: Path, digest: str) -> int:
        """Register a bundle; the number of its version."""
        given: dict[str, Any] = {"champion": None, "evaluation": {}, "approved": None, "lineage": {}}
        return self.registry.publish(folder, bundle.files(folder), bundle=digest, **given)[0].version

    def promote(self, version: int) -> None:
        self.registry.point(self.settings.alias, version, reason="test")

    def force(self, version: int) -> None:
        """Promote it without the look at its files that would refuse it."""
        self.registry._aliases.move(self.settings.alias, version, reason="test")

    def spoil(self, version: int, name: str, change: Callable[[bytes], bytes] | None) -> None:
        """Change a file of a version behind the registry's back, or take it away."""
        key = f"models/{self.settings.model_name}/versions/{version}/bundle/{name}"
        store = self.store
        if change is None:
            store.delete(key) if hasattr(store, "delete") else Path(store.url, key).unlink()
        else:
            store.put(key, change(store.get(key).data))


def is_slow() -> bool:
    """Whether the long forms of tests are wanted."""
    return bool(os.environ.get("VEHINS_TEST_SLOW"))
