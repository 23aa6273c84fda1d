"""The prediction: a task's completed errors drawn against memory, or another cost.

Its intervals and probabilities are about what measurements would find on this task's own test set,
with the seeds that were used: not about other images, nor other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora.measurements import averaged, check_measurements, validate_test_images
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.pareto import REFERENCE, predicted_frontier, scale

_DRAWS: Final = 1000
_DRAWN: Final = 5 * 10**7
"""Errors drawn at most, of 8 bytes: of more than 50,000 configurations there are fewer draws."""

_INTERVAL: Final = (0.05, 0.95)
RIGHT: Final = 0.01
"""A recommendation is right whose error is within this of the lowest."""

_LIKELY: Final = 0.5
"""Without a cap, a configuration is good enough that is right with this probability."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The configuration to use under a memory cap.

    Attributes:
        index: Its index in the space.
        params: Its parameters.
        error: Its test error: measured, or predicted.
        std: Standard error of ``error``; 0 where measured.
        memory: Bytes, or its other cost in the unit of that.
        measured: Whether ``error`` was measured.
        probability: That no allowed configuration would be found to have an error lower by more
            than 0.01, on this test set and with these seeds.
    """

    index: int
    params: dict[str, Value]
    error: float
    std: float
    memory: float
    measured: bool
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Errors and memory of all d configurations on one task.

    Attributes:
        space: The d configurations.
        cost: Memory of every configuration, or what else was given in its place.
        mean: Shape (d,), the error: measured where it was, else predicted.
        std: Shape (d,), standard deviation of what a measurement would find; 0 where measured.
        measured: Shape (d,), true where the error was measured.
        draws: Shape (s, d), equally likely outcomes of measuring everything.
        violating: Indices of the configurations that were found to violate a constraint: they are
            on no frontier and never recommended.
    """

    space: ConfigurationSpace
    cost: Cost
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    measured: NDArray[np.bool_]
    draws: NDArray[np.float64]
    violating: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))

    @classmethod
    def from_measurements(
        cls,
        meta: MetaModel,
        memory: ArrayLike | Cost,
        indices: ArrayLike,
        errors: ArrayLike,
        *,
        test_images: int | None = None,
        violating: ArrayLike = (),
    ) -> Self:
        """Keeps what was measured and predicts the rest by the posterior.

        Args:
            meta: The meta-model.
            memory: Shape (d,), bytes of every configuration of ``meta.space``, or another cost.
            indices: Shape (m,), the measured configurations; repeats are averaged.
            errors: Shape (m,), their errors in [0, 1].
            test_images: How many images an error is counted on, where they are far fewer than
                the past tasks': what counting as many adds is part of the meta-model's noise
                unless that was fitted with ``test_images``.
            violating: Indices of the configurations that violate a constraint.

        Raises:
            ValueError: A shape is wrong, a memory or ``test_images`` is not positive, an index is
                out of range or an error is not in [0, 1].
        """
        cost = Cost.of(memory, meta.space)
        checked, found = check_measurements(indices, errors, len(meta.space))
        validate_test_images(test_images)
        posterior = meta.prior.condition(checked, found, test_images=test_images)
        moments = posterior.moments()
        mean, std = np.clip(moments.mean, 0.0, 1.0), moments.std
        draws = posterior.draws(min(_DRAWS, _DRAWN // len(mean)), seed=0)
        repeated = averaged(checked, found, len(meta.space))
        measured = ~np.isnan(repeated)
        mean[measured] = draws[:, measured] = repeated[measured]
        std[measured] = 0.0
        excluded = np.asarray(violating, dtype=np.intp)
        return cls(meta.space, cost, mean, std, measured, draws, excluded)

    @property
    def memory(self) -> NDArray[np.float64]:
        """Shape (d,), bytes, or the other cost in its unit."""
        return self.cost.array

    @property
    def frontier(self) -> NDArray[np.intp]:
        """Indices of the nondominated configurations by growing memory.

        Of configurations that agree exactly in error and memory one stays, a measured one if
        there is any: the frontier loses no point to a duplicate.
        """
        allowed = np.flatnonzero(self._allowed)
        arrays = (self.memory[allowed], self.mean[allowed], self.measured[allowed])
        return allowed[predicted_frontier(*arrays)]

    @property
    def interval(self) -> NDArray[np.float64]:
        """Shape (2, d), the bounds of the central 90% interval of every error."""
        return np.quantile(self.draws, _INTERVAL, axis=0)

    @property
    def band(self) -> NDArray[np.float64]:
        """Shape (2, f), the 90% band of the frontier.

        At the memory of each of its f points, where the lowest error of all configurations that
        need no more will be found.
        """
        order, lowest = self._lowest()
        needed = self.memory[order]
        last = np.searchsorted(needed, self.memory[self.frontier], side="right") - 1
        return np.quantile(lowest[:, last], _INTERVAL, axis=0)

    @property
    def dominated_area(self) -> tuple[float, float, float]:
        """Expected area that the task's configurations dominate, and its 90% interval.

        Memory is scaled to [0, 1], the least to the most; the reference is memory 1.05, error 1.
        The frontier of the expected errors dominates less than is to be expected: of many
        uncertain errors, the lowest is lower than the lowest mean.
        """
        order, lowest = self._lowest()
        end, worst = REFERENCE
        areas = (worst - lowest) @ np.diff(scale(self.memory)[order], append=end)
        low, high = np.quantile(areas, _INTERVAL)
        return float(areas.mean()), float(low), float(high)

    @property
    def _allowed(self) -> NDArray[np.bool_]:
        """Shape (d,), true where no constraint is known to be violated."""
        allowed = np.ones(len(self.memory), dtype=np.bool_)
        allowed[self.violating] = False
        return allowed

    def _lowest(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Allowed configurations by growing memory; in every draw, the lowest error up to each."""
        order = np.argsort(self.memory, kind="stable")
        order = order[self._allowed[order]]
        return order, np.minimum.accumulate(self.draws[:, order], axis=1)

    def recommend(self, memory_cap: str | float | None = None) -> Recommendation:
        """The configuration to use.

        With a cap, the nondominated configuration with the highest allowable memory (paper,
        Section 3.2). Without one, the nondominated configuration from which on more memory buys
        no lower error that could be told from noise: the cheapest whose error is within 0.01 of
        the lowest of all with a probability of at least one half; where there is none, the one
        of the highest probability.

        Args:
            memory_cap: The most it may need, in bytes or as text such as ``"275MB"``, in the unit
                of the cost where that is another; None for no cap.

        Raises:
            ValueError: The cap cannot be read, every configuration needs more, or all violate a
                constraint.
        """
        if not self._allowed.any():
            raise ValueError(
                "the study must hold a configuration that violates no constraint; all of them do"
            )
        cap = self.cost.parse(memory_cap)
        candidates = self.frontier[self.memory[self.frontier] <= cap]
        if candidates.size == 0:
            smallest = self.memory[self._allowed].min()
            raise ValueError(
                f"memory_cap must be at least {self.cost.exactly(smallest)}, the smallest "
                f"{self.cost.name} of a configuration; got {memory_cap!r}"
            )
        lowest = self.draws[:, self._allowed & (self.memory <= cap)].min(axis=1)
        right = (self.draws[:, candidates] <= lowest[:, None] + RIGHT).mean(axis=0)
        place = len(right) - 1
        if memory_cap is None:
            place = int(np.argmax(right >= min(_LIKELY, right.max())))
        index = int(candidates[place])
        return Recommendation(
            index,
            self.space.params(index),
            float(self.mean[index]),
            float(self.std[index]),
            float(self.memory[index]),
            bool(self.measured[index]),
            float(right[place]),
        )
