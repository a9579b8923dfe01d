"""A model bundle: everything that prediction needs, in files that are checked before they are parsed.

Files: ``model.txt`` (LightGBM's text form), ``features.json`` (the encoder), ``signature.json`` (the columns it
takes, the cutoff, the scores of the training population), ``golden.jsonl`` (a few rows and the probabilities they
must give), ``calibration.json`` (the calibrator, if it has one), ``statistics.json`` (what the training rows looked
like; an older bundle has none) and ``bundle.json`` (sizes and hashes of the others; its own hash is the bundle's
digest). There is no pickle in it, and a bundle that answers its golden rows differently is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from vehins.artifacts.files import FileRecord, damage, record_file, sha256_file
from vehins.artifacts.record import Record, canonical
from vehins.data.schema import Scalar, TableSchema
from vehins.data.statistics import Statistics
from vehins.data.statistics import parse as parse_statistics
from vehins.errors import BundleRefusedError
from vehins.model import calibration, features, trees

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

BUNDLE_FILE = "bundle.json"
MODEL_FILE, FEATURES_FILE, SIGNATURE_FILE, GOLDEN_FILE = "model.txt", "features.json", "signature.json", "golden.jsonl"
CALIBRATION_FILE, STATISTICS_FILE = "calibration.json", "statistics.json"
# Golden rows are predicted by the same code on the same numbers: more than rounding is another model.
GOLDEN_TOLERANCE = 1e-9
_BATCH_ROWS = 250_000


class Signature(Record):
    """What a model takes and what its numbers mean."""

    table: TableSchema = Field(description="The schema of the rows it was trained on.")
    cutoff: float = Field(
        gt=0, lt=1, description="Probability from which a customer is called: where that brings the most."
    )
    percentiles: list[float] = Field(
        min_length=100, description="Sorted quantiles of the training population's scores."
    )


class GoldenRow(Record):
    """A row and the probability that it must give."""

    row: dict[str, Scalar | None]
    probability: float


class BundleIndex(Record):
    """The files of a bundle."""

    bundle_version: Literal[1] = 1
    files: list[FileRecord]


class Bundle:
    """A loaded model bundle.

    Raises:
        BundleRefusedError: a file is not the one that was written, or the golden rows come out differently.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.threads = threads
        self.digest, self.index = _checked(folder)
        try:
            self.encoder = features.parse((folder / FEATURES_FILE).read_bytes())
            self.signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
            self.calibrator = _calibrator(folder, self.index)
            golden = [GoldenRow.model_validate_json(line) for line in (folder / GOLDEN_FILE).read_bytes().splitlines()]
        except ValidationError as error:
            raise _refused(folder, _first(error)) from None
        try:
            self._trees = trees.load((folder / MODEL_FILE).read_bytes(), len(self.encoder.features))
        except trees.TreesError as error:  # the files are as written, and do not belong together
            raise _refused(folder, f"{error}.") from None
        self._check_golden(golden)

    def _check_golden(self, golden: Sequence[GoldenRow]) -> None:
        if not golden:
            raise _refused(self.folder, "It has no golden rows to check it by.")
        answers = self.predict_rows([item.row for item in golden])
        for number, (item, answer) in enumerate(zip(golden, answers, strict=True), 1):
            if not abs(item.probability - answer) <= GOLDEN_TOLERANCE:
                detail = f"Golden row {number} must give {item.probability:.6f}, and gives {answer:.6f}."
                raise _refused(self.folder, detail)

    def predict(self, rows: pl.LazyFrame) -> np.ndarray:
        """Probabilities of typed rows, in their order; streams through them in batches."""
        import numpy as np

        parts = [
            self._probabilities(batch.to_numpy(), self.threads)
            for batch in self.encoder.encode(rows).collect_batches(chunk_size=_BATCH_ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def predict_rows(self, rows: Sequence[features.Row], threads: int = 1) -> list[float]:
        """Probabilities of a few rows: the serving path."""
        if not rows:
            return []
        if len(rows) == 1:
            answers = [self._trees.row(self.encoder.encode_row(rows[0]))]
        else:
            answers = self._trees.columns(self.encoder.encode_rows(rows), len(rows), threads)
        curve = self.calibrator
        return answers if curve is None else [curve.apply_one(answer) for answer in answers]

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What each feature adds to the raw scores of encoded rows (see `reasons`); last, where all rows start from."""
        return self._trees.contributions(matrix, self.threads)

    def _probabilities(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Calibrated probabilities of encoded rows."""
        return calibrated(self._trees.matrix(matrix, threads), self.calibrator)

    def percentile(self, probability: float) -> float:
        """Share of the training population that scores no higher, in percent."""
        return self.shares[bisect_right(self.signature.percentiles, probability)]

    @cached_property
    def shares(self) -> list[float]:
        """What `percentile` gives, by the number of scores that are no higher."""
        count = len(self.signature.percentiles)
        return [100.0 * number / count for number in range(count + 1)]

    def percentiles(self, probabilities: np.ndarray) -> np.ndarray:
        """`percentile` of many."""
        import numpy as np

        scores = self.signature.percentiles
        found: np.ndarray = 100.0 * np.searchsorted(scores, probabilities, side="right") / len(scores)
        return found

    def contact(self, probability: float) -> bool:
        """Whether a contact pays."""
        return probability >= self.signature.cutoff

    def contacts(self, probabilities: np.ndarray) -> np.ndarray:
        """`contact` of many."""
        found: np.ndarray = probabilities >= self.signature.cutoff
        return found


def calibrated(probabilities: np.ndarray, calibrator: calibration.Calibrator | None) -> np.ndarray:
    """Probabilities of the trees, through the calibrator if there is one."""
    return probabilities if calibrator is None else calibrator.apply(probabilities)


def _calibrator(folder: Path, index: BundleIndex) -> calibration.Calibrator | None:
    has_one = any(record.path == CALIBRATION_FILE for record in index.files)
    return calibration.parse((folder / CALIBRATION_FILE).read_bytes()) if has_one else None


def write(
    folder: Path,
    *,
    model: str,
    encoder: features.Encoder,
    signature: Signature,
    golden: Sequence[GoldenRow],
    statistics: Statistics | None = None,
    calibrator: calibration.Calibrator | None = None,
) -> str:
    """Write a bundle into a folder; return its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [canonical(item.model_dump(mode="json")) for item in golden]
    (folder / MODEL_FILE).write_bytes(model.encode())
    (folder / FEATURES_FILE).write_bytes(encoder.to_json())
    (folder / SIGNATURE_FILE).write_bytes(signature.model_dump_json().encode() + b"\n")
    (folder / GOLDEN_FILE).write_bytes(b"\n".join(lines) + b"\n")
    names = [MODEL_FILE, FEATURES_FILE, SIGNATURE_FILE, GOLDEN_FILE]
    if statistics is not None:
        (folder / STATISTICS_FILE).write_bytes(statistics.model_dump_json().encode() + b"\n")
        names.append(STATISTICS_FILE)
    if calibrator is not None:
        (folder / CALIBRATION_FILE).write_bytes(calibrator.to_json())
        names.append(CALIBRATION_FILE)
    index = BundleIndex(files=[record_file(folder, folder / name) for name in names])
    (folder / BUNDLE_FILE).write_bytes(canonical(index.model_dump(mode="json")) + b"\n")
    return sha256_file(folder / BUNDLE_FILE)


def files(folder: Path) -> list[FileRecord]:
    """Every file of a bundle, the index included."""
    _, index = _checked(folder)
    return [*index.files, record_file(folder, folder / BUNDLE_FILE)]


def statistics(folder: Path) -> Statistics | None:
    """What the training rows of a bundle looked like; None of a bundle that does not say.

    Raises:
        BundleRefusedError: a file is not the one that was written.
    """
    _, index = _checked(folder)
    if all(record.path != STATISTICS_FILE for record in index.files):
        return None
    try:
        return parse_statistics((folder / STATISTICS_FILE).read_bytes())
    except ValidationError as error:
        raise _refused(folder, f"{STATISTICS_FILE}: {_first(error)}") from None


def _checked(folder: Path) -> tuple[str, BundleIndex]:
    """Check every file before anything parses it: LightGBM's parser kills the process on most truncated models."""
    try:
        index = BundleIndex.model_validate_json((folder / BUNDLE_FILE).read_bytes())
    except OSError as error:
        raise _refused(folder, f"{BUNDLE_FILE} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        raise _refused(folder, f"{BUNDLE_FILE} is no index of this version of vehins: {_first(error)}") from None
    needed = {MODEL_FILE, FEATURES_FILE, SIGNATURE_FILE, GOLDEN_FILE} - {record.path for record in index.files}
    wrong = f"{min(needed)} is not in its index" if needed else None
    wrong = wrong or next(filter(None, (damage(folder, record) for record in index.files)), None)
    if wrong:
        raise _refused(folder, wrong + ".")
    return sha256_file(folder / BUNDLE_FILE), index


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, as a sentence."""
    first = error.errors(include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]) + f": {first['msg']}."


def _refused(folder: Path, detail: str) -> BundleRefusedError:
    hint = "Train it again (`vehins pipeline run`), or name another version."
    return BundleRefusedError(f"The model bundle {folder} was refused", detail=detail, hint=hint)
