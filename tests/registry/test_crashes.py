"""Writers killed at random moments: what readers see is whole, before and after."""

import random
import time

import pytest
from registry_checks import check_alias, check_versions
from registry_processes import kill, point_many, publish, publish_many, start
from registry_stores import is_s3

MOST_ROUNDS = 80


def rounds(store_url: str) -> int:
    return 6 if is_s3(store_url) else 20


@pytest.fixture
def dice():
    return random.Random(20261124)


def wait_until(happened):
    """However slow the machine is, a process that has begun gets to its first write."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_killed_publishers_leave_only_whole_versions(registry, store, store_url, tmp_path, dice):
    began = time.monotonic()
    publish(registry, tmp_path / "b", "before all")
    took = time.monotonic() - began
    for number in range(MOST_ROUNDS):
        # The same label twice, so that a publisher also meets what was left of the bundle that it publishes itself.
        before = len(store.keys("models/"))
        publisher = start(tmp_path, publish_many, store_url, tmp_path / f"b{number}", f"round {number // 2}")
        if number % 4:  # else it may be killed before it has written anything
            wait_until(lambda: len(store.keys("models/")) > before)  # noqa: B023  # called at once
        time.sleep(took * dice.uniform(0, 2))
        if number % 4 == 0:
            check_versions(registry, tmp_path / "copies")
        kill(publisher)
        whole = check_versions(registry, tmp_path / "copies")
        claims = [key for key in store.keys("models/") if key.endswith("claim.json")]
        if number + 1 >= rounds(store_url) and 1 < whole < len(claims):
            break  # both were met: finished ones and killed ones
    else:
        pytest.fail(f"{whole} versions and {len(claims)} claims: kills that met nothing show nothing")
    version, new = publish(registry, tmp_path / "last", "after all")
    assert new
    assert version.version == len(claims) + 1
    assert registry.versions()[-1] == version


def test_killed_movers_leave_a_complete_history(registry, store_url, tmp_path, dice):
    for number in (1, 2, 3):
        publish(registry, tmp_path / f"b{number}", f"text {number}")
    began = time.monotonic()
    seen = sum(registry.point("champion", number, reason="before all")[1] for number in (1, 2, 3))
    took = time.monotonic() - began
    for number in range(rounds(store_url)):
        movers = [start(tmp_path, point_many, store_url, order) for order in ([1, 2, 3], [3, 2, 1])[: 1 + number % 2]]
        if number % 2:  # else they may be killed before the first move
            wait_until(lambda: registry.alias("champion").sequence > seen)  # noqa: B023  # called at once
        time.sleep(took * dice.uniform(0.1, 2))
        check_alias(registry)
        for mover in movers:
            kill(mover)
        now = check_alias(registry)
        assert now >= seen
        seen = now
    assert seen > 3
    last = registry.alias("champion")
    assert last is not None
    registry.point("champion", last.version % 3 + 1, reason="after all")
    assert check_alias(registry) == seen + 1
