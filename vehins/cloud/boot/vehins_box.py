#!/usr/bin/python3 -I
"""vehins-box: keep this machine as its stack says, and let it deploy.

usage: vehins-box start                    once, at the first start: everything below
       vehins-box deploy IMAGE VERSION     bring files and settings up to date, then vehins-deploy IMAGE VERSION
       vehins-box rollback [ANY...]        the same, then vehins-deploy rollback
       vehins-box status [ANY...]          vehins-deploy status
       vehins-box sync                     bring files and settings up to date
       vehins-box report                   mend what a killed deployment has left, and tell CloudWatch and the
                                           parameter `deployed` what runs; a timer calls it

Files come from the bucket of the stack (vehins-fetch), settings from its parameters. Runs as root on Ubuntu 24.04 with
python3-boto3; VEHINS_BOX_ROOT names another root, for tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("VEHINS_BOX_ROOT", "/"))
DEPLOY = str(ROOT / "usr/local/bin/vehins-deploy")
STATE = ROOT / "var/lib/vehins"
RUNNER_USER, RUNNER_HOME = "vehins-runner", ROOT / "opt/vehins-runner"
JOB_HOOK = ROOT / "usr/local/lib/vehins/job-started.sh"
RUNNER_LATEST = "https://api.github.com/repos/actions/runner/releases/latest"
RUNNER_DOWNLOADS = "https://github.com/actions/runner/releases/download"
# Version and SHA-256, where GitHub does not tell of the newest one.
RUNNER_KNOWN = ("2.338.0", "af4b794c1bc41d73d40535e3fe092a39f9679cd8d965954c2aca25a05ca41d32")


def main(words: list[str]) -> int:
    """The command; returns its exit code."""
    os.environ.setdefault("HOME", "/root")  # cloud-init sets none, and the docker command has its settings there
    known = {"start": start, "sync": sync, "report": report}
    if len(words) == 1 and words[0] in known:
        known[words[0]]()
        return 0
    if words[:1] == ["rollback"] or (words[:1] == ["deploy"] and len(words) == 3):
        try:
            sync()
        except Exception as error:  # of AWS, mostly; nothing that runs has been touched
            sys.stderr.write(f"Files and settings cannot be brought up to date: {error}\n")
            return 6
        return deploy("rollback") if words[0] == "rollback" else deploy(*words[1:])
    if words[:1] == ["status"]:
        return subprocess.run([DEPLOY, "status"], check=False).returncode
    sys.stderr.write(__doc__ or "")
    return 2


def stack() -> dict[str, Any]:
    """What user data has written down of the stack."""
    found: dict[str, Any] = json.loads((ROOT / "etc/vehins/stack.json").read_text())
    return found


def client(service: str) -> Any:
    """A client of a service in the region of the stack."""
    import boto3

    return boto3.client(service, region_name=stack()["region"])


def parameters() -> dict[str, str]:
    """The parameters of the stack by the last part of their names, with secrets in the clear."""
    path = f"/{stack()['stack']}"
    pages = client("ssm").get_paginator("get_parameters_by_path").paginate(Path=path, WithDecryption=True)
    return {one["Name"].rpartition("/")[2]: one["Value"] for page in pages for one in page["Parameters"]}


def run(*words: str) -> None:
    """Call a program, which must succeed; stdout is for vehins-deploy alone."""
    subprocess.run(words, check=True, stdout=sys.stderr)


# --- Files and settings -----------------------------------------------------------------------------------------------


@contextmanager
def alone() -> Iterator[None]:
    """Wait for who brings this machine up to date already."""
    with (STATE / "sync.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start() -> None:
    """Set the machine up, and let it serve what the stack served last."""
    with alone():
        found = parameters()
        write_settings(found)
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "docker", "haproxy")
        run("systemctl", "enable", "--now", "vehins-report.timer")
        deployed = json.loads(found["deployed"]) if found.get("deployed", "none") != "none" else None
        if deployed:
            deploy(deployed["image"], str(deployed["version"]))
        register_runner(found)


def sync() -> None:
    """Bring files and settings up to date."""
    fetch, under_way = str(ROOT / "usr/local/sbin/vehins-fetch"), STATE / "sync.begun"
    with alone():
        untold = under_way.exists()  # files may have come that HAProxy and Docker were not told of: that run failed
        under_way.touch()
        fetched = subprocess.run([fetch], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        found = parameters()
        write_settings(found)
        if untold or fetched == "changed":
            run("systemctl", "daemon-reload")
            run("systemctl", "reload", "docker")
            run("systemctl", "reload", "haproxy")
        under_way.unlink()
        register_runner(found)


def write_settings(found: Mapping[str, str]) -> None:
    """Write what vehins-deploy, HAProxy, the service and Docker are told."""
    told = stack()
    box = {
        "VEHINS_BOX_REPOSITORY": told["images"],
        "VEHINS_BOX_LOG_GROUP": told["log_group"],
        "VEHINS_BOX_LISTEN": f":{told['port']}",
    }
    serve = {
        "VEHINS_REGISTRY": found["registry"],
        "VEHINS_MODEL_NAME": found["model-name"],
        "VEHINS_API_KEYS": found["api-keys"],
        "VEHINS_SERVE_TRUSTED_PROXIES": "127.0.0.0/8,172.16.0.0/12",  # HAProxy, over the bridge of Docker
        "VEHINS_S3_REGION": told["region"],
        "AWS_REGION": told["region"],
    }
    helpers = {"credHelpers": {told["images"].partition("/")[0]: "ecr-login"}}
    write(ROOT / "etc/vehins/box.env", lines(box), 0o644)
    write(ROOT / "etc/vehins/serve.env", lines(serve), 0o600)
    write(ROOT / "root/.docker/config.json", json.dumps(helpers), 0o600)


def lines(variables: Mapping[str, str]) -> str:
    """Variables as a file of systemd and Docker has them."""
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def write(path: Path, text: str, mode: int) -> None:
    """Write a file at once, readable for whom it is meant from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    new.replace(path)


# --- Deployments ------------------------------------------------------------------------------------------------------


def deploy(*words: str) -> int:
    """Call vehins-deploy and tell what runs then; returns its exit code, and lets its output be ours."""
    code = subprocess.run([DEPLOY, *words], check=False).returncode
    try:
        report()
    except Exception as error:  # the deployment is what counts; the timer tells in a minute
        sys.stderr.write(f"Not reported: {error}\n")
    return code if code >= 0 else 128 - code


def report() -> None:
    """Tell whether the service answers, how full the disk is, and what runs, once a killed deployment is mended."""
    said = subprocess.run([DEPLOY, "settle"], check=False, stdout=subprocess.PIPE, text=True).stdout
    status = json.loads(said) if said.strip() else {}
    usage = shutil.disk_usage(ROOT)
    data = [
        {"MetricName": "Ready", "Value": 1.0 if status.get("healthy") else 0.0, "Unit": "Count"},
        {"MetricName": "DiskUsed", "Value": 100.0 * (1 - usage.free / usage.total), "Unit": "Percent"},
    ]
    client("cloudwatch").put_metric_data(Namespace=stack()["stack"], MetricData=data)
    if status.get("current"):
        tell_what_runs(status["current"])


def tell_what_runs(current: Mapping[str, Any]) -> None:
    """Write what runs into the parameter `deployed`, where it is not what was written last."""
    kept = {name: current[name] for name in ("image", "version", "model_version", "since") if name in current}
    text, mark = json.dumps(kept, sort_keys=True), STATE / "reported"
    if not mark.exists() or mark.read_text() != text:
        client("ssm").put_parameter(Name=f"/{stack()['stack']}/deployed", Value=text, Overwrite=True)
        write(mark, text, 0o644)


# --- The runner of GitHub Actions -------------------------------------------------------------------------------------


def register_runner(found: Mapping[str, str]) -> None:
    """Install, register and start the runner, once; with no token, or one that has ended, the machine serves too.

    The runner's user is in no group of Docker's, may do one thing as root (sudoers), and cannot ask for the role of the
    machine (vehins-fence).
    """
    told, token = stack(), found.get("runner-token")
    is_registered, is_service = ((RUNNER_HOME / name).exists() for name in (".runner", ".service"))
    if not told["repository"] or (is_registered and is_service) or not (is_registered or token):
        return
    try:
        if not is_registered:
            remove_runner()
            install_runner()
            configure_runner(told, str(token))
        start_runner()
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        sys.stderr.write(f"The runner was not registered: {error}\nPut a new token, and deploy again.\n")


def remove_runner() -> None:
    """Remove what GitHub has forgotten, or what was cut short: nothing of it fits to another registration.

    There are a service that may run, a copy of the settings (.runner_migrated) by which config.sh takes it for
    registered, and, where the runner has brought itself up to date, links to another release.
    """
    if (RUNNER_HOME / ".service").exists() and (RUNNER_HOME / "svc.sh").exists():
        subprocess.run(["./svc.sh", "uninstall"], check=True, cwd=RUNNER_HOME, stdout=sys.stderr)
    if RUNNER_HOME.exists():
        shutil.rmtree(RUNNER_HOME)


def install_runner() -> None:
    """Make the user and unpack the runner."""
    try:
        pwd.getpwnam(RUNNER_USER)
    except KeyError:
        run("useradd", "--system", "--create-home", "--shell", "/usr/sbin/nologin", RUNNER_USER)
    RUNNER_HOME.mkdir(parents=True, exist_ok=True)
    archive, (version, digest) = STATE / "runner.tar.gz", newest_runner()
    url = f"{RUNNER_DOWNLOADS}/v{version}/actions-runner-linux-x64-{version}.tar.gz"
    with urllib.request.urlopen(url, timeout=300) as answer, archive.open("wb") as file:  # noqa: S310 - as it begins
        shutil.copyfileobj(answer, file)
    check_download(archive, digest)
    with tarfile.open(archive) as files:
        files.extractall(RUNNER_HOME, filter="data")
    archive.unlink()
    run("chown", "-R", f"{RUNNER_USER}:", str(RUNNER_HOME))
    run(str(RUNNER_HOME / "bin/installdependencies.sh"))


def newest_runner() -> tuple[str, str]:
    """Version and SHA-256 of the newest release: GitHub gives no job to a runner that is more than a month behind."""
    try:
        with urllib.request.urlopen(RUNNER_LATEST, timeout=30) as answer:
            assets = json.load(answer)["assets"]
        for asset in assets:
            name = re.fullmatch(r"actions-runner-linux-x64-(\d+\.\d+\.\d+)\.tar\.gz", asset["name"])
            digest = re.fullmatch(r"sha256:([0-9a-f]{64})", asset.get("digest") or "")
            if name and digest:
                return name[1], digest[1]
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        sys.stderr.write(f"GitHub does not tell of its newest runner: {error}\n")
    return RUNNER_KNOWN


def check_download(path: Path, wanted: str) -> None:
    """Raise ValueError for a file with another SHA-256 than the one that is wanted."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise ValueError(f"{path.name} has the SHA-256 {found}, and {wanted} was expected")


def configure_runner(told: Mapping[str, Any], token: str) -> None:
    """Register it, behind the fence; the token goes by the environment, which other users cannot see."""
    run("systemctl", "enable", "--now", "vehins-fence")
    repository = re.sub(r"@\d+", "", told["repository"])  # ids are for the tokens of its jobs
    words = ["--unattended", "--replace", "--url", f"https://github.com/{repository}"]
    words += ["--name", told["stack"], "--labels", f"vehins,{told['environment']}"]
    command = ["runuser", "-u", RUNNER_USER, "--", str(RUNNER_HOME / "config.sh"), *words]
    variables = {**os.environ, "HOME": str(RUNNER_HOME), "ACTIONS_RUNNER_INPUT_TOKEN": token}
    subprocess.run(command, check=True, cwd=RUNNER_HOME, env=variables, stdout=sys.stderr)


def start_runner() -> None:
    """Let systemd run it, with the hook that looks at each job first; a service that was cut short goes."""
    write(RUNNER_HOME / ".env", lines({"ACTIONS_RUNNER_HOOK_JOB_STARTED": str(JOB_HOOK)}), 0o644)
    for step in (["uninstall"], ["install", RUNNER_USER], ["start"]):
        subprocess.run(["./svc.sh", *step], check=True, cwd=RUNNER_HOME, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
