"""Where user and password come from: the address, the settings, Secrets Manager; and what is said without them."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from pydantic import SecretStr
from secrets_manager import new_secret
from server_process import HOST, free_port

from vehins.errors import CredentialsError, NotFoundError, UnreachableError
from vehins.masking import redacted
from vehins.remote.address import parse
from vehins.remote.logins import Login
from vehins.settings import RemoteSettings, S3Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = RemoteSettings(connect_timeout=1, read_timeout=1, attempts=1)
BARE, NAMED, FULL = "mongodb://h/db", "mongodb://ana@h/db", "mongodb://ana:from-address@h/db"
PASSWORD = SecretStr("from-settings")


def resolved(login: Login, url: str, remote: RemoteSettings = QUICK) -> tuple[str | None, str | None]:
    return login.resolve(parse(url, "mongodb://HOST/DATABASE"), remote, S3Settings(region="eu-central-1"))


@pytest.mark.parametrize(
    ("login", "url", "found"),
    [
        (Login(), BARE, (None, None)),
        (Login(), NAMED, ("ana", None)),
        (Login(), FULL, ("ana", "from-address")),
        (Login("bea", PASSWORD), BARE, ("bea", "from-settings")),
        (Login("bea", PASSWORD), NAMED, ("ana", "from-settings")),
        (Login("bea", PASSWORD), FULL, ("ana", "from-address")),
        (Login("bea", PASSWORD), "mongodb://ana:@h/db", ("ana", "")),
        (Login("bea"), BARE, ("bea", None)),
        # Nobody asks Secrets Manager, which could not answer here, for what is known.
        (Login("bea", PASSWORD, "a-secret"), BARE, ("bea", "from-settings")),
        (Login(None, None, "a-secret"), FULL, ("ana", "from-address")),
    ],
)
def test_the_address_comes_before_the_settings(
    login: Login, url: str, found: tuple[str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://{HOST}:{free_port()}")
    assert resolved(login, url) == found


def test_source_and_target_have_settings_of_their_own() -> None:
    settings = load(
        {f"credentials.{side}_{what}": f"{side}-{what}" for side in ("source", "target") for what in ("user", "secret")}
    ).settings.credentials
    assert Login.of_source(settings) == Login("source-user", None, "source-secret")
    assert Login.of_target(settings) == Login("target-user", None, "target-secret")


def test_a_login_is_never_shown() -> None:
    assert "from-settings" not in repr(Login("bea", PASSWORD))


# --- Secrets Manager ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "user"), [(BARE, "cleo"), (NAMED, "ana")])
def test_a_secret_has_the_login(url: str, user: str, secrets_manager: Any) -> None:
    arn = new_secret(secrets_manager, {"username": "cleo", "password": "pläin @:/", "engine": "postgres"})
    for name in (arn, arn.rpartition(":")[2].rpartition("-")[0]):
        assert resolved(Login(secret=name), url) == (user, "pläin @:/")
    assert redacted("it was pl%C3%A4in%20%40%3A%2F") == "it was ***"


def test_an_arn_says_in_which_region_it_is(secrets_manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever region the machine or the settings name."""
    elsewhere = boto3.client("secretsmanager", region_name="us-west-2")
    arn = new_secret(elsewhere, '{"username": "cleo", "password": "far away"}')
    assert ":us-west-2:" in arn
    assert resolved(Login(secret=arn), BARE) == ("cleo", "far away")


@pytest.mark.parametrize(
    "value", ["a geheim password", '{"password": "geheim"}', '["geheim"]', '"geheim"', "", b'{"username": "geheim"}']
)
def test_a_secret_that_is_no_login(value: str | bytes, secrets_manager: Any) -> None:
    name = new_secret(secrets_manager, value or " ")
    with pytest.raises(CredentialsError) as caught:
        resolved(Login(secret=name), BARE)
    assert caught.value.headline == f"The secret {name} is no login"
    assert "`username` and `password`" in caught.value.detail
    assert "geheim" not in str(caught.value.as_dict())


def test_a_secret_that_is_not_there(secrets_manager: Any) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolved(Login(secret="no/such"), BARE)
    assert "the secret no/such" in caught.value.detail


def test_nobody_is_logged_in(secrets_manager: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(CredentialsError) as caught:
        resolved(Login(secret="a"), BARE)
    assert caught.value.headline == "Nobody is logged in to AWS Secrets Manager"
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.usefixtures("secrets_manager")
def test_a_manager_that_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://{HOST}:{free_port()}")
    with pytest.raises(UnreachableError) as caught:
        resolved(Login(secret="a"), BARE)
    assert caught.value.headline == "AWS Secrets Manager does not answer"


def waiting_at(server: socket.socket) -> Iterator[socket.socket]:
    """The connections that a server has not taken yet."""
    server.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            connection, _ = server.accept()
            with connection:
                yield connection


@pytest.mark.usefixtures("secrets_manager")
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_manager_that_says_nothing(attempts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the settings say, and for as long as they say."""
    with closing(socket.create_server((HOST, 0))) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://{HOST}:{silent.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(UnreachableError):
            resolved(Login(secret="a"), BARE, RemoteSettings(connect_timeout=0.2, read_timeout=0.2, attempts=attempts))
        seconds = time.monotonic() - begin
        assert len(list(waiting_at(silent))) == attempts
    assert 0.19 * attempts < seconds < 30  # botocore alone would wait for a minute
