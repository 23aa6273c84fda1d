"""How many graphs a compiler makes of trainings by ten assignments, and what a step costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import build_model, training_step
from optuna_peppp.lowprecision.compatibility import compiled_graphs
from optuna_peppp.lowprecision.training.step import TrainingStep

ASSIGNMENTS: Final = 10
_TURNS: Final = 20


def recipes() -> Iterator[Recipe]:
    """Ten assignments that differ in formats, share, order and promotion."""
    for number in range(ASSIGNMENTS):
        yield Recipe.assigned(
            ("1-3-1", "1-4-3b8", "1-3-2b2")[number % 3],
            ("1-4-3", "1-6-9")[number % 2],
            "1-6-9",
            demotion=number / (ASSIGNMENTS - 1),
            order=("decreasing", "increasing", "operator", "random-1")[number % 4],
            promotion=(None, 0.01, 0.2)[number % 3],
        )


def graphs() -> int:
    """Graphs of ten assignments' steps, but for the kernels that eager steps round with."""
    step, batch = _training(next(recipes()))
    step(*batch)  # the first step of a training is eager
    before = compiled_graphs()
    for recipe in recipes():
        step, batch = _training(recipe)
        for _ in range(3):
            step(*batch)
    return compiled_graphs() - before


def step_ratio() -> float:
    """Time of a step by an assignment, overflow counted, by that in one format; taken in turns."""
    both = [_training(Recipe.paper("1-3-1", "1-6-9")), _training(next(recipes()))]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_TURNS):
        for (step, batch), own in zip(both, times, strict=True):
            start = time.perf_counter()
            step(*batch)
            if turn > 2:  # the first compiles
                own.append(time.perf_counter() - start)
    return median(times[1]) / median(times[0])


def _training(recipe: Recipe) -> tuple[TrainingStep, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = build_model("plain3", 5, (3, 16, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = training_step(model, optimizer, cross_entropy, recipe, seed=0)
    return step, (torch.randn(32, 3, 16, 16), torch.randint(5, (32,)))
