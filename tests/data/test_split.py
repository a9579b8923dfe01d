"""A row's side is a published function of its key, and a bag of rows has a digest that nothing else has."""

from __future__ import annotations

import hashlib
import math
import struct
from itertools import pairwise, product

import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import CUSTOMERS, table

from vehins.data import split
from vehins.data.split import SIDE, RowDigest
from vehins.settings import SplitSettings

SHARES = SplitSettings()
KEYLESS = table(
    {
        "a": {"dtype": "string", "nullable": True},
        "b": {"dtype": "string", "nullable": True},
        "n": {"dtype": "float"},
        "k": {"dtype": "int"},
        "t": {"dtype": "bool"},
    }
)
# Every character that the text of a row uses for itself, and harmless ones.
HOSTILE = st.text(st.sampled_from("\x00\x10\x1f012aé😀") | st.characters(codec="utf-8"), max_size=5)
FLOATS = st.floats(allow_nan=False)
CELLS = {
    "a": st.none() | HOSTILE,
    "b": st.none() | HOSTILE,
    "n": st.none() | FLOATS,
    "k": st.none() | st.integers(-(2**63), 2**63 - 1),
    "t": st.none() | st.booleans(),
}
ROWS = st.fixed_dictionaries(CELLS)
TYPES = {"a": pl.String, "b": pl.String, "n": pl.Float64, "k": pl.Int64, "t": pl.Boolean}


def customers(ids) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": ids, "name": None, "age": 40, "y": 0}, schema_overrides={"name": pl.String, "id": pl.Int64}
    )


def sides(rows: pl.DataFrame, schema=CUSTOMERS, shares=SHARES) -> list[str]:
    return rows.with_columns(split.side(schema, shares))[SIDE].to_list()


def published(text: str, salt: str) -> int:
    """The hash as another implementation of the specification gives it."""
    seed = int(hashlib.sha256(salt.encode()).hexdigest()[:16], 16)
    return xxhash.xxh64_intdigest(text.encode(), seed=seed)


def published_side(text: str, shares: SplitSettings) -> str:
    point = published(text, shares.salt) / 2**64
    return "test" if point < shares.test else "valid" if point < shares.test + shares.valid else "train"


def published_text(row: dict) -> str:
    """The text of a row as the documentation of `row_text` tells it."""
    return "\x1f".join(_published_cell(row[name]) for name in TYPES if name in row)


def _published_cell(value) -> str:
    match value:
        case None:
            return "\x00"
        case bool():
            return "true" if value else "false"
        case float():
            return str(struct.unpack("<Q", struct.pack("<d", value or 0.0))[0])
        case str():
            return "".join({"\x10": "\x100", "\x00": "\x101", "\x1f": "\x102"}.get(sign, sign) for sign in value)
    return str(value)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=80), min_size=1), salt=st.text(min_size=1, max_size=9)
)
def test_the_hash_is_the_published_one(texts, salt):
    rows = pl.DataFrame({"text": texts})
    assert rows.select(split.text_hash(pl.col("text"), salt)).to_series().to_list() == [
        published(t, salt) for t in texts
    ]


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), salt=st.text(min_size=1, max_size=9))
def test_a_side_is_the_hash_of_the_key_against_the_shares(ids, salt):
    shares = SplitSettings(salt=salt, valid=0.3, test=0.25)
    assert sides(customers(ids), shares=shares) == [published_side(str(i), shares) for i in ids]


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_without_a_key_the_whole_row_is_hashed(rows):
    frame = pl.DataFrame(rows, schema=TYPES).with_columns(y=pl.lit(0, dtype=pl.Int64))
    assert sides(frame, KEYLESS) == [published_side(published_text(row), SHARES) for row in rows]


def test_sides_are_those_of_every_release():
    """A change here moves customers of every user to another side: it needs a very good reason."""
    shown = " ".join(side[:2] for side in sides(customers(range(1, 25))))
    assert shown == "tr tr va va va tr tr tr tr tr tr tr tr te tr tr va va te va tr te tr tr"
    rows = pl.DataFrame(
        {"a": ["x", None], "b": ["", "y"], "n": [0.5, -1e16], "k": [1, None], "t": [True, None], "y": [0, 1]}
    )
    point = split.text_hash(split.key_text(KEYLESS), "vehins")
    assert rows.select(point).to_series().to_list() == [766656129065668625, 12133083359157845971]


def test_shares_are_as_asked():
    found = pl.Series(sides(customers(range(200_000)))).value_counts()
    counts = dict(found.iter_rows())
    for side, share in (("train", 0.64), ("valid", 0.16), ("test", 0.20)):
        assert abs(counts[side] - share * 200_000) < 5 * math.sqrt(200_000 * share * (1 - share))


def test_neighbouring_keys_and_sides_have_nothing_to_do_with_each_other():
    found = sides(customers(range(100_000)))
    both = sum(one == two == "test" for one, two in pairwise(found))
    assert abs(both - 0.04 * 100_000) < 5 * math.sqrt(100_000 * 0.04)


def test_another_salt_is_another_split():
    ids, other = customers(range(10_000)), SplitSettings(salt="another")
    same = sum(one == two for one, two in zip(sides(ids), sides(ids, shares=other), strict=True))
    by_chance = 0.64**2 + 0.16**2 + 0.20**2
    assert abs(same / 10_000 - by_chance) < 0.03


def test_a_side_depends_on_the_key_alone():
    """Not on the batch, the order, the other columns, nor on how the data grow."""
    one = customers(range(1000))
    other = one.with_columns(name=pl.lit("x"), age=pl.col("id") % 90, y=pl.lit(1, dtype=pl.Int64))
    known = dict(zip(one["id"], sides(one), strict=True))
    shuffled = other.sample(fraction=1, shuffle=True, seed=1)
    for batch in shuffled.iter_slices(77):
        assert sides(batch) == [known[i] for i in batch["id"]]


def test_twins_that_differ_in_the_target_alone_fall_on_the_same_side():
    row = {"a": "x", "b": "y", "n": 1.0, "k": 1, "t": True}
    frame = pl.DataFrame([{**row, "k": k, "y": y} for k, y in product(range(50), (0, 1))])
    found = sides(frame, KEYLESS)
    assert found[::2] == found[1::2]
    assert set(found) == {"train", "valid", "test"}


def test_both_zeros_are_one_value():
    frame = pl.DataFrame({"a": "x", "b": "y", "n": [0.0, -0.0], "k": 1, "t": True, "y": 0})
    texts = frame.select(split.key_text(KEYLESS)).to_series()
    assert texts[0] == texts[1]


@settings(max_examples=300, deadline=None)
@given(one=ROWS, two=ROWS)
def test_different_rows_have_different_texts(one, two):
    texts = pl.DataFrame([one, two], schema=TYPES).select(split.key_text(KEYLESS)).to_series()
    assert texts.null_count() == 0
    assert (texts[0] == texts[1]) == (one == two)


CONFUSING = [
    ({"a": "x\x1fy", "b": "z"}, {"a": "x", "b": "y\x1fz"}),
    ({"a": None, "b": "z"}, {"a": "\x00", "b": "z"}),
    ({"a": None, "b": None}, {"a": "", "b": ""}),
    ({"a": "", "b": None}, {"a": None, "b": ""}),
    ({"a": "\x10", "b": ""}, {"a": "\x100", "b": ""}),
    ({"a": "\x101", "b": ""}, {"a": "\x00", "b": ""}),
    ({"a": "\x1f", "b": ""}, {"a": "", "b": "\x1f"}),
    ({"a": "x", "b": None}, {"a": "x\x1f\x00", "b": None}),
]


@pytest.mark.parametrize(("one", "two"), CONFUSING)
def test_what_looks_alike_is_not_confused(one, two):
    assert digest([one]) != digest([two])


def digest(rows: list[dict], batch: int = 100) -> str:
    frame = pl.DataFrame(rows, schema={name: dtype for name, dtype in TYPES.items() if name in rows[0]})
    found = RowDigest(frame.columns)
    for part in frame.iter_slices(batch):
        found.add(part)
    return found.hexdigest()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=12), batch=st.integers(1, 12), data=st.data())
def test_a_digest_knows_neither_order_nor_batches(rows, batch, data):
    assert digest(data.draw(st.permutations(rows)), batch) == digest(rows)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=6), name=st.sampled_from(list(CELLS)), data=st.data())
def test_a_digest_feels_every_change_of_a_cell(rows, name, data):
    number = data.draw(st.integers(0, len(rows) - 1))
    value = data.draw(CELLS[name].filter(lambda value: value != rows[number][name]))
    changed = [{**row, name: value} if i == number else row for i, row in enumerate(rows)]
    assert digest(changed) != digest(rows)


def test_a_digest_feels_cells_that_change_places():
    one = [{"a": "x", "b": "1"}, {"a": "y", "b": "2"}]
    two = [{"a": "x", "b": "2"}, {"a": "y", "b": "1"}]
    assert digest(one) != digest(two)


def test_a_digest_counts_repeated_rows():
    row = {"a": "x", "b": "y"}
    assert len({digest([row] * times) for times in (1, 2, 3)}) == 3
    assert digest([row, row, {"a": "z", "b": "y"}]) != digest([row, {"a": "z", "b": "y"}, {"a": "z", "b": "y"}])


def test_a_digest_is_that_of_every_release():
    rows = [{"a": "x", "b": None, "n": 0.5, "k": -1, "t": True}, {"a": "\x1f", "b": "é", "n": None, "k": 7, "t": None}]
    assert digest(rows) == "2-a0594cf5579012cf48c36f9109b8bd95"
    texts = [published_text(row) for row in rows]
    sums = [sum(published(text, f"row digest {i}") for text in texts) % 2**64 for i in range(2)]
    assert digest(rows) == f"2-{sums[0]:016x}{sums[1]:016x}"


def test_the_digest_of_nothing():
    assert RowDigest(["a"]).hexdigest() == "0-" + "0" * 32
