"""`vehins cloud down` on ministack: models outlive the stack, unless that is said twice."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from vehins_runner import child_environment

if TYPE_CHECKING:
    from pathlib import Path

    from stack_words import Stack
    from vehins_runner import Vehins

MANIFEST = "registry/models/vehicle-insurance/versions/{}/manifest.json"


@pytest.fixture
def filled(made: Stack) -> Stack:
    """A stack with two versions of a model; one of them was written over."""
    s3, bucket = made.client("s3"), made.outputs["BucketName"]
    for version in (1, 2, 2):
        s3.put_object(Bucket=bucket, Key=MANIFEST.format(version), Body=b"{}")
    s3.put_object(Bucket=bucket, Key="registry/models/vehicle-insurance/aliases/production.json", Body=b"{}")
    return made


def there(stack: Stack) -> bool:
    try:
        found = stack.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"]
    except ClientError:
        return False
    return found[0]["StackStatus"] != "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("more", "headline"),
    [
        (("--yes",), "The bucket of {} has 2 versions of models"),
        ((), "The bucket of {} has 2 versions of models"),
        (("--keep-models",), "Nothing was changed: nobody has said yes"),
        (("--delete-models",), "Nothing was changed: nobody has said yes"),
        (("--delete-models", "--yes"), "Nothing was changed: nobody has said yes"),
        (("--delete-models", "--confirm", "other"), "`--confirm other` is not the name of the stack"),
        (("--delete-models", "--keep-models", "--yes"), "`--keep-models` and `--delete-models` exclude each other"),
    ],
)
def test_it_refuses(filled: Stack, vehins: Vehins, more: tuple[str, ...], headline: str) -> None:
    error = vehins("cloud", "down", "--json", *more, *filled.words, code=2).error
    assert error["headline"] == headline.format(filled.name)
    assert error["hint"]
    assert there(filled)
    assert filled.client("s3").head_object(Bucket=filled.outputs["BucketName"], Key=MANIFEST.format(1))


def test_models_are_kept_and_found_again(filled: Stack, vehins: Vehins) -> None:
    s3, bucket = filled.client("s3"), filled.outputs["BucketName"]
    answer = vehins("cloud", "down", "--keep-models", "--yes", "--json", *filled.words)
    assert answer.json == {"stack": filled.name, "removed": True, "bucket": bucket, "models": 2}
    assert f"vehins cloud up --set cloud.bucket={bucket}" in answer.err
    assert not there(filled)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"]
    again = vehins("cloud", "up", "--yes", "--json", *filled.words, "--set", f"cloud.bucket={bucket}").json
    assert again["outputs"]["BucketName"] == bucket
    assert again["outputs"]["Registry"] == f"s3://{bucket}/registry"
    listed = filled.role("RetrainRoleArn")[2]["registry"]["Statement"][0]
    assert listed["Resource"] == f"arn:aws:s3:::{bucket}"
    for command in (("plan",), ("up", "--yes")):  # forgotten, a new bucket without a model would take its place
        error = vehins("cloud", *command, "--json", *filled.words, code=3).error
        assert error["headline"] == f"The models of the stack are in {bucket}, and it would get another bucket"
        assert f"--set cloud.bucket={bucket}" in error["hint"]
    assert filled.outputs["BucketName"] == bucket


def test_said_twice_everything_goes(filled: Stack, vehins: Vehins) -> None:
    s3, bucket = filled.client("s3"), filled.outputs["BucketName"]
    answer = vehins("cloud", "down", "--delete-models", "--confirm", filled.name, "--json", *filled.words)
    assert answer.json == {"stack": filled.name, "removed": True, "bucket": None, "models": 0}
    assert "deleted with 4 objects" in answer.err  # the one that was written over counts twice
    assert not there(filled)
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket=bucket)
    assert caught.value.response["Error"]["Code"] == "404"


def test_an_empty_bucket_stays_too(made: Stack, vehins: Vehins) -> None:
    bucket = made.outputs["BucketName"]
    assert "nobody has said yes" in vehins("cloud", "down", *made.words, code=2).err
    assert vehins("cloud", "down", "--yes", "--json", *made.words).json["bucket"] == bucket
    assert made.client("s3").head_bucket(Bucket=bucket)
    assert "There is no stack" in vehins("cloud", "down", "--yes", *made.words, code=6).err


def test_a_bucket_that_is_gone_already_keeps_no_stack(made: Stack, vehins: Vehins) -> None:
    """Somebody has emptied and deleted it in the console."""
    made.client("s3").delete_bucket(Bucket=made.outputs["BucketName"])
    answer = vehins("cloud", "down", "--yes", "--json", *made.words)
    assert answer.json == {"stack": made.name, "removed": True, "bucket": None, "models": 0}
    assert not there(made)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pty")
@pytest.mark.parametrize("typed", ["{}", "yes"])
def test_on_a_terminal_the_name_is_asked_for(made: Stack, place: Path, typed: str) -> None:
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vehins", "cloud", "down", "--json", *made.words]
    environment = child_environment(TERM="dumb")
    with subprocess.Popen(
        command, cwd=place, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        os.write(ours, f"{typed.format(made.name)}\n".encode())
        out, err = process.communicate(timeout=120)
    os.close(ours)
    assert f"Type {made.name} to go on:" in err
    assert process.returncode == (0 if typed == "{}" else 2), out + err
    assert there(made) == (typed == "yes")
