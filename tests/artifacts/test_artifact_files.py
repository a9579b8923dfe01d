"""Bytes on disk: named safely, checked when read, written whole."""

from __future__ import annotations

import os
import stat

import pytest
from pydantic import ValidationError

from vehins.artifacts import files
from vehins.artifacts.files import FileRecord, damage, record_file, sha256_bytes, write_atomically

EMPTY = sha256_bytes(b"")


@pytest.mark.parametrize("path", ["a", "a/b.txt", "a b/é", "..a", "a..", ".hidden", "a/./b"])
def test_a_path_that_stays_inside_is_taken(path):
    assert FileRecord(path=path, bytes=0, sha256=EMPTY).path == path


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "..", "../a", "a/../b", "a/..", "a\\b", "..\\a"])
def test_a_path_that_leaves_its_folder_is_refused(path):
    with pytest.raises(ValidationError, match="stays inside"):
        FileRecord(path=path, bytes=0, sha256=EMPTY)


@pytest.mark.parametrize(
    "field", [{"sha256": "0" * 63}, {"sha256": "A" * 64}, {"bytes": -1}, {"rows": -1}, {"more": 1}]
)
def test_a_record_that_cannot_be_is_refused(field):
    with pytest.raises(ValidationError):
        FileRecord.model_validate({"path": "a", "bytes": 0, "sha256": EMPTY, **field})


@pytest.fixture
def record(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.txt").write_bytes(b"hello")
    return record_file(tmp_path, tmp_path / "parts" / "a.txt", rows=1)


def test_a_record_is_that_of_the_file(record):
    assert (record.path, record.bytes, record.rows) == ("parts/a.txt", 5, 1)
    assert record.sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_damage_is_told_in_words(tmp_path, record):
    path = tmp_path / record.path
    assert damage(tmp_path, record) is None
    path.write_bytes(b"hell")
    assert damage(tmp_path, record) == "parts/a.txt has 4 bytes instead of 5"
    path.write_bytes(b"hullo")
    assert damage(tmp_path, record) == "parts/a.txt has other content than its manifest says"
    path.unlink()
    assert damage(tmp_path, record) == "parts/a.txt is missing"
    path.parent.rmdir()
    path.parent.touch()
    assert damage(tmp_path, record) == "parts/a.txt is missing"


def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path, record):
    (tmp_path / record.path).unlink()
    (tmp_path / record.path).mkdir()
    size = (tmp_path / record.path).stat().st_size
    assert damage(tmp_path, record)
    assert damage(tmp_path, record.model_copy(update={"bytes": size}))


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [found.name for found in path.parent.iterdir()] == ["a.json"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_a_written_file_may_be_read_by_all_who_may_read_the_others(tmp_path):
    """A server runs as another user than the one who trains."""
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "atomic", b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]
