"""A search for settings: on the train side alone, within its time, and never from the beginning again."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest
from encoded_tables import encoded

from vehins.model import tuning
from vehins.model.tuning import FOLDS, SPACE, Journal, Trial
from vehins.settings import TrainSettings

MINUTES = 2 / 60
SETTINGS = TrainSettings(max_rounds=15, min_data_in_leaf=20, tune_minutes=MINUTES)
ENCODER, ROWS = encoded(1_500)


def silent(*_) -> None:
    pass


def tune(journal: Journal, progress=silent, **more):
    return tuning.tune(ROWS, ENCODER, SETTINGS.model_copy(update=more), 1, journal, progress)


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """From one look at the clock to the next it is five milliseconds, so that no machine is too slow for a budget."""
    looks = itertools.count()
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: next(looks) * 0.005))


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "search" / "trials.jsonl")


def test_the_first_trial_is_the_settings_as_they_are_and_the_best_is_no_worse(journal):
    found = tune(journal)
    first = journal.trials[0]
    assert first.parameters == {name: getattr(SETTINGS, name) for name in SPACE}
    assert found.first_log_loss == first.mean
    assert found.log_loss == min(trial.mean for trial in journal.trials if not trial.is_pruned)
    assert found.log_loss <= found.first_log_loss
    assert found.parameters == journal.trials[found.best].parameters
    assert (found.trials, found.folds, found.rows) == (len(journal.trials), FOLDS, 1_500)
    assert found.trials > 2
    assert found.library.startswith("optuna ")
    TrainSettings.model_validate({**SETTINGS.model_dump(), **found.parameters})


def test_what_it_tries_lies_in_its_space(journal):
    tune(journal)
    for trial in journal.trials[1:]:
        assert set(trial.parameters) == set(SPACE)
        for name, value in trial.parameters.items():
            assert SPACE[name].low <= value <= SPACE[name].high
            assert isinstance(value, int) == SPACE[name].is_whole


def test_without_time_the_first_trial_comes_to_its_end_all_the_same(journal):
    found = tune(journal, tune_minutes=1e-6)
    assert (found.trials, found.best, found.pruned) == (1, 0, 0)


def test_it_goes_on_with_the_trials_it_has(journal):
    tune(journal)
    before = list(journal.trials)
    again = Journal(journal.path)
    assert again.trials == before
    # Their time counts: with the same budget, there is next to none left.
    assert tune(again, tune_minutes=min(MINUTES, again.seconds / 60)).trials == len(before)
    more = tune(again, tune_minutes=again.seconds / 60 + MINUTES)
    assert again.trials[: len(before)] == before
    assert more.trials > len(before)
    assert [trial.number for trial in again.trials] == list(range(more.trials))
    drawn = [json.dumps(trial.parameters, sort_keys=True) for trial in again.trials]
    assert len(set(drawn)) == len(drawn)


def test_settings_outside_of_the_space_are_a_trial_too(journal):
    found = tune(journal, learning_rate=0.5, num_leaves=2)
    assert journal.trials[0].parameters["learning_rate"] == 0.5
    assert found.trials > 1
    assert tune(Journal(journal.path), learning_rate=0.5, num_leaves=2).trials >= found.trials


def test_time_that_runs_out_in_a_trial_drops_it(journal):
    told = []
    tune(journal, lambda *words: told.append(words))
    last = told[-1][0]
    assert int(last.split()[1].rstrip(",")) >= len(journal.trials) - 1
    assert journal.seconds <= MINUTES * 60 + 0.01
    assert all(0 <= used <= budget == MINUTES * 60 for _, used, budget in told)
    assert "best log loss" in last


def test_few_rows_are_enough_for_it(journal):
    assert tune(journal, tune_rows=1_000, tune_minutes=1e-6).rows == 750


# --- The journal ------------------------------------------------------------------------------------------------------


def trial(number: int, *losses: float) -> Trial:
    parameters = {name: getattr(SETTINGS, name) for name in SPACE}
    return Trial(number=number, parameters=parameters, log_loss=list(losses), trees=[3] * len(losses), seconds=1.5)


def test_it_keeps_what_is_added(journal):
    for one in (trial(0, 0.3, 0.4, 0.5), trial(1, 0.9), trial(2, 0.1, 0.2, 0.3)):
        journal.add(one)
    again = Journal(journal.path)
    assert again.trials == journal.trials
    assert (again.best.number, again.best.mean, again.seconds) == (2, pytest.approx(0.2), 4.5)
    assert [one.is_pruned for one in again.trials] == [False, True, False]


@pytest.mark.parametrize(
    "tail",
    [b'{"number":1,"para', b"\n", b"\x00\x00", b'{"number":7}\n', b'{"log_loss":[],"number":1}\n'],
)
def test_what_a_killed_process_has_left_half_written_is_cut_off(journal, tail):
    journal.add(trial(0, 0.3, 0.4, 0.5))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + tail)
    again = Journal(journal.path)
    assert again.trials == journal.trials
    assert journal.path.read_bytes() == whole
    again.add(trial(1, 0.3, 0.3, 0.3))
    assert Journal(journal.path).trials == again.trials


def test_a_whole_line_without_its_end_is_not_trusted(journal):
    journal.add(trial(0, 0.3, 0.4, 0.5))
    journal.path.write_bytes(journal.path.read_bytes().rstrip(b"\n"))
    assert Journal(journal.path).trials == []


def test_a_trial_that_was_given_up_is_never_the_best(journal):
    journal.add(trial(0, 0.3, 0.3, 0.3))
    journal.add(trial(1, 0.1))
    assert journal.best.number == 0


def test_trials_that_were_given_up_are_known_to_the_search(journal):
    import optuna

    study = tuning._study(optuna, SETTINGS, [trial(0, 0.3, 0.3, 0.3), trial(1, 0.9), trial(2, 0.9, 0.8)])
    states = [known.state.name for known in study.trials]
    assert states == ["COMPLETE", "PRUNED", "PRUNED"]
    assert study.trials[2].intermediate_values == {1: 0.9, 2: pytest.approx(0.85)}
