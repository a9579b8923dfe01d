"""Checks of the way to the documents: what `vehins doctor` shows of a source."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vehins.data.sources import ReadOptions
from vehins.data.sources.mongodb import query
from vehins.data.sources.mongodb.source import MongoSource
from vehins.errors import CredentialsError, VehinsError
from vehins.remote import mongodb, probes, sql
from vehins.remote.probes import Check

if TYPE_CHECKING:
    from vehins.data.schema import TableSchema
    from vehins.remote.address import Address

CHECKS = ("address", "DNS", "port", "TLS", "login", "permission to read", "rows seen", "clock skew")
_SEEN = 100


def probe(url: str, options: ReadOptions) -> Iterator[Check]:
    """Check the way to the documents, step by step; see `CHECKS`."""
    try:
        address = mongodb.parse(url)
        chosen = query.chosen(options.query)
        hosts = mongodb.hosts(address, options.remote)
        with mongodb.connected(url, options.login, options.remote, options.s3):
            pass  # it has not connected yet, but takes the options of the address
        yield Check("address", "ok", address.label)
    except VehinsError as error:
        yield probes.failed("DNS" if "SRV" in error.headline else "address", error)
        return
    for check in _network(hosts, options.remote.connect_timeout):
        yield check
        if check.failed:
            return
    due = "TLS"
    try:
        with mongodb.connected(url, options.login, options.remote, options.s3) as collection:
            for check in _inside(collection, chosen, address):
                yield check
                due = CHECKS[CHECKS.index(check.name) + 1] if check.name != CHECKS[-1] else due
    except VehinsError as error:
        yield probes.failed("login" if due == "TLS" and isinstance(error, CredentialsError) else due, error)


def _network(hosts: list[tuple[str, int]], timeout: float) -> Iterator[Check]:
    """Check names and ports: one server that can be reached will do, and those that cannot are named."""
    found = [list(probes.network(host, port, timeout)) for host, port in hosts]
    whole = next((checks for checks in found if not checks[-1].failed), None)
    if whole is None:  # of several that fail, the one that comes furthest says most
        yield from max(found, key=len)
        return
    lost = [f"{host}:{port}" for (host, port), checks in zip(hosts, found, strict=True) if checks[-1].failed]
    yield whole[0]
    advice = f"Out of reach: {', '.join(lost)}." if lost else ""
    yield Check("port", "ok", f"{len(hosts) - len(lost)} of {len(hosts)} open" if lost else whole[1].found, advice)


def _inside(collection: Any, chosen: dict[str, Any], address: Address) -> Iterator[Check]:
    """What can be checked once a server answers."""
    database = collection.database
    before = time.time()
    there = database.command("hello")["localTime"].replace(tzinfo=dt.UTC).timestamp()
    after = time.time()
    if mongodb.speaks_tls(address):
        yield Check("TLS", "ok", "spoken")
    else:
        yield Check("TLS", "ok", "none", "Ask for it beyond your own network: `tls=true`.")
    users = database.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    yield Check("login", "ok", ", ".join(f"{one['user']} of {one['db']}" for one in users) or "none is needed")
    kind = mongodb.check_exists(collection)
    some = collection.find_one(chosen, {"_id": 1})
    yield Check("permission to read", "ok", f"{kind or 'collection'} {collection.name}")
    if some is None:
        yield Check("rows seen", "ok", "none", "Fill the collection, name another, or mend `--query`.")
    else:
        counted = "some" if chosen else f"about {collection.estimated_document_count():,}"
        yield Check("rows seen", "ok", counted)
    yield sql.clock(there, before, after)


def columns(url: str, options: ReadOptions, schema: TableSchema) -> list[str]:
    """The columns of the schema that some document has; behind them, what else the first documents have."""
    source = MongoSource(url, mongodb.parse(url), query.chosen(options.query), options)
    with mongodb.connected(url, options.login, options.remote, options.s3) as collection:
        found = source.columns(collection, schema)
        seen = collection.find(query.chosen(options.query)).limit(_SEEN)
        others = {name: None for document in seen for name in document}
        return [*found, *(name for name in others if name not in found)]
