"""Who takes part: Optuna's samplers, ours, and rivals that know what ours knows.

Everybody gets what it can use. Optuna's samplers get every name as the place of its value in the
space's order, one integer a name (of names without an order, in that of their memory), and memory
in bytes. Only their TPE beside past tasks, ours and the rivals know past tasks; only ours and
BoTorch know memory beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks.harness.script import installed
from benchmarks.samplers.rivals import optuna_past, orders
from benchmarks.samplers.tasks import Choose, NewTask
from optuna_peppp import MetaModel
from optuna_peppp.acquisition.strategies import STRATEGIES, Progress, Strategy, posterior_mean
from optuna_peppp.growth import expected_growth

Start = Callable[[NewTask, int], Choose]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who chooses what to measure.

    Attributes:
        label: As tables call it.
        start: Begins on a new task with a seed.
        packages: What it needs, its own first: the one whose version is recorded.
    """

    label: str
    start: Start
    packages: tuple[str, ...] = ("optuna",)

    @property
    def version(self) -> str:
        """The package and its version."""
        return f"{self.packages[0]} {installed(self.packages[0])}"

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [package for package in self.packages if installed(package) is None]


def _in_study(create: Callable[[NewTask, int], BaseSampler]) -> Start:
    def start(task: NewTask, seed: int) -> Choose:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna_past.InStudy(task, create(task, seed))

    return start


def _ours(
    strategy: Strategy, learn: Callable[[NewTask], MetaModel] = lambda task: task.meta
) -> Start:
    def start(task: NewTask, seed: int) -> Choose:
        meta, everywhere = learn(task), np.ones(len(task.errors), dtype=np.bool_)

        def choose(indices: list[int], errors: list[float]) -> int:
            return strategy.choose(
                Progress(meta, task.memory, everywhere, everywhere, indices, errors, seed)
            )

        return choose

    return start


def _largest_improvement(progress: Progress) -> int:
    """Plain expected hypervolume improvement by the posterior, no other factor."""
    indices = list(progress.indices)
    moments = progress.meta.prior.condition(indices, progress.errors).moments()
    improvement = expected_growth(
        progress.memory,
        moments.mean,
        moments.std,
        progress.memory[indices],
        np.array(progress.errors, dtype=np.float64),
    )
    return int(np.where(progress.choices, improvement, -np.inf).argmax())


def _loaded(module: str, function: str) -> Start:
    """Imports what needs a package not before it begins."""

    def start(task: NewTask, seed: int) -> Choose:
        begin: Start = getattr(import_module(f"benchmarks.samplers.rivals.{module}"), function)
        return begin(task, seed)

    return start


_PEPPP: Final = ("optuna_peppp",)

CONTESTANTS: Final[Mapping[str, Contestant]] = {
    "random": Contestant("random", _in_study(lambda _, seed: RandomSampler(seed))),
    "nsga2": Contestant("NSGA-II", _in_study(lambda _, seed: NSGAIISampler(seed=seed))),
    "tpe": Contestant("TPE", _in_study(lambda _, seed: TPESampler(seed=seed))),
    "tpe-multivariate": Contestant(
        "TPE, multivariate", _in_study(lambda _, seed: TPESampler(seed=seed, multivariate=True))
    ),
    "gp": Contestant("GP", _in_study(lambda _, seed: GPSampler(seed=seed))),
    "meta-learn-tpe": Contestant(
        "OptunaHub, meta_learn_tpe", _in_study(optuna_past.meta_learn_tpe), ("optunahub",)
    ),
    "botorch": Contestant("BoTorch, known memory", _loaded("botorch_known", "cold"), ("botorch",)),
    "botorch-rgpe": Contestant(
        "BoTorch, known memory, RGPE", _loaded("botorch_known", "ensemble"), ("botorch",)
    ),
    "baybe": Contestant("BayBE, TaskParameter", _loaded("baybe_tasks", "start"), ("baybe",)),
    "syne-tune": Contestant(
        "Syne Tune, zero-shot", orders.syne_tune, ("syne-tune", "pandas", "huggingface-hub")
    ),
    "average-rank": Contestant("average rank of past tasks", orders.average_rank, _PEPPP),
    "portfolio": Contestant("static portfolio", _ours(STRATEGIES["portfolio"]), _PEPPP),
    "qr-mf": Contestant("ours, QR-MF", _ours(STRATEGIES["qr-mf"]), _PEPPP),
    "ed-mf": Contestant("ours, ED-MF", _ours(STRATEGIES["ed-mf"]), _PEPPP),
    "improvement": Contestant(
        "ours, plain EHVI", _ours(Strategy(_largest_improvement, posterior_mean)), _PEPPP
    ),
    "cold-start": Contestant(
        "ours, no past tasks",
        _ours(STRATEGIES["bayesian"], lambda task: MetaModel.cold(task.past.space)),
        _PEPPP,
    ),
    "bayesian": Contestant("ours, default", _ours(STRATEGIES["bayesian"]), _PEPPP),
}
"""Everybody by the name on the command line."""
