"""The runner of GitHub on the box: how it is registered, started anew, and which jobs it takes.

GitHub cannot be had here. In the place of its releases are files of the test's: archives with scripts that refuse what
the runner's own refuse, `config.sh` a second registration, `svc.sh` a service that is there already. Its packages are
left out, and no user is made.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stack_words import REPOSITORY, write_executable

from vehins.cloud import files

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOT = Path(files.__file__).parent / "boot"
CONFIG = """#!/bin/sh
[ ! -e .runner ] && [ ! -e .runner_migrated ] || { echo "already configured"; exit 1; }
echo "config.sh $* with $ACTIONS_RUNNER_INPUT_TOKEN in $HOME" >> ../calls
[ "$ACTIONS_RUNNER_INPUT_TOKEN" = good ] || exit 1
touch .runner
"""
SERVICE = """#!/bin/sh
case "$1" in
  install) [ ! -e ../unit ] || { echo "exists"; exit 1; }; touch ../unit .service;;
  uninstall) rm -f ../unit .service;;
  start) [ -e ../unit ] || exit 1;;
esac
echo "svc.sh $*" >> ../calls
"""
OTHER_KINDS = ("linux-arm64", "osx-x64")
SCRIPTS = {"config.sh": CONFIG, "svc.sh": SERVICE, "bin/installdependencies.sh": "#!/bin/sh\n"}
STARTED = ["svc.sh uninstall", "svc.sh install vehins-runner", "svc.sh start"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runner's folder; its archive is there to be fetched."""
    for name in ("systemctl", "runuser", "useradd", "chown"):
        write_executable(tmp_path / "bin" / name, '#!/bin/sh\n[ "$1" = -u ] || exit 0\nshift 3\nexec "$@"\n')
    for version in ("2.1.0", "2.2.0"):
        release(tmp_path, version)
    tell(tmp_path, "2.2.0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("VEHINS_BOX_ROOT", str(tmp_path))
    (tmp_path / "var/lib/vehins").mkdir(parents=True)
    return tmp_path / "opt/vehins-runner"


def release(root: Path, version: str) -> Path:
    """Make the archive of a release, as GitHub has it."""
    path = root / f"releases/v{version}/actions-runner-linux-x64-{version}.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {**SCRIPTS, "version": version}.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def sha256(root: Path, version: str) -> str:
    archive = root / f"releases/v{version}/actions-runner-linux-x64-{version}.tar.gz"
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def tell(root: Path, version: str, digest: str | None = None) -> None:
    """Let GitHub's list say that this is the newest release."""
    mine = {
        "name": f"actions-runner-linux-x64-{version}.tar.gz",
        "digest": f"sha256:{digest or sha256(root, version)}",
    }
    others = [{"name": f"actions-runner-{one}-{version}.tar.gz", "digest": "sha256:" + "0" * 64} for one in OTHER_KINDS]
    (root / "latest").write_text(json.dumps({"assets": [*others, mine]}))


def register(told: Mapping[str, str], token: str | None = "good") -> None:
    """What the first start and each deployment do, of a machine that has been told so."""
    root = Path(os.environ["VEHINS_BOX_ROOT"])
    spec = spec_from_file_location("vehins_box", BOOT / "vehins_box.py")
    assert spec
    assert spec.loader
    box: Any = module_from_spec(spec)
    spec.loader.exec_module(box)
    box.stack = lambda: {"stack": "vehins", "environment": "production", "repository": REPOSITORY, **told}
    box.RUNNER_LATEST, box.RUNNER_DOWNLOADS = (root / "latest").as_uri(), (root / "releases").as_uri()
    box.RUNNER_KNOWN = ("2.1.0", sha256(root, "2.1.0"))
    box.register_runner({"runner-token": token} if token else {})


def calls(home: Path) -> list[str]:
    path = home.parent / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("repository", ["insurer/vehins", "insurer@12/vehins@345"])
def test_it_is_registered_and_started_once(home: Path, repository: str) -> None:
    register({"repository": repository})
    first, *rest = calls(home)
    assert first.startswith("config.sh --unattended --replace --url https://github.com/insurer/vehins --name vehins ")
    assert first.endswith(f"--labels vehins,production with good in {home}")
    assert rest == STARTED
    hook = home.parents[1] / "usr/local/lib/vehins/job-started.sh"
    assert (home / ".env").read_text() == f"ACTIONS_RUNNER_HOOK_JOB_STARTED={hook}\n"
    register({"repository": repository})
    assert calls(home) == []


def test_what_was_cut_short_is_brought_to_its_end(home: Path) -> None:
    """It is registered, and the token has ended since; only the service is not there yet."""
    register({})
    (home / ".service").unlink()
    calls(home)
    register({}, token=None)
    assert calls(home) == STARTED


def test_it_is_registered_anew_as_the_runbook_says(home: Path) -> None:
    """GitHub has forgotten it. There are its service, a copy of its settings, and a newer release behind a link."""
    register({})
    (home / ".runner").rename(home / ".runner_migrated")
    (home / "bin").rename(home / "bin.2.999.0")
    (home / "bin").symlink_to("bin.2.999.0")
    calls(home)
    register({})
    stopped, configured, *rest = calls(home)
    assert (stopped, configured.split()[0], rest) == ("svc.sh uninstall", "config.sh", STARTED)
    assert not (home / ".runner_migrated").exists()
    assert not (home / "bin").is_symlink()
    register({})
    assert calls(home) == []


def test_the_newest_release_is_taken(home: Path) -> None:
    """GitHub gives no job to a runner that is more than a month behind its newest one."""
    register({})
    assert (home / "version").read_text() == "2.2.0"


@pytest.mark.parametrize("told", [None, "", "[]", '{"assets": [{"name": 1}]}', '{"message": "API rate limit"}'])
def test_a_release_that_is_known_is_taken_where_github_tells_of_none(home: Path, told: str | None) -> None:
    latest = home.parents[1] / "latest"
    latest.unlink() if told is None else latest.write_text(told)
    register({})
    assert (home / "version").read_text() == "2.1.0"
    assert calls(home)[1:] == STARTED


def test_another_archive_than_github_tells_of_is_not_unpacked(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tell(home.parents[1], "2.2.0", "0" * 64)
    register({})
    assert "runner.tar.gz has the SHA-256 " in capfd.readouterr().err
    assert not (home / "config.sh").exists()
    assert calls(home) == []


def test_a_token_that_has_ended_stops_nothing(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    register({}, token="of-yesterday")
    told = capfd.readouterr().err
    assert "The runner was not registered" in told
    assert "of-yesterday" not in told
    assert [line.split()[0] for line in calls(home)] == ["config.sh"]
    assert not (home / ".env").exists()


def test_without_token_or_repository_there_is_none(home: Path) -> None:
    register({}, token=None)
    register({"repository": ""})
    assert calls(home) == []


# --- Its fence --------------------------------------------------------------------------------------------------------

# As Ubuntu orders it: cloud-init brings the network up and then asks it, all before the system is initialised.
CLOUD_INIT = """[Unit]
DefaultDependencies=no
Wants=systemd-networkd-wait-online.service
After=systemd-networkd-wait-online.service
Before=network-online.target sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/true
"""


def test_the_fence_does_not_wait_for_who_waits_for_it(tmp_path: Path) -> None:
    """Else systemd leaves out one of them at each boot, and that may be cloud-init or the network."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze (systemd)")
    fence = (BOOT / "vehins-fence.service").read_text().replace("/usr/sbin/iptables", "/bin/true")
    (tmp_path / "vehins-fence.service").write_text(fence)
    (tmp_path / "cloud-init.service").write_text(CLOUD_INIT)
    box = tmp_path / "box.target"
    box.write_text("[Unit]\nWants=basic.target cloud-init.service systemd-networkd.service vehins-fence.service\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(box)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cycle" not in done.stderr


# --- Jobs -------------------------------------------------------------------------------------------------------------

MAIN = f"{REPOSITORY}/.github/workflows/deploy.yml@refs/heads/main"
OTHERS = [
    "",
    f"{REPOSITORY}/.github/workflows/ci.yml@refs/pull/7/merge",
    f"{REPOSITORY}/.github/workflows/deploy.yml@refs/pull/7/merge",
    f"{REPOSITORY}/.github/workflows/deploy.yml@refs/heads/main2",
    f"{REPOSITORY}/.github/workflows/ci.yml@refs/heads/main",
    f"{REPOSITORY}/.github/workflows/ci.yml@refs/heads/x/{MAIN}",
    MAIN.replace("insurer", "stranger"),
]


def start_job(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(BOOT / "job-started.sh")], env=variables, capture_output=True, text=True, check=False
    )


def test_the_deployment_of_main_is_taken() -> None:
    assert start_job(GITHUB_REPOSITORY=REPOSITORY, GITHUB_WORKFLOW_REF=MAIN).returncode == 0


@pytest.mark.parametrize("workflow", OTHERS)
def test_no_other_job_is_taken(workflow: str) -> None:
    """A pull request's above all: in a public repository, anybody writes those."""
    done = start_job(GITHUB_REPOSITORY=REPOSITORY, GITHUB_WORKFLOW_REF=workflow)
    assert done.returncode == 1
    assert f"takes jobs of {MAIN} alone" in done.stderr


def test_a_job_that_says_nothing_of_itself_is_none() -> None:
    assert start_job().returncode == 1


def test_the_hook_is_among_the_files_and_is_named_as_the_runner_wants_it() -> None:
    """It chooses the shell by the ending."""
    (found,) = [one for one in files._files() if one.path.endswith("job-started.sh")]
    assert (found.path, found.mode) == ("/usr/local/lib/vehins/job-started.sh", 0o755)
    assert found.content.startswith(b"#!/bin/bash\n")
