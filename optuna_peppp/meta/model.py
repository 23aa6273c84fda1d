"""The meta-model: what earlier tasks tell about how configurations relate.

It holds two views of the same errors: the paper's embeddings, for its designs and its least
squares (Section 3.2), and the prior of a new task's errors, for all else.

Notation (paper, Section 3.2): E (n, d) errors of n tasks under d configurations, E ~ X Y' with
X (n, k) embeddings of tasks and Y (d, k) embeddings of configurations, k the rank.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.arrays import freeze
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.corpora.measurements import check_measurements, task_test_images
from optuna_peppp.meta.averaging import learn
from optuna_peppp.meta.cold_start import cold_prior
from optuna_peppp.meta.committee import EVERYONE, Committee
from optuna_peppp.meta.embeddings import Embedded
from optuna_peppp.meta.file import ARRAYS, Stored, check_usable, read, write
from optuna_peppp.meta.guessing import Guessed
from optuna_peppp.meta.playing import Played
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.worlds import Worlds, known_memory

_COLD_RANK: Final = 3
"""Dimensions of the embeddings without past tasks."""


@dataclass(frozen=True, slots=True, eq=False)
class MetaModel:
    """Embeddings of configurations, learned from earlier tasks.

    Attributes:
        space: The d configurations.
        tasks: Names of the n tasks it learned from.
        errors: Shape (n, d), the errors it learned from; where a task was measured in part, what
            the prior expects of the rest. Read-only, as all arrays here.
        embeddings: Shape (d, k), Y: orthonormal columns, the strongest first.
        mean: Shape (d,), the mean error of every configuration over tasks.
        noise: Shape (d,), what the rank leaves unexplained of every configuration's error, a
            standard deviation.
        prior: The prior of a new task's errors.
        selection: How shrinkage, the prior and the committee were chosen, in words.
        committee: Who votes on what to measure next.
        memory: Shape (n, d), of the tasks, in any unit; None where it is not known of all.
        worlds: The past tasks as draws of a new one; None where there are none.
    """

    space: ConfigurationSpace
    tasks: tuple[str, ...]
    errors: NDArray[np.float64]
    embeddings: NDArray[np.float64]
    mean: NDArray[np.float64]
    noise: NDArray[np.float64]
    prior: TaskPrior
    selection: str = ""
    committee: Committee = EVERYONE
    memory: NDArray[np.float64] | None = None
    worlds: Worlds | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        n, d = len(self.tasks), len(self.space)
        k = np.size(self.embeddings) // d
        for name, shape in zip(ARRAYS, ((n, d), (d, k), (d,), (d,)), strict=True):
            freeze(self, name, shape)
        if self.memory is not None:
            freeze(self, "memory", (n, d))
        object.__setattr__(self, "worlds", Worlds.of(self.errors, self.memory) if n else None)
        check_usable(d, [getattr(self, name) for name in ARRAYS], self.prior)

    @property
    def rank(self) -> int:
        """The number k of embedding dimensions."""
        return int(self.embeddings.shape[1])

    @classmethod
    def fit(
        cls,
        matrix: ErrorMatrix,
        *,
        rank: int | None = None,
        shrinkage: float | None = None,
        test_images: ArrayLike | None = None,
    ) -> Self:
        """Learns embeddings by truncated SVD, E ~ X Y' (paper, Section 3.2), and the prior.

        For the embeddings, a matrix with missing entries is completed first, by SoftImpute of
        what main effects of tasks and configurations leave over; a shrinkage that is not given is
        chosen by cross-validation on the observed entries. The prior is learned from the observed
        entries alone, by factor analysis, judged by tasks that are left out; what it expects of
        what was not measured completes ``errors``. Who votes on what to measure is learned by
        playing past tasks through. ``selection`` tells the outcomes. Tasks
        without any measurement are left out.

        Where configurations were never measured on any task, or there is one task alone, what was
        not measured is guessed (:mod:`optuna_peppp.meta.guessing`): the cold prior, moved by what
        past tasks say, takes the place of the factor models, or continues them. ``selection`` names
        what is guessed.

        Args:
            matrix: Errors of n tasks under d configurations, measured completely or in part.
            rank: Dimensions of the embeddings and of the prior's model; by default 5 for the
                embeddings, as in the paper's runs, and averaged over 2 to 5 for the prior: less
                than there are tasks and configurations.
            shrinkage: Of SoftImpute, by default chosen; without effect where it completes nothing.
            test_images: How many images errors were counted on: shape (n,), of every task, or
                one number. Only for new tasks whose errors are counted on other numbers of
                images: without it, the noise that is learned holds what counting adds already,
                and a new task of the same number needs none of it either.

        Raises:
            ValueError: No task was measured, ``rank`` is not between 1 and min(n, d), or
                ``shrinkage`` not positive.
        """
        measured = matrix.observed.any(axis=1)
        _check_sufficient(matrix, int(measured.sum()), rank)
        images = None if test_images is None else task_test_images(test_images, len(matrix.tasks))
        images = None if images is None else images[measured]
        matrix = matrix.rows(measured)
        if len(matrix.tasks) == 1 or not matrix.observed.any(axis=0).all():
            guessed = Guessed.of(matrix, rank, images)
            errors, embedded = guessed.errors, Embedded.of(guessed.errors, rank=rank)
            prior, committee, words = guessed.prior, guessed.committee, guessed.selection
            noise = np.sqrt(np.square(embedded.noise) + guessed.variance)
        else:
            learned = learn(matrix.errors, rank=rank, test_images=images)
            embedded = Embedded.of(matrix.errors, rank=rank, shrinkage=shrinkage)
            errors, _ = learned.prior.completed(matrix.errors, images)
            played = Played.through(matrix, errors, learned, images)
            prior, committee, words = learned.prior, played.committee, f"{learned}\n{played}"
            noise = embedded.noise
        return cls(
            matrix.space,
            matrix.tasks,
            errors,
            embedded.embeddings,
            errors.mean(axis=0),
            noise,
            prior,
            f"Embeddings: {embedded.selection}\n{words}",
            committee,
            known_memory(matrix.memory),
        )

    @classmethod
    def cold(cls, space: ConfigurationSpace) -> Self:
        """A meta-model without any past task: what the space itself tells.

        Its prior compares configurations by their bits (:mod:`optuna_peppp.meta.cold_start`); its
        embeddings are the leading directions in which errors may vary.
        """
        prior = cold_prior(space)
        model = prior.models[0]
        strongest = np.argsort(-np.square(model.loadings).sum(axis=0), kind="stable")[:_COLD_RANK]
        embeddings = model.loadings[:, strongest]
        embeddings = embeddings / np.linalg.norm(embeddings, axis=0)
        squares = np.square(model.loadings)
        unexplained = squares.sum(axis=1) - squares[:, strongest].sum(axis=1)
        noise = np.sqrt(model.noise + unexplained)
        words = "No past tasks: configurations are compared by their bits."
        return cls(
            space, (), np.empty((0, len(space))), embeddings, model.mean, noise, prior, words
        )

    def predict(
        self, indices: ArrayLike, errors: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predicts all errors of a new task from a few measurements (paper, Section 3.2).

        Least squares on the embeddings' leading dimensions: on all k, or on as many as the
        measurements determine. Without measurements, the mean over tasks.

        Args:
            indices: Shape (m,), the measured configurations; repeats are allowed.
            errors: Shape (m,), their measured errors in [0, 1].

        Returns:
            The predicted errors in [0, 1] and their standard errors, both of shape (d,). The
            latter hold the noise of a new measurement, the uncertainty of the least squares,
            and the tasks' scatter in the dimensions that were left out.

        Raises:
            ValueError: There are no past tasks, a shape is wrong, an index is out of range or an
                error is not in [0, 1].
        """
        measured, found = check_measurements(indices, errors, len(self.space))
        if not self.tasks:
            raise ValueError(
                "least squares need past tasks, and this meta-model was made without any; "
                "optuna_peppp.predict and prior.condition predict without"
            )
        p = min(self.rank, len(measured))
        while p and np.linalg.matrix_rank(self.embeddings[measured, :p]) < p:
            p -= 1
        used, unused = self.embeddings[:, :p], self.embeddings[:, p:]
        if p == 0:
            fitted = self.errors @ unused @ unused.T
            return self.mean.copy(), np.sqrt(self.noise**2 + fitted.var(axis=0))
        scatter = np.square(self.errors @ unused @ unused.T).mean(axis=0)
        variance = self.noise**2 + scatter
        # What every measurement counts in every prediction, shape (d, m).
        weights = used @ np.linalg.pinv(used[measured])
        std = np.sqrt(variance + np.square(weights) @ variance[measured])
        return np.clip(weights @ found, 0.0, 1.0), std

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the model to exactly ``path``: a NumPy archive without pickled objects.

        The file appears whole or not at all.

        Raises:
            ValueError: ``errors`` are not all in [0, 1], as no :meth:`fit` leaves them, or there
                are more than a file may hold.
        """
        arrays = {name: getattr(self, name) for name in ARRAYS}
        write(
            path,
            Stored(
                self.space,
                self.tasks,
                arrays,
                self.prior,
                self.selection,
                self.committee,
                self.memory,
            ),
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Reads a model that :meth:`save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, was not written by :meth:`save`, was written by
                another version, or holds what no predictions could be made of.
        """
        try:
            stored = read(path)
            return cls(
                stored.space,
                stored.tasks,
                **stored.arrays,
                prior=stored.prior,
                selection=stored.selection,
                committee=stored.committee,
                memory=stored.memory,
            )
        except ValueError as problem:
            if str(problem).startswith(str(path)):
                raise
            raise ValueError(
                f"{path} holds no meta-model that can be used: {problem}; fit the model again and "
                "save it"
            ) from problem


def _check_sufficient(matrix: ErrorMatrix, n: int, rank: int | None) -> None:
    """Refuses what nothing can be learned from."""
    d = len(matrix.space)
    if not n:
        raise ValueError(
            "matrix must hold a measured task at least, to learn how configurations relate; got "
            "none. Measure configurations on a task, or take MetaModel.cold(space)"
        )
    if rank is not None and not 1 <= rank <= min(n, d):
        raise ValueError(
            f"rank must be between 1 and {min(n, d)}, as many as there are measured tasks and "
            f"configurations; got {rank}"
        )
