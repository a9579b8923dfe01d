"""Sixteen processes push and promote at once; VEHINS_TEST_CROWD_SECONDS is for how long."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager

import pytest
from registry_checks import check_alias, check_versions
from registry_processes import push_and_promote, run_together
from registry_stores import opened

from vehins.registry.registry import Registry

PROCESSES = 16


def crowd(store_url, folder, seconds):
    """Let them loose, and hold the registry to what each of them was told."""
    with onlooker(store_url) as seen:
        told = run_together(push_and_promote, [(store_url, folder / str(n), n, seconds) for n in range(PROCESSES)])
    assert all(isinstance(one, dict) for one in told), told
    assert not [one for one in seen if isinstance(one, BaseException)], seen
    registry = Registry(opened(store_url), "car")
    count = check_versions(registry, folder / "copies")
    listed = {version.version: version.bundle for version in registry.versions()}
    versions = [version for one in told for version in one["versions"]]
    assert {number: bundle for number, bundle, _ in versions} == listed  # none is lost, none has changed
    assert sum(new for _, _, new in versions) == count  # each was made by one of them
    history = registry.history("champion")
    assert check_alias(registry) == len(history)
    moves = {move["token"]: move for one in told for move in one["moves"]}
    recorded = {move.token: move.model_dump(mode="json") for move in history}
    assert moves == recorded  # every move was told to one of them, and is in the history as it was told
    assert set(seen) <= {move.sequence for move in history} | {0}
    assert seen == sorted(seen)  # the alias never went back
    conflicts = sum(one["conflicts"] for one in told)
    print(f"{count} versions, {len(history)} moves, {conflicts} promotions gave up after conflicts, {len(seen)} looks")


@contextmanager
def onlooker(store_url):
    """Somebody who looks where the alias points, all the while; gives the numbers of the moves, or an error."""
    registry, seen, ended = Registry(opened(store_url), "car"), [], threading.Event()

    def look():
        try:
            while not ended.wait(0.02):
                move = registry.alias("champion")
                if move is not None:
                    registry.version(move.version)  # it never points to what is not there
                seen.append(move.sequence if move else 0)
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@pytest.mark.timeout(900)
def test_sixteen_processes_push_and_promote(store_url, tmp_path):
    crowd(store_url, tmp_path, float(os.environ.get("VEHINS_TEST_CROWD_SECONDS", "2")))
