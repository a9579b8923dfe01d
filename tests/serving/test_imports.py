"""A process that serves carries nothing that it does not need, so that it starts quickly and stays small."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from service_process import serving
from serving_models import GOOD

if TYPE_CHECKING:
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

PROGRAM = """
import json, sys
from vehins.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {
    "boto3",
    "botocore",
    "bson",
    "jinja2",
    "lightgbm",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pygal",
    "pymongo",
    "rich",
    "scipy",
    "sklearn",
    "vehins.artifacts.manifest",
    "vehins.model.metrics",
    "vehins.pipeline",
    "vehins.serving.page.views",
    "vehins.serving.workers",
}


def test_a_service_imports_nothing_heavy(served: Settings, predictor: Predictor) -> None:
    """With a registry in a folder; one on S3 takes boto3."""
    with serving(served, program=("-c", PROGRAM)) as service:
        for count in (1, 3, 500):
            answers = service.predict(*[GOOD] * count).json()["predictions"]
            assert {answer["probability"] for answer in answers} == {predictor.predict([GOOD])[0].probability}
        assert service.predict({}).status_code == 422
        assert service.stop() == 0
    loaded = set(json.loads(service.out))
    assert "vehins.model.native" in loaded
    assert not loaded & HEAVY
