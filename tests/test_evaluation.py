"""Meta-leave-one-out cross-validation."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler
from optuna_peppp.evaluation import Evaluation, Score
from optuna_peppp.prediction import Prediction
from optuna_peppp.quality import Quality
from optuna_peppp.strategies import STRATEGIES

Array = NDArray[np.float64]
D = 12


def corpus(n: int = 6, seed: int = 0, models: tuple[str, ...] = ()) -> ErrorMatrix:
    """Tasks that differ in two ways; memory grows with the index."""
    rng = np.random.default_rng(seed)
    errors = 0.5 + 0.15 * rng.normal(size=(n, 2)) @ rng.uniform(-1, 1, (2, D))
    errors = np.clip(errors + 0.02 * rng.normal(size=(n, D)), 0, 1)
    memory = np.linspace(100, 200, D) * rng.uniform(1, 2, (n, 1))
    space = ConfigurationSpace({"configuration": range(D)})
    return ErrorMatrix(space, tuple(f"task {i}" for i in range(n)), errors, memory, models)


def test_one_score_by_the_parts_of_the_library() -> None:
    matrix = corpus()
    evaluation = Evaluation(matrix, {"ed-mf": STRATEGIES["ed-mf"]}, measurements=(3,), rank=2)
    (score,) = evaluation.scores(2)
    keep = [0, 1, 3, 4, 5]
    past = ErrorMatrix(
        matrix.space, tuple(matrix.tasks[i] for i in keep), matrix.errors[keep], matrix.memory[keep]
    )
    meta = MetaModel.fit(past, rank=2)
    sampler = PEPPPSampler(meta, matrix.memory[2], strategy="ed-mf")
    study = optuna.create_study(sampler=sampler)
    truth = matrix.errors[2]
    study.optimize(lambda trial: truth[meta.space.index(meta.space.suggest(trial))], n_trials=3)
    where = [trial.params["configuration"] for trial in study.trials]
    prediction = Prediction.from_measurements(meta, matrix.memory[2], where, truth[where])
    expected = Quality.of(matrix.memory[2], truth, prediction.mean, prediction.measured)
    assert score == Score("task 2", "ed-mf", 3, 0, expected)


def test_all_tasks_strategies_and_counts_in_order() -> None:
    evaluation = Evaluation(corpus(), STRATEGIES, measurements=(4, 1), rank=2)
    scores = list(evaluation.run())
    assert [(s.task, s.strategy, s.measurements) for s in scores] == [
        (f"task {task}", strategy, count)
        for task in range(6)
        for strategy in STRATEGIES
        for count in (1, 4)
    ]
    header = ",".join(scores[0].as_row())
    assert header == (
        "task,strategy,measurements,seed,convergence,hyperdiff,hypervolume_regret,relative_error,"
        "recommendation_regret,relative_memory"
    )


def test_processes_do_not_change_the_scores() -> None:
    evaluation = Evaluation(corpus(), STRATEGIES, measurements=(2,), fraction=0.5, rank=1)
    assert list(evaluation.run(jobs=2)) == list(evaluation.run())


def test_measuring_everything_leaves_nothing_to_regret() -> None:
    for score in Evaluation(corpus(), STRATEGIES, measurements=(D, 99), rank=2).run():
        assert astuple(score.quality) == pytest.approx((0, 0, 0, 0, 0, 1))


def test_a_task_never_helps_to_predict_itself() -> None:
    models = ("a", "b", "a", "b", "a", "b")
    matrix = corpus()
    matrix = ErrorMatrix(
        matrix.space, ("x", "x", "y", "y", "z", "z"), matrix.errors, matrix.memory, models
    )
    evaluation = Evaluation(matrix, STRATEGIES, measurements=(1,), rank=1)
    assert evaluation.split(0).meta.tasks == ("y (a)", "y (b)", "z (a)", "z (b)")
    assert [score.task for score in evaluation.scores(3)] == ["y (b)"] * 3


def test_with_a_cap_nothing_above_it_is_measured_or_compared() -> None:
    matrix = corpus()
    cap = float(np.median(matrix.memory))
    evaluation = Evaluation(matrix, STRATEGIES, measurements=(3,), memory_cap=cap, rank=2)
    for row in range(6):
        split = evaluation.split(row)
        np.testing.assert_array_equal(split.considered, matrix.memory[row] <= cap)
        if split.considered.sum() <= 3:
            for score in evaluation.scores(row):
                assert astuple(score.quality) == pytest.approx((0, 0, 0, 0, 0, 1))


def test_unknown_errors_of_a_task_are_neither_measured_nor_compared() -> None:
    full = corpus(8)
    errors = full.errors.copy()
    errors[0, ::3] = np.nan
    matrix = ErrorMatrix(full.space, full.tasks, errors, full.memory)
    evaluation = Evaluation(matrix, STRATEGIES, measurements=(2, 8), rank=1)
    split = evaluation.split(0)
    np.testing.assert_array_equal(split.considered, ~np.isnan(errors[0]))
    last = evaluation.scores(0)[1].quality
    assert astuple(last) == pytest.approx((0, 0, 0, 0, 0, 1))


def test_a_fraction_is_what_the_meta_model_learns_from() -> None:
    matrix = corpus(20)
    evaluation = Evaluation(matrix, STRATEGIES, fraction=0.4)
    meta = evaluation.split(0).meta
    share = int(meta.selection.split("(")[1].split("%")[0]) / 100
    assert 0.3 < share < 0.5
    again = Evaluation(matrix, STRATEGIES, fraction=0.4).split(0).meta
    np.testing.assert_array_equal(meta.errors, again.errors)
    other = Evaluation(matrix, STRATEGIES, fraction=0.4, seed=1).split(0).meta
    assert (meta.errors != other.errors).any()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"matrix": corpus(2)}, "at least three tasks.*got 2"),
        ({"matrix": corpus(1)}, "at least three tasks.*got 1"),
        ({"strategies": {}}, "strategies must name at least one"),
        ({"measurements": ()}, "measurements must be numbers of at least 1"),
        ({"measurements": (1, 0)}, "measurements must be numbers of at least 1"),
        ({"memory_cap": 50}, "memory_cap must leave .* 'task 0' has none within 50"),
        ({"fraction": 0.0}, "fraction must be above 0"),
        ({"fraction": 0.9, "scheme": "memory"}, "fraction must be above 0 and at most 0.5"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Evaluation(**{"matrix": corpus(), "strategies": STRATEGIES, **options})


def test_a_fraction_of_a_partial_corpus_is_refused() -> None:
    full = corpus()
    errors = full.errors.copy()
    errors[0, 0] = np.nan
    with pytest.raises(ValueError, match="fraction needs a complete corpus"):
        Evaluation(
            ErrorMatrix(full.space, full.tasks, errors, full.memory), STRATEGIES, fraction=0.5
        )


def test_a_split_that_cannot_be_learned_from_is_named() -> None:
    full = corpus()
    errors = full.errors.copy()
    errors[1:, 3] = np.nan
    matrix = ErrorMatrix(full.space, full.tasks, errors, full.memory)
    evaluation = Evaluation(matrix, STRATEGIES)
    with pytest.raises(ValueError, match=r"without 'task 0': .* never measured.*configuration 3"):
        list(evaluation.run())


def test_a_strategy_that_repeats_itself_is_refused() -> None:
    def stubborn(*_: Any, **__: Any) -> int:
        return 3

    evaluation = Evaluation(corpus(), {"stubborn": stubborn}, measurements=(2,), rank=1)
    with pytest.raises(ValueError, match=r"it chose 3 after \[3\]"):
        evaluation.scores(0)


def test_the_authors_matrix(shared: Path) -> None:
    """Two figures that prototypes gave, computed independently of this module."""
    matrix = ErrorMatrix.read_csv(shared / "peppp" / "corpus.csv")
    evaluation = Evaluation(matrix, {"ed-mf": STRATEGIES["ed-mf"]}, measurements=(12,), rank=3)
    scores = list(evaluation.run())
    assert len(scores) == 87
    assert np.mean([s.quality.relative_error for s in scores]) == pytest.approx(0.052, abs=0.001)
    assert np.mean([s.quality.hyperdiff for s in scores]) == pytest.approx(0.025, abs=0.002)
