"""Stores to test the registry on, each empty and absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from registry_stores import opened, place_in

from vehins.registry.objects import ObjectStore
from vehins.registry.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is that is empty and absent; `opened` takes it, in any process."""
    if request.param == "folder":
        return str(tmp_path / "registry")
    return place_in(request.getfixturevalue("bucket"))


@pytest.fixture
def store(store_url: str) -> ObjectStore:
    return opened(store_url)


@pytest.fixture
def registry(store: ObjectStore) -> Registry:
    return Registry(store, "car")
