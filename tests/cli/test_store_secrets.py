"""The password of a store is in nothing that a run writes, however it was given and however the run ends."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import pytest
from botocore.config import Config
from mongodb_server import running_mongodb
from secrets_manager import REGION, new_secret
from server_process import free_port
from vehins_runner import child_environment, customers

from vehins.data.sinks import WriteOptions, open_sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins_runner import Vehins

# What a driver or a shell might cut a password at stands between two words that are looked for each by itself.
FIRST, LAST = "Gx7kQpZ9", "w0rtVbN4m"
PASSWORD = f'{FIRST}@:/?&#% ;"=+{LAST}'
QUOTED = quote(PASSWORD, safe="")
USER = "planted"
ORIGINS = ("address", "environment", ".env", "vehins.toml", "Secrets Manager")


@dataclass(frozen=True)
class Store:
    """A table of customers that `USER` may read."""

    address: str
    """With a place for the login, or for nothing."""

    def with_login(self, user: str, password: str) -> str:
        return self.address.format(f"{user}:{quote(password, safe='')}@")

    def elsewhere(self) -> Store:
        """The same at a port where nobody listens."""
        head, _, rest = self.address.partition("{}")
        return Store(f"{head}{{}}127.0.0.1:{free_port()}/{rest.partition('/')[2]}")


def fill(url: str) -> None:
    open_sink(url, WriteOptions()).write([customers()], "id", replace=False, on_rows=lambda _: None)


def _address(url: str) -> str:
    """An address without its login, and with a place for one."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{{}}{rest.rpartition('@')[2]}"


@pytest.fixture
def postgres_store(postgres_database: Any) -> Iterator[Store]:
    fill(f"{postgres_database.url}?table=customers")
    postgres_database.run(
        f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {USER}"
    )
    yield Store(_address(postgres_database.url) + "?table=customers")
    postgres_database.run(f"DROP OWNED BY {USER}", f"DROP ROLE {USER}")


@pytest.fixture
def sqlserver_store(sqlserver_database: Any) -> Iterator[Store]:
    fill(sqlserver_database.of_table("customers"))
    sqlserver_database.run(
        f"CREATE LOGIN [{USER}] WITH PASSWORD = '{PASSWORD}', CHECK_POLICY = OFF",
        f"CREATE USER [{USER}] FOR LOGIN [{USER}]",
        f"GRANT SELECT ON customers TO [{USER}]",
    )
    yield Store(_address(sqlserver_database.of_table("customers")))
    sqlserver_database.run(f"DROP LOGIN [{USER}]")


@pytest.fixture(scope="module")
def mongodb_store(mongodb_with_logins: str) -> Store:
    """Filled once: the server takes long, and who reads changes nothing."""
    found = Store(f"mongodb://{{}}{mongodb_with_logins}/sales?collection=source&authSource=admin")
    fill(found.with_login(USER, PASSWORD))
    return found


@pytest.fixture(params=["postgres", "sqlserver", "mongodb"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


def check_text(text: str, where: object) -> None:
    """No part of the password, in whatever encoding."""
    data = text.encode() if isinstance(text, str) else text
    for word in (FIRST, LAST):
        for needle in (word.encode(), word.encode("utf-16-le"), word[::-1].encode()):
            assert needle not in data, f"{where} has the password"


def check_files(*but: str) -> None:
    """No file below this folder has it, and none is named after it."""
    paths = [path for path in Path().rglob("*") if path.name not in but]
    assert paths
    for path in paths:
        check_text(str(path), path)
        if path.is_file():
            check_text(path.read_bytes(), path)  # type: ignore[arg-type]


def give(origin: str, store: Store, password: str, patch: pytest.MonkeyPatch) -> list[str]:
    """Give the login in one of the ways; return the words of the command line."""
    if origin == "address":
        return ["--source", store.with_login(USER, password)]
    values = {"source": store.address.format(""), "user": USER, "password": password}
    if origin == "environment":
        patch.setenv("VEHINS_CREDENTIALS_SOURCE_USER", values["user"])
        patch.setenv("VEHINS_CREDENTIALS_SOURCE_PASSWORD", values["password"])
    elif origin == "Secrets Manager":
        name = new_secret(boto3.client("secretsmanager"), {"username": USER, "password": password})
        return ["--source", values["source"], "--set", f"credentials.source_secret={name}"]
    elif origin == ".env":
        lines = f"VEHINS_CREDENTIALS_SOURCE_USER={USER}\nVEHINS_CREDENTIALS_SOURCE_PASSWORD='{password}'\n"
        Path(".env").write_text(lines)
    else:
        with Path("vehins.toml").open("a") as file:
            file.write(f"[credentials]\nsource_user = '{USER}'\nsource_password = '{password}'\n")
    return ["--source", values["source"]]


def call(vehins: Vehins, *words: str, code: int) -> str:
    """Run a command; neither what it prints nor what it leaves behind has the password."""
    answer = vehins(*words, code=code)
    check_text(answer.out, "stdout")
    check_text(answer.err, "stderr")
    check_files(".env", "vehins.toml")
    return answer.out + answer.err


@pytest.mark.usefixtures("secrets_manager")
@pytest.mark.parametrize("origin", ORIGINS)
def test_of_a_login_that_is_right(origin: str, store: Store, vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    words = give(origin, store, PASSWORD, monkeypatch)
    call(vehins, "ingest", "--debug", *words, code=0)
    assert "***" in call(vehins, "runs", "show", code=0) or origin != "address"
    call(vehins, "config", "show", "--json", *(["--set", f"source={words[1]}"]), code=0)
    call(vehins, "doctor", "--json", *words, code=0)


@pytest.mark.usefixtures("secrets_manager")
@pytest.mark.parametrize("origin", ORIGINS)
def test_of_a_login_that_is_wrong(origin: str, store: Store, vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    words = give(origin, store, f"{FIRST} wrong {LAST}", monkeypatch)
    for more in ((), ("--json",)):
        assert "Traceback" in call(vehins, "pipeline", "run", "--debug", *words, *more, code=3)
    call(vehins, "doctor", *words, code=3)


@pytest.mark.parametrize("origin", ["address", "environment"])
def test_of_a_store_that_does_not_answer(
    origin: str, store: Store, vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("--set", "remote.attempts=1", "--set", "remote.connect_timeout=2")
    words = give(origin, store.elsewhere(), PASSWORD, monkeypatch)
    assert "Traceback" in call(vehins, "pipeline", "run", "--debug", *words, *quick, code=6)
    call(vehins, "doctor", *words, *quick, code=6)


def watched(*words: str) -> tuple[int, bytes, list[bytes]]:
    """Run a command as a process of its own: its exit code, all that it printed, and what `ps` has shown of it."""
    command = [sys.executable, "-m", "vehins", *words]
    log = Path("printed")
    titles: list[bytes] = []
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=child_environment())
        while process.poll() is None:
            title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if title and title not in titles:
                titles.append(title)
            time.sleep(0.01)
    return process.returncode, log.read_bytes(), titles


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_of_a_whole_run_as_others_on_the_machine_see_it(store: Store, place: Path) -> None:
    code, printed, titles = watched("pipeline", "run", "--debug", "--source", store.with_login(USER, PASSWORD))
    assert code == 0, printed.decode()
    check_text(printed, "the output")  # type: ignore[arg-type]
    check_files("vehins.toml")
    assert len(titles) <= 2, "as it was called, for the moment that it takes to start; then masked"
    check_text(titles[-1], "ps")  # type: ignore[arg-type]
    assert b"***" in titles[-1]


# --- Keys of AWS --------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(secrets_server: str, secrets_manager: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with customers in it, at the server that has the secrets too."""
    name = f"bucket-{time.time_ns()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", secrets_server)
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    place = {"LocationConstraint": REGION}
    client.create_bucket(Bucket=name, CreateBucketConfiguration=place)
    client.put_object(Bucket=name, Key="customers.csv", Body=customers().write_csv().encode())
    return name


@pytest.mark.parametrize("origin", ["environment", "profile"])
def test_of_keys_of_aws(
    origin: str, bucket: str, vehins: Vehins, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if origin == "environment":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
        monkeypatch.setenv("AWS_SESSION_TOKEN", PASSWORD)
    else:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        path = tmp_path_factory.mktemp("aws") / "credentials"
        path.write_text(f"[default]\naws_access_key_id = AKIDPLANTED\naws_secret_access_key = {PASSWORD}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    s3 = ("--set", "s3.path_style=true", "--set", "remote.attempts=1", "--debug")
    call(vehins, "ingest", "--source", f"s3://{bucket}/customers.csv", *s3, code=0)
    call(vehins, "doctor", "--source", f"s3://{bucket}/customers.csv", *s3, code=0)
    assert "Traceback" in call(vehins, "ingest", "--source", f"s3://{bucket}/nowhere.csv", *s3, code=6)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    assert "Traceback" in call(vehins, "ingest", "--source", f"s3://{bucket}/customers.csv", *s3, code=6)


# --- Where rows go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["address", "environment"])
def test_of_a_login_for_what_is_written(
    origin: str, postgres_store: Store, postgres_database: Any, vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_database.run(f"GRANT CREATE ON SCHEMA public TO {USER}")
    customers(50).write_csv("rows.csv")
    store = Store(postgres_store.address.replace("=customers", "=loaded"))
    for password, code in ((PASSWORD, 0), (f"{FIRST} wrong {LAST}", 3)):
        if origin == "address":
            url = store.with_login(USER, password)
        else:
            url = store.address.format("")
            monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_USER", USER)
            monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_PASSWORD", password)
        call(vehins, "load", "rows.csv", "--to", url, "--debug", code=code)
        call(vehins, "doctor", "--to", url, code=code)
    assert postgres_database.value("SELECT count(*) FROM loaded") == 50


@pytest.fixture(scope="module")
def mongodb_with_logins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server that wants a login; a user is made before it does."""
    storage = ("--storage-path", str(tmp_path_factory.mktemp("mongodb")))
    with running_mongodb(*storage) as server, server.client() as client:
        client.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
    with running_mongodb(*storage, "--auth") as server:
        yield server.url.partition("://")[2]


@pytest.mark.usefixtures("secrets_manager")
@pytest.mark.parametrize("origin", ["address", "environment", "Secrets Manager"])
def test_of_a_login_of_mongodb(
    origin: str, mongodb_with_logins: str, vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers(50).write_csv("rows.csv")
    for password, host, code in (
        (PASSWORD, mongodb_with_logins, 0),
        (f"{FIRST} wrong {LAST}", mongodb_with_logins, 3),
        (PASSWORD, f"127.0.0.1:{free_port()}", 6),
    ):
        store = Store(f"mongodb://{{}}{host}/sales?collection=customers&authSource=admin")
        if origin == "address":
            words = [store.with_login(USER, password)]
        elif origin == "environment":
            words = [store.address.format("")]
            monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_USER", USER)
            monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_PASSWORD", password)
        else:
            name = new_secret(boto3.client("secretsmanager"), {"username": USER, "password": password})
            words = [store.address.format(""), "--set", f"credentials.target_secret={name}"]
        patience = ("--set", "remote.connect_timeout=2", "--set", "remote.attempts=1") if code == 6 else ()
        call(vehins, "load", "rows.csv", "--debug", *patience, "--to", *words, code=code)
