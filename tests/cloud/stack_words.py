"""A stack of a test's own on ministack: the words that lead `vehins cloud` to it, and what is looked at afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
from botocore.config import Config

from vehins.cloud import template

if TYPE_CHECKING:
    from pathlib import Path

REGION = "eu-central-1"
LOGIN = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
PROVIDER = "arn:aws:iam::000000000000:oidc-provider/token.actions.githubusercontent.com"
REPOSITORY = "insurer/vehins"
# What ministack's CloudFormation cannot make: it refuses a template with any of them.
UNKNOWN_TO_MINISTACK = ("AWS::EC2::Instance", "AWS::SSM::Document", "AWS::IAM::OIDCProvider")


@dataclass(frozen=True)
class Stack:
    """Name of a stack, and where it is."""

    name: str
    endpoint: str

    @property
    def words(self) -> list[str]:
        """Of a command line: a stack without a box, and with the roles of workflows."""
        return self.words_without()

    def words_without(self, left_out: str = "") -> list[str]:
        """The same without one of the settings."""
        chosen = {
            "endpoint_url": self.endpoint,
            "stack": self.name,
            "region": REGION,
            "box": "false",
            "repository": REPOSITORY,
            "oidc_provider": PROVIDER,  # which ministack cannot make
            "timeout": "60",
        }
        return [
            word for name, value in chosen.items() if name != left_out for word in ("--set", f"cloud.{name}={value}")
        ]

    @property
    def words_with_box(self) -> list[str]:
        """Of a command line: the whole stack."""
        return [*self.words, "--set", "cloud.box=true", "--set", "cloud.allowed_cidr=203.0.113.0/24"]

    def client(self, service: str) -> Any:
        config = Config(s3={"addressing_style": "path"})
        return boto3.client(service, endpoint_url=self.endpoint, config=config, **LOGIN)

    @property
    def outputs(self) -> dict[str, str]:
        found = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]["Outputs"]
        return {one["OutputKey"]: one["OutputValue"] for one in found}

    def parameter(self, name: str, **more: Any) -> str:
        return str(self.client("ssm").get_parameter(Name=f"/{self.name}/{name}", **more)["Parameter"]["Value"])

    def role(self, output: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Name of a role, whom it trusts, and its policies by name."""
        return role_of(self.client("iam"), self.outputs[output].rpartition("/")[2])


def role_of(iam: Any, name: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    policies = {one: iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in names}
    return name, trust, policies


def new_stack(endpoint: str) -> Stack:
    return Stack(f"t{uuid4().hex[:12]}", endpoint)


def parsed(text: str | None = None) -> dict[str, Any]:
    """The template as data; `!Ref X` is `{"Ref": "X"}`, `!Sub` and its kin are `{"Fn::Sub": ...}`."""
    return json.loads(_parsed(text or template.body()))


@cache
def _parsed(text: str) -> str:
    from cfnlint.decode import cfn_yaml

    return json.dumps(cfn_yaml.loads(text))


def for_ministack() -> str:
    """The template with a parameter in the place of each resource that ministack cannot make."""
    tree = parsed()
    for name, resource in tree["Resources"].items():
        if resource["Type"] in UNKNOWN_TO_MINISTACK:
            tree["Resources"][name] = {
                "Type": "AWS::SSM::Parameter",
                "Condition": resource["Condition"],
                "Properties": {
                    "Name": {"Fn::Sub": f"/${{AWS::StackName}}-lacks/{name}"},
                    "Type": "String",
                    "Value": "-",
                },
            }
    del tree["Outputs"]["Address"]  # the name of a machine that is not there
    return json.dumps(tree)


def write_executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path
