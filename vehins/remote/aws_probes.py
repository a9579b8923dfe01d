"""Checks of the way to a service of AWS, or to what stands in for it; see `probes`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from vehins.errors import CredentialsError, VehinsError
from vehins.remote import probes, sql
from vehins.remote.probes import Check

if TYPE_CHECKING:
    from vehins.settings import RemoteSettings


def way(client: Any, remote: RemoteSettings) -> Iterator[Check]:
    """Check name, port and certificate of the service behind a client."""
    endpoint = urlsplit(client.meta.endpoint_url)
    secure, host = endpoint.scheme == "https", unquote(endpoint.hostname or "")
    port, patience = endpoint.port or (443 if secure else 80), remote.connect_timeout
    yield from probes.network(host, port, patience)
    if secure:
        yield probes.tls(host, port, patience, os.environ.get("AWS_CA_BUNDLE"))
    else:
        yield Check("TLS", "ok", "none", "Only for a network of your own.")


def login_or(error: VehinsError, name: str) -> Iterator[Check]:
    """The failed check of an error: that of the login where nobody is logged in, else the one named."""
    if isinstance(error, CredentialsError) and "does not permit" not in error.headline:
        yield probes.failed("login", error)
    else:
        yield Check("login", "ok", "accepted")
        yield probes.failed(name, error)


def clock(answer: dict[str, Any], before: float) -> Check:
    """Compare the clock of the service with ours, by the date of an answer; it has whole seconds."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        return Check("clock skew", "skipped", "the store does not tell the time")
    return sql.clock(parsedate_to_datetime(date).timestamp() + 0.5, before - 0.5, time.time() + 0.5)
