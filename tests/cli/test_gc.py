"""`vehins gc`: what goes, what stays, and that nothing goes before it is asked for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vehins_runner import KINDS, WORKSPACE, all_are, call_main, folders, in_folder, production, tree

if TYPE_CHECKING:
    from vehins_runner import Vehins

LENIENT = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")
# A model too weak for the gate.
THIRD = ("--source", "demo://?rows=3200", "--set", "train.num_leaves=2", "--set", "train.max_rounds=1")
UNREACHED = "out of reach of recent runs and aliases"


@pytest.fixture(scope="module")
def used_once(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with three chains of artifacts: the first is out of use, the second in production, the third new."""
    with pytest.MonkeyPatch.context() as patch, in_folder(patch, tmp_path_factory.mktemp("used")) as folder:
        shutil.copytree(finished_once, WORKSPACE)
        for words, code in ((("--source", "demo://?rows=3100", *LENIENT), 0), (THIRD, 5)):
            patch.setattr(sys, "argv", ["vehins", "pipeline", "run", "--quiet", *words])
            assert call_main() == code
        assert [len(folders(kind)) for kind in KINDS] == [3, 3, 3, 3, 3, 2]
        return folder / WORKSPACE


@pytest.fixture
def used(used_once: Path, vehins: Vehins) -> Vehins:
    """The command in a folder whose workspace is a copy of that one."""
    shutil.copytree(used_once, WORKSPACE)
    return vehins


def listed(vehins: Vehins, *words: str) -> dict[str, str]:
    """What a call of gc says, by path below the workspace."""
    found = vehins("gc", "--json", *words).json
    return {Path(item["folder"]).relative_to(WORKSPACE).as_posix(): item["reason"] for item in found["folders"]}


def names(kind: str, *numbers: int) -> set[str]:
    return {folders(kind)[number].relative_to(WORKSPACE).as_posix() for number in numbers}


def test_all_is_kept_while_recent_runs_reach_it(used: Vehins) -> None:
    assert {name: why for name, why in listed(used).items() if not name.startswith("cache/")} == {}


def test_a_dry_run_lists_and_removes_nothing(used: Vehins) -> None:
    before = tree(WORKSPACE)
    found = listed(used, "--keep-runs", "1")
    assert tree(WORKSPACE) == before
    artifacts = {name for name, why in found.items() if why == UNREACHED}
    assert artifacts == set().union(*(names(kind, 0) for kind in KINDS))
    answer = used("gc", "--keep-runs", "1")
    assert tree(WORKSPACE) == before
    assert f"Would remove {len(found)} folders, " in answer.err
    assert "`vehins gc --apply` does it" in answer.err
    assert all(name in answer.out for name in found)
    sizes = [item["bytes"] for item in used("gc", "--json", "--keep-runs", "1").json["folders"]]
    assert all(size > 0 for size in sizes)


def test_apply_removes_what_the_dry_run_lists(used: Vehins) -> None:
    words = ("--keep-runs", "1")
    promised = listed(used, *words)
    before = tree(WORKSPACE)
    answer = used("gc", "--apply", "--json", *words)
    assert answer.json["applied"] is True
    assert {Path(item["folder"]).relative_to(WORKSPACE).as_posix() for item in answer.json["folders"]} == set(promised)
    gone = {name for name in before if name not in tree(WORKSPACE)}
    assert {name for name in gone if not any(name == p or name.startswith(p + "/") for p in promised)} <= {"drafts"}
    assert all(name in gone for name in promised)
    assert listed(used, *words) == {}


def test_what_is_kept_is_whole_and_reused(used: Vehins) -> None:
    used("gc", "--apply", "--keep-runs", "1")
    # Of the alias: everything that the version in production was made from.
    assert all_are("reused", used.run("--source", "demo://?rows=3100", *LENIENT))
    # Of the recent run.
    answer = used.run(*THIRD, code=5)
    assert list(answer.statuses.values()) == ["reused"] * 4 + ["refused", "skipped"]
    # What has gone is made again.
    assert used.run(*LENIENT).statuses["ingest"] == "ran"


def test_what_an_alias_reaches_stays_when_no_run_speaks_of_it(used: Vehins) -> None:
    shutil.rmtree(WORKSPACE / "runs")
    used("gc", "--apply", "--keep-runs", "1")
    for kind in KINDS[:5]:
        assert len(folders(kind)) == 2
    assert all_are("reused", used.run("--source", "demo://?rows=3100", *LENIENT))
    assert production() == 2


def test_what_another_alias_reaches_stays_too(used: Vehins) -> None:
    used("models", "promote", "1", "--alias", "trial")
    found = listed(used, "--keep-runs", "1")
    lineage = used("models", "show", "1", "--json").json["lineage"]
    assert not {f"artifacts/{kind}/{name}" for kind, name in lineage.items()} & set(found)
    assert not names("Dataset", 0) & set(found)  # what those were made from
    assert not any(name.startswith("cache/") for name in found)


def test_what_stands_in_for_a_lost_input_stays(used: Vehins) -> None:
    """The data set of the version in production was damaged and made again: it has another name now."""
    words = ("--source", "demo://?rows=3100", *LENIENT)
    (folders("Dataset")[1] / "schema.json").unlink()
    used.run(*words)
    stand_in = folders("Dataset")[-1]
    used.run("--source", "demo://?rows=3300", *LENIENT, "--model-name", "other")
    shutil.rmtree(WORKSPACE / "runs")
    used("gc", "--apply", "--keep-runs", "1")
    assert stand_in.exists()
    assert list(used.run(*words).statuses.values())[:5] == ["reused"] * 5


def test_damaged_and_copied_folders_go(used: Vehins) -> None:
    (folders("Evaluation")[0] / "manifest.json").write_bytes(b"{}")
    used.run(*THIRD, code=5)
    (aside,) = (WORKSPACE / "damaged").iterdir()
    copies = [path.name for path in (WORKSPACE / "cache").iterdir() if path.is_dir()]
    assert len(copies) == 2  # version 1, which version 2 had to beat, and version 2
    found = listed(used)
    assert found[f"damaged/{aside.name}"] == "damaged, set aside"
    live = used("models", "show", "--json").json["bundle"]
    cached = {name: why for name, why in found.items() if name.startswith("cache/")}
    assert cached == {f"cache/{name}": "copy of a version that no alias names" for name in copies if name != live}
    used("gc", "--apply")
    assert not aside.exists()
    assert [path.name for path in (WORKSPACE / "cache").iterdir() if path.is_dir()] == [live]


def test_damage_that_nobody_has_met_yet_is_told_and_goes(used: Vehins) -> None:
    bad = folders("FeatureSet")[0]
    (bad / "manifest.json").write_bytes(b"{}")
    found = listed(used)
    assert found[bad.relative_to(WORKSPACE).as_posix()] == "damaged: its manifest cannot be read"
    answer = used("gc", "--apply")
    assert f"Note: FeatureSet {bad.name} is damaged" in answer.err
    assert not bad.exists()
    assert list((WORKSPACE / "damaged").iterdir()) == []


def test_left_overs_of_a_dead_process_go(finished: Vehins) -> None:
    draft = WORKSPACE / "drafts" / "TrainedModel-0123"
    draft.mkdir(parents=True)
    (draft / "model.txt").write_text("half")
    finished("gc", "--apply")
    assert not draft.exists()


def test_the_number_of_runs_is_a_setting(used: Vehins) -> None:
    assert listed(used, "--set", "gc.keep_runs=1") == listed(used, "--keep-runs", "1")
    assert "--keep-runs" in used("gc", "--keep-runs", "0", code=2).err


def test_a_registry_out_of_reach_keeps_everything(used: Vehins) -> None:
    (WORKSPACE / "registry").rename("elsewhere")
    (WORKSPACE / "registry").symlink_to("unmounted")
    before = tree(WORKSPACE)
    used("gc", "--apply", "--keep-runs", "1", code=6)
    assert tree(WORKSPACE) == before


def test_where_nothing_is_there_is_nothing_to_remove(vehins: Vehins) -> None:
    assert vehins("gc", "--json").json == {"applied": False, "bytes": 0, "folders": []}
    assert not WORKSPACE.exists()
