from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from serving_models import GOOD

from vehins.data import schema as table_schema
from vehins.errors import ArtifactDamagedError, BundleRefusedError, NotFoundError
from vehins.model import bundle
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store
from vehins.serving.predictor import Predictor, load

if TYPE_CHECKING:
    from pathlib import Path

    from vehins.settings import Settings


@pytest.fixture
def copied(served: Settings, tmp_path: Path) -> Settings:
    """A registry of one's own, to do harm to, and nothing in the cache."""
    shutil.copytree(served.registry_url, tmp_path / "registry")
    return served.model_copy(update={"workspace": tmp_path})


def publish(settings: Settings, folder: Path, digest: str) -> None:
    """Register a bundle as it is, without asking any gate, and put it in production."""
    registry = Registry(open_store(settings.registry_url, settings.s3, settings.remote), settings.model_name)
    files = bundle.files(folder)
    version, _ = registry.publish(folder, files, bundle=digest, champion=None, evaluation={}, approved=None, lineage={})
    registry.point(settings.alias, version.version, reason="test")


def test_what_production_points_to_is_loaded(served: Settings, predictor: Predictor) -> None:
    store = open_store(served.registry_url, served.s3, served.remote)
    version = Registry(store, served.model_name).resolve(served.alias)
    assert version is not None
    assert (predictor.name, predictor.version) == ("vehicle-insurance", 1)
    assert predictor.bundle.digest == version.bundle
    assert predictor.bundle.folder == served.workspace / "cache" / version.bundle
    assert predictor.created_at == version.created_at
    assert datetime.now(UTC) - predictor.created_at < timedelta(hours=1)
    assert predictor.metrics == version.evaluation
    assert predictor.cutoff == 0.2


def test_its_rows_are_those_of_the_schema(predictor: Predictor) -> None:
    assert predictor.table == table_schema.load("vehicle-insurance")


def test_a_prediction_has_its_percentile_and_verdict(predictor: Predictor) -> None:
    keen, cold = predictor.predict([GOOD, {**GOOD, "Previously_Insured": 1, "Vehicle_Damage": "No"}])
    assert keen.probability > predictor.cutoff > cold.probability
    assert (keen.contact, cold.contact) == (True, False)
    assert 0 <= cold.percentile < keen.percentile <= 100
    assert keen.percentile == predictor.bundle.percentile(keen.probability)


def test_a_customer_of_whom_nothing_is_known_is_answered(predictor: Predictor) -> None:
    [answer] = predictor.predict([{}])
    assert 0 < answer.probability < 1


def test_no_rows_are_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_rows_come_back_in_order_and_as_in_bulk(predictor: Predictor) -> None:
    rows = [{**GOOD, "Age": age, "Annual_Premium": 100.0 * age} for age in range(18, 118)]
    bulk = predictor.bundle.predict(pl.LazyFrame(rows)).tolist()
    assert [answer.probability for answer in predictor.predict(rows)] == bulk


def test_a_second_load_takes_the_copy_at_hand(copied: Settings) -> None:
    first = load(copied)
    shutil.rmtree(copied.workspace / "registry" / "models" / copied.model_name / "versions" / "1" / "bundle")
    assert load(copied).bundle.digest == first.bundle.digest


def test_nothing_in_production(copied: Settings) -> None:
    with pytest.raises(NotFoundError) as caught:
        load(copied.model_copy(update={"alias": "staging"}))
    assert caught.value.headline == "No version of vehicle-insurance is in staging"
    assert "`vehins pipeline run`" in caught.value.hint
    assert caught.value.exit_code == 6


def test_no_registry_at_all(served: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is in production"):
        load(served.model_copy(update={"workspace": tmp_path / "absent"}))
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["model.txt", "features.json", "signature.json", "golden.jsonl", "bundle.json"])
def test_a_bundle_that_is_damaged_in_the_registry_is_refused(copied: Settings, name: str) -> None:
    [path] = (copied.workspace / "registry").rglob(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(ArtifactDamagedError, match="damaged in the registry"):
        load(copied)


def test_a_damaged_copy_is_made_anew(copied: Settings) -> None:
    folder = load(copied).bundle.folder
    (folder / "model.txt").write_text("tree\n")
    assert load(copied).predict([GOOD]) == load(copied).predict([GOOD])


def test_a_bundle_that_answers_its_golden_rows_differently_is_refused(copied: Settings, tmp_path: Path) -> None:
    good = load(copied).bundle
    rows = [json.loads(line) for line in (good.folder / bundle.GOLDEN_FILE).read_bytes().splitlines()]
    rows[0]["probability"] += 1e-6
    folder = tmp_path / "other"
    digest = bundle.write(
        folder,
        model=(good.folder / bundle.MODEL_FILE).read_text(),
        encoder=good.encoder,
        signature=good.signature,
        golden=[bundle.GoldenRow.model_validate(row) for row in rows],
    )
    publish(copied, folder, digest)
    with pytest.raises(BundleRefusedError) as caught:
        load(copied)
    assert "Golden row 1" in caught.value.detail


def test_a_version_that_names_another_bundle_is_refused(copied: Settings, tmp_path: Path) -> None:
    publish(copied, load(copied).bundle.folder, "f" * 64)
    with pytest.raises(BundleRefusedError) as caught:
        load(copied)
    assert caught.value.headline == "Version 2 of vehicle-insurance holds another bundle than its own"


@pytest.mark.parametrize("digest", ["../../elsewhere", ".", "F" * 64, "f" * 63, "f" * 64 + "\n"])
def test_a_digest_that_is_none_names_no_folder(copied: Settings, digest: str) -> None:
    publish(copied, load(copied).bundle.folder, digest)
    before = sorted(copied.workspace.rglob("*"))
    with pytest.raises(BundleRefusedError, match="names no bundle that can be"):
        load(copied)
    assert sorted(copied.workspace.rglob("*")) == before
