"""PostgreSQL over TLS, with a certificate that nobody has signed."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from postgres_server import running_cluster
from small_tables import CUSTOMERS, read

from vehins.data.sources import ReadOptions, postgres
from vehins.errors import UnreachableError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 and its key."""
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", folder / "server.key", "-out", folder / "server.crt")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def encrypted(certificate):
    """A cluster that speaks TLS, with one customer."""
    with running_cluster(certificate) as server:
        server.run("CREATE TABLE customers (id int, name text, y int)", "INSERT INTO customers VALUES (1, 'a', 1)")
        yield server


def test_a_certificate_that_is_trusted(encrypted, certificate):
    url = f"{encrypted.url}?table=customers&sslmode=verify-full&sslrootcert={certificate / 'server.crt'}"
    assert read(url, CUSTOMERS)[0].height == 1
    found = {check.name: check for check in postgres.probe(url, ReadOptions())}
    assert found["TLS"].found.startswith("TLSv1")


def test_a_certificate_that_is_not_trusted(encrypted):
    url = f"{encrypted.url}?table=customers&sslmode=verify-full&sslrootcert=system"
    with pytest.raises(UnreachableError, match="do not agree on TLS") as caught:
        read(url, CUSTOMERS)
    assert "certificate" in caught.value.detail
    found = list(postgres.probe(url, ReadOptions()))
    assert found[-1].name == "TLS"
    assert found[-1].failed


def test_a_name_that_is_not_in_the_certificate(encrypted, certificate):
    url = encrypted.url.replace("127.0.0.1", "localhost")
    with pytest.raises(UnreachableError, match="do not agree on TLS"):
        read(f"{url}?table=customers&sslmode=verify-full&sslrootcert={certificate / 'server.crt'}", CUSTOMERS)


def test_encryption_without_a_check(encrypted):
    assert read(f"{encrypted.url}?table=customers&sslmode=require", CUSTOMERS)[0].height == 1
