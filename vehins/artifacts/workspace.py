"""Artifacts as folders on disk: made aside and renamed into place whole, checked when read, set aside when damaged.

Layout::

    workspace.json                  which version of this layout it is
    artifacts/<kind>/<id>/          one artifact: its files, then manifest.json
    runs/<run id>.json              which artifact each stage made or reused
    reports/<run id>.html           what it came to, for people
    damaged/                        what was found damaged, kept for a look
    drafts/                         what is being made; left-overs of dead processes are swept away
    cache/                          copies of registered bundles, by digest
    serving/<name>.json             the version that a service answered with last
    tuning/<search>/                trials of a search for settings that may go on
    lock, lock.json                 the writer's lock, and who holds it
"""

from __future__ import annotations

import errno
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar, cast

from vehins.artifacts import lock
from vehins.artifacts.files import (
    FileRecord,
    damage,
    flush_file,
    flush_folder,
    record_file,
    sha256_file,
    write_atomically,
)
from vehins.artifacts.manifest import KINDS, MANIFEST_FILE, AnyManifest, InputRecord, dump, parse
from vehins.errors import ArtifactDamagedError, NotFoundError, WorkspaceVersionError, storage_error

LAYOUT_VERSION = 1
LAYOUT_FILE = "workspace.json"
ARTIFACTS, RUNS, REPORTS = "artifacts", "runs", "reports"
DAMAGED, DRAFTS, CACHE, TUNING = "damaged", "drafts", "cache", "tuning"

M_co = TypeVar("M_co", bound=AnyManifest, covariant=True)
M = TypeVar("M", bound=AnyManifest)


class Artifact(Generic[M_co]):
    """A whole artifact on disk: its manifest and the folder of its files."""

    def __init__(self, manifest: M_co, folder: Path) -> None:
        self.manifest = manifest
        self.folder = folder
        self._verified = False

    @property
    def manifest_path(self) -> Path:
        """Where its manifest is."""
        return self.folder / MANIFEST_FILE

    def path(self, name: str) -> Path:
        """Where one of its files is."""
        return self.folder / name

    def as_input(self) -> InputRecord:
        """How a manifest names this artifact as its input."""
        m = self.manifest
        return InputRecord(kind=m.kind, id=m.id, manifest_sha256=sha256_file(self.manifest_path), content=m.content)

    def damage(self) -> str | None:
        """Say what is wrong with its files; None when all are whole. Files are read once per process."""
        if self._verified:
            return None
        wrong = next(filter(None, (damage(self.folder, record) for record in self.manifest.files)), None)
        self._verified = wrong is None
        return wrong

    def trust(self) -> Artifact[M_co]:
        """Take its files as checked, because this process has just hashed them."""
        self._verified = True
        return self


class Workspace:
    """The folder in which artifacts and runs are kept.

    Raises:
        WorkspaceVersionError: a newer vehins wrote it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._check_layout()

    def _check_layout(self) -> None:
        path = self.root / LAYOUT_FILE
        if not path.exists():
            return
        try:
            version = int(json.loads(path.read_bytes())["version"])
        except (ValueError, KeyError, TypeError):
            raise WorkspaceVersionError(
                f"{path} does not say which layout the workspace has",
                detail="It should read {" + f'"version": {LAYOUT_VERSION}' + "}.",
                hint="Restore that file, or choose another workspace: `--workspace DIR`.",
            ) from None
        if version > LAYOUT_VERSION:
            raise WorkspaceVersionError(
                f"The workspace {self.root} was written by a newer vehins",
                detail=f"It has layout {version}; this version reads up to {LAYOUT_VERSION}.",
                hint="Upgrade vehins, or choose another workspace: `--workspace DIR`.",
            )

    @contextmanager
    def writing(self, timeout: float, on_wait: Callable[[str], None]) -> Iterator[list[str]]:
        """Hold the workspace for writing; yields notes on what was found damaged and set aside.

        Raises:
            LockedError: another process holds it for longer than ``timeout`` seconds.
            StorageError: the folder cannot be written.
        """
        with ExitStack() as stack:
            with storage_faults(self.root):
                self._make_root()
                stack.enter_context(lock.writer(self.root, timeout, on_wait))
                if not (self.root / LAYOUT_FILE).exists():
                    write_atomically(self.root / LAYOUT_FILE, json.dumps({"version": LAYOUT_VERSION}).encode())
                notes = self._sweep()
            yield notes

    def _make_root(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(self.root)) from None

    def _sweep(self) -> list[str]:
        """Remove the drafts of dead processes and set aside what is no artifact; the lock is held."""
        shutil.rmtree(self.root / DRAFTS, ignore_errors=True)
        notes = []
        for kind in KINDS:
            for folder in self._folders(kind):
                try:
                    self._open(folder)
                except ArtifactDamagedError as error:
                    notes.append(self.set_aside(folder, f"{error.headline}. {error.detail}"))
        return notes

    def set_aside(self, folder: Path, why: str) -> str:
        """Move a damaged artifact out of the way, and say so in a sentence."""
        place = self.root / DAMAGED / f"{folder.parent.name}-{folder.name}-{secrets.token_hex(2)}"
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
        return f"{folder.parent.name} {folder.name} is damaged ({why.rstrip('.')}); it was set aside in {place}"

    # --- Reading ---

    def _folders(self, kind: str) -> list[Path]:
        """Folders of a kind, the newest first; their names begin with the time."""
        place = self.root / ARTIFACTS / kind
        return sorted((p for p in place.iterdir() if p.is_dir()), reverse=True) if place.is_dir() else []

    def _open(self, folder: Path) -> Artifact[AnyManifest]:
        path = folder / MANIFEST_FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ArtifactDamagedError(
                f"The manifest {path} is missing", detail="Its folder is no artifact.", hint="Run the stage again."
            ) from None
        return Artifact(parse(data, str(path)), folder)

    def artifacts(self, kind: type[M]) -> Iterator[Artifact[M]]:
        """Yield the artifacts of a kind, the newest first, without those whose manifest is damaged."""
        for folder in self._folders(kind.__name__):
            try:
                artifact = self._open(folder)
            except ArtifactDamagedError:
                continue
            yield cast("Artifact[M]", artifact)

    def newest(self, kind: type[M]) -> Artifact[M] | None:
        """The newest artifact of a kind, if there is one."""
        return next(self.artifacts(kind), None)

    def with_fingerprint(self, kind: type[M], fingerprint: str) -> Artifact[M] | None:
        """The newest artifact of a kind that has this fingerprint, if there is one."""
        suffix = _suffix(fingerprint)
        for folder in self._folders(kind.__name__):
            if not folder.name.endswith(suffix):
                continue
            with suppress(ArtifactDamagedError):  # a writer has set it aside before; a reader takes no notice
                artifact = self._open(folder)
                if artifact.manifest.fingerprint == fingerprint:
                    return cast("Artifact[M]", artifact)
        return None

    def lookup(self, record: InputRecord) -> Artifact[AnyManifest]:
        """Find the artifact that a manifest names as its input, or another with the same content.

        Raises:
            NotFoundError: there is none.
        """
        alike = [found for found in self.artifacts(KINDS[record.kind]) if found.manifest.content == record.content]
        if alike:
            return min(alike, key=lambda found: found.manifest.id != record.id)
        raise NotFoundError(
            f"{record.kind} {record.id} is no longer in the workspace {self.root}",
            detail="Another artifact was made from it, and this command needs both.",
            hint="Make it again: `vehins pipeline run`.",
        )

    def read(self, path: Path) -> Artifact[AnyManifest]:
        """Read the artifact of a manifest (or of its folder) anywhere on disk.

        Raises:
            NotFoundError: there is no such file.
            ArtifactDamagedError: it is not a manifest, or was changed.
        """
        folder = path if path.is_dir() else path.parent
        if not (folder / MANIFEST_FILE).is_file():
            hint = f"Name a manifest.json, for example one below {self.root / ARTIFACTS}."
            raise NotFoundError(f"There is no manifest at {path}", hint=hint)
        return self._open(folder)

    # --- Writing ---

    @contextmanager
    def draft(self, kind: str) -> Iterator[Path]:
        """Give a folder in which to make an artifact; what is not committed is removed."""
        folder = self.root / DRAFTS / f"{kind}-{secrets.token_hex(4)}"
        try:  # an interrupt may come as soon as the folder is there
            with storage_faults(self.root):
                folder.mkdir(parents=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, draft: Path, manifest: M) -> Artifact[M]:
        """Turn a draft into an artifact: make its files durable, write the manifest last, rename."""
        with storage_faults(self.root):
            for record in manifest.files:
                flush_file(draft / record.path)
            for folder in {(draft / record.path).parent for record in manifest.files}:
                flush_folder(folder)
            write_atomically(draft / MANIFEST_FILE, dump(manifest))
            place = self.root / ARTIFACTS / manifest.kind / manifest.id
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(place)
            flush_folder(place.parent)
        return Artifact(manifest, place).trust()


@contextmanager
def storage_faults(root: Path) -> Iterator[None]:
    """Turn errors of the disk (full, read-only, forbidden) into a `StorageError` that says what mends them."""
    try:
        yield
    except Exception as error:
        fault = storage_error(error)
        if fault is None:
            raise
        fault.detail = fault.detail or f"In {root}."
        raise fault from error


def new_id(fingerprint: str, now: datetime | None = None) -> str:
    """An id that sorts by time and ends in the beginning of the fingerprint."""
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S%fZ")
    return moment + _suffix(fingerprint)


def _suffix(fingerprint: str) -> str:
    return "-" + fingerprint[:8]


def record_files(folder: Path, rows: dict[str, int]) -> list[FileRecord]:
    """Describe every file of a draft; ``rows`` tells how many rows each table has."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [record_file(folder, path, rows.get(path.relative_to(folder).as_posix())) for path in paths]
