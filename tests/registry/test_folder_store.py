"""What is particular to a folder: its failures, its links, its leftovers."""

import errno
import os
import stat
import sys
import threading

import pytest
from filelock import FileLock

from vehins.errors import ConflictError, LockedError, NotFoundError, StorageError, UnreachableError
from vehins.registry import folder as folder_module
from vehins.registry.folder import FolderStore


@pytest.fixture
def root(tmp_path):
    return tmp_path / "registry"


@pytest.fixture
def store(root):
    return FolderStore(root)


def everything(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def readers(store, tmp_path):
    return [
        lambda: store.get("models/car/aliases/champion.json"),
        lambda: store.get_file("models/car/aliases/champion.json", tmp_path / "out"),
        lambda: store.keys("models/"),
        lambda: store.keys(""),
    ]


def writers(store, tmp_path):
    (tmp_path / "in").write_text("x")
    return [
        lambda: store.put("models/a", b""),
        lambda: store.put("models/a", b"", if_absent=True),
        lambda: store.put("models/a", b"", if_match="x"),
        lambda: store.put_file("models/a", tmp_path / "in", if_absent=True),
    ]


def assert_unreachable(call, store):
    with pytest.raises(UnreachableError) as caught:
        call()
    assert not isinstance(caught.value, NotFoundError | ConflictError)
    assert str(store.url) in caught.value.headline + caught.value.detail
    assert caught.value.hint
    return caught.value


def test_a_file_in_place_of_the_folder_is_not_empty(store, root, tmp_path):
    root.write_text("not a folder")
    for call in readers(store, tmp_path) + writers(store, tmp_path):
        assert_unreachable(call, store)
    with pytest.raises(StorageError):
        store.keys("")


def test_a_broken_link_in_place_of_the_folder_is_not_empty(store, root, tmp_path):
    root.symlink_to(tmp_path / "unmounted")
    for call in readers(store, tmp_path) + writers(store, tmp_path):
        assert "is a link to" in assert_unreachable(call, store).detail
    (tmp_path / "unmounted").mkdir()
    assert store.keys("") == []


def test_a_broken_link_above_the_folder_is_not_empty(tmp_path):
    (tmp_path / "share").symlink_to(tmp_path / "unmounted")
    store = FolderStore(tmp_path / "share" / "team" / "registry")
    for call in readers(store, tmp_path) + writers(store, tmp_path):
        with pytest.raises(UnreachableError) as caught:
            call()
        assert not isinstance(caught.value, NotFoundError | ConflictError)


@pytest.mark.parametrize("place", ["models", "models/car", "models/car/aliases", "models/car/aliases/champion.json"])
def test_a_broken_link_inside_is_not_empty(store, root, tmp_path, place):
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(tmp_path / "unmounted")
    for call in readers(store, tmp_path):
        assert_unreachable(call, store)


def test_a_file_in_place_of_an_inner_folder_is_not_empty(store, root, tmp_path):
    root.mkdir()
    (root / "models").write_text("")
    for call in [*readers(store, tmp_path)[:3], *writers(store, tmp_path)]:
        assert_unreachable(call, store)


def test_a_link_that_leads_in_a_circle_is_not_empty(store, root, tmp_path):
    root.symlink_to(root)
    for call in readers(store, tmp_path) + writers(store, tmp_path):
        assert_unreachable(call, store)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_folder_that_cannot_be_listed_is_not_empty(store, tmp_path, monkeypatch, number):
    store.put("models/a", b"")

    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(folder_module.os, "scandir", refuse)
    assert_unreachable(lambda: store.keys("models/"), store)
    with pytest.raises(StorageError if number == errno.EACCES else UnreachableError) as caught:
        store.keys("")
    assert os.strerror(number) in caught.value.detail


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_not_empty(store, root, tmp_path):
    store.put("models/car/aliases/champion.json", b"")
    root.chmod(0)
    try:
        for call in readers(store, tmp_path) + writers(store, tmp_path):
            with pytest.raises(StorageError):
                call()
    finally:
        root.chmod(0o700)


def test_linked_folders_are_part_of_the_store(store, root, tmp_path):
    store.put("models/car/a", b"1")
    (root / "models" / "car").rename(tmp_path / "elsewhere")
    (root / "models" / "car").symlink_to(tmp_path / "elsewhere")
    store.put("models/car/b", b"2", if_absent=True)
    assert store.keys("models/") == ["models/car/a", "models/car/b"]
    assert store.get("models/car/b").data == b"2"


def test_what_starts_with_a_dot_is_not_listed(store, root):
    store.put("a/b", b"", if_match=None)
    for name in [".tmp-1", "a/.tmp-2", "a/.DS_Store", ".git/config"]:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    assert store.keys("") == ["a/b"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failed_write_leaves_nothing(store, root, tmp_path, monkeypatch, number):
    store.put("a", b"old")
    (tmp_path / "in").write_text("new")
    before = everything(root)

    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder_module.os, "fsync", refuse)
    for call in [
        lambda: store.put("a", b"new"),
        lambda: store.put("b", b"new", if_absent=True),
        lambda: store.put_file("b", tmp_path / "in", if_absent=True),
    ]:
        with pytest.raises(UnreachableError) as caught:
            call()
        assert isinstance(caught.value, StorageError) == (number != errno.EIO)
        assert ("vehins gc" in caught.value.hint) == (number == errno.ENOSPC)
    assert everything(root) == before
    assert store.get("a").data == b"old"


def test_a_source_that_is_missing_is_named(store, tmp_path):
    with pytest.raises(UnreachableError) as caught:
        store.put_file("a", tmp_path / "none")
    assert str(tmp_path / "none") in caught.value.detail


@pytest.mark.skipif(sys.platform == "win32", reason="modes are those of POSIX")
def test_objects_are_readable_as_the_umask_says(store, root):
    before = os.umask(0o027)
    try:
        store.put("a", b"", if_absent=True)
        store.put("b", b"")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in "ab"] == [0o640, 0o640]


def test_one_thread_creates_where_there_are_no_hard_links(store, root, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(folder_module.os, "link", refuse)
    for attempt in range(10):
        won, barrier = [], threading.Barrier(6)

        def create(number, attempt=attempt, won=won, barrier=barrier):
            barrier.wait()
            try:
                store.put(f"race/{attempt}", b"%d" % number, if_absent=True)
            except ConflictError:
                return
            won.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.get(f"race/{attempt}").data == b"%d" % won[0]
    assert everything(root) == [".lock", *(f"race/{attempt}" for attempt in range(10))]


def test_an_error_of_the_link_is_not_taken_for_a_file_system_without_links(store, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EIO, "Input/output error", str(source), None, str(target))

    monkeypatch.setattr(folder_module.os, "link", refuse)
    with pytest.raises(UnreachableError):
        store.put("a", b"", if_absent=True)
    assert store.keys("") == []


def test_a_lock_that_stays_held_says_so(store, root, monkeypatch):
    store.put("a", b"one")
    monkeypatch.setattr(folder_module, "_PATIENCE", 0.1)
    with FileLock(root / ".lock"):
        with pytest.raises(LockedError) as caught:
            store.put("a", b"two")
        assert store.get("a").data == b"one"
        store.put("b", b"", if_absent=True)  # creating needs no lock
    assert str(root / ".lock") in caught.value.detail
    assert everything(root) == [".lock", "a", "b"]


def test_threads_of_one_process_lose_no_increment(store):
    store.put("counter", b"0")

    def add():
        for _ in range(10):
            while True:
                stored = store.get("counter")
                try:
                    store.put("counter", b"%d" % (int(stored.data) + 1), if_match=stored.etag)
                except ConflictError:
                    continue
                break

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("counter").data == b"40"
