"""`vehins cloud status` and a machine, on moto, which has instances; the stack is one of three lines, as moto's own
CloudFormation would lose what matters of ours.

moto says of every command that it was a success, and runs none: that is no answer of a box, and is not taken for one.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from server_process import HOST, answers, free_port, program, running
from stack_words import LOGIN, REGION

from vehins.cloud import overview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins_runner import Vehins

STACK = f"t{uuid4().hex[:12]}"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/vehins@sha256:" + "e" * 64
SMALL: dict[str, Any] = {
    "Parameters": {"Box": {"Type": "String"}},
    "Resources": {
        "Instance": {
            "Type": "AWS::EC2::Instance",
            "Properties": {"ImageId": "ami-12c6146b", "InstanceType": "t3.medium"},
        },
        "DeployDocument": {
            "Type": "AWS::SSM::Document",
            "Properties": {
                "Name": "vehins-deploy",
                "DocumentType": "Command",
                "DocumentFormat": "JSON",
                "Content": {"schemaVersion": "2.2", "description": "x", "mainSteps": []},
            },
        },
    },
    "Outputs": {
        "InstanceId": {"Value": {"Ref": "Instance"}},
        "DeployDocumentName": {"Value": {"Ref": "DeployDocument"}},
    },
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of moto, with a stack that has a machine and one alarm."""
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with running([program("moto_server"), "-H", HOST, "-p", str(port)], log, lambda: answers(port), dict(os.environ)):
        found = f"http://{HOST}:{port}"
        box = [{"ParameterKey": "Box", "ParameterValue": "yes"}]
        client(found, "cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(SMALL), Parameters=box)
        alarm = f"{STACK}-health"
        client(found, "cloudwatch").put_metric_alarm(
            AlarmName=alarm,
            MetricName="Ready",
            Namespace=STACK,
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=3,
            Threshold=1,
            ComparisonOperator="LessThanThreshold",
        )
        client(found, "cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="No answer.")
        yield found


def client(endpoint: str, service: str) -> Any:
    return boto3.client(service, endpoint_url=endpoint, **LOGIN)


@pytest.fixture
def words(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What leads to that stack."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return ["--set", f"cloud.stack={STACK}", "--set", f"cloud.region={REGION}"]


def test_one_view(
    endpoint: str, words: list[str], secrets_server: str, vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systems Manager is ministack's: moto cannot tell which machines are connected."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", secrets_server)
    told = {"image": IMAGE, "version": "production", "model_version": 7}
    client(secrets_server, "ssm").put_parameter(Name=f"/{STACK}/deployed", Value=json.dumps(told), Type="String")
    found = vehins("cloud", "status", "--json", *words).json
    described = client(endpoint, "ec2").describe_instances(InstanceIds=[found["outputs"]["InstanceId"]])
    instance = described["Reservations"][0]["Instances"][0]
    assert found["instance"] == {
        "id": found["outputs"]["InstanceId"],
        "type": "t3.medium",
        "state": "running",
        "address": instance["PublicDnsName"],
        "connected": "never yet",
    }
    assert found["deployed"] == told
    assert found["alarms"] == {f"{STACK}-health": "ALARM"}
    shown = vehins("cloud", "status", *words).out
    for text in (found["instance"]["id"], IMAGE, "7", f"alarm {STACK}-health", "ALARM"):
        assert text in shown


def test_a_machine_that_somebody_has_ended(endpoint: str) -> None:
    assert overview._described(client(endpoint, "ec2"), "i-0123456789abcdef0") == {"State": {"Name": "gone"}}


def test_success_of_a_command_that_ran_nothing_is_none(words: list[str], vehins: Vehins) -> None:
    error = vehins("cloud", "rollback", "--json", *words, code=6).error
    assert error["headline"] in {"The box gave no answer that makes sense", "The box did not carry out the command"}
