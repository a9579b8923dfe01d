"""CSV as programs write it: read when it can be, refused with the line at fault when it cannot."""

from __future__ import annotations

from io import StringIO

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import HEADER, read, table

from vehins.data.sources import csv
from vehins.errors import SourceFormatError

FIRST = "1,Ann,40,,0\n"


@pytest.fixture
def rows(tmp_path):
    """Write a file and read it back."""

    def rows(content: str | bytes, name: str = "a.csv", **options) -> list[tuple]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [row for batch in read(path, **options) for row in batch.select("id", "name", "age", "note", "y").rows()]

    return rows


@pytest.fixture
def refused(rows):
    """Write a file that cannot be read, and give the error."""

    def refused(content: str | bytes, name: str = "a.csv", **options) -> SourceFormatError:
        with pytest.raises(SourceFormatError) as caught:
            rows(content, name, **options)
        assert caught.value.exit_code == 4
        assert name in caught.value.headline
        assert caught.value.detail
        assert caught.value.hint
        assert len(caught.value.detail.splitlines()) == 1
        return caught.value

    return refused


READABLE = {
    "plain": HEADER + FIRST,
    "byte order mark": "\ufeff" + HEADER + FIRST,
    "CRLF": (HEADER + FIRST).replace("\n", "\r\n"),
    "byte order mark and CRLF": "\ufeff" + (HEADER + FIRST).replace("\n", "\r\n"),
    "no newline at the end": HEADER + FIRST.rstrip("\n"),
    "quoted header": '"id","name",age,"note","y"\n' + FIRST,
    "blanks in the header": "id, name ,age,\tnote,y \n" + FIRST,
    "blank lines": f"\n{HEADER}\n{FIRST}\n\n",
    "blank lines with CRLF": f"{HEADER}\n{FIRST}\n".replace("\n", "\r\n"),
    "lines of delimiters only": f"{HEADER}{FIRST},,,,\n",
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE)
def test_reads(rows, content):
    assert rows(content) == [("1", "Ann", "40", None, "0")]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('"Ann, Bob"', "Ann, Bob"),
        ('"Ann\nBob"', "Ann\nBob"),
        ('"Ann\r\nBob"', "Ann\r\nBob"),
        ('"5"" pipe"', '5" pipe'),
        ('""', ""),
        ("", None),
        ("  Ann ", "  Ann "),
        ("é😀", "é😀"),
        ("a\x00b\x01", "a\x00b\x01"),
        ("'Ann'", "'Ann'"),
        ("#Ann", "#Ann"),
    ],
)
def test_reads_a_field_as_it_stands(rows, field, name):
    assert rows(f"{HEADER}{FIRST}2,{field},50,n,1\n")[1:] == [("2", name, "50", "n", "1")]


def test_a_newline_in_the_header_is_part_of_a_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,"na\nme",y\n1,Ann,0\n')
    assert read(path)[0].columns == ["id", "na\nme", "y"]


def test_a_field_may_be_as_long_as_it_likes(rows):
    """Python's reader, which looks for short rows behind quoted newlines, has a limit of its own."""
    text = "long\n" * 50_000
    assert rows(f'{HEADER}1,"{text}",40,n,\n') == [("1", text, "40", "n", None)]


def test_every_value_is_text(rows):
    assert rows(HEADER + "007,1e3,4.0,true,0\n") == [("007", "1e3", "4.0", "true", "0")]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", "\t")])
def test_other_delimiters(rows, name, delimiter):
    options = {} if name == "a.tsv" else {"csv_delimiter": delimiter}
    content = (HEADER + "1,'Ann, Bob',40,,0\n").replace("'", '"').replace(", ", "\x02 ").replace(",", delimiter)
    assert rows(content.replace("\x02", ","), name, **options) == [("1", "Ann, Bob", "40", None, "0")]


def test_batches_are_bounded_and_in_order(tmp_path):
    for part in range(2):
        lines = [f"{part * 5000 + i},n,40,,1\n" for i in range(5000)]
        (tmp_path / f"{part}.csv").write_text(HEADER + "".join(lines))
    batches = read(tmp_path, batch_rows=1000)
    assert max(batch.height for batch in batches) <= 1000
    assert pl.concat(batches)["id"].to_list() == [str(i) for i in range(10_000)]


MANY = "".join(f"{i},n,40,,1\n" for i in range(2, 50))
RAGGED = {
    "too long": (HEADER + FIRST + "2,Bob,50,n,1,x\n" + MANY, 3, 6),
    "too short": (HEADER + FIRST + "2,Bob,50\n" + MANY, 3, 3),
    "too short by one": (HEADER + FIRST + "2,Bob,50,1\n" + MANY, 3, 4),
    "last line cut short": (HEADER + FIRST + MANY + "99,Bo", 51, 2),
    "a single word": (HEADER + FIRST + "total\n", 3, 1),
    "unquoted delimiter": (HEADER + FIRST + "2,Bob, jr,50,n,1\n", 3, 6),
    "quoted delimiters before": (HEADER + '1,"a, ""b"", c",40,,0\n2,Bob\n', 3, 2),
    "blank lines before": (HEADER + "\n\n" + FIRST + "2,Bob\n", 5, 2),
    "too short behind a quoted newline": (HEADER + '1,"Ann\nAnn",40,,0\n2,Bob\n' + MANY, 4, 2),
    "too long behind a quoted newline": (HEADER + '1,"Ann\nAnn",40,,0\n2,Bob,50,n,1,x\n' + MANY, 4, 6),
    "too short with a quoted newline": (HEADER + FIRST + '2,"Ann\nAnn",40\n' + MANY, 3, 3),
    "a blank before a quote": (HEADER + '1, "Ann, jr",40,,0\n', 2, 6),
}


@pytest.mark.parametrize(("content", "line", "fields"), RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_ragged_row_is_refused_with_its_line(refused, content, line, fields, end):
    """polars itself fills what is short with nulls and says nothing."""
    error = refused(content.replace("\n", end))
    assert error.headline.endswith("has a ragged row")
    assert error.detail == f"Line {line} has {fields} fields, the first line has 5."


QUOTES = {
    "never closed": (HEADER + FIRST + '2,"Bob,50,n,1\n' + MANY, 3),
    "never closed in the last line": (HEADER + FIRST + MANY + '99,Bob,50,"n,1\n', 51),
    "never closed in the last field": (HEADER + FIRST + '2,Bob,50,n,"1\n', 3),
    "never closed behind a quoted newline": (HEADER + '1,"A\nA",40,,0\n2,"Bob,50,n,1\n', 4),
    "inch": (HEADER + FIRST + '2,5" pipe,50,n,1\n' + MANY, 3),
    "inches": (HEADER + FIRST + '2,5" pipe,50,n,1\n3,6" pipe,50,n,1\n' + MANY, 3),
    "escaped by a backslash": (HEADER + FIRST + '2,"5\\" pipe",50,n,1\n' + MANY, 3),
    "text behind a quote": (HEADER + FIRST + '2,"Bob"by,50,n,1\n' + MANY, 3),
}


@pytest.mark.parametrize(("content", "line"), QUOTES.values(), ids=QUOTES)
def test_a_quote_out_of_place_is_refused_with_its_line(refused, content, line):
    error = refused(content)
    assert error.headline.endswith("is not well-formed CSV")
    assert f"line {line} " in error.detail
    assert '"5"" pipe"' in error.hint


def test_a_column_that_stands_twice_is_refused(refused):
    error = refused("id,name,age, name,y\n" + FIRST)
    assert error.headline.endswith("has the column `name` 2 times")


@pytest.mark.parametrize(
    ("written", "asked", "shown"),
    [(";", ",", ";"), ("\t", ",", "\\t"), ("|", ";", "|"), (",", ";", ","), (",", "\t", ",")],
)
def test_the_wrong_delimiter_is_guessed(refused, written, asked, shown):
    error = refused((HEADER + FIRST).replace(",", written), csv_delimiter=asked)
    assert error.headline.endswith("has a single column")
    assert f"--set ingest.csv_delimiter='{shown}'" in error.hint
    assert "\t" not in error.detail


def test_what_has_no_delimiter_at_all_is_asked_about(refused):
    assert refused("hello\nworld\n").hint == "Is it a CSV?"


@pytest.mark.parametrize("content", ["\n\n\n", "\ufeff", "\r\n"])
def test_a_file_of_blank_lines_is_empty(refused, content):
    assert refused(content).headline.endswith("a.csv is empty")


LATIN = "5,Andr\xe9,40,,1\n".encode("latin-1")
NOT_UTF8 = {
    "header": ("id,pr\xe9nom\n".encode("latin-1") + LATIN, 1),
    "first row": (HEADER.encode() + LATIN, 2),
    "far below": ((HEADER + "".join(f"{i},n,40,,1\n" for i in range(200_000))).encode() + LATIN + LATIN, 200_002),
    "column that is not kept": (HEADER.encode() + "5,A,40,Andr\xe9,1\n".encode("latin-1"), 2),
}


@pytest.mark.parametrize(("content", "line"), NOT_UTF8.values(), ids=NOT_UTF8)
def test_another_encoding_is_refused_with_its_line(refused, content, line):
    error = refused(content)
    assert error.headline.endswith("is not UTF-8")
    assert f"Line {line:,} " in error.detail
    assert "WINDOWS-1252" in error.hint


def test_a_file_may_be_wrong_in_more_ways_than_one(refused):
    error = refused((HEADER + "1,2,3,4,5,6\n" + MANY).encode() + LATIN)
    assert error.headline.endswith(("is not UTF-8", "has a ragged row"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_known_by_its_mark(refused, encoding):
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    error = refused((mark + HEADER + FIRST).encode(encoding))
    assert error.headline.endswith("is not UTF-8")
    assert "iconv -f UTF-16 " in error.hint


def test_lines_that_end_in_cr_are_refused(refused):
    assert refused((HEADER + FIRST + FIRST).replace("\n", "\r")).detail == "Its lines end in CR."


def test_a_broken_header_is_refused(refused):
    error = refused('"id,name\n' + "x" * 200_000)
    assert error.headline.startswith("The header of")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "a.csv"


FIELD = st.text(st.sampled_from('ab ,"\n\r\té;0'), max_size=6)


@settings(max_examples=150, deadline=None)
@given(cells=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6), delimiter=st.sampled_from(",;\t"))
def test_what_python_writes_is_read_back(scratch, cells, delimiter):
    import csv as python_csv

    with scratch.open("w", encoding="utf-8", newline="") as file:
        writer = python_csv.writer(file, delimiter=delimiter, quoting=python_csv.QUOTE_ALL)
        writer.writerows([("x", "y"), *cells])
    batches = read(scratch, table({"x": {"dtype": "string"}}), csv_delimiter=delimiter)
    assert [row for batch in batches for row in batch.rows()] == cells


@settings(max_examples=200, deadline=None)
@given(
    content=st.lists(st.sampled_from(["a", "1", ",", ",", '"', "\n", "\r\n"]), max_size=30)
    .map("".join)
    .map("x,y\n{}\n".format)
)
def test_any_file_is_read_or_refused(scratch, content):
    """Nothing but a `SourceFormatError` comes out, and what Python finds ragged or broken is never read."""
    import csv as python_csv

    scratch.write_bytes(content.encode())
    try:
        records = [record for record in python_csv.reader(StringIO(content, ""), strict=True) if record]
        whole = all(len(record) == 2 for record in records)
    except python_csv.Error as error:
        # A quote within a field, as in `""a""`, is a matter of taste; one that is never closed is not.
        whole = None if "expected after" in str(error) else False
    try:
        found = [[value or "" for value in row] for batch in read(scratch) for row in batch.rows()]
    except SourceFormatError:
        return
    assert whole is not False
    if whole:
        assert [row for row in found if any(row)] == [record for record in records[1:] if any(record)]


def test_the_summary_names_the_encoding():
    assert "UTF-8" in csv.SUMMARY
