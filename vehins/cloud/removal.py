"""The end of a stack; its models outlive it unless that is said twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from vehins.cloud import secret_parameters
from vehins.cloud import stack as stacks

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.stack import Event, Stack

_PAGE = 1000  # objects that one request can delete


def holding(account: Account, stack: Stack) -> tuple[str | None, int]:
    """The bucket of a stack, None where there is none any more, and how many versions of models it has."""
    bucket = stack.outputs.get("BucketName")
    if bucket is None:
        return None, 0
    client = account.client("s3")
    with account.asked("S3", f"s3://{bucket}/registry/"):
        try:
            return bucket, _models(client, bucket)
        except client.exceptions.NoSuchBucket:  # somebody has deleted it: that keeps no stack from going
            return None, 0


def _models(client: Any, bucket: str) -> int:
    """How many versions of models there are, by their manifests."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="registry/models/")
    keys = (one["Key"].split("/") for page in pages for one in page.get("Contents", []))
    return sum("versions" in parts and parts[-1] == "manifest.json" for parts in keys)


def remove(account: Account, stack: Stack, on_event: Callable[[Event], None]) -> None:
    """Delete the stack and its secrets; its bucket stays. See `stack.follow` for how it may fail."""
    after = stacks.last_event(account, stack.id)
    with account.asked("CloudFormation", f"the end of {account.stack}"):
        account.client("cloudformation").delete_stack(StackName=stack.id)
    stacks.follow(account, stack.id, after, on_event)
    secret_parameters.remove_all(account)


def delete_bucket(account: Account, bucket: str) -> int:
    """Delete a bucket with every version of every object; return how many those were."""
    client, count = account.client("s3"), 0
    with account.asked("S3", f"s3://{bucket}"):
        found = _versions(client, bucket)
        while some := list(islice(found, _PAGE)):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
            count += len(some) - len(answer.get("Errors", []))
        client.delete_bucket(Bucket=bucket)
    return count


def _versions(client: Any, bucket: str) -> Iterator[dict[str, str]]:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            yield {"Key": one["Key"], "VersionId": one["VersionId"]}
