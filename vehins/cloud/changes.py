"""Change sets: what a change of the stack would do, seen before it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vehins.cloud import stack as stacks
from vehins.cloud import template
from vehins.errors import UnreachableError

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.stack import Event, Stack

_NOTHING = ("didn't contain changes", "No updates are to be performed")
_PAUSE = 0.25  # seconds between two looks


@dataclass(frozen=True)
class Change:
    """What would happen to one resource."""

    action: str
    """`Add`, `Modify`, `Remove`, or what else CloudFormation calls it."""
    name: str
    kind: str
    replaced: str
    """`yes`, `perhaps` (depends on values that are known only then), `no`."""
    because: tuple[str, ...]
    """The properties that change."""

    def as_dict(self) -> dict[str, Any]:
        """The change as ``--json`` prints it."""
        return {**asdict(self), "because": list(self.because)}


@dataclass(frozen=True)
class Proposal:
    """A change set that waits to be carried out or withdrawn."""

    arn: str
    stack_id: str
    is_new: bool
    changes: tuple[Change, ...]
    """What would happen to resources; none does where outputs alone change, and that has to be carried out too."""
    is_nothing: bool = False
    """Whether nothing at all would change: there is no change set to carry out or withdraw."""

    @property
    def lost(self) -> list[Change]:
        """What would not outlive the change."""
        return [change for change in self.changes if change.replaced != "no" or change.action == "Remove"]


def propose(account: Account, parameters: dict[str, str], stack: Stack | None) -> Proposal:
    """Have CloudFormation work out what the template and these parameters would change; nothing is changed yet."""
    client, is_new = account.client("cloudformation"), stack is None or stack.is_empty
    name = f"vehins-{time.time_ns():x}"
    with account.asked("CloudFormation", f"a change set of {account.stack}"):
        made = client.create_change_set(
            StackName=account.stack,
            ChangeSetName=name,
            ChangeSetType="CREATE" if is_new else "UPDATE",
            TemplateBody=template.body(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
            Tags=[{"Key": "made-by", "Value": "vehins"}],
        )
        found = _when_ready(account, made["Id"])
        is_ready = found["Status"] == "CREATE_COMPLETE"
        changes = _changes(client, made["Id"]) if is_ready else ()
    proposal = Proposal(made["Id"], made["StackId"], is_new, changes, is_nothing=not is_ready)
    if proposal.is_nothing:
        reason = str(found.get("StatusReason", ""))
        is_refused = not any(words in reason for words in _NOTHING)
        failures = _failures(account, proposal) if is_refused else []
        withdraw(account, proposal)
        if is_refused:
            raise _refused(reason, failures)
    return proposal


def _failures(account: Account, proposal: Proposal) -> list[dict[str, Any]]:
    """What CloudFormation has found wrong before it began, say a name that is taken; best effort, as it is an extra."""
    from botocore.exceptions import BotoCoreError, ClientError

    pages = account.client("cloudformation").get_paginator("describe_events")
    try:
        found = pages.paginate(ChangeSetName=proposal.arn, Filters={"FailedEvents": True}).build_full_result()
    except (BotoCoreError, ClientError):
        return []
    return [one for one in found["OperationEvents"] if one.get("ValidationStatusReason")]


def _refused(reason: str, failures: list[dict[str, Any]]) -> UnreachableError:
    places = [one.get("LogicalResourceId") or one.get("ValidationPath") or "The template" for one in failures]
    said = [f"{place}: {one['ValidationStatusReason']}" for place, one in zip(places, failures, strict=True)]
    detail = " ".join(f"{one.rstrip('.')}." for one in said or [reason])
    hint = stacks.HAS_PROVIDER if any("OidcProvider" in place for place in places) else "Mend that, and try again."
    return UnreachableError("CloudFormation does not take the change", detail=detail, hint=hint)


def _when_ready(account: Account, arn: str) -> dict[str, Any]:
    deadline = time.monotonic() + account.cloud.timeout
    while True:
        found: dict[str, Any] = account.client("cloudformation").describe_change_set(ChangeSetName=arn)
        if found["Status"] in {"CREATE_COMPLETE", "FAILED"}:
            return found
        if time.monotonic() > deadline:
            raise UnreachableError(
                "CloudFormation takes too long to work out the change",
                detail=f"More than {account.cloud.timeout:,.0f} seconds (`cloud.timeout`).",
                hint="Try again.",
            )
        time.sleep(_PAUSE)


def _changes(client: Any, arn: str) -> tuple[Change, ...]:
    pages = client.get_paginator("describe_change_set").paginate(ChangeSetName=arn)
    found = [_change(one["ResourceChange"]) for page in pages for one in page["Changes"] if one["Type"] == "Resource"]
    order = {"Remove": 0, "Modify": 1}
    return tuple(sorted(found, key=lambda change: (order.get(change.action, 2), change.name)))


def _change(one: dict[str, Any]) -> Change:
    targets = [detail.get("Target", {}) for detail in one.get("Details", [])]
    names = {target.get("Name") or target.get("Attribute") or "" for target in targets}
    replaced = {"True": "yes", "Conditional": "perhaps"}.get(str(one.get("Replacement", "False")), "no")
    return Change(
        action=one["Action"],
        name=one["LogicalResourceId"],
        kind=one["ResourceType"],
        replaced=replaced if one["Action"] == "Modify" else "no",
        because=tuple(sorted(names - {""})),
    )


def withdraw(account: Account, proposal: Proposal) -> None:
    """Forget a change set, and the empty stack that was made for it."""
    client = account.client("cloudformation")
    with account.asked("CloudFormation", f"the end of a change set of {account.stack}"):
        client.delete_change_set(ChangeSetName=proposal.arn)
        if proposal.is_new:
            client.delete_stack(StackName=proposal.stack_id)
            patience = {"Delay": 1, "MaxAttempts": 60}  # a moment: until then, it would be in the way of an `up`
            client.get_waiter("stack_delete_complete").wait(StackName=proposal.stack_id, WaiterConfig=patience)


def carry_out(account: Account, proposal: Proposal, on_event: Callable[[Event], None]) -> Stack:
    """Do what was proposed, and tell of each step; see `stack.follow` for how it may fail."""
    after = stacks.last_event(account, proposal.stack_id)
    with account.asked("CloudFormation", f"a change of {account.stack}"):
        account.client("cloudformation").execute_change_set(ChangeSetName=proposal.arn)
    return stacks.follow(account, proposal.stack_id, after, on_event)
