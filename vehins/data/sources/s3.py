"""S3: an object, a folder or a glob of objects in Parquet or CSV, read as files of that kind are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import digest
from vehins.data.sources import ReadOptions, _files, csv, parquet
from vehins.data.sources._objects import Bucket, Object, Objects
from vehins.errors import NotFoundError, SettingsError, SourceFormatError, VehinsError
from vehins.masking import masked_address
from vehins.remote import address, aws, aws_probes, probes
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`s3://BUCKET/KEY` (S3: Parquet or CSV; an object, a folder or a glob)"
CHECKS = ("address", "DNS", "port", "TLS", "login", "permission to list", "permission to read", "clock skew")
_FORM = "s3://BUCKET/FOLDER/*.parquet"
_KINDS = (csv.SUFFIXES, parquet.SUFFIXES)


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return address.has_scheme(url, "s3")


def open_source(url: str, options: ReadOptions) -> S3Source:
    """List the objects behind the address.

    Raises:
        SettingsError: the address names no bucket, or objects of more than one kind.
        NotFoundError: there is no such bucket, or nothing in it that can be read.
        SourceFormatError: an object is empty.
        CredentialsError: nobody is logged in, or may not list the bucket.
        UnreachableError: the store does not answer.
    """
    name, path = split(url)
    bucket = Bucket(aws.s3_client(options.s3, options.remote), name, options.remote)
    return S3Source(bucket, path, _readable(bucket, path), options)


def split(url: str) -> tuple[str, str]:
    """The bucket and the path of an address; the path is taken as it is written, a ``?`` is a sign of a glob.

    Raises:
        SettingsError: it names no bucket.
    """
    name, _, path = url.partition("://")[2].partition("/")
    if not name or "@" in name or ":" in name or "?" in name:
        detail = f"`{masked_address(url)}`; logins come from AWS's own chain, other stores from `s3.endpoint_url`."
        raise SettingsError("The address names no bucket", detail=detail, hint=f"Write it as `{_FORM}`.")
    return name, path


def _readable(bucket: Bucket, path: str) -> list[Object]:
    everything = bucket.behind(path)
    shown = [found for found in everything if not found.key.rpartition("/")[2].startswith(".")]
    sorts = [[found for found in shown if found.key.lower().endswith(suffixes)] for suffixes in _KINDS]
    found = sorted(sorts[0] + sorts[1])
    label = bucket.address(path)
    if all(sorts):
        raise SettingsError(
            f"{label} holds objects of more than one kind",
            detail=f"For instance {bucket.address(sorts[0][0].key)} and {bucket.address(sorts[1][0].key)}.",
            hint="Say which are meant: `--source 's3://BUCKET/FOLDER/*.parquet'`.",
        )
    if not found:
        seen = f"{len(everything):,} objects are there, none that ends in {', '.join(csv.SUFFIXES + parquet.SUFFIXES)}"
        detail = f"{seen}." if everything else "No object has such a key."
        hint = f"List what is there: `aws s3 ls s3://{bucket.name}/ --recursive`."
        raise NotFoundError(f"There is nothing to read at {label}", detail=detail, hint=hint)
    empty = next((one for one in found if one.size == 0), None)
    if empty:
        headline = f"{bucket.address(empty.key)} is empty"
        raise SourceFormatError(headline, detail="It has 0 bytes.", hint="Export it again, or remove it.")
    return found


class S3Source:
    """Objects of one kind, read one after the other."""

    def __init__(self, bucket: Bucket, path: str, objects: list[Object], options: ReadOptions) -> None:
        self._bucket, self._path, self._objects, self._options = bucket, path, objects, options
        self.label = bucket.address(path)

    def token(self) -> str:
        """Digest of keys, sizes and ETags: nothing is read for it."""
        return digest([list(found) for found in self._objects])

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the rows of all objects; errors as those of files, and of the store."""
        yield from read(self._bucket, self._path, self._objects, self._options, schema)
        if _readable(self._bucket, self._path) != self._objects:
            raise _files.changed(self.label)

    def first(self, size: int = 1) -> dict[str, Any]:
        """The beginning of the first object, with all that S3 says of it."""
        found = self._objects[0]
        with aws.translated("S3", self._bucket.address(found.key)):
            answer: dict[str, Any] = self._bucket.client.get_object(
                Bucket=self._bucket.name, Key=found.key, Range=f"bytes=0-{size - 1}"
            )
            answer["Body"].close()
        return answer

    @property
    def size(self) -> str:
        """How much there is, in words."""
        return f"{len(self._objects):,} objects with {sum(found.size for found in self._objects) / 1e6:,.1f} MB"


def read(
    bucket: Bucket, path: str, objects: list[Object], options: ReadOptions, schema: TableSchema, any_case: bool = False
) -> Iterator[pl.DataFrame]:
    """Yield the rows of objects, which all are Parquet or all CSV.

    With ``any_case``, columns of Parquet are those of the schema also when their case differs.
    """
    with tempfile.TemporaryDirectory(prefix="objects-", dir=options.scratch) as folder:
        files = Objects(bucket, path, objects, Path(folder))
        is_csv = objects[0].key.lower().endswith(csv.SUFFIXES)
        source = csv.CsvSource(files, options) if is_csv else parquet.ParquetSource(files, options.batch_rows, any_case)
        try:
            yield from source.batches(schema)
        except VehinsError as error:
            raise files.named(error) from None


def probe(url: str, options: ReadOptions) -> Iterator[Check]:
    """Check the way to the objects, step by step; see `CHECKS`."""
    try:
        name, path = split(url)
        bucket = Bucket(aws.s3_client(options.s3, options.remote), name, options.remote)
        yield Check("address", "ok", bucket.address(path))
    except VehinsError as error:
        yield probes.failed("address", error)
        return
    for check in aws_probes.way(bucket.client, options.remote):
        yield check
        if check.failed:
            return
    try:
        source = S3Source(bucket, path, _readable(bucket, path), options)
    except VehinsError as error:
        yield from aws_probes.login_or(error, "permission to list")
        return
    yield Check("login", "ok", "accepted")
    yield Check("permission to list", "ok", source.size)
    before = time.time()
    try:
        answer = source.first()
    except VehinsError as error:
        yield probes.failed("permission to read", error)
        return
    yield Check("permission to read", "ok", "the first object can be read")
    yield aws_probes.clock(answer, before)
