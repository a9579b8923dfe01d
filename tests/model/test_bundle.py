"""A bundle is loaded only when every byte is the one that was written and every golden row comes out the same."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

from vehins.artifacts.files import record_file
from vehins.data import statistics
from vehins.data.schema import TableSchema
from vehins.errors import BundleRefusedError
from vehins.model import bundle, features, trees
from vehins.model.bundle import (
    BUNDLE_FILE,
    CALIBRATION_FILE,
    FEATURES_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    Bundle,
)
from vehins.model.calibration import Calibrator
from vehins.model.library import import_lightgbm

SCHEMA = TableSchema.model_validate(
    {
        "name": "customers",
        "columns": {
            "age": {"dtype": "int"},
            "premium": {"dtype": "float"},
            "city": {"dtype": "string"},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)
FILES = (MODEL_FILE, FEATURES_FILE, SIGNATURE_FILE, GOLDEN_FILE)
SCORES = [number / 200 for number in range(100)]


def customers(count: int) -> pl.DataFrame:
    dice = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "age": dice.integers(18, 90, count),
            "premium": dice.normal(30_000, 9_000, count),
            "city": dice.choice(["a", "b", "c"], count),
        }
    )


@pytest.fixture(scope="module")
def trained():
    """A small model, its encoder and its text."""
    rows = customers(2_000)
    encoder = features.fit(rows.lazy(), SCHEMA)
    labels = ((rows["age"] > 50) & (rows["city"] != "a")).to_numpy()
    matrix = encoder.matrix(rows.lazy())
    lightgbm = import_lightgbm()
    data = lightgbm.Dataset(matrix, labels, categorical_feature=[2])
    parameters = {"objective": "binary", "num_threads": 1, "verbose": -1}
    return lightgbm.train(parameters, data, 20), encoder


def written(trained, folder, *, golden: list[dict] | None = None, **more) -> str:
    booster, encoder = trained
    rows = [*customers(5).to_dicts(), dict.fromkeys(SCHEMA.features)]
    matrix = np.array([encoder.encode_row(row) for row in rows])
    answers = bundle.calibrated(booster.predict(matrix, num_threads=1), more.get("calibrator"))
    known = [bundle.GoldenRow(row=row, probability=p) for row, p in zip(rows, answers, strict=True)]
    return bundle.write(
        folder,
        model=booster.model_to_string(),
        encoder=encoder,
        signature=bundle.Signature(table=SCHEMA, cutoff=0.2, percentiles=SCORES),
        golden=known if golden is None else [bundle.GoldenRow.model_validate(row) for row in golden],
        **more,
    )


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """A bundle that is as it should be; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    written(trained, folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it to damage."""
    shutil.copytree(whole, tmp_path / "bundle")
    return tmp_path / "bundle"


def refused(folder) -> BundleRefusedError:
    with pytest.raises(BundleRefusedError, match="was refused") as caught:
        Bundle(folder, 1)
    assert caught.value.exit_code == 4
    assert str(folder) in caught.value.headline
    assert caught.value.detail.endswith(".")
    assert caught.value.hint
    return caught.value


def seal_again(folder, *names: str) -> None:
    """Write an index that fits the files as they are now."""
    index = bundle.BundleIndex(files=[record_file(folder, folder / name) for name in names or FILES])
    (folder / BUNDLE_FILE).write_text(index.model_dump_json())


# --- What is whole ----------------------------------------------------------------------------------------------------


def test_both_paths_predict_the_same(whole, trained):
    loaded = Bundle(whole, 1)
    rows = customers(300)
    bulk = loaded.predict(rows.lazy())
    assert bulk.tolist() == loaded.predict_rows(rows.to_dicts())
    assert bulk.tolist() == trained[0].predict(trained[1].matrix(rows.lazy()), num_threads=1).tolist()


def test_predictions_come_in_the_order_of_the_rows(whole, monkeypatch):
    loaded, rows = Bundle(whole, 1), customers(1_000)
    at_once = loaded.predict(rows.lazy())
    monkeypatch.setattr(bundle, "_BATCH_ROWS", 64)
    assert loaded.predict(rows.lazy()).tolist() == at_once.tolist()
    assert loaded.predict(rows.reverse().lazy()).tolist() == at_once[::-1].tolist()


def test_no_rows_have_no_predictions(whole):
    loaded = Bundle(whole, 1)
    assert loaded.predict_rows([]) == []
    assert loaded.predict(customers(0).lazy()).tolist() == []


def test_what_was_never_seen_has_a_probability(whole):
    rows = [
        {},
        {"age": None, "city": "nowhere"},
        {"age": 10**30, "premium": math.inf, "city": "\x00"},
        {"premium": math.nan},
    ]
    assert all(0 < probability < 1 for probability in Bundle(whole, 1).predict_rows(rows))


def test_equal_bundles_have_equal_digests(trained, whole, tmp_path):
    digest = written(trained, tmp_path / "again")
    assert digest == Bundle(whole, 1).digest
    assert written(trained, tmp_path / "other", golden=[{"row": {}, "probability": 0.5}]) != digest


def test_its_files_are_listed_with_the_index(whole):
    assert sorted(record.path for record in bundle.files(whole)) == sorted([*FILES, BUNDLE_FILE])


def test_a_file_of_somebody_else_is_no_part_of_it(folder):
    (folder / ".DS_Store").write_text("x")
    assert len(bundle.files(folder)) == 5
    Bundle(folder, 1)


@pytest.mark.parametrize(
    ("probability", "percent"),
    [(-1, 0), (math.nextafter(0, -1), 0), (0.0, 1), (0.25, 51), (0.2501, 51), (0.495, 100), (1.0, 100)],
)
def test_a_percentile_is_the_share_that_scores_no_higher(whole, probability, percent):
    assert Bundle(whole, 1).percentile(probability) == pytest.approx(percent)


def test_a_contact_pays_from_the_cutoff(whole):
    loaded = Bundle(whole, 1)
    assert [loaded.contact(p) for p in (0.0, math.nextafter(0.2, 0), 0.2, 1.0)] == [False, False, True, True]


@pytest.mark.parametrize("changes", [{"cutoff": 0.0}, {"cutoff": 1.0}, {"cutoff": math.nan}, {"percentiles": [0.5]}])
def test_a_signature_that_cannot_be_is_not_written(changes):
    with pytest.raises(ValueError, match="validation error"):
        bundle.Signature.model_validate({"table": SCHEMA, "cutoff": 0.2, "percentiles": SCORES, **changes})


# --- What the training rows looked like -------------------------------------------------------------------------------


def test_a_bundle_tells_of_its_training_rows(trained, whole, tmp_path):
    """One of an older version, which does not, is a bundle all the same."""
    assert bundle.statistics(whole) is None
    described = statistics.describe(customers(500).with_columns(y=pl.lit(1)).lazy(), SCHEMA)
    written(trained, tmp_path, statistics=described)
    assert bundle.statistics(tmp_path) == described
    assert sorted(record.path for record in bundle.files(tmp_path)) == sorted(
        [*FILES, BUNDLE_FILE, bundle.STATISTICS_FILE]
    )
    assert Bundle(tmp_path, 1).digest != Bundle(whole, 1).digest


@pytest.mark.parametrize("text", ["{}", "", '{"rows": 1'])
def test_statistics_that_were_changed_are_refused(trained, tmp_path, text):
    described = statistics.describe(customers(500).with_columns(y=pl.lit(1)).lazy(), SCHEMA)
    written(trained, tmp_path, statistics=described)
    (tmp_path / bundle.STATISTICS_FILE).write_text(text)
    with pytest.raises(BundleRefusedError):
        bundle.statistics(tmp_path)
    assert refused(tmp_path).detail.startswith(bundle.STATISTICS_FILE)
    # Sealed again, they are still no statistics.
    names = [*FILES, bundle.STATISTICS_FILE]
    index = bundle.BundleIndex(files=[record_file(tmp_path, tmp_path / name) for name in names])
    (tmp_path / BUNDLE_FILE).write_text(index.model_dump_json())
    with pytest.raises(BundleRefusedError, match="was refused"):
        bundle.statistics(tmp_path)


# --- What is damaged --------------------------------------------------------------------------------------------------


@pytest.fixture
def unparsed(monkeypatch):
    """Nothing may be parsed: LightGBM ends the process on most truncated models, without an exception."""

    def forbidden(*_):
        raise AssertionError("parsed before it was checked")

    monkeypatch.setattr(trees, "load", forbidden)
    monkeypatch.setattr(features, "parse", forbidden)
    monkeypatch.setattr(bundle.Signature, "model_validate_json", forbidden)
    monkeypatch.setattr(bundle.GoldenRow, "model_validate_json", forbidden)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE = {
    "cut in half": (lambda data: data[: len(data) // 2], "bytes instead of"),
    "one byte short": (lambda data: data[:-1], "bytes instead of"),
    "empty": (lambda _: b"", "has 0 bytes instead of"),
    "one byte more": (lambda data: data + b"\n", "bytes instead of"),
    "one bit flipped": (flipped, "has other content"),
    "other line ends": (lambda data: data.replace(b"\n", b"\r\n"), "bytes instead of"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused_before_anything_is_parsed(folder, unparsed, name, damage, said):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(damage(data))
    assert refused(folder).detail.startswith(f"{name} ")
    assert said in refused(folder).detail
    with pytest.raises(BundleRefusedError):
        bundle.files(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_is_refused(folder, unparsed, name):
    (folder / name).unlink()
    assert refused(folder).detail == f"{name} is missing."
    (folder / name).mkdir()
    assert refused(folder).detail.startswith(f"{name} ")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_index_leaves_out_is_refused(folder, unparsed, name):
    index = json.loads((folder / BUNDLE_FILE).read_bytes())
    index["files"] = [record for record in index["files"] if record["path"] != name]
    (folder / BUNDLE_FILE).write_text(json.dumps(index))
    assert refused(folder).detail == f"{name} is not in its index."


def test_a_file_that_the_index_has_too_many_is_refused(folder, unparsed):
    index = json.loads((folder / BUNDLE_FILE).read_bytes())
    index["files"].append({**index["files"][0], "path": "more.txt"})
    (folder / BUNDLE_FILE).write_text(json.dumps(index))
    assert refused(folder).detail == "more.txt is missing."


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"files": []}',
        b'{"files": [{"path": "model.txt"}]}',
        b'{"bundle_version": 2, "files": []}',
        b'{"files": [], "more": 1}',
        b'{"files": [{"path": "../model.txt", "bytes": 1, "sha256": "' + b"0" * 64 + b'", "rows": null}]}',
    ],
)
def test_an_index_that_cannot_be_is_refused(folder, unparsed, index):
    (folder / BUNDLE_FILE).write_bytes(index)
    refused(folder)


def test_a_newer_bundle_says_so(folder):
    (folder / BUNDLE_FILE).write_bytes(b'{"bundle_version": 2, "files": []}')
    assert "bundle_version" in refused(folder).detail


def test_a_folder_without_an_index_is_refused(tmp_path, unparsed):
    assert "bundle.json cannot be read" in refused(tmp_path).detail
    assert "bundle.json cannot be read" in refused(tmp_path / "absent").detail


# --- What is whole and answers differently ----------------------------------------------------------------------------


def golden_changed(folder, change) -> None:
    lines = [json.loads(line) for line in (folder / GOLDEN_FILE).read_bytes().splitlines()]
    (folder / GOLDEN_FILE).write_text("\n".join(json.dumps(line) for line in change(lines)))
    seal_again(folder)


def test_a_golden_row_may_be_off_by_rounding(folder):
    golden_changed(folder, lambda lines: [{**line, "probability": line["probability"] + 5e-10} for line in lines])
    Bundle(folder, 1)


@pytest.mark.parametrize("number", [1, 4, 6])
@pytest.mark.parametrize("off", [2e-9, -0.1])
def test_one_golden_row_that_comes_out_differently_is_enough(folder, number, off):
    def change(lines):
        lines[number - 1]["probability"] += off
        return lines

    golden_changed(folder, change)
    assert refused(folder).detail.startswith(f"Golden row {number} must give")


def test_without_golden_rows_it_is_refused(folder):
    golden_changed(folder, lambda _: [])
    assert "no golden rows" in refused(folder).detail


@pytest.mark.parametrize("probability", [math.nan, math.inf, None, "0.5"])
def test_a_golden_row_without_a_number_is_refused(folder, probability):
    golden_changed(folder, lambda lines: [{**lines[0], "probability": probability}])
    assert "probability" in refused(folder).detail or "Golden row 1" in refused(folder).detail


def test_a_model_that_answers_nan_is_refused(folder, monkeypatch):
    monkeypatch.setattr(Bundle, "predict_rows", lambda self, rows: [math.nan] * len(rows))
    assert refused(folder).detail.endswith("and gives nan.")


def test_another_model_in_the_same_bundle_is_refused(folder, trained):
    text = trained[0].model_to_string(num_iteration=10)
    (folder / MODEL_FILE).write_text(text)
    seal_again(folder)
    assert refused(folder).detail.startswith("Golden row 1 must give")


def test_another_encoder_in_the_same_bundle_is_refused(folder, trained):
    fewer = features.Encoder(features=trained[1].features[:2])
    (folder / FEATURES_FILE).write_bytes(fewer.to_json())
    seal_again(folder)
    assert refused(folder).detail == "model.txt: it takes 3 features, and its encoder gives 2."


def test_what_is_no_model_is_refused(folder):
    (folder / MODEL_FILE).write_text("hello")
    seal_again(folder)
    assert refused(folder).detail == "model.txt: it is not LightGBM's text form of a model."


def without_names(folder) -> None:
    """Make a model that only LightGBM itself finds fault with."""
    text = (folder / MODEL_FILE).read_text()
    (folder / MODEL_FILE).write_text(text.replace("\nfeature_names=", "\nfeature_games="))
    seal_again(folder)


def test_what_lightgbm_refuses_is_refused(folder):
    without_names(folder)
    assert refused(folder).detail == "LightGBM says: Model file doesn't contain feature_names."


@pytest.mark.parametrize("thread", ["this", "another"])
def test_lightgbm_keeps_off_stdout(folder, capfd, thread):
    """There is data on it; LightGBM by itself prints what it does, and what it does not like."""

    def work():
        lightgbm = import_lightgbm()
        data = lightgbm.Dataset(np.arange(400.0).reshape(200, 2), np.arange(200) % 2)
        lightgbm.train({"objective": "binary", "num_threads": 1, "verbose": 1}, data, 2)
        without_names(folder)
        refused(folder)

    if thread == "this":
        work()
    else:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()
    assert capfd.readouterr().out == ""


# --- Calibrated -------------------------------------------------------------------------------------------------------

CURVE = Calibrator(method="isotonic", given=[0.0, 0.1, 0.6, 1.0], meant=[0.0, 0.3, 0.35, 1.0])


@pytest.fixture
def curved(trained, tmp_path):
    """A bundle with a calibrator."""
    folder = tmp_path / "curved"
    written(trained, folder, calibrator=CURVE)
    return folder


def test_a_calibrator_is_applied_wherever_it_predicts(curved, whole):
    loaded, plain = Bundle(curved, 1), Bundle(whole, 1)
    rows = customers(300)
    bulk = loaded.predict(rows.lazy())
    assert bulk.tolist() == loaded.predict_rows(rows.to_dicts())
    assert bulk.tolist() == CURVE.apply(plain.predict(rows.lazy())).tolist()
    assert bulk.tolist() != plain.predict(rows.lazy()).tolist()
    assert CALIBRATION_FILE in [record.path for record in bundle.files(curved)]


def test_a_bundle_without_a_calibrator_has_no_file_of_one(whole):
    assert not (whole / CALIBRATION_FILE).exists()
    assert Bundle(whole, 1).calibrator is None


def test_a_calibrator_that_is_left_out_of_the_index_is_noticed_by_the_golden_rows(curved):
    seal_again(curved)
    assert refused(curved).detail.startswith("Golden row 1 must give")


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-1], lambda _: b""])
def test_a_damaged_calibrator_is_refused_before_anything_is_parsed(curved, unparsed, damage):
    path = curved / CALIBRATION_FILE
    path.write_bytes(damage(path.read_bytes()))
    assert refused(curved).detail.startswith(f"{CALIBRATION_FILE} ")


def test_a_calibrator_that_cannot_be_is_refused(curved):
    (curved / CALIBRATION_FILE).write_text('{"method":"isotonic","given":[0.0,1.0],"meant":[1.0,0.0]}')
    seal_again(curved, *FILES, CALIBRATION_FILE)
    assert "rises from 0 to 1" in refused(curved).detail


@pytest.mark.parametrize("name", [FEATURES_FILE, SIGNATURE_FILE, GOLDEN_FILE])
@pytest.mark.parametrize("content", [b"{}", b"hello", b'{"pickle": 1}'])
def test_records_that_cannot_be_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    seal_again(folder)
    refused(folder)
