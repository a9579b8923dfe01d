"""Amazon Redshift: rows unloaded to S3 as Parquet, read from there, and removed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

from vehins.data.sources import ReadOptions, s3
from vehins.data.sources._objects import Bucket, Object
from vehins.errors import SettingsError, SourceFormatError, UnreachableError, VehinsError
from vehins.remote import aws, aws_probes, probes, redshift, sql
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`redshift://CLUSTER/DATABASE?table=SCHEMA.TABLE` (Amazon Redshift by UNLOAD; `redshift-serverless://WORKGROUP/...`)"
CHECKS = ("address", "DNS", "port", "TLS", "login", "permission to read", "rows seen", "unload bucket")
matches = redshift.matches
_MANIFEST = "manifest"
_AT_ONCE = 1000  # objects that S3 removes with one request


def open_source(url: str, options: ReadOptions) -> RedshiftSource:
    """Take the address apart; nobody is asked yet.

    Raises:
        SettingsError: address, query or `redshift.unload_to` make no sense.
    """
    address = redshift.parse(url)
    query = sql.only_reads(options.query) if options.query else None
    if query and "\\'" in query:  # which Redshift takes for a quote within the text
        hint = "Write a quote within a text as two: `''`."
        raise SettingsError("The query has a backslash before a quote", detail="Its end is in doubt.", hint=hint)
    table = None if query else sql.table_of(address, redshift.FORM)
    place = options.redshift.unload_to
    if not place or not s3.matches(place):
        hint = "Name one that Redshift may write to: `--set redshift.unload_to=s3://BUCKET/FOLDER`."
        raise SettingsError(
            "No place for the rows that Redshift unloads", detail=f"It is {place or 'unset'}.", hint=hint
        )
    bucket, folder = s3.split(place)
    api = redshift.DataApi(address, options.login, options.remote, options.s3, options.redshift)
    store = Bucket(aws.s3_client(options.s3, options.remote), bucket, options.remote)
    return RedshiftSource(address.label, api, table or query or "", store, folder.strip("/"), options)


class RedshiftSource:
    """The rows of a table, or of a query."""

    def __init__(
        self,
        label: str,
        api: redshift.DataApi,
        origin: sql.Table | str,
        bucket: Bucket,
        folder: str,
        options: ReadOptions,
    ) -> None:
        self.label, self.api, self.origin, self.bucket = label, api, origin, bucket
        self._options = options
        self.folder = f"{folder}/" if folder else ""

    def token(self) -> None:
        """A database cannot tell whether it changed."""
        return

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the columns that the schema keeps, under the schema's names.

        Raises:
            CredentialsError: the login may not read the table, or Redshift may not write to the bucket.
            NotFoundError: there is no such table, cluster or bucket.
            SettingsError: the query is no SQL.
            UnreachableError: Redshift or S3 do not answer, or take too long.
        """
        prefix = f"{self.folder}vehins-{uuid4().hex}/"
        try:
            statement = self._statement(schema)
            self.api.run(_unload(statement, self.bucket.address(prefix), self._options.redshift.iam_role), self._say)
            yield from self._read(prefix, schema)
        except BaseException as error:
            self._remove(prefix, error)
            raise
        self._remove(prefix)

    def _say(self, text: str) -> None:
        if self._options.say:
            self._options.say(text)

    def _statement(self, schema: TableSchema) -> str:
        """The SELECT of the columns that are wanted and there; what a query has is known when it is unloaded."""
        if isinstance(self.origin, str):
            return sql.select(_from(self.origin))
        found = self.api.columns(self.origin)
        pairs = sql.matched(schema.kept, found)
        if not pairs:
            raise self._no_column(found, schema)
        return sql.select(_from(self.origin), (sql.quoted(name) for name in pairs.values()))

    def _read(self, prefix: str, schema: TableSchema) -> Iterator[pl.DataFrame]:
        objects, rows = self._unloaded(prefix)
        came = 0
        frames = s3.read(self.bucket, prefix, objects, self._options, schema, any_case=True) if objects else iter(())
        for frame in frames:
            pairs = sql.matched(schema.kept, frame.columns)
            if not pairs:
                raise self._no_column(frame.columns, schema)
            came += frame.height
            yield frame.select(_column(frame, theirs).alias(ours) for ours, theirs in pairs.items())
        if came != rows:
            detail = f"Redshift wrote {rows:,} rows, and {came:,} were read."
            raise UnreachableError("Not all rows came", detail=detail, hint="Run the command again.")

    def _unloaded(self, prefix: str) -> tuple[list[Object], int]:
        """The objects that Redshift says it wrote, and the rows in them."""
        with aws.translated("S3", self.bucket.address(prefix + _MANIFEST)):
            body = self.bucket.client.get_object(Bucket=self.bucket.name, Key=prefix + _MANIFEST)["Body"]
            manifest = json.loads(body.read())
        wanted = {entry["url"]: int(entry["meta"]["record_count"]) for entry in manifest["entries"]}
        found = {self.bucket.address(one.key): one for one in self.bucket.below(prefix)}
        lost = next((url for url in wanted if url not in found), None)
        if lost:
            hint = "Does a rule of the bucket remove objects? Run the command again."
            raise UnreachableError("An unloaded file is gone", detail=f"It was {lost}.", hint=hint)
        return [found[url] for url, rows in sorted(wanted.items()) if rows], sum(wanted.values())

    def _remove(self, prefix: str, error: BaseException | None = None) -> None:
        """Remove what was unloaded; the error that says what is left stands in for the one that led here.

        Raises:
            UnreachableError: it could not be removed.
        """
        try:
            self._remove_all(prefix)
        except VehinsError as left:
            place = self.bucket.address(prefix)
            hint = f"Remove them: `aws s3 rm --recursive {place}`."
            if isinstance(error, VehinsError):
                detail = f"{error.detail} Unloaded rows may be left at {place}. {left.detail}"
                raise type(error)(error.headline, detail=detail, hint=f"{error.hint} {hint}") from None
            self._say(f"unloaded rows are left at {place}")
            if error is None:
                headline = f"Unloaded rows are left at {place}"
                raise type(left)(headline, detail=f"{left.headline}. {left.detail}", hint=hint) from None

    def _remove_all(self, prefix: str) -> None:
        keys = [{"Key": found.key} for found in self.bucket.below(prefix)]
        for start in range(0, len(keys), _AT_ONCE):
            some = {"Objects": keys[start : start + _AT_ONCE], "Quiet": True}
            with aws.translated("S3", f"to remove {self.bucket.address(prefix)}"):
                failed = self.bucket.client.delete_objects(Bucket=self.bucket.name, Delete=some).get("Errors", [])
            if failed:
                detail = f"{failed[0].get('Key')}: {failed[0].get('Message') or failed[0].get('Code')}."
                raise UnreachableError("S3 did not remove all objects", detail=detail)

    def _no_column(self, found: list[str], schema: TableSchema) -> SourceFormatError:
        return SourceFormatError(
            f"{self.label} has no column of the schema {schema.name}",
            detail=f"It has {', '.join(f'`{name}`' for name in found)}.",
            hint="Name another table, or write names by `--query 'SELECT a AS b ...'`.",
        )


def _from(origin: sql.Table | str) -> str:
    return (
        f"({origin}\n) AS vehins"
        if isinstance(origin, str)
        else sql.Table(origin.schema or "public", origin.name).quoted()
    )


def _unload(statement: str, place: str, role: str | None) -> str:
    """UNLOAD for a statement; its manifest tells which files are whole."""
    by = _text(role) if role else "default"
    return f"UNLOAD ({_text(statement)}) TO {_text(place)} IAM_ROLE {by} FORMAT AS PARQUET MANIFEST VERBOSE"


def _text(value: str) -> str:
    """A text as Redshift writes it, where a backslash is a sign of its own."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _column(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column; dates and times as a CSV would have them."""
    import polars as pl

    dtype, value = frame.schema[name], pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return value.dt.to_string("%Y-%m-%d %H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
    return value.cast(pl.String) if dtype.is_temporal() else value


def probe(url: str, options: ReadOptions) -> Iterator[Check]:
    """Check the way to the rows, step by step; see `CHECKS`."""
    try:
        source = open_source(url, options)
        yield Check("address", "ok", source.label)
    except VehinsError as error:
        yield probes.failed("address", error)
        return
    for check in aws_probes.way(source.api.client, options.remote):
        yield check
        if check.failed:
            return
    try:
        said = source.api.run(sql.select(_from(source.origin), ["1"]) + " LIMIT 1", lambda _: None)
    except VehinsError as error:
        yield from aws_probes.login_or(error, "permission to read")
        return
    yield Check("login", "ok", "accepted")
    yield Check("permission to read", "ok", "the query" if isinstance(source.origin, str) else str(source.origin))
    some = said.get("ResultRows", 0)
    yield Check("rows seen", "ok", "some" if some else "none", "" if some else "Fill the table, or name another.")
    yield _unload_bucket(source)


def _unload_bucket(source: RedshiftSource) -> Check:
    """Whether unloaded rows could be found; that Redshift may write there only an UNLOAD tells."""
    try:
        source.bucket.below(source.folder, most=1)
    except VehinsError as error:
        return probes.failed("unload bucket", error)
    return Check("unload bucket", "ok", f"{source.bucket.address(source.folder)} can be listed")
