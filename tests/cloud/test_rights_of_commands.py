"""Which actions of AWS the commands ask for: those that docs/cloud.md lists for each of them, and no others.

Recorded from the requests that go to ministack. What CloudFormation does in the name of who calls it is none of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stack_words import for_ministack

from vehins.cloud import template
from vehins.cloud.account import Account

if TYPE_CHECKING:
    from stack_words import Stack
    from vehins_runner import Vehins

DOCUMENT = Path(__file__).parents[2] / "docs/cloud.md"
# Where the right has another name than the operation.
NAMES = {
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:DeleteObjects": ["s3:DeleteObjectVersion"],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The actions that commands ask for from now on."""
    found: set[str] = set()
    make = Account._made

    def recording(self: Account, service: str) -> Any:
        client = make(self, service)
        prefix = {"cloudwatch": "cloudwatch"}.get(service, service)

        def record(model: Any, **_: Any) -> None:
            found.update(NAMES.get(f"{prefix}:{model.name}", [f"{prefix}:{model.name}"]))

        client.meta.events.register("before-call", record)
        return client

    monkeypatch.setattr(Account, "_made", recording)
    return found


def listed(command: str) -> set[str]:
    """The actions in the row of a command."""
    row = re.search(rf"^\| `{command}` \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.M)
    assert row, f"docs/cloud.md has no row for {command}"
    return set(re.findall(r"`([a-z0-9]+:\w+)`", row[1]))


def test_each_command_asks_for_what_the_document_lists(
    stack: Stack, vehins: Vehins, asked: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one stack's life; what was asked for by none of the calls, the document does not list."""
    text = for_ministack()
    monkeypatch.setattr(template, "body", lambda: text)
    words = stack.words_with_box
    calls: dict[str, list[tuple[Any, ...]]] = {
        "plan": [("plan",)],
        "up": [("up", 2), ("up", "--yes"), ("up", "--yes", "--set", "cloud.disk_gb=40")],
        "status": [("status", 6)],  # no machine is behind the name
        "down": [("down", "--delete-models", "--confirm", stack.name)],
    }
    for command, variants in calls.items():
        asked.clear()
        for variant in variants:
            code = next((one for one in variant if isinstance(one, int)), 0)
            if command == "down":
                put_model(stack)
            vehins("cloud", *[one for one in variant if isinstance(one, str)], *words, code=code)
        assert asked <= listed(command), f"{command}: {sorted(asked - listed(command))} are missing in docs/cloud.md"
        early = {"cloudformation:DescribeEvents"}  # when a change set is not even made; ministack has none of them
        beyond = {
            "plan": early,
            "up": early,
            "status": {"ssm:DescribeInstanceInformation", "ssm:GetParameter", "cloudwatch:DescribeAlarms"},
        }
        assert listed(command) - asked <= beyond.get(command, set())


def put_model(stack: Stack) -> None:
    key = "registry/models/m/versions/1/manifest.json"
    stack.client("s3").put_object(Bucket=stack.outputs["BucketName"], Key=key, Body=json.dumps({}))


def test_deploying_asks_for_what_the_role_may(whole: Stack, vehins: Vehins, asked: set[str]) -> None:
    """Until it is sent; ministack knows no machine."""
    ecr = whole.client("ecr")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {}, "layers": []})
    ecr.put_image(repositoryName=whole.name, imageManifest=manifest, imageManifestMediaType=kind, imageTag="asked")
    for words in (("deploy", "1", "--image", "asked"), ("rollback",)):
        error = vehins("cloud", *words, "--json", *whole.words, code=6).error
        assert error["headline"] == "The box is not connected to Systems Manager"
    assert asked == {"cloudformation:DescribeStacks", "ecr:DescribeImages", "ssm:SendCommand"}
    assert asked <= listed("deploy") == listed("deploy") & ci_rights()


def ci_rights() -> set[str]:
    from role_tables import rights

    return {action for action, _ in rights("CiRole")}
