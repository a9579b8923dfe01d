"""Runs the jobs of a workflow here as GitHub's runner does, as far as ours need it.

Real: the shell of a ``run`` line, its environment, the files of ``GITHUB_OUTPUT`` and ``GITHUB_STEP_SUMMARY``, which
steps and jobs are skipped, artifacts between jobs, and a new folder for each job. An action that only prepares the
machine (checkout, an interpreter, a login) is noted and not run: the folder has the checkout's ``.venv`` and settings.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from vehins_runner import child_environment

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
_PREPARING = ("actions/checkout", "actions/setup-python", "aws-actions/configure-aws-credentials")
_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(&&|\|\||==|!=|!|\(|\))|([A-Za-z_][\w.-]*))")
_SIGNS = {"&&": " and ", "||": " or ", "!": " not "}
_STATUS = re.compile(r"\b(always|cancelled|failure|success)\(\)")


def load(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 takes the key ``on`` for a boolean."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["on"] = found.pop(True)
    return found


@dataclass
class Step:
    """How a step went."""

    name: str
    outcome: str
    code: int | None = None
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def annotations(self) -> list[tuple[str, str, str]]:
        """Kind, title and text of what stands on top of the job's page; what is stopped is no annotation."""
        found, token = [], None
        for line in self.log.splitlines():
            stop = re.fullmatch(r"::stop-commands::(\w+)", line)
            if token is None and stop:
                token = stop[1]
            elif token is not None:
                token = None if line == f"::{token}::" else token
            elif command := re.fullmatch(r"::(error|warning|notice)(?: title=([^:]*))?::(.*)", line):
                found.append((command[1], _unquoted(command[2] or ""), _unquoted(command[3])))
        return found


@dataclass
class Job:
    """How a job went."""

    result: str
    steps: dict[str, Step] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""

    @property
    def ran(self) -> list[str]:
        """The ``run`` steps that were not skipped."""
        return [name for name, step in self.steps.items() if step.code is not None]


class Runner:
    """Runs a workflow in ``folder``; ``given`` has the contexts from outside: vars, secrets, inputs, github."""

    def __init__(self, workflow: Path, folder: Path, settings: str, **given: dict[str, str]) -> None:
        self._workflow, self._folder, self._settings = load(workflow), folder, settings
        self._given = {"vars": {}, "secrets": {}, "inputs": {}, "github": {"event_name": "workflow_dispatch"}, **given}
        self.artifacts = folder / "artifacts"
        self.jobs: dict[str, Job] = {}

    def run(self) -> dict[str, Job]:
        """Run the jobs in the order in which they stand."""
        for name, job in self._workflow["jobs"].items():
            contexts = {**self._given, "needs": {need: vars(self.jobs[need]) for need in _listed(job.get("needs"))}}
            fine = all(need["result"] == "success" for need in contexts["needs"].values())
            allowed = _condition(job.get("if"), contexts, failed=not fine)
            self.jobs[name] = self._job(name, job, contexts) if allowed else Job("skipped")
        return self.jobs

    def _job(self, name: str, job: dict[str, Any], contexts: dict[str, Any]) -> Job:
        place = self._folder / name
        place.mkdir(parents=True)
        (place / "vehins.toml").write_text(self._settings)
        done = Job("success")
        contexts = {**contexts, "steps": {}}
        variables = _rendered({**self._workflow.get("env", {}), **job.get("env", {})}, contexts)
        for number, step in enumerate(job["steps"]):
            contexts["env"] = variables
            title = step.get("name", f"{number}")
            if _condition(step.get("if"), contexts, failed=done.result == "failure"):
                ended = self._step(step, title, place, variables, contexts)
            else:
                ended = Step(title, "skipped")
            done.steps[title] = ended
            contexts["steps"][step.get("id", title)] = vars(ended)
            if ended.outcome == "failure":
                done.result = "failure"
        done.outputs = _rendered(job.get("outputs", {}), contexts)
        summary = place / "summary.md"
        done.summary = summary.read_text(encoding="utf-8") if summary.exists() else ""
        return done

    def _step(
        self, step: dict[str, Any], title: str, place: Path, variables: dict[str, str], contexts: dict[str, Any]
    ) -> Step:
        if "run" in step:
            return _shell(step["run"], title, place, {**variables, **_rendered(step.get("env", {}), contexts)})
        action, given = step["uses"].partition("@")[0], _rendered(step.get("with", {}), contexts)
        if action == "actions/upload-artifact":
            return self._upload(title, place, given)
        if action == "actions/download-artifact":
            shutil.copytree(self.artifacts / given["name"], place / given["path"], dirs_exist_ok=True)
            return Step(title, "success")
        assert action in _PREPARING, f"{action} is not known here"
        return Step(title, "success")

    def _upload(self, title: str, place: Path, given: dict[str, str]) -> Step:
        """Keep files below the folder that all search paths share; what is hidden is left out."""
        patterns = given["path"].split()
        roots = [Path(*_without_wildcards(Path(pattern).parts)) for pattern in patterns]
        root = Path(os.path.commonpath([place / part for part in roots]))
        found = [path for pattern in patterns for path in _files(place, pattern)]
        for path in found:
            target = self.artifacts / given["name"] / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return Step(title, "success" if found or given.get("if-no-files-found") != "error" else "failure")


def _shell(line: str, title: str, place: Path, variables: dict[str, str]) -> Step:
    """Run a line as ``shell: bash`` does."""
    if line.startswith("make "):  # it would make a second .venv; that there is such a target is checked elsewhere
        (place / ".venv").symlink_to(ROOT / ".venv")
        return Step(title, "success", 0)
    script, output = place / "step.sh", place / "output"
    script.write_text(line)
    output.write_text("")
    environment = child_environment(**variables)
    environment |= {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(place / "summary.md"), "CI": "true"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    outputs = dict(entry.split("=", 1) for entry in output.read_text(encoding="utf-8").splitlines())
    outcome = "success" if done.returncode == 0 else "failure"
    return Step(title, outcome, done.returncode, done.stdout + done.stderr, outputs)


def _without_wildcards(parts: tuple[str, ...]) -> tuple[str, ...]:
    return next((parts[:number] for number, part in enumerate(parts) if "*" in part), parts)


def _files(place: Path, pattern: str) -> list[Path]:
    found = [path for match in place.glob(pattern) for path in (match.rglob("*") if match.is_dir() else [match])]
    return [path for path in found if path.is_file() and not any(p[0] == "." for p in path.relative_to(place).parts)]


# --- Expressions ------------------------------------------------------------------------------------------------------


def _rendered(values: dict[str, Any], contexts: dict[str, Any]) -> dict[str, str]:
    def text(found: re.Match[str]) -> str:
        value = evaluate(found[1], contexts)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return {name: re.sub(r"\$\{\{(.*?)\}\}", text, str(value)) for name, value in values.items()}


def _condition(given: str | None, contexts: dict[str, Any], *, failed: bool) -> bool:
    """Whether a step or a job with this ``if`` takes place; without a function of status, it wants success."""
    text = (given or "success()").strip().removeprefix("${{").removesuffix("}}")
    if not _STATUS.search(text):
        text = f"success() && ({text})"
    return bool(evaluate(text, contexts, failed=failed))


def evaluate(text: str, contexts: dict[str, Any], *, failed: bool = False) -> Any:
    """The value of an expression; what is not there is empty."""
    parts, at = [], 0
    text = text.strip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token, f"not understood: {text[at:]}"
        at = token.end()
        string, sign, name = token.groups()
        is_call = name is not None and text[at : at + 1] == "("
        parts.append(
            repr(string[1:-1].replace("''", "'")) if string
            else _SIGNS.get(sign, sign) if sign
            else name if is_call
            else f"_get({name!r})"
        )  # fmt: skip
    functions = {
        "always": lambda: True,
        "cancelled": lambda: False,
        "failure": lambda: failed,
        "success": lambda: not failed,
    }
    return eval("".join(parts), {"__builtins__": {}, **functions, "_get": lambda name: _get(name, contexts)})


def _get(name: str, contexts: dict[str, Any]) -> Any:
    found: Any = contexts
    for part in name.split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return found


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


def _unquoted(text: str) -> str:
    for code, sign in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, sign)
    return text
