"""PostgreSQL: a table, or what one query finds, in Arrow batches through ADBC; Redshift over a plain connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vehins.data.sources import ReadOptions
from vehins.errors import SourceFormatError, VehinsError
from vehins.remote import drivers, postgres, probes, sql
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.remote.address import Address

SUMMARY = "`postgresql://HOST/DATABASE?table=SCHEMA.TABLE` (PostgreSQL, extra `postgres`)"
matches = postgres.matches
# Any other is read as the text that PostgreSQL prints. So are dates and times: Arrow has no word for `infinity`.
_PLAIN = {"int2", "int4", "int8", "float4", "float8", "bool", "text", "varchar", "name", "bytea"}
CHECKS = ("address", "driver", "DNS", "port", "TLS", "login", "permission to read", "rows seen", "clock skew")
_BATCH_BYTES = 8 << 20
_CURSOR_ROWS = 50_000


def open_source(url: str, options: ReadOptions) -> PostgresSource:
    """Take the address apart; nobody is asked yet."""
    address = postgres.parse(url)
    query = sql.only_reads(options.query) if options.query else None
    return PostgresSource(address, None if query else sql.table_of(address, postgres.FORM), query, options)


class PostgresSource:
    """The rows of one statement in a read-only transaction: one consistent state of the database."""

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
            NotFoundError: there is no such database or table.
            UnreachableError: the server does not answer, or goes away meanwhile.
        """
        options = self._options
        with postgres.session(self._address, options.login, options.remote, options.s3) as session:
            session.execute("SET DateStyle = 'ISO'")
            session.execute("SET TimeZone = 'UTC'")
            session.execute(postgres.READ_ONLY)
            statement = self._statement(session, schema)
            copied = _by_cursor if session.is_redshift else _by_copy
            yield from _gathered(copied(session, statement), options.batch_rows)
            session.execute("COMMIT")

    def checks(self, session: postgres.Session) -> Iterator[Check]:
        """What can be checked once a connection is open."""
        yield _encryption(session)
        yield Check("login", "ok", str(session.rows("SELECT CAST(current_user AS text)")[0][0]))
        try:
            session.execute(postgres.READ_ONLY)
            table = postgres.found_table(session, self._table)[0] if self._table else None
            origin = table.quoted() if table else f"({self._query}\n) AS vehins"
            some = session.rows(sql.select(origin, ["1"]) + " LIMIT 1")
            session.execute("ROLLBACK")
        except VehinsError as error:
            yield probes.failed("permission to read", error)
            return
        yield Check("permission to read", "ok", str(table or "the query"))
        yield _rows_seen(session, table, bool(some))
        before = time.time()
        there = float(session.rows("SELECT CAST(EXTRACT(epoch FROM now()) AS float8)")[0][0])
        yield sql.clock(there, before, time.time())

    def _statement(self, session: postgres.Session, schema: TableSchema) -> str:
        """The SELECT of the columns that are wanted and there."""
        if self._query is not None:
            origin = f"({self._query}\n) AS vehins"
            found = session.described(sql.select(origin))
        else:
            assert self._table is not None  # noqa: S101  # the address had to name one
            table, found = postgres.found_table(session, self._table)
            origin = table.quoted()
        pairs = sql.matched(schema.kept, found.names)
        if not pairs:
            raise _no_column(self.label, found.names, schema)
        chosen = (f"{_as_read(found.field(name))} AS {sql.quoted(ours)}" for ours, name in pairs.items())
        return sql.select(origin, chosen)


def _encryption(session: postgres.Session) -> Check:
    try:
        found = session.rows("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
    except VehinsError:  # Redshift keeps no such table
        return Check("TLS", "skipped", "the server does not tell")
    if found:
        return Check("TLS", "ok", str(found[0][0]))
    return Check("TLS", "ok", "none", "Ask for it beyond your own network: `sslmode=verify-full`.")


def _rows_seen(session: postgres.Session, table: sql.Table | None, some: bool) -> Check:
    """The server's own estimate: counting would read everything."""
    if not some:
        return Check("rows seen", "ok", "none", "Fill the table, or name another.")
    if table is None:
        return Check("rows seen", "ok", "some")
    name = table.quoted().replace("'", "''")
    estimate = int(
        session.rows(f"SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = '{name}'::regclass")[0][0]  # noqa: S608
    )
    return Check("rows seen", "ok", f"about {estimate:,}" if estimate > 0 else "some; the server has not counted yet")


def _no_column(label: str, found: list[str], schema: TableSchema) -> SourceFormatError:
    return SourceFormatError(
        f"{label} has no column of the schema {schema.name}",
        detail=f"It has {', '.join(f'`{name}`' for name in found)}.",
        hint="Name another table, or write names by `--query 'SELECT a AS b ...'`.",
    )


def _as_read(field: Any) -> str:
    """The expression for a column, cast to text where Arrow has no such type."""
    kind = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode().strip("'")
    name = sql.quoted(field.name)
    if kind in _PLAIN or (kind.startswith("_") and kind[1:] in _PLAIN):
        return name
    if kind == "numeric":  # its NaN means missing, as that of a float does
        return f"CAST(NULLIF({name}, 'NaN') AS text)"
    return f"CAST(CAST({name} AS numeric) AS text)" if kind == "money" else f"CAST({name} AS text)"


def _by_copy(session: postgres.Session, statement: str) -> Iterator[pl.DataFrame]:
    """The rows as they come: the driver asks for COPY in its binary form and keeps one batch at a time."""
    import polars as pl

    hint = {"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES), postgres.USE_COPY: "true"}
    session.cursor.adbc_statement.set_options(**hint)
    session.execute(statement)
    reader = session.wait(session.cursor.fetch_record_batch)
    try:
        empty = pl.from_arrow(reader.schema.empty_table())
        assert isinstance(empty, pl.DataFrame)  # noqa: S101
        yield empty
        while (batch := session.wait(lambda: next(reader, None))) is not None:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)  # noqa: S101
            yield frame
    finally:
        with suppress(Exception):
            reader.close()


def _by_cursor(session: postgres.Session, statement: str) -> Iterator[pl.DataFrame]:
    """The rows by a cursor of the server: Redshift does not COPY to clients, and the driver would keep all rows."""
    import polars as pl

    session.execute(f"DECLARE vehins_rows CURSOR FOR {statement}")

    def fetch() -> Any:
        session.cursor.execute(f"FETCH FORWARD {_CURSOR_ROWS} FROM vehins_rows")
        return session.cursor.fetch_arrow_table()

    while True:
        frame = pl.from_arrow(session.wait(fetch))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101
        yield frame
        if frame.height < _CURSOR_ROWS:
            return


def _gathered(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Frames put together until they have so many rows; a driver's own batches may be small."""
    import polars as pl

    held: list[pl.DataFrame] = []
    yielded = False
    for frame in frames:
        held.append(frame)
        if sum(one.height for one in held) >= rows:
            yielded = True
            yield pl.concat(held)
            held = []
    if held and (not yielded or any(frame.height for frame in held)):
        yield pl.concat(held)


def probe(url: str, options: ReadOptions) -> Iterator[Check]:
    """Check the way to the rows, step by step; see `CHECKS`."""
    try:
        source = open_source(url, options)
        address = postgres.parse(url)
        yield Check("address", "ok", source.label)
    except VehinsError as error:
        yield probes.failed("address", error)
        return
    try:
        drivers.load_driver("adbc_driver_postgresql.dbapi", "postgres")
        yield Check("driver", "ok", "adbc-driver-postgresql")
    except VehinsError as error:
        yield probes.failed("driver", error)
        return
    if address.host:  # else a socket of this machine
        for check in probes.network(address.host, address.port(postgres.PORT), options.remote.connect_timeout):
            yield check
            if check.failed:
                return
    try:
        with postgres.session(address, options.login, options.remote, options.s3) as session:
            yield from source.checks(session)
    except VehinsError as error:
        yield probes.failed("TLS" if "TLS" in error.headline else "login", error)
