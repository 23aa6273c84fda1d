"""The learning-rate-tuned matrix of the paper's Appendix E.4, in its two views.

With a third tuned name, ``learning_rate``, there are three times as many configurations.
As this package sees it, it has 16 tasks x 297 joint configurations and is partially
observed: three tasks miss one learning rate. :func:`as_rows` is the paper's view (Table 5):
every pair of a task and a learning rate is a row of its own, 45 x 99, complete.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.tasks import complete_rows
from optuna_peppp import ConfigurationSpace, ErrorMatrix
from optuna_peppp.corpora.catalog import read_corpus

RATE: Final = "learning_rate"


def read(corpus: str) -> ErrorMatrix:
    """Tasks x joint configurations, NaN where a task misses a learning rate.

    Raises:
        ValueError, OSError: It cannot be read, or tunes no learning rate with something else.
    """
    matrix = read_corpus(corpus)
    if RATE not in matrix.space.names or len(matrix.space.names) == 1:
        raise ValueError(
            f"{corpus} must tune {RATE} and at least one more name; it tunes "
            f"{', '.join(matrix.space.names)}"
        )
    return matrix


def rates(matrix: ErrorMatrix) -> list[float]:
    """The learning rates, largest first as in Table 5."""
    return sorted((float(rate) for rate in matrix.space.choices[RATE]), reverse=True)


def columns(matrix: ErrorMatrix, rate: float) -> tuple[ConfigurationSpace, NDArray[np.intp]]:
    """The space without the learning rate (d configurations), and where they stand at ``rate``.

    Returns:
        The space, and shape (d,), indices of ``matrix.space``.
    """
    choices = {name: values for name, values in matrix.space.choices.items() if name != RATE}
    space = ConfigurationSpace(choices)
    indices = [matrix.space.index({**space.params(j), RATE: rate}) for j in range(len(space))]
    return space, np.array(indices)


def as_rows(matrix: ErrorMatrix) -> ErrorMatrix:
    """Every observed pair of a task and a learning rate as a row, in the order of Table 5.

    Tasks are named like ``CIFAR100 (fish) at 0.01``. Pairs of which nothing was measured have no
    row.
    """
    tasks: list[str] = []
    errors: list[NDArray[np.float64]] = []
    memory: list[NDArray[np.float64]] = []
    for rate in rates(matrix):
        space, where = columns(matrix, rate)
        for row in np.flatnonzero(matrix.observed[:, where].any(axis=1)):
            tasks.append(f"{matrix.tasks[row]} at {rate:g}")
            errors.append(matrix.errors[row, where])
            memory.append(matrix.memory[row, where])
    return ErrorMatrix(space, tuple(tasks), np.array(errors), np.array(memory))


def complete(matrix: ErrorMatrix) -> ErrorMatrix:
    """The rows of :func:`as_rows` that were measured throughout, as the truth to compare with."""
    pairs = as_rows(matrix)
    return pairs.rows(complete_rows(pairs))


def is_authors(matrix: ErrorMatrix) -> bool:
    """Whether ``matrix``, of joint configurations, is the one that the paper's authors measured."""
    space, _ = columns(matrix, rates(matrix)[0])
    return (
        space == ConfigurationSpace.paper()
        and rates(matrix) == [0.01, 0.001, 0.0001]
        and len(matrix.tasks) == 16
        and all(task.startswith("CIFAR100 (") for task in matrix.tasks)
    )
