"""Fixtures: stacks on ministack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from stack_words import Stack, for_ministack, new_stack
from vehins_runner import call_main, in_folder

from vehins.cloud import template

if TYPE_CHECKING:
    from pathlib import Path

    from vehins_runner import Vehins


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch)


def log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that every server here takes, and no other."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def stack(secrets_server: str) -> Stack:
    """A stack that is not there yet; one server speaks for all services."""
    return new_stack(secrets_server)


@pytest.fixture
def made(stack: Stack, vehins: Vehins) -> Stack:
    """A stack without a box, made by the command."""
    vehins("cloud", "up", "--yes", *stack.words)
    return stack


@pytest.fixture(scope="session")
def foundation(secrets_server: str, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The same, not to be changed."""
    found = new_stack(secrets_server)
    bring_up(found.words, template.body(), tmp_path_factory.mktemp("foundation"))
    return found


@pytest.fixture(scope="session")
def whole(secrets_server: str, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack with a box, made by the command, but for what ministack lacks; not to be changed."""
    found = new_stack(secrets_server)
    bring_up(found.words_with_box, for_ministack(), tmp_path_factory.mktemp("whole"))
    return found


def bring_up(words: list[str], text: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, in_folder(patch, folder):
        log_in(patch)
        patch.setattr(template, "body", lambda: text)
        patch.setattr(sys, "argv", ["vehins", "cloud", "up", "--yes", "--quiet", *words])
        assert call_main() == 0
