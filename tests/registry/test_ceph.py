"""The registry on another implementation of S3, which checks signatures and the policies of buckets.

The policies are those of docs/registry.md.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from registry_checks import check_alias, check_versions
from registry_processes import create, increment, publish, run_together, with_two_versions
from registry_stores import opened, place_in
from s3_client import new_bucket
from s3_server import log_in
from test_crowd import crowd

from vehins.errors import CredentialsError
from vehins.registry.registry import Registry, model_names

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DOCUMENT = Path(__file__).parents[2] / "docs" / "registry.md"
PREFIX = "team/registry"


@pytest.fixture
def bucket(ceph, monkeypatch):
    log_in(ceph.owner, monkeypatch)
    return new_bucket(ceph.owner)


@pytest.fixture
def store(bucket):
    return opened(place_in(bucket))


@pytest.fixture
def registry(store, tmp_path):
    return with_two_versions(store, tmp_path)


@pytest.mark.parametrize("checksums", ["sha256", "none"])
def test_versions_and_moves(checksums, registry, bucket, tmp_path):
    store = opened(place_in(bucket), checksums=checksums)
    registry = Registry(store, "car")
    publish(registry, tmp_path / "b3", "text 3")
    assert registry.point("champion", 2, reason="second")[1]
    assert registry.point("champion", 1, reason="back")[1]
    assert check_versions(registry, tmp_path / "copies") == 3
    assert check_alias(registry) == 3
    assert model_names(store) == ["car"]


def test_one_of_many_creates_and_no_increment_is_lost(bucket):
    place = place_in(bucket)
    won = run_together(create, [(place, "models/a", bytes([65 + n])) for n in range(8)])
    assert sorted(won) == [False] * 7 + [True]
    opened(place).put("counter", b"0")
    conflicts = run_together(increment, [(place, "counter", 10)] * 4)
    assert all(isinstance(count, int) for count in conflicts), conflicts
    assert opened(place).get("counter").data == b"40"


def test_sixteen_processes_push_and_promote(bucket, tmp_path):
    crowd(place_in(bucket), tmp_path, float(os.environ.get("VEHINS_TEST_CROWD_SECONDS", "2")))


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"user": "nobody"}])
def test_a_wrong_login(bucket, wrong):
    store = opened(place_in(bucket, server=replace(bucket.server, **wrong)))
    for call in (lambda: store.get("models/a"), lambda: store.keys(""), lambda: store.put("models/a", b"")):
        with pytest.raises(CredentialsError, match="does not accept the login") as caught:
            call()
        assert caught.value.exit_code == 3
        assert "wrong" not in str(caught.value.as_dict())


# --- Least rights -----------------------------------------------------------------------------------------------------


def policy(role: str) -> list[dict]:
    """The statements of a role, as the documentation has them."""
    found = re.search(rf"^#+ {role}$.*?```json\n(.*?)```", DOCUMENT.read_text(), re.M | re.S | re.I)
    assert found, role
    return json.loads(found[1])["Statement"]


@pytest.fixture(scope="module")
def users(ceph) -> Iterator[dict]:
    """A user of each role, and one of none."""
    return {role: ceph.user(role) for role in ("reader", "writer", "promoter", "stranger")}


@pytest.fixture
def as_role(bucket, registry, users):
    """The registry as it is for a role; each has its own statements in the policy of the bucket."""
    statements = []
    for role in ("reader", "writer", "promoter"):
        for statement in policy(role):
            text = json.dumps(statement).replace("BUCKET", bucket.name).replace("PREFIX", PREFIX)
            principal = {"AWS": [f"arn:aws:iam:::user/{role}"]}
            statements.append({**json.loads(text), "Sid": f"{role}{len(statements)}", "Principal": principal})
    text = json.dumps({"Version": "2012-10-17", "Statement": statements})
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=text)
    return lambda role: Registry(opened(place_in(bucket, server=users[role])), "car")


def refused(call):
    with pytest.raises(CredentialsError, match="does not permit it") as caught:
        call()
    assert "docs/registry.md" in caught.value.hint


def test_a_reader_reads_and_serves_and_writes_nothing(as_role, registry, tmp_path):
    reader = as_role("reader")
    assert check_versions(reader, tmp_path / "copies") == 2
    assert check_alias(reader) == 1
    assert reader.alias("other") is None
    refused(lambda: publish(reader, tmp_path / "b3", "text 3"))
    refused(lambda: reader.point("champion", 2, reason="no"))
    for call in (reader._store.put, lambda key, data: reader._store.put(key, data, if_absent=True)):
        for key in ("models/car/versions/3/manifest.json", "models/car/aliases/champion.json", "models/x"):
            refused(lambda call=call, key=key: call(key, b""))
    refused(lambda: reader._store.delete("models/car/aliases/champion.json"))
    assert check_alias(registry) == 1


def test_a_writer_registers_and_moves_no_alias(as_role, tmp_path):
    writer, reader = as_role("writer"), as_role("reader")
    version, new = publish(writer, tmp_path / "b3", "text 3")
    assert (version.version, new) == (3, True)
    refused(lambda: writer.point("champion", 3, reason="no"))
    refused(lambda: writer.point("other", 3, reason="no"))
    for key in ("aliases/champion.json", "history/champion/00000002.json", "elsewhere"):
        refused(lambda key=key: writer._store.put(f"models/car/{key}", b""))
    refused(lambda: writer._store.delete("models/car/versions/1/manifest.json"))
    assert check_alias(reader) == 1
    assert check_versions(reader, tmp_path / "copies") == 3


def test_a_promoter_moves_the_alias_and_registers_nothing(as_role, tmp_path):
    promoter = as_role("promoter")
    assert promoter.point("champion", 2, reason="better")[1]
    assert check_alias(as_role("reader")) == 2  # not its owner: in Ceph, an object belongs to who has put it
    refused(lambda: publish(promoter, tmp_path / "b3", "text 3"))
    refused(lambda: promoter._store.put("models/car/versions/1/manifest.json", b""))


def test_somebody_without_rights_sees_nothing_and_is_not_told_that_there_is_nothing(as_role):
    stranger = as_role("stranger")
    for call in (stranger.versions, lambda: stranger.alias("champion"), lambda: stranger.history("champion")):
        refused(call)
