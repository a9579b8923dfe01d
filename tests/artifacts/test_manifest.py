"""A manifest is read back as it was written, or refused in words."""

from __future__ import annotations

import json
import math

import pytest
from artifact_samples import MOMENT, RESULTS, sample
from pydantic import ValidationError

from vehins.artifacts import manifest
from vehins.artifacts.manifest import KINDS, Recipe, canonical, digest, dump, parse
from vehins.errors import ArtifactDamagedError, WorkspaceVersionError


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_back(kind):
    written = sample(kind)
    again = parse(dump(written), "x")
    assert type(again) is KINDS[kind]
    assert again == written
    assert json.loads(dump(again)) == json.loads(dump(written))
    assert again.recipe.fingerprint == written.recipe.fingerprint
    assert again.created_at == MOMENT


def test_a_manifest_can_be_read_by_people():
    text = dump(sample("Dataset")).decode()
    assert text.endswith("}\n")
    assert '  "created_at": "2026-11-24T10:11:12.345678Z"' in text
    assert "customers é.csv" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_never_written(kind, value):
    """JSON has no word for it, and other readers would stumble."""
    with pytest.raises(ValidationError):
        sample(kind, seconds=value)
    assert json.loads(dump(sample(kind, settings={"x": value})))["settings"] == {"x": None}


def edited(old: str, new: str, kind: str = "Evaluation") -> bytes:
    text = dump(sample(kind)).decode()
    assert old in text
    return text.replace(old, new, 1).encode()


EDITS = {
    "a verdict": edited('"verdict": "pass"', '"verdict": "fail"'),
    "a number": edited('"auc": 0.86', '"auc": 0.96'),
    "an id": edited('"id": "2026', '"id": "2027'),
    "the checksum": edited('"checksum": "', '"checksum": "0'),
    "a field more": edited('"kind"', '"more": 1, "kind"'),
    "the kind": edited('"kind": "Evaluation"', '"kind": "Dataset"'),
    "an older version": edited('"manifest_version": 1', '"manifest_version": 0'),
    "not a number": edited('"seconds": 1.25', '"seconds": NaN'),
    "endless": edited('"seconds": 1.25', '"seconds": 1e999'),
    "half a character": edited('"stage": "some stage"', '"stage": "\\ud800"'),
}


@pytest.mark.parametrize("data", EDITS.values(), ids=EDITS)
def test_an_edited_manifest_is_refused(data):
    with pytest.raises(ArtifactDamagedError, match=r"here/manifest\.json is damaged") as caught:
        parse(data, "here/manifest.json")
    assert caught.value.exit_code == 4
    assert caught.value.detail
    assert "run the stage again" in caught.value.hint


def test_other_blanks_are_no_edit():
    assert parse(json.dumps(json.loads(dump(sample("Dataset")))).encode(), "x") == sample("Dataset")


WHOLE = dump(sample("Dataset"))
NO_MANIFESTS = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"null",
    b"7",
    b"\xff\xfe",
    b"{}",
    b'{"checksum": 1}',
    WHOLE[:-3],
    WHOLE + b"x",
]


@pytest.mark.parametrize("data", NO_MANIFESTS)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ArtifactDamagedError) as caught:
        parse(data, "x")
    assert caught.value.detail == "It is not a manifest of vehins."


@pytest.mark.parametrize("length", range(0, len(WHOLE) - 2, 97))
def test_a_truncated_manifest_is_refused(length):
    with pytest.raises(ArtifactDamagedError):
        parse(WHOLE[:length], "x")


def sealed(**changes) -> bytes:
    """A manifest as another version of vehins would write it."""
    body = {**json.loads(WHOLE), **changes}
    body.pop("checksum")
    return json.dumps({**body, "checksum": digest(body)}).encode()


@pytest.mark.parametrize(
    "data",
    [
        sealed(manifest_version=2),
        sealed(manifest_version=2, more=1),
        sealed(kind="Report"),
        WHOLE.replace(b'version": 1', b'version": 2'),
    ],
    ids=["sealed alike", "with more fields", "new kind", "sealed in another way"],
)
def test_a_newer_manifest_is_not_called_damaged(data):
    """Else the next writer would set it aside."""
    with pytest.raises(WorkspaceVersionError, match="written by a newer vehins") as caught:
        parse(data, "x")
    assert caught.value.exit_code == 3
    assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"), [("files", [{"path": "../x"}]), ("result", {}), ("more", 1), ("seconds", -1)]
)
def test_a_sealed_manifest_that_cannot_be_is_damaged(field, value):
    with pytest.raises(ArtifactDamagedError):
        parse(sealed(**{field: value}), "x")


@pytest.mark.parametrize("kind", KINDS)
def test_results_know_no_other_fields(kind):
    with pytest.raises(ValidationError):
        sample(kind, result={**RESULTS[kind], "more": 1})


def test_a_file_is_found_by_its_path():
    record = {"path": "a.txt", "bytes": 0, "sha256": "0" * 64}
    assert sample("Dataset", files=[record]).file("a.txt").bytes == 0


def test_canonical_json_has_one_form():
    assert canonical({"b": 1, "a": [1.0, None, "é"]}) == '{"a":[1.0,null,"é"],"b":1}'.encode()
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})


# --- Recipes ----------------------------------------------------------------------------------------------------------

RECIPE = Recipe(
    stage="train",
    settings={"train.seed": 1, "train.lambda_l2": 10.0},
    inputs={"FeatureSet": "a" * 64, "Dataset": "b" * 64},
    outside={"source": "/data/a.csv", "content": "c" * 64, "champion": {"version": 1, "bundle": "d" * 64}},
    source="e" * 64,
    libraries={"polars": "2.1", "numpy": "2.4"},
)
CHANGES = {
    "nothing": ({}, []),
    "a setting": ({"settings": {"train.seed": 2, "train.lambda_l2": 10.0}}, ["setting train.seed 1 -> 2"]),
    "a new setting": ({"settings": {**RECIPE.settings, "train.x": "y"}}, ["setting train.x none -> y"]),
    "a blank": ({"settings": {**RECIPE.settings, "train.x": "\t"}}, ["setting train.x none -> '\\t'"]),
    "a setting less": ({"settings": {"train.seed": 1}}, ["setting train.lambda_l2 10.0 -> none"]),
    "an input": ({"inputs": {**RECIPE.inputs, "Dataset": "z"}}, ["input Dataset changed"]),
    "a library": ({"libraries": {"polars": "2.2", "numpy": "2.4"}}, ["library polars 2.1 -> 2.2"]),
    "the code": ({"source": "f" * 64}, ["the code of vehins changed"]),
    "the content": ({"outside": {**RECIPE.outside, "content": "9" * 64}}, ["content cccccccccccc… -> 999999999999…"]),
    "the champion": (
        {"outside": {**RECIPE.outside, "champion": {"version": 2, "bundle": "e" * 64}}},
        ["champion.version 1 -> 2", "champion.bundle dddddddddddd… -> eeeeeeeeeeee…"],
    ),
    "no champion": (
        {"outside": {**RECIPE.outside, "champion": None}},
        ["champion.version 1 -> none", "champion.bundle dddddddddddd… -> none"],
    ),
    "several": (
        {"settings": {"train.seed": 2, "train.lambda_l2": 10.0}, "source": "f" * 64},
        ["setting train.seed 1 -> 2", "the code of vehins changed"],
    ),
}


@pytest.mark.parametrize(("changes", "sentences"), CHANGES.values(), ids=CHANGES)
def test_a_recipe_says_what_changed(changes, sentences):
    other = RECIPE.model_copy(update=changes)
    assert other.changes_since(RECIPE) == sentences
    assert (other.fingerprint == RECIPE.fingerprint) == (not sentences)


def test_of_two_long_paths_the_difference_is_seen():
    old, new = (f"/a/very/long/way/to/the/folder/of/the/customers-{month}.csv" for month in ("october", "november"))
    changed = RECIPE.model_copy(update={"outside": {**RECIPE.outside, "source": new}})
    before = RECIPE.model_copy(update={"outside": {**RECIPE.outside, "source": old}})
    (sentence,) = changed.changes_since(before)
    assert "october.csv ->" in sentence
    assert sentence.endswith("november.csv")
    assert len(sentence) < 100


@pytest.mark.parametrize("field", ["stage", "settings", "inputs", "outside", "source", "libraries"])
def test_every_part_of_a_recipe_is_in_its_fingerprint(field):
    value = "other" if isinstance(getattr(RECIPE, field), str) else {"other": "x"}
    assert RECIPE.model_copy(update={field: value}).fingerprint != RECIPE.fingerprint


def test_numbers_that_differ_in_type_make_another_fingerprint():
    """1 and 1.0 in a setting are told apart by JSON; the settings have one type each, so that it does not happen."""
    one, other = ({**RECIPE.settings, "train.seed": value} for value in (1, 1.0))
    assert (
        RECIPE.model_copy(update={"settings": one}).fingerprint
        != RECIPE.model_copy(update={"settings": other}).fingerprint
    )


def test_a_recipe_is_the_one_that_its_manifest_records():
    found = sample("TrainedModel").recipe
    assert (found.stage, found.inputs, found.source) == ("some stage", {"Dataset": "rows"}, "s" * 64)
    assert found.settings == {"train.seed": 1, "train.lambda_l2": 10.0}


def test_every_kind_names_itself():
    assert all(sample(kind).kind == kind for kind in KINDS)
    assert manifest.MANIFEST_VERSION == 1
