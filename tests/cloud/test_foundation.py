"""`vehins cloud plan`, `up` and `status` make and show the foundation on ministack; boto3 looks at what is there.

What this proves: the template is taken, its conditions and references hold, and bucket, image registry, roles, log
group and parameters have the properties that it gives them. What it does not: ministack enforces neither bucket
policies nor roles (test_roles.py does the latter on moto), cannot make OIDC providers, instances and documents of
Systems Manager in a stack, gives a bucket no lifecycle (test_template.py looks at what the template says), and lists in
a change set also what a condition leaves out.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from stack_words import PROVIDER, REGION, REPOSITORY, parsed

from vehins.cloud import template

if TYPE_CHECKING:
    from stack_words import Stack
    from vehins_runner import Vehins


def test_a_plan_changes_nothing(stack: Stack, vehins: Vehins) -> None:
    found = vehins("cloud", "plan", "--json", *stack.words).json
    assert (found["stack"], found["new"]) == (stack.name, True)
    changes = {change["name"]: change for change in found["changes"]}
    assert changes["Bucket"] == {
        "action": "Add",
        "name": "Bucket",
        "kind": "AWS::S3::Bucket",
        "replaced": "no",
        "because": [],
    }
    assert {"Images", "CiRole", "RetrainRole", "RegistryParameter"} <= set(changes)
    shown = vehins("cloud", "plan", *stack.words)
    assert re.search(r"Add +Bucket +S3::Bucket", shown.out)
    assert "There is no stack" in vehins("cloud", "status", *stack.words, code=6).err
    listed = stack.client("cloudformation").list_stacks()["StackSummaries"]
    assert [one for one in listed if one["StackName"] == stack.name and one["StackStatus"] != "DELETE_COMPLETE"] == []


def test_without_yes_a_script_changes_nothing(stack: Stack, vehins: Vehins) -> None:
    answer = vehins("cloud", "up", *stack.words, code=2)
    assert re.search(r"Add +Bucket +S3::Bucket", answer.err)  # what it would have done
    assert "nobody has said yes" in answer.err
    assert "Try: `vehins cloud up --yes`" in answer.err
    assert vehins("cloud", "up", "--json", *stack.words, code=2).error["exit_code"] == 2
    assert "There is no stack" in vehins("cloud", "status", *stack.words, code=6).err
    with pytest.raises(ClientError):
        stack.parameter("registry")


def test_up_tells_each_step_and_ends_with_the_outputs(stack: Stack, vehins: Vehins) -> None:
    answer = vehins("cloud", "up", "--yes", "--json", *stack.words)
    assert re.search(r"^\d\d:\d\d:\d\d  Bucket +CREATE_COMPLETE$", answer.err, re.M)
    assert answer.json["status"] == "CREATE_COMPLETE"
    assert answer.json["outputs"] == stack.outputs
    assert set(stack.outputs) == {
        "BucketName",
        "Registry",
        "ImageRepository",
        "LogGroupName",
        "CiRoleArn",
        "RetrainRoleArn",
    }
    again = vehins("cloud", "up", "--json", *stack.words)  # nobody has to say yes to nothing
    assert again.json["changes"] == []
    assert "is up to date" in again.err
    assert vehins("cloud", "plan", "--json", *stack.words).json["changes"] == []


def test_a_change_is_shown_and_made(made: Stack, vehins: Vehins) -> None:
    words = [*made.words, "--set", "cloud.environment=live", "--set", "model_name=cars"]
    planned = vehins("cloud", "plan", "--json", *words).json
    assert planned["new"] is False
    changes = {change["name"]: change for change in planned["changes"]}
    assert changes["CiRole"]["action"] == "Modify"
    assert "AssumeRolePolicyDocument" in changes["CiRole"]["because"]
    assert made.parameter("model-name") == "vehicle-insurance"
    assert vehins("cloud", "up", "--yes", "--json", *words).json["status"] == "UPDATE_COMPLETE"
    assert made.parameter("model-name") == "cars"
    trust = json.dumps(made.role("CiRoleArn")[1])
    assert f"repo:{REPOSITORY}:environment:live" in trust


def test_what_would_be_lost_is_said_loudly(made: Stack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another template: one without a parameter, and with another name for the images."""
    tree = parsed()
    del tree["Resources"]["ModelNameParameter"]
    tree["Resources"]["Images"]["Properties"]["RepositoryName"] = f"{made.name}-images"
    monkeypatch.setattr(template, "body", lambda: json.dumps(tree))
    answer = vehins("cloud", "plan", *made.words)
    assert re.search(r"Remove +ModelNameParameter +SSM::Parameter", answer.out)
    assert "Attention: ModelNameParameter is REMOVED" in answer.err
    assert re.search(r"Modify +Images +ECR::Repository +YES +RepositoryName", answer.out)
    assert "Attention: Images is REPLACED" in answer.err
    planned = {change["name"]: change for change in vehins("cloud", "plan", "--json", *made.words).json["changes"]}
    assert (planned["Images"]["replaced"], planned["ModelNameParameter"]["action"]) == ("yes", "Remove")


def test_the_bucket(foundation: Stack) -> None:
    s3, name = foundation.client("s3"), foundation.outputs["BucketName"]
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    encrypted = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert encrypted[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert blocked == dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]


def test_the_image_registry(foundation: Stack) -> None:
    ecr = foundation.client("ecr")
    (repository,) = ecr.describe_repositories(repositoryNames=[foundation.name])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"]["scanOnPush"] is True
    assert repository["repositoryUri"] == foundation.outputs["ImageRepository"]
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName=foundation.name)["lifecyclePolicyText"])
    assert [rule["selection"]["tagStatus"] for rule in policy["rules"]] == ["untagged", "any"]


def test_the_parameters_and_the_log_group(foundation: Stack) -> None:
    bucket = foundation.outputs["BucketName"]
    assert foundation.parameter("registry") == foundation.outputs["Registry"] == f"s3://{bucket}/registry"
    assert foundation.parameter("model-name") == "vehicle-insurance"
    assert (foundation.parameter("deployed"), foundation.parameter("box-files")) == ("none", "none")
    (group,) = foundation.client("logs").describe_log_groups(logGroupNamePrefix=f"/{foundation.name}/")["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == (f"/{foundation.name}/service", 90)


@pytest.mark.parametrize(("output", "environment"), [("CiRoleArn", "production"), ("RetrainRoleArn", "retraining")])
def test_who_may_take_a_role(foundation: Stack, output: str, environment: str) -> None:
    """One repository, in one environment, and nobody else."""
    (statement,) = foundation.role(output)[1]["Statement"]
    assert statement["Principal"] == {"Federated": PROVIDER}
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": f"repo:{REPOSITORY}:environment:{environment}",
        }
    }


def test_a_repository_whose_tokens_name_it_with_ids(stack: Stack, vehins: Vehins) -> None:
    """As those made since July 2026: the ids are part of the subject, which a role compares word by word."""
    vehins(
        "cloud", "up", "--yes", *stack.words_without("repository"), "--set", "cloud.repository=insurer@12/vehins@345"
    )
    for output, environment in (("CiRoleArn", "production"), ("RetrainRoleArn", "retraining")):
        (statement,) = stack.role(output)[1]["Statement"]
        subject = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
        assert subject == f"repo:insurer@12/vehins@345:environment:{environment}"


def test_without_a_repository_there_are_no_roles(stack: Stack, vehins: Vehins) -> None:
    vehins("cloud", "up", "--yes", *stack.words_without("repository"))
    assert set(stack.outputs) == {"BucketName", "Registry", "ImageRepository", "LogGroupName"}


def test_status_shows_what_there_is(foundation: Stack, vehins: Vehins) -> None:
    found = vehins("cloud", "status", "--json", *foundation.words).json
    assert (found["stack"], found["status"]) == (foundation.name, "CREATE_COMPLETE")
    assert (found["instance"], found["deployed"], found["alarms"]) == (None, {}, {})
    assert found["outputs"] == foundation.outputs
    shown = vehins("cloud", "status", *foundation.words)
    assert f"{foundation.name}: CREATE_COMPLETE" in shown.out
    assert foundation.outputs["Registry"] in shown.out
    assert shown.err == ""


def test_the_region_is_that_of_the_environment_by_default(
    foundation: Stack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = foundation.words_without("region")
    assert "No region is set" in vehins("cloud", "status", *words, code=3).err
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, REGION)
        assert vehins("cloud", "status", "--json", *words).json["status"] == "CREATE_COMPLETE"
        monkeypatch.delenv(name)
    assert vehins("cloud", "status", *words, "--set", "cloud.region=eu-west-1", code=6)


def test_the_registry_of_the_stack_takes_models(made: Stack, vehins: Vehins) -> None:
    words = ["--registry", made.outputs["Registry"], "--set", f"s3.endpoint_url={made.endpoint}"]
    words += ["--set", "s3.path_style=true", "--set", f"s3.region={REGION}"]
    assert vehins.run(*words).json["version"] == 1
    refused = vehins("cloud", "down", "--yes", *made.words, code=2)
    assert f"The bucket of {made.name} has 1 versions of models" in refused.err
    assert vehins("models", "list", "--json", *words).json["aliases"] == {"production": 1}
