"""One real model for all tests of the service."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from made_once import made_once
from serving_models import app_of, build, settings_in

from vehins.serving.predictor import Predictor, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from vehins.settings import Settings


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a workspace with a model in production."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))  # no vehins.toml and no .env
        for name in [name for name in os.environ if name.startswith("VEHINS_")]:
            patch.delenv(name)
        made = made_once(tmp_path_factory, "served", build)
        yield settings_in(shutil.copytree(made, tmp_path_factory.mktemp("served") / "workspace"))


@pytest.fixture(scope="session")
def predictor(served: Settings) -> Predictor:
    """That model, loaded."""
    return load(served)


@pytest.fixture(scope="session")
def app(predictor: Predictor) -> FastAPI:
    """The application with that model."""
    return app_of(predictor, 1_000)
