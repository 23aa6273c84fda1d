from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import Trial, create_trial

from optuna_peppp.matrix import ErrorMatrix
from optuna_peppp.meta import MetaModel
from optuna_peppp.sampler import PEPPPSampler
from optuna_peppp.space import ConfigurationSpace
from optuna_peppp.study import measurements, predict

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1, 0.01]})
D = len(SPACE)
ERRORS = np.array(
    [
        [0.9, 0.8, 0.5, 0.6, 0.3, 0.35],
        [0.8, 0.9, 0.4, 0.3, 0.2, 0.10],
        [0.7, 0.7, 0.6, 0.2, 0.1, 0.40],
    ]
)
MEMORY = np.array([100.0, 110.0, 200.0, 210.0, 300.0, 310.0])
META = MetaModel.fit(ErrorMatrix(SPACE, ("a", "b", "c"), ERRORS, np.tile(MEMORY, (3, 1))), rank=2)
DIRECTIONS = [StudyDirection.MINIMIZE] * 2


def add(study: Study, params: dict[str, Any], *values: float, **further: BaseDistribution) -> None:
    distributions = {name: further.get(name) or SPACE.distributions()[name] for name in params}
    study.add_trial(create_trial(params=params, distributions=distributions, values=values))


@pytest.fixture
def study() -> Study:
    return optuna.create_study(study_name="task", directions=DIRECTIONS)


def test_measurements(study: Study) -> None:
    add(study, SPACE.params(4), 0.25, 300.0)
    add(study, SPACE.params(1), 1.0, 110.0)
    add(study, SPACE.params(4), 0.0, 300.0)
    indices, errors = measurements(study, SPACE)
    np.testing.assert_array_equal(indices, [4, 1, 4])
    np.testing.assert_array_equal(errors, [0.25, 1.0, 0.0])


@pytest.mark.parametrize("objectives", [1, 3])
def test_the_first_value_is_the_error(objectives: int) -> None:
    study = optuna.create_study(directions=[StudyDirection.MINIMIZE] * objectives)
    add(study, SPACE.params(2), *[0.5, 7.0, -3.0][:objectives])
    indices, errors = measurements(study, SPACE)
    assert (indices.tolist(), errors.tolist()) == ([2], [0.5])


def test_only_completed_trials_are_measurements() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))

    def objective(trial: Trial) -> float:
        index = SPACE.index(SPACE.suggest(trial))
        trial.report(0.9, step=1)
        if trial.number == 0:
            raise optuna.TrialPruned
        return float("nan") if trial.number == 1 else float(ERRORS[0, index])

    study.optimize(objective, n_trials=3)
    SPACE.suggest(study.ask())
    study.enqueue_trial(SPACE.params(0))
    states = [trial.state.name for trial in study.trials]
    assert states == ["PRUNED", "FAIL", "COMPLETE", "RUNNING", "WAITING"]
    indices, errors = measurements(study, SPACE)
    assert indices.tolist() == [SPACE.index(study.trials[2].params)]
    assert errors.tolist() == [ERRORS[0, indices[0]]]


def test_foreign_names_beside_ours_do_not_matter(study: Study) -> None:
    params = {**SPACE.params(3), "width": 4}
    add(study, params, 0.5, 1.0, width=IntDistribution(1, 9))
    assert measurements(study, SPACE)[0].tolist() == [3]


def test_trials_outside_the_space_are_left_out_beside_others(study: Study) -> None:
    wider = CategoricalDistribution(("1-3-1", "1-4-1", "1-8-23"))
    add(study, {"width": 4}, 7.0, 1.0, width=IntDistribution(1, 9))
    add(study, {"format_a": "1-8-23", "learning_rate": 0.1}, 0.2, 1.0, format_a=wider)
    add(study, {"format_a": "1-4-1", "learning_rate": 0.1}, 0.5, 1.0, format_a=wider)
    indices, errors = measurements(study, SPACE)
    assert (indices.tolist(), errors.tolist()) == ([2], [0.5])


def test_no_trial_in_the_space(study: Study) -> None:
    add(study, {"width": 4}, 0.5, 1.0, width=IntDistribution(1, 9))
    with pytest.raises(ValueError, match=r"'task' must tune format_a, learning_rate .* Trial 0:"):
        measurements(study, SPACE)


def test_other_choices(study: Study) -> None:
    other = CategoricalDistribution(("1-8-23",))
    add(study, {"format_a": "1-8-23", "learning_rate": 0.1}, 0.2, 1.0, format_a=other)
    with pytest.raises(ValueError, match=r"no completed trial fits.*one of 1-3-1.*got '1-8-23'"):
        measurements(study, SPACE)


def test_foreign_trials_that_did_not_finish_are_no_reason_to_refuse(study: Study) -> None:
    study.ask().suggest_float("width", 0, 1)
    assert measurements(study, SPACE)[0].size == 0


@pytest.mark.parametrize("error", [1.5, 54.0, -0.1, float("inf")])
def test_errors_that_are_no_ratio(study: Study, error: float) -> None:
    add(study, SPACE.params(0), 0.5, 1.0)
    add(study, SPACE.params(1), error, 1.0)
    with pytest.raises(ValueError, match=rf"trial 1 must report an error between .* got {error}"):
        measurements(study, SPACE)


def test_a_maximized_first_objective() -> None:
    study = optuna.create_study(study_name="task", direction="maximize")
    with pytest.raises(ValueError, match="study 'task' must minimize its first objective"):
        measurements(study, SPACE)


def test_predict_without_measurements_is_the_mean_over_tasks(study: Study) -> None:
    prediction = predict(study, META, MEMORY)
    np.testing.assert_allclose(prediction.mean, ERRORS.mean(axis=0))
    assert not prediction.measured.any()


def test_predict_keeps_and_averages_what_was_measured(study: Study) -> None:
    add(study, SPACE.params(4), 0.2, 300.0)
    add(study, SPACE.params(1), 0.75, 110.0)
    add(study, SPACE.params(4), 0.4, 300.0)
    prediction = predict(study, META, MEMORY)
    np.testing.assert_array_equal(np.flatnonzero(prediction.measured), [1, 4])
    np.testing.assert_allclose(prediction.mean[[1, 4]], [0.75, 0.3])


def test_predict_finds_a_row_of_the_corpus_from_rank_measurements() -> None:
    truth = META.errors[1] @ META.embeddings @ META.embeddings.T  # exactly of rank 2

    def objective(trial: Trial) -> tuple[float, float]:
        index = SPACE.index(SPACE.suggest(trial))
        return float(truth[index]), float(MEMORY[index])

    study = optuna.create_study(directions=DIRECTIONS, sampler=PEPPPSampler(META, MEMORY))
    study.optimize(objective, n_trials=2)
    prediction = predict(study, META, MEMORY)
    np.testing.assert_allclose(prediction.mean, truth)
    assert prediction.recommend(memory_cap=MEMORY.max()).error == pytest.approx(truth.min())


def test_predict_with_a_bad_memory(study: Study) -> None:
    with pytest.raises(ValueError, match=r"memory must have shape \(6,\)"):
        predict(study, META, MEMORY[:3])
