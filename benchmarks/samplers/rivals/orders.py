"""Fixed orders that past tasks tell, whatever is measured: zero-shot rivals.

Notation: past task t has errors e_t (d,) and memory m_t (d,), scaled to [0, 1]. After the choice S
it dominates, up to the reference (1.05, 1), an area under the staircase of S,

    f_t(m) = min(1, min over s in S with m_ts <= m of e_ts),                                     (1)

which configuration j enlarges by

    g_tj = integral from m_tj to 1.05 of max(f_t(m) - e_tj, 0) dm.                               (2)
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from benchmarks.samplers.tasks import Choose, NewTask
from optuna_peppp.pareto import REFERENCE

Array = NDArray[np.float64]


def growth(errors: Array, memory: Array, chosen: list[int]) -> Array:
    """What every configuration adds to every task's dominated area, Eq. 2: all of shape (n, d)."""
    edge, top = REFERENCE
    order = np.argsort(memory[:, chosen], axis=1, kind="stable")
    starts = np.take_along_axis(memory[:, chosen], order, axis=1)
    levels = np.take_along_axis(errors[:, chosen], order, axis=1)
    first = np.zeros((len(errors), 1))
    levels = np.minimum.accumulate(np.hstack((first + top, levels)), axis=1)  # Eq. 1.
    starts = np.hstack((first - np.inf, starts))
    ends = np.hstack((starts[:, 1:], first + edge))
    gained = np.zeros_like(errors)
    for start, end, level in zip(starts.T, ends.T, levels.T, strict=True):
        width = end[:, None] - np.maximum(start[:, None], memory)
        gained += np.maximum(width, 0.0) * np.maximum(level[:, None] - errors, 0.0)
    return gained


def portfolio(errors: Array, memory: Array, count: int) -> list[int]:
    """The order in which the tasks, taken together, want their configurations measured.

    Each time the configuration that adds most to the mean dominated area. Once nothing adds to it,
    the others follow in the same way, as if nothing had been chosen.
    """
    chosen: list[int] = []
    counting: list[int] = []
    while len(chosen) < count:
        gained = growth(errors, memory, counting).mean(axis=0)
        gained[chosen] = -np.inf
        best = int(gained.argmax())
        if counting and gained[best] <= 0:
            counting = []
            continue
        chosen.append(best)
        counting.append(best)
    return chosen


def positions(errors: Array, memory: Array) -> Array:
    """Shape (n, d), the place of every configuration in the portfolio of every task alone."""
    places = np.empty(errors.shape)
    for row, own in enumerate(places):
        own[portfolio(errors[[row]], memory[[row]], len(own))] = np.arange(len(own))
    return places


def _following(order: list[int]) -> Choose:
    return lambda indices, errors: order[len(indices)]


def static_portfolio(task: NewTask, seed: int) -> Choose:
    """The past tasks' portfolio."""
    return _following(portfolio(*task.complete, count=len(task.errors)))


def average_rank(task: NewTask, seed: int) -> Choose:
    """By the mean place in the past tasks' own portfolios."""
    return _following(positions(*task.complete).mean(axis=0).argsort(kind="stable").tolist())


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
