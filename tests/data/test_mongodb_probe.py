"""The way to MongoDB: TLS, logins, rights, names; what a command says where it ends, and what the doctor says."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from mongodb_server import Mongo, running_mongodb
from mongodb_tables import CUSTOMERS, QUICK, address, batches, customers, write_schema
from server_process import free_port

from vehins.data.sources import ReadOptions, mongodb
from vehins.errors import CredentialsError, UnreachableError
from vehins.remote.logins import Login
from vehins.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vehins_runner import Vehins

    from vehins.remote.probes import Check

BRIEF = RemoteSettings(connect_timeout=5, read_timeout=20, attempts=2)
PASSWORD = "geheim-mongo"


def probed(url: str, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in mongodb.probe(url, ReadOptions(**{"remote": BRIEF, **options}))}


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1 and its key, and a certificate of somebody else."""
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "other"):
        names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def encrypted(certificate: Path) -> Iterator[Mongo]:
    """A server that speaks TLS alone, with some customers."""
    import pymongo

    options = ("--tls-cert-file", certificate / "server.crt", "--tls-key-file", certificate / "server.key")
    trusted = f"/?tls=true&tlsCAFile={certificate / 'server.crt'}"
    with running_mongodb(*map(str, options), url_options=trusted) as server:
        client: Any = pymongo.MongoClient(server.url + trusted)
        with client:
            client["db"]["c"].insert_many(customers(10))
        yield server


def test_a_certificate_that_is_trusted(encrypted: Mongo, certificate: Path) -> None:
    url = f"{encrypted.url}/db?collection=c&tls=true&tlsCAFile={certificate / 'server.crt'}"
    assert sum(frame.height for frame in batches(url, CUSTOMERS)) == 10
    assert probed(url)["TLS"].found == "spoken"


def test_a_certificate_that_is_not_trusted(vehins: Vehins, place: Path, encrypted: Mongo, certificate: Path) -> None:
    url = f"{encrypted.url}/db?collection=c&tls=true&tlsCAFile={certificate / 'other.crt'}"
    brief = ("--set", "remote.connect_timeout=3")
    error = vehins("ingest", "--json", "--source", url, "--schema", write_schema(place), *brief, code=6).error
    assert "TLS" in error["headline"]
    assert "certificate" in error["detail"] or "over TLS" in error["headline"]
    assert "tls" in error["hint"].lower()
    last = list(probed(url).values())[-1]
    assert (last.name, last.failed, last.exit_code) == ("TLS", True, 6)


def test_a_server_that_wants_tls_and_is_not_given_it(vehins: Vehins, place: Path, encrypted: Mongo) -> None:
    url = f"{encrypted.url}/db?collection=c"
    brief = ("--set", "remote.connect_timeout=3")
    error = vehins("ingest", "--json", "--source", url, "--schema", write_schema(place), *brief, code=6).error
    assert "does not answer" in error["headline"]
    assert "`tls=true`" in error["hint"]


def test_tls_where_it_is_not_spoken(vehins: Vehins, place: Path, mongodb: Mongo) -> None:
    url = f"{mongodb.url}/db?collection=c&tls=true"
    brief = ("--set", "remote.connect_timeout=3")
    error = vehins("ingest", "--json", "--source", url, "--schema", write_schema(place), *brief, code=6).error
    assert "TLS" in error["headline"]
    assert "tls" in error["hint"].lower()


def test_a_file_of_authorities_that_is_not_there(mongodb: Mongo) -> None:
    from vehins.errors import VehinsError

    with pytest.raises(VehinsError) as caught:
        batches(f"{mongodb.url}/db?collection=c&tls=true&tlsCAFile=/nowhere.pem", CUSTOMERS)
    assert caught.value.exit_code == 3
    assert "nowhere" in caught.value.detail


# --- Logins and rights ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server with logins: `ana` may read all, `bob` another database."""
    storage = ("--storage-path", str(tmp_path_factory.mktemp("mongodb")))
    with running_mongodb(*storage) as server, server.client() as client:
        client["db"]["c"].insert_many(customers(10))
        client.admin.command("createUser", "ana", pwd=PASSWORD, roles=[{"role": "read", "db": "db"}])
        client.admin.command("createUser", "bob", pwd=PASSWORD, roles=[{"role": "read", "db": "elsewhere"}])
    with running_mongodb(*storage, "--auth") as server:
        yield server.url.partition("://")[2]


def of(host: str, login: str = "") -> str:
    return f"mongodb://{login}{host}/db?collection=c&authSource=admin"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", ""])
def test_a_login_in_the_address(guarded: str, mechanism: str) -> None:
    url = of(guarded, f"ana:{PASSWORD}@") + (f"&authMechanism={mechanism}" if mechanism else "")
    assert sum(frame.height for frame in batches(url, CUSTOMERS)) == 10
    assert probed(url)["login"].found == "ana of admin"


def test_a_login_in_the_settings(guarded: str) -> None:
    from pydantic import SecretStr

    login = Login("ana", SecretStr(PASSWORD))
    assert sum(frame.height for frame in batches(of(guarded), CUSTOMERS, login=login)) == 10


@pytest.mark.parametrize(
    ("login", "headline", "hint"),
    [
        ("ana:wrong-mongo@", "refuses the login", "VEHINS_CREDENTIALS_SOURCE_PASSWORD"),
        (f"nobody:{PASSWORD}@", "refuses the login", "authSource"),
        (f"bob:{PASSWORD}@", "refuses the user", "a role on the database db"),
        ("", "refuses", "role"),
    ],
)
def test_a_login_that_does_not_do(
    vehins: Vehins, place: Path, guarded: str, login: str, headline: str, hint: str
) -> None:
    words = ("--source", of(guarded, login), "--schema", write_schema(place))
    error = vehins("ingest", "--json", *words, code=3).error
    assert headline in error["headline"]
    assert hint in error["hint"]
    assert "mongo@" not in str(error)
    assert vehins("doctor", "--json", *words[:2], code=3).json["ok"] is False


def test_the_doctor_names_where_the_login_ends(guarded: str) -> None:
    assert next(reversed(probed(of(guarded, "ana:wrong-mongo@")))) == "login"
    assert next(reversed(probed(of(guarded, f"bob:{PASSWORD}@")))) == "permission to read"
    with pytest.raises(CredentialsError):
        batches(of(guarded, f"bob:{PASSWORD}@"), CUSTOMERS)


# --- The doctor -------------------------------------------------------------------------------------------------------


def test_a_way_that_is_free(mongodb_table: tuple[Mongo, Any]) -> None:
    server, collection = mongodb_table
    found = probed(address(server, collection))
    assert tuple(found) == mongodb.CHECKS
    assert {check.verdict for check in found.values()} == {"ok"}
    assert found["rows seen"].found == "about 10"
    assert "same as this machine's" in found["clock skew"].found
    assert "tls=true" in found["TLS"].mend
    chosen = probed(address(server, collection), query='{"age": {"$gt": 1000}}')
    assert chosen["rows seen"].found == "none"


@pytest.fixture
def mongodb_table(mongodb: Mongo, collection: Any) -> tuple[Mongo, Any]:
    collection.insert_many(customers(10))
    return mongodb, collection


@pytest.mark.parametrize(
    ("change", "last", "code"),
    [
        (("collection=customers", "collection=customer"), "permission to read", 6),
        (("127.0.0.1", "nobody.invalid"), "DNS", 6),
        (("collection=customers", "collection=customers&tls=true"), "TLS", 6),
        (("?collection=customers", ""), "address", 3),
        (("collection=customers", "collection=customers&readPreference=x"), "address", 3),
    ],
)
def test_a_way_that_ends(mongodb_table: tuple[Mongo, Any], change: tuple[str, str], last: str, code: int) -> None:
    found = probed(address(*mongodb_table).replace(*change))
    end = list(found.values())[-1]
    assert (end.name, end.failed, end.exit_code) == (last, True, code)
    assert end.mend


def test_a_port_that_is_closed() -> None:
    found = probed(f"mongodb://127.0.0.1:{free_port()}/db?collection=c")
    assert list(found)[-1] == "port"
    assert found["port"].failed


def test_one_server_of_several_will_do(mongodb_table: tuple[Mongo, Any]) -> None:
    server, collection = mongodb_table
    gone = f"127.0.0.1:{free_port()}"
    url = address(server, collection).replace("mongodb://", f"mongodb://{gone},")
    port = probed(url)["port"]
    assert (port.verdict, port.found) == ("ok", "1 of 2 open")
    assert gone in port.mend


def test_the_doctor_holds_the_fields_against_the_schema(
    vehins: Vehins, place: Path, mongodb_table: tuple[Mongo, Any]
) -> None:
    server, collection = mongodb_table
    words = ("doctor", "--json", "--source", address(server, collection))
    schema = write_schema(place)

    def found(code: int) -> str:
        checks = vehins(*words, "--set", f"schema_file={schema}", code=code).json["checks"]
        return next(one["found"] for one in checks if one["check"] == "columns")

    assert found(0) == "all 3 columns of the schema t"
    collection.update_many({}, {"$rename": {"age": "Ages"}})
    assert "`age` (is it `Ages`?)" in found(4)


def test_a_read_preference_is_taken_from_the_address(mongodb_table: tuple[Mongo, Any]) -> None:
    server, collection = mongodb_table
    url = address(server, collection) + "&readPreference=secondaryPreferred"
    assert sum(frame.height for frame in batches(url, CUSTOMERS, remote=QUICK)) == 10


# --- mongodb+srv: a name server of the test's own, and names that lead to this machine --------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, mongodb: Mongo) -> Iterator[None]:
    """`cluster.vehins.test` is the server; what looks up addresses is told that its hosts are this machine."""
    import socket
    import threading

    import dns.message
    import dns.resolver
    import dns.rrset

    port = mongodb.url.rpartition(":")[2]
    records = {
        ("_mongodb._tcp.cluster.vehins.test.", "SRV"): f"0 0 {port} db.vehins.test.",
        ("cluster.vehins.test.", "TXT"): None,
    }

    def answer(data: bytes) -> bytes:
        asked = dns.message.from_wire(data)
        question = asked.question[0]
        reply = dns.message.make_response(asked)
        kind = dns.rdatatype.to_text(question.rdtype)
        text = records.get((str(question.name), kind))
        if text is not None:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, text))
        elif (str(question.name), kind) not in records:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            data, client = listener.recvfrom(4096)
            if not data:
                return
            listener.sendto(answer(data), client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], listener.getsockname()[1]
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    found = socket.getaddrinfo

    def here(host: str, *more: Any, **named: Any) -> Any:
        return found("127.0.0.1" if host == "db.vehins.test" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    yield
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(b"", listener.getsockname())
    thread.join(5)
    listener.close()


@pytest.mark.usefixtures("names")
def test_servers_that_dns_names(mongodb_table: tuple[Mongo, Any]) -> None:
    _, collection = mongodb_table
    url = f"mongodb+srv://cluster.vehins.test/{collection.database.name}?collection=customers&tls=false"
    assert sum(frame.height for frame in batches(url, CUSTOMERS)) == 10
    found = probed(url)
    assert tuple(found) == mongodb.CHECKS
    assert found["DNS"].found == "db.vehins.test is 127.0.0.1"


@pytest.mark.usefixtures("names")
def test_a_name_without_servers() -> None:
    url = "mongodb+srv://nobody.vehins.test/db?collection=c"
    found = probed(url)
    assert list(found) == ["DNS"]
    assert "_mongodb._tcp.nobody.vehins.test" in found["DNS"].found
    assert found["DNS"].exit_code == 6
    with pytest.raises(UnreachableError):
        batches(url, CUSTOMERS)
