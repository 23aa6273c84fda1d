"""A new task, and what a sampler may know: its memory, past tasks, how configurations differ."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.script import DATA
from benchmarks.harness.tasks import complete_rows, rows_of
from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.corpora.catalog import read_corpus
from optuna_peppp.pareto import scale

Array = NDArray[np.float64]

Choose = Callable[[list[int], list[float]], int]
"""The next configuration, from the indices of those measured so far and their errors."""

CORPORA: Final = (
    "plain3-cifar100",
    *(str(DATA / name) for name in ("peppp/corpus.csv", "peppp/corpus-lr.csv")),
    *(str(DATA / "tables" / name) for name in ("timm.csv", "llm.csv")),
)
"""The bundled one, the paper's authors' two, and public results: of image classifiers, of language
models."""


@dataclass(frozen=True, eq=False)
class NewTask:
    """A task that is left out of a corpus, errors and memory (d,) in bytes, and the others."""

    row: int
    name: str
    errors: Array
    memory: Array
    past: ErrorMatrix

    @cached_property
    def meta(self) -> MetaModel:
        """What the other tasks tell; learned once, when it is first needed."""
        return MetaModel.fit(self.past)

    @cached_property
    def complete(self) -> tuple[Array, Array]:
        """Errors and memory, scaled to [0, 1], of the past tasks that were measured completely."""
        rows = complete_rows(self.past)
        return self.past.errors[rows], np.array([scale(self.past.memory[row]) for row in rows])

    @cached_property
    def features(self) -> Array:
        """Shape (d, k), how configurations differ, scaled to [0, 1], with their memory at the end.

        Of a format its exponent and its mantissa bits, of other values their place. Of names there
        is nothing but their number, unscaled: :attr:`named`. Of memory it is the logarithm.
        """
        columns = [_columns(name, values) for name, values in self.past.space.choices.items()]
        places = np.indices([len(column) for column in columns]).reshape(len(columns), -1)
        parts = [column[place] for column, place in zip(columns, places, strict=True)]
        return np.column_stack((*parts, scale(np.log(self.memory))))

    @property
    def named(self) -> bool:
        """Whether configurations are names, all that is known of them."""
        return _are_names(self.past.space)


def _are_names(space: ConfigurationSpace) -> bool:
    first, *others = space.choices.items()
    return not others and isinstance(first[1][0], str) and not first[0].startswith("format")


def _columns(name: str, values: Sequence[object]) -> Array:
    """Shape (values, columns), the features of one name's values."""
    if name.startswith("format"):
        formats = [FloatFormat.parse(str(value)) for value in values]
        bits = np.array([(f.exponent, f.mantissa) for f in formats], dtype=np.float64)
        return np.column_stack([scale(column) for column in bits.T if np.ptp(column)])
    places = np.arange(len(values), dtype=np.float64)[:, None]
    return places if isinstance(values[0], str) else places / max(len(values) - 1, 1)


def read(name: str) -> ErrorMatrix:
    """A corpus. Of names only those that all tasks measured, by growing memory.

    Elsewhere tasks that were measured in part stay: they cannot be new ones, as the truth would be
    missing, but still serve as past ones.

    Raises:
        OSError, ValueError: It cannot be read.
    """
    matrix = read_corpus(name)
    if not _are_names(matrix.space):
        return matrix
    everywhere = np.flatnonzero(~np.isnan(matrix.errors + matrix.memory).any(axis=0))
    memory = matrix.memory[:, everywhere].mean(axis=0)
    order = everywhere[memory.argsort(kind="stable")]
    ((label, values),) = matrix.space.choices.items()
    space = ConfigurationSpace({label: [values[index] for index in order]})
    errors, memory = matrix.errors[:, order], matrix.memory[:, order]
    return ErrorMatrix(space, matrix.tasks, errors, memory, matrix.models)


def new_task(matrix: ErrorMatrix, row: int) -> NewTask:
    """Leaves out all rows of the task of ``row``, whatever their network."""
    others = [other for other, task in enumerate(matrix.tasks) if task != matrix.tasks[row]]
    labels = matrix.labels
    names = tuple(labels[other] for other in others)
    past = replace(rows_of(matrix, others), tasks=names, models=())
    return NewTask(row, labels[row], matrix.errors[row], matrix.memory[row], past)


def fingerprint(matrix: ErrorMatrix) -> str:
    """Eight characters that change with anything in a corpus."""
    digest = hashlib.sha256(repr((matrix.space, matrix.tasks, matrix.models)).encode())
    digest.update(matrix.errors.tobytes() + matrix.memory.tobytes())
    return digest.hexdigest()[:8]
