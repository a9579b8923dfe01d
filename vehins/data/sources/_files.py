"""What sources of files share: the files behind a path, a folder or a glob, and a token of their content."""

from __future__ import annotations

import glob
from pathlib import Path

from vehins.artifacts.files import sha256_file
from vehins.artifacts.manifest import digest
from vehins.errors import NotFoundError, SourceFormatError, UnreachableError

_GLOB_SIGNS = ("*", "?", "[")


def strip_scheme(url: str) -> str:
    """A path, also when it is written as ``file://path``."""
    return url.removeprefix("file://")


def names_files(url: str, suffixes: tuple[str, ...]) -> bool:
    """Whether an address is that of files with one of these endings, or of a folder that holds such files."""
    path = strip_scheme(url)
    if "://" in path:
        return False
    return path.lower().endswith(suffixes) or (Path(path).is_dir() and bool(_inside(Path(path), suffixes)))


def find(url: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files behind a path, a folder or a glob, sorted by name.

    Raises:
        NotFoundError: there is none.
        SourceFormatError: one of them is empty.
    """
    path = strip_scheme(url)
    if Path(path).is_dir():
        files = _inside(Path(path), suffixes)
    elif Path(path).exists():
        files = [Path(path)]
    elif any(sign in path for sign in _GLOB_SIGNS):
        files = sorted(Path(name) for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207
    else:
        files = []
    if not files:
        raise _not_found(path)
    empty = [file for file in files if file.stat().st_size == 0]
    if empty:
        raise SourceFormatError(f"{empty[0]} is empty", detail="It has 0 bytes.", hint="Export it again, or remove it.")
    return files


def _inside(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.name.lower().endswith(suffixes))


def _not_found(path: str) -> NotFoundError:
    folder = Path(path).parent
    detail = "No file matches it." if folder.is_dir() else f"Even its folder, {folder}, does not exist."
    return NotFoundError(f"There is no file {path}", detail=detail, hint="Name a file that exists: `--source PATH`.")


class Files:
    """Some files, and whether they stay the same while they are read."""

    def __init__(self, label: str, paths: list[Path]) -> None:
        self.label = label
        self.paths = paths
        self._before = self._marks()

    def token(self) -> str:
        """Digest of their contents, in the order of their names.

        Raises:
            UnreachableError: one of them cannot be read.
        """
        try:
            return digest([sha256_file(path) for path in self.paths])
        except OSError as error:
            hint = "Mend its rights, or name another file: `--source PATH`."
            raise UnreachableError(f"Cannot read {error.filename}", detail=f"{error.strerror}.", hint=hint) from None

    def check_unchanged(self) -> None:
        """Raise `SourceFormatError` when a file was written to since this object was made."""
        if self._marks() != self._before:
            raise SourceFormatError(
                f"{self.label} changed while it was being read",
                detail="Another program wrote to it.",
                hint="Wait until it is complete, and run the command again.",
            )

    def _marks(self) -> list[tuple[int, int]]:
        return [(path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
