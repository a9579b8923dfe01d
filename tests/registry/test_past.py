"""A bucket that keeps old versions gives back what somebody has deleted or overwritten past vehins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from s3_client import Bucket
    from vehins_runner import Vehins

ROOT = "team/models/vehicle-insurance"


@pytest.fixture
def words(bucket: Bucket) -> list[str]:
    """What leads to a registry in a bucket with versioning."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    return ["--registry", f"{bucket.url}/team", *bucket.words]


@pytest.fixture
def registered(vehins: Vehins, words: list[str]) -> Vehins:
    """Two versions, the second in production."""
    vehins.run("--quiet", *words)
    vehins.run("--quiet", *words, "--set", "train.seed=2", "--approve", "to have two")
    return vehins


def contents(bucket: Bucket) -> dict[str, bytes]:
    keys = bucket.keys()
    return {key: bucket.get(key) for key in keys}


def test_nothing_is_lost_in_a_registry_that_only_vehins_has_written(registered: Vehins, words: list[str]) -> None:
    registered("models", "rollback", "--reason", "moves an alias", *words)
    assert registered("models", "restore", "--json", *words).json == {"applied": False, "objects": []}


def test_what_was_deleted_and_overwritten_comes_back(registered: Vehins, bucket: Bucket, words: list[str]) -> None:
    before = contents(bucket)
    model, alias = f"{ROOT}/versions/1/bundle/model.txt", f"{ROOT}/aliases/production.json"
    for key in (f"{ROOT}/versions/2/manifest.json", alias):
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    bucket.put(model, b"tree\nof somebody else\n")

    listed = registered("models", "restore", "--json", *words).json
    how = {entry["key"].removeprefix("models/vehicle-insurance/"): entry["how"] for entry in listed["objects"]}
    assert how == {
        "aliases/production.json": "deleted",
        "versions/1/bundle/model.txt": "overwritten",
        "versions/2/manifest.json": "deleted",
    }
    assert bucket.get(model) == b"tree\nof somebody else\n"  # as long as nobody says --apply

    assert "Brought back 3 objects" in registered("models", "restore", "--apply", *words).err
    assert contents(bucket) == before
    assert registered("models", "restore", "--json", *words).json["objects"] == []
    assert registered("models", "show", "2", "--json", *words).json


def test_other_places_of_the_bucket_are_left_alone(registered: Vehins, bucket: Bucket, words: list[str]) -> None:
    bucket.put("team/models.txt", b"no registry")
    bucket.client.delete_object(Bucket=bucket.name, Key="team/models.txt")
    assert registered("models", "restore", "--json", *words).json["objects"] == []


def test_without_versioning_there_is_nothing_to_bring_back(vehins: Vehins, bucket: Bucket) -> None:
    words = ["--registry", f"{bucket.url}/team", *bucket.words]
    vehins.run("--quiet", *words)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"{ROOT}/aliases/production.json")
    assert vehins("models", "restore", "--json", *words).json["objects"] == []


def test_a_folder_says_that_it_keeps_none(finished: Vehins) -> None:
    assert "A folder keeps no old versions" in finished("models", "restore").err
