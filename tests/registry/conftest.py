"""Stores to test the registry on: S3 joins by one more parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vehins.registry.objects import ObjectStore
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that is empty and absent."""
    assert request.param == "folder"
    return str(tmp_path / "registry")


@pytest.fixture
def store(store_url: str) -> ObjectStore:
    return open_store(store_url)


@pytest.fixture
def registry(store: ObjectStore) -> Registry:
    return Registry(store, "car")
