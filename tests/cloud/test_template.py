"""The template: what AWS's schemas say of it, what each role may do, and what the box is told at its first start."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from role_tables import REASONS, ROLES, as_list, rights, statements, table
from server_process import program
from stack_words import parsed

from vehins.cloud import template
from vehins.cloud.box.deploy.errors import until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "vehins/cloud/stack.yaml"
LARGEST = 51_200  # bytes that CloudFormation takes without a bucket
USER_DATA = 16_384  # bytes that EC2 takes


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    """With all rules, the informational ones too; none is switched off. Beside it, one in which there is something."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(template.body().replace("ImageTagMutability: IMMUTABLE", "ImageTagMutability: FOREVER"))
    command = [
        program("cfn-lint"),
        "--include-checks",
        "I",
        "--format",
        "parseable",
        "--template",
        str(FILE),
        str(wrong),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (fault,) = [line for line in done.stdout.splitlines() if ".yaml:" in line]
    assert fault.startswith(str(wrong))
    assert "'FOREVER' is not one of" in fault
    assert "ignore_checks" not in FILE.read_text()


def test_it_is_small_enough() -> None:
    assert len(template.body().encode()) < LARGEST


# --- Roles ------------------------------------------------------------------------------------------------------------


def faults(tree: dict[str, Any]) -> list[str]:
    """What is wrong with the roles of a template."""
    found = []
    for role in [name for name, one in tree["Resources"].items() if one["Type"] == "AWS::IAM::Role"]:
        for statement in statements(role, tree):
            found += [
                f"{role}: {word} says what is not meant" for word in ("NotAction", "NotResource") if word in statement
            ]
            found += [f"{role}: a denial"] if statement["Effect"] != "Allow" else []
        for action, resource in rights(role, tree):
            if "*" in action:
                found.append(f"{role}: {action} is a wildcard")
            if resource == "*" and action not in REASONS:
                found.append(f"{role}: {action} on everything, without a reason")
    return found


def test_no_role_may_more_than_it_names() -> None:
    tree = parsed()
    assert faults(tree) == []
    assert sorted(name for name, one in tree["Resources"].items() if one["Type"] == "AWS::IAM::Role") == sorted(ROLES)
    used = {action for role in ROLES for action, resource in rights(role) if resource == "*"}
    assert used == set(REASONS)


@pytest.mark.parametrize(
    ("action", "resource", "fault"),
    [
        ("s3:*", "arn:aws:s3:::b", "s3:* is a wildcard"),
        ("s3:Get*", "arn:aws:s3:::b", "s3:Get* is a wildcard"),
        ("*", "arn:aws:s3:::b", "* is a wildcard"),
        ("iam:PassRole", "*", "iam:PassRole on everything"),
    ],
)
def test_one_that_may_more_would_be_found(action: str, resource: str, fault: str) -> None:
    tree = parsed()
    policy = tree["Resources"]["CiRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    policy["Statement"].append({"Effect": "Allow", "Action": action, "Resource": resource})
    assert any(fault in one for one in faults(tree))


@pytest.mark.parametrize(("role", "heading"), ROLES.items())
def test_the_document_lists_what_each_role_may(role: str, heading: str) -> None:
    text = (ROOT / "docs/cloud.md").read_text(encoding="utf-8")
    section = text.partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    assert table(role) in section, f"below `### {heading}` in docs/cloud.md belongs:\n\n{table(role)}"


def test_metrics_go_to_the_namespace_of_the_stack_alone() -> None:
    (measure,) = [one for one in statements("BoxRole") if one["Action"] == "cloudwatch:PutMetricData"]
    assert measure["Condition"] == {"StringEquals": {"cloudwatch:namespace": {"Ref": "AWS::StackName"}}}


def test_nobody_may_change_models_but_retraining() -> None:
    writers = {role for role in ROLES for action, _ in rights(role) if action.startswith(("s3:Put", "s3:Delete"))}
    assert writers == {"RetrainRole"}
    assert not any(action == "s3:DeleteObject" for role in ROLES for action, _ in rights(role))


# --- The box ----------------------------------------------------------------------------------------------------------


def launch_data() -> dict[str, Any]:
    data: dict[str, Any] = parsed()["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    return data


def user_data() -> str:
    return str(launch_data()["UserData"]["Fn::Base64"]["Fn::Sub"][0])


def test_user_data_is_small_and_has_no_secret() -> None:
    text = user_data()
    assert len(text.encode()) < USER_DATA / 2  # values that are put in make it a little longer
    assert len(base64.b64encode(text.encode())) < USER_DATA
    assert not re.search("token|api.?key|secret|password", text, re.I)


def test_user_data_is_a_script_that_shells_and_pythons_read(tmp_path: Path) -> None:
    script = tmp_path / "user-data"
    script.write_text(user_data())
    subprocess.run(["bash", "-n", str(script)], check=True)
    fetch = re.search(r"vehins-fetch <<'EOF'\n(.*?)\nEOF\n", user_data(), re.S)
    assert fetch
    compile(fetch[1], "vehins-fetch", "exec")


def test_the_first_start_waits_for_who_updates_packages_already(tmp_path: Path) -> None:
    """Ubuntu does that by itself then; without a wait, the machine would be left without anything."""
    if not shutil.which("apt-get"):
        pytest.skip("there is no apt-get here")
    (line,) = [line for line in user_data().splitlines() if " update; do " in line]
    state, config = tmp_path / "state", tmp_path / "apt.conf"
    (state / "lists").mkdir(parents=True)
    places = {
        "Dir::State": state,
        "Dir::Cache": tmp_path,
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": "-",
    }
    config.write_text("".join(f'{name} "{place}";\n' for name, place in places.items()))
    said = tmp_path / "said"
    with (state / "lists/lock").open("w") as lock, said.open("w") as err:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        command = subprocess.Popen(["bash", "-euc", line], env={**os.environ, "APT_CONFIG": str(config)}, stderr=err)
        try:
            assert until(lambda: "lists/lock" in said.read_text(), 60)
            assert command.poll() is None
            fcntl.lockf(lock, fcntl.LOCK_UN)
            assert command.wait(60) == 0
        finally:
            command.kill()
            command.wait()


def test_no_way_in_but_the_service() -> None:
    tree = parsed()
    (ingress,) = tree["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]
    assert ingress["CidrIp"] == {"Ref": "AllowedCidr"}
    assert ingress["FromPort"] == ingress["ToPort"] == {"Ref": "ServicePort"}
    assert "Default" not in tree["Parameters"]["AllowedCidr"]
    assert "KeyName" not in launch_data()


def test_the_bucket_keeps_old_versions_for_a_while_and_current_ones_for_ever() -> None:
    bucket = parsed()["Resources"]["Bucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    (rule,) = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert not {"ExpirationInDays", "ExpirationDate"} & set(rule)


def test_a_newer_ubuntu_replaces_no_machine() -> None:
    """The public parameter is looked up by EC2 when a machine is made, and not by CloudFormation at each change."""
    image = launch_data()["ImageId"]
    assert image.startswith("resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/")
    assert not any("SSM::Parameter::Value" in one["Type"] for one in parsed()["Parameters"].values())


def referred(value: Any) -> set[str]:
    """What a part of the template refers to."""
    if isinstance(value, dict):
        named = {value["Ref"]} if "Ref" in value else set()
        return named.union(*map(referred, value.values()))
    if isinstance(value, list):
        return set().union(*map(referred, value))
    return set(re.findall(r"\$\{([A-Za-z]+)\}", value)) if isinstance(value, str) else set()


def test_the_document_names_the_settings_that_make_a_new_machine() -> None:
    """An instance is replaced when its launch template changes, or where it is."""
    tree = parsed()
    names = referred(launch_data()) | referred(tree["Resources"]["Instance"]["Properties"]["SubnetId"])
    settings = {"DiskSize": "disk_gb", "SubnetId": "subnet", "ExistingBucket": "bucket"}
    found = {settings.get(name, name.lower()) for name in names & set(tree["Parameters"])} - {"serviceport"}
    assert found == {"disk_gb", "subnet", "bucket", "repository", "environment"}
    text = (ROOT / "docs/cloud.md").read_text(encoding="utf-8")
    section = text.partition("\n### What replaces the box\n")[2].partition("\n##")[0]
    assert {name for name in found if f"`cloud.{name}`" not in section} == set()


def document() -> dict[str, Any]:
    content: dict[str, Any] = parsed()["Resources"]["DeployDocument"]["Properties"]["Content"]
    return content


@pytest.mark.parametrize(
    ("image", "good"),
    [
        ("none", True),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/vehins:1.0", True),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/vehins@sha256:" + "a" * 64, True),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/other:1.0", False),
        ("210987654321.dkr.ecr.eu-central-1.amazonaws.com/vehins:1.0", False),
        ("docker.io/library/busybox", False),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/vehins:1.0'; id; '", False),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/vehins:1.0\nid", False),
        ("", False),
    ],
)
def test_the_document_takes_images_of_the_stack_alone(image: str, good: bool) -> None:
    pattern = document()["parameters"]["Image"]["allowedPattern"]["Fn::Sub"][0]
    values = {"Account": "123456789012", "AWS::Region": "eu-central-1", "AWS::URLSuffix": "amazonaws.com"}
    for name, value in {**values, "AWS::StackName": "vehins"}.items():
        pattern = pattern.replace(f"${{{name}}}", value)
    assert bool(re.fullmatch(pattern, image)) == good


@pytest.mark.parametrize(
    ("version", "good"),
    [("0", True), ("7", True), ("production", True), ("07", False), ("7; id", False), ("staging", False), ("", False)],
)
def test_the_document_takes_versions_alone(version: str, good: bool) -> None:
    assert bool(re.fullmatch(document()["parameters"]["Version"]["allowedPattern"], version)) == good


def test_the_document_runs_one_line_with_three_values() -> None:
    parameters = document()["parameters"]
    (step,) = document()["mainSteps"]
    (line,) = as_list(step["inputs"]["runCommand"])
    assert re.findall(r"\{\{ (\w+) \}\}", line) == list(parameters)
    assert parameters["Action"]["allowedValues"] == ["deploy", "rollback", "status"]
