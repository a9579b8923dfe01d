"""Search for better settings of LightGBM within a time budget, judged on folds of the train side alone.

Each trial is cross-fitted: on every fold in turn trees are added until that fold stops improving, and the mean log loss
over the folds is the trial's. So the valid side decides nothing here that it decides again later, and the search is
never given the test side. Trial 0 has the settings as they are; the others are Optuna's, by its tree-structured Parzen
estimator (Bergstra et al., "Algorithms for hyper-parameter optimization", NIPS 2011). A trial that after a fold is
worse than the median of those before it is given up.

A finished trial is a line in a journal, flushed to disk: a search that was killed goes on with the trials it has, and
their seconds count towards the budget.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from vehins.artifacts.manifest import Record, Tuning, canonical
from vehins.model.trainer import search, thinned
from vehins.remote.drivers import load_driver

if TYPE_CHECKING:
    import polars as pl

    from vehins.model.features import Encoder
    from vehins.settings import TrainSettings

FOLDS = 3
Progress = Callable[[str, float, float], None]


class Span(NamedTuple):
    """Where the search looks for a setting."""

    low: float
    high: float
    is_log: bool = True
    is_whole: bool = False


SPACE = {
    "learning_rate": Span(0.02, 0.1),
    "num_leaves": Span(8, 128, is_whole=True),
    "min_data_in_leaf": Span(20, 1_000, is_whole=True),
    "feature_fraction": Span(0.4, 1.0, is_log=False),
    "lambda_l2": Span(0.01, 100.0),
    "cat_smooth": Span(1.0, 500.0),
    "cat_l2": Span(1.0, 500.0),
}


class Trial(Record):
    """Some settings, and how good the fits with them were."""

    number: int
    parameters: dict[str, int | float]
    log_loss: list[float]
    """By fold; fewer than there are folds when it was given up."""
    trees: list[int]
    seconds: float

    @property
    def mean(self) -> float:
        """Mean log loss over its folds."""
        return sum(self.log_loss) / len(self.log_loss)

    @property
    def is_pruned(self) -> bool:
        """Whether it was given up."""
        return len(self.log_loss) < FOLDS


class Journal:
    """The finished trials of a search, in memory and as lines of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = []
        self._read()

    def _read(self) -> None:
        """Read what is there; a line that a killed process has left half-written is cut off."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = 0
        for line in lines:
            try:
                trial = Trial.model_validate_json(line)
            except ValidationError:
                break
            if not line.endswith(b"\n") or trial.number != len(self.trials) or not trial.log_loss:
                break
            self.trials.append(trial)
            whole += len(line)
        if whole < sum(map(len, lines)):
            os.truncate(self.path, whole)

    def add(self, trial: Trial) -> None:
        """Keep a trial, for good."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(canonical(trial.model_dump(mode="json")) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.trials.append(trial)

    @property
    def seconds(self) -> float:
        """What the trials have taken."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def best(self) -> Trial:
        """The trial with the least log loss, among those that were not given up."""
        return min((trial for trial in self.trials if not trial.is_pruned), key=lambda trial: trial.mean)


class _OutOfTimeError(Exception):
    """The budget is used up."""


def tune(
    train: pl.DataFrame,
    encoder: Encoder,
    settings: TrainSettings,
    threads: int,
    journal: Journal,
    progress: Progress,
) -> Tuning:
    """Search on encoded rows with a ``__label__`` column until the time is up; trial 0 always comes to its end.

    ``progress`` is told in words, and how many seconds of how many are used.

    Raises:
        ConfigurationError: Optuna is not installed.
    """
    optuna = load_driver("optuna", "tune", "The search for settings needs Optuna, which is not installed")
    some = thinned(train, settings.tune_rows)
    judge = _Judge(some, encoder, settings, threads, journal, progress)
    if not journal.trials:
        journal.add(judge.first())
    study = _study(optuna, settings, journal.trials)
    while judge.time_left() > 0:
        asked = study.ask(_distributions(optuna))
        try:
            trial = judge.another(asked)
        except _OutOfTimeError:
            break
        journal.add(trial)
        pruned = optuna.trial.TrialState.PRUNED if trial.is_pruned else None
        study.tell(asked, None if pruned else trial.mean, pruned)
    return _summary(journal, some.height, f"optuna {optuna.__version__}")


class _Judge:
    """Makes trials, each with its folds."""

    def __init__(
        self,
        rows: pl.DataFrame,
        encoder: Encoder,
        settings: TrainSettings,
        threads: int,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._folds = [_fold(rows, number) for number in range(FOLDS)]
        self._encoder, self._settings, self._threads = encoder, settings, threads
        self._journal, self._progress = journal, progress
        self._budget = settings.tune_minutes * 60
        self._deadline = time.monotonic() + self._budget - journal.seconds

    def time_left(self) -> float:
        """Seconds until the budget is used up."""
        return self._deadline - time.monotonic()

    def first(self) -> Trial:
        """The settings as they are; it comes to its end however long that takes."""
        return self._trial({name: getattr(self._settings, name) for name in SPACE}, lambda _: False, False)

    def another(self, asked: Any) -> Trial:
        """What Optuna asks for.

        Raises:
            _OutOfTimeError: the budget was used up before it came to its end.
        """

        def is_hopeless(losses: Sequence[float]) -> bool:
            asked.report(sum(losses) / len(losses), len(losses))
            return bool(asked.should_prune())

        return self._trial({name: _rounded(value) for name, value in asked.params.items()}, is_hopeless, True)

    def _trial(
        self, parameters: dict[str, int | float], is_hopeless: Callable[[Sequence[float]], bool], hurry: bool
    ) -> Trial:
        begin, number = time.monotonic(), len(self._journal.trials)
        losses: list[float] = []
        trees: list[int] = []
        for fold, (fitted, held_out) in enumerate(self._folds, 1):
            booster = search(
                fitted,
                held_out,
                self._encoder,
                self._settings.model_copy(update=parameters),
                self._threads,
                partial(self._tell, number, fold, hurry),
            )
            losses.append(booster.best_score["valid_0"]["binary_logloss"])
            trees.append(booster.best_iteration)
            if fold < FOLDS and is_hopeless(losses):
                break
        seconds = round(time.monotonic() - begin, 3)
        return Trial(number=number, parameters=parameters, log_loss=losses, trees=trees, seconds=seconds)

    def _tell(self, number: int, fold: int, hurry: bool, trees: int, _: float | None) -> None:
        left = self.time_left()
        if hurry and left <= 0:
            raise _OutOfTimeError
        so_far = f", best log loss {self._journal.best.mean:.5f}" if self._journal.trials else ""
        used = min(self._budget - left, self._budget)
        self._progress(f"trial {number}, fold {fold}, tree {trees}{so_far}", used, self._budget)


def _fold(rows: pl.DataFrame, number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows without a fold, and the fold."""
    import polars as pl

    is_out = pl.int_range(pl.len()) % FOLDS == number
    return rows.filter(~is_out), rows.filter(is_out)


def _rounded(value: float) -> int | float:
    """Four digits are enough, and a person can copy them."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _distributions(optuna: Any) -> dict[str, Any]:
    kinds = optuna.distributions
    return {
        name: kinds.IntDistribution(int(span.low), int(span.high), log=span.is_log)
        if span.is_whole
        else kinds.FloatDistribution(span.low, span.high, log=span.is_log)
        for name, span in SPACE.items()
    }


def _study(optuna: Any, settings: TrainSettings, trials: Sequence[Trial]) -> Any:
    """A study that knows the trials so far."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Another seed for each start: with the same one, a search that goes on would draw its first trials again.
    seed = (settings.seed + len(trials)) % 2**32
    study = optuna.create_study(
        direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner()
    )
    for trial in trials:
        if all(SPACE[name].low <= value <= SPACE[name].high for name, value in trial.parameters.items()):
            study.add_trial(_known(optuna, trial))
    return study


def _known(optuna: Any, trial: Trial) -> Any:
    """A trial as Optuna has it."""
    means = {n: sum(trial.log_loss[:n]) / n for n in range(1, min(len(trial.log_loss), FOLDS - 1) + 1)}
    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        params=dict(trial.parameters),
        distributions=_distributions(optuna),
        intermediate_values=means,
        value=None if trial.is_pruned else trial.mean,
        state=states.PRUNED if trial.is_pruned else states.COMPLETE,
    )


def _summary(journal: Journal, rows: int, library: str) -> Tuning:
    best = journal.best
    return Tuning(
        library=library,
        trials=len(journal.trials),
        pruned=sum(trial.is_pruned for trial in journal.trials),
        seconds=round(journal.seconds, 3),
        folds=FOLDS,
        rows=rows,
        best=best.number,
        log_loss=best.mean,
        first_log_loss=journal.trials[0].mean,
        parameters=best.parameters,
    )
