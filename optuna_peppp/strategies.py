"""Strategies that can be evaluated: which configuration to measure next, given what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.design import greedy_order, qr_order, random_order
from optuna_peppp.meta import MetaModel


class Strategy(Protocol):
    """Chooses the next configuration to measure."""

    def __call__(
        self,
        meta: MetaModel,
        feasible: NDArray[np.bool_],
        indices: Sequence[int],
        errors: Sequence[float],
        seed: int,
    ) -> int:
        """The next configuration.

        Args:
            meta: What the other tasks tell.
            feasible: Shape (d,), true where a configuration may be measured; one that was not
                measured remains.
            indices: The configurations measured so far, in their order.
            errors: Their errors.
            seed: Fixes all random choices on this task.

        Returns:
            The index of a feasible configuration outside ``indices``.
        """
        ...


def _ed_mf(
    meta: MetaModel,
    feasible: NDArray[np.bool_],
    indices: Sequence[int],
    errors: Sequence[float],
    seed: int,
) -> int:
    return greedy_order(meta.embeddings, 1, feasible=feasible, start=indices)[0]


def _qr_mf(
    meta: MetaModel,
    feasible: NDArray[np.bool_],
    indices: Sequence[int],
    errors: Sequence[float],
    seed: int,
) -> int:
    return qr_order(meta.errors, feasible)[len(indices)]


def _random_mf(
    meta: MetaModel,
    feasible: NDArray[np.bool_],
    indices: Sequence[int],
    errors: Sequence[float],
    seed: int,
) -> int:
    return random_order(len(meta.space), seed, feasible)[len(indices)]


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "ed-mf": _ed_mf,
    "qr-mf": _qr_mf,
    "random-mf": _random_mf,
}
"""The strategies of :class:`optuna_peppp.PEPPPSampler`, which choose the same configurations."""
