"""The documents say what the code does: those made from code are up to date, and the others name what exists."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import typer

from vehins import settings
from vehins.artifacts.manifest import KINDS, json_schema
from vehins.cli.app import app
from vehins.data.schema import Column, Interaction, TableSchema

ROOT = Path(__file__).parent.parent
WRITTEN = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/another-table.md",
    "docs/cloud.md",
    "docs/credentials.md",
    "docs/doctor.md",
    "docs/evaluation.md",
    "docs/how-it-works.md",
    "docs/operations.md",
    "docs/registry.md",
    "docs/report.md",
    "docs/serving.md",
    "docs/sources.md",
    "docs/targets.md",
    "docs/training.md",
    "docs/using-the-model.md",
]


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("path", "text"), _generator().documents().items(), ids=str)
def test_generated_document_is_up_to_date(path, text):
    assert (ROOT / path).read_text(encoding="utf-8") == text, "run: python docs/generate.py"


def test_every_setting_is_in_the_example_and_in_the_document():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    document = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for spec in settings.specs():
        assert f"# {spec.variable}=" in example
        assert f"| `{spec.name}` | `{spec.variable}` |" in document
        assert spec.description, f"{spec.name} has no description"


def test_the_example_is_a_file_that_can_be_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    values = re.sub(r"^# (VEHINS_)", r"\1", example, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(values, encoding="utf-8")
    assert settings.load().settings == settings.Settings()


def test_commands_that_the_documents_name_exist():
    names = {" ".join(path) for path, _ in _generator()._leaves(typer.main.get_command(app), ["vehins"])}
    for document in WRITTEN:
        text = (ROOT / document).read_text(encoding="utf-8")
        for words in re.findall(r"\bvehins ((?:pipeline|runs|models|config|cloud) [a-z]+|[a-z]+)\b(?=[ `\n])", text):
            prefixes = {f"vehins {words}", f"vehins {words.split()[0]}"}
            is_command = f"`vehins {words}" in text or f"bin/vehins {words}" in text or f"$ vehins {words}" in text
            assert not is_command or prefixes & names, f"{document} names `vehins {words}`"


def test_settings_that_the_documents_name_exist():
    names = {spec.name for spec in settings.specs()}
    sections = {name.split(".")[0] for name in names if "." in name}
    for document in WRITTEN:
        text = (ROOT / document).read_text(encoding="utf-8")
        for name in re.findall(r"`([a-z]+\.[a-z_]+)(?: = [^`]*)?`", text):
            if name.split(".")[0] in sections:
                assert name in names, f"{document} names the setting {name}"


def test_links_of_the_documents_lead_somewhere():
    for document in [*WRITTEN, "docs/artifacts.md", "CHANGELOG.md"]:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


@pytest.mark.parametrize("document", ["README.md", "docs/another-table.md"])
def test_schema_of_a_document_is_a_schema(document, tmp_path):
    from vehins.data.schema import load

    text = (ROOT / document).read_text(encoding="utf-8")
    block = re.search(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "telco.toml").write_text(block[1], encoding="utf-8")
    assert load(str(tmp_path / "telco.toml")).target == "Churn"
    assert tomllib.loads(block[1])["name"] == "telco"


@pytest.mark.parametrize("kind", KINDS)
def test_published_schema_is_a_json_schema(kind):
    jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(json_schema(kind))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_result_is_described(kind):
    result = KINDS[kind].model_fields["result"].annotation
    assert [name for name, field in result.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("record", [TableSchema, Column, Interaction])
def test_every_key_of_the_table_schema_is_described(record):
    assert [name for name, field in record.model_fields.items() if not field.description] == []
