"""What the roles may and may not, on moto: it reads policies as IAM does, and refuses what they do not allow.

The stack is made by the command on ministack, which makes roles and enforces none; trust and inline policies are
carried over to moto as they came out, since moto's own CloudFormation loses them. Proven: the policies are well-formed
by IAM's grammar, and each request below is allowed or refused by action and resource. Not proven: conditions of
policies (`cloudwatch:namespace`), and that a token of GitHub is refused whose subject is another: moto looks into no
token (test_foundation.py compares the trust literally). A refusal by moto comes before the thing is looked for, so what
is allowed may well not be there.
"""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from role_tables import ROLES
from server_process import HOST, answers, free_port, program, running
from stack_words import LOGIN, REGION, role_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_words import Stack

ACCOUNT = "123456789012"  # moto's
REFUSED = {"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"}


@dataclass
class Allowed:
    """The roles of a stack, where they are enforced."""

    stack: Stack
    bucket: str
    endpoint: str
    logins: dict[str, dict[str, str]]

    @cache  # noqa: B019 - it lives as long as the tests
    def client(self, role: str, service: str) -> Any:
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, config=config, **self.logins[role])

    def may(self, role: str, service: str, operation: str, **given: Any) -> bool:
        try:
            getattr(self.client(role, service), operation)(**given)
        except ClientError as error:
            return error.response["Error"]["Code"] not in REFUSED
        return True

    def arn(self, text: str) -> str:
        """What names this stack, in moto's account."""
        return text.replace("000000000000", ACCOUNT)

    def __hash__(self) -> int:
        return id(self)


@pytest.fixture(scope="module")
def roles(whole: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Allowed]:
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [program("moto_server"), "-H", HOST, "-p", str(port)]
    with running(command, log, lambda: answers(port), {**os.environ, "MOTO_ACCOUNT_ID": ACCOUNT}):
        endpoint = f"http://{HOST}:{port}"
        found = Allowed(whole, whole.outputs["BucketName"], endpoint, {})
        carry_over(found, whole)
        call(f"{endpoint}/moto-api/reset-auth", b"0")  # from now on, every request is judged
        yield found


def carry_over(found: Allowed, whole: Stack) -> None:
    """Make the provider, the roles, a bucket and another one at moto, and take each role as its owner would."""
    iam, sts, s3 = (boto3.client(name, endpoint_url=found.endpoint, **LOGIN) for name in ("iam", "sts", "s3"))
    for bucket in (found.bucket, "somebody-elses"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    iam.create_open_id_connect_provider(
        Url="https://token.actions.githubusercontent.com", ClientIDList=["sts.amazonaws.com"]
    )
    for role in ROLES:
        name = whole.client("cloudformation").describe_stack_resource(StackName=whole.name, LogicalResourceId=role)
        name, trust, policies = role_of(whole.client("iam"), name["StackResourceDetail"]["PhysicalResourceId"])
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=found.arn(json.dumps(trust)))["Role"]
        for policy, text in policies.items():
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=found.arn(json.dumps(text)))
        session = {"RoleArn": made["Arn"], "RoleSessionName": "test"}
        if role == "BoxRole":
            login = sts.assume_role(**session)["Credentials"]
        else:
            login = sts.assume_role_with_web_identity(**session, WebIdentityToken="a.b.c")["Credentials"]
        found.logins[role] = {
            "aws_access_key_id": login["AccessKeyId"],
            "aws_secret_access_key": login["SecretAccessKey"],
            "aws_session_token": login["SessionToken"],
        }


def call(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": "text/plain"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30):
        pass


MANIFEST = "registry/models/vehicle-insurance/versions/1/manifest.json"
ALIAS = "registry/models/vehicle-insurance/aliases/production.json"


@pytest.mark.parametrize(
    ("key", "reads", "writes"),
    [
        (MANIFEST, {"BoxRole", "RetrainRole"}, {"RetrainRole"}),
        (ALIAS, {"BoxRole", "RetrainRole"}, {"RetrainRole"}),
        ("registry/.vehins-conditional-writes", {"BoxRole", "RetrainRole"}, {"RetrainRole"}),
        ("data/customers.csv", {"RetrainRole"}, set()),
        ("box/files.tar.gz", {"BoxRole"}, set()),
        ("elsewhere", set(), set()),
    ],
)
def test_objects_of_the_bucket(roles: Allowed, key: str, reads: set[str], writes: set[str]) -> None:
    where = {"Bucket": roles.bucket, "Key": key}
    assert {role for role in ROLES if roles.may(role, "s3", "put_object", **where, Body=b"x")} == writes
    assert {role for role in ROLES if roles.may(role, "s3", "get_object", **where)} == reads
    assert {role for role in ROLES if roles.may(role, "s3", "delete_object", **where)} == set()


def test_other_buckets_and_the_bucket_itself(roles: Allowed) -> None:
    listing = {role for role in ROLES if roles.may(role, "s3", "list_objects_v2", Bucket=roles.bucket)}
    assert listing == {"BoxRole", "RetrainRole"}
    for role in ROLES:
        assert not roles.may(role, "s3", "list_objects_v2", Bucket="somebody-elses")
        assert not roles.may(role, "s3", "put_object", Bucket="somebody-elses", Key=MANIFEST, Body=b"x")
        assert not roles.may(role, "s3", "delete_bucket_policy", Bucket=roles.bucket)
        assert not roles.may(role, "s3", "put_bucket_versioning", Bucket=roles.bucket, VersioningConfiguration={})


@pytest.mark.parametrize("role", ROLES)
def test_nobody_makes_rights_or_machines(roles: Allowed, role: str) -> None:
    assert not roles.may(role, "iam", "create_user", UserName="more")
    assert not roles.may(role, "iam", "put_role_policy", RoleName="x", PolicyName="x", PolicyDocument="{}")
    assert not roles.may(role, "ec2", "run_instances", MinCount=1, MaxCount=1, ImageId="ami-12345678")
    assert not roles.may(role, "ec2", "terminate_instances", InstanceIds=["i-0123456789abcdef0"])
    assert not roles.may(role, "ecr", "create_repository", repositoryName="more")
    assert not roles.may(role, "cloudformation", "create_stack", StackName="more", TemplateBody="{}")


def test_who_logs_in_to_the_image_registry(roles: Allowed) -> None:
    assert {role for role in ROLES if roles.may(role, "ecr", "get_authorization_token")} == {"BoxRole", "CiRole"}


@pytest.mark.parametrize("document", ["AWS-RunShellScript", "AWS-RunPatchBaseline"])
def test_deployments_send_no_other_document(roles: Allowed, document: str) -> None:
    sent = {"DocumentName": document, "InstanceIds": ["i-0123456789abcdef0"], "Parameters": {"commands": ["id"]}}
    assert {role for role in ROLES if roles.may(role, "ssm", "send_command", **sent)} == set()


def test_well_formed_is_not_everything(roles: Allowed) -> None:
    """What moto would say of a policy that is none, or else the carrying over proves nothing."""
    iam = boto3.client("iam", endpoint_url=roles.endpoint, **LOGIN)
    with pytest.raises(ClientError) as caught:
        iam.put_role_policy(RoleName="x", PolicyName="x", PolicyDocument='{"Statement": []}')
    assert caught.value.response["Error"]["Code"] in {"MalformedPolicyDocument", "InvalidClientTokenId"}
