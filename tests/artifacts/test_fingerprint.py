"""What a result depends on besides its inputs: no change of it is missed, and none that is without influence counts."""

from __future__ import annotations

import subprocess

import pytest

import vehins
from vehins.artifacts import fingerprint
from vehins.artifacts.fingerprint import code_record, library_versions, source_digest

SOURCES = {
    "__init__.py": "",
    "stages/train.py": "x = 1",
    "data/schemas/car.toml": "name = 1",
    "registry/objects.py": "x = 1",
    "cli/app.py": "x = 1",
    "serving/app.py": "x = 1",
    "serving/page/index.html": "<p>",
    "report/html.py": "x = 1",
    "cloud/stack.py": "x = 1",
    "__main__.py": "x = 1",
    "stages/__pycache__/train.pyc": "x",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package to change."""
    folder = tmp_path / "vehins"
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(fingerprint, "_PACKAGE", folder)
    yield folder
    source_digest.cache_clear()
    code_record.cache_clear()


def digest() -> str:
    source_digest.cache_clear()
    return source_digest()


@pytest.mark.parametrize(
    "name",
    [
        "stages/train.py",
        "data/schemas/car.toml",
        "registry/objects.py",
        "__init__.py",
        "new.py",
        "climate.py",
        "reporting/x.py",
        "stages/cli/x.py",
    ],
)
def test_a_change_of_what_shapes_a_result_counts(package, name):
    before = digest()
    path = package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x = 2")
    assert digest() != before


@pytest.mark.parametrize(
    "name",
    [
        "cli/app.py",
        "cli/new.py",
        "serving/app.py",
        "serving/page/index.html",
        "report/html.py",
        "cloud/stack.py",
        "__main__.py",
        "stages/__pycache__/train.pyc",
        "readme.md",
    ],
)
def test_a_change_of_what_shapes_nothing_does_not(package, name):
    before = digest()
    (package / name).write_text("x = 2")
    assert digest() == before


def test_a_file_that_moves_or_goes_counts(package):
    before = digest()
    (package / "stages" / "train.py").rename(package / "stages" / "trained.py")
    moved = digest()
    (package / "stages" / "trained.py").unlink()
    assert len({before, moved, digest()}) == 3


def test_the_digest_does_not_depend_on_where_the_package_is(package):
    before = digest()
    package.rename(package.with_name("elsewhere"))
    fingerprint._PACKAGE = package.with_name("elsewhere")
    assert digest() == before


def test_the_code_that_runs_is_recorded():
    found = code_record()
    assert found.version == vehins.__version__
    assert found.source == source_digest()


def test_an_installed_package_has_no_revision(package):
    code_record.cache_clear()
    assert code_record().revision is None


def test_a_checkout_has_the_revision_of_git(package):
    git = ["git", "-C", str(package.parent), "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert fingerprint._revision() is None
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    answer = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert fingerprint._revision() == answer.stdout.strip()


def test_without_git_there_is_no_revision(package, monkeypatch):
    (package.parent / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert fingerprint._revision() is None


def test_versions_of_libraries_are_those_installed():
    found = library_versions(("pydantic", "no-such-library"))
    assert found["pydantic"].count(".") >= 1
    assert found["no-such-library"] == "absent"
