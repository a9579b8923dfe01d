"""A box that has lost its state file, or whose last run was killed at the worst moment: it finds out what serves."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from box_machine import Box, serves
from server_process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)  # the first waits for a Debian to be made

# A new container serves beside the old one, and the file does not know it yet.
TAKEN_OVER = "update --restart unless-stopped vehins-{slot}"
DAMAGE: dict[str, Callable[[bytes], bytes] | None] = {
    "gone": None,
    "empty": lambda _: b"",
    "cut in half": lambda text: text[: len(text) // 2],
    "full of zeros": lambda text: bytes(len(text)),
    "of another kind": lambda _: b"[]",
    "without content": lambda _: b"{}",
    "of other slots": lambda text: text.replace(b'"green"', b'"red"').replace(b'"blue"', b'"red"'),
}


def damage(path: Path, how: str) -> None:
    change = DAMAGE[how]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


def told(deployment: dict[str, Any]) -> dict[str, Any]:
    """All of it but the moment, which is that of the container where the file is lost."""
    return {name: value for name, value in deployment.items() if name != "since"}


def test_what_serves_is_found_without_the_state_file(box: Box) -> None:
    box("standin:next", "2")
    before = box.state()
    with box.never_failing("a state file that is lost"):
        for how in DAMAGE:
            damage(box.folder / "state" / "state.json", how)
            found, settled = box("status").status, box("settle")
            for state in (found, box.state()):
                assert told(state["current"]) == told(before["current"]), how
                assert state["previous"] == before["previous"], how
            put_aside = how not in {"gone", "without content"}
            assert ("it is state.damaged from now on" in settled.err) == put_aside, how
        for how in ("gone", "cut in half"):
            damage(box.folder / "state" / "state.json", how)
            box("standin:dies", "3", code=1)
    assert serves(box, 2)
    with box.never_failing("a state file that is lost, and back"):
        box("rollback")
    assert serves(box, 1)


def cut_short(box: Box, image: str, version: str, slot: str) -> None:
    """A deployment that is killed when both serve."""
    box.killed_after(TAKEN_OVER.format(slot=slot))
    box(image, version, code=-signal.SIGKILL)
    box.write_settings()


@pytest.mark.parametrize("reboots", [False, True])
def test_two_that_serve_are_one_again(box: Box, *, reboots: bool) -> None:
    with box.never_failing("killed when both serve") as counted:
        cut_short(box, "standin:next", "2", box.free_slot)
        assert len(box.containers()) == 2
        if not reboots:
            assert box("settle").status["last"]["outcome"] == "interrupted"
    assert list(counted.versions) == ["1", "2"]
    if reboots:
        box.reboot()
        wait_until(lambda: len(box.docker("ps", "--quiet").split()) == 2)
        box("settle")
    assert serves(box, 1)


def test_what_answers_stays_where_the_old_one_is_broken(box: Box, tmp_path: Path) -> None:
    """Else the next run would take away the one that serves, for one that cannot."""
    tmp_path.joinpath("Dockerfile").write_text("FROM standin:good\nLABEL broken=soon\n")
    box.docker.build("standin:broken", tmp_path)
    box("standin:broken", "3")
    old = box.state()["current"]
    cut_short(box, "standin:next", "2", box.free_slot)
    box.docker("rm", "--force", old["container"])
    box.docker("image", "rm", "--force", old["image_id"])
    with box.never_failing("the old one is broken"):
        done = box("settle")
    assert "is what serves, by what Docker keeps running" in done.err
    assert serves(box, 2)
    assert box.state()["previous"]["container"] == old["container"]


def test_the_first_that_was_cut_short_serves(fresh: Box) -> None:
    cut_short(fresh, "standin:good", "1", "blue")
    with fresh.never_failing("the first was cut short"):
        fresh("settle")
        fresh("standin:dies", "2", code=1)
    assert serves(fresh, 1)


def test_settling_lets_a_deployment_be(box: Box) -> None:
    process = box.begin("standin:never", "2")
    try:
        wait_until(lambda: len(box.containers()) == 2)
        assert box("settle").status["locked_by"].startswith("standin:never 2, ")
        assert len(box.containers()) == 2
    finally:
        process.send_signal(signal.SIGTERM)
        box.finish(process, 128 + signal.SIGTERM)
    assert serves(box, 1)


def test_settling_starts_nothing_that_was_stopped_by_hand(box: Box) -> None:
    current = box.state()["current"]["container"]
    box.docker("stop", current)
    assert box("settle", code=1).status["healthy"] is False
    box.docker("start", current)
    wait_until(lambda: serves(box, 1))
