"""What sources of files share: the files behind a path, a folder or a glob, and a token of their content."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from vehins.artifacts.files import sha256_file
from vehins.artifacts.manifest import digest
from vehins.errors import NotFoundError, SourceFormatError, UnreachableError, VehinsError
from vehins.remote.probes import Check, failed

_GLOB_SIGNS = ("*", "?", "[")


def strip_scheme(url: str) -> str:
    """A path, also when it is written as ``file://path``."""
    return url.removeprefix("file://")


def names_files(url: str, suffixes: tuple[str, ...]) -> bool:
    """Whether an address is that of files with one of these endings, or of a folder that holds such files."""
    path = strip_scheme(url)
    if "://" in path:
        return False
    try:
        if Path(path).is_dir():
            return bool(_inside(Path(path), suffixes))
    except OSError:
        pass  # `find` says what is wrong with it
    return path.lower().endswith(suffixes)


def find(url: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files behind a path, a folder or a glob, sorted by name.

    Raises:
        NotFoundError: there is none.
        SourceFormatError: one of them is empty.
        UnreachableError: it may not be looked at.
    """
    path = strip_scheme(url)
    try:
        files = _existing(path, suffixes)
        if not files:
            raise _not_found(path)
        empty = [file for file in files if file.stat().st_size == 0]
    except OSError as error:
        raise unreachable(path, error) from None
    if empty:
        raise SourceFormatError(f"{empty[0]} is empty", detail="It has 0 bytes.", hint="Export it again, or remove it.")
    return files


CHECKS = ("files", "permission to read")


def probe(url: str, suffixes: tuple[str, ...]) -> Iterator[Check]:
    """Check that there are files and that they can be opened."""
    try:
        files = find(url, suffixes)
        size = sum(file.stat().st_size for file in files)
        yield Check("files", "ok", f"{len(files):,} with {size / 1e6:,.1f} MB")
    except VehinsError as error:
        yield failed("files", error)
        return
    for file in files:
        try:
            with file.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            yield failed("permission to read", unreachable(file, error))
            return
    yield Check("permission to read", "ok", "all of them can be opened")


def _existing(path: str, suffixes: tuple[str, ...]) -> list[Path]:
    if Path(path).is_dir():
        return _inside(Path(path), suffixes)
    if Path(path).exists():
        return [Path(path)]
    if any(sign in path for sign in _GLOB_SIGNS):
        return sorted(Path(name) for name in glob.glob(_pattern(path), recursive=True) if Path(name).is_file())  # noqa: PTH207
    return []


def _pattern(path: str) -> str:
    """A glob whose beginning, as far as there is a folder of just that name, is taken literally."""
    folder = next(parent for parent in Path(path).parents if parent.is_dir())
    return str(Path(glob.escape(str(folder)), *Path(path).parts[len(folder.parts) :]))


def _inside(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.name.lower().endswith(suffixes))


def _not_found(path: str) -> NotFoundError:
    folder = Path(path).parent
    detail = "No file matches it." if folder.is_dir() else f"Even its folder, {folder}, does not exist."
    return NotFoundError(f"There is no file {path}", detail=detail, hint="Name a file that exists: `--source PATH`.")


def unreachable(path: str | Path, error: OSError) -> UnreachableError:
    """What an error of the system amounts to while a file is opened or read."""
    hint = "Mend its rights, or name another file: `--source PATH`."
    return UnreachableError(f"Cannot read {error.filename or path}", detail=f"{error.strerror or error}.", hint=hint)


def check_columns(path: Path, names: list[str], first: Path, wanted: list[str]) -> None:
    """Raise `SourceFormatError` unless a file has the columns of the first one, in whatever order."""
    lacks = [name for name in wanted if name not in names]
    more = [name for name in names if name not in wanted]
    if not lacks and not more:
        return
    said = [("lacks", lacks), ("has", more)]
    sentence = " and ".join(f"{what} {', '.join(f'`{name}`' for name in some)}" for what, some in said if some)
    raise SourceFormatError(
        f"{path} has other columns than {first}",
        detail=f"It {sentence}.",
        hint="All files of a source need the same columns: mend it, or name the right files (`--source 'FOLDER/*'`).",
    )


class Files:
    """Some files, and whether they stay the same while they are read."""

    def __init__(self, label: str, paths: list[Path]) -> None:
        self.label = label
        self.paths = paths
        self._before = self._marks()

    def each(self) -> Iterator[Path]:
        """One file after the other; each can be read until the next one is asked for."""
        yield from self.paths

    def token(self) -> str:
        """Digest of their contents, in the order of their names.

        Raises:
            UnreachableError: one of them cannot be read.
        """
        try:
            return digest([sha256_file(path) for path in self.paths])
        except OSError as error:
            raise unreachable(self.label, error) from None

    def check_unchanged(self) -> None:
        """Raise `SourceFormatError` when a file was written to, or removed, since this object was made."""
        if self._marks() != self._before:
            raise changed(self.label)

    def _marks(self) -> list[tuple[int, int] | None]:
        return [_mark(path) for path in self.paths]


def changed(label: str) -> SourceFormatError:
    """The error for a source that is not what it was when it was opened."""
    return SourceFormatError(
        f"{label} changed while it was being read",
        detail="Another program wrote to it.",
        hint="Wait until it is complete, and run the command again.",
    )


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
