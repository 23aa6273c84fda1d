from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel
from optuna_peppp.meta.averaging import learn
from optuna_peppp.meta.committee import MEMBERS
from optuna_peppp.meta.playing import Played, preferred

D = 30
MEMORY = np.linspace(1, 2, D)


def matrix_of(errors: NDArray[np.float64]) -> ErrorMatrix:
    n = len(errors)
    space = ConfigurationSpace({"configuration": range(D)})
    return ErrorMatrix(space, tuple(f"t{t}" for t in range(n)), errors, np.tile(MEMORY, (n, 1)))


def low_rank(n: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    level = rng.uniform(-0.1, 0.1, (n, 1))
    errors = (
        0.7 - 0.4 * (MEMORY - 1) + level + 0.1 * rng.normal(size=(n, 2)) @ rng.normal(size=(2, D))
    )
    return np.clip(errors + 0.01 * rng.normal(size=(n, D)), 0, 1)


def played(errors: NDArray[np.float64]) -> Played:
    matrix = matrix_of(errors)
    return Played.through(matrix, np.nan_to_num(errors, nan=0.5), learn(errors), None)


@pytest.mark.parametrize(("n", "others"), [(2, 1 / 3), (3, 1 / 2), (6, 1)])
def test_of_few_tasks_the_portfolio_counts_more(n: int, others: float) -> None:
    outcome = played(low_rank(n))
    assert outcome.chosen == "all"
    assert outcome.committee.weights == pytest.approx([others, others, others, 1])
    assert ("too few" in str(outcome)) == (n == 2)


@pytest.mark.parametrize(("n", "tasks"), [(4, 4), (9, 9), (40, 12)])
def test_a_dozen_tasks_at_most_are_played(n: int, tasks: int) -> None:
    outcome = played(low_rank(n))
    assert outcome.tasks == tasks
    assert np.isfinite(outcome.committee.farthest)
    assert all(0 <= gain <= 1 for gain in outcome.gains.values())
    assert all(f"{gain:.3f}" in str(outcome) for gain in outcome.gains.values())


def test_playing_is_deterministic() -> None:
    first, second = played(low_rank(8)), played(low_rank(8))
    assert first.gains == second.gains
    assert first.committee.farthest == second.committee.farthest


@pytest.mark.parametrize(
    ("gained", "expected"),
    [
        ([[0, 0.1, 0], [0, 0.1, 0], [0, 0.1, 0]], 1),
        ([[0, 0.1, 0.2], [0, 0.1, 0.2], [0, 0.1, 0.2]], 2),
        ([[0, 0.1, 0], [0, 0.2, 0], [0, 0.1, 0], [0, 0.2, 0]], 1),
        # A third of 1 or 0 on average, with as large a standard error: luck.
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], 0),
        # Sure, and less than what is not: 0.1 against 0.5 give or take 0.3.
        ([[0, 0.1, 1.4], [0, 0.1, 0.1], [0, 0.1, 0.0]], 1),
        # Twice the same 0.5 but for a little is surer than two tasks can be otherwise.
        ([[0, 0.4, 0], [0, 0.6, 0]], 0),
        ([[0.3, 0.1, 0.2], [0.4, 0.3, 0.1]], 0),
    ],
)
def test_who_is_surely_better_takes_over(gained: list[list[float]], expected: int) -> None:
    assert preferred(np.array(gained, dtype=np.float64)) == expected


def test_incomplete_rows_are_played_where_they_were_measured() -> None:
    errors = low_rank(8)
    hidden = np.random.default_rng(1).random(errors.shape) < 0.3
    hidden[:, hidden.all(axis=0)] = False
    outcome = played(np.where(hidden, np.nan, errors))
    assert outcome.tasks == 8


def test_without_memory_nothing_is_played() -> None:
    errors = low_rank(8)
    matrix = replace(matrix_of(errors), memory=np.full(errors.shape, np.nan))
    outcome = Played.through(matrix, errors, learn(errors), None)
    assert outcome.tasks == 0


def test_a_task_that_resembles_no_past_one_is_left_to_the_posterior() -> None:
    """The limit that past tasks set holds for one of them, and not for a foreign one."""
    errors = low_rank(12)
    meta = MetaModel.fit(matrix_of(errors[1:]))
    assert meta.worlds is not None
    indices = np.array([0, 7, 13, 18, 25, 29])
    foreign = 1 - errors[0]
    distances = [
        meta.worlds.conditioned(indices, row[indices]).misfit.min() / len(indices)
        for row in (errors[0], foreign)
    ]
    assert distances[0] < meta.committee.farthest < distances[1]


def test_the_committee_survives_its_file(tmp_path: Path) -> None:
    meta = MetaModel.fit(matrix_of(low_rank(8)))
    meta.save(tmp_path / "meta.npz")
    again = MetaModel.load(tmp_path / "meta.npz")
    assert np.array_equal(again.committee.weights, meta.committee.weights)
    assert again.committee.farthest == meta.committee.farthest
    assert again.selection == meta.selection
    assert all(word in meta.selection for word in ("portfolio", "aligned", "posterior"))
    assert len(MEMBERS) == len(meta.committee.weights)
