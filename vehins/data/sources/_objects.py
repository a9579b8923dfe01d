"""Objects of S3 as files: found by key, folder or glob, copied to this machine one by one, and removed again.

polars reads S3 by itself, but not CSV with the checks that this package makes, and its errors are sentences of another
library. A copy of one object at a time keeps the memory flat, and a copy that breaks off goes on where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from vehins.artifacts.manifest import digest
from vehins.data.sources import _files
from vehins.errors import CredentialsError, SettingsError, UnreachableError, VehinsError
from vehins.remote import aws
from vehins.remote.retry import retried
from vehins.settings import RemoteSettings

_SIGN = re.compile(r"[*?\[]")
_BLOCK = 1 << 20


class Object(NamedTuple):
    """One object as the listing has it."""

    key: str
    size: int
    etag: str


class _CutOffError(Exception):
    """Fewer bytes came than the object has, or others than were sent."""


class Bucket:
    """A bucket to list and to read from; every error is one of ours."""

    def __init__(self, client: Any, name: str, remote: RemoteSettings) -> None:
        self.client, self.name, self._remote = client, name, remote

    def address(self, key: str) -> str:
        """The address of an object."""
        return f"s3://{self.name}/{key}"

    def behind(self, path: str) -> list[Object]:
        """The objects behind a key, a folder or a glob, sorted by key.

        A key that exists is taken as it is, whatever signs it has.
        """
        if path and not path.endswith("/"):
            exact = self.below(path, most=1)
            if exact and exact[0].key == path:
                return exact
        glob = _SIGN.search(path)
        if not glob:
            return self.below(path if not path or path.endswith("/") else path + "/")
        try:
            pattern = re.compile(_regex(path))
        except re.error as error:
            headline, hint = f"{self.address(path)} is no glob", "Write a range as `[a-z]`."
            raise SettingsError(headline, detail=f"{error}.", hint=hint) from None
        return [found for found in self.below(path[: glob.start()]) if pattern.fullmatch(found.key)]

    def below(self, prefix: str, most: int | None = None) -> list[Object]:
        """The objects whose keys start with a prefix; folders have none."""
        with aws.translated("S3", self.address(prefix)):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, PaginationConfig={"MaxItems": most, "PageSize": most} if most else {}
            )
            found = [entry for page in pages for entry in page.get("Contents", [])]
        return [Object(e["Key"], e["Size"], e["ETag"]) for e in found if not e["Key"].endswith("/")]

    def copy(self, found: Object, path: Path) -> None:
        """Copy an object into a new file; what breaks off is taken up where it stopped.

        Raises:
            SourceFormatError: it is not what the listing has.
            NotFoundError: it is gone.
            UnreachableError: the store does not answer, or breaks off again and again.
        """
        from botocore.exceptions import FlexibleChecksumError, ReadTimeoutError, ResponseStreamingError

        from vehins.errors import NotFoundError

        faults = (_CutOffError, FlexibleChecksumError, ReadTimeoutError, ResponseStreamingError)
        try:
            with aws.translated("S3", self.address(found.key)):
                retried(lambda: self._copy_rest(found, path), self._remote, faults)
        except _CutOffError as error:
            hint = "Try again; if it stays so, ask who keeps the store."
            raise UnreachableError(
                f"S3 breaks off in {self.address(found.key)}", detail=f"{error}.", hint=hint
            ) from None
        except NotFoundError:
            raise _files.changed(self.address(found.key)) from None

    def _copy_rest(self, found: Object, path: Path) -> None:
        from botocore.exceptions import ClientError, FlexibleChecksumError

        have = path.stat().st_size if path.exists() else 0
        part = {"Range": f"bytes={have}-"} if have else {}
        try:
            answer = self.client.get_object(Bucket=self.name, Key=found.key, IfMatch=found.etag, **part)
        except ClientError as error:
            raise self._refused(error, found) or error from None
        if answer["ETag"] != found.etag:
            raise _files.changed(self.address(found.key))
        try:
            with closing(answer["Body"]) as body, path.open("ab" if "ContentRange" in answer else "wb") as file:
                for block in body.iter_chunks(_BLOCK):
                    file.write(block)
        except FlexibleChecksumError:
            path.unlink()  # which of its bytes are wrong, nobody knows
            raise
        have = path.stat().st_size
        if have != found.size:
            if have > found.size:
                path.unlink()
            raise _CutOffError(f"It has {found.size:,} bytes, and {have:,} came")

    def _refused(self, error: Any, found: Object) -> VehinsError | None:
        code = aws.error_code(error)
        if code in {"PreconditionFailed", "412"}:
            return _files.changed(self.address(found.key))
        if code == "InvalidObjectState":
            return CredentialsError(
                f"{self.address(found.key)} is archived",
                detail="Objects in Glacier must be restored before they can be read.",
                hint="Restore it: `aws s3api restore-object`.",
            )
        return None


def _regex(glob: str) -> str:
    """A glob as a regular expression: ``**/`` is any folders or none, ``*`` and ``?`` stay within one."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", glob)
    return "".join(signs.get(part) or (_one_of(part) if _is_class(part) else re.escape(part)) for part in parts)


def _is_class(part: str) -> bool:
    return len(part) > 2 and part.startswith("[") and part.endswith("]")


def _one_of(part: str) -> str:
    inside = re.sub(r"([\\\[\]&|~^])", r"\\\1", part[1:-1].removeprefix("!"))
    return f"[{'^' if part[1] == '!' else ''}{inside}]"


class Objects(_files.Files):
    """Objects that are read as files are, each from a copy that is there as long as it is needed."""

    def __init__(self, bucket: Bucket, path: str, objects: list[Object], folder: Path) -> None:
        self._bucket, self._path, self._objects, self._folder = bucket, path, objects, folder
        super().__init__(bucket.address(path), [])
        self._now = (Path(), "")
        self._first = (Path(), "")

    def each(self) -> Iterator[Path]:
        """Copy one object after the other."""
        for number, found in enumerate(self._objects):
            ending = ".tsv" if found.key.lower().endswith(".tsv") else Path(found.key).suffix
            path = self._folder / f"object-{number:05}{ending}"
            self._now = (path, found.key)
            self._first = self._first if number else self._now
            self._bucket.copy(found, path)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def token(self) -> str:
        """Digest of what the listing says."""
        return digest([list(found) for found in self._objects])

    def check_unchanged(self) -> None:
        """Nothing: each copy is that of the listing, and `ingest` compares the listing with a new one."""

    def named(self, error: VehinsError) -> VehinsError:
        """An error about a copy as one about the object."""

        def text(words: str) -> str:
            for path, key in (self._now, self._first):
                if key:
                    words = words.replace(str(path), self._bucket.address(key))
                    words = words.replace(path.name, key.rpartition("/")[2])
            return words

        return type(error)(text(error.headline), detail=text(error.detail), hint=text(error.hint))
