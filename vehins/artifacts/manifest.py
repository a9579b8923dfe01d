"""The typed records that stages write: one manifest per artifact, with what made it and what it says.

`KINDS` lists the kinds of artifact. The JSON Schema of each is published in ``docs/manifests``.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, ValidationError

from vehins.artifacts.drift import Drift
from vehins.artifacts.evaluation import EvaluationResult
from vehins.artifacts.files import FileRecord
from vehins.artifacts.record import Record as Record  # noqa: PLC0414 - most records are here
from vehins.artifacts.record import canonical as canonical  # noqa: PLC0414
from vehins.artifacts.record import digest as digest  # noqa: PLC0414
from vehins.errors import ArtifactDamagedError, WorkspaceVersionError
from vehins.settings import flatten

MANIFEST_VERSION = 1
MANIFEST_FILE = "manifest.json"
_DIGEST = re.compile("[0-9a-f]{64}")


# --- What went in ---------------------------------------------------------------------------------------------------


class InputRecord(Record):
    """An artifact that a stage consumed."""

    kind: str
    id: str
    manifest_sha256: str = Field(description="SHA-256 of the input's manifest.json.")
    content: str = Field(description="Content digest of the input: what the fingerprint depends on.")


class CodeRecord(Record):
    """The code that made an artifact."""

    version: str = Field(description="Version of the vehins package.")
    source: str = Field(description="Digest of the package's source that can shape an artifact.")
    revision: str | None = Field(default=None, description="Git revision of the checkout, when it is one.")


class Recipe(Record):
    """All that decides what a stage makes; its digest is the fingerprint."""

    stage: str
    settings: dict[str, Any] = Field(description="The settings that the stage reads.")
    inputs: dict[str, str] = Field(description="Content digest of each input, by kind.")
    outside: dict[str, Any] = Field(description="State outside the workspace: the source's content, the champion.")
    source: str = Field(description="Source digest of the package.")
    libraries: dict[str, str] = Field(description="Versions of the libraries that shape the result.")

    @property
    def fingerprint(self) -> str:
        """Digest of the recipe, in hexadecimal."""
        return digest(self.model_dump(mode="json"))

    def changes_since(self, other: Recipe) -> list[str]:
        """Say in words what differs from another recipe of the same stage."""
        return [
            *_differences("setting", other.settings, self.settings),
            *(f"input {kind} changed" for kind in self.inputs if self.inputs[kind] != other.inputs.get(kind)),
            *_differences("", flatten(other.outside), flatten(self.outside)),
            *(["the code of vehins changed"] if self.source != other.source else []),
            *_differences("library", other.libraries, self.libraries),
        ]


def _differences(what: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{what} {name} {_short(old.get(name))} -> {_short(new.get(name))}".strip() for name in names]


def _short(value: Any) -> str:
    is_plain = not isinstance(value, str) or (value.isprintable() and value == value.strip())
    text = "none" if value is None else str(value) if is_plain else repr(value)
    if len(text) <= 40:
        return text
    return text[:12] + "…" + ("" if _DIGEST.fullmatch(text) else text[-27:])  # of two long paths, the ends differ


# --- What each stage found --------------------------------------------------------------------------------------------


class ChangesRecord(Record):
    """What an incremental read found: which rows are new, which are others than before, which were kept."""

    field: str = Field(description="The field that tells when a row changed.")
    since: str | None = Field(description="Rows below this value were not read; null when all were.")
    mark: str | None = Field(description="Highest value of the field when the read began: where the next one starts.")
    previous: str | None = Field(description="Id of the Dataset that the kept rows are from.")
    reason: str | None = Field(description="Why all rows were read.")
    new: int = Field(ge=0, description="Rows that the previous Dataset does not have.")
    changed: int = Field(ge=0, description="Rows that are not what they were in the previous Dataset.")
    kept: int = Field(ge=0, description="Rows that are what they were.")


class DatasetResult(Record):
    """Customer rows, typed by the schema, each on its side of the split."""

    source: str = Field(description="Where the rows came from; passwords are masked.")
    schema_name: str = Field(description="Name of the table schema.")
    rows: int = Field(ge=0, description="Rows, all sides together.")
    rows_by_side: dict[str, int] = Field(description="Rows on the train, valid and test side.")
    row_digest: str = Field(description="Digest of the typed rows, whatever their order or parts.")
    digest_by_side: dict[str, str] = Field(
        default_factory=dict, description="The same of the rows on each side: what an evaluation holds its rows to."
    )
    missing_columns: list[str] = Field(description="Columns of the schema that the source does not have.")
    extra_columns: list[str] = Field(description="Columns of the source that the schema does not name; not kept.")
    unparsed_cells: int = Field(
        ge=0, description="Values that are not of their column's type; kept in unparsed.parquet."
    )
    rows_read: int | None = Field(
        default=None,
        ge=0,
        description="Rows that the source sent, counted before any was converted; each became a row.",
    )
    changes: ChangesRecord | None = Field(default=None, description="What was read by `--since`; null without it.")


class Example(Record):
    """One row that breaks a rule."""

    key: str
    value: str


class Anomaly(Record):
    """A rule of the schema that some rows break."""

    column: str
    rule: str
    expected: str = Field(description="What the rule asks for, in words.")
    rows: int = Field(ge=0)
    share: float = Field(ge=0, le=1, description="Share of all rows.")
    examples: list[Example] = Field(max_length=10)


class ColumnStatistics(Record):
    """What one column looks like, over all rows of the data set."""

    column: str
    dtype: str
    nulls: int
    distinct: int | None = Field(default=None, description="Different values, for categories.")
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    quartiles: tuple[float, float, float] | None = None
    maximum: float | None = None
    top: dict[str, int] | None = Field(default=None, description="The most frequent values and their rows.")


class ValidationResult(Record):
    """What is wrong with a data set, and whether it is good enough to go on."""

    rows: int = Field(description="Rows checked.")
    quarantined_rows: int = Field(description="Rows set aside; no later stage sees them.")
    anomalies: list[Anomaly] = Field(
        description="Rules that were broken, by column, with how many rows broke them and examples."
    )
    statistics: list[ColumnStatistics] = Field(description="What each column looks like.")
    verdict: Literal["accept", "refuse"] = Field(description="Whether later stages may use the rows.")
    reasons: list[str] = Field(description="Why it was refused, a sentence each.")
    drift: Drift | None = Field(
        default=None, description="These rows against the champion's training rows; null without a champion."
    )


class FeatureSetResult(Record):
    """The encoded train and valid rows, and the encoder that made them."""

    features: list[str] = Field(description="Names of the features, in the order of the matrix.")
    categories: dict[str, int] = Field(description="Size of each category's vocabulary.")
    train_rows: int = Field(description="Rows on the train side.")
    valid_rows: int = Field(description="Rows on the valid side.")
    train_positives: int = Field(description="Positive rows among them, train side.")
    valid_positives: int = Field(description="Positive rows among them, valid side.")


class Baseline(Record):
    """A simpler model on the same rows: what the trees must beat to be worth having."""

    name: str
    rows: int = Field(description="Train rows it was fitted on.")
    valid_auc: float
    valid_log_loss: float


class TriedCalibrator(Record):
    """A calibrator, judged on valid rows that it was not fitted on."""

    method: Literal["sigmoid", "isotonic"]
    ece: float = Field(description="Expected calibration error with it.")
    gain: float = Field(description="By how much it lowers the mean log loss.")
    gain_low: float = Field(description="One-sided lower confidence bound of that.")


class Calibration(Record):
    """Whether the model's probabilities mean what they say, and what was done about it."""

    method: Literal["none", "sigmoid", "isotonic"] = Field(description="The calibrator that the bundle has.")
    valid_ece: float = Field(description="Expected calibration error of the trees on the watched valid rows, 20 bins.")
    tried: list[TriedCalibrator]


class Tuning(Record):
    """A search for better settings, on folds of the train side; its trials are in trials.jsonl."""

    library: str
    trials: int
    pruned: int = Field(description="Trials that were given up after some folds.")
    seconds: float
    folds: int
    rows: int = Field(description="Train rows that were searched on.")
    best: int = Field(description="Number of the best trial; trial 0 has the settings as they were.")
    log_loss: float = Field(description="Mean log loss of the best trial over the folds.")
    first_log_loss: float = Field(description="That of trial 0.")
    parameters: dict[str, float | int] = Field(
        description="Settings of the best trial; the model was fitted with them."
    )


class TrainedModelResult(Record):
    """A model bundle and how it came about."""

    bundle: str = Field(description="Digest of the bundle.")
    trees: int = Field(description="Trees in the model.")
    trees_by_seed: list[int] = Field(default_factory=list, description="Trees of each fit that was averaged.")
    rows: int = Field(description="Rows of the final fit: train and valid sides.")
    valid_auc: float = Field(description="AUC on the watched valid rows of the fit that chose the number of trees.")
    valid_log_loss: float = Field(description="Log loss on the same rows.")
    parameters: dict[str, Any] = Field(description="Parameters given to LightGBM.")
    importance: dict[str, float] = Field(description="Share of the total gain, by feature.")
    baseline: Baseline = Field(
        description="A logistic regression for comparison, on `train.baseline_rows` rows at most."
    )
    calibration: Calibration | None = Field(
        default=None, description="What the calibrators gained on the valid side, and which was added."
    )
    tuning: Tuning | None = Field(default=None, description="What the search for settings found; null without one.")


class PushedModelResult(Record):
    """A registered version, and the alias that names it."""

    registry: str = Field(description="Address of the registry.")
    model: str = Field(description="Name of the model there.")
    version: int = Field(description="Number of the version.")
    alias: str = Field(description="Alias that names it.")
    previous: int | None = Field(description="Version that the alias named before.")
    registered: bool = Field(description="Whether this push made the version, or found it there.")
    promoted: bool = Field(description="Whether this push moved the alias, or found it there.")


# --- Manifests --------------------------------------------------------------------------------------------------------

R = TypeVar("R", bound=Record)


class Manifest(Record, Generic[R]):
    """What an artifact is, what made it, and which files belong to it."""

    kind: str
    manifest_version: Literal[1] = 1
    id: str
    stage: str
    fingerprint: str = Field(description="Digest of the recipe: equal fingerprints make equal artifacts.")
    content: str = Field(description="Digest of what later stages depend on.")
    created_at: datetime
    seconds: float = Field(ge=0)
    inputs: list[InputRecord]
    settings: dict[str, Any] = Field(description="The settings that the stage read.")
    outside: dict[str, Any] = Field(description="State outside the workspace that the result depends on.")
    code: CodeRecord
    libraries: dict[str, str]
    files: list[FileRecord]
    result: R

    @property
    def recipe(self) -> Recipe:
        """What decided the content of this artifact."""
        return Recipe(
            stage=self.stage,
            settings=self.settings,
            inputs={record.kind: record.content for record in self.inputs},
            outside=self.outside,
            source=self.code.source,
            libraries=self.libraries,
        )

    def file(self, path: str) -> FileRecord:
        """The record of one file of the artifact."""
        return next(record for record in self.files if record.path == path)


class Dataset(Manifest[DatasetResult]):
    """Made by ingest."""

    kind: Literal["Dataset"] = "Dataset"


class Validation(Manifest[ValidationResult]):
    """Made by validate."""

    kind: Literal["Validation"] = "Validation"


class FeatureSet(Manifest[FeatureSetResult]):
    """Made by transform."""

    kind: Literal["FeatureSet"] = "FeatureSet"


class TrainedModel(Manifest[TrainedModelResult]):
    """Made by train."""

    kind: Literal["TrainedModel"] = "TrainedModel"


class Evaluation(Manifest[EvaluationResult]):
    """Made by evaluate."""

    kind: Literal["Evaluation"] = "Evaluation"


class PushedModel(Manifest[PushedModelResult]):
    """Made by push."""

    kind: Literal["PushedModel"] = "PushedModel"


AnyManifest = Dataset | Validation | FeatureSet | TrainedModel | Evaluation | PushedModel
KINDS: dict[str, type[AnyManifest]] = {
    "Dataset": Dataset,
    "Validation": Validation,
    "FeatureSet": FeatureSet,
    "TrainedModel": TrainedModel,
    "Evaluation": Evaluation,
    "PushedModel": PushedModel,
}


def dump(manifest: AnyManifest) -> bytes:
    """A manifest as the bytes of its file, sealed with a checksum over everything else in it."""
    body = manifest.model_dump(mode="json")
    sealed = {**body, "checksum": digest(body)}
    return json.dumps(sealed, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def parse(data: bytes, name: str) -> AnyManifest:
    """Read a manifest's bytes; ``name`` says in errors where they came from.

    Raises:
        ArtifactDamagedError: it is not a manifest, or was changed after it was sealed.
        WorkspaceVersionError: a newer vehins wrote it.
    """
    try:
        body = json.loads(data)
        checksum = body.pop("checksum")
        version, kind = int(body["manifest_version"]), str(body["kind"])
        intact = checksum == digest(body)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise _damaged(name, "It is not a manifest of vehins.") from None
    # The version comes first: a newer one may be sealed in another way.
    if version <= MANIFEST_VERSION and not intact:
        raise _damaged(name, "It was changed after it was written: its checksum does not match.")
    if version > MANIFEST_VERSION or kind not in KINDS:
        raise WorkspaceVersionError(
            f"{name} was written by a newer vehins",
            detail=f"It is a {kind} of manifest version {version}; this one reads version {MANIFEST_VERSION}.",
            hint="Upgrade vehins, or choose another workspace: `--workspace DIR`.",
        )
    try:
        return KINDS[kind].model_validate_json(json.dumps(body))
    except ValidationError as error:
        raise _damaged(name, str(error.errors(include_url=False)[0]["msg"])) from None


def _damaged(name: str, detail: str) -> ArtifactDamagedError:
    hint = "Manifests are not made to be edited: run the stage again, and it makes the artifact anew."
    return ArtifactDamagedError(f"The manifest {name} is damaged", detail=detail, hint=hint)


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind's manifest file, its seal included."""
    schema = KINDS[kind].model_json_schema()
    text = "SHA-256 of all the other fields, as JSON with sorted keys and without spaces."
    schema["properties"]["checksum"] = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": text}
    schema["required"] = [*schema["required"], "checksum"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
