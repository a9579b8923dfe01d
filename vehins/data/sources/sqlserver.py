"""SQL Server: a table, or what one query finds, in Arrow batches through Microsoft's driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from vehins.data.sources import ReadOptions
from vehins.errors import SourceFormatError, VehinsError
from vehins.remote import probes, sql, sqlserver
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.remote.address import Address

SUMMARY = "`mssql://HOST/DATABASE?table=SCHEMA.TABLE` (SQL Server, extra `sqlserver`)"
matches = sqlserver.matches
CHECKS = ("address", "driver", "DNS", "port", "TLS", "login", "permission to read", "rows seen", "clock skew")
_FETCHED_ROWS = 50_000


def open_source(url: str, options: ReadOptions) -> SqlServerSource:
    """Take the address apart; nobody is asked yet."""
    address = sqlserver.parse(url)
    query = sql.only_reads(options.query) if options.query else None
    return SqlServerSource(address, None if query else sqlserver.table_of(address), query, options)


class SqlServerSource:
    """The rows of one statement; of one state of the database where that has snapshots."""

    def __init__(self, address: Address, table: sql.Table | None, query: str | None, options: ReadOptions) -> None:
        self._address, self._table, self._query, self._options = address, table, query, options
        self.label = address.label

    def token(self) -> None:
        """A database cannot tell whether it changed."""
        return

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the columns that the schema keeps, under the schema's names.

        Raises:
            CredentialsError: the login is wrong, or may not read the table.
            NotFoundError: there is no such table.
            UnreachableError: the server does not answer, or goes away meanwhile.
        """
        import polars as pl

        options = self._options
        with sqlserver.session(self._address, options.login, options.remote, options.s3) as session:
            _use_snapshot(session)
            pairs = self._ask(session, schema)
            guids = {entry[0] for entry in session.cursor.description if entry[1] is UUID}
            rows = min(_FETCHED_ROWS, options.batch_rows)
            held: list[pl.DataFrame] = []
            while True:
                batch = session.wait(lambda: session.cursor.arrow_batch(rows))
                held.append(_named(pl.from_arrow(batch), pairs, guids))
                if batch.num_rows == 0 or sum(frame.height for frame in held) >= options.batch_rows:
                    yield pl.concat(held)
                    held = []
                if batch.num_rows == 0:
                    return

    def _ask(self, session: sqlserver.Session, schema: TableSchema) -> dict[str, str]:
        """Send the statement; return the schema's name -> the result's for each column that is wanted and there."""
        if self._query is not None:
            session.execute(self._query)
            found = session.columns()
        else:
            found = [name for name, _ in sqlserver.columns_of(session, self._named_table)]
        pairs = sql.matched(schema.kept, found)
        if not pairs:
            raise SourceFormatError(
                f"{self.label} has no column of the schema {schema.name}",
                detail=f"It has {', '.join(f'`{name}`' for name in found)}.",
                hint="Name another table, or write names by `--query 'SELECT a AS b ...'`.",
            )
        if self._table is not None:
            session.execute(sql.select(self._table.quoted("["), (sql.quoted(name, "[") for name in pairs.values())))
        return pairs

    @property
    def _named_table(self) -> sql.Table:
        assert self._table is not None  # noqa: S101  # without a query the address had to name one
        return self._table

    def checks(self, session: sqlserver.Session) -> Iterator[Check]:
        """What can be checked once a connection is open."""
        encrypt = self._address.options.get("encrypt", "yes")
        advice = "Only for a network of your own." if encrypt == "no" else ""
        yield Check("TLS", "ok", "asked for no encryption" if encrypt == "no" else f"encrypt={encrypt}", advice)
        yield Check("login", "ok", self._options.login.user or self._address.user or "this user")
        try:
            origin = self._query
            if self._table is not None:
                sqlserver.columns_of(session, self._table)
                origin = sql.select(self._table.quoted("["), ["TOP 1 1 AS one"])
            session.execute(str(origin))
            some = session.wait(session.cursor.fetchone) is not None
        except VehinsError as error:
            yield probes.failed("permission to read", error)
            return
        yield Check("permission to read", "ok", str(self._table or "the query"))
        yield _rows_seen(session, self._table, some)
        before = time.time()
        there = session.rows("SELECT SYSUTCDATETIME() AS now")[0][0]
        yield sql.clock(_seconds(there), before, time.time())


def _use_snapshot(session: sqlserver.Session) -> None:
    """Read one state of the database where it keeps old versions of rows; where not, writers are not held up."""
    state = session.rows("SELECT snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()")
    if state and state[0][0] == 1:
        session.execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")


def _named(frame: Any, pairs: dict[str, str], guids: set[str]) -> pl.DataFrame:
    """The wanted columns under the schema's names; dates and times as a CSV would have them, GUIDs in small letters."""
    import polars as pl

    def column(ours: str, theirs: str) -> pl.Expr:
        dtype, value = frame.schema[theirs], pl.col(theirs)
        if isinstance(dtype, pl.Datetime):
            form = "%Y-%m-%d %H:%M:%S%.f" + ("%:z" if dtype.time_zone else "")
            return value.dt.to_string(form).alias(ours)
        if theirs in guids:
            return value.str.to_lowercase().alias(ours)
        return (value.cast(pl.String) if dtype.is_temporal() else value).alias(ours)

    found: pl.DataFrame = frame.select(column(ours, theirs) for ours, theirs in pairs.items())
    return found


def _rows_seen(session: sqlserver.Session, table: sql.Table | None, some: bool) -> Check:
    """The server's own count of a table: counting anew would read everything."""
    if not some:
        return Check("rows seen", "ok", "none", "Fill the table, or name another.")
    if table is None:
        return Check("rows seen", "ok", "some")
    name = table.quoted("[").replace("'", "''")
    count = session.rows(
        f"SELECT SUM(rows) FROM sys.partitions WHERE object_id = OBJECT_ID('{name}') AND index_id IN (0, 1)"  # noqa: S608
    )[0][0]
    return Check("rows seen", "ok", f"{int(count):,}" if count else "some")  # a view has no count


def _seconds(moment: Any) -> float:
    found = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return found.replace(tzinfo=UTC).timestamp()


def probe(url: str, options: ReadOptions) -> Iterator[Check]:
    """Check the way to the rows, step by step; see `CHECKS`."""
    try:
        source = open_source(url, options)
        address = sqlserver.parse(url)
        yield Check("address", "ok", source.label)
    except VehinsError as error:
        yield probes.failed("address", error)
        return
    try:
        sqlserver.load()
        yield Check("driver", "ok", "mssql-python")
    except VehinsError as error:
        yield probes.failed("driver", error)
        return
    for check in probes.network(address.host, address.port(sqlserver.PORT), options.remote.connect_timeout):
        yield check
        if check.failed:
            return
    try:
        with sqlserver.session(address, options.login, options.remote, options.s3) as session:
            yield from source.checks(session)
    except VehinsError as error:
        yield probes.failed("TLS" if "TLS" in error.headline else "login", error)
