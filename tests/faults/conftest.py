"""Processes for the tests to harm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fault_server import Server
from vehins_runner import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Where commands are started in processes of their own."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    found = Server(child_environment(), tmp_path_factory.mktemp("processes"))
    yield found
    found.close()
