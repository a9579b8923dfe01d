"""What the registry writes down, and how it refuses what it has not written."""

import getpass
import json
import socket
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from vehins.artifacts.files import FileRecord
from vehins.errors import ArtifactDamagedError, ConfigurationError, WorkspaceVersionError
from vehins.registry import records
from vehins.registry.records import AliasMove, ModelVersion, check_name, dump, parse

FACTS = {
    "manifest_version": 1,
    "name": "car",
    "version": 3,
    "created_at": datetime(2026, 11, 24, tzinfo=UTC),
    "actor": "me@here",
    "bundle": "abc",
    "files": [FileRecord(path="model.txt", bytes=1, sha256="0" * 64)],
    "champion": None,
    "evaluation": {"auc": 0.5, "n": 1, "ok": True, "note": "1", "none": None},
    "approved": None,
    "lineage": {"Dataset": "d1"},
}


def test_a_version_comes_back_as_it_was():
    version = ModelVersion(**FACTS)
    again = parse(ModelVersion, dump(version), "key", "url")
    assert again == version
    assert [type(value) for value in again.evaluation.values()] == [float, int, bool, str, type(None)]
    assert json.loads(dump(version))["created_at"] == "2026-11-24T00:00:00Z"


@pytest.mark.parametrize(
    "wrong",
    [
        {"manifest_version": 2},
        {"version": 0},
        {"created_at": datetime(2026, 11, 24)},
        {"files": []},
        {"bundle": ""},
        {"more": 1},
        {"evaluation": {"auc": float("nan")}},
        {"evaluation": {"auc": float("inf")}},
        {"evaluation": {"slices": {}}},
    ],
    ids=str,
)
def test_a_version_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        ModelVersion(**FACTS | wrong)


def test_records_do_not_change():
    with pytest.raises(ValidationError):
        ModelVersion(**FACTS).version = 4


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"{}", b"\xff", dump(ModelVersion(**FACTS))[:-20]])
@pytest.mark.parametrize("kind", [ModelVersion, AliasMove])
def test_damaged_json_names_its_key_and_the_mend(kind, data):
    with pytest.raises(ArtifactDamagedError) as caught:
        parse(kind, data, "models/car/x.json", "/srv/registry")
    assert "models/car/x.json" in caught.value.headline
    assert "/srv/registry" in caught.value.detail
    assert "backup" in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_manifest_of_a_newer_vehins_asks_for_an_upgrade():
    newer = json.dumps(json.loads(dump(ModelVersion(**FACTS))) | {"manifest_version": 2, "more": 1}).encode()
    with pytest.raises(WorkspaceVersionError) as caught:
        parse(ModelVersion, newer, "key", "url")
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("name", ["a", "Car-2.1_x", "9", "a" * 100])
def test_names(name):
    assert check_name("a model", name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", "a/b", "a b", "a\n", "é", "a" * 101, "../a"])
def test_names_that_are_refused(name):
    with pytest.raises(ConfigurationError) as caught:
        check_name("a model", name)
    assert repr(name) in caught.value.detail


def test_the_actor_is_user_at_host(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert records.actor() == "ann@box"


@pytest.mark.parametrize("error", [KeyError("uid 1000"), OSError(), ImportError("pwd")])
def test_an_actor_without_a_name(monkeypatch, error):
    def refuse():
        raise error

    monkeypatch.setattr(getpass, "getuser", refuse)
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    assert records.actor() == "unknown@unknown"


def test_an_actor_without_a_host(monkeypatch):
    def refuse():
        raise OSError

    monkeypatch.setattr(socket, "gethostname", refuse)
    assert records.actor().endswith("@unknown")
