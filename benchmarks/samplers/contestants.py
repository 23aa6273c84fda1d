"""Who takes part: Optuna's samplers and ours, each as a user would create it.

Every built-in sampler has its default settings. The names of a space reach it in one of two
encodings: "categorical", the choices themselves, or "integer", the position of the choice in the
space's order (formats by exponent and mantissa, learning rates ascending), one integer a name.
Random, brute-force and NSGA-II's uniform crossover draw the same from both.

Memory is told in bytes, as a user would: GPSampler standardizes both objectives itself, NSGA-II
divides crowding distances by the range, and TPE's ranks and shares of hypervolume do not depend on
the unit. BoTorchSampler standardizes for its models only, not for its acquisition function; tried
on four tasks, it did worse in bytes on one: it is told MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from benchmarks.harness.script import installed
from optuna_peppp import ErrorMatrix, MetaModel
from optuna_peppp.choices import Strategy

Encoding = Literal["categorical", "integer"]

MIB: Final = 2**20
"""Bytes."""


@dataclass(frozen=True, eq=False)
class NewTask:
    """A task that is left out of a corpus, errors and memory (d,) in bytes, and the others."""

    row: int
    name: str
    errors: NDArray[np.float64]
    memory: NDArray[np.float64]
    past: ErrorMatrix

    @cached_property
    def meta(self) -> MetaModel:
        """What the other tasks tell; learned once, when it is first needed."""
        return MetaModel.fit(self.past)


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A sampler that knows nothing of past tasks, created with a seed.

    ``unit``: bytes in the unit of memory that it is told.
    """

    label: str
    create: Callable[[int], BaseSampler]
    encoding: Encoding = "categorical"
    unit: int = 1
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ours:
    """A strategy of :class:`PEPPPSampler`, and what it knows of past tasks."""

    label: str
    strategy: Strategy
    learn: Callable[[NewTask], MetaModel] = lambda task: task.meta


Contestant = BuiltIn | Ours


def _tpe_multivariate(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True)


def _botorch(seed: int) -> BaseSampler:
    sampler: BaseSampler = import_module("optuna_integration").BoTorchSampler(seed=seed)
    return sampler


_BOTORCH: Final = ("optuna-integration", "botorch")


def _cold(task: NewTask) -> MetaModel:
    return MetaModel.cold(task.past.space)


CONTESTANTS: Final[Mapping[str, Contestant]] = {
    "random": BuiltIn("random", lambda seed: RandomSampler(seed)),
    "brute-force": BuiltIn("brute force", lambda seed: BruteForceSampler(seed)),
    "nsga2": BuiltIn("NSGA-II", lambda seed: NSGAIISampler(seed=seed)),
    "tpe-categorical": BuiltIn("TPE, categorical", lambda seed: TPESampler(seed=seed)),
    "tpe-integer": BuiltIn("TPE, integers", lambda seed: TPESampler(seed=seed), "integer"),
    "tpe-multivariate-categorical": BuiltIn("TPE, multivariate, categorical", _tpe_multivariate),
    "tpe-multivariate-integer": BuiltIn(
        "TPE, multivariate, integers", _tpe_multivariate, "integer"
    ),
    "gp-categorical": BuiltIn("GP, categorical", lambda seed: GPSampler(seed=seed)),
    "gp-integer": BuiltIn("GP, integers", lambda seed: GPSampler(seed=seed), "integer"),
    "botorch-categorical": BuiltIn("BoTorch, categorical", _botorch, "categorical", MIB, _BOTORCH),
    "botorch-integer": BuiltIn("BoTorch, integers", _botorch, "integer", MIB, _BOTORCH),
    "qr-mf": Ours("ours, QR-MF", "qr-mf"),
    "ed-mf": Ours("ours, ED-MF", "ed-mf"),
    "cold-start": Ours("ours, no past tasks", "bayesian", _cold),
    "bayesian": Ours("ours, Bayesian", "bayesian"),
}
"""Everybody by the name on the command line."""


def missing(contestant: Contestant) -> list[str]:
    """The packages that a contestant needs and that are not installed."""
    packages = contestant.packages if isinstance(contestant, BuiltIn) else ()
    return [package for package in packages if installed(package) is None]
