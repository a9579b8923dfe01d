"""LightGBM by its C API and by its package: the same bits, whoever asks, and nothing left behind."""

from __future__ import annotations

import ctypes
import gc
import json
import struct
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehins.model import library, native, trees
from vehins.model.averaging import average
from vehins.model.calibration import Calibrator
from vehins.model.library import import_lightgbm

COLUMNS = 4
NUMBERS = st.one_of(st.floats(), st.integers(0, 9).map(float), st.just(float("nan")), st.sampled_from([-0.0, 1e300]))
MATRIX = st.lists(st.lists(NUMBERS, min_size=COLUMNS, max_size=COLUMNS), min_size=1, max_size=12)


def fitted(seed: int) -> str:
    """A model on numbers and on categories, some of which are missing."""
    lightgbm, dice = import_lightgbm(), np.random.default_rng(seed)
    rows = np.column_stack([dice.integers(0, 9, 2_000), dice.normal(size=(2_000, 2)), dice.integers(0, 60, 2_000)])
    rows[dice.random(rows.shape) < 0.05] = np.nan
    labels = (np.nan_to_num(rows[:, 1]) + (np.nan_to_num(rows[:, 3]) % 7 == 3) > 0.8).astype(int)
    how = {"objective": "binary", "num_leaves": 15, "num_threads": 1, "verbose": -1, "max_cat_to_onehot": 2}
    data = lightgbm.Dataset(rows, labels, categorical_feature=[0, 3])
    found: str = lightgbm.train(how, data, 20).model_to_string()
    return found


ALONE = fitted(1)
TEXTS = {"alone": ALONE.encode(), "averaged": average([ALONE, fitted(2), fitted(3)]).encode()}


@pytest.fixture(params=TEXTS)
def text(request: pytest.FixtureRequest) -> bytes:
    return TEXTS[request.param]


def both(text: bytes) -> tuple[trees.Trees, trees.Trees]:
    quick = trees.load(text, COLUMNS)
    assert isinstance(quick, native.NativeTrees)
    return quick, trees.PackageTrees(text)


def bits(numbers: Any) -> list[int]:
    return np.asarray(numbers, dtype=np.float64).view(np.uint64).ravel().tolist()


PAIRS = {name: both(text) for name, text in TEXTS.items()}


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=150, deadline=None)
@given(rows=MATRIX)
def test_every_way_gives_the_same_bits(name: str, rows: list[list[float]]) -> None:
    matrix = np.array(rows)
    expected = bits(import_lightgbm().Booster(model_str=TEXTS[name].decode()).predict(matrix, num_threads=1))
    for found in PAIRS[name]:
        assert bits([found.row(row) for row in rows]) == expected
        for threads in (1, 2):
            assert bits(found.columns(list(zip(*rows, strict=True)), len(rows), threads)) == expected
        for form in (np.ascontiguousarray(matrix), np.asfortranarray(matrix), matrix.astype(np.float64)[::1]):
            assert bits(found.matrix(form, 1)) == bits(found.matrix(form, 2)) == expected


@pytest.mark.parametrize("name", TEXTS)
def test_contributions_are_those_of_the_package(name: str) -> None:
    quick, package = PAIRS[name]
    matrix = np.random.default_rng(4).normal(size=(50, COLUMNS))
    found = quick.contributions(matrix, 2)
    assert found.shape == (50, COLUMNS + 1)
    assert bits(found) == bits(package.contributions(matrix, 1))


@pytest.mark.parametrize("found", PAIRS["alone"])
def test_no_rows(found: trees.Trees) -> None:
    nothing = np.empty((0, COLUMNS))
    assert found.columns([[]] * COLUMNS, 0) == []
    assert found.matrix(nothing, 1).shape == (0,)
    assert found.contributions(nothing, 1).shape == (0, COLUMNS + 1)


@pytest.mark.parametrize("columns", [0, 1, 3, 5])
def test_what_has_another_number_of_features_is_an_error(columns: int) -> None:
    for found in PAIRS["alone"]:
        with pytest.raises(trees.TreesError):
            found.matrix(np.zeros((2, columns)), 1)
    quick = PAIRS["alone"][0]
    for ask in (lambda: quick.row([0.0] * columns), lambda: quick.columns([[0.0, 1.0]] * columns, 2)):
        with pytest.raises((trees.TreesError, struct.error)):
            ask()


CURVES = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=6, unique=True).map(sorted)


@settings(max_examples=200, deadline=None)
@given(CURVES, CURVES, st.lists(st.floats(0, 1) | st.floats(), min_size=1, max_size=8))
def test_a_calibrator_gives_one_the_same_bits_as_many(
    given_at: list[float], meant: list[float], asked: list[float]
) -> None:
    points = min(len(given_at), len(meant))
    curve = Calibrator(method="isotonic", given=[0, *given_at[:points], 1], meant=[0, *meant[:points], 1])
    with np.errstate(all="ignore"):
        many = curve.apply(np.array([*asked, *curve.given]))
    one = [curve.apply_one(probability) for probability in [*asked, *curve.given]]
    assert [repr(found) for found in one] == [repr(found) for found in many.tolist()]


def test_threads_may_ask_at_the_same_time(text: bytes) -> None:
    found = trees.load(text, COLUMNS)
    rows = np.random.default_rng(5).normal(size=(300, COLUMNS)).tolist()
    expected = [found.row(row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: [found.row(row) for row in rows], range(8)))
    assert answers == [expected] * 8


class Counted:
    """The C API, with an eye on what is made and given back."""

    def __init__(self) -> None:
        plain = native.functions()
        assert plain is not None
        self.freed: list[str] = []
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def make(self, free: str, name: str, *arguments: Any, within: Any = None) -> Any:
        made = self._plain.make(free, name, *arguments, within=within)
        weakref.finalize(made, self.freed.append, free)
        return made


def test_what_was_made_is_given_back_when_its_last_user_is_gone(text: bytes) -> None:
    """A request on another thread holds on to the model that was swapped for another, until it is answered."""
    counted = Counted()
    model: Any = native.NativeTrees(counted, text)  # type: ignore[arg-type]
    expected = model.row([1.0] * COLUMNS)
    asked, swapped, answers = threading.Event(), threading.Event(), []

    def request(held: Any) -> None:
        answers.append(held.row([1.0] * COLUMNS))
        asked.set()
        assert swapped.wait(60)
        answers.append(held.row([1.0] * COLUMNS))

    thread = threading.Thread(target=request, args=[model])
    thread.start()
    assert asked.wait(60)
    model = None
    gc.collect()
    assert counted.freed == []
    swapped.set()
    thread.join(60)
    del thread
    gc.collect()
    assert answers == [expected] * 2
    assert sorted(counted.freed) == ["LGBM_BoosterFree", *["LGBM_FastConfigFree"] * 2]


@pytest.mark.parametrize("missing", ["library", "function", "package"])
def test_without_the_library_the_package_predicts(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1.0, 0.5, -0.5, 3.0], [2.0, 1.5, 0.5, 9.0]]
    expected = [PAIRS["alone"][0].row(row) for row in rows]
    library.shared_library.cache_clear()
    native.functions.cache_clear()
    if missing == "function":
        monkeypatch.setitem(native._ARGUMENTS, "LGBM_OfAnotherRelease", [])
    elif missing == "library":
        monkeypatch.setattr(library, "_NAMES", {sys.platform: "not_there"})
    else:
        monkeypatch.setattr(library.importlib.util, "find_spec", lambda _: None)
    try:
        found = trees.load(TEXTS["alone"], COLUMNS)
    finally:
        library.shared_library.cache_clear()
        native.functions.cache_clear()
    assert isinstance(found, trees.PackageTrees)
    assert [found.row(row) for row in rows] == expected


@pytest.mark.parametrize(
    ("platform", "name", "folder"),
    [
        ("linux", "lib_lightgbm.so", "lib"),
        ("darwin", "lib_lightgbm.dylib", "lib"),
        ("win32", "lib_lightgbm.dll", "bin"),
    ],
)
def test_the_library_is_found_without_an_import(
    platform: str, name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(library.sys, "platform", platform)
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda _: Spec)
    assert library.library_path() is None
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).touch()
    assert library.library_path() == tmp_path / folder / name


def test_a_library_that_does_not_load_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.so").write_text("no library")
    monkeypatch.setattr(library, "library_path", lambda: tmp_path / "broken.so")
    library.shared_library.cache_clear()
    try:
        assert library.shared_library() is None
    finally:
        library.shared_library.cache_clear()


def test_what_lightgbm_says_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lightgbm"):
        for piece in (b"[LightGBM] [Info] ", b"hello ", b"\n"):
            library.log_callback(ctypes.c_char_p(piece))
    assert [record.getMessage() for record in caplog.records] == ["[LightGBM] [Info] hello"]


PREDICTS = """
import json, sys
from vehins.model import trees
found = trees.load(open(sys.argv[1], "rb").read(), 4)
answers = [found.row([1.0, 0.5, -0.5, 3.0]), *found.columns([[1.0, 1.0], [0.5, 0.5], [-0.5, -0.5], [3.0, 3.0]], 2)]
print(json.dumps([answers, sorted({"numpy", "lightgbm", "scipy", "sklearn", "polars"} & set(sys.modules))]))
"""


def test_a_process_that_predicts_imports_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_bytes(TEXTS["alone"])
    command = [sys.executable, "-c", PREDICTS, str(tmp_path / "model.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(library.__file__).parents[2])
    answers, loaded = json.loads(done.stdout)
    assert answers == [PAIRS["alone"][0].row([1.0, 0.5, -0.5, 3.0])] * 3
    assert loaded == []
