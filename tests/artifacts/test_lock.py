"""One writer at a time; who waits is told for whom, and a lock dies with its holder."""

from __future__ import annotations

import os
import signal

import pytest
from artifact_processes import hold, kill, start

from vehins.artifacts import lock
from vehins.artifacts.workspace import Workspace
from vehins.errors import LockedError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def holder(root, tmp_path):
    """A process that holds the workspace until the test is over, or there is a file `release`."""
    process = start(hold, root, tmp_path / "release")
    yield process
    kill(process)


def write(root, timeout: float) -> list[str]:
    """Hold the workspace for a moment; give what was told while waiting."""
    told: list[str] = []
    with Workspace(root).writing(timeout, told.append):
        pass
    return told


def test_a_free_workspace_is_held_at_once(root):
    assert write(root, 0) == []
    assert not lock.is_locked(root)
    with Workspace(root).writing(0, print):
        assert lock.is_locked(root)
    assert not lock.is_locked(root)


def test_a_workspace_that_is_not_there_is_not_locked(root):
    assert not lock.is_locked(root)
    assert not root.exists()


def test_who_comes_too_late_is_told_for_whom_and_how_to_wait(root, holder):
    told = []
    with pytest.raises(LockedError) as caught, Workspace(root).writing(0.2, told.append):
        pytest.fail("two writers")
    assert caught.value.exit_code == 7
    assert len(told) == 1
    for text in (told[0], caught.value.headline):
        assert f"process {holder.pid} on " in text
        assert "`vehins train`, since 20" in text
        assert "secret" not in text
    assert "0.2 s" in caught.value.detail
    assert "lock_timeout" in caught.value.hint


def test_waiting_ends_when_the_holder_is_done(root, holder, tmp_path):
    told = []
    with Workspace(root).writing(60, lambda who: (told.append(who), (tmp_path / "release").touch())):
        assert len(told) == 1
    assert f"process {holder.pid} " in told[0]
    holder.join()
    assert holder.exitcode == 0


def test_the_lock_of_a_killed_holder_is_free(root, holder):
    assert lock.is_locked(root)
    kill(holder)
    assert not lock.is_locked(root)
    assert write(root, 0) == []


def test_waiting_ends_when_the_holder_is_killed(root, holder):
    told = []
    with Workspace(root).writing(60, lambda who: (told.append(who), os.kill(holder.pid, signal.SIGKILL))):
        assert len(told) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_lets_go(root, error):
    with pytest.raises(error), Workspace(root).writing(0, print):
        raise error
    assert write(root, 0) == []
    assert not (root / lock.HOLDER_FILE).exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"pid": 1}'])
def test_a_holder_that_left_no_name_is_another_process(root, content):
    root.mkdir()
    if content is not None:
        (root / lock.HOLDER_FILE).write_bytes(content)
    assert lock.holder(root) == "another process"


def test_somebody_elses_workspace_is_asked_without_a_lock(root, monkeypatch):
    root.mkdir()
    (root / lock.LOCK_FILE).touch()

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock.FileLock, "acquire", forbidden)
    assert not lock.is_locked(root)
    (root / lock.HOLDER_FILE).write_text("{}")
    assert lock.is_locked(root)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["vehins", "train"], "vehins train"),
        (["/bin/vehins", "pipeline", "run", "--set", "source=mysql://u:p@h/d"], "vehins pipeline run"),
        (["vehins", "--source=mysql://u:p@h/d", "train"], "vehins train"),
        (["vehins"], "vehins"),
    ],
)
def test_only_the_verb_of_the_holder_is_told(root, monkeypatch, words, shown):
    monkeypatch.setattr(lock.sys, "argv", words)
    with Workspace(root).writing(0, print):
        assert f"(`{shown}`, since" in lock.holder(root)
