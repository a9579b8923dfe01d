"""Addresses of stores."""

import pytest

from vehins.errors import ConfigurationError
from vehins.registry.folder import FolderStore
from vehins.registry.s3 import S3Store
from vehins.registry.stores import open_store as open_any
from vehins.settings import RemoteSettings, S3Settings


def open_store(url):
    return open_any(url, S3Settings(), RemoteSettings())


def test_a_path_is_a_folder(tmp_path):
    store = open_store(str(tmp_path / "a b"))
    assert isinstance(store, FolderStore)
    assert store.url == str(tmp_path / "a b")
    assert not (tmp_path / "a b").exists()


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("registry")
    monkeypatch.chdir("/")
    store.put("a", b"")
    assert (tmp_path / "registry" / "a").exists()


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert open_store("~/registry").url == str(tmp_path / "registry")
    with pytest.raises(ConfigurationError):
        open_store("~nobody-of-this-name/registry")


@pytest.mark.parametrize("url", ["file:///srv/a%20b%23/c#d?e", "FILE:///srv/a b#/c#d?e", "file:/srv/a b#/c#d?e"])
def test_file_addresses_are_decoded(url):
    assert open_store(url).url == "/srv/a b#/c#d?e"
    assert open_store(url.replace("file:///", "file://localhost/")).url == "/srv/a b#/c#d?e"


def test_an_address_of_a_store_opens_it_again(tmp_path):
    url = open_store(str(tmp_path)).url
    assert open_store(url).url == url


@pytest.mark.parametrize("url", ["https://host/x", "gs://b", "host:/path"])
def test_other_kinds_of_stores_are_refused_by_name(url):
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert caught.value.exit_code == 3
    assert caught.value.detail == url
    assert "file:///" in caught.value.hint
    assert "s3://BUCKET/PREFIX" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("S3://bucket", "s3://bucket"),
        ("s3://my.bucket-1/", "s3://my.bucket-1"),
        ("s3://bucket/a b/#ä%20/.c/", "s3://bucket/a b/#ä%20/.c"),
    ],
)
def test_a_bucket_and_a_prefix(url, found):
    store = open_store(url)
    assert isinstance(store, S3Store)
    assert store.url == found
    assert open_store(store.url).url == found


@pytest.mark.parametrize(
    "url",
    [
        "s3:bucket",
        "s3:/b/c",
        "s3://",
        "s3:///a",
        "s3://b/a//b",
        "s3://b/../c",
        "s3://b/a?x=1",
        "s3://b:90/a",
        "s3://b/a\nb",
    ],
)
def test_places_where_no_registry_can_be_in_s3(url):
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert caught.value.exit_code == 3
    assert "s3://BUCKET/PREFIX" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["", "  ", "a\0b", "file://", "file:///", "file://host/path", "file:relative", "file://rel/x"]
)
def test_addresses_without_a_place_are_refused(url):
    with pytest.raises(ConfigurationError):
        open_store(url)


@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_no_password_is_printed(scheme):
    with pytest.raises(ConfigurationError) as caught:
        open_store(f"{scheme}://user:secret@host/path?token=secret")
    assert "secret" not in str(caught.value.as_dict())
    assert caught.value.detail == f"{scheme}://host/path"
