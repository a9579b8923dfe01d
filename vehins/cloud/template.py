"""The template of the stack, and what its parameters are in the settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.errors import SettingsError

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.stack import Stack
    from vehins.settings import CloudSettings, Settings

_NOBODY = "127.0.0.1/32"  # for a stack without a box, where the parameter means nothing
NO_FILES = "none"
"""The parameter BoxFiles of a stack without a box."""


def body() -> str:
    """The template as CloudFormation takes it."""
    return Path(__file__).with_name("stack.yaml").read_text(encoding="utf-8")


def foundation(settings: Settings) -> dict[str, str]:
    """The parameters of a stack without a box."""
    cloud = settings.cloud
    given = {
        "ExistingBucket": cloud.bucket,
        "Repository": cloud.repository,
        "OidcProviderArn": cloud.oidc_provider,
        "SubnetId": cloud.subnet,
        "AlarmTopicArn": cloud.alarm_topic,
    }
    return {
        "Box": "no",
        "Environment": cloud.environment,
        "RetrainEnvironment": cloud.retrain_environment,
        "InstanceType": cloud.instance_type,
        "DiskSize": str(cloud.disk_gb),
        "ModelName": settings.model_name,
        "AllowedCidr": cloud.allowed_cidr or _NOBODY,
        "VpcId": "",
        "BoxFiles": NO_FILES,
        **{name: value or "" for name, value in given.items()},
    }


def with_box(account: Account, files: str) -> dict[str, str]:
    """The parameters of a stack with a box, whose files have the digest ``files``.

    Raises:
        SettingsError: nobody has said who may reach the service, or where the machine is to be.
    """
    cloud = account.cloud
    check_box(cloud)
    return {
        **foundation(account.settings),
        "Box": "yes",
        "VpcId": cloud.vpc or _default_vpc(account),
        "BoxFiles": files,
    }


def check_box(cloud: CloudSettings) -> None:
    """Raise `SettingsError` where the settings leave open what a box needs."""
    if not cloud.allowed_cidr:
        raise SettingsError(
            "Nobody has said who may reach the service",
            detail="`cloud.allowed_cidr` is not set, and the whole world would be the wrong default.",
            hint="`--set cloud.allowed_cidr=203.0.113.0/24`; without a machine: `--set cloud.box=false`.",
        )
    try:
        ipaddress.IPv4Network(cloud.allowed_cidr, strict=False)
    except ValueError as error:
        raise SettingsError(
            f"`cloud.allowed_cidr` is no range of addresses: `{cloud.allowed_cidr}`",
            detail=f"{error}.",
            hint="Four numbers up to 255, and how many bits of them count: `--set cloud.allowed_cidr=203.0.113.0/24`.",
        ) from None
    if cloud.vpc and not cloud.subnet:
        raise SettingsError(
            "A network of your own needs a subnet",
            detail=f"`cloud.vpc` is {cloud.vpc}, and `cloud.subnet` is not set.",
            hint="Name one of its subnets that has a way out to the internet: `--set cloud.subnet=subnet-...`.",
        )


def check_bucket(cloud: CloudSettings, stack: Stack | None) -> None:
    """Raise `SettingsError` where a stack that uses an earlier bucket would get a new one, without a model in it."""
    used = stack.parameters.get("ExistingBucket") if stack and not stack.is_empty else None
    if used and not cloud.bucket:
        raise SettingsError(
            f"The models of the stack are in {used}, and it would get another bucket",
            detail="`cloud.bucket` is not set.",
            hint=f'`--set cloud.bucket={used}`, best for good: `bucket = "{used}"` below `[cloud]` in vehins.toml.',
        )


def _default_vpc(account: Account) -> str:
    with account.asked("EC2", "the default network"):
        found = account.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise SettingsError(
            "The region has no default network",
            detail="`cloud.vpc` is not set.",
            hint="Name one: `--set cloud.vpc=vpc-... --set cloud.subnet=subnet-...`.",
        )
    return str(found[0]["VpcId"])
