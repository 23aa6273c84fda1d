"""A synthetic task whose samplers are timed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, create_trial
from scipy.special import expit

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler

TASKS, RANK = 20, 3
SEED: Final = 0
TPE: Final = "tpe-multivariate"


@dataclass(frozen=True, slots=True, eq=False)
class NewTask:
    """A synthetic task, its memory in bytes, and what those that came before it tell."""

    memory: NDArray[np.float64]
    errors: NDArray[np.float64]
    meta: MetaModel

    @classmethod
    def of(cls, learning_rates: int) -> Self:
        """In the paper's space, times learning rates if there are several."""
        choices = ConfigurationSpace.paper().choices
        if learning_rates > 1:
            choices["learning_rate"] = tuple(np.geomspace(1e-5, 1e-1, learning_rates).tolist())
        space = ConfigurationSpace(choices)
        precisions = map(space.precision, range(len(space)))
        memory = np.array([3e6 * p.format_a.bits + 1e6 * p.format_b.bits for p in precisions])
        generator = np.random.default_rng(SEED)
        shape = (TASKS + 1, len(space))
        latent = generator.standard_normal((shape[0], RANK))
        log_odds = 1 - 2 * (memory - memory.min()) / np.ptp(memory)
        log_odds = log_odds + 0.5 * latent @ generator.standard_normal((RANK, shape[1]))
        errors = expit(log_odds + 0.1 * generator.standard_normal(shape))
        names = tuple(f"task {row}" for row in range(TASKS))
        past = ErrorMatrix(space, names, errors[1:], np.tile(memory, (TASKS, 1)))
        return cls(memory, errors[0], MetaModel.fit(past))

    def trials(self, count: int) -> list[FrozenTrial]:
        """Finished ones, of nine tenths of the configurations; fewer are the first of more.

        Where these are fewer than ``count``, some are measured twice.
        """
        d, distributions = len(self.meta.space), self.meta.space.distributions()
        drawn = np.random.default_rng(SEED).permutation(d)[: d * 9 // 10]
        return [
            create_trial(
                params=self.meta.space.params(index),
                distributions={**distributions},
                values=[float(self.errors[index]), float(self.memory[index])],
            )
            for index in np.resize(drawn, count).tolist()
        ]

    def samplers(self) -> dict[str, BaseSampler]:
        """Everybody, by name, as a user would create them."""
        ours = partial(PEPPPSampler, self.meta, self.memory, seed=SEED)
        return {
            "bayesian": ours(),
            "cold-start": PEPPPSampler(MetaModel.cold(self.meta.space), self.memory, seed=SEED),
            "ed-mf": ours(strategy="ed-mf"),
            "qr-mf": ours(strategy="qr-mf"),
            TPE: TPESampler(multivariate=True, seed=SEED),
            "gp": GPSampler(seed=SEED),
        }
