"""One Parquet or CSV object in S3.

S3 swaps one object at a time, and no two at once: a table of several parts could be read half old and half new. So a
table is one object; its new version is made on this machine and put there in one request, on the condition that the
object is still the one that the old rows came from.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vehins.data.sinks import WriteOptions, _whole
from vehins.errors import ConflictError, NotFoundError, SettingsError
from vehins.masking import masked_address
from vehins.remote import aws

if TYPE_CHECKING:
    import polars as pl

SUMMARY = "`s3://BUCKET/PREFIX/NAME.parquet` or `.csv` (one object in S3)"
_FORM = "s3://BUCKET/PREFIX/NAME.parquet"
_MOST = 5 * 1024**3  # bytes of an object that one request can put
_TOKEN = "vehins-write"  # noqa: S105 - the name of a mark
_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return url.lower().startswith("s3://")


def open_sink(url: str, options: WriteOptions) -> S3Sink:
    """Take the address apart; nobody is asked yet.

    Raises:
        SettingsError: it names no bucket, or no object that can be written.
    """
    bucket, _, key = url[len("s3://") :].partition("/")
    if key.endswith("/") or not key:
        key += "rows.parquet"
    if not bucket or "@" in bucket or "?" in key or "*" in key or not key.lower().endswith(_whole.SUFFIXES):
        detail = f"`{masked_address(url)}`; a folder gets the object `rows.parquet`."
        raise SettingsError("The address names no object to write", detail=detail, hint=f"Write it as `{_FORM}`.")
    return S3Sink(bucket, key, options)


class S3Sink:
    """One object; readers see the old one or the new one."""

    takes_no_key = True

    def __init__(self, bucket: str, key: str, options: WriteOptions) -> None:
        self._object = {"Bucket": bucket, "Key": key}
        self._options = options
        self.label = f"s3://{bucket}/{key}"

    def write(
        self, batches: Iterable[pl.DataFrame], key: str | None, *, replace: bool, on_rows: Callable[[int], None]
    ) -> int:
        """Put the object anew; without a key, or with ``replace``, what it held before is gone.

        Raises:
            CredentialsError: nobody is logged in, or the login may not write.
            NotFoundError: there is no such bucket.
            SettingsError: the old object has other columns, or the new one would be too large.
            ConflictError: somebody else wrote to it meanwhile.
            UnreachableError: S3 does not answer.
        """
        with aws.translated("S3", self.label):
            client = aws.s3_client(self._options.s3, self._options.remote)
        etag = self._etag(client)
        suffix = Path(self._object["Key"]).suffix
        with tempfile.TemporaryDirectory(prefix="vehins-") as folder, _whole.storing(folder):
            old = None
            if etag and not replace and key is not None:
                old = Path(folder) / f"old{suffix}"
                self._download(client, etag, old)
            new = Path(folder) / f"new{suffix}"
            rows = _whole.put_together(batches, key, old, new, self.label)
            self._put(client, new, etag)
        on_rows(rows)
        return rows

    def _etag(self, client: Any) -> str | None:
        """The tag of the object that is there; None when there is none."""
        try:
            with aws.translated("S3", self.label):
                answer = client.head_object(**self._object)
        except NotFoundError:
            with aws.translated("S3", f"the bucket of {self.label}"):
                client.list_objects_v2(Bucket=self._object["Bucket"], Prefix=self._object["Key"], MaxKeys=1)
            return None
        return str(answer["ETag"])

    def _download(self, client: Any, etag: str, path: Path) -> None:
        with aws.translated("S3", self.label), path.open("wb") as file:
            body = client.get_object(**self._object, IfMatch=etag)["Body"]
            for block in body.iter_chunks(1 << 20):
                file.write(block)

    def _put(self, client: Any, path: Path, etag: str | None) -> None:
        from botocore.exceptions import ClientError

        size = path.stat().st_size
        if size > _MOST:
            raise SettingsError(
                f"{self.label} would be larger than S3 takes at once",
                detail=f"{size / 1e9:,.1f} GB, and at most {_MOST / 1e9:,.1f} GB.",
                hint="Write Parquet instead of CSV, or load the rows in several objects.",
            )
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        token = secrets.token_hex(8)
        with aws.translated("S3", self.label):
            try:
                with path.open("rb") as file:
                    client.put_object(**self._object, Body=file, Metadata={_TOKEN: token}, **condition)
            except ClientError as error:
                if aws.error_code(error) not in _CHANGED:
                    raise
                # The answer to a write that succeeded may have been lost, and the client's own retry then met it.
                if client.head_object(**self._object)["Metadata"].get(_TOKEN) == token:
                    return
                raise ConflictError(
                    f"Somebody else wrote to {self.label} meanwhile",
                    detail="What they wrote is still there.",
                    hint="Run the command again.",
                ) from None
