"""Optuna's samplers in studies of their own, and OptunaHub's TPE that learns from past studies."""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, create_trial

from benchmarks.samplers.tasks import NewTask

REGISTRY: Final = "OPTUNAHUB_REGISTRY"
"""Environment variable: folder ``package`` of a copy of the registry, GitHub out of reach."""


class InStudy:
    """A sampler in a study of its own: answers what it asked for, and asks again."""

    def __init__(self, task: NewTask, sampler: BaseSampler) -> None:
        self._memory, self._distributions = task.memory, distributions(task)
        self._study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        self._trial: Trial | None = None

    def __call__(self, indices: list[int], errors: list[float]) -> int:
        """The next configuration."""
        if self._trial is not None:
            self._study.tell(self._trial, (errors[-1], self._memory[indices[-1]]))
        self._trial = self._study.ask(dict(self._distributions))
        places = tuple(self._trial.params[name] for name in self._distributions)
        return int(np.ravel_multi_index(places, _sizes(self._distributions)))


def distributions(task: NewTask) -> dict[str, IntDistribution]:
    """The place of every name's value."""
    return {
        name: IntDistribution(0, len(values) - 1)
        for name, values in task.past.space.choices.items()
    }


def _sizes(names: dict[str, IntDistribution]) -> tuple[int, ...]:
    return tuple(names[name].high + 1 for name in names)


def meta_learn_tpe(task: NewTask, seed: int) -> BaseSampler:
    """OptunaHub's sampler with a study for every past task that was measured completely.

    It was written for Optuna 4, and fails with Optuna 5 after its ten random trials: it gives a
    private function an argument that there is no more, and counts on a gamma that is set later.
    With the argument left out, and Optuna's own gamma for two objectives, it works. It learns from
    past studies from the second trial on: with ten random ones first, as by default, it is worse.
    """
    import optunahub

    name, local = "samplers/meta_learn_tpe", os.environ.get(REGISTRY)
    if local is None:
        module: Any = optunahub.load_module(name)
    else:
        module = optunahub.load_local_module(name, registry_root=local)
    from optuna.samplers._tpe.sampler import _split_trials, default_gamma_multiobjective

    def split(study: Any, trials: Any, n_below: int, constraints_enabled: bool = False) -> Any:
        return _split_trials(study, trials, n_below)

    module.MetaLearnTPESampler.sample_relative.__globals__["_split_trials"] = split
    past = [_study(task, *row) for row in zip(*task.complete, strict=True)]
    sampler = module.MetaLearnTPESampler(source_studies=past, n_startup_trials=1, seed=seed)
    for tpe in (sampler._target_sampler, *sampler._source_samplers):
        tpe._gamma = default_gamma_multiobjective
    learning: BaseSampler = sampler
    return learning


def _study(task: NewTask, errors: Any, memory: Any) -> optuna.Study:
    study, names = optuna.create_study(directions=["minimize"] * 2), distributions(task)
    places = np.indices(_sizes(names)).reshape(len(names), -1).T.tolist()
    study.add_trials(
        create_trial(
            params=dict(zip(names, place, strict=True)), distributions=dict(names), values=values
        )
        for place, values in zip(places, zip(errors, memory, strict=True), strict=True)
    )
    return study
