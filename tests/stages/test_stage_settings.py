"""Settings and stages: a stage sees those that it names, a change of one is seen, and no setting is for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from vehins_runner import STAGES as NAMES

from vehins import pipeline
from vehins.settings import Settings, load, specs
from vehins.stages.stage import Context, Stage

if TYPE_CHECKING:
    from vehins_runner import Vehins

STAGES = {stage.name: stage for stage in pipeline.STAGES}
# What the frame around the stages needs: the lock, the service, the collector.
FRAME = {"lock_timeout", "api_keys", "prediction_log", "gc.keep_runs"}
FRAME |= {spec.name for spec in specs() if spec.name.startswith(("serve.", "cloud."))}
# Another value that is allowed, for every setting that shapes a result.
OTHER: dict[str, Any] = {
    "split.salt": "other",
    "split.valid": 0.2,
    "split.test": 0.3,
    "ingest.csv_delimiter": ";",
    "ingest.part_rows": 1000,
    "ingest.query": "{}",
    "ingest.since": "changed",
    "validate.max_missing_columns": 1,
    "validate.max_wrong_types": 0.5,
    "validate.max_bad_values": 0.5,
    "train.learning_rate": 0.1,
    "train.num_leaves": 7,
    "train.min_data_in_leaf": 50,
    "train.feature_fraction": 1.0,
    "train.lambda_l2": 1.0,
    "train.cat_smooth": 1.0,
    "train.cat_l2": 1.0,
    "train.max_rounds": 10,
    "train.early_stopping_rounds": 5,
    "train.min_improvement": 0.01,
    "train.watched_rows": 2000,
    "train.seed": 2,
    "train.seeds": 2,
    "train.calibrate": "never",
    "train.tune_minutes": 1.0,
    "train.tune_rows": 2000,
    "train.baseline_rows": 2000,
    "business.contact_cost": 2.0,
    "business.sale_value": 9.0,
    "business.capacity": 100,
    "evaluate.confidence": 0.9,
    "evaluate.slice_bins": 3,
    "gate.mode": "not-worse",
    "gate.margin": 0.01,
    "gate.confidence": 0.9,
    "gate.min_auc": 0.55,
    "gate.min_positives": 10,
    "gate.max_calibration_error": 0.5,
    "gate.min_slice_positives": 10,
    "gate.max_drift": 1.0,
    "gate.max_surprise": 4.0,
    "gate.approve": "a good reason",
    "model_name": "other",
    "alias": "staging",
}


def belongs(setting: str, names: tuple[str, ...]) -> bool:
    """Whether a setting is one of those that a stage names, or in a section that it names."""
    return any(setting == name or setting.startswith(name.rstrip("_") + ".") for name in names)


def readers(setting: str) -> set[str]:
    """The stages whose result a setting shapes."""
    return {stage.name for stage in STAGES.values() if belongs(setting, stage.reads)}


def test_no_setting_is_for_nothing() -> None:
    for spec in specs():
        used = {stage.name for stage in STAGES.values() if belongs(spec.name, stage.reads + stage.uses)}
        assert bool(used) != (spec.name in FRAME), spec.name


def test_every_setting_that_shapes_a_result_is_tried_below() -> None:
    assert set(OTHER) == {spec.name for spec in specs() if readers(spec.name)}


@pytest.mark.parametrize("setting", OTHER)
def test_a_change_is_seen_by_the_stages_that_read_it_and_by_no_other(setting: str, vehins: Vehins) -> None:
    before, after = load().settings, load({setting: OTHER[setting]}).settings
    for stage in STAGES.values():
        old, new = stage.read_settings(before), stage.read_settings(after)
        changed = {name for name in new if new[name] != old[name]}
        assert changed == ({setting} if stage.name in readers(setting) else set())


class Watched:
    """Settings that note what is touched."""

    def __init__(self, settings: Settings, touched: set[str]) -> None:
        self._settings, self._touched = settings, touched

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        for own in {"registry_url": ("registry", "workspace"), "thread_count": ("threads",)}.get(name, (name,)):
            self._touched.add(own)
        return value


def test_what_a_stage_names_it_touches(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that names a setting for nothing would run again for nothing."""
    touched: dict[str, set[str]] = {name: set() for name in NAMES}
    real = Stage.settings_of

    def watched(stage: Stage, settings: Settings) -> Any:
        return Watched(real(stage, settings), touched[stage.name])

    monkeypatch.setattr(Stage, "settings_of", watched)
    vehins.run("--set", "train.num_leaves=2")
    vehins.run()  # with a champion to compare with
    for name, stage in STAGES.items():
        assert touched[name] == {*stage.reads, *stage.uses}


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_sees_no_other_settings(name: str) -> None:
    stage = STAGES[name]
    view = stage.settings_of(Settings())
    for field in Settings.model_fields:
        if field in stage.reads + stage.uses:
            assert getattr(view, field) == getattr(Settings(), field)
        else:
            with pytest.raises(AttributeError):
                getattr(view, field)
    for shortcut, needs in (("thread_count", {"threads"}), ("registry_url", {"registry", "workspace"})):
        if not needs <= {*stage.reads, *stage.uses}:
            with pytest.raises(AttributeError):
                getattr(view, shortcut)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_that_touches_another_setting_fails(
    name: str, finished: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(ctx: Context) -> Any:
        return ctx.settings.lock_timeout

    stages = [Stage(**{**vars(stage), "work": work}) if stage.name == name else stage for stage in pipeline.STAGES]
    monkeypatch.setattr(pipeline, "STAGES", tuple(stages))
    answer = finished.run("--force", name, code=1)
    assert answer.error["detail"].startswith("AttributeError: ")
    assert "lock_timeout" in answer.error["detail"]


def test_settings_of_the_environment_and_of_a_file_shape_the_result_like_flags(
    vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    vehins("ingest")
    monkeypatch.setenv("VEHINS_SPLIT_SALT", "other")
    answer = vehins("ingest", "--json")
    assert answer.reasons == {"ingest": "setting split.salt vehins -> other"}
    monkeypatch.delenv("VEHINS_SPLIT_SALT")
    Path("vehins.toml").write_text('source = "demo://?rows=3000"\n[split]\nsalt = "other"\n')
    assert vehins("ingest", "--json").statuses == {"ingest": "reused"}


@pytest.mark.parametrize(
    ("text", "headline", "hint"),
    [
        (
            "[train]\nlearning_rat = 0.1\n",
            "Unknown setting `train.learning_rat`",
            "Did you mean `train.learning_rate`?",
        ),
        ("learning_rate = 0.1\n", "Unknown setting `learning_rate`", "Did you mean `train.learning_rate`?"),
        ("[trian]\nseed = 1\n", "Unknown setting `trian.seed`", "Did you mean `train.seed`?"),
        ("[train]\nseed = -1\n", "Setting `train.seed` cannot be `-1`", "`--set train.seed=VALUE`"),
        ("[train\n", "vehins.toml is not valid TOML", "Mend that place in vehins.toml."),
    ],
)
def test_a_settings_file_that_is_wrong(text: str, headline: str, hint: str, vehins: Vehins) -> None:
    Path("vehins.toml").write_text(text)
    answer = vehins("pipeline", "run", "--json", code=3)
    assert answer.error["headline"] == headline
    assert hint in answer.error["hint"]
    assert "vehins.toml" in answer.error["detail"] + answer.error["headline"]


def test_a_settings_file_that_is_not_there(vehins: Vehins) -> None:
    answer = vehins("train", "--config", "nowhere.toml", "--json", code=3)
    assert answer.error["headline"] == "Cannot read the settings file nowhere.toml"
