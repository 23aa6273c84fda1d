"""Past tasks, played through as if they were new, judge the committee.

The tasks are dealt to a few folds. Some tasks of each fold are played with what the others tell:
the committee measures, all members with the same vote, and at every step it is written down what
each candidate (all members, all but one, one alone) would have chosen, and by how much of what
remained its choice would have made the dominated area grow. Another candidate than all members
takes over only if a t-test of the paired differences over the tasks is sure that it gained more: of
a few tasks, the luckiest candidate is seldom the best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.growth import growth
from optuna_peppp.meta.averaging import Fitted, Learned
from optuna_peppp.meta.committee import EVERYONE, MEMBERS, Committee, expected
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.worlds import Worlds, known_memory
from optuna_peppp.pareto import hypervolume, reference

_FOLDS: Final = 4
_PLAYED: Final = 12
"""Tasks that are played, at most."""

_STEPS: Final = 20
_DOUBT: Final = 0.025
"""Probability, by Student's t, with which a candidate that takes over gains no more than all."""

_ENOUGH: Final = 6
"""Past tasks from which on the portfolio counts no more than each of the others."""

_MARGIN: Final = 2.0
"""A task resembles no past one where the nearest world is so many times as far as it ever was from
one that was played: of a dozen, one more would otherwise be the farthest every thirteenth time."""

_SMALLEST: Final = 1e-9
"""Misfit of the nearest world, at least."""

_ALL: Final = "all"
_CANDIDATES: Final = {
    _ALL: EVERYONE,
    **{f"all but {name}": Committee.voting(set(MEMBERS) - {name}) for name in MEMBERS},
    **{f"{name} alone": Committee.voting({name}) for name in MEMBERS},
}


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What past tasks say of the committee.

    Attributes:
        committee: Who votes, and how far a task may be from all past ones.
        gains: By candidate, mean over tasks and steps of the share of what remained that its
            choice would have gained.
        chosen: Name of the candidate.
        tasks: How many tasks were played.
    """

    committee: Committee
    gains: dict[str, float]
    chosen: str
    tasks: int

    def __str__(self) -> str:
        if not self.tasks:
            return "What to measure next: all members vote; too few past tasks to judge them."
        shares = "; ".join(f"{name}: {gain:.3f}" for name, gain in self.gains.items())
        return (
            f"What to measure next: {self.chosen} of posterior, aligned worlds, conditioned worlds "
            f"and portfolio. Share of what remains that a measurement gains on {self.tasks} past "
            f"tasks: {shares}."
        )

    @classmethod
    def through(
        cls,
        matrix: ErrorMatrix,
        completed: NDArray[np.float64],
        learned: Learned,
        test_images: NDArray[np.float64] | None,
    ) -> Self:
        """Plays past tasks, where their errors and memory are known.

        Args:
            matrix: Errors and memory of n tasks under d configurations.
            completed: Shape (n, d), the errors, completed.
            learned: The prior whose transform and noise model are taken.
            test_images: Shape (n,), of the tasks, where known.
        """
        games = [game.play() for game in _games(matrix, completed, learned, test_images)]
        # Of few tasks little can be learned but what they have in common.
        trust = np.array(
            [1.0 if name == "portfolio" else len(completed) / _ENOUGH for name in MEMBERS]
        )
        trust = np.minimum(trust, 1.0)
        if len(games) < 2:
            return cls(Committee(trust, np.inf), {}, _ALL, 0)
        shares = np.array([share for share, _ in games])
        best = list(_CANDIDATES)[preferred(shares)]
        farthest = _MARGIN * max(farthest for _, farthest in games)
        return cls(
            Committee(_CANDIDATES[best].weights * trust, farthest),
            dict(zip(_CANDIDATES, shares.mean(axis=0).tolist(), strict=True)),
            best,
            len(games),
        )


def preferred(shares: NDArray[np.float64]) -> int:
    """The candidate that surely gained most, the first unless another is surely better.

    Args:
        shares: Shape (t, c), what t >= 2 tasks say of c candidates.
    """
    paired = shares - shares[:, :1]
    error = paired.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return int((paired.mean(axis=0) + stdtrit(len(shares) - 1, _DOUBT) * error).argmax())


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """A past task to play, of d configurations, and what the tasks of the other folds tell."""

    prior: TaskPrior
    worlds: Worlds
    memory: NDArray[np.float64]
    errors: NDArray[np.float64]
    test_images: int | None

    def play(self) -> tuple[NDArray[np.float64], float]:
        """Lets the committee measure.

        Returns:
            For every candidate, the mean share of what remained that its choices would have
            gained; and the largest misfit of the nearest conditioned world, for each measurement.
        """
        memory, errors = self.memory, self.errors
        bounds = reference(memory)
        points = np.column_stack((memory, errors))
        everything = hypervolume(points, bounds)
        choices = np.ones(len(memory), dtype=np.bool_)
        indices = np.empty(0, dtype=np.intp)
        farthest, shares = _SMALLEST, []
        for _ in range(min(_STEPS, len(memory) - 1)):
            found = errors[indices]
            posterior = self.prior.condition(indices, found, test_images=self.test_images)
            grown = expected(self.worlds, posterior.moments(), memory, indices, found)
            if indices.size:
                remaining = everything - hypervolume(points[indices], bounds)
                if remaining <= 0:
                    break
                misfit = self.worlds.conditioned(indices, found).misfit.min()
                farthest = max(farthest, float(misfit) / indices.size)
                gained = growth(memory, errors[None], memory[indices], found[None])[0]
                chosen = [int(one.votes(grown, choices).argmax()) for one in _CANDIDATES.values()]
                shares.append(gained[chosen] / remaining)
            index = int(_CANDIDATES[_ALL].votes(grown, choices).argmax())
            indices, choices[index] = np.append(indices, index), False
        return np.mean(shares, axis=0) if shares else np.zeros(len(_CANDIDATES)), farthest


def _games(
    matrix: ErrorMatrix,
    completed: NDArray[np.float64],
    learned: Learned,
    test_images: NDArray[np.float64] | None,
) -> Iterator[Game]:
    """The tasks to play."""
    errors, memory = matrix.errors, matrix.memory
    chosen, n = learned.candidates[0], len(errors)
    folds = min(_FOLDS, n)
    for fold in range(folds):
        mine = np.arange(n) % folds == fold
        if n - mine.sum() < 2:
            return
        others = errors[~mine]
        known = ~np.isnan(others).all(axis=0)
        images = None if test_images is None else test_images[~mine]
        fitted = Fitted.to(
            others[:, known],
            images,
            chosen.transform,
            chosen.noise,
            min(learned.rank, len(others) - 1),
        )
        prior = fitted.prior()
        for row in np.flatnonzero(mine)[: _PLAYED // folds].tolist():
            playable = known & ~np.isnan(errors[row] + memory[row])
            if playable.sum() > 1:
                yield Game(
                    prior.restricted(np.flatnonzero(playable[known])),
                    Worlds.of(
                        completed[~mine][:, playable], known_memory(memory[~mine][:, playable])
                    ),
                    memory[row, playable],
                    errors[row, playable],
                    None if test_images is None else int(test_images[row]),
                )
