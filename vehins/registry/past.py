"""What a bucket that keeps old versions still has of a registry, and the way back to it.

vehins changes nothing but aliases: an object of a version or of the history that differs from the first that was
written under its key, or is gone, was changed by somebody else. An alias is where its last write has put it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from vehins.remote import aws

if TYPE_CHECKING:
    from vehins.registry.s3 import S3Store


@dataclass(frozen=True)
class Lost:
    """An object that is not what it was, and the version in the bucket that is."""

    key: str
    how: Literal["deleted", "overwritten"]
    version: str
    written_at: datetime


def find(store: S3Store) -> list[Lost]:
    """What has been deleted or overwritten below the registry's prefix; nothing in a bucket without versioning.

    Raises:
        CredentialsError: the login may not list versions (``s3:ListBucketVersions``).
        UnreachableError: the bucket does not answer.
    """
    with aws.translated("S3", f"old versions in {store.url}"):
        return [lost for key, entries in _by_key(store) if (lost := _lost(key, entries)) is not None]


def bring_back(store: S3Store, lost: Iterable[Lost]) -> None:
    """Make the old version of each object its newest. See `find` for errors; it takes ``s3:GetObjectVersion`` too."""
    for one in lost:
        place = store.place(one.key)
        with aws.translated("S3", f"{store.url}/{one.key}"):
            store.client.copy_object(**place, CopySource={**place, "VersionId": one.version})


def _by_key(store: S3Store) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """All versions and deletions of each object, the newest first."""
    root = store.place("")["Key"]
    pages = store.client.get_paginator("list_object_versions").paginate(Bucket=store.bucket, Prefix=f"{root}models/")
    entries = [entry for page in pages for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]]
    entries.sort(key=lambda entry: (entry["LastModified"], entry["IsLatest"]), reverse=True)
    entries.sort(key=lambda entry: str(entry["Key"]))
    for key, found in groupby(entries, key=lambda entry: str(entry["Key"])):
        yield key.removeprefix(root), list(found)


def _lost(key: str, entries: list[dict[str, Any]]) -> Lost | None:
    written = [entry for entry in entries if "ETag" in entry]  # a deletion has none
    if not written:
        return None
    is_alias = "/aliases/" in key
    right, now = written[0 if is_alias else -1], next(entry for entry in entries if entry["IsLatest"])
    if now.get("ETag") == right["ETag"]:
        return None
    how: Literal["deleted", "overwritten"] = "overwritten" if "ETag" in now else "deleted"
    return Lost(key, how, right["VersionId"], right["LastModified"])
