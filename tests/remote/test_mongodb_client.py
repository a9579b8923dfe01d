"""Clients of MongoDB: addresses, and errors in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mongodb_server import running_mongodb
from server_process import free_port

from vehins.errors import CredentialsError, NotFoundError, SettingsError, UnreachableError
from vehins.remote import mongodb as store
from vehins.remote.logins import Login
from vehins.settings import RemoteSettings, S3Settings

if TYPE_CHECKING:
    from mongodb_server import Mongo

REMOTE = RemoteSettings(connect_timeout=30, read_timeout=30, attempts=2)
BRIEF = RemoteSettings(connect_timeout=1, read_timeout=5, attempts=2)  # where nothing is to come


def found(url: str, remote: RemoteSettings = REMOTE) -> list[Any]:
    with store.connected(url, Login(), remote, S3Settings()) as collection:
        store.check_exists(collection)
        return list(collection.find())


def test_our_option_is_taken_out_and_the_rest_is_left(mongodb: Mongo, collection: Any) -> None:
    collection.insert_one({"_id": 1})
    url = f"{mongodb.url}/{collection.database.name}?collection={collection.name}&readPreference=secondaryPreferred"
    assert found(url) == [{"_id": 1}]
    with store.connected(url, Login(), REMOTE, S3Settings()) as opened:
        assert opened.read_preference.name == "SecondaryPreferred"


@pytest.mark.parametrize(("url", "lacks"), [("mongodb://h?collection=c", "database"), ("mongodb://h/db", "collection")])
def test_an_address_needs_its_parts(url: str, lacks: str) -> None:
    with pytest.raises(SettingsError, match=f"names no {lacks}"):
        store.parse(url)


def test_a_near_name_is_offered(mongodb: Mongo, collection: Any) -> None:
    collection.insert_one({"_id": 1})
    with pytest.raises(NotFoundError) as caught:
        found(f"{mongodb.url}/{collection.database.name}?collection=customer")
    assert "`customers`" in caught.value.hint


def test_nobody_listens() -> None:
    with pytest.raises(UnreachableError):
        found(f"mongodb://127.0.0.1:{free_port()}/db?collection=c", BRIEF)


def test_tls_is_not_spoken(mongodb: Mongo) -> None:
    """A driver may notice no more than that nothing comes; the hint names TLS all the same."""
    with pytest.raises(UnreachableError, match="TLS") as caught:
        found(f"{mongodb.url}/db?collection=c&tls=true", BRIEF)
    assert "tls" in caught.value.hint.lower()


def test_an_unknown_option_value_is_refused(mongodb: Mongo) -> None:
    with pytest.raises(SettingsError):
        found(f"{mongodb.url}/db?collection=c&readPreference=nobody")


def test_a_login_is_needed() -> None:
    with running_mongodb("--auth") as server, pytest.raises(CredentialsError):
        found(f"{server.url}/db?collection=c")


def test_a_wrong_password_is_refused_and_not_shown() -> None:
    with running_mongodb("--auth") as server, pytest.raises(CredentialsError) as caught:
        found(server.url.replace("//", "//ana:geheim-mongo@") + "/db?collection=c")
    assert "geheim-mongo" not in str(caught.value.as_dict())
