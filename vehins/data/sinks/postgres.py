"""PostgreSQL: rows are copied into a temporary table, and from there into the table in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from vehins.data.sinks import WriteOptions
from vehins.data.sinks._columns import SqlType, sql_types, typed
from vehins.errors import ConflictError, NotFoundError, SettingsError, VehinsError
from vehins.remote import postgres, sql
from vehins.remote.sql import quoted

if TYPE_CHECKING:
    import polars as pl

    from vehins.remote.address import Address

SUMMARY = "`postgresql://HOST/DATABASE?table=SCHEMA.TABLE` (PostgreSQL, extra `postgres`)"
matches = postgres.matches
_STAGED = "vehins_staged"
_TYPES: dict[SqlType, str] = {
    "int": "bigint",
    "float": "double precision",
    "text": "text",
    "bool": "boolean",
    "moment": "timestamp with time zone",
}
_WHOLE = {"smallint", "integer", "bigint"}
_TEXTS = ("text", "character", "name", "citext")
_ROWS_PER_SECOND = 2_000  # at least; what the last transaction is given beyond the usual patience


class _Target(NamedTuple):
    """The table as it is before anything is written."""

    table: sql.Table
    types: dict[str, str]
    """Column -> PostgreSQL's name of its type; none when there is no table."""
    keys: set[str]
    """Columns that are unique by themselves."""


def open_sink(url: str, options: WriteOptions) -> PostgresSink:
    """Take the address apart; nobody is asked yet."""
    address = postgres.parse(url)
    return PostgresSink(address, sql.table_of(address, postgres.FORM), options)


class PostgresSink:
    """A table of PostgreSQL, which is made when there is none."""

    def __init__(self, address: Address, table: sql.Table, options: WriteOptions) -> None:
        self._address, self._table, self._options = address, table, options
        self.label = address.label

    def write(self, batches: Iterable[pl.DataFrame], key: str, *, replace: bool, on_rows: Callable[[int], None]) -> int:
        """Stage the rows out of sight, then show all of them at once; a connection that breaks leaves nothing behind.

        Raises:
            SettingsError: the table lacks a column of the rows, or has it in a type that cannot hold them.
            CredentialsError: the login is wrong or may not write.
            ConflictError: somebody else made the table meanwhile.
            UnreachableError: the server does not answer.
        """
        options = self._options
        with postgres.session(self._address, options.login, options.remote, options.s3) as session:
            if session.is_redshift:
                raise _not_redshift(self.label)
            target = _target(session, self._table)
            rows, types = 0, dict[str, SqlType]()
            for batch in batches:
                if not types:
                    types = sql_types(batch)
                    _check(target, types, self.label)
                _stage(session, typed(batch, types), first=rows == 0)
                rows += batch.height
            patient = session._replace(patience=session.patience + rows / _ROWS_PER_SECOND)
            _show(patient, target, types, key, replace=replace)
        on_rows(rows)
        return rows


def _not_redshift(label: str) -> SettingsError:
    return SettingsError(
        "Redshift takes no rows over a plain connection",
        detail=f"{label} is Redshift.",
        hint="Write to S3 (`--to s3://BUCKET/PREFIX/rows.parquet`) and COPY from there.",
    )


def _target(session: postgres.Session, table: sql.Table) -> _Target:
    try:
        table, _ = postgres.found_table(session, table)
    except NotFoundError:
        session.execute("ROLLBACK")
        return _Target(table, {}, set())
    session.execute("ROLLBACK")
    name = table.quoted().replace("'", "''")
    columns = session.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "  # noqa: S608  # a quoted name
        f"WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    keys = session.rows(
        "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a "  # noqa: S608  # a quoted name
        "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
        f"WHERE i.indrelid = '{name}'::regclass AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL"
    )
    return _Target(table, dict(columns), {row[0] for row in keys})


def _check(target: _Target, types: dict[str, SqlType], label: str) -> None:
    """Refuse rows that do not fit into the table that is there."""
    if not target.types:
        return
    pairs = sql.matched(types, list(target.types))
    lacking = [name for name in types if name not in pairs]
    if lacking:
        raise sql.lacking_columns(target.table, label, lacking, list(target.types))
    wrong = [name for name, kind in types.items() if kind == "float" and target.types[pairs[name]] in _WHOLE]
    if wrong:
        raise SettingsError(
            f"The column `{wrong[0]}` of {target.table} would lose its fractions",
            detail=f"It is {target.types[pairs[wrong[0]]]} there, and the rows have floats.",
            hint="Make it `double precision`, or name a new table.",
        )


def _stage(session: postgres.Session, batch: pl.DataFrame, *, first: bool) -> None:
    import polars as pl

    rows = batch.to_arrow(compat_level=pl.CompatLevel.oldest())
    mode = "create" if first else "append"
    session.wait(lambda: session.cursor.adbc_ingest(_STAGED, rows, mode=mode, temporary=True))


def _show(session: postgres.Session, target: _Target, types: dict[str, SqlType], key: str, *, replace: bool) -> None:
    """Put the staged rows into the table: readers see the old rows until the commit, and the new ones after it."""
    if not types and not (replace and target.types):
        return
    session.execute("BEGIN")
    try:
        # Whoever holds the table for long is not waited for beyond the usual patience.
        session.execute(f"SET LOCAL lock_timeout = {round(session.patience * 1000)}")
        for statement in _statements(target, types, key, replace=replace):
            session.execute(statement)
        session.execute("COMMIT")
    except VehinsError as error:
        if "already exists" in error.detail:
            raise ConflictError(
                f"Somebody else made the table {target.table}",
                detail=error.detail,
                hint="Run the command again: it will add to it.",
            ) from None
        raise


def _statements(target: _Target, types: dict[str, SqlType], key: str, *, replace: bool) -> list[str]:
    """What makes the table hold the staged rows; all names are quoted."""
    table = target.table.quoted()
    if not types:
        return [f"DELETE FROM {table}"]  # noqa: S608
    pairs = sql.matched(types, list(target.types)) if target.types else {name: name for name in types}
    names = ", ".join(quoted(pairs[name]) for name in types)
    values = ", ".join(_value(name, kind, target.types.get(pairs[name])) for name, kind in types.items())
    insert = f"INSERT INTO {table} ({names}) SELECT {values} FROM pg_temp.{_STAGED} AS s"  # noqa: S608
    if not target.types:
        columns = (
            f"{quoted(name)} {_TYPES[kind]}{' PRIMARY KEY' if name == key else ''}" for name, kind in types.items()
        )
        return [f"CREATE TABLE {table} ({', '.join(columns)})", insert]
    if replace:
        # Not TRUNCATE: it empties the table for those who began to read before, too.
        return [f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE", f"DELETE FROM {table}", insert]  # noqa: S608
    others = [name for name in types if name != key]
    if pairs[key] in target.keys:
        changes = ", ".join(f"{quoted(pairs[name])} = EXCLUDED.{quoted(pairs[name])}" for name in others)
        action = f"DO UPDATE SET {changes}" if changes else "DO NOTHING"
        return [f"{insert} ON CONFLICT ({quoted(pairs[key])}) {action}"]
    changes = ", ".join(
        f"{quoted(pairs[name])} = {_value(name, types[name], target.types[pairs[name]])}" for name in others
    )
    same = f"{table}.{quoted(pairs[key])} = {_value(key, types[key], target.types[pairs[key]])}"
    update = [f"UPDATE {table} SET {changes} FROM pg_temp.{_STAGED} AS s WHERE {same}"] if others else []  # noqa: S608
    add = f"{insert} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608
    return [f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE", *update, add]


def _value(name: str, kind: SqlType, there: str | None) -> str:
    """A staged value; a text for a column of another type is read as that type, say a UUID."""
    value = f"s.{quoted(name)}"
    return f"CAST({value} AS {there})" if kind == "text" and there and not there.startswith(_TEXTS) else value
