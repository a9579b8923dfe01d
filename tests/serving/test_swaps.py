"""A service that follows its alias: what it takes over, what it refuses, and what it says of both."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from server_process import wait_until
from serving_models import GOOD, ask
from swap_models import Publisher, variant

from vehins.errors import BundleRefusedError, UnreachableError
from vehins.registry.registry import Registry
from vehins.serving import kept, trial
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vehins.serving.predictor import Predictor
    from vehins.serving.status import SwapOutcome
    from vehins.settings import Settings


class Listener:
    """Hears of swaps."""

    def __init__(self) -> None:
        self.outcomes: list[SwapOutcome] = []

    def answered(self, *given: Any) -> None: ...

    def refused(self, *given: Any) -> None: ...

    def swapped(self, outcome: SwapOutcome) -> None:
        self.outcomes.append(outcome)


class Place:
    """A registry with versions that differ, a holder, and who looks after it."""

    def __init__(self, settings: Settings, base: Predictor, folder: Path) -> None:
        self.settings, self.base, self.folder = settings, base, folder
        self.publisher = Publisher(settings)
        self.heard = Listener()
        self.watchers: list[Watcher] = []
        self.made = 0

    def version(self, **how: Any) -> int:
        """Publish one that answers as none before."""
        self.made += 1
        folder = self.folder / f"made-{self.made}"
        return self.publisher.publish(folder, variant(self.base.bundle, folder, self.made, **how))

    def watch(self, **serve: Any) -> Holder:
        """Begin to serve, as a process does; the registry has been looked at."""
        changed = self.settings.serve.model_copy(update={"poll_seconds": 0.1, **serve})
        settings = self.settings.model_copy(update={"serve": changed})
        holder = Holder(100)
        watcher = Watcher(settings, holder, [self.heard])
        self.watchers.append(watcher)
        watcher.start()
        assert watcher.looked.wait(60)
        return holder

    def stop(self) -> None:
        for watcher in self.watchers:
            watcher.stop()
        self.watchers.clear()


@pytest.fixture
def place(served: Settings, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    settings = served.model_copy(update={"workspace": tmp_path / "ws", "registry": str(tmp_path / "registry")})
    # Trials of their own are tested below: here they run in this process, as they take a second each.
    monkeypatch.setattr(trial, "_try", lambda folder, is_over: None)
    found = Place(settings, predictor, tmp_path)
    yield found
    found.stop()


def answering(holder: Holder) -> int | None:
    return holder.ready.predictor.version if holder.ready else None


def model_of(holder: Holder, place: Place) -> Any:
    return ask(create_app(holder, place.settings.serve), "GET", "/v1/model").json()


def test_promotions_and_rollbacks_are_followed(place: Place) -> None:
    first, second = place.version(), place.version()
    place.publisher.promote(first)
    holder = place.watch()
    assert answering(holder) == first
    before = holder.ready
    place.publisher.promote(second)
    wait_until(lambda: answering(holder) == second)
    assert before is not None
    assert holder.ready.predictor.predict([GOOD]) != before.predictor.predict([GOOD])
    assert holder.ready.request is before.request  # the same table: nothing new to be made for it
    place.publisher.registry.rollback("production", reason="test")
    wait_until(lambda: answering(holder) == first)
    wait_until(lambda: len(place.heard.outcomes) == 3)
    assert [(o.previous, o.version, o.ok, o.source) for o in place.heard.outcomes] == [
        (None, first, True, "registry"),
        (first, second, True, "registry"),
        (second, first, True, "registry"),
    ]
    service = model_of(holder, place)["service"]
    assert (service["source"], service["swaps"], service["failed_swaps"]) == ("registry", 3, 0)
    assert service["last_failure"] is None
    assert service["check"]["fault"] is None
    assert service["pinned"] is False


def test_a_broken_version_is_reported_and_not_fetched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = place.version(), place.version(golden_error=1e-6)
    place.publisher.promote(good)
    holder = place.watch()
    fetched: list[int] = []
    plain = Registry.fetch

    def fetch(self: Registry, version: Any, folder: Path) -> Path:
        fetched.append(version.version)
        return plain(self, version, folder)

    monkeypatch.setattr(Registry, "fetch", fetch)
    with caplog.at_level(logging.INFO):
        place.publisher.promote(bad)
        wait_until(lambda: holder.status.failed == 1)
        check = holder.status.check
        wait_until(lambda: holder.status.check is not check)
        check = holder.status.check
        wait_until(lambda: holder.status.check is not check)
    assert (answering(holder), fetched, holder.status.failed) == (good, [bad], 1)
    assert f"Version {bad} cannot take over, version {good} stays in service" in caplog.text
    assert "Golden row 1" in caplog.text
    found = model_of(holder, place)
    assert found["version"] == good
    assert found["service"]["last_failure"]["version"] == bad
    assert "golden rows" in found["service"]["last_failure"]["reason"]
    assert str(place.folder) not in str(found)
    assert place.heard.outcomes[-1].reason == found["service"]["last_failure"]["reason"]
    # It is tried again when the alias moves.
    place.publisher.promote(good)
    wait_until(lambda: holder.status.check is not check)
    place.publisher.promote(bad)
    wait_until(lambda: holder.status.failed == 2)
    assert fetched == [bad, bad]


@pytest.mark.parametrize(
    ("name", "change"),
    [("model.txt", lambda data: data.replace(b"0", b"1", 1)), ("features.json", None), ("bundle.json", bytes.upper)],
)
def test_a_version_that_is_damaged_in_the_registry(place: Place, name: str, change: Any) -> None:
    good, bad = place.version(), place.version()
    place.publisher.spoil(bad, name, change)
    place.publisher.promote(good)
    holder = place.watch()
    place.publisher.force(bad)
    wait_until(lambda: holder.status.failed == 1)
    assert answering(holder) == good
    assert holder.status.failure.reason == "What the registry holds of it is damaged."


def test_a_version_that_names_another_bundle(place: Place) -> None:
    good = place.version()
    place.publisher.promote(good)
    holder = place.watch()
    other = place.publisher.publish(place.folder / "made-1", "f" * 64)
    place.publisher.promote(other)
    wait_until(lambda: holder.status.failed == 1)
    assert (answering(holder), holder.status.failure.version) == (good, other)


def test_a_refused_version_is_tried_again_when_its_manifest_changes(place: Place) -> None:
    good, bad = place.version(), place.version(golden_error=1e-6)
    place.publisher.promote(good)
    holder = place.watch()
    place.publisher.promote(bad)
    wait_until(lambda: holder.status.failed == 1)
    store = place.publisher.store
    key = f"models/vehicle-insurance/versions/{bad}/manifest.json"
    store.put(key, store.get(key).data.replace(b'"actor": "', b'"actor": "another-'))
    wait_until(lambda: holder.status.failed == 2)
    assert answering(holder) == good


def test_what_may_pass_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = place.version(), place.version()
    place.publisher.promote(first)
    holder = place.watch()
    plain, left = Registry.fetch, [UnreachableError("The reply was lost"), OSError(28, "No space left on device")]

    def fetch(self: Registry, version: Any, folder: Path) -> Path:
        if left:
            raise left.pop(0)
        return plain(self, version, folder)

    monkeypatch.setattr(Registry, "fetch", fetch)
    place.publisher.promote(second)
    wait_until(lambda: answering(holder) == second)
    wait_until(lambda: len(place.heard.outcomes) == 4)
    assert [outcome.ok for outcome in place.heard.outcomes] == [True, False, False, True]
    assert holder.status.failure.reason == "The service cannot write to its disk or read from it."


def test_an_empty_registry_is_waited_for(place: Place) -> None:
    holder = place.watch()
    assert place.watchers[0].fault is None
    app = create_app(holder, place.settings.serve)
    response = ask(app, "GET", "/readyz")
    assert response.status_code == 503
    assert response.json()["error"]["detail"] == "No version of vehicle-insurance is in production yet."
    first = place.version()
    place.publisher.promote(first)
    wait_until(lambda: answering(holder) == first)
    assert ask(app, "GET", "/readyz").json()["source"] == "registry"


def test_a_pinned_version_stays(place: Place) -> None:
    first, second = place.version(), place.version()
    place.publisher.promote(second)
    holder = place.watch(version=first)
    assert answering(holder) == first
    wait_until(lambda: not place.watchers[0]._thread.is_alive())  # nobody looks at the alias
    assert model_of(holder, place)["service"]["pinned"] is True
    assert not place.watch(version=9).ready
    assert "no version 9" in str(place.watchers[1].fault)


def test_an_alias_that_is_deleted_leaves_the_version_in_service_and_is_told_of(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = place.version(), place.version()
    place.publisher.promote(first)
    with caplog.at_level(logging.INFO):
        holder = place.watch()
        alias = place.folder / "registry/models/vehicle-insurance/aliases/production.json"
        alias.unlink()
        wait_until(lambda: holder.status.check.fault == "No version of vehicle-insurance is in production.")
        checked = holder.status.check.at
        wait_until(lambda: holder.status.check.at > checked)
        assert answering(holder) == first
        ready = ask(create_app(holder, place.settings.serve), "GET", "/readyz")
        assert (ready.status_code, ready.json()["check"]["fault"]) == (200, holder.status.check.fault)
        place.publisher.promote(second)
        wait_until(lambda: answering(holder) == second)
        assert holder.status.check.fault is None
    assert caplog.text.count("is in production. Version 1 stays in service") == 1  # not with each look
    assert "The registry names a version to serve" in caplog.text


def test_a_registry_that_goes_away_and_comes_back(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    first, second = place.version(), place.version()
    place.publisher.promote(first)
    with caplog.at_level(logging.INFO):
        holder = place.watch()
        away = place.folder / "away"
        (place.folder / "registry").rename(away)
        (place.folder / "registry").symlink_to(place.folder / "nowhere")  # as a mount that is gone
        wait_until(lambda: holder.status.check.fault == "The registry does not answer.")
        wait_until(lambda: place.watchers[0]._misses > 2)
        app = create_app(holder, place.settings.serve)
        ready = ask(app, "GET", "/readyz")
        assert (ready.status_code, ready.json()["check"]["fault"]) == (200, "The registry does not answer.")
        (place.folder / "registry").unlink()
        away.rename(place.folder / "registry")
        place.publisher.promote(second)
        wait_until(lambda: answering(holder) == second)
    assert caplog.text.count("No word from the registry") == 1  # not with each look
    assert "The registry names a version to serve" in caplog.text
    assert holder.status.failed == 0


def test_an_unknown_error_does_not_end_the_watch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = place.version(), place.version()
    place.publisher.promote(first)
    holder = place.watch()
    plain, left = Registry.look, [RuntimeError("a bug"), MemoryError()]

    def look(self: Registry, *given: Any) -> Any:
        if left:
            raise left.pop(0)
        return plain(self, *given)

    monkeypatch.setattr(Registry, "look", look)
    place.publisher.promote(second)
    wait_until(lambda: answering(holder) == second)
    assert not left


# --- without a registry -----------------------------------------------------------------------------------------------


def without(place: Place, registry: Path, **changes: Any) -> tuple[bool, Holder]:
    """Begin to serve while the registry is as on a disk that is not mounted; whether a copy stands in."""
    away = registry.with_name("away")
    registry.rename(away)
    registry.symlink_to(registry.with_name("nowhere"))
    try:
        holder = place.watch(**changes)
        found = place.watchers[-1].stand_in()
        place.stop()
    finally:
        registry.unlink()
        away.rename(registry)
    return found, holder


def test_a_copy_stands_in_for_its_own_alias_alone(place: Place) -> None:
    registry = place.folder / "registry"
    first, second = place.version(), place.version()
    place.publisher.promote(first)
    assert without(place, registry)[0] is False
    place.watch()
    place.stop()
    found, holder = without(place, registry)
    assert (found, answering(holder), holder.status.source) == (True, first, "cache")
    assert holder.status.check.fault == "The registry does not answer."
    assert place.heard.outcomes[-1].source == "cache"
    assert without(place, registry, version=second)[0] is False
    place.watch(version=second)
    place.stop()
    found, holder = without(place, registry, version=second)
    assert (found, answering(holder)) == (True, second)
    changed = place.settings
    place.settings = changed.model_copy(update={"alias": "another"})
    assert without(place, registry)[0] is False
    place.settings = changed


@pytest.mark.parametrize("harm", ["copy", "golden", "record", "gone"])
def test_a_damaged_copy_does_not_stand_in(place: Place, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    first = place.version()
    place.publisher.promote(first)
    place.watch()
    place.stop()
    [record] = (place.settings.workspace / "serving").iterdir()
    copy = place.settings.workspace / "cache" / place.publisher.registry.version(first).bundle
    if harm == "copy":
        (copy / "model.txt").write_bytes((copy / "model.txt").read_bytes()[:-1])
    elif harm == "golden":  # a copy whose files fit each other, and not the version
        variant(place.base.bundle, copy, 9, golden_error=1e-6)
    elif harm == "record":
        record.write_text("{")
    else:
        (copy / "model.txt").unlink()
    found, holder = without(place, place.folder / "registry")
    assert (found, answering(holder)) == (False, None)
    assert "cannot be read" in caplog.text if harm == "record" else "damaged or gone" in caplog.text
    holder = place.watch()  # back in the registry, it is fetched anew
    assert answering(holder) == first


def test_a_copy_is_confirmed_by_the_registry_when_it_answers(place: Place) -> None:
    registry, away = place.folder / "registry", place.folder / "away"
    first = place.version()
    place.publisher.promote(first)
    place.watch()
    place.stop()
    registry.rename(away)
    registry.symlink_to(place.folder / "nowhere")
    holder = place.watch()
    assert place.watchers[-1].stand_in()
    ready = holder.ready
    registry.unlink()
    away.rename(registry)
    wait_until(lambda: holder.status.source == "registry")
    assert holder.ready is ready
    assert holder.status.swaps == 1


# --- trials -----------------------------------------------------------------------------------------------------------


def never() -> bool:
    return False


def test_a_bundle_is_opened_on_trial_once(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("a" * 64)
    variant(predictor.bundle, folder, 3)
    assert not trial.passed(folder)
    trial.run(folder, never)
    assert trial.passed(folder)
    monkeypatch.setattr(trial, "_try", None)
    trial.run(folder, never)
    trial.mark_of(folder).write_text("vehins of another time")
    assert not trial.passed(folder)


def test_a_bundle_that_is_cut_short_or_lies_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    """The hashes fit in each: what is wrong shows when it is opened, and may kill who does so."""
    for name, how in {"cut": {"keep": 0.4}, "lies": {"golden_error": 1e-6}}.items():
        folder = tmp_path / name
        variant(predictor.bundle, folder, 10, **how)
        with pytest.raises(BundleRefusedError) as caught:
            trial.run(folder, never)
        assert not trial.passed(folder)
    assert "Golden row 1" in caught.value.detail


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-signal.SIGSEGV, BundleRefusedError),
        (-signal.SIGABRT, BundleRefusedError),
        (1, BundleRefusedError),
        (-signal.SIGKILL, UnreachableError),  # memory was short
        (-signal.SIGTERM, UnreachableError),
        (75, UnreachableError),
    ],
)
def test_how_a_trial_ends_tells_whose_fault_it_was(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """A process that dies just so stands in for the one that opens a bundle."""
    end = f"os.kill(os.getpid(), {-code})" if code < 0 else f"os._exit({code})"
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport os\n{end}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(kind):
        trial.run(tmp_path / "bundle", never)


@pytest.mark.parametrize("seconds", [0, 600])
def test_a_trial_that_nobody_waits_for_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """However quick it is."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport time\ntime.sleep({seconds})\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(UnreachableError):
        trial.run(tmp_path / "bundle", lambda: True)
    assert not trial.passed(tmp_path / "bundle")


# --- the cache --------------------------------------------------------------------------------------------------------


def test_old_copies_go_and_needed_ones_stay(place: Place) -> None:
    versions = [place.version() for _ in range(kept.COPIES + 4)]
    place.publisher.promote(versions[0])
    holder = place.watch()
    other = place.settings.model_copy(update={"alias": "other"})
    Publisher(other).promote(versions[0])
    kept.keep(kept.Place.of(other, place.publisher.store.url), place.publisher.registry.version(versions[0]))
    for version in versions[1:]:
        place.publisher.promote(version)
        wait_until(lambda version=version: answering(holder) == version)
    cache = place.settings.workspace / "cache"
    bundles = [place.publisher.registry.version(version).bundle for version in versions]
    expected = {bundles[0], *bundles[-kept.COPIES :]}
    wait_until(lambda: {path.name for path in cache.iterdir() if path.is_dir()} == expected)
    assert {path.name for path in cache.glob("*.tried")} == {f"{name}.tried" for name in expected}


def test_a_copy_that_vanishes_while_it_is_loaded_is_fetched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.version()
    place.publisher.promote(first)
    gone: list[Path] = []

    def vanish(folder: Path, _: Any) -> None:
        if not gone:
            gone.append(folder)
            (folder / "model.txt").unlink()

    monkeypatch.setattr(trial, "_try", vanish)
    holder = place.watch()
    assert (answering(holder), len(gone), holder.status.failed) == (first, 1, 0)


def test_old_models_are_freed(place: Place) -> None:
    import gc
    import weakref

    first, second = place.version(), place.version()
    place.publisher.promote(first)
    holder = place.watch()
    old = weakref.ref(holder.ready.predictor.bundle)
    place.publisher.promote(second)
    wait_until(lambda: answering(holder) == second)
    wait_until(lambda: gc.collect() >= 0 and old() is None)
