from __future__ import annotations

from collections.abc import Callable

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike, NDArray

from optuna_peppp import pareto

# A small grid gives equal points and equal coordinates all the time.
grid = st.integers(0, 12).flatmap(
    lambda n: arrays(np.float64, (n, 2), elements=st.integers(0, 5).map(float))
)
numbers = st.integers(1, 30).flatmap(
    lambda n: arrays(np.float64, (n, 2), elements=st.floats(-100, 100, width=32))
)


def dominated_by_definition(points: NDArray[np.float64]) -> list[bool]:
    return [
        any(
            i != j and other[0] <= point[0] and other[1] <= point[1]
            for j, other in enumerate(points)
        )
        for i, point in enumerate(points)
    ]


@settings(deadline=None)
@given(grid | numbers)
def test_nondominated_is_its_definition(points: NDArray[np.float64]) -> None:
    assert (~pareto.nondominated(points)).tolist() == dominated_by_definition(points)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[1, 1]], [True]),
        ([[1, 1], [1, 1]], [False, False]),
        ([[1, 1], [1, 2]], [True, False]),
        ([[2, 1], [1, 1]], [False, True]),
        ([[1, 3], [2, 2], [3, 1]], [True, True, True]),
        ([[0, 0], [1, 3], [2, 2], [2, 2]], [True, False, False, False]),
    ],
)
def test_nondominated_by_hand(points: ArrayLike, expected: list[bool]) -> None:
    assert pareto.nondominated(points).tolist() == expected


def test_no_points() -> None:
    none = np.empty((0, 2))
    assert pareto.nondominated(none).shape == (0,)
    assert pareto.frontier(none).shape == (0,)
    assert pareto.hypervolume(none, (1, 1)) == 0


@settings(deadline=None)
@given(grid | numbers)
def test_frontier_is_a_staircase_that_covers_every_point(points: NDArray[np.float64]) -> None:
    kept = pareto.frontier(points)
    steps = points[kept]
    assert (np.diff(steps[:, 0]) > 0).all()
    assert (np.diff(steps[:, 1]) < 0).all()
    for point in points:
        assert (steps <= point).all(axis=1).any()
    for index in kept:
        assert index == np.flatnonzero((points == points[index]).all(axis=1))[0]


@settings(deadline=None)
@given(grid | numbers)
def test_frontier_is_the_nondominated_set_of_the_distinct_points(
    points: NDArray[np.float64],
) -> None:
    distinct = np.unique(points, axis=0)
    expected = distinct[~np.array(dominated_by_definition(distinct), dtype=bool)]
    assert np.array_equal(points[pareto.frontier(points)], expected)


@settings(deadline=None)
@given(grid)
def test_hypervolume_counts_unit_squares(points: NDArray[np.float64]) -> None:
    squares = sum(
        any(x <= left and y <= low for x, y in points) for left in range(4) for low in range(4)
    )
    assert pareto.hypervolume(points, (4, 4)) == squares


@settings(deadline=None)
@given(numbers, st.tuples(st.floats(-50, 100), st.floats(-50, 100)))
def test_hypervolume_agrees_with_moocore(
    points: NDArray[np.float64], reference: tuple[float, float]
) -> None:
    expected = moocore.hypervolume(points, ref=np.array(reference))
    assert pareto.hypervolume(points, reference) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(grid)
def test_repeated_points_do_not_change_the_area(points: NDArray[np.float64]) -> None:
    # nondominated() drops both of two equal points; an area built on it would shrink here.
    doubled = np.concatenate((points, points))
    assert not pareto.nondominated(doubled).any()
    assert pareto.hypervolume(doubled, (4, 4)) == pareto.hypervolume(points, (4, 4))


def test_hypervolume_by_hand() -> None:
    assert pareto.hypervolume([[0, 0]], (2, 3)) == 6
    assert pareto.hypervolume([[2, 0], [0, 3]], (2, 3)) == 0
    assert pareto.hypervolume([[5, -5], [1, 1]], (2, 3)) == 2
    assert pareto.hypervolume([[0, 2], [1, 0]], (2, 3)) == 4


def test_convergence_by_hand() -> None:
    assert pareto.convergence([[0, 0], [3, 4]], [[0, 0]]) == 2.5
    assert pareto.convergence([[0, 0]], [[0, 0], [3, 4]]) == 0


@settings(deadline=None)
@given(numbers, numbers)
def test_convergence_is_its_definition(
    estimated: NDArray[np.float64], true: NDArray[np.float64]
) -> None:
    nearest = [min(np.hypot(*(point - other)) for other in true) for point in estimated]
    assert pareto.convergence(estimated, true) == pytest.approx(np.mean(nearest))
    assert pareto.convergence(true, true) == 0


def test_hyperdiff_by_hand() -> None:
    assert pareto.hyperdiff([[1, 1]], [[0, 1], [1, 0]], (2, 2)) == 2
    assert pareto.hyperdiff([[0, 1], [1, 0]], [[1, 1]], (2, 2)) == 2


@pytest.mark.parametrize(
    "call",
    [
        pareto.nondominated,
        pareto.frontier,
        lambda points: pareto.hypervolume(points, (1, 1)),
        lambda points: pareto.convergence(points, [[0, 0]]),
        lambda points: pareto.convergence([[0, 0]], points),
        lambda points: pareto.hyperdiff(points, [[0, 0]], (1, 1)),
        lambda points: pareto.hyperdiff([[0, 0]], points, (1, 1)),
    ],
)
def test_bad_points_are_refused(call: Callable[[ArrayLike], object]) -> None:
    with pytest.raises(ValueError, match=r"must be finite; \w+\[1\] is \[nan, 0.0\]"):
        call([[0.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(ValueError, match="must be finite"):
        call([[0.0, np.inf]])
    with pytest.raises(ValueError, match=r"shape \(n, 2\), two objectives; got \(1, 3\)"):
        call([[0, 0, 0]])
    with pytest.raises(ValueError, match=r"got \(2,\)"):
        call([0, 0])


def test_bad_references_and_empty_frontiers_are_refused() -> None:
    references: list[ArrayLike] = [(1.0, np.nan), (1.0, np.inf), (1.0,), 3.0]
    for reference in references:
        with pytest.raises(ValueError, match="reference must be two finite numbers"):
            pareto.hypervolume([[0, 0]], reference)
    none = np.empty((0, 2))
    with pytest.raises(ValueError, match="estimated must hold at least one point"):
        pareto.convergence(none, [[0, 0]])
    with pytest.raises(ValueError, match="true must hold at least one point"):
        pareto.convergence([[0, 0]], none)
