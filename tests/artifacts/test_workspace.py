"""An artifact is there whole or not at all, whoever looks and whenever its maker dies."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from artifact_processes import die_at, kill, make_many, start
from artifact_samples import MOMENT, make, sample
from server_process import wait_until

from vehins.artifacts import workspace
from vehins.artifacts.manifest import KINDS, Dataset, InputRecord, TrainedModel, Validation
from vehins.artifacts.workspace import Workspace, new_id
from vehins.errors import ArtifactDamagedError, NotFoundError, StorageError, WorkspaceVersionError

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody who may not write"
)


@pytest.fixture
def place(tmp_path) -> Workspace:
    found = Workspace(tmp_path / "work")
    with found.writing(0, print) as notes:
        assert notes == []
    return found


def sweep(place: Workspace) -> list[str]:
    """What the next writer tells."""
    with place.writing(0, print) as notes:
        return notes


def drafts(place: Workspace) -> list[Path]:
    folder = place.root / "drafts"
    return list(folder.iterdir()) if folder.exists() else []


def folders(place: Workspace) -> list[Path]:
    return [path for kind in KINDS for path in (place.root / "artifacts" / kind).glob("*")]


# --- Making -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_made_is_found_again(place, kind):
    made = make(place, kind)
    found = place.newest(KINDS[kind])
    assert found.manifest == made.manifest
    assert found.damage() is None
    assert found.path("b.txt").read_bytes() == b"b" * 10
    assert [(record.path, record.rows) for record in found.manifest.files] == [("b.txt", None), ("parts/a.txt", 3)]
    assert place.read(found.manifest_path).manifest == place.read(found.folder).manifest == made.manifest
    assert drafts(place) == []


def test_a_draft_is_never_seen(place):
    with place.draft("Dataset") as folder:
        (folder / "a.txt").write_text("x")
        assert place.newest(Dataset) is None
        assert list(place.artifacts(Dataset)) == []
    assert drafts(place) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_stage_that_fails_leaves_nothing(place, error):
    def work():
        with place.draft("Dataset") as folder:
            (folder / "a.txt").write_text("x")
            raise error

    with pytest.raises(error):
        work()
    assert drafts(place) == folders(place) == []


def test_an_interrupt_as_a_draft_is_made_leaves_nothing(place, monkeypatch):
    make(place)
    mkdir = Path.mkdir

    def interrupted(folder, *args, **kwargs):
        mkdir(folder, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place.draft("Dataset").__enter__()
    assert drafts(place) == []


def test_a_commit_that_fails_leaves_nothing(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workspace, "write_atomically", full)
    with pytest.raises(StorageError, match="The disk is full") as caught:
        make(place)
    assert caught.value.exit_code == 6
    assert "gc" in caught.value.hint
    assert drafts(place) == folders(place) == []


MOMENTS = ["files are made", "files are durable", "before the manifest", "half a manifest", "before it is renamed"]


@pytest.mark.parametrize("moment", [*MOMENTS, "after it is renamed"])
def test_a_maker_that_is_killed_leaves_the_whole_artifact_or_none(place, moment):
    before = make(place, number=0)
    process = start(die_at, place.root, moment)
    process.join()
    assert process.exitcode == -9
    found = list(place.artifacts(Dataset))
    assert len(found) == (2 if moment == "after it is renamed" else 1)
    assert all(artifact.damage() is None for artifact in found)
    assert bool(drafts(place)) == (moment != "after it is renamed")
    assert sweep(place) == []
    assert drafts(place) == []
    make(place, number=2)
    assert place.newest(Dataset).manifest.id > before.manifest.id


def test_makers_killed_at_random_leave_whole_artifacts(place):
    dice, seen = random.Random(20261124), 0
    for number in range(6):
        process = start(make_many, place.root, number * 100_000)
        if number % 2:  # else it may be killed before it has made any
            wait_until(lambda: len(folders(place)) > seen)  # noqa: B023 - called at once
        time.sleep(dice.uniform(0.02, 0.12))
        kill(process)
        found = list(place.artifacts(Dataset))
        assert len(found) == len(folders(place)) >= seen
        assert all(artifact.damage() is None for artifact in found[: len(found) - seen])
        seen = len(found)
    assert seen
    assert sweep(place) == []
    assert drafts(place) == []


# --- Finding ----------------------------------------------------------------------------------------------------------


def test_the_newest_is_the_one_made_last(place):
    for number in (3, 10, 1):
        make(place, number=number)
    assert [a.manifest.fingerprint[-1] for a in place.artifacts(Dataset)] == ["a", "3", "1"]
    assert place.newest(Validation) is None


def test_the_newest_with_a_fingerprint_is_found(place):
    same, alike = "12345678" + "0" * 56, "12345678" + "1" * 56
    make(place, number=1, fingerprint=same)
    second = make(place, number=2, fingerprint=same)
    make(place, number=3, fingerprint=alike)
    make(place, "Validation", number=4, fingerprint=same)
    assert place.with_fingerprint(Dataset, same).manifest == second.manifest
    assert place.with_fingerprint(Dataset, "12345678" + "2" * 56) is None
    assert place.with_fingerprint(TrainedModel, same) is None


def test_an_input_is_found_by_its_id_or_its_content(place):
    first = make(place, number=1, content="one")
    make(place, number=2, content="two")
    record = first.as_input()
    assert place.lookup(record).manifest == first.manifest
    shutil.rmtree(first.folder)
    again = make(place, number=3, content="one")
    assert place.lookup(record).manifest == again.manifest
    with pytest.raises(NotFoundError, match="Dataset d9 is no longer in the workspace") as caught:
        place.lookup(InputRecord(kind="Dataset", id="d9", manifest_sha256="0" * 64, content="nine"))
    assert caught.value.exit_code == 6
    assert "vehins pipeline run" in caught.value.hint


@pytest.mark.parametrize("path", ["absent", "absent/manifest.json", "work", "work/workspace.json"])
def test_where_there_is_no_manifest_none_is_read(place, path):
    with pytest.raises(NotFoundError, match="There is no manifest at") as caught:
        place.read(place.root.parent / path)
    assert "manifest.json" in caught.value.hint


def test_an_artifact_may_be_anywhere(place, tmp_path):
    made = make(place)
    shutil.copytree(made.folder, tmp_path / "elsewhere")
    assert place.read(tmp_path / "elsewhere" / "manifest.json").damage() is None


def test_an_id_sorts_by_time_and_ends_in_the_fingerprint():
    assert new_id("abcdef0123", MOMENT) == "20261124T101112345678Z-abcdef01"


# --- Damage -----------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


DAMAGE = {
    "gone": (Path.unlink, "is missing"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes instead of"),
    "empty": (lambda path: path.write_bytes(b""), "has 0 bytes"),
    "changed": (flip, "has other content"),
}


@pytest.mark.parametrize("name", ["b.txt", "parts/a.txt"])
@pytest.mark.parametrize(("harm", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_noticed(place, name, harm, said):
    made = make(place)
    harm(made.path(name))
    found = place.newest(Dataset)
    assert found.damage().startswith(name)
    assert said in found.damage()


def test_files_are_read_once(place):
    made, found = make(place), place.newest(Dataset)
    assert found.damage() is None
    flip(made.path("b.txt"))
    assert found.damage() is None
    assert place.newest(Dataset).damage()


MANIFEST_DAMAGE = {
    "gone": Path.unlink,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "empty": lambda path: path.write_bytes(b""),
    "edited": lambda path: path.write_text(path.read_text().replace('"rows": 10', '"rows": 11')),
}


@pytest.mark.parametrize("harm", MANIFEST_DAMAGE.values(), ids=MANIFEST_DAMAGE)
def test_an_artifact_without_a_whole_manifest_is_not_used_and_set_aside(place, harm):
    older = make(place, number=1)
    broken = make(place, number=2)
    fingerprint = broken.manifest.fingerprint
    harm(broken.manifest_path)
    with pytest.raises((ArtifactDamagedError, NotFoundError)):
        place.read(broken.folder)
    assert place.newest(Dataset).manifest == older.manifest
    assert place.with_fingerprint(Dataset, fingerprint) is None
    (note,) = sweep(place)
    assert f"Dataset {broken.folder.name} is damaged" in note
    aside = note.rpartition(" in ")[2]
    assert (Path(aside) / "b.txt").read_bytes() == b"b" * 10
    assert folders(place) == [older.folder]
    assert sweep(place) == []


def test_what_is_set_aside_twice_is_kept_twice(place):
    notes = []
    for _ in range(2):
        made = make(place, number=1)
        notes.append(place.set_aside(made.folder, "why."))
    assert len(set(notes)) == len(list((place.root / "damaged").iterdir())) == 2
    assert all("is damaged (why); it was set aside in" in note for note in notes)


# --- Layout -----------------------------------------------------------------------------------------------------------


def test_a_workspace_of_a_newer_version_is_left_alone(place):
    (place.root / "workspace.json").write_text('{"version": 2}')
    with pytest.raises(WorkspaceVersionError, match="written by a newer vehins") as caught:
        Workspace(place.root)
    assert caught.value.exit_code == 3
    assert "layout 2" in caught.value.detail
    assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"version": "new"}', '{"version": null}'])
def test_a_workspace_that_does_not_say_its_version_is_left_alone(place, content):
    (place.root / "workspace.json").write_text(content)
    with pytest.raises(WorkspaceVersionError, match="does not say which layout") as caught:
        Workspace(place.root)
    assert '{"version": 1}' in caught.value.detail


def test_an_artifact_of_a_newer_version_is_not_swept_away(place):
    made = make(place)
    text = made.manifest_path.read_text().replace('"manifest_version": 1', '"manifest_version": 2')
    made.manifest_path.write_text(text)
    with pytest.raises(WorkspaceVersionError, match="written by a newer vehins"):
        sweep(place)
    assert made.manifest_path.read_text() == text


def test_a_reader_makes_nothing(tmp_path):
    place = Workspace(tmp_path / "absent")
    assert place.newest(Dataset) is None
    assert not place.root.exists()


def test_a_writer_says_which_layout_it_is(tmp_path):
    with Workspace(tmp_path / "deep" / "work").writing(0, print):
        assert json.loads((tmp_path / "deep" / "work" / "workspace.json").read_bytes()) == {"version": 1}


def test_left_over_drafts_are_swept_away(place):
    (place.root / "drafts" / "Dataset-dead" / "parts").mkdir(parents=True)
    (place.root / "drafts" / "Dataset-dead" / "parts" / "a").write_text("x")
    assert sweep(place) == []
    assert drafts(place) == []


@pytest.mark.parametrize("below", ["", "deep"])
def test_a_file_in_the_place_of_the_workspace_is_told(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="A file stands where a folder is needed") as caught:
        sweep(Workspace(tmp_path / "file" / below))
    assert caught.value.exit_code == 6
    assert "--workspace" in caught.value.hint


@pytest.fixture
def somebody_else():
    """A folder of root, in which this process is nobody in particular."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    os.seteuid(0)
    shutil.rmtree(folder)


@needs_root
@pytest.mark.parametrize("exists", [True, False])
def test_a_workspace_that_may_not_be_written_is_told(somebody_else, exists):
    root = somebody_else / "work"
    if exists:
        root.mkdir()
    os.seteuid(65534)
    with pytest.raises(StorageError, match="Permission denied") as caught:
        sweep(Workspace(root))
    assert caught.value.exit_code == 6
    assert str(root) in caught.value.detail


@needs_root
def test_a_workspace_that_may_only_be_read_can_be_read(somebody_else):
    place = Workspace(somebody_else / "work")
    with place.writing(0, print):
        make(place)
    os.seteuid(65534)
    assert Workspace(place.root).newest(Dataset).damage() is None
    assert Workspace(place.root).newest(Dataset).manifest.result.rows == sample("Dataset").result.rows
