"""Which files an address means, and what is said when it means none; for all kinds of files alike."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import polars as pl
import pytest
from small_tables import CUSTOMERS, HEADER, read

from vehins.data import sources
from vehins.data.sources import ReadOptions, open_source
from vehins.errors import NotFoundError, SettingsError, SourceFormatError, UnreachableError

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody who may not read"
)


def write(path: Path, *ids: int) -> Path:
    """A file of customers, of the kind that its name says."""
    rows = pl.DataFrame({"id": ids, "name": "x", "age": 40, "note": None, "y": 1})
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in {".parquet", ".pq"}:
        rows.write_parquet(path)
    else:
        rows.write_csv(path, separator="\t" if path.suffix.lower() == ".tsv" else ",")
    return path


def ids(place: Path | str) -> list[int]:
    return [int(i) for batch in read(place) for i in batch["id"]]


@pytest.fixture(params=[".csv", ".parquet"])
def suffix(request):
    return request.param


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.tsv", "A.TSV", "a.parquet", "a.pq", "A.PARQUET"])
def test_a_file_is_known_by_its_ending(tmp_path, name):
    assert ids(write(tmp_path / name, 1, 2)) == [1, 2]


def test_a_file_address_may_have_a_scheme(tmp_path, suffix):
    assert ids(f"file://{write(tmp_path / f'a{suffix}', 1)}") == [1]


def test_a_folder_is_all_its_files_by_name(tmp_path, suffix):
    write(tmp_path / f"b{suffix}", 3)
    write(tmp_path / f"a{suffix}", 1, 2)
    write(tmp_path / "c" / f"a{suffix}", 4)
    write(tmp_path / f".hidden{suffix}", 9)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "readme.txt").write_text("about")
    assert ids(tmp_path) == [1, 2, 3, 4]


def test_a_folder_may_look_like_a_file(tmp_path):
    write(tmp_path / "out.parquet" / "part-0.snappy.parquet", 1)
    assert ids(tmp_path / "out.parquet") == [1]


def test_a_glob_is_the_files_that_it_matches(tmp_path, suffix):
    for number, name in enumerate(["a1", "a2", "b1", "deep/a3"]):
        write(tmp_path / f"{name}{suffix}", number)
    assert ids(f"{tmp_path}/a*{suffix}") == [0, 1]
    assert ids(f"{tmp_path}/a[23]{suffix}") == [1]
    assert ids(f"{tmp_path}/?1{suffix}") == [0, 2]
    assert ids(f"{tmp_path}/**/a*{suffix}") == [0, 1, 3]


def test_a_relative_glob(tmp_path, suffix, monkeypatch):
    write(tmp_path / "in" / f"a{suffix}", 1)
    monkeypatch.chdir(tmp_path)
    assert ids(f"in/*{suffix}") == ids(f"*/*{suffix}") == ids(f"./in/a{suffix}") == [1]


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "[ab]", "with blank", "ä😀", "a%20b", "~x", "-x"])
def test_signs_of_a_glob_in_a_name_are_taken_as_they_are(tmp_path, suffix, name):
    write(tmp_path / f"b{suffix}", 2)
    write(tmp_path / f"{name}{suffix}", 1)
    assert ids(tmp_path / f"{name}{suffix}") == [1]
    write(tmp_path / name / f"c{suffix}", 3)
    assert ids(tmp_path / name) == [3]
    assert ids(f"{tmp_path / name}/*{suffix}") == [3]


@pytest.mark.parametrize(
    ("address", "detail"),
    [("absent{}", "No file matches"), ("*{}", "No file matches"), ("no/folder/a{}", "no/folder, does not exist")],
)
def test_a_file_that_is_not_there_is_not_found(tmp_path, suffix, address, detail):
    with pytest.raises(NotFoundError, match="There is no file") as caught:
        read(f"{tmp_path}/{address.format(suffix)}")
    assert caught.value.exit_code == 6
    assert detail in caught.value.detail
    assert "--source" in caught.value.hint


@pytest.mark.parametrize(
    "address", ["customers", "a.xlsx", "gs://bucket/a.csv", "mysql://u:geheim@h/db", "", "a.csv.gz"]
)
def test_an_address_of_no_known_kind_is_refused(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="Nothing reads") as caught:
        read(address)
    assert caught.value.exit_code == 3
    assert all(kind.SUMMARY in caught.value.detail for kind in sources.kinds())
    assert "geheim" not in str(caught.value.as_dict())


def test_a_folder_without_such_files_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("about")
    with pytest.raises(SettingsError, match="Nothing reads"):
        read(tmp_path)


def test_a_folder_of_both_kinds_is_refused_and_not_half_read(tmp_path):
    write(tmp_path / "a.csv", 1)
    write(tmp_path / "b.parquet", 2)
    with pytest.raises(SettingsError, match="more than one kind") as caught:
        read(tmp_path)
    assert "FOLDER/*.parquet" in caught.value.hint
    assert ids(f"{tmp_path}/*.csv") == [1]


def test_an_empty_file_is_named(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", 1)
    (tmp_path / f"b{suffix}").touch()
    with pytest.raises(SourceFormatError, match=f"b{suffix} is empty") as caught:
        read(tmp_path)
    assert caught.value.exit_code == 4
    assert caught.value.hint


def test_files_may_have_their_columns_in_another_order(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", 1)
    path = write(tmp_path / f"b{suffix}", 2)
    shuffled = (pl.read_csv(path) if suffix == ".csv" else pl.read_parquet(path)).select(
        "y", "age", "id", "note", "name"
    )
    shuffled.write_csv(path) if suffix == ".csv" else shuffled.write_parquet(path)
    assert ids(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop("name"), "It lacks `name`."),
        (lambda rows: rows.with_columns(more=1), "It has `more`."),
        (lambda rows: rows.rename({"age": "Age"}), "It lacks `age` and has `Age`."),
    ],
)
def test_files_with_other_columns_are_refused(tmp_path, suffix, change, said):
    """Rows of such a file would be read with a column left empty, or thrown away."""
    rows = pl.DataFrame({"id": [1], "name": "x", "age": 40, "note": "n", "y": 1})
    for number, frame in enumerate([rows, rows, change(rows)]):
        path = tmp_path / f"{number}{suffix}"
        frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    with pytest.raises(SourceFormatError, match=f"2{suffix} has other columns than .*0{suffix}") as caught:
        read(tmp_path)
    assert caught.value.detail == said
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("happening", ["grows", "is replaced", "goes away"])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, suffix, happening):
    path = write(tmp_path / f"a{suffix}", *range(100))
    batches = open_source(str(path), ReadOptions(batch_rows=10)).batches(CUSTOMERS)
    next(batches)
    if happening == "grows":
        with path.open("ab") as file:
            file.write(b"7,x,40,,1\n")
    elif happening == "is replaced":
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, (1, 1))
    else:
        path.unlink()
    with pytest.raises(SourceFormatError, match="changed while it was being read") as caught:
        list(batches)
    assert caught.value.exit_code == 4


def test_a_token_is_that_of_the_content(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", 1, 2)
    before = open_source(str(path), ReadOptions()).token()
    os.utime(path, (1, 1))
    assert open_source(str(path), ReadOptions()).token() == before
    path.rename(tmp_path / f"b{suffix}")
    assert open_source(str(tmp_path), ReadOptions()).token() == before
    write(tmp_path / f"c{suffix}", 3)
    assert open_source(str(tmp_path), ReadOptions()).token() != before


@pytest.fixture
def forbidden(suffix):
    """A file that exists and that this process, as nobody in particular, may not read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = write(folder / f"a{suffix}", 1)
    path.chmod(0)
    os.seteuid(65534)
    yield path
    os.seteuid(0)
    path.unlink()
    folder.rmdir()


@needs_root
def test_a_file_that_may_not_be_read_is_unreachable(forbidden):
    source = open_source(str(forbidden), ReadOptions())
    for read_it in (source.token, lambda: list(source.batches(CUSTOMERS))):
        with pytest.raises(UnreachableError, match=f"Cannot read .*{forbidden.name}") as caught:
            read_it()
        assert caught.value.exit_code == 6
        assert "ermission denied" in caught.value.detail
        assert "rights" in caught.value.hint


@needs_root
def test_a_folder_that_may_not_be_entered_is_unreachable(forbidden):
    os.seteuid(0)
    forbidden.parent.chmod(0o700)
    os.seteuid(65534)
    with pytest.raises(UnreachableError, match="Cannot read") as caught:
        open_source(str(forbidden), ReadOptions())
    assert "ermission denied" in caught.value.detail


def test_every_kind_has_a_summary_for_the_documentation():
    assert len(sources.kinds()) >= 3
    assert all(kind.SUMMARY.startswith("`") for kind in sources.kinds())


def test_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER)
    write(tmp_path / "a.parquet")
    assert sum(batch.height for kind in ("csv", "parquet") for batch in read(tmp_path / f"a.{kind}")) == 0
