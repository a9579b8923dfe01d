"""Both readers make the same frames of the same documents, however uneven those are."""

from __future__ import annotations

from typing import Any

import bson
import polars as pl
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mongodb_tables import schema_of
from polars.testing import assert_frame_equal

from vehins.data.sources.mongodb import decoding, layout
from vehins.data.sources.mongodb.decoding import BsonDecoder, decoder, starts

COLUMNS: dict[str, dict[str, Any]] = {
    "id": {"dtype": "int", "role": "key"},
    "i": {"dtype": "int", "nullable": True},
    "f": {"dtype": "float", "nullable": True},
    "s": {"dtype": "string", "nullable": True},
    "b": {"dtype": "bool", "nullable": True},
}
SCHEMA = schema_of(COLUMNS)
PATHS = {name: name for name in SCHEMA.kept}
INT = st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**63), 2**63 - 1).map(Int64) | st.just(Int64(2**53 + 1))
FLOAT = st.floats() | st.sampled_from([0.0, -0.0, 1.0, 28.5, 2.0**53])
TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["", " ", "a\0b", "\x10i\0", "28"])
ODD = st.sampled_from([Decimal128("1"), ObjectId("0" * 24), [1], {"i": 1}, b"x"])
PLAIN = {"id": st.integers(0, 99), "i": INT, "f": FLOAT, "s": TEXT, "b": st.booleans(), "y": st.integers(0, 1)}
ANY = INT | FLOAT | TEXT | st.booleans() | st.none() | ODD


def encoded(documents: list[dict[str, Any]]) -> bytes:
    return b"".join(map(bson.encode, documents))


@st.composite
def uneven(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Documents that are mostly alike: fields that lack, are null, of another type, in another order."""
    oddity = draw(st.sampled_from(["none", "lacking", "null", "types", "order", "more"]))
    documents = []
    for number in range(draw(st.integers(1, 8))):
        one: dict[str, Any] = {"_id": number, **{name: draw(values) for name, values in PLAIN.items()}}
        for name in PLAIN:
            if oddity == "lacking" and draw(st.booleans()):
                del one[name]
            elif oddity == "null" and draw(st.booleans()):
                one[name] = None
            elif oddity == "types" and draw(st.integers(0, 3)) == 0:
                one[name] = draw(ANY)
        if oddity == "order":
            one = {name: one[name] for name in draw(st.permutations(list(one)))}
        if oddity == "more" and draw(st.booleans()):
            one["more"] = draw(ANY)
        documents.append(one)
    return documents


@settings(max_examples=400, deadline=None)
@given(batches=st.lists(uneven(), min_size=1, max_size=3))
@example(batches=[[{"_id": 1, "id": 1, "i": 1, "f": 1.0, "s": "a", "b": True, "y": 0}]] * 2)
def test_the_readers_agree(batches: list[list[dict[str, Any]]]) -> None:
    by_bson = decoder("bson", PATHS, SCHEMA, identify=False)
    by_arrow = decoder("arrow", PATHS, SCHEMA, identify=False)
    for documents in [*batches, *batches]:  # a reader may learn from what came before
        raw = encoded(documents)
        assert_frame_equal(by_arrow.frame(raw), by_bson.frame(raw))


@settings(max_examples=200, deadline=None)
@given(documents=st.lists(uneven(), min_size=1, max_size=1), place=st.integers(0), sign=st.integers(0, 255))
def test_damaged_documents_do_no_harm(documents: list[list[dict[str, Any]]], place: int, sign: int) -> None:
    """What is not BSON is not laid out; nothing is read beyond the end."""
    raw = bytearray(encoded(documents[0]))
    begins = list(starts(bytes(raw)))
    place %= len(raw)
    if not any(begin <= place < begin + 4 for begin in begins):  # their lengths are checked by the driver
        raw[place] = sign
    found = layout.found(bytes(raw), list(documents[0][0]))
    for field in found.fields.values() if found else ():
        if field.types <= {layout.TEXT, layout.NULL}:
            found.texts(field)
        elif field.types <= {layout.DOUBLE, layout.INT32, layout.INT64, layout.NULL}:
            found.numbers(field)


def test_plain_documents_need_no_dictionaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is quick is a matter of the benchmark; that it takes the quick way is one of this test."""
    documents = [{"_id": i, "id": i, "i": i, "f": i / 2, "s": f"é{i}", "b": True, "y": 0} for i in range(100)]
    del documents[5]["s"], documents[7]["f"]
    documents[9]["i"] = None
    by = decoder("arrow", PATHS, SCHEMA, identify=False)
    first = by.frame(encoded(documents))
    monkeypatch.delattr(BsonDecoder, "decoded")
    assert_frame_equal(by.frame(encoded(documents)), first)
    assert first["s"][6] == "é6"


def test_a_text_that_is_not_utf8_is_read_as_by_bson() -> None:
    raw = encoded([{"_id": 1, "id": 1, "i": 1, "f": 1.0, "s": "aXb", "b": True, "y": 0}]).replace(b"aXb", b"a\xffb")
    by = decoder("arrow", PATHS, SCHEMA, identify=False)
    assert [by.frame(raw)["s"][0] for _ in range(2)] == ["a\\xffb"] * 2


def test_a_field_twice_in_one_document_and_missing_in_the_next() -> None:
    """Counting values alone would not notice it."""
    plain = {"_id": 1, "id": 1, "i": 1, "f": 1.0, "s": "a", "b": True, "y": 0}
    inside = bson.encode(plain)[4:-1] + bson.encode({"s": "b"})[4:]
    twice = (len(inside) + 4).to_bytes(4, "little") + inside
    raw = bson.encode(plain) + twice + bson.encode({**plain, "s": None}) + encoded([{"_id": 2, "id": 2, "y": 1}])
    by_bson = decoder("bson", PATHS, SCHEMA, identify=False)
    by_arrow = decoder("arrow", PATHS, SCHEMA, identify=False)
    by_arrow.frame(encoded([plain]))
    assert by_arrow.frame(raw)["s"].to_list() == by_bson.frame(raw)["s"].to_list() == ["a", "b", None, None]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from vehins.errors import ConfigurationError
    from vehins.remote import drivers

    def lacking(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(drivers.importlib, "import_module", lacking)
    with pytest.raises(ConfigurationError) as caught:
        decoder("arrow", PATHS, SCHEMA, identify=False)
    assert "vehins[mongo-arrow]" in caught.value.hint
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    assert isinstance(decoder("auto", PATHS, SCHEMA, identify=False), BsonDecoder)


def test_an_empty_batch_has_the_columns() -> None:
    for reader in ("bson", "arrow"):
        frame = decoder(reader, PATHS, SCHEMA, identify=False).frame(b"")
        assert (frame.columns, frame.height) == ([*PATHS, "__id__"], 0)
        assert frame.schema["__id__"] == pl.String
