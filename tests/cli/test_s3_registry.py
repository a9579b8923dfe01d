"""A registry in S3 behind every command that uses one, and `vehins doctor` on the way to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from s3_faults import Faults, faulty
from server_process import free_port
from service_process import serving
from vehins_runner import WORKSPACE, all_are, production, versions

from vehins.doctor.registries import FOLDER_CHECKS, S3_CHECKS
from vehins.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3_client import Bucket, S3Server
    from vehins_runner import Vehins

ROW = {
    "Gender": "Male",
    "Age": 44,
    "Driving_License": 1,
    "Region_Code": 28,
    "Previously_Insured": 0,
    "Vehicle_Age": "> 2 Years",
    "Vehicle_Damage": "Yes",
    "Annual_Premium": 40454.0,
    "Policy_Sales_Channel": 26,
    "Vintage": 217,
}
MODEL = "team/models/vehicle-insurance"


@pytest.fixture
def words(bucket: Bucket) -> list[str]:
    """What leads every command to the registry."""
    return ["--registry", f"{bucket.url}/team", *bucket.words]


def test_the_whole_chain_and_all_that_follows(vehins: Vehins, bucket: Bucket, words: list[str]) -> None:
    secret = bucket.server.password
    assert len(secret) > 8
    first = vehins.run(*words)
    assert all_are("ran", first)
    assert first.json["version"] == 1
    assert all_are("reused", vehins.run(*words))
    assert not (WORKSPACE / "registry").exists()
    listed = vehins("models", "list", "--json", *words).json
    assert (listed["aliases"], [one["version"] for one in listed["versions"]]) == ({"production": 1}, [1])
    shown = vehins("models", "show", "--json", *words).json
    assert shown == listed["versions"][0]
    again = vehins.run(*words, "--set", "train.seed=2", "--set", "train.max_rounds=30", "--approve", "a new model")
    assert again.json["version"] == 2
    assert again.json["gate"]["champion"]["version"] == 1  # which came out of S3
    assert vehins("models", "show", "--json", *words).json["version"] == 2
    assert vehins("push", "--json", *words).statuses == {"push": "reused"}
    vehins("gc", "--json", *words)
    shutil.rmtree(WORKSPACE / "cache", ignore_errors=True)
    vehins("predict", "demo://?rows=50", "--to", "out.csv", *words)
    assert {row["model_version"] for row in pl.read_csv("out.csv").to_dicts()} == {2}
    assert served(words) == 2
    stored = sorted(bucket.keys())
    assert [key for key in stored if key.endswith("manifest.json")] == [
        f"{MODEL}/versions/{number}/manifest.json" for number in (1, 2)
    ]
    written = [path for path in Path.cwd().rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [path for path in written if secret.encode() in path.read_bytes()] == []
    assert [key for key in stored if secret.encode() in bucket.get(key)] == []


def served(words: list[str]) -> int:
    """The version that a service of its own answers with."""
    with serving(Settings(workspace=Path("elsewhere").absolute()), *words) as service:
        return int(service.predict(ROW).json()["model"]["version"])


def test_a_registry_moves_between_a_folder_and_a_bucket(finished: Vehins, bucket: Bucket, words: list[str]) -> None:
    """The same names hold the same bytes: what is copied can be used."""
    root = WORKSPACE / "registry"
    for path in root.rglob("*"):
        if path.is_file():
            bucket.put(f"team/{path.relative_to(root).as_posix()}", path)
    assert finished("models", "show", "--json", *words).json == finished("models", "show", "--json").json
    change = ("--set", "train.max_rounds=30", "--approve", "a new model")
    assert finished.run(*words, *change).json["version"] == 2
    shutil.rmtree(root)
    for key in bucket.keys():  # noqa: SIM118 - a bucket is no dictionary
        path = root / key.removeprefix("team/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.get(key))
    assert (versions(), production()) == ([1, 2], 2)
    listed = finished("models", "list", "--json").json
    assert listed == finished("models", "list", "--json", *words).json
    assert finished.run("--set", "train.max_rounds=40", "--approve", "a third").json["version"] == 3


def on(line: Faults, fault: str, where: Any = lambda request: True) -> list[str]:
    line.always(fault, where)
    return ["--set", f"s3.endpoint_url={line.endpoint}", "--set", "remote.attempts=1"]


ANSWERS = [
    ("403", 3, "does not permit it"),
    ("bad login", 3, "does not accept the login"),
    ("503", 6, "failed"),
    ("page", 6, "does not speak S3"),
]


@pytest.mark.parametrize(
    ("command", "fault", "code", "said"),
    [
        *(
            (command, *answer)
            for command in (("evaluate",), ("push",), ("models", "list"), ("gc",))
            for answer in ANSWERS
        ),
        *((("serve",), *answer) for answer in ANSWERS if answer[1] == 3),  # otherwise it waits: test_restarts.py
    ],
)
def test_a_registry_that_does_not_answer_is_never_empty(
    finished: Vehins,
    bucket: Bucket,
    words: list[str],
    line: Faults,
    command: tuple[str, ...],
    fault: str,
    code: int,
    said: str,
) -> None:
    line.always(fault)
    more = ["--set", f"s3.endpoint_url={line.endpoint}", "--set", "remote.attempts=1"]
    error = finished(*command, "--json", *words, *more, code=code).error
    assert said in error["headline"]
    assert error["hint"]
    assert bucket.keys() == []


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[Faults]:
    with faulty(s3_server.endpoint) as faults:
        yield faults


# --- vehins doctor ----------------------------------------------------------------------------------------------------


def checks(vehins: Vehins, *words: object, code: int = 0) -> dict[str, dict[str, str]]:
    """The checks of the registry by name."""
    found = vehins("doctor", "--json", *words, code=code).json["checks"]
    return {check["check"]: check for check in found if check["subject"].startswith("registry")}


def test_all_is_well(vehins: Vehins, bucket: Bucket, words: list[str]) -> None:
    found = checks(vehins, *words)
    assert list(found) == list(S3_CHECKS)
    assert {name: check["verdict"] for name, check in found.items()} == dict.fromkeys(S3_CHECKS, "ok")
    assert found["permission to read"]["found"] == "nothing is registered yet"
    assert bucket.keys() == []  # it has tidied up
    vehins.run(*words)
    before = {key: bucket.get(key) for key in bucket.keys()}  # noqa: SIM118
    assert checks(vehins, *words)["permission to read"]["found"] == "1 versions"
    assert {key: bucket.get(key) for key in bucket.keys()} == before  # noqa: SIM118


@pytest.mark.parametrize(
    ("more", "failing", "code"),
    [
        (lambda line: ["--registry", "s3://x:1/y"], "address", 3),
        (lambda line: ["--set", "s3.endpoint_url=http://no-such-host.invalid:1"], "DNS", 6),
        (lambda line: ["--set", f"s3.endpoint_url=http://127.0.0.1:{free_port()}"], "port", 6),
        (lambda line: ["--set", f"s3.endpoint_url={line.endpoint.replace('http', 'https')}"], "TLS", 6),
        (lambda line: on(line, "bad login"), "login", 3),
        (lambda line: ["--registry", "s3://no-such-bucket-here/team"], "bucket", 6),
        (lambda line: on(line, "503"), "bucket", 6),
        (lambda line: on(line, "page"), "bucket", 6),
        (lambda line: on(line, "403"), "permission to read", 3),
        (lambda line: on(line, "503", lambda r: r.method == "PUT"), "permission to write", 6),
        (lambda line: on(line, "careless", lambda r: r.is_conditional), "conditional writes", 3),
        (lambda line: on(line, "501", lambda r: r.is_conditional), "conditional writes", 3),
    ],
)
def test_where_the_way_ends(
    more: Any, failing: str, code: int, vehins: Vehins, bucket: Bucket, words: list[str], line: Faults
) -> None:
    found = checks(vehins, *words, "--set", "remote.connect_timeout=3", *more(line), code=code)
    assert [name for name, check in found.items() if check["verdict"] == "failed"] == [failing]
    assert found[failing]["mend"]
    if failing != "address":
        assert sorted(found) == sorted(S3_CHECKS)
        behind = S3_CHECKS[S3_CHECKS.index(failing) + 1 :]
        assert {found[name]["verdict"] for name in behind} <= {"skipped"}
    assert bucket.keys() == []


@pytest.mark.parametrize(
    ("forbidden", "skipped"),
    [
        (lambda r: r.method == "PUT", S3_CHECKS[-4:]),
        (lambda r: r.method == "PUT" and "/aliases/" in r.key, S3_CHECKS[-1:]),
        (lambda r: r.method == "PUT" and "/models/" in r.key, S3_CHECKS[-2:]),
    ],
)
def test_a_login_with_fewer_rights(
    forbidden: Any, skipped: tuple[str, ...], vehins: Vehins, bucket: Bucket, words: list[str], line: Faults
) -> None:
    found = checks(vehins, *words, *on(line, "403", forbidden))
    assert tuple(name for name, check in found.items() if check["verdict"] == "skipped") == skipped
    assert "docs/registry.md" in found[skipped[0]]["mend"]
    assert bucket.keys() == []


def test_a_probe_that_may_not_be_removed_is_named(
    vehins: Vehins, bucket: Bucket, words: list[str], line: Faults
) -> None:
    found = checks(vehins, *words, *on(line, "403", lambda r: r.method == "DELETE"))
    (left,) = bucket.keys()
    assert left in found["permission to write"]["mend"]
    assert found["permission to write"]["verdict"] == "ok"


def test_a_folder(vehins: Vehins) -> None:
    found = checks(vehins, "--registry", "there/registry")
    assert tuple(found) == FOLDER_CHECKS
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert not Path("there").exists()
    Path("there").touch()
    assert checks(vehins, "--registry", "there/registry", code=6)["permission to read"]["verdict"] == "failed"


def test_a_folder_that_may_not_be_written(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says is set here: root may write anywhere."""
    Path("registry").mkdir()
    monkeypatch.setattr("vehins.doctor.registries.os.access", lambda *_: False)
    check = checks(vehins, "--registry", "registry")["permission to write"]
    assert check["verdict"] == "skipped"
    assert "may not be written" in check["found"]
    assert check["mend"]
