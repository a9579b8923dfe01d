"""Local copies: whole and verified, or an error."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from registry_processes import fetch_one, publish, run_together

from vehins.errors import (
    ArtifactDamagedError,
    ConfigurationError,
    LockedError,
    NotFoundError,
    StorageError,
    UnreachableError,
)
from vehins.registry import copies


@pytest.fixture
def version(registry, tmp_path):
    return publish(registry, tmp_path / "source", "one")[0]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "cache" / "car-1"


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(folder):
    """All names in the folder above but that of the lock."""
    return [path.name for path in folder.parent.iterdir() if path.name != f".{folder.name}.lock"]


WHOLE = {"features.json": b"{}", "model.txt": b"one", "more/golden.jsonl": b"one\n"}


def test_it_copies_the_bundle(registry, version, out):
    assert registry.fetch(version, out) == out
    assert content(out) == WHOLE
    assert beside(out) == ["car-1"]


def test_a_number_will_do(registry, version, out):
    registry.fetch(1, out)
    assert content(out) == WHOLE
    with pytest.raises(NotFoundError):
        registry.fetch(2, out)


def test_an_intact_copy_is_kept(registry, store, version, out):
    registry.fetch(version, out)
    (out / "notes.txt").write_text("mine")
    inode = (out / "model.txt").stat().st_ino
    store.put("models/car/versions/1/bundle/model.txt", b"damaged later")  # not even asked for
    registry.fetch(version, out)
    assert (out / "model.txt").stat().st_ino == inode
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("damaged", [b"", b"two", b"one and more", None])
def test_a_damaged_copy_is_fetched_again(registry, version, out, damaged):
    registry.fetch(version, out)
    (out / "model.txt").unlink() if damaged is None else (out / "model.txt").write_bytes(damaged)
    registry.fetch(version, out)
    assert content(out) == WHOLE
    assert beside(out) == ["car-1"]


def test_an_empty_folder_is_filled(registry, version, out):
    out.mkdir(parents=True)
    registry.fetch(version, out)
    assert content(out) == WHOLE


def test_files_of_somebody_else_are_never_swept_away(registry, version, out):
    (out / "deep").mkdir(parents=True)
    (out / "deep" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigurationError) as caught:
        registry.fetch(version, out)
    assert "thesis.tex" in caught.value.detail
    assert content(out) == {"deep/thesis.tex": b"mine"}
    assert beside(out) == ["car-1"]


def test_a_linked_folder_stays_a_link(registry, version, out, tmp_path):
    out.parent.mkdir()
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk" / "car")
    for _ in range(2):
        registry.fetch(version, out)
        assert content(out) == WHOLE
        (out / "model.txt").write_text("damaged")
    assert out.is_symlink()
    assert beside(tmp_path / "disk" / "car") == ["car"]


def test_a_relative_folder(registry, version, out, monkeypatch):
    out.mkdir(parents=True)
    monkeypatch.chdir(out.parent)
    registry.fetch(version, out.relative_to(out.parent))
    assert content(out) == WHOLE


def test_a_file_in_place_of_the_folder(registry, version, out):
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(StorageError) as caught:
        registry.fetch(version, out)
    assert str(out) in caught.value.detail
    assert out.read_text() == "mine"


@pytest.mark.parametrize("damaged", [b"", b"two", b"three and more"])
def test_a_damaged_registry_is_an_error_and_leaves_nothing(registry, store, version, out, damaged):
    store.put("models/car/versions/1/bundle/model.txt", damaged)
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.fetch(version, out)
    assert "models/car/versions/1/bundle/model.txt" in caught.value.detail
    assert "version 1" in caught.value.headline.lower()
    assert beside(out) == []


def test_a_file_missing_in_the_registry_is_an_error(registry, version, out):
    gone = version.files[0].model_copy(update={"path": "gone.txt"})
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.fetch(version.model_copy(update={"files": [gone]}), out)
    assert "gone.txt is missing" in caught.value.detail


def test_a_damaged_copy_survives_a_damaged_registry(registry, store, version, out):
    registry.fetch(version, out)
    (out / "model.txt").write_text("damaged")
    store.put("models/car/versions/1/bundle/model.txt", b"damaged")
    with pytest.raises(ArtifactDamagedError):
        registry.fetch(version, out)
    assert content(out)["model.txt"] == b"damaged"


def test_a_full_disk_leaves_nothing(registry, version, out, monkeypatch):
    def refuse(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    with pytest.raises(UnreachableError) as caught:
        registry.fetch(version, out)
    assert "full" in caught.value.headline
    assert f"{out.parent}/.tmp-" in caught.value.detail  # the copy, and not the registry, which has space enough
    assert beside(out) == []


def test_a_swap_that_fails_brings_nothing_half_done(registry, version, out, monkeypatch):
    registry.fetch(version, out)
    (out / "model.txt").write_text("bad")
    replace = Path.replace

    def refuse(path, target):
        if path.is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(StorageError):
            registry.fetch(version, out)
    assert beside(out) == ["car-1"]
    assert content(out)["model.txt"] == b"bad"
    assert registry.fetch(version, out) == out
    assert content(out) == WHOLE


def test_a_lock_that_stays_held_says_so(registry, version, out, monkeypatch):
    monkeypatch.setattr(copies, "_PATIENCE", 0.1)
    out.parent.mkdir()
    with FileLock(out.parent / ".car-1.lock"), pytest.raises(LockedError) as caught:
        registry.fetch(version, out)
    assert ".car-1.lock" in caught.value.detail
    assert beside(out) == []


def test_processes_that_fetch_together_all_get_it(registry, store_url, version, out):
    got = run_together(fetch_one, [(store_url, 1, out)] * 6)
    assert got == [WHOLE["model.txt"]] * 6
    assert beside(out) == ["car-1"]


def test_threads_that_mend_together_all_succeed(registry, version, out):
    for _ in range(5):
        registry.fetch(version, out)
        (out / "model.txt").write_text("bad")
        errors = []

        def fetch(errors=errors):
            try:
                registry.fetch(version, out)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=fetch) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert content(out) == WHOLE
        assert beside(out) == ["car-1"]
