"""The stack in one view: its state, the box, what runs on it, and the alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vehins.cloud import deployment

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.stack import Stack


def overview(account: Account, stack: Stack) -> dict[str, Any]:
    """What there is to know, as ``--json`` prints it; what the stack has no part for is None or empty."""
    return {
        "stack": account.stack,
        "status": stack.status,
        "outputs": stack.outputs,
        "instance": _instance(account, stack),
        "deployed": deployment.deployed(account),
        "alarms": _alarms(account),
    }


def _instance(account: Account, stack: Stack) -> dict[str, str] | None:
    """State of the machine, and whether Systems Manager reaches it."""
    found = stack.outputs.get("InstanceId")
    if not found:
        return None
    with account.asked("EC2", f"the box {found}"):
        instance = _described(account.client("ec2"), found)
    with account.asked("SSM", f"the box {found}"):
        known = account.client("ssm").describe_instance_information(
            Filters=[{"Key": "InstanceIds", "Values": [found]}]
        )["InstanceInformationList"]
    return {
        "id": found,
        "type": instance.get("InstanceType", "unknown"),
        "state": instance["State"]["Name"],
        "address": instance.get("PublicDnsName") or instance.get("PublicIpAddress") or "none that is public",
        "connected": known[0]["PingStatus"] if known else "never yet",
    }


def _described(ec2: Any, found: str) -> dict[str, Any]:
    """The machine; one that somebody has ended is forgotten after a while."""
    from botocore.exceptions import ClientError

    try:
        described: dict[str, Any] = ec2.describe_instances(InstanceIds=[found])["Reservations"][0]["Instances"][0]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "InvalidInstanceID.NotFound":
            raise
        return {"State": {"Name": "gone"}}
    return described


def _alarms(account: Account) -> dict[str, str]:
    """State of each alarm: `OK`, `ALARM` or `INSUFFICIENT_DATA`."""
    with account.asked("CloudWatch", f"the alarms of {account.stack}"):
        found = account.client("cloudwatch").describe_alarms(
            AlarmNames=[f"{account.stack}-{name}" for name in ("status", "health", "disk")]
        )["MetricAlarms"]
    return {one["AlarmName"]: one["StateValue"] for one in found}
