"""MongoDB: a document per row, whose ``_id`` is the value of the row's key.

``_id`` is unique by nature: an upsert finds its document without an index to build first, and two loads at once cannot
make two documents of one customer. The key stays a field of its own as well, so that ingest reads it back by its name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from vehins.data.sinks import WriteOptions
from vehins.data.sinks._columns import sql_types, typed
from vehins.errors import ConflictError, CredentialsError, SettingsError, UnreachableError, VehinsError
from vehins.remote import address as addresses

if TYPE_CHECKING:
    import polars as pl

SUMMARY = "`mongodb://HOST/DATABASE?collection=NAME`, `mongodb+srv://...` (MongoDB)"
_FORM = "mongodb://HOST/DATABASE?collection=NAME"
_SCHEMES = ("mongodb", "mongodb+srv")
_SENT_ROWS = 5_000
_LOGIN_CODES, _RIGHTS_CODES = {18, 8000}, {13}


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return addresses.has_scheme(url, *_SCHEMES)


def open_sink(url: str, options: WriteOptions) -> MongoSink:
    """Take the address apart; nobody is asked yet.

    Raises:
        SettingsError: it names no database or no collection.
    """
    address = addresses.parse(url, _FORM)
    name = address.options.get("collection", "")
    if not address.path or not name or "$" in name or name.startswith("system."):
        detail = f"In {address.label}."
        raise SettingsError("The address names no collection to write", detail=detail, hint=f"Write it as `{_FORM}`.")
    return MongoSink(address, name, options)


class MongoSink:
    """A collection, which is made when there is none."""

    def __init__(self, address: addresses.Address, name: str, options: WriteOptions) -> None:
        self._address, self._name, self._options = address, name, options
        self.label = address.label

    def write(self, batches: Iterable[pl.DataFrame], key: str, *, replace: bool, on_rows: Callable[[int], None]) -> int:
        """Upsert the rows by ``_id``; with ``replace``, fill another collection and rename it over the old one.

        Raises:
            SettingsError: a column cannot be a field, or the documents there have an ``_id`` of another kind.
            CredentialsError: the login is wrong or may not write.
            UnreachableError: the server does not answer.
        """
        with _translated(self.label):
            client = _client(self._address, self._options)
            with client:
                database = client[self._address.path]
                if replace:
                    return self._replace(database, batches, key, on_rows)
                _check_ids(database[self._name], self.label)
                return self._upsert(database[self._name], batches, key, on_rows)

    def _upsert(
        self, collection: Any, batches: Iterable[pl.DataFrame], key: str, on_rows: Callable[[int], None]
    ) -> int:
        from pymongo import UpdateOne

        rows = 0
        for some in self._rows(batches, key):
            # Only the fields of the rows are set; what else a document holds stays.
            collection.bulk_write(
                [UpdateOne({"_id": row["_id"]}, {"$set": row}, upsert=True) for row in some], ordered=False
            )
            rows += len(some)
            on_rows(rows)
        if rows == 0:
            on_rows(0)
        return rows

    def _replace(self, database: Any, batches: Iterable[pl.DataFrame], key: str, on_rows: Callable[[int], None]) -> int:
        fresh = database.create_collection(f"{self._name}.vehins-{secrets.token_hex(6)}")
        rows = 0
        try:
            for some in self._rows(batches, key):
                fresh.insert_many([_nested(row) for row in some], ordered=False)
                rows += len(some)
                on_rows(rows)
            _copy_indexes(database[self._name], fresh)
            fresh.rename(self._name, dropTarget=True)
        except BaseException:
            with suppress(Exception):
                fresh.drop()
            raise
        if rows == 0:
            on_rows(0)
        return rows

    def _rows(self, batches: Iterable[pl.DataFrame], key: str) -> Iterator[list[dict[str, Any]]]:
        """The rows as flat documents, some thousand at a time; a dot in a name is a way into a document."""
        types = None
        for batch in batches:
            if types is None:
                types = sql_types(batch)
                paths = _fields(batch.columns, self._options.paths, key)
            named = typed(batch, types).rename(paths)
            ids = named[paths[key]]
            whole = named.with_columns(ids.alias("_id")) if paths[key] != "_id" else named
            for some in whole.iter_slices(_SENT_ROWS):
                yield some.to_dicts()


def _fields(columns: list[str], paths: Mapping[str, str], key: str) -> dict[str, str]:
    """Column -> field."""
    fields = {name: paths.get(name, name) for name in columns}
    names = list(fields.values())
    for name, field in fields.items():
        inside = any(other.startswith(field + ".") for other in names)
        empty = not all(field.split("."))
        if field.startswith("$") or empty or inside or names.count(field) > 1 or (field == "_id" and name != key):
            raise SettingsError(
                f"The column `{name}` cannot be the field `{field}` of a document",
                detail="A field has no `$` in front and no empty part, holds a value or fields, and `_id` is the key.",
                hint="Rename the column, or mend its `path` in the schema.",
            )
    return fields


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A flat document as one with documents in it."""
    document: dict[str, Any] = {}
    for field, value in row.items():
        place = document
        *above, last = field.split(".")
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return document


def _check_ids(collection: Any, label: str) -> None:
    """Refuse a collection whose documents were made by others: theirs would stand beside ours, customer by customer."""
    if collection.find_one({"_id": {"$type": "objectId"}}, {"_id": 1}) is not None:
        raise SettingsError(
            f"The documents of {label} have an `_id` of another kind",
            detail="vehins writes documents whose `_id` is the key; those there have an ObjectId.",
            hint="Name a new collection, or let the rows take the place of that one: `--replace`.",
        )


def _copy_indexes(old: Any, new: Any) -> None:
    """Give a collection the indexes of the one whose place it takes."""
    from pymongo import IndexModel

    models = []
    for found in old.list_indexes():
        more = {name: value for name, value in found.items() if name not in {"v", "ns", "key"}}
        if found["name"] != "_id_":
            models.append(IndexModel(list(found["key"].items()), **more))
    if models:
        new.create_indexes(models)


def _client(address: addresses.Address, options: WriteOptions) -> Any:
    from pymongo import MongoClient

    user, password = options.login.resolve(address, options.remote, options.s3)
    login: dict[str, Any] = {"username": user, "password": password} if user else {}
    given = {name: value for name, value in address.options.items() if name != "collection"}
    patience: dict[str, Any] = {
        "connectTimeoutMS": options.remote.connect_timeout * 1000,
        "serverSelectionTimeoutMS": options.remote.connect_timeout * 1000,
        "socketTimeoutMS": options.remote.read_timeout * 1000,
    }
    said = {name.lower() for name in given}
    more = {name: value for name, value in patience.items() if name.lower() not in said}
    url = f"{address.scheme}://{address.hosts}/{address.path}" + (f"?{urlencode(given)}" if given else "")
    return MongoClient(url, appname="vehins", **login, **more)


@contextmanager
def _translated(label: str) -> Iterator[None]:
    """Turn an error of the driver into one of ours."""
    from pymongo import errors

    try:
        yield
    except (errors.ConfigurationError, errors.InvalidURI, errors.InvalidName) as error:
        raise SettingsError(
            f"{label} is no address of MongoDB", detail=f"{error}.", hint=f"Write it as `{_FORM}`."
        ) from None
    except errors.OperationFailure as error:
        raise _refused(error, label) from None
    except errors.PyMongoError as error:
        hint = "Check host, port and network: `vehins doctor --to URL`; running the command again completes it."
        said = str(error).partition(", Topology Description")[0]
        raise UnreachableError(f"{label} does not answer", detail=f"{said}.", hint=hint) from None


def _refused(error: Any, label: str) -> VehinsError:
    details = error.details or {}
    first: dict[str, Any] = next(iter(details.get("writeErrors") or details.get("writeConcernErrors") or []), {})
    code = first.get("code", error.code)
    detail = f"{first.get('errmsg') or details.get('errmsg') or 'The server gave no reason'} (code {code})."
    if code in _LOGIN_CODES:
        hint = "Check user and password (`credentials.target_user`, `credentials.target_password`) and `authSource`."
        return CredentialsError(f"{label} does not accept the login", detail=detail, hint=hint)
    if code in _RIGHTS_CODES:
        hint = "Give the user the role `readWrite` on that database."
        return CredentialsError(f"{label} does not permit it", detail=detail, hint=hint)
    if code == 11000:
        hint = "Drop that unique index, or use another collection."
        return ConflictError(f"A unique index of {label} refuses a row", detail=detail, hint=hint)
    return UnreachableError(f"{label} failed", detail=detail, hint="Try again; if it stays so, ask who keeps it.")
