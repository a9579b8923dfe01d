"""Bytes on disk: hashed when written, checked when read, and never visible half-written."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator


class FileRecord(BaseModel):
    """One file of an artifact or of a registered version, as its manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Path relative to the manifest's folder, with forward slashes.")
    bytes: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the content, in hexadecimal.")
    rows: int | None = Field(default=None, ge=0, description="Rows, when the file is a table.")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
            raise ValueError("must be a relative path that stays inside its folder")
        return path


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_file(folder: Path, path: Path, rows: int | None = None) -> FileRecord:
    """Describe ``path``, a file somewhere below ``folder``."""
    relative = path.relative_to(folder).as_posix()
    return FileRecord(path=relative, bytes=path.stat().st_size, sha256=sha256_file(path), rows=rows)


def damage(folder: Path, record: FileRecord) -> str | None:
    """Say what is wrong with the file that ``record`` names below ``folder``; None when its bytes are right."""
    path = folder / record.path
    try:
        size = path.stat().st_size
        if size != record.bytes:
            return f"{record.path} has {size:,} bytes instead of {record.bytes:,}"
        if sha256_file(path) != record.sha256:
            return f"{record.path} has other content than its manifest says"
    except (FileNotFoundError, NotADirectoryError):
        return f"{record.path} is missing"
    except IsADirectoryError:
        return f"{record.path} is a folder"
    return None


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can (Windows cannot, and need not)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_file(path: Path) -> None:
    """Make a file's bytes durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file, so that a reader sees the old bytes or the new ones, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")  # mkstemp would hide it from everybody else
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)
