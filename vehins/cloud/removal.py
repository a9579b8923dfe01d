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


def models(account: Account, bucket: str) -> int:
    """How many versions of models a bucket has, by their manifests."""
    with account.asked("S3", f"s3://{bucket}/registry/"):
        pages = account.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="registry/models/")
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
