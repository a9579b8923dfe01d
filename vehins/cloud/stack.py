"""The stack as it is: its state, its outputs, the events while it changes, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vehins.errors import ConflictError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from vehins.cloud.account import Account

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between two looks
_DEAD = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}
HAS_PROVIDER = (
    "The account has one: `--set cloud.oidc_provider=ARN`; `aws iam list-open-id-connect-providers` names it."
)
_STUCK = {"UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED"}


@dataclass(frozen=True)
class Stack:
    """A stack that CloudFormation knows."""

    id: str
    status: str
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing but a proposal has been made of it."""
        return self.status == "REVIEW_IN_PROGRESS"

    @property
    def has_box(self) -> bool:
        """Whether it has a machine."""
        return self.parameters.get("Box") == "yes"

    def output(self, name: str) -> str:
        """An output.

        Raises:
            NotFoundError: the stack has none of that name.
        """
        if name not in self.outputs:
            raise NotFoundError(
                f"The stack has no {name}",
                detail=f"It is {self.status}, and has: {', '.join(sorted(self.outputs)) or 'no outputs'}.",
                hint="Bring it up to date: `vehins cloud up`.",
            )
        return self.outputs[name]


@dataclass(frozen=True)
class Event:
    """A step in the change of a stack."""

    at: str
    resource: str
    kind: str
    status: str
    reason: str

    @property
    def is_failure(self) -> bool:
        """Whether it is a cause and no consequence: what is only cancelled has not failed by itself."""
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()


def find(account: Account, name: str | None = None) -> Stack | None:
    """The stack; None when there is none. ``name`` may be the id of one that has been deleted."""
    from botocore.exceptions import ClientError

    with account.asked("CloudFormation", f"the stack {account.stack}"):
        try:
            found = account.client("cloudformation").describe_stacks(StackName=name or account.stack)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
    if found["StackStatus"] == "DELETE_COMPLETE" and not name:
        return None
    return Stack(
        id=found["StackId"],
        status=found["StackStatus"],
        outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])},
        parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])},
        reason=found.get("StackStatusReason", ""),
    )


def existing(account: Account) -> Stack:
    """The stack.

    Raises:
        NotFoundError: there is none.
    """
    found = find(account)
    if found is None or found.is_empty:
        raise NotFoundError(
            f"There is no stack {account.stack}",
            detail=f"In {account.client('cloudformation').meta.region_name}.",
            hint="Make it: `vehins cloud up`; or name another: `--set cloud.stack=NAME`, `--set cloud.region=REGION`.",
        )
    return found


def check_can_change(account: Account, stack: Stack | None) -> None:
    """Raise `ConflictError` for a stack in whose state nothing can be changed."""
    if stack is None or stack.is_empty:
        return
    detail = f"{account.stack} is {stack.status}" + (f": {stack.reason.rstrip('.')}." if stack.reason else ".")
    if stack.status in _DEAD:
        hint = (
            f"Remove what is left of it, `vehins cloud down{_named(account)}`, then `vehins cloud up{_named(account)}`."
        )
        raise ConflictError("The stack was not made, and can only be removed", detail=detail, hint=hint)
    if stack.status in _STUCK:
        hint = f"`aws cloudformation continue-update-rollback --stack-name {account.stack}`, then try again."
        raise ConflictError("The stack is stuck on its way back", detail=detail, hint=hint)
    if stack.status.endswith("_IN_PROGRESS"):
        hint = "Wait for it: `vehins cloud status` shows when it has ended."
        raise ConflictError("The stack is being changed already", detail=detail, hint=hint)


def _named(account: Account) -> str:
    return "" if account.stack == "vehins" else f" --set cloud.stack={account.stack}"


def last_event(account: Account, stack_id: str) -> str:
    """Id of the newest event; what comes after it is new."""
    with account.asked("CloudFormation", "the events of the stack"):
        page = account.client("cloudformation").describe_stack_events(StackName=stack_id)
    return str(page["StackEvents"][0]["EventId"]) if page["StackEvents"] else ""


def follow(account: Account, stack_id: str, after: str, on_event: Callable[[Event], None]) -> Stack:
    """Tell of every event after the one with the id ``after`` until the stack has come to rest.

    Raises:
        UnreachableError: it has failed (what, and why, is named), or has not come to rest in `cloud.timeout` seconds.
    """
    deadline = time.monotonic() + account.cloud.timeout
    failures: list[Event] = []
    pause, has_begun = _FIRST_PAUSE, False  # for a moment, the stack still is as it was before
    while True:
        stack = find(account, stack_id)  # before the events, so that the last of them are not missed
        fresh = _events(account, stack_id, after)
        for event_id, event in fresh:
            after = event_id
            on_event(event)
            failures += [event] if event.is_failure else []
        has_begun = has_begun or bool(fresh)
        if stack is None or (has_begun and not stack.status.endswith("_IN_PROGRESS")):
            break
        if time.monotonic() > deadline:
            raise _slow(account, stack)
        pause = _FIRST_PAUSE if fresh else min(pause * 1.5, _LONGEST_PAUSE)
        time.sleep(pause)
    if stack is None:
        return Stack(stack_id, "DELETE_COMPLETE")
    if "ROLLBACK" in stack.status or stack.status.endswith("_FAILED"):
        raise _failed(account, stack, failures)
    return stack


def _events(account: Account, stack_id: str, after: str) -> list[tuple[str, Event]]:
    """The events after one, the oldest first."""
    found: list[tuple[str, Event]] = []
    with account.asked("CloudFormation", "the events of the stack"):
        pages = account.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack_id)
        for one in (event for page in pages for event in page["StackEvents"]):
            if one["EventId"] == after:
                break
            found.append((one["EventId"], _event(one)))
    return found[::-1]


def _event(one: dict[str, Any]) -> Event:
    return Event(
        at=f"{one['Timestamp']:%H:%M:%S}",
        resource=one["LogicalResourceId"],
        kind=one["ResourceType"],
        status=one["ResourceStatus"],
        reason=one.get("ResourceStatusReason", "") or "",
    )


def _failed(account: Account, stack: Stack, failures: list[Event]) -> UnreachableError:
    first = failures[0] if failures else None
    cause = f"{first.resource} ({first.kind}): {first.reason.rstrip('.')}." if first else stack.reason
    taken = "what it was before" if stack.status.startswith("UPDATE_ROLLBACK") else f"now {stack.status}"
    hint = "Mend that, then `vehins cloud up`."
    if stack.status in _DEAD:
        hint = f"Mend that, `vehins cloud down{_named(account)}`, then `vehins cloud up{_named(account)}`."
    if first and "already exists" in first.reason and first.kind == "AWS::IAM::OIDCProvider":
        hint = HAS_PROVIDER
    return UnreachableError(f"The change of {account.stack} failed; the stack is {taken}", detail=cause, hint=hint)


def _slow(account: Account, stack: Stack) -> UnreachableError:
    return UnreachableError(
        f"{account.stack} is still {stack.status}",
        detail=f"After {account.cloud.timeout:,.0f} seconds (`cloud.timeout`).",
        hint="It goes on by itself: `vehins cloud status` shows how it ends.",
    )
