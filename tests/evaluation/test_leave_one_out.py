"""Meta-leave-one-out cross-validation."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler
from optuna_peppp.acquisition.strategies import STRATEGIES, Progress, Strategy
from optuna_peppp.choices import Strategy as StrategyName
from optuna_peppp.evaluation.leave_one_out import Evaluation, Score
from optuna_peppp.evaluation.quality import Quality
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.meta import model
from optuna_peppp.meta.averaging import learn
from optuna_peppp.meta.committee import EVERYONE
from optuna_peppp.meta.playing import Played
from optuna_peppp.prediction import Prediction

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


def cheapest(progress: Progress) -> int:
    """The least memory that may be measured and was not."""
    free = progress.feasible.copy()
    free[list(progress.indices)] = False
    return int(np.where(free, progress.memory, np.inf).argmin())


def halves(progress: Progress) -> Array:
    return np.full(len(progress.memory), 0.5)


@pytest.mark.parametrize("strategy", get_args(StrategyName))
def test_one_score_by_the_parts_of_the_library(strategy: StrategyName) -> None:
    matrix = corpus()
    evaluation = Evaluation(matrix, {strategy: STRATEGIES[strategy]}, measurements=(3,), rank=2)
    (score,) = evaluation.scores(2)
    keep = [0, 1, 3, 4, 5]
    past = ErrorMatrix(
        matrix.space, tuple(matrix.tasks[i] for i in keep), matrix.errors[keep], matrix.memory[keep]
    )
    meta = MetaModel.fit(past, rank=2)
    # Every task has a seed of its own.
    seed = int(np.random.SeedSequence((0, 2)).generate_state(1)[0])
    sampler = PEPPPSampler(meta, matrix.memory[2], strategy=strategy, seed=seed)
    study = optuna.create_study(sampler=sampler)
    truth = matrix.errors[2]
    study.optimize(lambda trial: truth[meta.space.index(meta.space.suggest(trial))], n_trials=3)
    where = [trial.params["configuration"] for trial in study.trials]
    if strategy in ("bayesian", "portfolio"):
        predicted = Prediction.from_measurements(meta, matrix.memory[2], where, truth[where]).mean
    else:
        predicted, _ = meta.predict(where, truth[where])
        predicted[where] = truth[where]
    measured = np.isin(np.arange(D), where)
    expected = Quality.of(matrix.memory[2], truth, predicted, measured)
    assert score == Score("task 2", strategy, 3, 0, expected)


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
    assert [score.task for score in evaluation.scores(3)] == ["y (b)"] * len(STRATEGIES)


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
    errors, memory = full.errors.copy(), full.memory.copy()
    errors[0, ::3] = np.nan
    memory[0, :6:3] = np.nan
    matrix = ErrorMatrix(full.space, full.tasks, errors, memory)
    evaluation = Evaluation(matrix, STRATEGIES, measurements=(2, 8), rank=1)
    split = evaluation.split(0)
    np.testing.assert_array_equal(split.considered, ~np.isnan(errors[0]))
    for score in evaluation.scores(0)[1::2]:
        assert astuple(score.quality) == pytest.approx((0, 0, 0, 0, 0, 1))


# A measurement cap


def four_by_four() -> ErrorMatrix:
    errors = [
        [0.8, 0.6, 0.4, 0.2],
        [0.7, 0.6, 0.3, 0.2],
        [0.9, 0.6, 0.5, 0.3],
        [0.8, 0.7, 0.3, 0.1],
    ]
    space = ConfigurationSpace({"configuration": range(4)})
    memory = np.tile([20.0, 10.0, 30.0, 40.0], (4, 1))
    return ErrorMatrix(space, tuple("abcd"), np.array(errors), memory)


def test_a_measurement_cap_by_hand() -> None:
    evaluation = Evaluation(
        four_by_four(),
        {"cheapest": Strategy(cheapest, halves)},
        measurements=(1, 2, 3),
        measurement_cap=25,
        rank=1,
    )
    split = evaluation.split(0)
    assert split.considered.tolist() == [True] * 4
    assert split.feasible.tolist() == [True, True, False, False]
    one, two, three = (score.quality for score in evaluation.scores(0))
    # All four are judged: of 0.8, 0.6, 0.4, 0.2, what was not measured is predicted to be 0.5.
    norm = np.linalg.norm([0.8, 0.6, 0.4, 0.2])
    assert one.relative_error == pytest.approx(np.linalg.norm([0.3, 0, 0.1, 0.3]) / norm)
    assert two.relative_error == pytest.approx(np.linalg.norm([0, 0, 0.1, 0.3]) / norm)
    assert (one.relative_memory, two.relative_memory) == pytest.approx((10 / 100, 30 / 100))
    # The frontier is predicted to be (10, 0.6), (30, 0.5), on memory scaled 0, 2/3.
    predicted = 2 / 3 * 0.4 + (1.05 - 2 / 3) * 0.5
    true = 2 / 3 * 0.4 + 1 / 3 * 0.6 + 0.05 * 0.8
    assert two.hyperdiff == pytest.approx(true - predicted)
    # It lacks the last configuration, which alone has the error 0.2.
    assert two.hypervolume_regret == pytest.approx(0.05 * (0.4 - 0.2))
    # Nothing else may be measured.
    assert three == two


def test_a_memory_cap_takes_away_and_a_measurement_cap_hides() -> None:
    matrix, strategies = four_by_four(), {"cheapest": Strategy(cheapest, halves)}

    def masks(memory_cap: float, measurement_cap: float) -> tuple[list[bool], list[bool]]:
        split = Evaluation(
            matrix, strategies, memory_cap=memory_cap, measurement_cap=measurement_cap, rank=1
        ).split(0)
        return split.considered.tolist(), split.feasible.tolist()

    assert masks(35, 25) == ([True, True, True, False], [True, True, False, False])
    assert masks(35, 99) == ([True, True, True, False], [True, True, True, False])
    assert masks(25, 35) == ([True, True, False, False], [True, True, False, False])


@pytest.mark.parametrize("strategy", get_args(StrategyName))
@pytest.mark.parametrize("memory_cap", [None, 300.0])
def test_nothing_beyond_the_measurement_cap_is_measured(
    strategy: StrategyName, memory_cap: float | None
) -> None:
    matrix = corpus()
    cap = float(np.median(matrix.memory))
    evaluation = Evaluation(
        matrix,
        {strategy: STRATEGIES[strategy]},
        measurements=(D,),
        memory_cap=memory_cap,
        measurement_cap=cap,
        rank=2,
    )
    for row in (0, 1):
        split = evaluation.split(row)
        ((indices, predicted),) = split.predictions(STRATEGIES[strategy], (D,), seed=row)
        assert sorted(indices) == np.flatnonzero(matrix.memory[row] <= cap).tolist()
        hidden = split.considered & ~split.feasible
        assert hidden.any()
        assert (predicted[hidden] != matrix.errors[row, hidden]).all()


# What a strategy is told


def test_predictions_hold_what_was_measured_in_its_order() -> None:
    split = Evaluation(four_by_four(), STRATEGIES, measurement_cap=35, rank=1).split(0)
    steps = list(split.predictions(Strategy(cheapest, halves), (1, 3, 7), seed=0))
    assert [indices for indices, _ in steps] == [(1,), (1, 0, 2), (1, 0, 2)]
    np.testing.assert_array_equal(
        [predicted for _, predicted in steps],
        [[0.5, 0.6, 0.5, 0.5], [0.8, 0.6, 0.4, 0.5], [0.8, 0.6, 0.4, 0.5]],
    )


def test_a_strategy_is_told_its_progress() -> None:
    told: list[Progress] = []

    def choose(progress: Progress) -> int:
        told.append(progress)
        return cheapest(progress)

    split = Evaluation(four_by_four(), STRATEGIES, measurement_cap=35, rank=1).split(0)
    list(split.predictions(Strategy(choose, halves), (2, 3), seed=9))
    assert [(p.indices, p.errors) for p in told] == [
        ((), ()),
        ((1,), (0.6,)),
        ((1, 0), (0.6, 0.8)),
    ]
    for progress in told:
        assert progress.meta is split.meta
        assert progress.seed == 9
        np.testing.assert_array_equal(progress.memory, [20, 10, 30, 40])
        np.testing.assert_array_equal(progress.feasible, [True, True, True, False])
        assert progress.considered.all()


@pytest.mark.parametrize("strategy", get_args(StrategyName))
def test_what_was_not_measured_has_no_influence(strategy: StrategyName) -> None:
    split = Evaluation(corpus(), STRATEGIES, rank=2).split(0)
    ((indices, predicted),) = split.predictions(STRATEGIES[strategy], (4,), seed=0)
    errors = 1 - split.errors
    errors[list(indices)] = split.errors[list(indices)]
    changed = Split(split.meta, split.memory, errors, split.considered, split.feasible)
    ((again, same),) = changed.predictions(STRATEGIES[strategy], (4,), seed=0)
    assert again == indices
    np.testing.assert_array_equal(same, predicted)


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
        ({"measurement_cap": 50}, "measurement_cap must leave .* 'task 0' has none within 50"),
        ({"measurement_cap": "50B", "memory_cap": "1kB"}, "measurement_cap .* none within 50B"),
        ({"measurement_cap": "1kB", "memory_cap": "50B"}, "memory_cap .* none within 50B"),
        ({"measurement_cap": "lots"}, "size must be a positive number of bytes .* 'lots'"),
        ({"fraction": 0.0}, "fraction must be above 0"),
        ({"fraction": 0.9, "scheme": "memory"}, "fraction must be above 0 and at most 0.5"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Evaluation(**{"matrix": corpus(), "strategies": STRATEGIES, **options})


def test_the_smallest_memory_that_is_named_is_one_that_was_measured() -> None:
    errors = four_by_four().errors.copy()
    errors[0, 1] = np.nan  # the configuration of memory 10
    matrix = ErrorMatrix(four_by_four().space, tuple("abcd"), errors, four_by_four().memory)
    with pytest.raises(ValueError, match=r"'a' has none within 15, its smallest memory is 20 B"):
        Evaluation(matrix, STRATEGIES, measurement_cap=15)


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
    matrix = ErrorMatrix(full.space, full.tasks, full.errors, full.memory)
    evaluation = Evaluation(matrix, STRATEGIES, rank=len(full.tasks))
    with pytest.raises(ValueError, match=r"without 'task 0': rank must be between 1 and"):
        list(evaluation.run())


def test_what_the_other_tasks_never_measured_is_guessed() -> None:
    full = corpus()
    errors = full.errors.copy()
    errors[1:, 3] = np.nan
    matrix = ErrorMatrix(full.space, full.tasks, errors, full.memory)
    split = Evaluation(matrix, STRATEGIES).split(0)
    assert "1 were never measured" in split.meta.selection
    assert not np.isnan(split.meta.errors).any()


def test_a_strategy_that_repeats_itself_is_refused() -> None:
    stubborn = Strategy(lambda progress: 3)
    evaluation = Evaluation(corpus(), {"stubborn": stubborn}, measurements=(2,), rank=1)
    with pytest.raises(ValueError, match=r"it chose 3 after \[3\]"):
        evaluation.scores(0)


def test_a_strategy_that_ignores_the_measurement_cap_is_refused() -> None:
    dearest = Strategy(lambda progress: int(progress.memory.argmax()))
    evaluation = Evaluation(four_by_four(), {"dearest": dearest}, measurement_cap=35, rank=1)
    with pytest.raises(ValueError, match=r"a feasible configuration .*; it chose 3 after \[\]"):
        evaluation.scores(0)


@pytest.mark.slow
def test_the_authors_matrix(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that prototypes gave, computed independently of this module."""
    matrix = ErrorMatrix.read_csv(shared / "peppp" / "corpus.csv")

    def mean(scores: list[Score], strategy: str, measurements: int, measure: str) -> float:
        own = [s for s in scores if (s.strategy, s.measurements) == (strategy, measurements)]
        return float(np.mean([getattr(score.quality, measure) for score in own]))

    both = {name: STRATEGIES[name] for name in ("bayesian", "ed-mf")}
    evaluation = Evaluation(matrix, both, measurements=(1, 12), rank=3)
    some = [score for row in range(2, 87, 4) for score in evaluation.scores(row)]
    # One measurement tells the posterior far more than it tells least squares.
    error = mean(some, "bayesian", 1, "relative_error")
    assert error < 0.75 * mean(some, "ed-mf", 1, "relative_error")
    assert mean(some, "bayesian", 12, "hyperdiff") < mean(some, "ed-mf", 12, "hyperdiff")
    # ED-MF asks for no prior and no committee, which are most of the work: others stand in.
    learned = learn(matrix.errors, rank=3)
    monkeypatch.setattr(model, "learn", lambda *_, **__: learned)
    monkeypatch.setattr(Played, "through", lambda *_: Played(EVERYONE, {}, "all", 0))
    every = list(replace(evaluation, strategies={"ed-mf": both["ed-mf"]}).run())
    assert len(every) == 87 * 2
    assert mean(every, "ed-mf", 12, "relative_error") == pytest.approx(0.052, abs=0.001)
    assert mean(every, "ed-mf", 12, "hyperdiff") == pytest.approx(0.025, abs=0.002)
