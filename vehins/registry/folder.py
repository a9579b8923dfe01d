"""An object store in a folder, local or shared: every object is a file under its key."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vehins.artifacts.files import flush_folder, sha256_bytes, sha256_file
from vehins.errors import UnreachableError
from vehins.registry.locks import locked
from vehins.registry.objects import Stored, check_key, conflict, missing, temporary_beside, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

_CHUNK = 1 << 20
_PATIENCE = 60.0  # seconds; a lock is held for one rename
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class FolderStore:
    """Objects as files below ``root``, safe for many processes at once.

    A file appears under its name only when its bytes are on the disk. Creating is a hard link, which the system grants
    to one writer only; replacing happens under a file lock, which dies with its holder. Nothing changes a file in
    place. A root that is absent has no objects and is made by the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    def get(self, key: str) -> Stored:
        """Read an object; see `ObjectStore.get`."""
        with self._translated(), self._open(key) as file:
            data = file.read()
        return Stored(data, sha256_bytes(data))

    def get_if_changed(self, key: str, etag: str) -> Stored | None:
        """Read an object unless it is as it was; see `ObjectStore.get_if_changed`."""
        found = self.get(key)
        return None if found.etag == etag else found

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write an object; see `ObjectStore.put`. The etag is the sha256 of the content."""
        if if_absent and if_match is not None:
            raise ValueError("if_absent and if_match exclude each other")
        with self._translated():
            if if_absent:
                return self._create(key, [data])
            return self._replace(key, [data], if_match)

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> str:
        """Write a local file as an object; see `ObjectStore.put_file`."""
        with self._translated(), path.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK), b"")
            return self._create(key, chunks) if if_absent else self._replace(key, chunks, None)

    def get_file(self, key: str, path: Path) -> None:
        """Copy an object to a local file; see `ObjectStore.get_file`."""
        # What fails without a name fails at the copy: a disk that is full is not the registry's.
        with translated(self._silent(), str(path)), self._open(key) as source:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(path)
            try:
                with temporary.open("xb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def keys(self, prefix: str) -> list[str]:
        """List objects; see `ObjectStore.keys`."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        with self._translated():
            found = list(self._walk(self._root / prefix.rpartition("/")[0]))
        return sorted(key for key in found if key.startswith(prefix))

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._silent(), self.url)

    def _silent(self) -> str:
        return f"The registry at {self.url} does not answer"

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        try:
            return path.open("rb")
        except FileNotFoundError:
            self._refuse_broken_link(path)
            raise missing(self, key) from None

    def _create(self, key: str, chunks: Iterable[bytes]) -> str:
        target = self._path(key)
        if target.is_symlink() or target.exists():  # the usual loser of a race is spared the writing
            raise conflict(self, key)
        with self._written(target, chunks) as (temporary, etag):
            try:
                self._give_name(temporary, target)
            except FileExistsError:
                raise conflict(self, key) from None
        flush_folder(target.parent)
        return etag

    def _give_name(self, temporary: Path, target: Path) -> None:
        """Let a finished file appear as ``target``, or raise FileExistsError."""
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            with self._locked():  # the file system has no hard links (exFAT, some shares): every writer comes by here
                if target.is_symlink() or target.exists():
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
                temporary.rename(target)

    def _replace(self, key: str, chunks: Iterable[bytes], if_match: str | None) -> str:
        target = self._path(key)
        with self._written(target, chunks) as (temporary, etag), self._locked():
            if if_match is not None and self._etag(target) != if_match:
                raise conflict(self, key)
            temporary.replace(target)
            # Before the lock is let go, so that a change that somebody builds upon this one never outlives it.
            flush_folder(target.parent)
        return etag

    def _etag(self, path: Path) -> str | None:
        try:
            return sha256_file(path)
        except FileNotFoundError:
            self._refuse_broken_link(path)
            return None

    @contextmanager
    def _written(self, target: Path, chunks: Iterable[bytes]) -> Iterator[tuple[Path, str]]:
        """Write and flush a temporary file beside ``target``; give it and its sha256, and remove it at the end."""
        self._make_folder(target.parent)
        temporary = temporary_beside(target)
        digest = hashlib.sha256()
        try:
            with temporary.open("xb") as file:  # not mkstemp: who may read an object is for the umask to say
                for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, digest.hexdigest()
        finally:
            temporary.unlink(missing_ok=True)

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self._root / ".lock", _PATIENCE)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each durable before anything is put inside."""
        absent = itertools.takewhile(lambda step: not step.is_dir(), (folder, *folder.parents))
        for step in reversed(list(absent)):
            try:
                step.mkdir(exist_ok=True)
            except FileExistsError:
                self._refuse_broken_link(step)
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(step)) from None
            flush_folder(step.parent)

    def _walk(self, folder: Path) -> Iterator[str]:
        try:
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except FileNotFoundError:
            self._refuse_broken_link(folder)
            return
        for entry in found:
            path = Path(entry.path)
            if entry.is_dir():
                yield from self._walk(path)
            elif entry.is_file():
                yield path.relative_to(self._root).as_posix()
            else:
                self._refuse_broken_link(path)

    def _refuse_broken_link(self, path: Path) -> None:
        """Tell what is absent from what is out of reach: below a link whose target is gone, say unmounted.

        Raises `UnreachableError` for such a link on the way to ``path``, and OSError when a step cannot be looked at,
        say because a file stands in a folder's place.
        """
        for step in (*reversed(path.parents), path):
            try:
                step.stat()
            except FileNotFoundError:
                if not step.is_symlink():
                    return
                raise UnreachableError(
                    f"The registry at {self.url} does not answer",
                    detail=f"{step} is a link to {step.readlink()}, which is not there.",
                    hint="Mount or restore what the link points to, or remove the link.",
                ) from None
