"""Many runs over a line on which things go wrong at random lose and double nothing."""

from __future__ import annotations

import os
import random
import threading

import pytest
from registry_checks import check_alias

from vehins.errors import UnreachableError
from vehins.registry.registry import Registry

RUNS = 200
RANDOM = ["500", "503", "reset", "lost", "lost in 500", "409", "412", "cut", "flip"]


class Run:
    """One actor or two register a bundle and promote it, as often as it takes, while things go wrong."""

    def __init__(self, number, line_store, folder):
        self.name = f"run-{number}"
        self.dice = random.Random(number)
        self.registry = Registry(line_store, self.name)
        self.folder = folder / self.name
        self.share = self.dice.choice([0.05, 0.1, 0.2])
        self.left = 30  # faults, so that it comes to an end
        self.moves, self.versions, self.errors = [], {}, []

    def plan(self):
        if self.left and self.dice.random() < self.share:
            self.left -= 1
            return self.dice.choice(RANDOM)
        return None

    def act(self, text):
        try:
            version, _ = self.insist(lambda: publish_small(self.registry, self.folder / text, text))
            self.versions.setdefault(text, set()).add(version.version)
            self.insist(lambda: self.promote(version.version))
        except BaseException as error:
            self.errors.append(AssertionError(repr(error)))

    def promote(self, version):
        move, moved = self.registry.point("champion", version, reason="run")
        if moved:
            self.moves.append(move)

    def insist(self, command):
        """Run a command again whenever it ends with 6, as a person would."""
        for _ in range(60):
            try:
                return command()
            except UnreachableError as error:
                self.errors.append(error)
        raise AssertionError(f"{self.name} comes to no end: {self.errors[-1].as_dict()}")

    def go(self):
        texts = self.dice.choice([["a"], ["a"], ["a", "b"], ["a", "a"]])  # alone, beside another, or with the same
        actors = [threading.Thread(target=self.act, args=(text,)) for text in texts]
        self.is_alone = len(actors) == 1
        for actor in actors:
            actor.start()
        for actor in actors:
            actor.join()

    def check(self, direct):
        """Against the store itself, without faults."""
        assert not [error for error in self.errors if isinstance(error, AssertionError)], self.errors
        registry = Registry(direct, self.name)
        versions = registry.versions()
        numbers = [version.version for version in versions]
        assert numbers == sorted(set(numbers))
        assert len({version.bundle for version in versions}) == len(versions) == len(self.versions)
        assert all(len(found) == 1 for found in self.versions.values())  # everybody was told the same number
        assert {number for found in self.versions.values() for number in found} == set(numbers)
        for version in versions:
            registry.fetch(version, self.folder / "copies" / str(version.version))
        check_alias(registry)
        history = {move.token: move for move in registry.history("champion")}
        assert all(history[move.token] == move for move in self.moves)  # no move that was reported is lost
        assert not self.is_alone or len(history) == 1  # and no move is made twice
        assert registry.resolve("champion").version in numbers


def publish_small(registry, folder, text):
    """Register a bundle of one file."""
    from vehins.artifacts.files import record_file

    mine = folder / str(threading.get_ident())
    mine.mkdir(parents=True, exist_ok=True)
    (mine / "model.txt").write_text(text * 1000)
    facts = {"champion": None, "evaluation": {}, "approved": None, "lineage": {}}
    return registry.publish(mine, [record_file(mine, mine / "model.txt")], bundle=f"bundle {text}", **facts)


@pytest.mark.timeout(900)
def test_random_faults_lose_and_double_nothing(line, store, direct, tmp_path, monkeypatch):
    """Seeds are numbers of runs; VEHINS_TEST_SEED is the first of them."""
    monkeypatch.setattr("vehins.registry.objects.pause", lambda attempt: None)
    first = int(os.environ.get("VEHINS_TEST_SEED", "1"))
    store.check_conditions()
    runs = {f"run-{number}": Run(number, store, tmp_path) for number in range(first, first + RUNS)}
    line.plan = lambda request: runs[request.key.split("/models/")[1].split("/")[0]].plan()
    waiting = list(runs.values())[::-1]
    failed = {}

    def work():
        while waiting:
            run = waiting.pop()
            run.go()
            try:
                run.check(direct)
            except Exception as error:
                failed[run.name] = error

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed, f"seeds of the runs that failed, each the number in its name: {failed}"
    again = sum(len(run.errors) for run in runs.values())
    print(f"{len(line.seen):,} requests, {len(line.happened):,} faults, {again} commands run again")
    happened = {fault for fault, _ in line.happened}
    assert happened == set(RANDOM)
    assert sum(bool(run.errors) for run in runs.values()) > 0  # some commands did have to be run again
