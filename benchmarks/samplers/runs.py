"""One run: a sampler on a new task with a seed, in a real study, answered from the corpus."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial

from benchmarks.harness.tasks import rows_of
from benchmarks.samplers.contestants import BuiltIn, Contestant, Encoding, NewTask, Ours
from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler, predict
from optuna_peppp.configurations.space import Value

BUDGETS: Final = (1, 2, 3, 6, 10, 15, 20, 30)
"""Numbers of measurements after which the samplers are compared."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a sampler did on a task.

    Attributes:
        task: Name of the task.
        sampler: Name of the sampler.
        seed: Number of the run; what seeds the sampler derives from it and the task.
        indices: The configurations it measured, in their order, repeats included.
        milliseconds: Processor time of every trial: ask, suggest and tell, without learning.
        frontiers: By number of measurements (those of ``BUDGETS``), the configurations on the
            predicted frontier by growing memory; empty for samplers that predict nothing.
    """

    task: str
    sampler: str
    seed: int
    indices: tuple[int, ...]
    milliseconds: tuple[float, ...]
    frontiers: dict[int, tuple[int, ...]]


def new_task(matrix: ErrorMatrix, row: int) -> NewTask:
    """Leaves out all rows of the task of ``row``, whatever their network."""
    others = [other for other, task in enumerate(matrix.tasks) if task != matrix.tasks[row]]
    names = tuple(name_of(matrix, other) for other in others)
    past = replace(rows_of(matrix, others), tasks=names, models=())
    return NewTask(row, name_of(matrix, row), matrix.errors[row], matrix.memory[row], past)


def name_of(matrix: ErrorMatrix, row: int) -> str:
    """The task of a row, with its network where there are several."""
    several = len(set(matrix.models)) > 1
    return f"{matrix.tasks[row]} ({matrix.models[row]})" if several else matrix.tasks[row]


def measure(name: str, contestant: Contestant, task: NewTask, trials: int, seed: int) -> Run:
    """Runs a sampler in a study of its own; it may stop early when nothing is left to measure.

    Raises:
        RuntimeError: A trial does not hold what the corpus says of its configuration.
    """
    with warnings.catch_warnings():
        if isinstance(contestant, BuiltIn):
            warnings.simplefilter("ignore")  # Theirs to mend.
        return _measure(name, contestant, task, trials, seed)


def _measure(name: str, contestant: Contestant, task: NewTask, trials: int, seed: int) -> Run:
    space = task.past.space
    own_seed = int(np.random.SeedSequence((seed, task.row)).generate_state(1)[0])
    encoding: Encoding = "categorical"
    memory = task.memory
    meta: MetaModel | None = None
    sampler: BaseSampler
    if isinstance(contestant, Ours):
        meta = contestant.learn(task)
        sampler = PEPPPSampler(meta, memory, strategy=contestant.strategy, seed=own_seed)
    else:
        encoding, memory = contestant.encoding, memory / contestant.unit
        sampler = contestant.create(own_seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    indices: list[int] = []
    milliseconds: list[float] = []
    frontiers: dict[int, tuple[int, ...]] = {}
    begin = time.process_time()

    def objective(trial: Trial) -> tuple[float, float]:
        index = space.index(suggest(trial, space, encoding))
        return float(task.errors[index]), float(memory[index])

    def record(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal begin
        milliseconds.append(1000 * (time.process_time() - begin))
        index = space.index(decode(trial.params, space, encoding))
        if trial.values != [task.errors[index], memory[index]]:
            raise RuntimeError(
                f"{name} on {task.name}: trial {trial.number} holds {trial.values}, but "
                f"{space.params(index)} has {[task.errors[index], memory[index]]}"
            )
        indices.append(index)
        if meta is not None and len(indices) in BUDGETS:
            frontier = predict(study, meta, task.memory).frontier
            frontiers[len(indices)] = tuple(frontier.tolist())
        begin = time.process_time()

    study.optimize(objective, n_trials=trials, callbacks=[record])
    return Run(task.name, name, seed, tuple(indices), tuple(milliseconds), frontiers)


def suggest(trial: Trial, space: ConfigurationSpace, encoding: Encoding) -> dict[str, Value]:
    """Asks for every name of the space."""
    if encoding == "categorical":
        return space.suggest(trial)
    return {
        name: values[trial.suggest_int(name, 0, len(values) - 1)]
        for name, values in space.choices.items()
    }


def decode(
    params: dict[str, Any], space: ConfigurationSpace, encoding: Encoding
) -> dict[str, Value]:
    """The parameters of a finished trial as the space spells them."""
    if encoding == "categorical":
        return params
    return {name: space.choices[name][position] for name, position in params.items()}
