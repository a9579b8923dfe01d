"""Deployments: have the box serve an image and a model version, or go back; its own word counts for how it went."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vehins.cloud import stack as stacks
from vehins.errors import (
    ConfigurationError,
    DeploymentRefusedError,
    LockedError,
    NotFoundError,
    UnreachableError,
    UsageError,
    VehinsError,
)

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.stack import Stack
    from vehins.settings import CloudSettings

_ENDED = {"Success", "Failed", "TimedOut", "Cancelled", "DeliveryTimedOut", "ExecutionTimedOut", "Undeliverable"}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between two looks
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}|production")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OWN = "vehins-deploy: "
_ADDED = re.compile(r"failed to run commands: exit status \d+")


@dataclass(frozen=True)
class Answer:
    """What the script of the box has come to."""

    code: int
    out: str
    err: str


def over_ssm(account: Account, stack: Stack, action: str, image: str = "none", version: str = "0") -> Answer:
    """Send the document of the stack to its box, and wait for the answer.

    Raises:
        UnreachableError: the box is not connected, or the command did not come through or to an end in time.
    """
    client, box = account.client("ssm"), stack.output("InstanceId")
    given = {"Action": [action], "Image": [image], "Version": [version]}
    with account.asked("SSM", f"the box {box}"):
        try:
            sent = client.send_command(
                InstanceIds=[box], DocumentName=stack.output("DeployDocumentName"), Parameters=given
            )
        except client.exceptions.InvalidInstanceId:
            raise _absent(box) from None
        found = _when_ended(account, client, sent["Command"]["CommandId"], box)
    if found["Status"] not in {"Success", "Failed"} or found.get("ResponseCode", -1) < 0:
        said = found.get("StandardErrorContent", "").strip() or "no more"
        raise UnreachableError(
            "The box did not carry out the command",
            detail=f"Systems Manager says {found['Status']}: {said}.",
            hint="`vehins cloud status` shows whether it is connected.",
        )
    return Answer(int(found["ResponseCode"]), found["StandardOutputContent"], found["StandardErrorContent"])


def _when_ended(account: Account, client: Any, command: str, box: str) -> dict[str, Any]:
    deadline, pause = time.monotonic() + account.cloud.timeout, _FIRST_PAUSE
    while True:
        time.sleep(pause)  # for a moment, the command is not known yet
        try:
            found: dict[str, Any] = client.get_command_invocation(CommandId=command, InstanceId=box)
        except client.exceptions.InvocationDoesNotExist:
            found = {"Status": "Pending"}
        if found["Status"] in _ENDED:
            return found
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"The box has not answered within {account.cloud.timeout:,.0f} seconds",
                detail=f"The command {command} is {found['Status']}; it goes on by itself.",
                hint="`vehins cloud status` shows what came of it; `cloud.timeout` sets the patience.",
            )
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _absent(box: str) -> UnreachableError:
    return UnreachableError(
        "The box is not connected to Systems Manager",
        detail=f"{box} is starting, stopped, or without a way out to the internet.",
        hint="A new one takes some minutes; `vehins cloud status` shows it.",
    )


def here(cloud: CloudSettings, on_line: Callable[[str], None], *words: str) -> Answer:
    """Call the script on this machine; its progress goes to ``on_line`` as it comes.

    Raises:
        NotFoundError: there is no such script here.
    """
    command = [*shlex.split(cloud.deploy_command), *words]
    lines = []
    try:
        with (
            tempfile.TemporaryFile("w+") as out,
            subprocess.Popen(  # noqa: S603 - the setting says what is called, and no shell reads it
                command, stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
            ) as process,
        ):
            for line in process.stderr or ():
                lines.append(line)
                on_line(line.rstrip("\n"))
            code = process.wait()
            out.seek(0)
            return Answer(code, out.read(), "".join(lines))
    except OSError as error:
        raise NotFoundError(
            f"{command[0]} cannot be run here",
            detail=f"{error.strerror} (`cloud.deploy_command` is `{cloud.deploy_command}`).",
            hint="`--here` is for the box itself; without it the box is reached over Systems Manager.",
        ) from None


def outcome(answer: Answer, ask: Callable[[], Answer]) -> dict[str, Any]:
    """What the box says of itself once it serves what it should; ``ask`` asks for its status.

    Raises:
        DeploymentRefusedError: what was to run did not become ready; what ran before still serves.
        LockedError: another deployment is under way.
        UsageError: the box does not take such an image or version.
        ConfigurationError: a setting of the box is wrong; nothing was changed.
        UnreachableError: Docker is down, the service is down, or the box has said nothing that makes sense.
    """
    status = _status(answer.out)
    if answer.code == 0 and status:
        return status
    detail = _reason(answer.err).rstrip(".") + "."
    kind, headline, hint = _MEANING.get(answer.code, _CUT_SHORT if answer.code > 128 else _NONSENSE)
    if kind is DeploymentRefusedError:
        headline += "; " + _serving(ask)
    raise kind(headline, detail=detail, hint=hint)


def _reason(told: str) -> str:
    """What the script says last; below it may stand the log of a container, and what Systems Manager's agent adds."""
    lines = [line for line in told.splitlines() if line.strip() and not _ADDED.fullmatch(line)]
    own = [line for line in lines if line.startswith(_OWN)] or lines
    return own[-1].removeprefix(_OWN) if own else "It says no more"


def _status(text: str) -> dict[str, Any]:
    """The status as the script prints it; empty when it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_LOOK = "Look at the log of the box (`vehins cloud status` names its group), and deploy what mends it."
_CUT_SHORT: tuple[type[VehinsError], str, str] = (DeploymentRefusedError, "The deployment was cut short", "Try again.")
_NONSENSE: tuple[type[VehinsError], str, str] = (
    UnreachableError,
    "The box gave no answer that makes sense",
    "`vehins cloud status` shows what it is doing.",
)
# By the exit codes of vehins-deploy.
_MEANING: dict[int, tuple[type[VehinsError], str, str]] = {
    1: (DeploymentRefusedError, "The box did not take it", _LOOK),
    2: (
        UsageError,
        "The box does not take such an image or version",
        "`vehins cloud deploy --help` shows what it takes.",
    ),
    3: (
        ConfigurationError,
        "The box is not set up as it should be",
        "Mend that on the box (docs/cloud.md), and try again.",
    ),
    6: (UnreachableError, "What the box needs is out of reach; nothing was changed", "Try again."),
    7: (LockedError, "Another deployment is under way", "Wait for it: `vehins cloud status` shows what runs."),
    8: (
        UnreachableError,
        "The deployment failed, and the service is down",
        "Deploy what is known to work: `vehins cloud deploy VERSION --image TAG`.",
    ),
}


def _serving(ask: Callable[[], Answer]) -> str:
    """Who serves after a deployment that failed."""
    try:
        current = _status(ask().out).get("current") or {}
    except VehinsError as error:  # that it failed is known, and counts for more
        return f"what serves now cannot be asked: {error.headline}"
    if not current:
        return "nothing serves, as before"
    version = current.get("model_version") or current.get("version")
    return f"version {version} of {current.get('image')} serves as before"


def image_reference(account: Account, stack: Stack, given: str | None) -> str:
    """The image that is meant, by its digest: a tag, a digest, a whole reference, or what runs now.

    Raises:
        NotFoundError: the registry has no such image, or none runs yet.
        UsageError: it is no name of an image.
    """
    repository = stack.output("ImageRepository")
    if given is None:
        return _running(account, stack)
    name = given.removeprefix(repository).lstrip("@:")
    if not (_TAG.fullmatch(name) or _DIGEST.fullmatch(name)):
        raise UsageError(
            f"`{given}` is no image of this stack",
            detail=f"Its images are in {repository}.",
            hint="Name a tag or a digest (`sha256:...`) there: `--image TAG`.",
        )
    wanted = {"imageDigest": name} if _DIGEST.fullmatch(name) else {"imageTag": name}
    client = account.client("ecr")
    with account.asked("ECR", f"{repository}:{name}"):
        try:
            found = client.describe_images(repositoryName=account.stack, imageIds=[wanted])["imageDetails"]
        except client.exceptions.ImageNotFoundException:
            found = []
    if not found:
        hint = f"Push it first (`docker push {repository}:TAG`), or name one that is there."
        raise NotFoundError(f"There is no image {name}", detail=f"Looked for in {repository}.", hint=hint)
    return f"{repository}@{found[0]['imageDigest']}"


def check_version(version: str) -> None:
    """Raise `UsageError` for what is no version of a model."""
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"`{version}` is no version of a model",
            hint="Name a number (`vehins models list` shows them), or `production` to follow that alias.",
        )


def whole_reference(image: str) -> str:
    """The image as the box itself needs it.

    Raises:
        UsageError: it does not say where the image is, and the box may not look into the registry.
    """
    if "/" not in image:
        raise UsageError(
            f"`--image {image}` does not say where the image is",
            detail="With `--here`, the image is handed to the box as it is.",
            hint="Name it as `docker pull` does, best by digest: `--image REGISTRY/NAME@sha256:...`.",
        )
    return image


def running_here(cloud: CloudSettings) -> str:
    """The image that runs on this machine.

    Raises:
        NotFoundError: none does.
        UnreachableError: the script does not say what runs.
    """
    answer = here(cloud, lambda _: None, "status")
    found = _status(answer.out)
    if not found:
        kind, headline, hint = _NONSENSE
        raise kind(headline, detail=_reason(answer.err).rstrip(".") + ".", hint=hint)
    current = found.get("current") or {}
    if not current.get("image"):
        raise _none_runs()
    return str(current["image"])


def _none_runs() -> NotFoundError:
    return NotFoundError(
        "No image runs yet", detail="The box tells of none.", hint="Name the first one: `--image IMAGE`."
    )


def _running(account: Account, stack: Stack) -> str:
    """The image that the box says it runs, as its parameter may be a minute behind; a new one, what ran before it."""
    found = _status(over_ssm(account, stack, "status").out).get("current") or deployed(account)
    if not found.get("image"):
        raise _none_runs()
    return str(found["image"])


def deployed(account: Account) -> dict[str, Any]:
    """What runs, as the box has said; empty when it has not said anything yet."""
    name, client = f"/{account.stack}/deployed", account.client("ssm")
    with account.asked("SSM", f"the parameter {name}"):
        try:
            value = client.get_parameter(Name=name)["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return {}
    return {} if value == "none" else dict(json.loads(value))


def box_of(account: Account) -> Stack:
    """The stack, which has a box."""
    found = stacks.existing(account)
    if not found.has_box:
        raise NotFoundError(
            "The stack has no box yet",
            detail=f"{account.stack} was made without one.",
            hint="Make it: `vehins cloud up --set cloud.box=true --set cloud.allowed_cidr=RANGE`.",
        )
    return found
