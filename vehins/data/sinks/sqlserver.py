"""SQL Server: rows go into a temporary table as JSON, and from there into the table in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vehins.data.sinks import WriteOptions
from vehins.data.sinks._columns import SqlType, sql_types, typed
from vehins.errors import ConflictError, NotFoundError, SettingsError, VehinsError
from vehins.remote import sql, sqlserver

if TYPE_CHECKING:
    import polars as pl

    from vehins.remote.address import Address

SUMMARY = "`mssql://HOST/DATABASE?table=SCHEMA.TABLE` (SQL Server, extra `sqlserver`)"
matches = sqlserver.matches
# Of this connection alone, and gone with it.
_STAGED = "[#vehins_staged]"
_SENT_ROWS = 10_000
_ROWS_PER_SECOND = 2_000  # at least; what the last transaction is given beyond the usual patience
_TYPES: dict[SqlType, str] = {
    "int": "bigint",
    "float": "float",
    "text": "nvarchar(max)",
    "bool": "bit",
    "moment": "datetime2(6)",
}
_KEY_TEXT = "nvarchar(450)"  # the longest that an index takes


class _Target(NamedTuple):
    """The table as it is before anything is written."""

    table: sql.Table
    types: dict[str, Any]
    """Column -> Python type of its values; none when there is no table."""


def open_sink(url: str, options: WriteOptions) -> SqlServerSink:
    """Take the address apart; nobody is asked yet."""
    address = sqlserver.parse(url)
    return SqlServerSink(address, sqlserver.table_of(address), options)


class SqlServerSink:
    """A table of SQL Server, which is made when there is none."""

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
        with sqlserver.session(self._address, options.login, options.remote, options.s3) as session:
            # Whoever holds the table for long is not waited for beyond the usual patience.
            for setting in ("NOCOUNT ON", "XACT_ABORT ON", f"LOCK_TIMEOUT {round(options.remote.read_timeout * 1000)}"):
                session.execute(f"SET {setting}")
            target = _target(session, self._table)
            rows, types = 0, dict[str, SqlType]()
            for batch in batches:
                if not types:
                    types = sql_types(batch)
                    _check(target, types, self.label)
                    session.execute(f"CREATE TABLE {_STAGED} ({_definitions(types, key)})")
                for part in typed(batch, types).iter_slices(_SENT_ROWS):
                    _stage(session, part, types)
                rows += batch.height
            patient = session.with_patience(options.remote.read_timeout + rows / _ROWS_PER_SECOND)
            _show(patient, target, types, key, replace=replace)
        on_rows(rows)
        return rows


def _target(session: sqlserver.Session, table: sql.Table) -> _Target:
    try:
        return _Target(table, dict(sqlserver.columns_of(session, table)))
    except NotFoundError:
        return _Target(table, {})


def _check(target: _Target, types: dict[str, SqlType], label: str) -> None:
    """Refuse rows that do not fit into the table that is there."""
    if not target.types:
        return
    pairs = sql.matched(types, list(target.types))
    lacking = [name for name in types if name not in pairs]
    if lacking:
        raise sql.lacking_columns(target.table, label, lacking, list(target.types))
    wrong = [name for name, kind in types.items() if kind == "float" and target.types[pairs[name]] is int]
    if wrong:
        raise SettingsError(
            f"The column `{wrong[0]}` of {target.table} would lose its fractions",
            detail="It holds integers there, and the rows have floats.",
            hint="Make it `float`, or name a new table.",
        )


def _quoted(name: str) -> str:
    return sql.quoted(name, "[")


def _definitions(types: dict[str, SqlType], key: str) -> str:
    """Columns for a new table."""

    def definition(name: str, kind: SqlType) -> str:
        form = _KEY_TEXT if kind == "text" and name == key else _TYPES[kind]
        # Temporary tables would else compare texts as the server does, and not as this database does.
        collation = " COLLATE DATABASE_DEFAULT" if kind == "text" else ""
        return f"{_quoted(name)} {form}{collation}{' NOT NULL PRIMARY KEY' if name == key else ''}"

    return ", ".join(definition(name, kind) for name, kind in types.items())


def _stage(session: sqlserver.Session, part: pl.DataFrame, types: dict[str, SqlType]) -> None:
    """Send rows as one JSON text, whose columns have numbers for names."""
    import polars as pl

    numbered = part.select(
        (pl.col(name).dt.to_string("%Y-%m-%dT%H:%M:%S%.6f") if kind == "moment" else pl.col(name)).alias(f"c{number}")
        for number, (name, kind) in enumerate(types.items())
    )
    names = ", ".join(_quoted(name) for name in types)
    forms = (f"{_quoted(name)} {_TYPES[kind]} '$.c{number}'" for number, (name, kind) in enumerate(types.items()))
    source = f"OPENJSON(?) WITH ({', '.join(forms)})"
    session.execute(f"INSERT INTO {_STAGED} ({names}) {sql.select(source, [names])}", (numbered.write_json(),))


def _show(session: sqlserver.Session, target: _Target, types: dict[str, SqlType], key: str, *, replace: bool) -> None:
    """Put the staged rows into the table: readers see the old rows until the commit, and the new ones after it."""
    if not types and not (replace and target.types):
        return
    try:
        for statement in ("BEGIN TRANSACTION", *_statements(target, types, key, replace=replace), "COMMIT TRANSACTION"):
            session.execute(statement)
    except VehinsError as error:
        if "already an object" in error.detail:
            raise ConflictError(
                f"Somebody else made the table {target.table}",
                detail=error.detail,
                hint="Run the command again: it will add to it.",
            ) from None
        raise


def _statements(target: _Target, types: dict[str, SqlType], key: str, *, replace: bool) -> Sequence[str]:
    """What makes the table hold the staged rows; all names are quoted."""
    table = target.table.quoted("[")
    # Readers of the table wait until the commit, or see the old rows where the database keeps them for readers.
    empty = f"DELETE FROM {table} WITH (TABLOCKX, HOLDLOCK)"  # noqa: S608
    if not types:
        return [empty]
    pairs = sql.matched(types, list(target.types)) if target.types else {name: name for name in types}
    names = ", ".join(_quoted(pairs[name]) for name in types)
    values = [f"s.{_quoted(name)}" for name in types]
    insert = f"INSERT INTO {table} ({names}) {sql.select(f'{_STAGED} AS s', values)}"
    if not target.types:
        return [f"CREATE TABLE {table} ({_definitions(types, key)})", insert]
    if replace:
        return [empty, insert]
    bare, theirs, ours = _quoted(target.table.name), _quoted(pairs[key]), f"s.{_quoted(key)}"
    changes = ", ".join(f"{_quoted(pairs[name])} = s.{_quoted(name)}" for name in types if name != key)
    update = (
        f"UPDATE {table} WITH (UPDLOCK, SERIALIZABLE) SET {changes} "  # noqa: S608
        f"FROM {_STAGED} AS s WHERE {bare}.{theirs} = {ours}"
    )
    known = sql.select(f"{table} AS t WITH (UPDLOCK, SERIALIZABLE)", ["1"]) + f" WHERE t.{theirs} = {ours}"
    return [*([update] if changes else []), f"{insert} WHERE NOT EXISTS ({known})"]
