"""Writes to a registry in S3 while things go wrong: nothing is half there, lost or done twice."""

from __future__ import annotations

import pytest
from registry_checks import check_alias, check_versions
from registry_processes import publish
from s3_line import about, behind, needs_one_answer

from vehins.errors import ConflictError, CredentialsError, NotFoundError, UnreachableError
from vehins.registry.registry import Registry
from vehins.settings import RemoteSettings

PASSING = ["500", "503", "reset", "lost", "lost in 500", "409", "412", "cut", "slow"]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("place", ["claim.json", "model.txt", "manifest.json"])
def test_a_passing_fault_of_a_write_makes_one_version(line, model, direct, tmp_path, place, fault):
    line.first(3, fault, about(place))
    version, new = publish(model, tmp_path / "b3", "text 3")
    assert new
    assert line.happened
    found = Registry(direct, "car")
    assert check_versions(found, tmp_path / "copies") == 3
    assert found.version(version.version) == version


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("place", ["aliases", "history"])
def test_a_passing_fault_of_a_write_makes_one_move(line, model, direct, place, fault):
    line.first(3, fault, about(place))
    move, moved = model.point("champion", 2, reason="second")
    assert moved
    assert line.happened
    found = Registry(direct, "car")
    assert found.alias("champion") == move
    assert [one.reason for one in found.history("champion")] == ["first", "second"]
    assert check_alias(found) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("500", UnreachableError),
        ("503", UnreachableError),
        ("reset", UnreachableError),
        ("409", ConflictError),
        ("412", ConflictError),
        ("403", CredentialsError),
        ("bad login", CredentialsError),
    ],
)
@pytest.mark.parametrize("place", ["claim.json", "model.txt", "manifest.json", "aliases", "history"])
def test_a_lasting_fault_of_a_write_leaves_no_half_version_and_no_lost_move(
    line, model, direct, tmp_path, monkeypatch, place, fault, kind
):
    monkeypatch.setattr("vehins.registry.objects.pause", lambda attempt: None)
    monkeypatch.setattr("vehins.registry.aliases.pause", lambda attempt: None)
    line.always(fault, about(place))

    def commands():
        publish(model, tmp_path / "b3", "text 3")
        model.point("champion", 2, reason="second")

    with pytest.raises(kind) as caught:
        commands()
    assert caught.value.hint
    assert "test-secret" not in str(caught.value.as_dict())
    found = Registry(direct, "car")
    assert check_versions(found, tmp_path / "copies") == (3 if place in ("aliases", "history") else 2)
    # Who may not write the history is stopped before the move.
    assert check_alias(found) == (2 if place == "history" and kind is not CredentialsError else 1)
    line.plan = lambda request: None  # and once it is over, the same commands go on from there
    commands()
    assert check_versions(found, tmp_path / "copies") == 3
    assert check_alias(found) == 2


@pytest.mark.parametrize(
    "place", ["claim.json", "manifest.json", pytest.param("aliases", marks=needs_one_answer), "model.txt"]
)
def test_a_reply_that_is_always_lost_is_still_ones_own_success(line, model, direct, tmp_path, place):
    line.always("lost", about(place))
    version, new = publish(model, tmp_path / "b3", "text 3")
    assert (version.version, new) == (3, True)
    assert model.point("champion", 3, reason="third")[1]
    assert check_versions(Registry(direct, "car"), tmp_path / "copies") == 3
    assert check_alias(Registry(direct, "car")) == 2


@pytest.mark.parametrize("place", ["manifest.json", "aliases"])
def test_a_server_that_does_not_answer_in_time(line, bucket, direct, tmp_path, place):
    store = behind(line, bucket, remote=RemoteSettings(connect_timeout=10, read_timeout=3, attempts=2))
    line.always("hang", about(place))
    registry = Registry(store, "car")
    version, new = publish(registry, tmp_path / "b1", "text 1")  # the write arrives, and is found there
    assert (version.version, new) == (1, True)
    assert registry.point("champion", 1, reason="first")[1]
    assert check_alias(Registry(direct, "car")) == 1
    line.always("hang")
    with pytest.raises(UnreachableError) as caught:
        registry.alias("champion")
    assert not isinstance(caught.value, NotFoundError)
