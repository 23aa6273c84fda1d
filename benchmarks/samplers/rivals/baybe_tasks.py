"""BayBE with past tasks in a TaskParameter, two targets and a discrete space.

It learns memory as a second target: nothing in BayBE 0.15 is told a target beforehand, but a
configuration's features hold its memory. Of ten past tasks it gets some configurations, drawn at
random, for its Gaussian process holds all measurements in one dense matrix.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import torch
from baybe.acquisition import qLogNoisyExpectedHypervolumeImprovement
from baybe.objectives import ParetoObjective
from baybe.parameters import CategoricalParameter, CustomDiscreteParameter, TaskParameter
from baybe.recommenders import BotorchRecommender
from baybe.searchspace import SearchSpace
from baybe.targets import NumericalTarget

from benchmarks.samplers.tasks import Choose, NewTask
from optuna_peppp.pareto import REFERENCE, scale

PAST: Final = 10
"""Past tasks."""

EACH: Final = 10
"""Configurations of each of them."""


def start(task: NewTask, seed: int) -> Choose:
    """Begins on a new task."""
    torch.set_num_threads(1)
    rng, memory = np.random.default_rng(seed), scale(task.memory)
    errors, past_memory = task.complete
    some = rng.permutation(len(errors))[:PAST]
    labels = [f"configuration {index}" for index in range(len(memory))]
    if task.named:
        configuration = CategoricalParameter("configuration", labels)
    else:
        features = pd.DataFrame(task.features, index=labels).add_prefix("feature")
        configuration = CustomDiscreteParameter("configuration", features, decorrelate=False)
    names = ["new", *(f"past {row}" for row in some)]
    space = SearchSpace.from_product(
        [configuration, TaskParameter("task", names, active_values=["new"])]
    )
    targets = (NumericalTarget("error", minimize=True), NumericalTarget("memory", minimize=True))
    recommender = BotorchRecommender(
        acquisition_function=qLogNoisyExpectedHypervolumeImprovement(
            reference_point=[REFERENCE[1], REFERENCE[0]]
        )
    )
    past = [
        (labels[index], f"past {row}", errors[row, index], past_memory[row, index])
        for row in some
        for index in rng.permutation(len(memory))[:EACH]
    ]

    def choose(indices: list[int], found: list[float]) -> int:
        torch.manual_seed(seed + len(indices))
        own = [(labels[i], "new", e, memory[i]) for i, e in zip(indices, found, strict=True)]
        measured = pd.DataFrame([*past, *own], columns=["configuration", "task", "error", "memory"])
        chosen = recommender.recommend(1, space, ParetoObjective(targets), measured)
        return labels.index(chosen["configuration"].iloc[0])

    return choose
