"""Checks of a registry: the way to it, and what this login may do there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from vehins.errors import ConflictError, CredentialsError, VehinsError
from vehins.registry.s3 import OTHER_ETAG, OWN, S3Store
from vehins.remote import aws, aws_probes, probes
from vehins.remote.probes import Check

if TYPE_CHECKING:
    from vehins.registry.objects import ObjectStore
    from vehins.settings import Settings

_BUCKET, _READ, _WRITE, _CONDITIONS = "bucket", "permission to read", "permission to write", "conditional writes"
_REGISTER, _PROMOTE = "permission to register", "permission to promote"
FOLDER_CHECKS = (_READ, _WRITE)
S3_CHECKS = (
    *("address", "DNS", "port", "TLS", "login", _BUCKET, _READ, "clock skew"),
    *(_WRITE, _CONDITIONS, _REGISTER, _PROMOTE),
)
_RIGHTS = "That is enough to read and to serve; docs/registry.md lists the rights for more."


def folder(store: ObjectStore) -> Iterator[Check]:
    """Check a registry in a folder."""
    yield _readable(store.keys("models/"))
    root = Path(store.url)
    place = next(step for step in (root, *root.parents) if step.exists())
    if os.access(place, os.W_OK | os.X_OK):
        yield Check(_WRITE, "ok", f"{place} can be written")
    else:
        yield Check(
            _WRITE, "skipped", f"{place} may not be written", f"That is enough to serve; to push, mend {place}."
        )


def _readable(keys: list[str]) -> Check:
    manifests = [key for key in keys if "/versions/" in key and key.endswith("/manifest.json")]
    return Check(_READ, "ok", f"{len(manifests):,} versions" if keys else "nothing is registered yet")


def s3(store: S3Store, settings: Settings) -> Iterator[Check]:
    """Check a registry in S3; what is written for it is removed."""
    yield Check("address", "ok", store.url)
    try:
        client = store.client
    except VehinsError as error:
        yield probes.failed("login", error)
        return
    for check in chain(aws_probes.way(client, settings.remote), _reading(store)):
        yield check
        if check.failed:
            return
    yield _clock(store)
    yield from _writing(store, settings)


def _reading(store: S3Store) -> Iterator[Check]:
    """Whether the bucket is there, and can be listed and read."""
    try:
        found = store.keys("models/")
    except CredentialsError as error:
        yield from aws_probes.login_or(error, _READ)
        return
    except VehinsError as error:
        yield Check("login", "ok", "accepted")
        yield probes.failed(_BUCKET, error)
        return
    yield Check("login", "ok", "accepted")
    yield Check(_BUCKET, "ok", f"{store.bucket} is there")
    record = next((key for key in found if key.endswith(".json")), None)
    try:
        if record:
            store.get(record)
        yield _readable(found)
    except VehinsError as error:
        yield probes.failed(_READ, error)


def _clock(store: S3Store) -> Check:
    where, before = store.place("models/"), time.time()
    with aws.translated("S3", store.url):
        answer = store.client.list_objects_v2(Bucket=where["Bucket"], Prefix=where["Key"], MaxKeys=1)
    return aws_probes.clock(answer, before)


def _writing(store: S3Store, settings: Settings) -> Iterator[Check]:
    """Whether this login may write, whether the store keeps conditions, and what the login may write."""
    key = f"{OWN}doctor-{uuid4().hex}"
    try:
        etag = store.put(key, b"Written and removed by `vehins doctor`.\n")
    except CredentialsError as error:
        yield Check(_WRITE, "skipped", f"the login may not. {error.detail}", _RIGHTS)
        return
    except VehinsError as error:
        yield probes.failed(_WRITE, error)
        return
    try:
        conditions = _conditions(store, key, etag)
    finally:
        left = _removed(store, key)
    yield Check(_WRITE, "ok", "objects can be put", left)
    yield conditions
    if conditions.failed:
        return
    model = f"models/{settings.model_name}"
    moves = (f"{model}/aliases/{settings.alias}.json", f"{model}/history/{settings.alias}/00000001.json")
    yield _permitted(_REGISTER, "register versions", store, f"{model}/versions/1/claim.json")
    yield _permitted(_PROMOTE, f"move {settings.alias}", store, *moves)


def _conditions(store: S3Store, key: str, etag: str) -> Check:
    """Try writes whose condition holds, and some whose does not."""
    try:
        store.check_conditions(key)
        etag = store.put(key, b"once more\n")
        store.put(key, b"and again\n", if_match=etag)
        _is_refused(store, key, etag)
    except VehinsError as error:
        return probes.failed(_CONDITIONS, error)
    return Check(_CONDITIONS, "ok", "If-None-Match and If-Match are kept")


def _permitted(name: str, what: str, store: S3Store, *keys: str) -> Check:
    """Whether objects may be written: asked for on a condition that never holds, so that nothing is written."""
    try:
        for key in keys:
            _is_refused(store, key, OTHER_ETAG)
    except CredentialsError as error:
        return Check(name, "skipped", f"the login may not {what}. {error.detail}", _RIGHTS)
    except VehinsError as error:
        return probes.failed(name, error)
    return Check(name, "ok", f"the login may {what}")


def _is_refused(store: S3Store, key: str, etag: str) -> None:
    """Raise `ConfigurationError` when a write succeeds although the object's etag is another."""
    try:
        store.put(key, b"too late\n", if_match=etag)
    except ConflictError:
        return
    raise store.careless("If-Match")


def _removed(store: S3Store, key: str) -> str:
    """Remove an object; a piece of advice when that cannot be."""
    try:
        store.delete(key)
    except VehinsError as error:
        return f"{store.url}/{key} stays ({error.headline}); it does no harm."
    return ""
