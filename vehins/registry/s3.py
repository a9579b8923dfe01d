"""An object store in S3, or in what stands in for it: every object below one prefix of a bucket.

The condition of a write goes with the write: ``If-None-Match: *`` creates, ``If-Match`` replaces. That needs
``put_object``: ``upload_file`` sends no conditions, and not every store takes one for an upload in parts. So a file has
at most 5 GB, which is what one request can put.
"""

from __future__ import annotations

import base64
import shutil
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from vehins.artifacts.files import sha256_bytes, sha256_file
from vehins.errors import ConfigurationError, ConflictError, UnreachableError
from vehins.registry.objects import Stored, check_key, conflict, missing, temporary_beside, translated
from vehins.remote import aws
from vehins.remote.retry import retried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins.settings import RemoteSettings, S3Settings

OWN = ".vehins-"
"""Names that start so are the store's own; they are no objects of the registry and never listed."""
MARKER = f"{OWN}conditional-writes"
_CHUNK = 1 << 20
_MOST = 5 * 1024**3  # bytes of an object that one request can put
_CREATE = {"IfNoneMatch": "*"}
OTHER_ETAG = f'"{"0" * 32}"'
"""One that no object has."""


class _Begun(NamedTuple):
    """What the first answer to a download has said of the object."""

    etag: str
    sha256: str | None
    """In base64, as S3 has it; None when the object was stored without one."""


class _DamagedError(Exception):
    """Other bytes came than were stored."""


class S3Store:
    """Objects below ``prefix`` in ``bucket``, safe for many machines at once.

    A store that takes a condition and does not keep it would lose writes silently; so the first conditional write is
    preceded by some whose condition cannot hold, on an object of its own (`MARKER`).
    """

    def __init__(self, bucket: str, prefix: str, s3: S3Settings, remote: RemoteSettings) -> None:
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._s3, self._remote = s3, remote
        self._keeps_conditions = False
        self._bare_etags = False

    @property
    def url(self) -> str:
        """The address of bucket and prefix."""
        return f"s3://{self.bucket}/{self._prefix}".rstrip("/")

    @cached_property
    def client(self) -> Any:
        """The client, which takes a while to make."""
        return aws.s3_client(self._s3, self._remote)

    def place(self, key: str) -> dict[str, str]:
        """Where an object is, as the client wants it."""
        return {"Bucket": self.bucket, "Key": self._prefix + key}

    def get(self, key: str) -> Stored:
        """Read an object; see `ObjectStore.get`."""
        check_key(key)
        with self._translated(key):
            return retried(lambda: self._read(key), self._remote, _broken_off())

    def get_if_changed(self, key: str, etag: str) -> Stored | None:
        """Read an object unless it is as it was; see `ObjectStore.get_if_changed`. That is one request (304)."""
        check_key(key)
        with self._translated(key):
            return retried(lambda: self._read_unless(key, etag), self._remote, _broken_off())

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write an object; see `ObjectStore.put`. The etag is the store's own."""
        if if_absent and if_match is not None:
            raise ValueError("if_absent and if_match exclude each other")
        if not key.startswith(OWN):
            check_key(key)
        if if_match is not None:
            return self._replace(key, data, if_match)
        return self._write(key, data, sha256_bytes(data), _CREATE if if_absent else {})

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> str:
        """Write a local file as an object; see `ObjectStore.put_file`."""
        check_key(key)
        with translated(f"{path} cannot be read", str(path)):
            _check_size(path)
            digest = sha256_file(path)
            with path.open("rb") as file:
                return self._write(key, file, digest, _CREATE if if_absent else {})

    def get_file(self, key: str, path: Path) -> None:
        """Copy an object to a local file; see `ObjectStore.get_file`. A copy that breaks off is taken up there."""
        check_key(key)
        with translated(f"{path} cannot be written", str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(path)
            begun: list[_Begun] = []
            try:
                with self._translated(key):
                    retried(lambda: self._download(key, temporary, begun), self._remote, _broken_off())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def keys(self, prefix: str) -> list[str]:
        """List objects; see `ObjectStore.keys`."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        with self._translated(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix + prefix
            )
            found = [entry["Key"] for page in pages for entry in self._contents(page)]
        names = [key.removeprefix(self._prefix) for key in found]
        return sorted(name for name in names if all(part and part[0] != "." for part in name.split("/")))

    def delete(self, key: str) -> None:
        """Remove an object; only what tries the store out does so, the registry never."""
        with self._translated(key):
            self.client.delete_object(**self.place(key))

    def check_conditions(self, marker: str = MARKER) -> None:
        """Raise `ConfigurationError` for a store that does not keep the conditions of writes.

        It is tried on an object that stays: two writes that must not succeed. Whether a store also keeps conditions
        when two writers come at the same instant, no trial can tell.
        """
        self._is_kept(marker, _CREATE)  # it may well be the first
        if not self._is_kept(marker, _CREATE):
            raise self.careless("If-None-Match: *")
        if not self._is_kept(marker, {"IfMatch": OTHER_ETAG}):
            raise self.careless("If-Match")
        self._keeps_conditions = True

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self, key: str, **condition: str) -> Stored:
        answer = self._ask(key, **condition)
        with closing(answer["Body"]) as body:
            return Stored(body.read(), answer["ETag"])

    def _read_unless(self, key: str, etag: str) -> Stored | None:
        from botocore.exceptions import ClientError

        try:
            found = self._read(key, IfNoneMatch=etag)
        except ClientError as error:
            if _status(error) == 304:
                return None
            raise
        return None if found.etag == etag else found  # a store may have no regard for the condition

    def _ask(self, key: str, **more: str) -> dict[str, Any]:
        """What the store answers when it is asked for an object."""
        answer: dict[str, Any] = self.client.get_object(**self.place(key), **more)
        if "ETag" not in answer:
            answer["Body"].close()
            raise self._elsewhere("The answer is no object")
        return answer

    def _download(self, key: str, path: Path, begun: list[_Begun]) -> None:
        """Write the rest of an object to ``path``; all of it when it has changed since or was damaged."""
        from botocore.exceptions import FlexibleChecksumError

        have = path.stat().st_size if begun and path.exists() else 0
        part = {"Range": f"bytes={have}-"} if have else {}
        answer = self._ask(key, **part)
        now = _Begun(answer["ETag"], answer.get("ChecksumSHA256"))
        if have and ("ContentRange" not in answer or now.etag != begun[0].etag):
            answer["Body"].close()
            have, answer = 0, self._ask(key)
            now = _Begun(answer["ETag"], answer.get("ChecksumSHA256"))
        if not have:
            begun[:] = [now]
        try:
            with closing(answer["Body"]) as body, path.open("ab" if have else "wb") as file:
                shutil.copyfileobj(body, file, _CHUNK)
            if begun[0].sha256 not in (None, _base64(sha256_file(path))):
                raise _DamagedError
        except (_DamagedError, FlexibleChecksumError):
            begun.clear()  # which of its bytes are wrong, nobody knows
            raise

    def _contents(self, page: dict[str, Any]) -> list[dict[str, Any]]:
        """The objects on a page of a listing; a page of something else must not be taken for an empty one."""
        if "IsTruncated" not in page:
            raise self._elsewhere("The answer is no listing")
        return list(page.get("Contents", []))

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, key: str, body: bytes | IO[bytes], sha256: str, condition: dict[str, str]) -> str:
        if condition and not self._keeps_conditions:
            self.check_conditions()
        return self._send(key, body, sha256, condition)

    def _send(self, key: str, body: bytes | IO[bytes], sha256: str, condition: dict[str, str]) -> str:
        checksum = {"ChecksumSHA256": _base64(sha256)} if self._s3.checksums == "sha256" else {}
        with self._translated(key):
            answer = self.client.put_object(**self.place(key), Body=body, **checksum, **condition)
        if "ETag" not in answer:
            raise self._elsewhere("It takes a write without saying so")
        return str(answer["ETag"])

    def _replace(self, key: str, data: bytes, etag: str) -> str:
        """Write on the condition that the object's etag is still ``etag``.

        Ceph compares what the header has in quotes with what it has stored without. So where a store says that the etag
        is another and shows the same, the bare form is tried; S3 itself takes both.
        """
        forms = [etag.strip('"')] if self._bare_etags else [etag, etag.strip('"')]
        digest = sha256_bytes(data)
        for form in forms:
            try:
                written = self._write(key, data, digest, {"IfMatch": form})
            except ConflictError:
                if form == forms[-1] or self._etag(key) != etag:
                    raise
            else:
                self._bare_etags = form != etag
                return written
        raise conflict(self, key)

    def _etag(self, key: str) -> str | None:
        """The etag of an object; None when there is none."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                found: str | None = self.client.head_object(**self.place(key)).get("ETag")
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise
        return found

    def _is_kept(self, key: str, condition: dict[str, str]) -> bool:
        """Whether a write is refused whose condition should not hold."""
        text = b"Tries whether conditions are kept.\n"
        try:
            self._send(key, text, sha256_bytes(text), condition)
        except ConflictError:
            return True
        return False

    # --- errors -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Errors in the words of the registry: an object is absent only when the store says so of this very one."""
        from botocore.exceptions import ClientError, FlexibleChecksumError

        with aws.translated("S3", f"{self.url}/{key}"):
            try:
                yield
            except ClientError as error:
                raise self._answered(error, key) or error from None
            except (_DamagedError, FlexibleChecksumError):
                raise UnreachableError(
                    f"{key} arrives damaged from the registry",
                    detail=f"Its checksum is not the one that it was stored with in {self.url}.",
                    hint="Try again; if it stays so, restore that object from a backup.",
                ) from None

    def _answered(self, error: Any, key: str) -> Exception | None:
        """What an answer means to the registry; None for what it means everywhere."""
        code, status = aws.error_code(error), _status(error)
        is_write = error.operation_name == "PutObject"
        if status in (409, 412) or (is_write and code == "NoSuchKey"):
            return conflict(self, key)  # of If-Match, S3 says that there is no such key
        if code == "NoSuchKey":
            return missing(self, key)
        if code == "NoSuchBucket":
            return UnreachableError(
                f"There is no bucket {self.bucket}",
                detail=f"The registry is to be at {self.url}.",
                hint=f"Make it (`aws s3 mb s3://{self.bucket}`), or name another: `--registry s3://BUCKET/PREFIX`.",
            )
        if code == "NotImplemented" and is_write:
            return self.careless("conditions")
        return self._elsewhere(f"The answer is {code}") if status == 404 else None

    def _elsewhere(self, said: str) -> UnreachableError:
        return UnreachableError(
            f"What answers for {self.url} does not speak S3",
            detail=f"{said}.",
            hint="Check the endpoint (`s3.endpoint_url`) and proxies on the way.",
        )

    def careless(self, condition: str) -> ConfigurationError:
        """The error for a store that has no regard for a condition."""
        return ConfigurationError(
            f"The store at {self.url} does not keep the conditions of writes",
            detail=f"It has no regard for {condition}: two writers would overwrite each other unnoticed.",
            hint="Use S3, a store that does as S3 does here (docs/registry.md), or a folder: `--registry PATH`.",
        )


def _broken_off() -> tuple[type[Exception], ...]:
    """Errors of reading an answer's body, which botocore does not try again by itself."""
    from botocore.exceptions import FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
    from urllib3.exceptions import ProtocolError

    broken = (IncompleteReadError, ProtocolError, ReadTimeoutError, ResponseStreamingError)
    return (_DamagedError, FlexibleChecksumError, *broken)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _base64(sha256: str) -> str:
    """A hexadecimal digest as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > _MOST:
        raise ConfigurationError(
            f"{path.name} is larger than S3 takes at once",
            detail=f"{size / 1e9:,.1f} GB, and at most {_MOST / 1e9:,.1f} GB.",
            hint="Train a smaller model (`train.max_rounds`, `train.num_leaves`), or use a folder: `--registry PATH`.",
        )
