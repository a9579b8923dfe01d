"""`vehins cloud deploy` and `rollback`: what they send, how long they wait, and how they end.

With `--here` the real `vehins-deploy` is called for what it refuses by itself, and else a script of the test's, which
writes down its arguments and ends as it is told; on a Docker daemon the real one has tests of its own. Over Systems
Manager, the template's own document is checked and run by a double (ssm_double.py): proven are the call, what the
document makes of it, the polling and the outcome; not proven is AWS's delivery to a machine.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ssm_double import Machine, serve
from stack_words import REGION, parsed, write_executable

from vehins.cloud import box
from vehins.cloud.box.deploy.errors import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_words import Stack
    from vehins_runner import Answer, Vehins

IMAGE = "r.example/vehins@sha256:" + "b" * 64
CURRENT = {"image": IMAGE, "version": "production", "model_version": 4}
SERVING = {"healthy": True, "current": CURRENT, "previous": None}


@dataclass
class Script:
    """A script that stands for the box's own."""

    folder: Path

    def ends(self, code: int, err: str = "", status: Any = SERVING, after: Any = SERVING) -> None:
        """From now on: exit code, stderr and stdout of a deployment, and what `status` prints."""
        for name, text in {"code": str(code), "err": err, "out": _text(status), "after": _text(after)}.items():
            (self.folder / name).write_text(text)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture
def script(tmp_path_factory: pytest.TempPathFactory) -> Script:
    folder = tmp_path_factory.mktemp("box")
    text = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> calls
case "$1" in status) cat after; exit 0;; esac
cat err >&2
cat out
exit "$(cat code)"
"""
    write_executable(folder / "vehins-deploy", text)
    # The document calls vehins-box with an action and two values; what that does is tested in test_box.py.
    write_executable(folder / "vehins-box", '#!/bin/sh\nexec "$(dirname "$0")/vehins-deploy" "$@"\n')
    found = Script(folder)
    found.ends(0)
    return found


# --- Here -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(script: Script, vehins: Vehins) -> Any:
    """`vehins cloud WORDS --here` with that script; there is no AWS."""

    def call(*words: str, code: int = 0) -> Answer:
        command = f"cloud.deploy_command={script.folder / 'vehins-deploy'}"
        return vehins("cloud", *words, "--here", "--set", command, code=code)

    return call


def test_the_script_gets_image_and_version(here: Any, script: Script) -> None:
    script.ends(0, err="vehins-deploy: pulling\nvehins-deploy: done\n")
    answer = here("deploy", "4", "--image", IMAGE)
    assert script.calls == [f"{IMAGE} 4"]
    assert "vehins-deploy: pulling\nvehins-deploy: done\n" in answer.err
    assert f"Version 4 of {IMAGE} answers" in answer.err
    assert here("deploy", "production", "--image", IMAGE, "--json").json == SERVING
    assert script.calls[-1] == f"{IMAGE} production"


def test_by_default_the_image_stays(here: Any, script: Script) -> None:
    here("deploy", "5")
    assert script.calls == ["status", f"{IMAGE} 5"]
    script.ends(0, after={"healthy": False, "current": None})
    assert here("deploy", "5", "--json", code=6).error["headline"] == "No image runs yet"


def test_a_script_that_may_not_run_is_no_box_without_an_image(vehins: Vehins) -> None:
    """As sudo without a right says nothing on stdout."""
    command = ("--set", "cloud.deploy_command=sh -c 'echo sudo: a password is required >&2; exit 1'")
    error = vehins("cloud", "deploy", "5", "--here", "--json", *command, code=6).error
    assert error["headline"] == "The box gave no answer that makes sense"
    assert error["detail"] == "sudo: a password is required."


def test_going_back(here: Any, script: Script) -> None:
    assert here("rollback", "--json").json == SERVING
    assert script.calls == ["rollback"]


@pytest.mark.parametrize(
    ("ended", "code", "headline"),
    [
        (1, 5, f"The box did not take it; version 4 of {IMAGE} serves as before"),
        (2, 2, "The box does not take such an image or version"),
        (3, 3, "The box is not set up as it should be"),
        (6, 6, "What the box needs is out of reach; nothing was changed"),
        (7, 7, "Another deployment is under way"),
        (8, 6, "The deployment failed, and the service is down"),
        (143, 5, f"The deployment was cut short; version 4 of {IMAGE} serves as before"),
        (99, 6, "The box gave no answer that makes sense"),
    ],
)
def test_how_it_ends(here: Any, script: Script, ended: int, code: int, headline: str) -> None:
    script.ends(ended, err="vehins-deploy: pulling\nvehins-deploy: /readyz answers 503\n", status="")
    error = here("deploy", "4", "--image", IMAGE, "--json", code=code).error
    assert (error["headline"], error["detail"]) == (headline, "/readyz answers 503.")
    assert error["hint"]


def test_what_serves_is_not_known_then(here: Any, script: Script) -> None:
    """The script goes away after it has failed."""
    script.ends(1, err="vehins-deploy: /readyz answers 503\n", status="")
    path = script.folder / "vehins-deploy"
    path.write_text(path.read_text().replace("cat out", "rm vehins-deploy"))
    error = here("deploy", "4", "--image", IMAGE, "--json", code=5).error
    assert error["headline"].startswith("The box did not take it; what serves now cannot be asked: ")
    assert error["detail"] == "/readyz answers 503."


def test_a_first_deployment_that_fails_leaves_nothing(here: Any, script: Script) -> None:
    script.ends(1, status="", after={"healthy": False, "current": None})
    error = here("deploy", "4", "--image", IMAGE, "--json", code=5).error
    assert error["headline"] == "The box did not take it; nothing serves, as before"


@pytest.mark.parametrize("out", ["", "done", "[]", "{}"])
def test_success_without_an_outcome_is_none(here: Any, script: Script, out: str) -> None:
    script.ends(0, status=out)
    error = here("deploy", "4", "--image", IMAGE, "--json", code=6).error
    assert error["headline"] == "The box gave no answer that makes sense"


def test_what_makes_no_sense_reaches_no_script(here: Any, script: Script) -> None:
    for version in ("0", "four", "1.5", "1; id"):
        assert "is no version of a model" in here("deploy", version, "--image", IMAGE, code=2).err
    assert "does not say where the image is" in here("deploy", "4", "--image", "1.0", code=2).err
    assert script.calls == []


def test_elsewhere_there_is_no_script(vehins: Vehins) -> None:
    missing = ("--set", "cloud.deploy_command=/no/such/vehins-deploy")
    error = vehins("cloud", "rollback", "--here", "--json", *missing, code=6).error
    assert error["headline"] == "/no/such/vehins-deploy cannot be run here"
    assert "--here" in error["hint"]


def test_the_real_script_takes_the_same_words(vehins: Vehins, tmp_path: Path) -> None:
    """What it refuses without a daemon: a setting that is wrong, and an image of another registry."""
    real, settings = tmp_path / "vehins-deploy", tmp_path / "box.env"
    real.write_bytes(box.command())
    settings.write_text(f"VEHINS_BOX_STATE={tmp_path / 'state'}\nVEHINS_BOX_REPOSITORY=ours.example/vehins\n")
    words = ("--set", f"cloud.deploy_command=env VEHINS_BOX_FILE={settings} {sys.executable} {real}", "--json")
    error = vehins("cloud", "deploy", "4", "--image", IMAGE, "--here", *words, code=2).error
    assert error["headline"] == "The box does not take such an image or version"
    assert "ours.example/vehins" in error["detail"]
    settings.write_text(f"VEHINS_BOX_STATE={tmp_path / 'state'}\nVEHINS_BOX_BLUE_PORT=many\n")
    error = vehins("cloud", "deploy", "4", "--image", IMAGE, "--here", *words, code=3).error
    assert "VEHINS_BOX_BLUE_PORT" in error["detail"]


# --- Over Systems Manager ---------------------------------------------------------------------------------------------


@pytest.fixture
def machine(whole: Stack, script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    content = parsed()["Resources"]["DeployDocument"]["Properties"]["Content"]
    pattern = content["parameters"]["Image"]["allowedPattern"]["Fn::Sub"][0]
    values = {"Account": "000000000000", "AWS::Region": REGION, "AWS::URLSuffix": "amazonaws.com"}
    for name, value in {**values, "AWS::StackName": whole.name}.items():
        pattern = pattern.replace(f"${{{name}}}", value)
    content["parameters"]["Image"]["allowedPattern"] = pattern
    outputs = whole.outputs
    found = Machine(outputs["InstanceId"], outputs["DeployDocumentName"], content, str(script.folder))
    server = serve(found)
    monkeypatch.setenv("AWS_ENDPOINT_URL", whole.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{server.server_port}")
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def pushed(whole: Stack) -> str:
    """The digest of an image that has the tag 1.0 in the registry of the stack."""
    ecr = whole.client("ecr")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:" + "c" * 64}, "layers": []}
    )
    if not ecr.list_images(repositoryName=whole.name)["imageIds"]:
        ecr.put_image(repositoryName=whole.name, imageManifest=manifest, imageManifestMediaType=kind, imageTag="1.0")
    return str(ecr.describe_images(repositoryName=whole.name)["imageDetails"][0]["imageDigest"])


def remote(whole: Stack) -> list[str]:
    """The words of the stack without its endpoint, which would stand before those of single services."""
    return [*whole.words_without("endpoint_url"), "--set", "s3.path_style=true"]


def test_a_tag_is_sent_as_what_it_means(
    whole: Stack, machine: Machine, script: Script, pushed: str, vehins: Vehins
) -> None:
    meant = f"{whole.outputs['ImageRepository']}@{pushed}"
    for image in ("1.0", pushed, meant, f"{whole.outputs['ImageRepository']}:1.0"):
        found = vehins("cloud", "deploy", "4", "--image", image, "--json", *remote(whole)).json
        assert found == SERVING
    assert machine.sent == [{"Action": "deploy", "Image": meant, "Version": "4"}] * 4
    assert script.calls == [f"deploy {meant} 4"] * 4


def test_without_an_image_the_box_says_which_one_runs(
    whole: Stack, machine: Machine, script: Script, vehins: Vehins
) -> None:
    """What it has told in the parameter may be a minute old; a new one runs none, and gets what ran before it."""
    ours = whole.outputs["ImageRepository"]
    before, now = (f"{ours}@sha256:{letter * 64}" for letter in "ab")
    machine.deployed = json.dumps({"image": before, "version": "production"})
    script.ends(0, after={**SERVING, "current": {**CURRENT, "image": now}})
    vehins("cloud", "deploy", "production", *remote(whole))
    script.ends(0, after={"healthy": False, "current": None})
    vehins("cloud", "deploy", "production", *remote(whole))
    assert script.calls == [
        "status none 0",
        f"deploy {now} production",
        "status none 0",
        f"deploy {before} production",
    ]
    machine.deployed = "none"
    error = vehins("cloud", "deploy", "production", "--json", *remote(whole), code=6).error
    assert error["headline"] == "No image runs yet"


def test_going_back_over_systems_manager(whole: Stack, machine: Machine, script: Script, vehins: Vehins) -> None:
    assert f"Version 4 of {IMAGE} answers" in vehins("cloud", "rollback", *remote(whole)).err
    assert script.calls == ["rollback none 0"]


def test_a_box_that_went_back_is_told_of(
    whole: Stack, machine: Machine, script: Script, pushed: str, vehins: Vehins
) -> None:
    script.ends(1, err="vehins-deploy: pulling\nvehins-deploy: /readyz answers 503\n", status="")
    words = ("deploy", "production", "--image", "1.0", "--json")
    error = vehins("cloud", *words, *remote(whole), code=5).error
    assert error["headline"] == f"The box did not take it; version 4 of {IMAGE} serves as before"
    assert error["detail"] == "/readyz answers 503."
    assert [sent["Action"] for sent in machine.sent] == ["deploy", "status"]


def test_the_reason_is_what_the_script_says_and_not_the_log_below_it(
    whole: Stack, machine: Machine, script: Script, vehins: Vehins
) -> None:
    log = '{"level": "error", "text": "No such bucket"}\n'
    script.ends(
        1, err=f"vehins-deploy: going back\nvehins-deploy: The container ended with exit code 6.\n{log}", status=""
    )
    error = vehins("cloud", "rollback", "--json", *remote(whole), code=5).error
    assert error["detail"] == "The container ended with exit code 6."
    script.ends(127, err="sh: 1: exec: /usr/local/sbin/vehins-box: not found\n", status="")
    error = vehins("cloud", "rollback", "--json", *remote(whole), code=6).error
    assert error["detail"] == "sh: 1: exec: /usr/local/sbin/vehins-box: not found."
    script.ends(1, status="")
    assert vehins("cloud", "rollback", "--json", *remote(whole), code=5).error["detail"] == "It says no more."


def test_an_image_that_is_not_there_is_not_sent(whole: Stack, machine: Machine, pushed: str, vehins: Vehins) -> None:
    for image, code, headline in (
        ("2.0", 6, "There is no image 2.0"),
        ("sha256:" + "d" * 64, 6, "There is no image sha256:" + "d" * 64),
        ("docker.io/library/busybox:1", 2, "`docker.io/library/busybox:1` is no image of this stack"),
        ("1.0'; id", 2, "`1.0'; id` is no image of this stack"),
    ):
        error = vehins("cloud", "deploy", "4", "--image", image, "--json", *remote(whole), code=code).error
        assert error["headline"] == headline
    assert machine.sent == []


def test_a_box_that_is_not_connected(whole: Stack, machine: Machine, pushed: str, vehins: Vehins) -> None:
    machine.connected = False
    error = vehins("cloud", "rollback", "--json", *remote(whole), code=6).error
    assert error["headline"] == "The box is not connected to Systems Manager"


def test_patience_ends(whole: Stack, machine: Machine, vehins: Vehins) -> None:
    machine.hangs = True
    words = [*remote(whole), "--set", "cloud.timeout=1"]
    error = vehins("cloud", "rollback", "--json", *words, code=6).error
    assert error["headline"] == "The box has not answered within 1 seconds"
    assert "is InProgress" in error["detail"]


def test_ctrl_c_ends_the_waiting_alone(whole: Stack, machine: Machine, place: Path) -> None:
    machine.hangs = True
    command = [sys.executable, "-m", "vehins", "cloud", "rollback", *remote(whole)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert until(lambda: bool(machine.sent), 60)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "What has begun in AWS goes on: `vehins cloud status` shows what came of it" in said


def test_without_a_box_nothing_is_sent(foundation: Stack, vehins: Vehins) -> None:
    error = vehins("cloud", "rollback", "--json", *foundation.words, code=6).error
    assert error["headline"] == "The stack has no box yet"
    assert "vehins cloud up" in error["hint"]
