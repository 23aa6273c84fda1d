from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from optuna_peppp.acquisition.design import greedy_order, qr_order, random_order

Matrix = NDArray[np.float64]

shapes = st.tuples(st.integers(1, 9), st.integers(1, 4))
# Small integers give ties, dependent rows and rank-deficient sets; floats give neither.
integers = shapes.flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-2, 2).map(float))
)
generic = st.builds(
    lambda shape, seed: np.random.default_rng(seed).normal(size=shape),
    shapes,
    st.integers(0, 10_000),
)


def scipy_pivots(columns: Matrix) -> list[int]:
    _, pivots = scipy.linalg.qr(columns, mode="r", pivoting=True)
    return [int(pivot) for pivot in pivots]


def log_det(vectors: Matrix) -> float:
    """Log determinant of X in the span of all vectors, which the chosen ones must span."""
    return float(np.linalg.slogdet(vectors.T @ vectors)[1])


def dense_greedy(
    vectors: Matrix, count: int, feasible: NDArray[np.bool_], start: list[int]
) -> list[int]:
    """Algorithm 2 with every quantity computed anew from its definition."""
    chosen, order = list(start), list[int]()
    while len(order) < count:
        candidates = [j for j in np.flatnonzero(feasible).tolist() if j not in chosen]
        if not candidates:
            break
        basis = scipy.linalg.orth(vectors[chosen].T) if chosen else np.empty((vectors.shape[1], 0))
        residuals = vectors - vectors @ basis @ basis.T
        distances = [float(np.linalg.norm(residuals[j])) for j in candidates]
        if max(distances) > 1e-6 * np.linalg.norm(vectors, axis=1).max():
            scores = distances
        else:
            scores = [log_det(vectors[[*chosen, j]] @ basis) for j in candidates]
        chosen.append(candidates[int(np.argmax(scores))])
        order.append(chosen[-1])
    return order


@settings(deadline=None)
@given(generic)
def test_first_choices_are_the_pivots_of_qr(embeddings: Matrix) -> None:
    rank = min(embeddings.shape)
    assert greedy_order(embeddings, rank) == scipy_pivots(embeddings.T)[:rank]


@settings(deadline=None)
@given(generic, st.data())
def test_every_step_is_that_of_the_dense_computation(
    embeddings: Matrix, data: st.DataObject
) -> None:
    d = len(embeddings)
    feasible = data.draw(arrays(np.bool_, d), label="feasible")
    start = data.draw(st.lists(st.integers(0, d - 1), max_size=d), label="start")
    expected = dense_greedy(embeddings, d, feasible, start)
    assert greedy_order(embeddings, d, feasible=feasible, start=start) == expected


@settings(deadline=None)
@given(integers | generic, st.data())
def test_orders_are_nested_and_do_not_depend_on_the_order_of_start(
    embeddings: Matrix, data: st.DataObject
) -> None:
    d = len(embeddings)
    feasible = data.draw(arrays(np.bool_, d), label="feasible")
    start = data.draw(st.lists(st.integers(0, d - 1), max_size=d, unique=True), label="start")
    whole = greedy_order(embeddings, d, feasible=feasible, start=start)
    assert sorted(whole) == sorted(set(np.flatnonzero(feasible).tolist()) - set(start))
    for taken in range(len(whole) + 1):
        now = data.draw(st.permutations([*start, *whole[:taken]]))
        assert greedy_order(embeddings, d, feasible=feasible, start=now) == whole[taken:]
    assert greedy_order(embeddings, 1, feasible=feasible, start=start) == whole[:1]


def test_six_measurements_are_four_and_then_two() -> None:
    embeddings = np.random.default_rng(0).normal(size=(99, 3))
    first = greedy_order(embeddings, 4)
    assert greedy_order(embeddings, 6) == first + greedy_order(embeddings, 2, start=first)


def test_what_counts_as_a_direction_does_not_change_on_the_way() -> None:
    embeddings = [[1.0, 0.0], [0.5, 0.0], [0.0, 1e-7], [1e-7, 5e-8]]
    assert greedy_order(embeddings, 4) == [0, 1, 3, 2]
    assert greedy_order(embeddings, 2, start=[0, 1]) == [3, 2]


@settings(deadline=None)
@given(generic)
def test_as_many_choices_as_dimensions_reach_the_volume_that_pivoting_guarantees(
    embeddings: Matrix,
) -> None:
    # The k pivots span at least 1/k! of the largest volume (Civril and Magdon-Ismail, 2009).
    d, k = embeddings.shape
    if d < k:
        return
    chosen = greedy_order(embeddings, k)
    best = max(log_det(embeddings[list(subset)]) for subset in combinations(range(d), k))
    assert log_det(embeddings[chosen]) >= best - 2 * math.log(math.factorial(k)) - 1e-9


@settings(deadline=None)
@given(generic, st.integers(1, 3))
def test_further_choices_gain_what_submodularity_guarantees(embeddings: Matrix, more: int) -> None:
    # log det is monotone and submodular here: greedy reaches 1 - 1/e of the best gain.
    d, k = embeddings.shape
    if d < k + more:
        return
    pivots = greedy_order(embeddings, k)
    order = greedy_order(embeddings, k + more)
    rest = [j for j in range(d) if j not in pivots]
    before = log_det(embeddings[pivots])
    best = max(
        log_det(embeddings[[*pivots, *subset]]) - before for subset in combinations(rest, more)
    )
    gain = log_det(embeddings[order]) - before
    assert (1 - 1 / math.e) * best - 1e-9 <= gain <= best + 1e-9


def test_sherman_morrison_stays_exact_over_many_steps() -> None:
    embeddings = np.random.default_rng(1).normal(size=(60, 4)) * [1, 1e-1, 1e-2, 1e-3]
    everywhere = np.ones(60, dtype=bool)
    assert greedy_order(embeddings, 60) == dense_greedy(embeddings, 60, everywhere, [])


def test_an_ill_conditioned_start_does_not_spoil_the_choice() -> None:
    # Two almost parallel vectors leave X almost singular; what they miss must come next.
    embeddings = np.array([[1, 0], [1, 1e-5], [1, 0.5], [0.1, 0.9], [0.2, 0.8]])
    order = greedy_order(embeddings, 3, start=[0, 1])
    assert order == dense_greedy(embeddings, 3, np.ones(5, dtype=bool), [0, 1])
    assert order[0] == 3


@pytest.mark.parametrize("gap", [1e-8, 1e-12, 1e-15])
def test_directions_of_rounding_size_do_not_count(gap: float) -> None:
    plane = np.array([[1, 0, 0], [1, 0, 0], [2, 0, 0], [1.5, 0, 0], [1, 3, 0], [0, 2.5, 0]])
    noisy = plane + np.outer([0, 1, 0, -1, 1, -1], [0, gap, 3 * gap])
    for start in ([0, 1], [1, 0], [0, 1, 4]):
        assert greedy_order(noisy, 6, start=start) == greedy_order(plane, 6, start=start)


def test_a_start_of_almost_dependent_vectors_is_spanned_without_loss() -> None:
    # Each vector is almost the direction of the one before: without a second orthogonalization
    # their rounding errors multiply, and a direction that is known looks new.
    unit = np.eye(5)
    start = [unit[0], *(unit[i] + 2e-6 * unit[i + 1] for i in range(3))]
    known, new = 0.9 * unit[3], 0.5 * unit[4]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    embeddings = np.array([*start, known, new]) @ rotation
    assert greedy_order(embeddings, 1, start=range(4)) == [5]


def test_a_feasible_set_of_lower_rank_is_ordered_in_its_span() -> None:
    embeddings = np.array([[1.0, 0, 0], [2, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 5]])
    feasible = [True, True, True, True, False]
    assert greedy_order(embeddings, 9, feasible=feasible) == [2, 3, 1, 0]


def test_embeddings_of_zeros_come_by_index() -> None:
    assert greedy_order(np.zeros((3, 2)), 3) == [0, 1, 2]
    assert greedy_order([[0, 0], [1, 1], [0, 0]], 3) == [1, 0, 2]


def test_ties_go_to_the_smallest_index() -> None:
    assert greedy_order([[1, 0], [0, 1], [-1, 0], [0, -1]], 4) == [0, 1, 2, 3]
    assert qr_order(np.eye(3)) == [0, 1, 2]
    # Equal up to rounding is equal.
    assert greedy_order([[0.3], [0.1 + 0.2], [0.3]], 3) == [0, 1, 2]


def test_there_is_never_more_than_what_is_feasible_and_new() -> None:
    embeddings = np.random.default_rng(2).normal(size=(4, 2))
    assert greedy_order(embeddings, 0) == []
    assert greedy_order(embeddings, 5, start=[0, 1, 2, 3, 3]) == []
    assert greedy_order(embeddings, 5, feasible=[False] * 4) == []
    assert greedy_order(embeddings, 5, feasible=[False, True, False, True], start=[1]) == [3]


def test_an_infeasible_start_still_informs() -> None:
    embeddings = np.array([[10.0, 0], [9, 1], [0, 2]])
    assert greedy_order(embeddings, 1, feasible=[False, True, True]) == [1]
    assert greedy_order(embeddings, 1, feasible=[False, True, True], start=[0]) == [2]


@settings(deadline=None)
@given(generic, st.data())
def test_qr_order_is_lapacks(columns: Matrix, data: st.DataObject) -> None:
    d = columns.shape[1]
    feasible = data.draw(arrays(np.bool_, d), label="feasible")
    where = np.flatnonzero(feasible)
    rank = min(len(columns), len(where))
    order = qr_order(columns, feasible)
    expected = where[scipy_pivots(columns[:, where])] if len(where) else where
    assert order[:rank] == expected[:rank].tolist()
    assert order[rank:] == sorted(set(where.tolist()) - set(order[:rank]))
    for count in range(d + 1):
        assert qr_order(columns, feasible, count) == order[:count]


def test_qr_order_puts_dependent_columns_last() -> None:
    columns = np.array([[1.0, 2, 3, 0], [1, 2, 3, 0], [0, 0, 0, 1]])
    assert qr_order(columns) == [2, 3, 0, 1]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_random_order_keeps_the_feasible_part_of_one_permutation(
    seed: int, data: st.DataObject
) -> None:
    d = data.draw(st.integers(0, 20))
    feasible = data.draw(arrays(np.bool_, d))
    everything = random_order(d, seed)
    assert sorted(everything) == list(range(d))
    assert random_order(d, seed, feasible) == [j for j in everything if feasible[j]]


def test_random_order_depends_on_the_seed_only() -> None:
    assert random_order(99, 7) == random_order(99, 7)
    assert len({tuple(random_order(99, seed)) for seed in range(20)}) == 20


def test_random_order_is_uniform() -> None:
    first = np.bincount([random_order(4, seed)[0] for seed in range(2000)], minlength=4)
    assert (np.abs(first - 500) < 100).all()


def test_bad_arguments_are_refused() -> None:
    embeddings = np.eye(3)
    with pytest.raises(ValueError, match="count must not be negative; got -1"):
        greedy_order(embeddings, -1)
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"start must hold .* 0 and 2; got {index}"):
            greedy_order(embeddings, 1, start=[index])
    with pytest.raises(ValueError, match=r"feasible must have shape \(3,\).*got \(2,\)"):
        greedy_order(embeddings, 1, feasible=[True, False])
    with pytest.raises(ValueError, match=r"embeddings must be a matrix; got shape \(3,\)"):
        greedy_order([1, 2, 3], 1)
    with pytest.raises(ValueError, match=r"embeddings\[1, 0\] is nan"):
        greedy_order([[1.0], [np.nan]], 1)
    with pytest.raises(ValueError, match=r"columns\[0, 1\] is inf"):
        qr_order([[1.0, np.inf]])
    with pytest.raises(ValueError, match=r"got \(1,\)"):
        qr_order(np.eye(2), [True])
    with pytest.raises(ValueError, match=r"got \(1,\)"):
        random_order(2, 0, [True])
