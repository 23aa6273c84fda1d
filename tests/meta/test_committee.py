from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_peppp.growth import expected_growth, growth
from optuna_peppp.meta.committee import (
    EVERYONE,
    MEMBERS,
    Committee,
    expected,
    portfolio_growth,
)
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.worlds import Worlds
from optuna_peppp.pareto import REFERENCE, hypervolume, scale

RNG = np.random.default_rng(1)
D = 8
WORLDS = Worlds.of(RNG.uniform(0.1, 0.9, (6, D)))
MEMORY = RNG.uniform(1, 2, D)
PRIOR = TaskPrior(
    (FactorModel(RNG.uniform(0.2, 0.8, D), RNG.normal(size=(D, 2)) * 0.1, np.full(D, 0.01)),),
    np.ones((1, 2)),
    np.ones((1, 1)),
)
INDICES, FOUND = np.array([1, 4]), np.array([0.6, 0.4])


def moments() -> Moments:
    return PRIOR.condition(INDICES, FOUND).moments()


@pytest.mark.parametrize("own", [False, True])
def test_the_portfolio_grows_the_mean_dominated_area_most(own: bool) -> None:
    """Greedily, by hypervolumes; each past task under its own memory, where that is known."""
    memory = RNG.uniform(1, 2, (6, D)) if own else np.tile(MEMORY, (6, 1))
    memory[3] = 10 * memory[1]  # counts relative to its span
    worlds = Worlds.of(WORLDS.errors, memory if own else None)
    assert len(worlds.memories) == (5 if own else 0)
    measured = list[int]()
    for _ in range(D):
        means = [
            np.mean(
                [
                    hypervolume(np.column_stack((scale(needed), world))[[*measured, j]], REFERENCE)
                    for needed, world in zip(memory, worlds.errors, strict=True)
                ]
            )
            for j in range(D)
        ]
        grown = portfolio_growth(worlds, MEMORY, np.array(measured, dtype=np.intp))
        before = 0.0 if not measured else means[measured[0]]
        np.testing.assert_allclose(grown, np.array(means) - before, atol=1e-8)
        measured.append(int(grown.argmax()))


def test_members_expect_what_they_are_said_to() -> None:
    grown = expected(WORLDS, moments(), MEMORY, INDICES, FOUND)
    assert tuple(grown) == MEMBERS
    at, here = MEMORY[INDICES], moments()
    np.testing.assert_allclose(
        grown["posterior"], expected_growth(MEMORY, here.mean, here.std, at, FOUND)
    )
    aligned, conditioned = (
        WORLDS.aligned(INDICES, FOUND),
        WORLDS.conditioned(INDICES, FOUND),
    )
    for name, drawn in (("aligned", aligned), ("conditioned", conditioned)):
        each = [growth(MEMORY, world[None], at, FOUND[None])[0] for world in drawn.errors]
        np.testing.assert_allclose(grown[name], drawn.weights @ np.array(each))
    np.testing.assert_allclose(grown["portfolio"], portfolio_growth(WORLDS, MEMORY, INDICES))


def test_before_anything_is_measured_only_the_portfolio_votes() -> None:
    nothing = np.empty(0, dtype=np.intp)
    grown = expected(WORLDS, PRIOR.condition([], []).moments(), MEMORY, nothing, np.empty(0))
    assert list(grown) == ["portfolio"]
    # Also where it has no weight later.
    without = Committee.voting({"posterior"})
    votes = without.votes(grown, np.ones(D, dtype=np.bool_))
    np.testing.assert_allclose(votes, grown["portfolio"] / grown["portfolio"].max())


@pytest.mark.parametrize("farther", [False, True])
def test_a_task_unlike_all_past_ones_is_left_to_the_posterior(farther: bool) -> None:
    nearest = WORLDS.conditioned(INDICES, FOUND).misfit.min() / len(INDICES)
    limit = nearest * (0.99 if farther else 1.01)
    grown = expected(WORLDS, moments(), MEMORY, INDICES, FOUND, limit)
    assert tuple(grown) == (("posterior",) if farther else MEMBERS)


def votes_of(
    rows: dict[str, list[float]], choices: list[bool], *weights: float
) -> NDArray[np.float64]:
    grown = {name: np.array(row) for name, row in rows.items()}
    return Committee(np.array(weights), np.inf).votes(grown, np.array(choices))


def test_votes_by_hand() -> None:
    rows = {
        "posterior": [8.0, 2.0, 4.0],
        "aligned": [0.0, 1.0, 0.5],
        "conditioned": [0.0, 0.0, 0.0],
        "portfolio": [9.0, 0.1, 0.2],
    }
    # The first may not be chosen: maxima are 4, 1 and 0.2, and who sees no gain has no vote.
    found = votes_of(rows, [False, True, True], 1, 2, 5, 1)
    assert found == pytest.approx([0, 0.5 + 2 + 0.5, 1 + 1 + 1])
    assert votes_of({"portfolio": [1.0, 2.0]}, [True, True], 1, 0, 0, 0) == pytest.approx([0.5, 1])


def test_optimism_is_no_weight() -> None:
    grown = expected(WORLDS, moments(), MEMORY, INDICES, FOUND)
    everything = np.ones(D, dtype=np.bool_)
    louder = grown | {"posterior": 1000 * grown["posterior"]}
    np.testing.assert_allclose(
        EVERYONE.votes(louder, everything), EVERYONE.votes(grown, everything)
    )


@pytest.mark.parametrize(
    ("weights", "farthest"),
    [([0, 0, 0, 0], 1), ([1, 1, 1, -1], 1), ([1, 1, 1, 1], 0), ([1, 1, 1], 1)],
)
def test_bad_committees_are_refused(weights: list[float], farthest: float) -> None:
    with pytest.raises(ValueError, match="weights"):
        Committee(np.array(weights), farthest)
