"""Connections to SQL Server through Microsoft's driver, and its errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

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

if TYPE_CHECKING:
    from vehins.remote.logins import Login
    from vehins.settings import RemoteSettings, S3Settings

FORM = "mssql://USER@HOST/DATABASE?table=SCHEMA.TABLE"
PORT = 1433
_OPTIONS = ("table", "encrypt", "trust_server_certificate")
_ENCRYPT = ("yes", "no", "strict")
_MARGIN = 5.0  # seconds; the driver keeps to its own limit, unless the server does not even take a cancellation
T = TypeVar("T")


def matches(url: str) -> bool:
    """Whether the address is one of SQL Server."""
    return addresses.has_scheme(url, "mssql", "sqlserver")


def parse(url: str) -> Address:
    """Take an address of SQL Server apart.

    Raises:
        SettingsError: it has an option or a value that is not known, or names no host or database.
    """
    address = addresses.parse(url, FORM, _OPTIONS)
    address.port(PORT)
    for name, allowed in (("encrypt", _ENCRYPT), ("trust_server_certificate", ("yes", "no"))):
        value = address.options.get(name, allowed[0])
        if value not in allowed:
            hint = f"Write one of: {', '.join(allowed)}."
            raise SettingsError(f"`{name}={value}` means nothing", detail=f"In {address.label}.", hint=hint)
    missing = "host" if not address.host else "database" if not address.path or "/" in address.path else None
    if missing:
        detail = f"In {address.label}."
        raise SettingsError(f"The address names no {missing}", detail=detail, hint=f"Write it as `{FORM}`.")
    return address


class Session(NamedTuple):
    """An open connection; every statement is a transaction of its own unless one is begun."""

    connection: Any
    cursor: Any
    address: Address
    patience: float
    """Seconds to wait for an answer."""
    secret: str | None
    errors: tuple[type[Exception], ...]

    def wait(self, call: Callable[[], T]) -> T:
        """Make a call of the driver; one that takes too long, or Ctrl-C, gives the connection up.

        Raises:
            VehinsError: whatever the driver's error amounts to.
        """
        try:
            # The driver cancels in time by itself. Where the server does not even take that, the driver gives up after
            # two minutes, and while it fetches it lets no other thread run: nothing here could be quicker.
            return patiently(call, self.patience, self._cancel, cancel_when_slow=False)
        except TooSlow:
            _abandon(self.connection)
            raise _too_slow(self.address.label, self.patience) from None
        except self.errors as error:
            raise _translated(error, self.address, self.secret, self.patience) from None

    def _cancel(self) -> None:
        # The one function of ODBC that another thread may call meanwhile; the driver keeps it to itself.
        self.cursor.hstmt._cancel()

    def with_patience(self, seconds: float) -> Session:
        """The same connection, with another limit for each statement from now on."""
        self.connection.timeout = max(1, round(seconds))
        return self._replace(cursor=self.connection.cursor(), patience=seconds + _MARGIN)

    def execute(self, statement: str, *values: Any) -> None:
        """Run a statement."""
        self.wait(lambda: self.cursor.execute(statement, *values))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query with a small result."""

        def call() -> list[tuple[Any, ...]]:
            self.cursor.execute(statement)
            return [tuple(row) for row in self.cursor.fetchall()]

        return self.wait(call)

    def columns(self) -> list[str]:
        """Names of the columns of the result that was asked for last."""
        return [entry[0] for entry in self.cursor.description or []]


_abandoned: list[Any] = []


def _abandon(connection: Any) -> None:
    """Leave a connection alone whose call never came back: to close it would hang as well, also when Python ends."""
    _abandoned.append(connection)
    connection._closed = True  # what the driver closes at the end of the program is what does not say so


@contextmanager
def session(address: Address, login: Login, remote: RemoteSettings, s3: S3Settings) -> Iterator[Session]:
    """Connect, and close at the end of the block; the driver itself tries a broken connection again.

    Raises:
        ConfigurationError: the driver is not installed, or a library that it needs.
        CredentialsError: the login is wrong, or may not see the database.
        UnreachableError: nobody answers, or not over TLS as the address wants it.
    """
    driver = load()
    user, password = login.resolve(address, remote, s3)
    errors = (driver.Error, RuntimeError, OSError, ValueError)
    text, limit = _connection_text(address, user, password), max(1, round(remote.connect_timeout))
    try:
        connection = patiently(
            lambda: driver.connect(text, autocommit=True, timeout=limit), remote.connect_timeout + _MARGIN, lambda: None
        )
    except TooSlow:
        raise _too_slow(address.label, remote.connect_timeout) from None
    except driver.ConnectionStringParseError:
        raise SettingsError(
            f"{address.label} cannot be an address",
            detail="The driver does not take it.",
            hint=f"Write it as `{FORM}`.",
        ) from None
    except errors as error:
        raise _translated(error, address, password, remote.connect_timeout) from None
    try:
        opened = Session(connection, connection.cursor(), address, 0, password, errors)
        yield opened.with_patience(remote.read_timeout)
    finally:
        if connection not in _abandoned:
            with suppress(Exception):
                connection.close()


def load() -> Any:
    """The driver, without its pool: a connection that is closed is closed.

    Raises:
        ConfigurationError: it is not installed, or its native part cannot be loaded.
    """
    drivers.load_driver("pyarrow", "sqlserver")
    driver = drivers.load_driver("mssql_python", "sqlserver")
    driver.pooling(enabled=False)
    return driver


def _connection_text(address: Address, user: str | None, password: str | None) -> str:
    """The driver's own form of an address; values stand in braces, so that none of them can end early."""
    parts = {
        "Server": f"{address.host},{address.port(PORT)}",
        "Database": address.path,
        "Encrypt": address.options.get("encrypt", "yes"),
        "TrustServerCertificate": address.options.get("trust_server_certificate", "no"),
        "ConnectRetryCount": "0",  # a session that is lost has lost its transaction
    }
    if user is None:
        parts["Trusted_Connection"] = "yes"
    else:
        parts |= {"UID": user, "PWD": password or ""}
    return ";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in parts.items())


def _said(error: Exception, secret: str | None) -> str:
    """What the server or the driver said, without the driver's labels."""
    text = str(error).rpartition("DDBC Error: ")[2] or str(error)
    said = re.sub(r"^(\[[^\]]*\])+", "", text.strip()).partition("\n")[0].rstrip(".")
    return str(masked(said.replace(secret, "***") if secret else said)) + "."


def _too_slow(label: str, seconds: float) -> UnreachableError:
    return UnreachableError(
        f"{label} does not answer in time",
        detail=f"Nothing came for {seconds:g} s.",
        hint="Try again when it is less busy, or wait longer (`--set remote.read_timeout=SECONDS`).",
    )


def _translated(error: Exception, address: Address, secret: str | None, seconds: float) -> VehinsError:
    """What an error amounts to. The driver hands no numbers over, so the server's English words decide."""
    label, said, text = address.label, _said(error, secret), str(error)
    if re.search(r"timeout expired|time-out|timed out|lock request time", text, re.IGNORECASE):
        return _too_slow(label, seconds)
    for words, kind, headline, hint in _MEANINGS:
        if re.search(words, text, re.IGNORECASE):
            return kind(headline.format(label), detail=said, hint=hint)
    return SourceFormatError(f"{label} cannot do that", detail=said, hint="Mend the rows, the table or `--query`.")


_MEANINGS: list[tuple[str, type[VehinsError], str, str]] = [
    (
        r"Login failed for user|Cannot open database|authorization",
        CredentialsError,
        "{} does not accept the login",
        "Set VEHINS_CREDENTIALS_SOURCE_USER and _PASSWORD (for `--to`: _TARGET_), or check the database's name.",
    ),
    (
        r"permission was denied|permission denied",
        CredentialsError,
        "The login lacks a right in {}",
        "Let an administrator give it: `GRANT SELECT ON ... TO ...` (for `--to`: INSERT, UPDATE, DELETE).",
    ),
    (
        r"\bSSL|certificate|encryption not supported|\bTLS",
        UnreachableError,
        "{} and this machine do not agree on TLS",
        "Choose what fits the server: `encrypt=no`, `strict`, or `trust_server_certificate=yes` in the address.",
    ),
    (
        r"Invalid object name",
        NotFoundError,
        "There is no such table in {}",
        f"Check its name: `{FORM}`.",
    ),
    (
        r"Invalid column name|Incorrect syntax|Syntax error",
        SettingsError,
        "{} does not understand the query",
        "Mend `--query`.",
    ),
    (
        r"unable to establish|server was not found|Error code 0x274[9D]",
        UnreachableError,
        "{} cannot be reached",
        "Check host and port, that the server runs, and that firewalls let this machine reach it.",
    ),
    (
        r"communication link|TCP Provider|network|connection|not open|closed|broken|shutdown",
        UnreachableError,
        "The connection to {} broke off",
        "Run the command again when the server is back; nothing that is incomplete was kept.",
    ),
]


def tables(session: Session) -> list[sql.Table]:
    """The tables and views that the login sees."""
    found = session.rows("SELECT TOP 10000 TABLE_SCHEMA, TABLE_NAME FROM INFORMATION_SCHEMA.TABLES ORDER BY 1, 2")
    return [sql.Table(*row) for row in found]


def columns_of(session: Session, table: sql.Table) -> Sequence[Any]:
    """Name and Python type of each column of a table.

    Raises:
        NotFoundError: there is no such table.
    """
    try:
        session.execute(sql.select(table.quoted("["), ["TOP 0 *"]))
    except NotFoundError:
        raise sql.no_such_table(table, session.address.label, tables(session)) from None
    return [entry[:2] for entry in session.cursor.description]


def table_of(address: Address) -> sql.Table:
    """The table that an address names; its schema is `dbo` where it names none."""
    table = sql.table_of(address, FORM)
    return table if table.schema else sql.Table("dbo", table.name)
