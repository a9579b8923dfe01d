"""Connections to PostgreSQL, and to Redshift as far as it is like it, through ADBC; its errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from vehins.errors import (
    CredentialsError,
    NotFoundError,
    SettingsError,
    SourceFormatError,
    UnreachableError,
    VehinsError,
)
from vehins.masking import masked
from vehins.remote import address as addresses
from vehins.remote import drivers, sql
from vehins.remote.address import Address
from vehins.remote.patience import TooSlow, patiently
from vehins.remote.retry import retried

if TYPE_CHECKING:
    from vehins.remote.logins import Login
    from vehins.settings import RemoteSettings, S3Settings

USE_COPY = "adbc.postgresql.use_copy"
READ_ONLY = "BEGIN READ ONLY"
FORM = "postgresql://USER@HOST/DATABASE?table=SCHEMA.TABLE"
PORT = 5432
_OPTIONS = ("table", "sslmode", "sslrootcert")
_REDSHIFT_PORT = 5439
_BUSY = re.compile(r"starting up|too many (clients|connections)|connection slots|shutting down", re.IGNORECASE)
T = TypeVar("T")


def matches(url: str) -> bool:
    """Whether the address is one of PostgreSQL."""
    return addresses.has_scheme(url, "postgresql", "postgres")


def parse(url: str) -> Address:
    """Take an address of PostgreSQL apart.

    Raises:
        SettingsError: it has an option that is not known, or names no database.
    """
    address = addresses.parse(url, FORM, _OPTIONS)
    address.port(PORT)
    if not address.path or "/" in address.path:
        detail = f"In {address.label}."
        raise SettingsError("The address names no database", detail=detail, hint=f"Write it as `{FORM}`.")
    return address


class Session(NamedTuple):
    """An open connection."""

    connection: Any
    cursor: Any
    address: Address
    patience: float
    """Seconds to wait for an answer."""
    secret: str | None

    def wait(self, call: Callable[[], T]) -> T:
        """Make a call of the driver; one that takes too long, or Ctrl-C, cancels its statement on the server.

        Raises:
            VehinsError: whatever the driver's error amounts to.
        """
        try:
            return patiently(call, self.patience, self.cursor.adbc_cancel)
        except TooSlow as slow:
            if not slow.ended:
                _abandoned.append(self.connection)
            raise UnreachableError(
                f"{self.address.label} does not answer in time",
                detail=f"Nothing came for {self.patience:g} s.",
                hint="Try again when it is less busy, or wait longer (`--set remote.read_timeout=SECONDS`).",
            ) from None
        except (OSError, ValueError, RuntimeError, self.connection.Error) as error:  # pyarrow raises the first three
            raise self.translated(error) from None

    def execute(self, statement: str) -> None:
        """Run a statement."""
        self.wait(lambda: self.cursor.execute(statement))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query with a small result."""

        def call() -> list[tuple[Any, ...]]:
            self.cursor.execute(statement)
            return list(self.cursor.fetchall())

        return self.wait(call)

    def described(self, query: str) -> Any:
        """The Arrow schema of a query's result; the query is not run."""
        return self.wait(lambda: self.cursor.adbc_execute_schema(query))

    def translated(self, error: Exception) -> VehinsError:
        """What an error of the driver amounts to."""
        return _translated(error, self.address, self.secret)

    @property
    def is_redshift(self) -> bool:
        """Whether this is Redshift, which cannot COPY to its client."""
        if self.address.host.endswith(".redshift.amazonaws.com") or self.address.port(PORT) == _REDSHIFT_PORT:
            return True
        # "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC ..., Redshift 1.0.12103"
        return "redshift" in str(self.rows("SELECT CAST(version() AS text)")[0][0]).lower()


# A connection whose call never came back cannot be closed; the driver complains when it is collected all the same.
_abandoned: list[Any] = []


@contextmanager
def session(address: Address, login: Login, remote: RemoteSettings, s3: S3Settings) -> Iterator[Session]:
    """Connect, and close at the end of the block. Connecting is tried again while a server starts or is full.

    Raises:
        ConfigurationError: the driver is not installed.
        CredentialsError: the login is wrong.
        NotFoundError: there is no such database.
        UnreachableError: nobody answers, or not over TLS as the address wants it.
    """
    driver = drivers.load_driver("adbc_driver_postgresql.dbapi", "postgres")
    user, password = login.resolve(address, remote, s3)
    uri = _uri(address, user, password, remote)
    try:
        connection = retried(lambda: driver.connect(uri, autocommit=True), remote, _is_passing)
    except (OSError, driver.Error) as error:
        raise _translated(error, address, password) from None
    cursor = connection.cursor()
    try:
        # Redshift knows no COPY to its client; for small results it makes no difference.
        cursor.adbc_statement.set_options(**{USE_COPY: "false"})
        yield Session(connection, cursor, address, remote.read_timeout, password)
    finally:
        if connection not in _abandoned:
            # What is open after an error is closed as far as it can be; the error itself is what counts.
            with suppress(Exception):
                cursor.close()
            with suppress(Exception):
                connection.close()


def _uri(address: Address, user: str | None, password: str | None, remote: RemoteSettings) -> str:
    login = "" if user is None else quote(user, safe="") + (f":{quote(password, safe='')}" if password else "") + "@"
    options = {name: value for name, value in address.options.items() if name != "table"}
    options |= {
        "connect_timeout": str(max(2, round(remote.connect_timeout))),  # libpq takes less for 2
        "application_name": "vehins",
        "tcp_user_timeout": str(round(remote.read_timeout * 1000)),
    }
    return f"postgresql://{login}{address.hosts}/{quote(address.path, safe='')}?{urlencode(options, quote_via=quote)}"


def _is_passing(error: Exception) -> bool:
    return bool(_BUSY.search(str(error)))


def _said(error: Exception, secret: str | None) -> str:
    """The driver's message without what it repeats: the statement, and perhaps the password."""
    text = str(error)
    match = re.search(r"(?:ERROR|FATAL|PANIC):\s+(.*)", text)
    said = match[1] if match else text.partition("\n")[0].rpartition("failed: ")[2]
    said = re.sub(r"^(?:IO|NOT_FOUND|UNKNOWN|INTERNAL): |\[libpq\] ", "", said).strip().rstrip(".")
    return str(masked(said.replace(secret, "***") if secret else said)) + "."


def _translated(error: Exception, address: Address, secret: str | None) -> VehinsError:
    label, said, text = address.label, _said(error, secret), str(error)
    if "Failed to connect" in text:
        return _not_connected(label, said)
    state = getattr(error, "sqlstate", None) or ""
    if state == "42501" or "permission denied" in said:
        hint = "Let an administrator give it: `GRANT SELECT ON ... TO ...` (for `--to`: INSERT, UPDATE, DELETE)."
        return CredentialsError(f"The login lacks a right in {label}", detail=said, hint=hint)
    if state in {"42P01", "3F000"}:
        return NotFoundError(f"There is no such table in {label}", detail=said, hint=f"Check its name: `{FORM}`.")
    if state.startswith("42") or "read-only transaction" in said:
        return SettingsError(f"{label} does not understand the query", detail=said, hint="Mend `--query`.")
    if re.search(r"terminating|server closed|connection|canceling|no connection|timeout", said) or state[:2] in {
        "08",
        "53",
        "57",
    }:
        hint = "Run the command again when the server is back; nothing that is incomplete was kept."
        return UnreachableError(f"The connection to {label} broke off", detail=said, hint=hint)
    return SourceFormatError(f"{label} cannot do that", detail=said, hint="Mend the rows, the table or `--query`.")


def _not_connected(label: str, said: str) -> VehinsError:
    if re.search(r"SSL|certificate|TLS", said):
        hint = "Choose what fits the server: `sslmode=` disable, require or verify-full, and `sslrootcert=FILE`."
        return UnreachableError(f"{label} and this machine do not agree on TLS", detail=said, hint=hint)
    if re.search(r"database .* does not exist", said):
        return NotFoundError(f"There is no such database: {label}", detail=said, hint=f"Check its name: `{FORM}`.")
    if re.search(r"authentication|password|role .* does not exist|pg_hba|permission denied", said):
        hint = "Set VEHINS_CREDENTIALS_SOURCE_USER and _PASSWORD (for `--to`: _TARGET_), or put them into the address."
        return CredentialsError(f"{label} does not accept the login", detail=said, hint=hint)
    hint = "Check host and port, that the server runs, and that firewalls let this machine reach it."
    return UnreachableError(f"{label} cannot be reached", detail=said, hint=hint)


def tables(session: Session) -> list[sql.Table]:
    """The tables and views that the login sees, those of the system left out."""
    found = session.rows(
        "SELECT table_schema::text, table_name::text FROM information_schema.tables "
        "WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1, 2 LIMIT 10000"
    )
    return [sql.Table(*row) for row in found]


def found_table(session: Session, table: sql.Table) -> tuple[sql.Table, Any]:
    """A table as the database writes its name, and the Arrow schema of its rows.

    Raises:
        NotFoundError: there is none.
    """
    try:
        return table, session.described(sql.select(table.quoted()))
    except NotFoundError:
        session.execute("ROLLBACK")
        session.execute(READ_ONLY)
        known = tables(session)
    for near in known:
        same_schema = table.schema is None or near.schema == table.schema.lower() or near.schema == table.schema
        if same_schema and near.name == table.name.lower():  # as PostgreSQL folds names without quotes
            return near, session.described(sql.select(near.quoted()))
    raise sql.no_such_table(table, session.address.label, known)
