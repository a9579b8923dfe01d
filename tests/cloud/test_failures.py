"""What goes wrong on the way to AWS, and what mends it: on ministack, on moto, which enforces rights, on no server."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from server_process import HOST, answers, free_port, program, running
from stack_words import LOGIN, REGION, parsed

from vehins.cloud import template
from vehins.cloud.account import Account
from vehins.cloud.stack import Stack, check_can_change
from vehins.errors import ConflictError, CredentialsError
from vehins.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack_words import Stack as TestStack
    from vehins_runner import Vehins

COMMANDS = (
    ("plan",),
    ("up", "--yes"),
    ("status",),
    ("rollback",),
    ("down", "--yes"),
    ("deploy", "1", "--image", "1.0"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_is_logged_in(
    stack: TestStack, vehins: Vehins, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    error = vehins("cloud", *command, "--json", *stack.words, code=3).error
    assert error["headline"] == "Nobody is logged in to CloudFormation"
    assert "AWS_PROFILE" in error["hint"]


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_answers(stack: TestStack, vehins: Vehins, command: tuple[str, ...]) -> None:
    words = [*stack.words, "--set", f"cloud.endpoint_url=http://{HOST}:{free_port()}", "--set", "remote.attempts=1"]
    error = vehins("cloud", *command, "--json", *words, code=6).error
    assert error["headline"] == "CloudFormation does not answer"
    assert "`cloud.region`" in error["hint"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command[0] not in {"plan", "up"}])
def test_there_is_no_stack(stack: TestStack, vehins: Vehins, command: tuple[str, ...]) -> None:
    error = vehins("cloud", *command, "--json", *stack.words, code=6).error
    assert error["headline"] == f"There is no stack {stack.name}"
    assert "`vehins cloud up`" in error["hint"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stack", "Vehins"),
        ("stack", "a" * 40),
        ("repository", "vehins"),
        ("repository", "insurer@12/vehins"),
        ("allowed_cidr", "everybody"),
        ("instance_type", "t3.gigantic"),
        ("oidc_provider", "github"),
        ("bucket", "A_B"),
    ],
)
def test_a_value_that_cannot_be(stack: TestStack, vehins: Vehins, name: str, value: str) -> None:
    error = vehins("cloud", "plan", "--json", *stack.words, "--set", f"cloud.{name}={value}", code=3).error
    assert error["headline"] == f"Setting `cloud.{name}` cannot be `{value}`"


# --- A change that fails ----------------------------------------------------------------------------------------------


def broken(name: str, properties: dict[str, Any]) -> str:
    """The template with a resource that cannot be made."""
    tree = parsed()
    tree["Resources"][name]["Properties"] |= properties
    return json.dumps(tree)


def test_a_stack_that_was_not_made(stack: TestStack, vehins: Vehins) -> None:
    """Somebody has a parameter of that name already."""
    taken = f"/{stack.name}/registry"
    stack.client("ssm").put_parameter(Name=taken, Value="x", Type="String")
    error = vehins("cloud", "up", "--yes", "--json", *stack.words, code=6).error
    assert error["headline"] == f"The change of {stack.name} failed; the stack is now ROLLBACK_COMPLETE"
    assert error["detail"].startswith("RegistryParameter (AWS::SSM::Parameter): ")
    assert "exist" in error["detail"]
    mend = f"vehins cloud down --set cloud.stack={stack.name}"
    assert mend in error["hint"]
    for command in (("plan",), ("up", "--yes")):  # it is in the way until it is removed
        error = vehins("cloud", *command, "--json", *stack.words, code=6).error
        assert error["headline"] == "The stack was not made, and can only be removed"
        assert mend in error["hint"]
    vehins("cloud", "down", "--yes", *stack.words)
    stack.client("ssm").delete_parameters(Names=[taken])
    assert vehins("cloud", "up", "--yes", "--json", *stack.words).json["status"] == "CREATE_COMPLETE"


def test_a_change_that_is_taken_back(made: TestStack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    made.client("ssm").put_parameter(Name=f"/{made.name}/taken", Value="x", Type="String")
    text = broken("ModelNameParameter", {"Name": f"/{made.name}/taken"})
    monkeypatch.setattr(template, "body", lambda: text)
    error = vehins("cloud", "up", "--yes", "--json", *made.words, code=6).error
    assert error["headline"] == f"The change of {made.name} failed; the stack is what it was before"
    assert error["detail"].startswith("ModelNameParameter (AWS::SSM::Parameter): ")
    assert "vehins cloud up" in error["hint"]
    monkeypatch.undo()
    assert made.parameter("model-name") == "vehicle-insurance"


def test_a_template_that_is_refused_leaves_no_stack(
    stack: TestStack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "body", lambda: '{"Resources": {"A": {"Type": "AWS::No::Such"}}}')
    error = vehins("cloud", "plan", "--json", *stack.words, code=3).error
    assert error["headline"] == "CloudFormation refuses it"
    assert "AWS::No::Such" in error["detail"]
    assert "There is no stack" in vehins("cloud", "status", *stack.words, code=6).err


# --- Rights -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto, which refuses what no policy allows, and a login without any policy."""
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    # Two requests are free: those that make the user and its key.
    variables = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "2"}
    with running([program("moto_server"), "-H", HOST, "-p", str(port)], log, lambda: answers(port), variables):
        yield f"http://{HOST}:{port}"


@pytest.fixture(scope="module")
def powerless(guarded: str) -> dict[str, str]:
    iam = boto3.client("iam", endpoint_url=guarded, **LOGIN)
    iam.create_user(UserName="powerless")
    key = iam.create_access_key(UserName="powerless")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_right_that_is_missing_is_named(
    guarded: str, powerless: dict[str, str], vehins: Vehins, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in powerless.items():
        monkeypatch.setenv(name, value)
    words = ["--set", f"cloud.endpoint_url={guarded}", "--set", f"cloud.region={REGION}", "--set", "cloud.box=false"]
    error = vehins("cloud", *command, "--json", *words, code=3).error
    assert error["headline"] == "The login may not do cloudformation:DescribeStacks"
    assert "docs/cloud.md" in error["hint"]


def test_a_refusal_that_names_no_action_is_named_by_what_was_asked(stack: TestStack, place: Path) -> None:
    account = Account(load({"cloud.stack": stack.name}).settings)
    answer: Any = {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}
    with pytest.raises(CredentialsError, match="may not do s3:PutObject"), account.asked("S3", "an archive"):
        raise ClientError(answer, "PutObject")


# --- A stack that somebody else changes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("CREATE_IN_PROGRESS", "is being changed already"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "is being changed already"),
        ("DELETE_IN_PROGRESS", "is being changed already"),
        ("ROLLBACK_COMPLETE", "can only be removed"),
        ("ROLLBACK_FAILED", "can only be removed"),
        ("DELETE_FAILED", "can only be removed"),
        ("UPDATE_ROLLBACK_FAILED", "is stuck on its way back"),
    ],
)
def test_a_state_in_which_nothing_can_be_changed(place: Path, status: str, said: str) -> None:
    account = Account(load({"cloud.stack": "mine"}).settings)
    with pytest.raises(ConflictError, match=said) as caught:
        check_can_change(account, Stack("arn", status, reason="Somebody did it."))
    assert caught.value.detail == f"mine is {status}: Somebody did it."
    assert caught.value.hint


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"]
)
def test_a_state_in_which_it_can(place: Path, status: str) -> None:
    check_can_change(Account(load().settings), Stack("arn", status))
