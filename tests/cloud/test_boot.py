"""The box, as far as it goes here: `vehins cloud up` makes what surrounds the machine on ministack, and the scripts of
the machine run in a folder, against the bucket and the parameters of that stack.

What this proves: security group, launch template, profile, alarms and the right of deployments are made as the
template says; the files that were put arrive whole, with their modes, or not at all; the settings that are written are
those that `vehins-deploy` and the service read. What it does not: ministack makes no instance and no document in a
stack (parameters stand for them), so no machine starts here, and neither systemd nor the runner of GitHub is set up.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from server_process import free_port
from stack_words import LOGIN, REGION, for_ministack, write_executable
from vehins_runner import child_environment

from vehins.cloud import box, files, template
from vehins.cloud.box.deploy.settings import variables

if TYPE_CHECKING:
    from stack_words import Stack
    from vehins_runner import Vehins


def launch_data(whole: Stack) -> dict[str, Any]:
    ec2 = whole.client("ec2")
    resource = whole.client("cloudformation").describe_stack_resource(
        StackName=whole.name, LogicalResourceId="LaunchTemplate"
    )
    (version,) = ec2.describe_launch_template_versions(
        LaunchTemplateId=resource["StackResourceDetail"]["PhysicalResourceId"]
    )["LaunchTemplateVersions"]
    return dict(version["LaunchTemplateData"])


def test_the_machine_is_to_be_started_so(whole: Stack) -> None:
    data = launch_data(whole)
    assert (data["MetadataOptions"]["HttpTokens"], data["MetadataOptions"]["HttpPutResponseHopLimit"]) == (
        "required",
        2,
    )
    (disk,) = data["BlockDeviceMappings"]
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["VolumeType"], disk["Ebs"]["VolumeSize"]) == (True, "gp3", 30)
    assert "KeyName" not in data
    assert data["IamInstanceProfile"]["Arn"].startswith("arn:aws:iam::000000000000:instance-profile/")
    assert len(base64.b64decode(data["UserData"])) < 16_384


def test_one_port_for_one_range(whole: Stack) -> None:
    groups = whole.client("ec2").describe_security_groups()["SecurityGroups"]
    (group,) = [one for one in groups if whole.name in one["GroupName"]]
    (rule,) = group["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 80, 80)
    assert [one["CidrIp"] for one in rule["IpRanges"]] == ["203.0.113.0/24"]
    assert {one["FromPort"] for one in group["IpPermissionsEgress"] if "FromPort" in one} >= {80, 443}


def test_the_alarms(whole: Stack) -> None:
    found = whole.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{whole.name}-")["MetricAlarms"]
    alarms = {one["AlarmName"].removeprefix(f"{whole.name}-"): one for one in found}
    assert {name: (one["Namespace"], one["MetricName"]) for name, one in alarms.items()} == {
        "status": ("AWS/EC2", "StatusCheckFailed"),
        "health": (whole.name, "Ready"),
        "disk": (whole.name, "DiskUsed"),
    }
    assert alarms["health"]["TreatMissingData"] == "breaching"  # a machine that says nothing is not well
    assert alarms["health"]["ComparisonOperator"] == "LessThanThreshold"


def test_deployments_may_send_one_document_to_one_machine(whole: Stack) -> None:
    policies = whole.role("CiRoleArn")[2]
    send = next(one for one in policies["deploy"]["Statement"] if one["Action"] == "ssm:SendCommand")
    stands_for = {name: f"/{whole.name}-lacks/{name}" for name in ("DeployDocument", "Instance")}
    account = f"{REGION}:000000000000"
    assert send["Resource"] == [
        f"arn:aws:ssm:{account}:document/{stands_for['DeployDocument']}",
        f"arn:aws:ec2:{account}:instance/{stands_for['Instance']}",
    ]


def test_a_key_is_made_once_and_encrypted(whole: Stack) -> None:
    (found,) = whole.client("ssm").describe_parameters(
        ParameterFilters=[{"Key": "Name", "Values": [f"/{whole.name}/api-keys"]}]
    )["Parameters"]
    assert found["Type"] == "SecureString"
    assert len(whole.parameter("api-keys", WithDecryption=True)) >= 40


def test_keys_and_token_are_brought_up_to_date(stack: Stack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    text = for_ministack()
    monkeypatch.setattr(template, "body", lambda: text)
    first = vehins("cloud", "up", "--yes", "--json", *stack.words_with_box)
    made = stack.parameter("api-keys", WithDecryption=True)
    assert first.json["secrets"] == [f"/{stack.name}/api-keys"]
    assert made not in first.out + first.err
    assert vehins("cloud", "up", "--json", *stack.words_with_box).json["secrets"] == []
    assert stack.parameter("api-keys", WithDecryption=True) == made
    monkeypatch.setenv("VEHINS_API_KEYS", "our-new-key-of-ours,our-old-key-of-ours")
    monkeypatch.setenv("VEHINS_CLOUD_RUNNER_TOKEN", "AGHRUNNERTOKEN")
    turned = vehins("cloud", "up", "--json", *stack.words_with_box)
    assert turned.json["secrets"] == [f"/{stack.name}/api-keys", f"/{stack.name}/runner-token"]
    assert "key-of-ours" not in turned.out + turned.err
    assert "AGHRUNNERTOKEN" not in turned.out + turned.err
    assert stack.parameter("api-keys", WithDecryption=True) == "our-new-key-of-ours,our-old-key-of-ours"
    assert stack.parameter("runner-token", WithDecryption=True) == "AGHRUNNERTOKEN"
    assert vehins("cloud", "down", "--yes", "--json", *stack.words_with_box).json["removed"]
    left = stack.client("ssm").get_parameters_by_path(Path=f"/{stack.name}")["Parameters"]
    assert left == []


@pytest.mark.parametrize("keys", ["short", "a key with blanks in it", "sixteen-signs-16\nVEHINS_SERVE_HOST=0.0.0.0"])
def test_keys_that_no_service_would_start_with_are_not_written(
    stack: Stack, vehins: Vehins, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    monkeypatch.setenv("VEHINS_API_KEYS", keys)
    answer = vehins("cloud", "up", "--yes", "--json", *stack.words_with_box, code=3)
    assert "API key" in answer.error["headline"]
    assert keys not in answer.out + answer.err
    assert "There is no stack" in vehins("cloud", "status", *stack.words, code=6).err


@pytest.mark.parametrize(
    ("more", "headline"),
    [
        ((), "Nobody has said who may reach the service"),
        (
            ("--set", "cloud.allowed_cidr=203.0.113.0/33"),
            "`cloud.allowed_cidr` is no range of addresses: `203.0.113.0/33`",
        ),
        (
            ("--set", "cloud.allowed_cidr=10.0.0.0/8", "--set", "cloud.vpc=vpc-1"),
            "A network of your own needs a subnet",
        ),
    ],
)
def test_a_box_needs_a_range_and_a_place(stack: Stack, vehins: Vehins, more: tuple[str, ...], headline: str) -> None:
    words = [*stack.words, "--set", "cloud.box=true", *more]
    for command in ("plan", "up"):
        error = vehins("cloud", command, "--json", *words, code=3).error
        assert error["headline"] == headline
        assert "--set cloud." in error["hint"]


# --- Files ------------------------------------------------------------------------------------------------------------


def test_the_same_files_make_the_same_archive() -> None:
    data = files.archive()
    assert data == files.archive()
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        found = {f"/{member.name}": (member.mode, archive.extractfile(member).read()) for member in archive}
    assert {path: found[path] for path in found if path in {one.path for one in box.files()}} == {
        one.path: (one.mode, one.content) for one in box.files()
    }
    assert found["/usr/local/sbin/vehins-box"][0] == 0o755
    assert found["/etc/sudoers.d/vehins"][0] == 0o440


@pytest.fixture
def machine(whole: Stack, tmp_path: Path) -> Path:
    """The root of a machine whose user data has run as far as it fetches files."""
    root = tmp_path / "root"
    text = base64.b64decode(launch_data(whole)["UserData"]).decode()
    written = dict(re.findall(r"cat > (\S+) <<'EOF'\n(.*?)\nEOF\n", text, re.S))
    assert set(written) == {"/etc/vehins/stack.json", "/usr/local/sbin/vehins-fetch"}
    write_executable(root / "etc/vehins/stack.json", written["/etc/vehins/stack.json"])
    # -I would keep it from what is installed beside the tests.
    fetch = written["/usr/local/sbin/vehins-fetch"].replace("#!/usr/bin/python3 -I", f"#!{sys.executable}", 1)
    write_executable(root / "usr/local/sbin/vehins-fetch", fetch)
    (root / "var/lib/vehins").mkdir(parents=True)
    return root


def on_it(root: Path, endpoint: str, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    variables = child_environment(
        AWS_ENDPOINT_URL=endpoint,
        AWS_MAX_ATTEMPTS="2",
        AWS_ACCESS_KEY_ID=LOGIN["aws_access_key_id"],
        AWS_SECRET_ACCESS_KEY=LOGIN["aws_secret_access_key"],
    )
    variables |= {"VEHINS_BOX_ROOT": str(root), "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def fetch(root: Path, endpoint: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return on_it(root, endpoint, str(root / "usr/local/sbin/vehins-fetch"), code=code)


def test_the_files_arrive_with_their_modes(whole: Stack, machine: Path) -> None:
    assert fetch(machine, whole.endpoint).stdout == "changed\n"
    for one in box.files():
        path = machine / one.path.lstrip("/")
        assert path.read_bytes() == one.content
        assert path.stat().st_mode & 0o777 == one.mode
    assert (machine / "usr/local/sbin/vehins-box").stat().st_mode & 0o777 == 0o755
    assert (machine / "var/lib/vehins/box-files").read_text() == whole.parameter("box-files")
    assert [path.name for path in machine.rglob(".*.new")] == []
    deploy = subprocess.run(
        [sys.executable, str(machine / "usr/local/bin/vehins-deploy"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "vehins-deploy IMAGE VERSION" in deploy.stdout
    assert fetch(machine, whole.endpoint).stdout == "unchanged\n"


def test_files_that_are_not_what_was_put_are_left_alone(whole: Stack, machine: Path) -> None:
    """Somebody has written over the archive: its name says what it should be."""
    digest, s3, bucket = whole.parameter("box-files"), whole.client("s3"), whole.outputs["BucketName"]
    place = {"Bucket": bucket, "Key": f"box/{digest}.tar.gz"}
    good = s3.get_object(**place)["Body"].read()
    try:
        s3.put_object(**place, Body=gzip.compress(b"other"))
        done = fetch(machine, whole.endpoint, code=1)
    finally:
        s3.put_object(**place, Body=good)
    assert "has another SHA-256 than its name" in done.stderr
    assert not (machine / "usr/local/bin/vehins-deploy").exists()
    assert not (machine / "var/lib/vehins/box-files").exists()


# --- vehins-box -------------------------------------------------------------------------------------------------------

STATUS = {
    "healthy": True,
    "current": {
        "image": "r/vehins@sha256:1",
        "version": "production",
        "model_version": 3,
        "since": "now",
        "slot": "blue",
    },
}


@pytest.fixture
def equipped(whole: Stack, machine: Path) -> Path:
    """The same with its files, a `vehins-deploy` that writes down its arguments, and a `systemctl` that does."""
    fetch(machine, whole.endpoint)
    equip(machine)
    return machine


def equip(machine: Path) -> None:
    script = machine / "usr/local/sbin/vehins-box"
    write_executable(script, script.read_text().replace("#!/usr/bin/python3 -I", f"#!{sys.executable}", 1))
    deploy = (
        f'#!/bin/sh\necho "vehins-deploy $*" >> {machine}/calls\ncat {machine}/status\nexit $(cat {machine}/code)\n'
    )
    write_executable(machine / "usr/local/bin/vehins-deploy", deploy)
    write_executable(machine / "bin/systemctl", f'#!/bin/sh\necho "systemctl $*" >> {machine}/calls\n')
    (machine / "status").write_text(json.dumps(STATUS))
    (machine / "code").write_text("0")


def calls(root: Path) -> list[str]:
    return (root / "calls").read_text().splitlines()


def vehins_box(root: Path, whole: Stack, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return on_it(root, whole.endpoint, str(root / "usr/local/sbin/vehins-box"), *words, code=code)


def test_a_deployment_comes_after_settings_and_tells_what_runs(whole: Stack, equipped: Path) -> None:
    image = "000000000000.dkr.ecr.eu-central-1.amazonaws.com/vehins@sha256:" + "a" * 64
    done = vehins_box(equipped, whole, "deploy", image, "3")
    assert calls(equipped) == [f"vehins-deploy {image} 3", "vehins-deploy settle"]
    assert json.loads(done.stdout) == STATUS  # and nothing else: it is what the command reads
    told = variables(equipped / "etc/vehins/box.env")
    assert told == {
        "VEHINS_BOX_REPOSITORY": whole.outputs["ImageRepository"],
        "VEHINS_BOX_LOG_GROUP": f"/{whole.name}/service",
        "VEHINS_BOX_LISTEN": ":80",
    }
    serve = equipped / "etc/vehins/serve.env"
    assert serve.stat().st_mode & 0o777 == 0o600
    served = variables(serve)
    assert served["VEHINS_REGISTRY"] == whole.outputs["Registry"]
    assert served["VEHINS_API_KEYS"] == whole.parameter("api-keys", WithDecryption=True)
    assert json.loads(whole.parameter("deployed")) == {
        name: STATUS["current"][name] for name in ("image", "version", "model_version", "since")
    }


def test_a_deployment_that_fails_says_so(whole: Stack, equipped: Path) -> None:
    (equipped / "code").write_text("8")
    vehins_box(equipped, whole, "deploy", "r/vehins:1", "3", code=8)


def test_a_box_that_cannot_ask_aws_touches_nothing(equipped: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    done = on_it(equipped, nobody, str(equipped / "usr/local/sbin/vehins-box"), "deploy", "r/vehins:1", "3", code=6)
    assert done.stderr.splitlines()[-1].startswith("Files and settings cannot be brought up to date: ")
    assert not (equipped / "calls").exists()


def test_files_that_came_are_told_of_though_that_run_failed(whole: Stack, equipped: Path) -> None:
    """The next run finds nothing new, and HAProxy has not read what is there."""
    reloads = ["systemctl daemon-reload", "systemctl reload docker", "systemctl reload haproxy"]
    (equipped / "var/lib/vehins/box-files").unlink()
    write_executable(equipped / "bin/systemctl", "#!/bin/sh\nkill -KILL $PPID\n")
    vehins_box(equipped, whole, "sync", code=-signal.SIGKILL)
    equip(equipped)  # what came is not for a machine without systemd
    vehins_box(equipped, whole, "sync")
    assert calls(equipped) == reloads
    vehins_box(equipped, whole, "sync")
    assert calls(equipped) == reloads


def test_going_back_and_asking(whole: Stack, equipped: Path) -> None:
    vehins_box(equipped, whole, "rollback", "none", "0")
    vehins_box(equipped, whole, "status", "none", "0")
    assert calls(equipped) == ["vehins-deploy rollback", "vehins-deploy settle", "vehins-deploy status"]


def test_a_new_machine_starts_with_what_ran_last(whole: Stack, equipped: Path) -> None:
    vehins_box(equipped, whole, "report")
    (equipped / "calls").unlink()
    vehins_box(equipped, whole, "start")
    assert calls(equipped) == [
        "systemctl daemon-reload",
        "systemctl restart docker haproxy",
        "systemctl enable --now vehins-report.timer",
        "vehins-deploy r/vehins@sha256:1 production",
        "vehins-deploy settle",
    ]


def test_the_metrics(whole: Stack, equipped: Path) -> None:
    for healthy in (True, False):
        (equipped / "status").write_text(json.dumps({**STATUS, "healthy": healthy}))
        vehins_box(equipped, whole, "report")
    listed = whole.client("cloudwatch").list_metrics(Namespace=whole.name)["Metrics"]
    assert {one["MetricName"] for one in listed} == {"Ready", "DiskUsed"}


def test_words_that_make_no_sense(whole: Stack, equipped: Path) -> None:
    for words in ((), ("deploy",), ("deploy", "image"), ("nonsense",), ("sync", "more")):
        assert "usage: vehins-box" in vehins_box(equipped, whole, *words, code=2).stderr
    assert not (equipped / "calls").exists()
