"""Two runs side by side: which stages made something else and why, and what differs in settings, data and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from vehins.artifacts.manifest import AnyManifest, Evaluation, PushedModel, Record, TrainedModel
from vehins.artifacts.runs import RunRecord, StageRecord
from vehins.artifacts.workspace import ARTIFACTS, Workspace
from vehins.errors import ArtifactDamagedError, NotFoundError
from vehins.settings import flatten

Change = Literal["same", "same content", "changed", "only in a", "only in b", "in neither", "gone"]
_DATA = ("Dataset", "Validation", "FeatureSet")
# What would drown the rest: it is in the manifests.
_LEFT_OUT = {"top", "quartiles", "standard_deviation", "share", "expected", "examples", "dtype"}


class StageDifference(Record):
    """One stage in the two runs."""

    stage: str
    a: str | None = Field(description="Its artifact in the first run, as `Kind/id`.")
    b: str | None
    change: Change = Field(
        description="`same`: one artifact. `same content`: two that later stages cannot tell apart. `gone`: one of the "
        "two is no longer on disk."
    )
    reasons: list[str] = Field(description="Why, from the first run to the second.")


class Difference(Record):
    """One value in the two runs; null where there is none."""

    name: str
    a: Any
    b: Any


class MetricDifference(Difference):
    """One figure of the model in the two runs."""

    difference: int | float | None = Field(description="Second minus first; null for what is no number.")


class RunDifference(Record):
    """What two runs have apart."""

    a: str
    b: str
    stages: list[StageDifference]
    settings: list[Difference] = Field(description="Settings that shaped the stages of both runs, where they differ.")
    data: list[Difference] = Field(description="What the stages of both runs say of the rows, where it differs.")
    metrics: list[MetricDifference] = Field(description="Every figure of the model, whether it differs or not.")


def compare(workspace: Workspace, a: RunRecord, b: RunRecord) -> RunDifference:
    """Compare two runs by the artifacts that their stages made or reused, as far as these are still on disk."""
    names = list(dict.fromkeys(record.stage for run in (a, b) for record in run.stages))
    left, right = _manifests(workspace, a), _manifests(workspace, b)
    stages = [_stage(name, a, b, left.get(name), right.get(name)) for name in names]
    both = [name for name in names if name in left and name in right]
    one, other = [left[name] for name in both], [right[name] for name in both]
    metrics = [_measured(item) for item in _differences(_metrics(left), _metrics(right), all_of_them=True)]
    return RunDifference(
        a=a.run,
        b=b.run,
        stages=stages,
        settings=_differences(_settings(one), _settings(other)),
        data=_differences(_data(one), _data(other)),
        metrics=metrics,
    )


def _manifests(workspace: Workspace, run: RunRecord) -> dict[str, AnyManifest]:
    """The manifests of a run that are there and whole, by stage."""
    found = {}
    for record in run.stages:
        if record.artifact:
            try:
                found[record.stage] = workspace.read(workspace.root / ARTIFACTS / record.artifact).manifest
            except (NotFoundError, ArtifactDamagedError):
                continue
    return found


# --- Stages -----------------------------------------------------------------------------------------------------------


def _stage(
    name: str, a: RunRecord, b: RunRecord, left: AnyManifest | None, right: AnyManifest | None
) -> StageDifference:
    first, second = _record(a, name), _record(b, name)
    change, reasons = _change(first, second, left, right)
    return StageDifference(
        stage=name,
        a=first.artifact if first else None,
        b=second.artifact if second else None,
        change=change,
        reasons=reasons,
    )


def _record(run: RunRecord, stage: str) -> StageRecord | None:
    return next((record for record in run.stages if record.stage == stage), None)


def _change(
    first: StageRecord | None, second: StageRecord | None, left: AnyManifest | None, right: AnyManifest | None
) -> tuple[Change, list[str]]:
    one, other = first.artifact if first else None, second.artifact if second else None
    if one is None or other is None:
        why = [*_absence("first", first), *_absence("second", second)]
        return ("only in a" if one else "only in b" if other else "in neither"), why
    if one == other:
        return "same", []
    if left is None or right is None:
        lost = [name for name, found in ((one, left), (other, right)) if found is None]
        return "gone", [f"{name} is no longer on disk" for name in lost]
    reasons = right.recipe.changes_since(left.recipe) or ["made again from the same"]
    return ("same content" if left.content == right.content else "changed"), reasons


def _absence(which: str, record: StageRecord | None) -> Iterator[str]:
    """Why a run has no artifact of a stage."""
    if record is None:
        yield f"not part of the {which} run"
    elif record.artifact is None:
        yield f"{record.status} in the {which} run: {record.reason}"


# --- Values -----------------------------------------------------------------------------------------------------------


def _settings(manifests: Sequence[AnyManifest]) -> dict[str, Any]:
    return {name: value for manifest in manifests for name, value in manifest.settings.items()}


def _data(manifests: Sequence[AnyManifest]) -> dict[str, Any]:
    """What the stages before training say of the rows, under dotted names."""
    found: dict[str, Any] = {}
    for manifest in manifests:
        if manifest.kind in _DATA:
            found |= {f"{manifest.stage}.{name}": value for name, value in flatten(manifest.outside).items()}
            found |= dict(_facts(manifest.result.model_dump(mode="json"), f"{manifest.stage}."))
    return found


def _facts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a result; the items of a list of records go by the column or the name that they are about."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _LEFT_OUT:
                yield from _facts(item, f"{name}{key}.")
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            about = [str(item[key]) for key in ("column", "name", "rule") if key in item] or [str(number)]
            rest = {key: item[key] for key in item if key not in {"column", "name", "rule"}}
            yield from _facts(rest, f"{name}{' '.join(about)}.")
    elif not isinstance(value, list) or value:
        yield name.removesuffix("."), value


def _metrics(manifests: Mapping[str, AnyManifest]) -> dict[str, Any]:
    """The figures of training and evaluation, the verdicts of the gate, and the version."""
    found: dict[str, Any] = {}
    for manifest in manifests.values():
        if isinstance(manifest, TrainedModel):
            found |= _numbers(manifest.result, "train")
        elif isinstance(manifest, Evaluation):
            result = manifest.result
            found |= _numbers(result.metrics, "evaluate")
            found["champion.version"] = result.champion.version if result.champion else None
            found["gate.verdict"] = result.verdict
            found |= {f"gate.{rule.name}": rule.verdict for rule in result.rules}
        elif isinstance(manifest, PushedModel):
            found["push.version"] = manifest.result.version
    return found


def _numbers(record: Record, prefix: str) -> dict[str, float]:
    values = record.model_dump(mode="json")
    return {f"{prefix}.{name}": value for name, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], *, all_of_them: bool = False) -> list[Difference]:
    names = [name for name in {**a, **b} if all_of_them or a.get(name) != b.get(name)]
    return [Difference(name=name, a=a.get(name), b=b.get(name)) for name in names]


def _measured(item: Difference) -> MetricDifference:
    known = _is_number(item.a) and _is_number(item.b)
    return MetricDifference(name=item.name, a=item.a, b=item.b, difference=item.b - item.a if known else None)
