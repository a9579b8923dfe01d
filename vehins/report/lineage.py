"""How it was made: stages, artifacts, settings, versions."""

from __future__ import annotations

from collections.abc import Iterator

from vehins.artifacts.manifest import KINDS, AnyManifest, TrainedModel
from vehins.report import words
from vehins.report.blocks import Block, Code, Details, Mark, Prose, Section, Table, Tone
from vehins.report.story import Story
from vehins.settings import flatten

_TONES: dict[str, Tone] = {"ran": "good", "reused": "plain", "refused": "warn", "failed": "bad", "skipped": "plain"}

_TOLD = {"bundle", "rows", "valid_auc", "baseline", "parameters", "importance"}


def section(story: Story, name: str = "") -> Section:
    """Everything that it takes to make the same again."""
    blocks = [_stages(story), *_gone(story), *_artifacts(story), *_model(story), *_settings(story), *_versions(story)]
    suffix = f", {name}" if name else ""
    return Section(f"lineage{name[:1]}", f"How it was made{suffix}", blocks)


def _stages(story: Story) -> Table:
    rows = [
        (stage.stage, Mark(stage.status, _TONES[stage.status]), words.seconds(stage.seconds), stage.reason)
        for stage in story.run.stages
    ]
    return Table("Stages of the run", ("Stage", "Status", "Took", "Why"), rows, frozenset({2}))


def _gone(story: Story) -> Iterator[Block]:
    if story.gone:
        yield Prose([f"No longer whole in the workspace, and so not told of: {', '.join(story.gone)}."], "warn")


def _ordered(story: Story) -> list[AnyManifest]:
    return [story.manifests[kind] for kind in KINDS if kind in story.manifests]


def _artifacts(story: Story) -> Iterator[Block]:
    manifests = _ordered(story)
    rows = [
        (
            m.kind,
            Code(m.id),
            words.moment(m.created_at),
            Code(m.content[:16]),
            ", ".join(record.kind for record in m.inputs) or "the source",
        )
        for m in manifests
    ]
    if rows:
        columns = ("Artifact", "Id", "Made", "Content digest", "Made from")
        yield Table("Artifacts", columns, rows, stacks=True)


def _model(story: Story) -> Iterator[Block]:
    trained = story.manifest(TrainedModel)
    if trained is None:
        return
    result = trained.result
    rows: list[tuple[str, str | Code]] = [
        ("Bundle", Code(result.bundle)),
        ("Rows it was fitted on", words.count(result.rows)),
        ("AUC on the valid side", words.decimal(result.valid_auc)),
        (f"AUC of {result.baseline.name} there", words.decimal(result.baseline.valid_auc)),
    ]
    # Whatever else training says of itself, nested records under dotted names.
    more = flatten(result.model_dump(mode="json", exclude=_TOLD))
    rows += [(words.titled(name), Code(words.value(found))) for name, found in more.items() if found not in (None, [])]
    named = {f"LightGBM {name}": value for name, value in result.parameters.items() if value is not None}
    rows += [(name, Code(words.value(found))) for name, found in named.items()]
    yield Details("The model", [Table("The model", ("What", "Value"), rows)])


def _settings(story: Story) -> Iterator[Block]:
    rows = [
        (Code(name), Code(words.value(value)), m.stage) for m in _ordered(story) for name, value in m.settings.items()
    ]
    outside = [(m, flatten(m.outside)) for m in _ordered(story)]
    rows += [(Code(name), Code(words.value(value)), m.stage) for m, found in outside for name, value in found.items()]
    if rows:
        yield Details(
            "Settings, and what was outside", [Table("Settings that shaped it", ("Name", "Value", "Read by"), rows)]
        )


def _versions(story: Story) -> Iterator[Block]:
    manifests = _ordered(story)
    if not manifests:
        return
    codes = dict.fromkeys((m.code.version, m.code.revision or "not a checkout", m.code.source[:16]) for m in manifests)
    rows = [("vehins", Code(version)) for version, _, _ in codes]
    rows += [("Revision", Code(revision)) for _, revision, _ in codes]
    rows += [("Digest of its source", Code(source)) for _, _, source in codes]
    libraries = {name: version for m in manifests for name, version in m.libraries.items()}
    rows += [(name, Code(version)) for name, version in sorted(libraries.items())]
    rows += [("Command", Code(story.run.command)), ("Host", Code(story.run.host))]
    yield Details("Versions and command", [Table("Versions", ("What", "Version"), rows)])
