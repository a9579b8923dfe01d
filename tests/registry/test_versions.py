"""Versions: registered once, whole or not at all."""

from datetime import datetime

import pytest
from pydantic import ValidationError
from registry_processes import publish, publish_one, run_together, write_bundle
from registry_stores import Watched, fail_once, is_s3, opened

from vehins.artifacts.files import FileRecord
from vehins.errors import ArtifactDamagedError, ConfigurationError, ConflictError, NotFoundError, UnreachableError
from vehins.registry import registry as registry_module
from vehins.registry.registry import ModelVersion, Registry, model_names


@pytest.fixture
def watched(store):
    return Watched(store)


def again(registry, folder, files, bundle="other", **more):
    facts = {"champion": None, "evaluation": {}, "approved": None, "lineage": {}}
    return registry.publish(folder, files, bundle=bundle, **facts | more)


def test_an_empty_registry(registry, store):
    assert registry.versions() == []
    assert registry.find("abc") is None
    assert model_names(store) == []
    with pytest.raises(NotFoundError) as caught:
        registry.version(1)
    assert "version 1" in caught.value.headline
    assert "vehins models list" in caught.value.hint


def test_a_name_must_be_a_name(store):
    with pytest.raises(ConfigurationError):
        Registry(store, "../car")


def test_the_layout(registry, store, tmp_path):
    version, new = publish(registry, tmp_path / "b", "one")
    assert new
    assert store.keys("") == [
        "models/car/versions/1/bundle/features.json",
        "models/car/versions/1/bundle/model.txt",
        "models/car/versions/1/bundle/more/golden.jsonl",
        "models/car/versions/1/claim.json",
        "models/car/versions/1/manifest.json",
    ]
    assert ModelVersion.model_validate_json(store.get("models/car/versions/1/manifest.json").data) == version
    assert store.get("models/car/versions/1/bundle/model.txt").data == b"one"
    assert [file.path for file in version.files] == ["features.json", "model.txt", "more/golden.jsonl"]
    assert "@" in version.actor
    assert version.created_at.utcoffset().total_seconds() == 0


def test_what_is_told_is_kept(registry, tmp_path):
    files, bundle = write_bundle(tmp_path / "b", "one")
    evaluation = {"auc": 0.85, "rows": 3, "ok": False, "note": None, "name": "x"}
    given = {"champion": 7, "evaluation": evaluation, "approved": "the boss", "lineage": {"Dataset": "d"}}
    version, _ = registry.publish(tmp_path / "b", files, bundle=bundle, **given)
    assert version.model_dump(include=set(given)) == given
    assert (version.name, version.version, version.bundle, version.files) == ("car", 1, bundle, files)
    assert registry.version(1) == version


def test_the_manifest_is_written_last(watched, tmp_path):
    publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert watched.written[0].endswith("1/claim.json")
    assert watched.written[-1].endswith("1/manifest.json")
    assert len(watched.written) == 5


def test_versions_ascend_by_number(registry, tmp_path):
    for number in range(1, 12):
        publish(registry, tmp_path / f"b{number}", f"text {number}")
    assert [version.version for version in registry.versions()] == list(range(1, 12))


def test_models_are_apart(store, tmp_path):
    publish(Registry(store, "van"), tmp_path / "b", "one")
    publish(Registry(store, "car"), tmp_path / "b", "one")
    store.put("models/boat/versions/1/claim.json", b"{}")
    store.put("models/boat/versions/x/manifest.json", b"{}")
    assert model_names(store) == ["car", "van"]
    assert Registry(store, "boat").versions() == []


def test_the_same_bundle_is_registered_once(watched, tmp_path):
    registry = Registry(watched, "car")
    first, _ = publish(registry, tmp_path / "b", "one")
    publish(registry, tmp_path / "c", "two")
    before = list(watched.written)
    assert publish(registry, tmp_path / "d", "one") == (first, False)
    assert watched.written == before


def test_only_one_publisher_is_told_that_it_made_the_version(watched, store, tmp_path, monkeypatch):
    """Not even when two register the same bundle in the same microsecond."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 24, tzinfo=tz)

    monkeypatch.setattr(registry_module, "datetime", Stopped)
    met = []

    def overtake(key):
        if "manifest" in key and not met:
            met.append(publish(Registry(store, "car"), tmp_path / "other", "one"))

    watched.before = overtake
    mine, new = publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert met == [(mine, True)]
    assert not new


def test_find_gives_the_newest(registry, store, tmp_path):
    version, _ = publish(registry, tmp_path / "b", "one")
    twin = version.model_copy(update={"version": 2})
    store.put("models/car/versions/2/manifest.json", twin.model_dump_json().encode())
    assert registry.find(version.bundle) == twin


@pytest.mark.parametrize("place", ["claim.json", "features.json", "golden.jsonl", "manifest.json"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_publisher_that_stops_half_way_leaves_no_version(watched, tmp_path, place, moment):
    registry = Registry(watched, "car")
    setattr(watched, moment, fail_once(place, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        publish(registry, tmp_path / "b", "one")
    whole = (place, moment) == ("manifest.json", "after")
    nothing = (place, moment) == ("claim.json", "before")
    assert [version.version for version in registry.versions()] == ([1] if whole else [])
    assert model_names(watched) == (["car"] if whole else [])
    other, new = publish(registry, tmp_path / "c", "two")  # another bundle passes the number by
    assert (other.version, new) == (1 if nothing else 2, True)
    same, new = publish(registry, tmp_path / "d", "one")  # the same bundle goes on where it was left
    assert (same.version, new) == (2 if nothing else 1, not whole)
    assert [version.version for version in registry.versions()] == [1, 2]
    for version in registry.versions():
        registry.point("any", version.version, reason="whole")


@pytest.mark.parametrize("place", ["claim.json", "manifest.json"])
def test_a_lost_reply_is_no_failure(watched, tmp_path, place):
    registry = Registry(watched, "car")
    watched.after = fail_once(place)
    version, new = publish(registry, tmp_path / "b", "one")
    assert (version.version, new) == (1, True)
    assert registry.versions() == [version]


@pytest.mark.parametrize("place", ["claim.json", "model.txt", "manifest.json"])
def test_a_conflict_that_nobody_won_is_tried_again(watched, tmp_path, place):
    registry = Registry(watched, "car")
    watched.before = fail_once(place, ConflictError("409"))
    version, new = publish(registry, tmp_path / "b", "one")
    assert (version.version, new) == (1, True)


def test_a_write_that_fails_is_an_error(watched, tmp_path):
    watched.before = fail_once("manifest.json")
    with pytest.raises(UnreachableError, match="reply was lost"):
        publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert Registry(watched, "car").versions() == []


def test_endless_conflicts_end(watched, tmp_path):
    def refuse(key):
        raise ConflictError("409")

    watched.before = refuse
    with pytest.raises(ConflictError) as caught:
        publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert caught.value.hint


def test_a_number_taken_meanwhile_is_passed_by(watched, store, tmp_path):
    taken = []

    def take(key):
        if key.endswith("claim.json") and len(taken) < 3:
            taken.append(key)
            store.put(key, b"{}")

    watched.before = take
    version, _ = publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert version.version == 4


def test_two_publishers_of_one_bundle_meet(watched, store, tmp_path):
    met = []

    def overtake(key):
        if "golden" in key and not met:
            met.append(publish(Registry(store, "car"), tmp_path / "other", "one"))

    watched.before = overtake
    mine, new = publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert met == [(mine, True)]
    assert not new
    assert Registry(store, "car").versions() == [mine]


def test_a_listing_that_is_torn_misses_no_claim(watched, store, tmp_path):
    watched.before = fail_once("features.json", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        publish(Registry(watched, "car"), tmp_path / "b", "one")
    # A second publisher of the bundle is at work.
    store.put("models/car/versions/2/claim.json", store.get("models/car/versions/1/claim.json").data)
    listings = []

    def tear(keys):
        listings.append(keys)  # the first looks for the bundle, the second for claims
        return [key for key in keys if "versions/1/" not in key] if len(listings) < 3 else keys

    watched.listed = tear
    version, new = publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert (version.version, new) == (1, True)


def test_a_bundle_unlike_its_records_is_not_registered(watched, tmp_path):
    registry = Registry(watched, "car")
    files, _ = write_bundle(tmp_path / "b", "one")
    (tmp_path / "b" / "model.txt").write_text("two")
    with pytest.raises(ArtifactDamagedError) as caught:
        again(registry, tmp_path / "b", files)
    assert "model.txt" in caught.value.detail
    (tmp_path / "b" / "model.txt").unlink()
    with pytest.raises(ArtifactDamagedError, match="damaged"):
        again(registry, tmp_path / "b", files)
    assert watched.written == []


def test_a_file_that_changes_on_the_way_is_caught(watched, tmp_path):
    registry = Registry(watched, "car")
    files, _ = write_bundle(tmp_path / "b", "one")
    watched.before = lambda key: (tmp_path / "b" / "model.txt").write_text("two") and None
    with pytest.raises(ArtifactDamagedError) as caught:
        again(registry, tmp_path / "b", files)
    assert "versions/1/bundle/model.txt" in caught.value.detail
    assert registry.versions() == []
    watched.before = lambda key: None
    files, _ = write_bundle(tmp_path / "b", "one")
    version, new = again(registry, tmp_path / "b", files)  # the spoilt number 1 is passed by
    assert (version.version, new) == (2, True)


def test_what_a_store_spoils_is_caught(watched, store, tmp_path):
    watched.after = lambda key: store.put(key, b"spoilt") and None if key.endswith("model.txt") else None
    with pytest.raises(ArtifactDamagedError):
        publish(Registry(watched, "car"), tmp_path / "b", "one")
    assert Registry(store, "car").versions() == []


@pytest.mark.parametrize("name", [".hidden", "a:b"])
def test_a_file_name_that_cannot_be_stored_is_refused_before_anything_is_written(watched, tmp_path, name):
    (tmp_path / name).write_text("")
    record = FileRecord(path=name, bytes=0, sha256="0" * 64)
    with pytest.raises(ConfigurationError):
        again(Registry(watched, "car"), tmp_path, [record])
    assert watched.written == []


def test_a_version_needs_files_and_finite_metrics(watched, tmp_path):
    files, _ = write_bundle(tmp_path / "b", "one")
    with pytest.raises(ValidationError):
        again(Registry(watched, "car"), tmp_path, [])
    with pytest.raises(ValidationError):
        again(Registry(watched, "car"), tmp_path / "b", files, evaluation={"auc": float("nan")})
    assert watched.written == []


def test_a_damaged_manifest_is_an_error_and_names_its_mend(registry, store, tmp_path):
    version, _ = publish(registry, tmp_path / "b", "one")
    store.put("models/car/versions/1/manifest.json", b"{")
    for call in [registry.versions, lambda: registry.version(1), lambda: registry.find(version.bundle)]:
        with pytest.raises(ArtifactDamagedError) as caught:
            call()
        assert "models/car/versions/1/manifest.json" in caught.value.headline
        assert "backup" in caught.value.hint


def test_a_manifest_in_the_wrong_place_is_damaged(registry, store, tmp_path):
    publish(registry, tmp_path / "b", "one")
    store.put("models/car/versions/2/manifest.json", store.get("models/car/versions/1/manifest.json").data)
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.versions()
    assert "version 1 of car" in caught.value.detail


def test_numbers_that_are_none_are_ignored(registry, store, tmp_path):
    for name in ["01", "x", "-1", "0", "\u0661"]:
        store.put(f"models/car/versions/{name}/manifest.json", b"{}")
    assert registry.versions() == []
    assert publish(registry, tmp_path / "b", "one")[0].version == 1


def test_a_store_that_does_not_answer_is_never_empty(tmp_path):
    (tmp_path / "registry").write_text("")
    registry = Registry(opened(str(tmp_path / "registry")), "car")
    calls = [
        registry.versions,
        lambda: registry.version(1),
        lambda: registry.find("x"),
        lambda: registry.alias("champion"),
        lambda: registry.resolve("champion"),
        lambda: registry.history("champion"),
        lambda: registry.fetch(1, tmp_path / "out"),
        lambda: registry.point("champion", 1, reason=""),
        lambda: publish(registry, tmp_path / "b", "one"),
        lambda: model_names(opened(str(tmp_path / "registry"))),
    ]
    for call in calls:
        with pytest.raises(UnreachableError) as caught:
            call()
        assert not isinstance(caught.value, NotFoundError)


def test_publishers_of_different_bundles_all_get_a_number(registry, store_url, tmp_path):
    got = run_together(publish_one, [(store_url, tmp_path / f"b{number}", f"text {number}") for number in range(6)])
    assert sorted(got) == [(number, True) for number in range(1, 7)]
    assert [version.version for version in registry.versions()] == list(range(1, 7))
    for version in registry.versions():
        registry.fetch(version, tmp_path / "out" / str(version.version))


def test_publishers_of_one_bundle_make_one_version(registry, store_url, tmp_path):
    for attempt in range(2 if is_s3(store_url) else 4):
        given = [(store_url, tmp_path / f"b{number}", f"attempt {attempt}") for number in range(6)]
        got = run_together(publish_one, given)
        assert len({number for number, _ in got}) == 1
        assert sorted(new for _, new in got) == [False] * 5 + [True]
        assert len(registry.versions()) == attempt + 1
