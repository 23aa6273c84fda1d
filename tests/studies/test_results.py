from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study, StudyDirection
from optuna.trial import Trial, create_trial

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.prediction import Prediction
from optuna_peppp.studies.results import error_matrix_from_studies, measurements, predict, space_of
from optuna_peppp.studies.sampler import PEPPPSampler

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


NO_ERRORS = [1.5, 54.0, -0.1, float("inf")]


@pytest.mark.parametrize("error", NO_ERRORS)
@pytest.mark.parametrize(
    "read",
    [
        lambda study: measurements(study, SPACE)[0],
        lambda study: np.flatnonzero(predict(study, META, MEMORY).measured),
        lambda study: np.flatnonzero(error_matrix_from_studies([study], SPACE).observed[0]),
    ],
)
def test_what_is_no_error_is_ignored_with_one_warning(
    study: Study, error: float, read: Callable[[Study], Any]
) -> None:
    add(study, SPACE.params(0), 0.5, 1.0)
    for index in (1, 2, 0):
        add(study, SPACE.params(index), error, 1.0)
    with pytest.warns(
        UserWarning,
        match=rf"^ignored: trial 1 of study 'task' must report an error between .*; got {error} "
        r"\(2 more trials like it\)$",
    ) as caught:
        assert list(read(study)) == [0]
    assert [warning.filename for warning in caught] == [__file__]


def test_a_study_of_nothing_but_no_errors_is_predicted_as_if_it_were_empty(study: Study) -> None:
    expected = predict(study, META, MEMORY)
    add(study, SPACE.params(0), 50.0, 1.0)
    with pytest.warns(UserWarning, match="trial 0 .*; got 50.0$"):
        np.testing.assert_array_equal(predict(study, META, MEMORY).draws, expected.draws)


def test_rounding_noise_is_clipped(study: Study) -> None:
    for index, error in enumerate((-2.2e-16, 1 + 1e-10, 1e-7)):
        add(study, SPACE.params(index), error, 1.0)
    assert measurements(study, SPACE)[1].tolist() == [0.0, 1.0, 1e-7]
    assert predict(study, META, MEMORY).mean[:3].tolist() == [0.0, 1.0, 1e-7]
    assert error_matrix_from_studies([study], SPACE).errors[0, :3].tolist() == [0.0, 1.0, 1e-7]


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("name", SPACE.names)
def test_a_study_that_asked_for_some_names_measured_nothing(
    study: Study, name: str, claimed: bool
) -> None:
    expected = predict(study, META, MEMORY)
    for _ in range(2):
        study.add_trial(
            create_trial(
                params={name: SPACE.params(3)[name]},
                distributions={name: SPACE.distributions()[name]},
                values=(0.25, 1.0),
                system_attrs={"peppp:configuration": SPACE.params(3)} if claimed else {},
            )
        )
    reason = "study 'task' must tune format_a, learning_rate .* no completed trial fits. Trial 1: "
    with pytest.warns(UserWarning, match=f"^nothing is learned: {reason}") as caught:
        prediction = predict(study, META, MEMORY)
    assert [warning.filename for warning in caught] == [__file__]
    np.testing.assert_array_equal(prediction.draws, expected.draws)
    with pytest.warns(UserWarning, match=reason):
        assert measurements(study, SPACE)[0].size == 0
    with (
        pytest.warns(UserWarning, match=f"^left out: {reason}"),
        pytest.raises(ValueError, match="of 1 none does"),
    ):
        error_matrix_from_studies([study], SPACE)
    # Beside a whole one they are not worth a word.
    add(study, SPACE.params(0), 0.5, 1.0)
    assert measurements(study, SPACE)[0].tolist() == [0]


def test_a_maximized_first_objective() -> None:
    study = optuna.create_study(study_name="task", direction="maximize")
    with pytest.raises(ValueError, match="study 'task' must minimize its first objective"):
        measurements(study, SPACE)


def studies_of(*names: str, objectives: int = 2) -> list[Study]:
    directions = [StudyDirection.MINIMIZE] * objectives
    return [optuna.create_study(study_name=name, directions=directions) for name in names]


def test_studies_are_rows() -> None:
    flowers, fish = studies_of("flowers", "fish")
    add(flowers, SPACE.params(4), 0.2, 300.0)
    add(flowers, SPACE.params(1), 1.0, 110.0)
    add(flowers, SPACE.params(4), 0.4, 302.0)
    add(fish, SPACE.params(0), 0.0, 90.0)
    matrix = error_matrix_from_studies([flowers, fish], SPACE)
    assert matrix.space == SPACE
    assert matrix.tasks == ("flowers", "fish")
    nan = np.nan
    np.testing.assert_allclose(
        matrix.errors, [[nan, 1.0, nan, nan, 0.3, nan], [0.0, nan, nan, nan, nan, nan]]
    )
    np.testing.assert_allclose(
        matrix.memory, [[nan, 110, nan, nan, 301, nan], [90, nan, nan, nan, nan, nan]]
    )


def test_only_completed_trials_make_a_row_and_diverged_ones_do(study: Study) -> None:
    def objective(trial: Trial) -> tuple[float, float]:
        SPACE.suggest(trial)
        if trial.number == 0:
            trial.set_user_attr("diverged", True)
            return 0.9, 100.0
        return float("nan"), 100.0

    for index in (3, 4):
        study.enqueue_trial(SPACE.params(index))
    study.optimize(objective, n_trials=2)
    study.enqueue_trial(SPACE.params(5))
    SPACE.suggest(study.ask())
    study.enqueue_trial(SPACE.params(0))
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "RUNNING", "WAITING"]
    matrix = error_matrix_from_studies([study], SPACE)
    assert np.argwhere(matrix.observed).tolist() == [[0, 3]]
    assert matrix.errors[0, 3] == 0.9


def test_given_memory_replaces_what_is_reported() -> None:
    empty, flowers, fish = studies_of("empty", "flowers", "fish")
    for study in (flowers, fish):
        add(study, SPACE.params(0), 0.5, -1.0)
    studies = [flowers, fish]
    for_all = error_matrix_from_studies(studies, SPACE, MEMORY)
    np.testing.assert_array_equal(for_all.memory, [MEMORY, MEMORY])
    with pytest.warns(UserWarning, match="'empty'"):
        each = error_matrix_from_studies(
            [empty, flowers, fish], SPACE, np.outer([1, 2, 3], MEMORY).tolist()
        )
    np.testing.assert_array_equal(each.memory, [2 * MEMORY, 3 * MEMORY])
    for bad in (MEMORY[:3], np.tile(MEMORY, (3, 1)), 7.0):
        with pytest.raises(ValueError, match=r"shape \(6,\), .* or \(2, 6\), one row per study"):
            error_matrix_from_studies(studies, SPACE, bad)


def test_memory_is_unknown_where_it_is_no_objective() -> None:
    (study,) = studies_of("flowers", objectives=1)
    add(study, SPACE.params(2), 0.5)
    matrix = error_matrix_from_studies([study], SPACE)
    assert np.isnan(matrix.memory).all()
    assert matrix.errors[0, 2] == 0.5


def test_studies_that_cannot_be_rows_are_left_out_and_named() -> None:
    good, empty, other, percent = studies_of("good", "empty", "other", "percent")
    accuracy = optuna.create_study(study_name="accuracy", directions=["maximize", "minimize"])
    add(good, SPACE.params(0), 0.5, 100.0)
    add(other, {"width": 4}, 0.5, 100.0, width=IntDistribution(1, 9))
    add(percent, SPACE.params(0), 50.0, 100.0)
    add(accuracy, SPACE.params(0), 0.5, 100.0)
    with pytest.warns(UserWarning, match="left out") as caught:
        matrix = error_matrix_from_studies(iter([empty, other, good, percent, accuracy]), SPACE)
    assert matrix.tasks == ("good",)
    told = [str(warning.message) for warning in caught]
    assert {warning.filename for warning in caught} == {__file__}
    reasons = [
        "study 'empty' has no completed trial",
        "study 'other' must tune format_a, learning_rate",
        "trial 0 of study 'percent' must report an error between 0 and 1",
        "study 'accuracy' must minimize its first objective",
    ]
    for message, reason in zip(told, reasons, strict=True):
        assert message.startswith(f"left out: {reason}")


def test_names_outside_the_space_that_vary_are_told_of_once() -> None:
    studies = studies_of("flowers", "fish")
    kept, drawn = FloatDistribution(0.1, 0.1), FloatDistribution(0.0, 0.5)
    for study in studies:
        add(study, SPACE.params(0) | {"decay": 0.1}, 0.5, 100.0, decay=kept)
        for dropout in (0.1, 0.3):
            add(study, SPACE.params(1) | {"dropout": dropout}, 0.2, 100.0, dropout=drawn)
    with pytest.warns(
        UserWarning, match="^the studies vary dropout, too, .*: to what is learned, .* is noise"
    ) as caught:
        matrix = error_matrix_from_studies(studies, SPACE)
    assert [warning.filename for warning in caught] == [__file__]
    assert matrix.errors[:, :2].tolist() == [[0.5, 0.2]] * 2


@pytest.mark.parametrize("memory", [0.0, -1.0, float("inf")])
def test_what_is_no_memory_is_unknown_with_one_warning(study: Study, memory: float) -> None:
    add(study, SPACE.params(0), 0.5, 100.0)
    for _ in range(2):
        add(study, SPACE.params(1), 0.25, memory)
    with pytest.warns(
        UserWarning, match=rf"^ignored: trial 1 of study 'task' must report its .*; got {memory}\."
    ) as caught:
        matrix = error_matrix_from_studies([study], SPACE)
    assert [warning.filename for warning in caught] == [__file__]
    np.testing.assert_array_equal(matrix.errors[0, :2], [0.5, 0.25])
    np.testing.assert_array_equal(matrix.memory[0, :2], [100.0, np.nan])


def test_no_study_can_be_a_row() -> None:
    with (
        pytest.warns(UserWarning, match="'empty'"),
        pytest.raises(ValueError, match=r"of 1 none does.*optuna-peppp tune --storage"),
    ):
        error_matrix_from_studies(studies_of("empty"), SPACE)
    with pytest.raises(ValueError, match="of 0 none does"):
        error_matrix_from_studies([], SPACE)


def test_the_space_of_studies_is_that_of_most() -> None:
    a, b, c, d = studies_of("a", "b", "c", "d")
    rates, batches = CategoricalDistribution((0.1, 0.01)), CategoricalDistribution((32, 64))
    formats = CategoricalDistribution(("1-3-1", "1-4-3"))
    params: dict[str, Any] = {
        "rate": 0.1,
        "width": 3,
        "format_b": "1-4-3",
        "batch": 64,
        "format_a": "1-3-1",
    }
    for study, names in ((a, list(params)), (b, list(reversed(params))), (c, ["rate"])):
        add(
            study,
            {name: params[name] for name in names},
            *(0.5, 1.0),
            rate=rates,
            batch=batches,
            width=IntDistribution(1, 9),
            format_a=formats,
            format_b=formats,
        )
    # The order of names is ours, whatever the storage makes of the trials'.
    assert list(space_of([c, a, b, d]).choices.items()) == [
        ("format_a", formats.choices),
        ("format_b", formats.choices),
        ("batch", batches.choices),
        ("rate", rates.choices),
    ]
    assert space_of([c]) == ConfigurationSpace({"rate": [0.1, 0.01]})
    assert space_of([c, a]) == space_of([c])


def test_the_space_of_a_study_is_that_of_most_of_its_completed_trials(study: Study) -> None:
    add(study, SPACE.params(0), 0.5, 1.0)
    add(study, SPACE.params(1), 0.5, 1.0)
    add(study, {"format_a": "1-3-1"}, 0.5, 1.0)
    for _ in range(3):
        study.ask().suggest_categorical("depth", [1, 2])
    assert space_of([study]) == SPACE


def test_studies_without_a_space() -> None:
    numbers, nones, queued = studies_of("numbers", "nones", "queued")
    add(numbers, {"width": 4}, 0.5, 1.0, width=IntDistribution(1, 9))
    add(nones, {"depth": 1}, 0.5, 1.0, depth=CategoricalDistribution((1, None)))
    queued.enqueue_trial(SPACE.params(0))
    with pytest.raises(ValueError, match="completed trials with categorical parameters"):
        space_of([numbers, nones, queued])
    add(queued, SPACE.params(0), 0.5, 1.0)
    assert space_of([numbers, nones, queued]) == SPACE


def test_predict_without_measurements_is_what_past_tasks_tell(study: Study) -> None:
    prediction = predict(study, META, MEMORY)
    np.testing.assert_array_equal(prediction.mean, META.prior.condition([], []).moments().mean)
    assert not prediction.measured.any()


@pytest.mark.parametrize("test_images", [None, 40])
def test_predict_is_the_prediction_from_the_measurements(
    study: Study, test_images: int | None
) -> None:
    add(study, SPACE.params(4), 0.2, 300.0)
    add(study, SPACE.params(1), 0.75, 110.0)
    prediction = predict(study, META, MEMORY, test_images=test_images)
    expected = Prediction.from_measurements(
        META, MEMORY, [4, 1], [0.2, 0.75], test_images=test_images
    )
    for name in ("mean", "std", "measured", "draws", "memory"):
        np.testing.assert_array_equal(getattr(prediction, name), getattr(expected, name))


@pytest.mark.parametrize("values", [[1.0], [0.5, -1.0], [-3.0, 0.0, 1e-9]])
def test_what_violates_a_constraint_is_measured_but_not_recommended(
    study: Study, values: list[float]
) -> None:
    free = predict(study, META, MEMORY)
    for index, errors in {5: [0.0, 0.1], 3: [0.2]}.items():
        for error in errors:
            study.add_trial(
                create_trial(
                    params=SPACE.params(index),
                    distributions=SPACE.distributions(),
                    values=(error, 1.0),
                    constraints={str(i): v for i, v in enumerate(values if index == 5 else [0.0])},
                )
            )
    prediction = predict(study, META, MEMORY)
    assert prediction.violating.tolist() == [5]
    assert prediction.mean[5] == 0.05
    assert prediction.mean[0] != free.mean[0]
    assert 5 not in prediction.frontier
    assert 3 in prediction.frontier
    assert prediction.recommend().index != 5
    # Measured once more, it is found to be all right.
    add(study, SPACE.params(5), 0.0, 1.0)
    assert predict(study, META, MEMORY).recommend().index == 5


def test_predict_keeps_and_averages_what_was_measured(study: Study) -> None:
    add(study, SPACE.params(4), 0.2, 300.0)
    add(study, SPACE.params(1), 0.75, 110.0)
    add(study, SPACE.params(4), 0.4, 300.0)
    prediction = predict(study, META, MEMORY)
    np.testing.assert_array_equal(np.flatnonzero(prediction.measured), [1, 4])
    np.testing.assert_allclose(prediction.mean[[1, 4]], [0.75, 0.3])


def test_predict_finds_a_low_rank_task_from_a_few_measurements() -> None:
    rng = np.random.default_rng(0)
    errors = 0.5 + 0.1 * rng.normal(size=(31, 2)) @ rng.uniform(-1, 1, (2, D))
    tasks = tuple(f"task {row}" for row in range(30))
    matrix = ErrorMatrix(SPACE, tasks, errors[1:], np.tile(MEMORY, (30, 1)))
    meta, truth = MetaModel.fit(matrix), errors[0]

    def objective(trial: Trial) -> tuple[float, float]:
        index = SPACE.index(SPACE.suggest(trial))
        return float(truth[index]), float(MEMORY[index])

    study = optuna.create_study(directions=DIRECTIONS, sampler=PEPPPSampler(meta, MEMORY))
    study.optimize(objective, n_trials=3)
    prediction = predict(study, meta, MEMORY)
    np.testing.assert_allclose(prediction.mean, truth, atol=0.005)
    assert prediction.recommend(memory_cap=MEMORY.max()).error == pytest.approx(
        truth.min(), abs=0.005
    )


def test_predict_with_a_bad_memory(study: Study) -> None:
    with pytest.raises(ValueError, match=r"memory must have shape \(6,\)"):
        predict(study, META, MEMORY[:3])
