"""Fixed orders that past tasks tell, whatever is measured: zero-shot rivals.

They rank configurations by their place in the portfolio of each past task alone: the order in which
each next one lets the task's dominated area grow most (:mod:`optuna_peppp.growth`).
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from benchmarks.samplers.tasks import Choose, NewTask
from optuna_peppp.growth import growth

Array = NDArray[np.float64]


def portfolio(errors: Array, memory: Array) -> list[int]:
    """The order in which a task of errors and memory (d,) wants its configurations measured.

    Once nothing adds to the dominated area, the others follow in the same way, as if nothing had
    been chosen.
    """
    chosen: list[int] = []
    counting: list[int] = []
    while len(chosen) < len(errors):
        grown = growth(memory, errors[None], memory[counting], errors[None, counting])[0]
        grown[chosen] = -np.inf
        best = int(grown.argmax())
        if counting and grown[best] <= 0:
            counting = []
            continue
        chosen.append(best)
        counting.append(best)
    return chosen


def positions(errors: Array, memory: Array) -> Array:
    """Shape (n, d), the place of every configuration in the portfolio of every task."""
    places = np.empty(errors.shape)
    for own, *task in zip(places, errors, memory, strict=True):
        own[portfolio(*task)] = np.arange(len(own))
    return places


def average_rank(task: NewTask, seed: int) -> Choose:
    """By the mean place in the past tasks' own portfolios."""
    order = positions(*task.complete).mean(axis=0).argsort(kind="stable").tolist()
    return lambda indices, errors: int(order[len(indices)])


def syne_tune(task: NewTask, seed: int) -> Choose:
    """Syne Tune's zero-shot transfer (Wistuba et al., 2015); its metric is that place."""
    import pandas as pd
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.transfer_learning import transfer_learning_task_evaluation
    from syne_tune.optimizer.schedulers.transfer_learning.zero_shot import ZeroShotTransfer

    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    places = positions(*task.complete)
    space = {"index": choice(list(range(places.shape[1])))}
    indices = pd.DataFrame({"index": range(places.shape[1])})
    scheduler = ZeroShotTransfer(
        space,
        "place",
        {
            str(row): transfer_learning_task_evaluation.TransferLearningTaskEvaluations(
                space, indices.copy(), ["place"], own[:, None, None, None]
            )
            for row, own in enumerate(places)
        },
        random_seed=seed % 2**31,
    )
    return lambda indices, errors: int(scheduler.get_config()["index"])
