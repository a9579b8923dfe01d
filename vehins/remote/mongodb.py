"""Clients of MongoDB for an address, and its errors in plain words."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from vehins.errors import CredentialsError, NotFoundError, SettingsError, UnreachableError, VehinsError
from vehins.remote import address as addresses
from vehins.remote.address import Address

if TYPE_CHECKING:
    from vehins.remote.logins import Login
    from vehins.settings import RemoteSettings, S3Settings

FORM = "mongodb://USER@HOST/DATABASE?collection=NAME"
PORT = 27017
_COLLECTION = "collection"
_LOGIN_FAILED, _FORBIDDEN, _NO_SUCH_NAMESPACE = {18, 8000}, {13}, {26}
_BAD_QUERY = {2, 9, 14}  # BadValue, FailedToParse, TypeMismatch
_TLS_WORDS = ("ssl", "tls", "certificate")
# What a server says when its cursor, its role or its time has come to an end, and another try may find it well.
_PASSING = {6, 7, 43, 89, 91, 133, 134, 175, 189, 237, 262, 9001, 10107, 11600, 11602, 13435, 13436}
COLLECTION = "collection"
"""What `check_exists` calls a collection that is no view."""


def matches(url: str) -> bool:
    """Whether the address is one of MongoDB."""
    return addresses.has_scheme(url, "mongodb", "mongodb+srv")


def parse(url: str) -> Address:
    """Take an address of MongoDB apart; options other than ``collection`` are pymongo's.

    Raises:
        SettingsError: it names no host, database or collection.
    """
    address = addresses.parse(url, FORM)
    lacks = {
        "host": not address.hosts,
        "database": not address.path,
        "collection": not address.options.get(_COLLECTION),
    }
    for what, missing in lacks.items():
        if missing:
            detail = f"In {address.label}."
            raise SettingsError(f"The address names no {what}", detail=detail, hint=f"Write it as `{FORM}`.")
    return address


def hosts(address: Address, remote: RemoteSettings) -> list[tuple[str, int]]:
    """Host and port of each server of an address; for `mongodb+srv` those that DNS names.

    Raises:
        UnreachableError: DNS has no SRV record, or does not answer.
        SettingsError: a port is none.
    """
    if not address.scheme.endswith("+srv"):
        each = [replace(address, hosts=one) for one in address.hosts.split(",")]
        return [(one.host, one.port(PORT)) for one in each]
    import dns.exception
    import dns.resolver

    name = f"_{address.options.get('srvServiceName', 'mongodb')}._tcp.{address.host}"
    try:
        found = dns.resolver.resolve(name, "SRV", lifetime=remote.connect_timeout)
    except dns.exception.DNSException as error:
        said = " ".join(str(error).split())
        hint = f"Check the spelling of {address.host}, or name the servers themselves: `mongodb://`."
        raise UnreachableError(f"DNS has no SRV record {name}", detail=said, hint=hint) from None
    return [(str(one.target).rstrip("."), int(one.port)) for one in found]


@contextmanager
def connected(url: str, login: Login, remote: RemoteSettings, s3: S3Settings) -> Iterator[Any]:
    """The pymongo Collection of an address; its client is closed, and errors are translated, at the end of the block.

    The collection need not exist. pymongo connects with the first command only.

    Raises:
        VehinsError: whatever the driver's error amounts to.
    """

    address = parse(url)
    hosts(address, remote)  # the driver would call a name that DNS does not know a wrong address
    user, password = login.resolve(address, remote, s3)
    with translated(address), _client(url, address, user, password, remote) as client:
        yield client[address.path][address.options[_COLLECTION]]


def _client(url: str, address: Address, user: str | None, password: str | None, remote: RemoteSettings) -> Any:
    import pymongo

    options: dict[str, Any] = dict(_times(address, remote))
    if user:
        options |= {"username": user, "password": password}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it would only warn of an option that it does not know
            return pymongo.MongoClient(_for_pymongo(url), **options)
    except (UserWarning, ValueError, TypeError, OSError) as error:  # the last for a file that it names
        hint = f"Write it as `{FORM}`, with options that pymongo knows."
        raise SettingsError(f"{address.label} cannot be used", detail=f"{error}.", hint=hint) from None


def _for_pymongo(url: str) -> str:
    """The address without the option that is ours."""
    parts = urlsplit(url)
    options = [option for option in parts.query.split("&") if option.partition("=")[0] != _COLLECTION]
    return urlunsplit(parts._replace(query="&".join(options)))


def _times(address: Address, remote: RemoteSettings) -> dict[str, int]:
    """Time-outs in milliseconds; those in the address are left to it."""
    connect, read = int(remote.connect_timeout * 1000), int(remote.read_timeout * 1000)
    times = {"serverSelectionTimeoutMS": connect, "connectTimeoutMS": connect, "socketTimeoutMS": read}
    given = {name.lower() for name in address.options}
    return {name: value for name, value in times.items() if name.lower() not in given}


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Raise the errors of pymongo in the block as those of vehins.

    Raises:
        CredentialsError: the login is wrong or lacks a right.
        SettingsError: the address or the query makes no sense.
        NotFoundError: there is no such database or collection.
        UnreachableError: the server does not answer.
    """
    from bson.errors import BSONError
    from pymongo.errors import PyMongoError

    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise _translated(error, address) from None


def _translated(error: Exception, address: Address) -> VehinsError:
    from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

    said = str(error).partition(", full error")[0].partition(", Timeout: ")[0] + "."
    if isinstance(error, OperationFailure):
        return _failed(error.code or 0, said, address)
    if isinstance(error, ConfigurationError) or not isinstance(error, PyMongoError):
        return SettingsError(f"{address.label} cannot be used", detail=said, hint=f"Write it as `{FORM}`.")
    if any(word in said.lower() for word in _TLS_WORDS):
        hint = f"{_tls_hint(address)}, and the authority that is trusted (`tlsCAFile=FILE`)."
        return UnreachableError(f"TLS with {address.label} fails", detail=said, hint=hint)
    hint = f"Check that the server runs and can be reached. {_tls_hint(address)}. Or wait longer ({_waiting(error)})."
    how = " over TLS" if speaks_tls(address) else ""
    return UnreachableError(f"{address.label} does not answer{how}", detail=said, hint=hint)


def _tls_hint(address: Address) -> str:
    """A server that is spoken to in the wrong way may just hang up, or wait for more: only a time-out is seen then."""
    if speaks_tls(address):
        return "TLS is asked for: check that the server speaks it, or put `tls=false` into the address"
    return "If it speaks TLS, put `tls=true` into the address"


def speaks_tls(address: Address) -> bool:
    """Whether an address asks for TLS: by an option (`ssl` is its old name), or because it is a `mongodb+srv` one."""
    options = {name.lower(): value.lower() for name, value in address.options.items()}
    asked = options.get("tls", options.get("ssl"))
    implied = address.scheme.endswith("+srv") or any(name.startswith("tls") for name in options)
    return asked == "true" if asked is not None else implied


def _waiting(error: Exception) -> str:
    from pymongo.errors import NetworkTimeout

    slow = isinstance(error, NetworkTimeout)
    return f"`--set remote.{'read' if slow else 'connect'}_timeout=SECONDS`"


def passes(error: Exception) -> bool:
    """Whether a read that ended with this error of the driver may go well when it is tried again."""
    from pymongo.errors import AutoReconnect, OperationFailure

    if isinstance(error, OperationFailure):
        return error.code in _PASSING
    return isinstance(error, AutoReconnect)


def _failed(code: int, said: str, address: Address) -> VehinsError:
    """What an error that the server answered with amounts to."""
    if code in _LOGIN_FAILED:
        hint = "Check user, password and `authSource` (VEHINS_CREDENTIALS_SOURCE_PASSWORD has the password)."
        return CredentialsError(f"{address.label} refuses the login", detail=said, hint=hint)
    if code in _FORBIDDEN:
        hint = f"Give the user a role on the database {address.path} (`read` for a source, `readWrite` for `--to`)."
        return CredentialsError(f"{address.label} refuses the user", detail=said, hint=hint)
    if code in _NO_SUCH_NAMESPACE:
        return NotFoundError(f"{address.label} is not there", detail=said, hint=f"Write it as `{FORM}`.")
    if code in _BAD_QUERY:
        return SettingsError(f"{address.label} refuses the query", detail=said, hint="Mend it: `--query`.")
    return UnreachableError(f"{address.label} cannot answer", detail=said, hint="Run the command again.")


def check_exists(collection: Any) -> str | None:
    """Raise `NotFoundError` unless the collection exists; near names are listed where the user may see them.

    What is returned is its type: ``collection``, ``view``, ``timeseries``; None where the user may not know.
    """
    from pymongo.errors import OperationFailure

    try:
        found = list(collection.database.list_collections(nameOnly=True, authorizedCollections=True))
    except OperationFailure as error:
        if error.code not in _FORBIDDEN:
            raise
        if collection.find_one({}, {"_id": 1}) is not None:  # may read, but not list
            return None
        found = []
    kinds = {one["name"]: str(one.get("type", COLLECTION)) for one in found}
    if collection.name in kinds:
        return kinds[collection.name]
    near = difflib.get_close_matches(collection.name, kinds, n=3, cutoff=0.5)
    hint = "Did you mean " + " or ".join(f"`{name}`" for name in near) + "?" if near else f"Write it as `{FORM}`."
    detail = f"The database `{collection.database.name}` has {len(kinds):,} others." if kinds else "It has none."
    raise NotFoundError(f"There is no collection `{collection.name}`", detail=detail, hint=hint)
