"""`vehins doctor`: every check with its verdict, the mend for what is wrong, and an exit code that tells its class."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from server_process import free_port, wait_until
from vehins_runner import WORKSPACE, customers, tree

from vehins.doctor import installation, stores
from vehins.doctor.examination import Subject, examine, exit_code
from vehins.errors import CredentialsError, UnreachableError
from vehins.remote import probes
from vehins.remote.probes import Check
from vehins.settings import Settings

if TYPE_CHECKING:
    from vehins_runner import Vehins

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody who may not read"
)


def found(vehins: Vehins, *words: object, code: int = 0) -> dict[tuple[str, str], dict[str, str]]:
    """The checks by what they are of and by name."""
    answer = vehins("doctor", "--json", *words, code=code).json
    assert list(answer) == ["checks", "ok"]
    assert answer["ok"] == (code == 0)
    for check in answer["checks"]:
        assert list(check) == ["subject", "check", "verdict", "found", "mend"]
        assert check["verdict"] in {"ok", "failed", "skipped"}
        assert check["found"]
        assert check["mend"] or check["verdict"] != "failed"
    return {(check["subject"].split()[0], check["check"]): check for check in answer["checks"]}


def test_all_is_well(vehins: Vehins) -> None:
    checks = found(vehins)
    assert {name for of, name in checks if of == "installation"} == set(installation.CHECKS)
    assert {check["verdict"] for check in checks.values()} <= {"ok", "skipped"}
    assert checks["installation", "settings"]["found"] == "vehins.toml"
    assert checks["source", "address"]["found"] == "demo://?rows=3000&seed=1"
    assert checks["registry", "permission to read"]["found"] == "nothing is registered yet"
    assert not WORKSPACE.exists()


def test_it_changes_nothing(finished: Vehins) -> None:
    before = tree(WORKSPACE)
    assert found(finished)["registry", "permission to read"]["found"] == "1 versions"
    assert tree(WORKSPACE) == before


def test_people_get_one_table(vehins: Vehins) -> None:
    answer = vehins("doctor", "--source", "nowhere.csv", code=6)
    assert answer.err == ""
    assert answer.out.count("Verdict") == 1
    assert "There is no file nowhere.csv." in answer.out
    assert "Name a file that exists" in answer.out
    assert answer.out.count("source nowhere.csv") == 1
    assert "not tried" in answer.out


def test_options_of_the_command_and_settings_say_what_is_checked(vehins: Vehins) -> None:
    Path("vehins.toml").write_text('source = "a.csv"\nregistry = "there"\n')
    customers(20).write_csv("a.csv")
    answer = vehins("doctor", "--json").json
    assert {check["subject"] for check in answer["checks"]} == {"installation", "source a.csv", "registry there"}
    answer = vehins("doctor", "--json", "--registry", "elsewhere", "--set", "source=demo://").json
    assert {check["subject"] for check in answer["checks"]} == {
        "installation",
        "source demo://",
        "registry elsewhere",
    }


# --- Files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["customers.csv", "customers.tsv", "customers.parquet"])
def test_a_good_file(name: str, vehins: Vehins) -> None:
    rows = customers(50)
    if name.endswith("parquet"):
        rows.write_parquet(name)
    else:
        rows.write_csv(name, separator="\t" if name.endswith("tsv") else ",")
    checks = found(vehins, "--source", name)
    assert checks["source", "files"]["found"] == f"1 with {Path(name).stat().st_size / 1e6:,.1f} MB"
    assert checks["source", "columns"]["found"] == "all 12 columns of the schema vehicle-insurance"


@pytest.mark.parametrize("name", ["customers.csv", "customers.parquet"])
def test_a_file_without_a_column_of_the_schema(name: str, vehins: Vehins) -> None:
    rows = customers(50).rename({"Vehicle_Age": "vehicle age"}).drop("Vintage")
    rows.write_parquet(name) if name.endswith("parquet") else rows.write_csv(name)
    check = found(vehins, "--source", name, code=4)["source", "columns"]
    assert check["verdict"] == "failed"
    assert check["found"] == "missing: `Vehicle_Age` (is it `vehicle age`?), `Vintage`"
    assert "--schema FILE" in check["mend"]


@pytest.mark.parametrize(
    ("content", "code", "failing"),
    [(b"", 4, "files"), (b"a,a\n1,2\n", 4, "columns"), (b"\xff\xfe,b\n1,2\n", 4, "columns")],
)
def test_a_file_that_is_no_table(content: bytes, code: int, failing: str, vehins: Vehins) -> None:
    Path("a.csv").write_bytes(content)
    checks = found(vehins, "--source", "a.csv", code=code)
    assert checks["source", failing]["verdict"] == "failed"
    names = ["files", "permission to read", "columns"]
    for name in names[names.index(failing) + 1 :]:
        assert (checks["source", name]["verdict"], checks["source", name]["found"]) == ("skipped", "not tried")


def test_what_is_no_parquet(vehins: Vehins) -> None:
    Path("a.parquet").write_bytes(b"PAR1 and nothing else")
    assert found(vehins, "--source", "a.parquet", code=4)["source", "columns"]["verdict"] == "failed"


@needs_root
def test_a_file_that_may_not_be_read(vehins: Vehins, tmp_path: Path) -> None:
    customers(20).write_csv("a.csv")
    Path("a.csv").chmod(0)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    options = stores.ReadOptions()
    os.seteuid(65534)
    try:
        checks = list(stores.sources.csv.probe("a.csv", options))
    finally:
        os.seteuid(0)
    assert [(check.name, check.verdict) for check in checks] == [("files", "ok"), ("permission to read", "failed")]
    assert checks[-1].found == "Cannot read a.csv. Permission denied."


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--source", "demo://?rows=0"), 3, "`demo://` cannot take rows=0"),
        (("--source", "gopher://x"), 3, "Nothing reads a source like gopher://x"),
        (("--registry", "gopher://x"), 3, "kind"),
        (("--to", "gopher://x"), 3, "Nothing writes to an address like gopher://x"),
        (("--schema", "nowhere.toml", "--source", "a.csv"), 3, "Cannot read the schema nowhere.toml"),
    ],
)
def test_an_address_that_makes_no_sense(words: tuple[str, ...], code: int, said: str, vehins: Vehins) -> None:
    customers(20).write_csv("a.csv")
    checks = found(vehins, *words, code=code)
    failed = [check for check in checks.values() if check["verdict"] == "failed"]
    assert len(failed) == 1
    assert said in failed[0]["found"]


# --- This installation --------------------------------------------------------------------------------------------


def of_installation(name: str, settings: Settings, config: Path | None = None) -> Check:
    return next(check for check in installation.checks(settings, config) if check.name == name)


@pytest.mark.parametrize(
    ("asked", "verdict", "said"),
    [
        ("pydantic>=2.10", "ok", "pydantic 2."),
        ("pydantic>=99.1", "failed", "(at least 99.1 is needed)"),
        ("no-such-library>=1.0", "failed", "no-such-library is absent"),
        ("no-such-library>=1.0 ; extra == 'x'", "ok", "vehins "),
    ],
)
def test_libraries(asked: str, verdict: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what a distribution says that it needs."""
    folder = tmp_path / "vehins-0.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: vehins\nVersion: 0\nRequires-Dist: {asked}\n")
    monkeypatch.syspath_prepend(tmp_path)
    check = of_installation("libraries", Settings())
    assert check.verdict == verdict
    assert said in check.found
    assert ("pip install" in check.mend) == (verdict == "failed")


def test_lightgbm_without_its_native_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an image without OpenMP: the import ends in an OSError."""
    tmp_path.joinpath("lightgbm.py").write_text("import ctypes\nctypes.CDLL('libno-such-openmp.so.1')\n")
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    check = of_installation("LightGBM", Settings())
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    assert check.verdict == "failed"
    assert "libno-such-openmp.so.1" in check.found
    assert "libgomp1" in check.mend


def test_a_workspace_that_cannot_be(vehins: Vehins) -> None:
    Path("file").touch()
    check = found(vehins, "-w", "file/workspace", code=6)["installation", "workspace"]
    assert check["verdict"] == "failed"
    Path("newer").mkdir()
    Path("newer/workspace.json").write_text('{"version": 99}')
    check = found(vehins, "-w", "newer", code=3)["installation", "workspace"]
    assert "was written by a newer vehins" in check["found"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_workspace_that_is_read_only(vehins: Vehins) -> None:
    check = found(vehins, "-w", "/proc/self", code=6)["installation", "workspace"]
    assert check["verdict"] == "failed"


def test_files_with_settings_that_others_can_read(vehins: Vehins) -> None:
    Path(".env").write_text("VEHINS_THREADS=1\n")
    Path(".env").chmod(0o644)
    Path("vehins.toml").chmod(0o600)
    check = found(vehins)["installation", "settings"]
    assert check["found"] == ".env and vehins.toml"
    assert "`chmod 600 .env`" in check["mend"]
    Path(".env").chmod(0o600)
    assert not found(vehins)["installation", "settings"]["mend"]


def test_a_clock_that_is_behind(finished: Vehins) -> None:
    run = next((WORKSPACE / "runs").glob("*.json"))
    os.utime(run, (time.time() + 10 * 86_400,) * 2)
    check = found(finished, code=4)["installation", "clock"]
    assert "files from 10 days later" in check["found"]


def test_one_fault_of_the_installation_hides_no_other(finished: Vehins) -> None:
    os.utime(next((WORKSPACE / "runs").glob("*.json")), (time.time() + 10 * 86_400,) * 2)
    WORKSPACE.joinpath("workspace.json").write_text('{"version": 99}')
    checks = found(finished, code=3)
    assert [name for (_, name), check in checks.items() if check["verdict"] == "failed"] == ["workspace", "clock"]


# --- How it is examined -------------------------------------------------------------------------------------------


def examined(subject: Subject, patience: float = 5.0) -> tuple[list[Check], int]:
    findings = list(examine([subject], patience, lambda _: None))
    return [finding.check for finding in findings], exit_code(findings)


def failing(*checks: Check) -> Subject:
    return Subject("x", lambda: iter(checks), ("a", "b", "c"))


def test_what_is_behind_a_failure_is_shown_as_not_tried() -> None:
    checks, code = examined(failing(Check("a", "ok", "1"), Check("b", "failed", "2", "3", 3), Check("c", "ok", "4")))
    assert [(check.name, check.verdict) for check in checks] == [("a", "ok"), ("b", "failed"), ("c", "skipped")]
    assert code == 3


@pytest.mark.parametrize(
    ("error", "code"), [(CredentialsError("no", detail="d", hint="h"), 3), (UnreachableError("no", hint="h"), 6)]
)
def test_an_error_makes_the_check_fail_that_was_due(error: Any, code: int) -> None:
    def steps() -> Iterator[Check]:
        yield Check("a", "ok", "1")
        raise error

    checks, ended = examined(Subject("x", steps, ("a", "b", "c")))
    assert checks[1] == probes.failed("b", error)
    assert ended == code


def test_a_bug_in_a_driver_does_not_keep_the_other_stores_from_being_checked() -> None:
    def steps() -> Iterator[Check]:
        raise RuntimeError("cannot connect to mongodb://u:geheim@h/db")
        yield

    findings = list(examine([Subject("x", steps), failing(Check("a", "ok", "1"))], 5, lambda _: None))
    assert findings[0].check.found == "RuntimeError: cannot connect to mongodb://u:***@h/db"
    assert findings[1].check.verdict == "ok"
    assert exit_code(findings) == 1


def test_a_check_that_never_ends_is_ended() -> None:
    """A server that takes the connection and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:

        def steps() -> Iterator[Check]:
            yield Check("a", "ok", "1")
            with socket.create_connection(silent.getsockname()) as connection:
                connection.recv(1)

        begin = time.monotonic()
        checks, code = examined(Subject("x", steps, ("a", "b", "c")), patience=3)
    assert time.monotonic() - begin < 60
    assert [(check.name, check.verdict) for check in checks] == [("a", "ok"), ("b", "failed"), ("c", "skipped")]
    assert checks[1].found == "no answer within 3 seconds"
    assert code == 6


def test_a_kind_without_checks_is_not_called_well() -> None:
    checks, code = examined(Subject("x", lambda: stores._probe(object(), "x://y")))
    assert [check.verdict for check in checks] == ["skipped"]
    assert code == 3


def test_what_is_being_checked_is_told() -> None:
    told: list[str] = []
    before = threading.active_count()
    list(examine([failing(Check("a", "ok", "1"), Check("b", "failed", "2"))], 5, told.append))
    assert told == ["x: a", "x: b"]
    wait_until(lambda: threading.active_count() <= before)


# --- A store on a server ------------------------------------------------------------------------------------------

WAY = ["address", "driver", "DNS", "port", "TLS", "login", "permission to read", "rows seen", "clock skew"]


def of_source(vehins: Vehins, url: str, *words: str, code: int = 0) -> list[dict[str, str]]:
    checks = found(vehins, "--source", url, *words, code=code)
    return [check for (of, _), check in checks.items() if of == "source"]


def test_the_whole_way_to_a_server(vehins: Vehins, postgres_database: Any) -> None:
    postgres_database.run("CREATE TABLE customers AS SELECT i AS id FROM generate_series(1, 70) i")
    checks = of_source(vehins, postgres_database.url + "?table=customers")
    assert [check["check"] for check in checks] == WAY
    assert {check["verdict"] for check in checks} <= {"ok", "skipped"}


@pytest.mark.parametrize(
    ("change", "failing", "code"),
    [
        (lambda url, port: url.replace("table=", "tabel="), "address", 3),
        (lambda url, port: url.replace("127.0.0.1", "no-such-host.invalid"), "DNS", 6),
        (lambda url, port: url.replace(url.split(":")[3].split("/")[0], str(port)), "port", 6),
        (lambda url, port: url + "&sslmode=verify-full", "TLS", 6),
        (lambda url, port: url.replace("@", "x@"), "login", 3),
        (lambda url, port: url.replace("customers", "costumers"), "permission to read", 6),
    ],
    ids=WAY[:1] + WAY[2:7],
)
def test_where_it_ends(change: Any, failing: str, code: int, vehins: Vehins, postgres_database: Any) -> None:
    if "VEHINS_TEST_POSTGRES_URL" in os.environ:
        pytest.skip("needs a server whose address has one form")
    postgres_database.run("CREATE TABLE customers AS SELECT i AS id FROM generate_series(1, 70) i")
    url = change(postgres_database.url + "?table=customers", free_port())
    checks = of_source(vehins, url, "--set", "remote.connect_timeout=3", code=code)
    verdicts = {check["check"]: check["verdict"] for check in checks}
    assert sorted(verdicts) == sorted(WAY)
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == [failing]
    assert {verdicts[name] for name in WAY[WAY.index(failing) + 1 :]} == {"skipped"}


def test_the_way_to_a_table_that_is_to_be_written(
    vehins: Vehins, postgres_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not be there yet; the login is that of the target."""
    login, _, rest = postgres_database.url.partition("://")[2].partition("@")
    user, _, password = login.partition(":")
    monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_USER", user)
    monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_PASSWORD", password)
    url = f"postgresql://{rest}?table=not_there_yet"
    checks = {name: check for (of, name), check in found(vehins, "--to", url).items() if of == "target"}
    assert list(checks) == [*WAY[:6], "permission to write"]
    assert checks["login"]["verdict"] == "ok"
    monkeypatch.setenv("VEHINS_CREDENTIALS_TARGET_PASSWORD", "wrong")
    assert found(vehins, "--to", url, code=3)["target", "login"]["verdict"] == "failed"


@pytest.mark.parametrize(("path", "code"), [("scored.csv", 0), ("nowhere/scored.parquet", 6)])
def test_the_way_to_a_file_that_is_to_be_written(path: str, code: int, vehins: Vehins) -> None:
    from vehins.data import sinks

    if not any(kind.matches(path) for kind in sinks.kinds()):
        pytest.skip("nothing writes files")
    check = found(vehins, "--to", path, code=code)["target", "permission to write"]
    assert check["verdict"] == ("failed" if code else "ok")
    assert str(Path(path).parent.absolute()) in check["found"]
