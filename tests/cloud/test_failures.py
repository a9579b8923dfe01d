"""What goes wrong on the way to AWS, and what mends it: on ministack, on moto, which enforces rights, on no server."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from server_process import HOST, answers, free_port, program, running
from stack_words import LOGIN, REGION, parsed

from vehins.cloud import changes, template
from vehins.cloud.account import Account
from vehins.cloud.stack import Stack, check_can_change
from vehins.errors import ConflictError, CredentialsError, UnreachableError
from vehins.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack_words import Stack as TestStack
    from vehins_runner import Vehins

NOW = datetime.now(UTC)
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


SIGN_ON = """[default]
sso_session = ours
sso_account_id = 123456789012
sso_role_name = Administrator
[sso-session ours]
sso_region = eu-central-1
sso_start_url = https://ours.awsapps.example/start
"""


def test_a_login_that_has_ended(
    stack: TestStack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after a night; it is no matter of the network."""
    (tmp_path / "config").write_text(SIGN_ON)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    error = vehins("cloud", "status", "--json", *stack.words, code=3).error
    assert error["headline"] == "The login for CloudFormation has ended, or cannot be had"
    assert "aws sso login" in error["hint"]


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


# --- What AWS says, and no server here does: real clients, which hold each answer to AWS's own description ------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("InvalidChangeSetStatus", "ChangeSet cannot be executed in its current execution status of [OBSOLETE]"),
        ("ChangeSetNotFound", "ChangeSet [vehins-1] does not exist"),
        ("ValidationError", "Stack:mine is in UPDATE_IN_PROGRESS state and can not be updated."),
        ("ValidationError", "Stack [arn:mine] cannot be deleted while in status UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("ValidationError", "Stack [arn:aws:cloudformation:mine] does not exist"),
    ],
)
def test_two_change_it_at_once(place: Path, code: str, said: str) -> None:
    account = Account(load({"cloud.stack": "mine"}).settings)
    answer: Any = {"Error": {"Code": code, "Message": said}}
    with (
        pytest.raises(ConflictError, match="Somebody else changes") as caught,
        account.asked("CloudFormation", "a change"),
    ):
        raise ClientError(answer, "ExecuteChangeSet")
    assert said.rstrip(".") in caught.value.detail


def event(**more: str) -> dict[str, Any]:
    return {"EventId": "1", "StackId": "arn", "Timestamp": NOW, "EventType": "VALIDATION_ERROR", **more}


@pytest.mark.parametrize(
    ("answer", "detail", "hint"),
    [
        (
            {"OperationEvents": [event(), event(LogicalResourceId="Images", ValidationStatusReason="It exists.")]},
            "Images: It exists.",
            "Mend that",
        ),
        (
            {
                "OperationEvents": [
                    event(ValidationPath="/Resources/OidcProvider", ValidationStatusReason="One exists"),
                ]
            },
            "/Resources/OidcProvider: One exists.",
            "--set cloud.oidc_provider=ARN",
        ),
        (None, "The following validation failed: [AWS::EarlyValidation::ResourceExistenceCheck].", "Mend that"),
    ],
)
def test_what_cloudformation_finds_before_it_begins(
    place: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | None, detail: str, hint: str
) -> None:
    """A name that is taken, for one; the reasons are with the events alone, which not everybody may read."""
    account = Account(load({"cloud.stack": "mine", "cloud.region": REGION}).settings)
    arn = f"arn:aws:cloudformation:{REGION}:123456789012:changeSet/vehins-1/2"
    reason = "The following validation failed: [AWS::EarlyValidation::ResourceExistenceCheck]"
    with Stubber(account.client("cloudformation")) as stub:
        stub.add_response("create_change_set", {"Id": arn, "StackId": "arn:stack"})
        stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": reason})
        if answer:
            stub.add_response("describe_events", answer, {"ChangeSetName": arn, "Filters": {"FailedEvents": True}})
        else:
            stub.add_client_error("describe_events", "AccessDenied")
        stub.add_response("delete_change_set", {})
        with pytest.raises(UnreachableError, match="does not take the change") as caught:
            changes.propose(account, {}, Stack("arn:stack", "CREATE_COMPLETE"))
        stub.assert_no_pending_responses()
    assert caught.value.detail == detail
    assert hint in caught.value.hint


def outputs_alone(stub: Stubber) -> str:
    """What CloudFormation answers where a template changes outputs alone: a change set without changes of resources."""
    arn = f"arn:aws:cloudformation:{REGION}:123456789012:changeSet/vehins-1/2"
    there = {"StackName": "mine", "StackId": "arn:stack", "CreationTime": NOW, "StackStatus": "CREATE_COMPLETE"}
    stub.add_response("describe_stacks", {"Stacks": [there]})
    stub.add_response("create_change_set", {"Id": arn, "StackId": "arn:stack"})
    for _ in range(2):  # whether it is ready, and what is in it
        stub.add_response("describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []})
    return arn


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[Stubber]:
    """Stands between the commands and CloudFormation."""
    client = Account(load({"cloud.region": REGION}).settings).client("cloudformation")
    monkeypatch.setattr(Account, "_made", lambda *_: client)
    with Stubber(client) as found:
        yield found
        found.assert_no_pending_responses()


def test_outputs_that_change_alone_are_carried_out(stub: Stubber, vehins: Vehins) -> None:
    arn = outputs_alone(stub)
    before = {"StackName": "mine", "StackId": "arn:stack", "EventId": "0", "Timestamp": NOW}
    begun = {**before, "EventId": "1", "ResourceType": "AWS::CloudFormation::Stack", "LogicalResourceId": "mine"}
    begun |= {"ResourceStatus": "UPDATE_COMPLETE"}
    outputs = [{"OutputKey": "New", "OutputValue": "here"}]
    after = {"StackName": "mine", "StackId": "arn:stack", "CreationTime": NOW, "StackStatus": "UPDATE_COMPLETE"}
    stub.add_response("describe_stack_events", {"StackEvents": [before]})
    stub.add_response("execute_change_set", {}, {"ChangeSetName": arn})
    stub.add_response("describe_stacks", {"Stacks": [{**after, "Outputs": outputs}]})
    stub.add_response("describe_stack_events", {"StackEvents": [begun, before]})
    answer = vehins("cloud", "up", "--yes", "--json", "--set", "cloud.stack=mine", "--set", "cloud.box=false")
    assert answer.json["outputs"] == {"New": "here"}
    assert "No resource changes, only the outputs" in answer.err


def test_a_look_at_outputs_leaves_no_change_set_behind(stub: Stubber, vehins: Vehins) -> None:
    stub.add_response("delete_change_set", {}, {"ChangeSetName": outputs_alone(stub)})
    answer = vehins("cloud", "plan", "--set", "cloud.stack=mine", "--set", "cloud.box=false")
    assert "No resource changes, only the outputs" in answer.err


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
