"""Deployments on a real Docker daemon behind a real HAProxy, under a client that must not see one of its requests fail.

The image is a stand-in that starts quickly; tests/delivery/test_image.py does it once with the real one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from box_machine import KEYS, Box, serves, small_disk
from docker_daemon import CLIENT
from server_process import free_port, program, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(900)  # the first waits for a Debian to be made

SLOW = bool(os.environ.get("VEHINS_TEST_SLOW"))
KILLS = 40 if SLOW else 5
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def test_an_empty_box(fresh: Box) -> None:
    found = fresh("status", code=1).status
    assert (found["healthy"], found["current"], found["last"]) == (False, None, None)
    assert "nothing ran before" in fresh("rollback", code=1).err
    assert "Not ready" not in fresh("standin:dies", "1", code=1).err
    assert fresh.containers() == []


def test_a_new_version_takes_over(box: Box) -> None:
    with box.never_failing("a good image") as told:
        found = box("standin:next", "2").status
    assert serves(box, 2)
    assert (found["previous"]["version"], found["last"]["outcome"]) == ("1", "done")
    assert list(told.versions) == ["1", "2"]


def test_a_container_has_no_rights_to_speak_of(box: Box) -> None:
    found = box.inspect(box.containers()[0])
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (512 * 2**20, 512 * 2**20, 256)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}
    assert {it["HostIp"] for ports in host["PortBindings"].values() for it in ports} == {"127.0.0.1"}
    assert found["Config"]["User"] == "10001:10001"


def test_no_key_is_on_a_command_line(box: Box, tmp_path: Path) -> None:
    """Everybody on a machine can read those."""
    docker, told = tmp_path / "docker", tmp_path / "told"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {told}\nexec {box.settings["VEHINS_BOX_DOCKER"]} "$@"\n')
    docker.chmod(0o755)
    box.write_settings(DOCKER=str(docker))
    box("standin:next", "2")
    lines = told.read_text()
    assert f"--env-file {box.serve_env}" in lines
    assert not any(key in lines for key in KEYS.split(","))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("standin:never", "Not ready within 3 s: /readyz "),  # answers 503, or not at all on a slow machine
        ("standin:dies", "The container ended with exit code 1."),
        ("standin:wrong", "/readyz answers with version 99, not 2."),
        ("127.0.0.1:9/standin:absent", "docker pull: "),
    ],
)
def test_what_does_not_come_up_is_taken_away(box: Box, image: str, reason: str) -> None:
    box.write_settings(READY_SECONDS="3" if image == "standin:never" else "60")
    with box.never_failing(image) as told:
        failed = box(image, "2", code=1)
    assert reason in failed.err
    assert not any(key in failed.err for key in KEYS.split(","))
    assert ("no model can be loaded with the key ***" in failed.err) == (image == "standin:dies")
    assert len(failed.err) < 5000
    last = box.status()["last"]
    assert (last["outcome"], last["image"]) == ("failed", image)
    assert serves(box, 1)
    assert list(told.versions) == ["1"]


def test_back_to_what_ran_before(box: Box) -> None:
    box("standin:next", "2")
    with box.never_failing("rollback") as told:
        assert box("rollback").status["current"]["image"] == "standin:good"
    assert serves(box, 1)
    assert list(told.versions) == ["2", "1"]
    box("rollback")
    assert serves(box, 2)


def test_the_same_again_keeps_what_to_go_back_to(box: Box) -> None:
    box("standin:next", "2")
    box.serve_env.write_text(f"VEHINS_API_KEYS={KEYS}\nVEHINS_SERVE_RATE_LIMIT=5\n")  # keys are changed this way
    try:
        found = box("standin:next", "2").status
    finally:
        box.serve_env.write_text(f"VEHINS_API_KEYS={KEYS}\n")
    assert found["previous"]["version"] == "1"
    assert "VEHINS_SERVE_RATE_LIMIT=5" in box.inspect(found["current"]["container"])["Config"]["Env"]


def test_to_follow_the_alias(box: Box) -> None:
    found = box("standin:good", "production").status
    assert found["current"]["model_version"] == 7
    assert "VEHINS_SERVE_VERSION" not in str(box.inspect(found["current"]["container"])["Config"]["Env"])


def pending(box: Box) -> str | None:
    """The version of the deployment under way."""
    return (box.state()["pending"] or {}).get("version")


def test_two_at_once(box: Box) -> None:
    with box.never_failing("two at once"):
        first = box.begin("standin:next", "2")
        wait_until(lambda: pending(box) == "2")
        first.send_signal(signal.SIGSTOP)  # else it may have ended before the second has begun
        second = box("standin:good", "3", code=7)
        first.send_signal(signal.SIGCONT)
        box.finish(first)
    assert "standin:next 2, process " in second.err
    assert serves(box, 2)
    box.write_settings(LOCK_SECONDS="60")
    with box.never_failing("two at once, the second waits"):
        both = [box.begin("standin:good", version) for version in ("3", "4")]
        for process in both:
            box.finish(process)
    found = box.status()
    assert {found["current"]["version"], found["previous"]["version"]} == {"3", "4"}
    assert serves(box, int(found["current"]["version"]))


@pytest.mark.parametrize("number", SIGNALS if SLOW else SIGNALS[:1])
def test_told_to_end_it_goes_back(box: Box, number: signal.Signals) -> None:
    with box.never_failing(f"ended by {number.name}"):
        process = box.begin("standin:never", "2")
        wait_until(lambda: len(box.containers()) == 2)
        process.send_signal(number)
        box.finish(process, 128 + number)
    assert box.status()["last"]["reason"] == f"ended by {number.name}"
    assert serves(box, 1)


def test_told_to_end_when_the_new_one_serves_it_takes_the_old_one_away(box: Box) -> None:
    with box.never_failing("ended too late"):
        process = box.begin("standin:next", "2")
        wait_until(lambda: box.state()["current"]["version"] == "2")
        process.send_signal(signal.SIGTERM)
        box.finish(process)
    assert serves(box, 2)


def test_killed_at_any_moment(box: Box) -> None:
    """The service answers all the while, and the next run mends what the killed one has left."""
    chance = random.Random(4)
    moments = [chance.uniform(0.05, 2.6) for _ in range(KILLS)]
    interrupted = 0
    with box.never_failing(f"{KILLS} kills"):
        for number, moment in enumerate(moments, 2):
            process = box.begin("standin:next", str(number))
            if number % 2:  # on a slow machine, all moments may lie before it has begun
                wait_until(lambda process=process, it=str(number): process.poll() is not None or pending(box) == it)
            time.sleep(moment / 6 if number % 2 else moment)
            process.kill()
            process.communicate()
            assert box.status()["healthy"]
            interrupted += pending(box) == str(number)
    print(f", {interrupted} in the middle", end="")
    assert interrupted
    with box.never_failing("the run after the kills"):
        box("standin:good", "99")
    assert serves(box, 99)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_daemon_restarts_in_the_middle(box: Box, number: signal.Signals) -> None:
    with box.never_failing(f"the daemon gets {number.name}"):
        process = box.begin("standin:next", "2")
        wait_until(lambda: len(box.containers()) == 2)
        box.docker.stop(number)
        time.sleep(0.5)
        box.docker.start()
        process.communicate()
        if process.returncode == 1:  # it ended just as the container was to start: so the box went back
            assert serves(box, 1)
            box("standin:next", "2")
    assert process.returncode in {0, 1}
    assert serves(box, 2)


def test_a_port_that_a_killed_daemon_keeps(box: Box) -> None:
    """Docker gives it to nobody, and no container has it."""
    if not lost_port(box, box.settings[f"VEHINS_BOX_{box.free_slot.upper()}_PORT"]):
        pytest.skip("this Docker loses no port when it is killed")
    with box.never_failing("a port that a killed daemon keeps"):
        done = box("standin:next", "2")
    assert "for a container that is gone: its daemon is restarted" in done.err
    assert serves(box, 2)


def lost_port(box: Box, port: str) -> bool:
    """Kill the daemon while it starts a container, until a port is lost over it."""
    for attempt in range(24):
        name = f"killed-{attempt}"
        box.docker("create", "--name", name, "--publish", f"127.0.0.1:{port}:8000", "standin:good")
        with subprocess.Popen([CLIENT, "-H", box.docker.socket, "start", name], stderr=subprocess.DEVNULL) as starting:
            time.sleep(0.05 + 0.05 * (attempt % 12))
            box.docker.stop(signal.SIGKILL)
            starting.wait(60)
        box.docker.start()
        told = box.docker("start", name, check=False)
        box.docker("rm", "--force", name)
        if "port is already allocated" in told:
            return True
    return False


def test_no_daemon(box: Box) -> None:
    box.write_settings(DAEMON_SECONDS="1")
    with box.never_failing("no daemon"):
        box.docker.stop()
        failed = box("standin:next", "2", code=6)
        box.docker.start()
    assert "systemctl status docker" in failed.err
    assert serves(box, 1)


def test_no_haproxy(box: Box) -> None:
    box.write_settings(DAEMON_SECONDS="1")
    box.stop_haproxy()
    try:
        failed = box("standin:next", "2", code=6)
    finally:
        box.start_haproxy()
    assert "systemctl status haproxy" in failed.err
    wait_until(lambda: serves(box, 1))


def test_haproxy_restarts_in_the_middle(box: Box) -> None:
    """It knows nothing of what it was told before, and what is not ready gets no request all the same."""
    process = box.begin("standin:never", "2")
    wait_until(lambda: len(box.containers()) == 2)
    slot = box.free_slot
    box.stop_haproxy()
    box.start_haproxy()
    wait_until(lambda: box.status()["slots"][slot]["haproxy"] == "MAINT")
    process.send_signal(signal.SIGTERM)
    box.finish(process, 128 + signal.SIGTERM)
    wait_until(lambda: serves(box, 1))


def test_the_disk_is_full_when_it_comes_to_writing(box: Box) -> None:
    """What cannot be written down does not serve: the old one goes on, alone, and is what the file says."""
    folder = box.folder / "state"
    with small_disk(folder, keep=True) as fill:
        with box.never_failing("a full disk"):
            process = box.begin("standin:next", "2")
            wait_until(lambda: box.state()["pending"])
            fill()
            failed = box.finish(process, 1)
        assert "No space left on device" in failed.err
        assert serves(box, 1)
        (folder / "full").unlink()
        box("standin:next", "2")
    assert serves(box, 2)


def test_after_a_reboot_the_right_slot_comes_back(box: Box) -> None:
    box("standin:next", "2")
    process = box.begin("standin:never", "3")
    wait_until(lambda: len(box.containers()) == 2)
    process.kill()
    process.communicate()
    box.reboot()
    wait_until(lambda: box.status()["healthy"])
    running = box.docker("ps", "--format", "{{.Names}}").split()
    assert running == [box.status()["current"]["container"]]
    assert box("standin:good", "4").status["previous"]["version"] == "2"
    assert serves(box, 4)


def test_what_serves_has_ended(box: Box) -> None:
    """Stopped by hand: the next run starts it again, before it does anything else."""
    current = box.status()["current"]["container"]
    box.docker("stop", current)
    assert box("status", code=1).status["healthy"] is False
    assert f"starting {current} again" in box("standin:dies", "2", code=1).err
    assert serves(box, 1)
    box.docker("rm", "--force", current)
    box("standin:dies", "2", code=1)
    assert serves(box, 1)


@pytest.fixture
def repository(box: Box) -> Iterator[str]:
    """A repository that the box can fetch from."""
    port = free_port()
    command = [*box.docker.inside, program("ministack")]
    variables = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    listens = [*box.docker.inside, "ss", "-Hltn", f"sport = {port}"]
    make = (
        "import boto3, sys; boto3.client('ecr', region_name='eu-central-1', endpoint_url=sys.argv[1],"
        " aws_access_key_id='t', aws_secret_access_key='t').create_repository(repositoryName='vehins')"
    )
    with running(command, box.folder / "registry.log", lambda: subprocess.check_output(listens) != b"", variables):
        url = f"http://127.0.0.1:{port}"
        subprocess.run([*box.docker.inside, sys.executable, "-c", make, url], check=True)
        yield f"127.0.0.1:{port}/vehins"


def push(box: Box, image: str, folder: Path, base: str) -> None:
    """Make an image that only the repository has."""
    folder.joinpath("noise").write_bytes(os.urandom(2_000_000))
    folder.joinpath("Dockerfile").write_text(f"FROM {base}\nCOPY noise /\n")
    box.docker.build(image, folder)
    box.docker("push", "--quiet", image)
    box.docker("image", "rm", "--force", image)
    box.docker("builder", "prune", "--all", "--force")  # it keeps the layers


def test_images_that_came_to_nothing_go(box: Box, repository: str, tmp_path: Path) -> None:
    """Of a deployment that failed, and of one that was killed: else each takes the place of the next."""
    push(box, f"{repository}:dies", tmp_path, "standin:dies")
    push(box, f"{repository}:never", tmp_path, "standin:never")
    box(f"{repository}:dies", "2", code=1)
    assert box.docker("images", "--quiet", repository) == ""
    process = box.begin(f"{repository}:never", "2")
    wait_until(lambda: len(box.containers()) == 2)
    process.kill()
    process.communicate()
    assert box.docker("images", "--quiet", repository) != ""
    box("standin:next", "3")
    assert box.docker("images", "--quiet", repository) == ""


def test_the_disk_is_full_while_an_image_is_fetched(box: Box, repository: str, tmp_path: Path) -> None:
    push(box, f"{repository}:large", tmp_path, "standin:next")
    with small_disk(box.docker.folder / "data" / "tmp"), box.never_failing("a full disk"):
        failed = box(f"{repository}:large", "2", code=1)
    assert "no space left on device; free some: `docker image prune --all`" in failed.err
    assert serves(box, 1)
    assert box(f"{repository}:large", "2").status["healthy"]


def test_images_that_nothing_names_go(box: Box, tmp_path: Path) -> None:
    """The last test, as the images of all others are among them."""
    for number in range(2, 5):
        tmp_path.joinpath("Dockerfile").write_text(f"FROM standin:good\nLABEL number={number}\n")
        box.docker.build(f"several:{number}", tmp_path)
    for number in range(2, 5):
        box(f"several:{number}", str(number))
    kept = box.docker("images", "several", "--format", "{{.Tag}}").split()
    assert sorted(kept) == ["3", "4"]
