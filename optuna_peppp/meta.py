"""The meta-model: what earlier tasks tell about how configurations relate.

Notation (paper, Section 3.2): E (n, d) errors of n tasks under d configurations, E ~ X Y' with
X (n, k) embeddings of tasks and Y (d, k) embeddings of configurations, k the rank.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.matrix import ErrorMatrix
from optuna_peppp.space import ConfigurationSpace

_FORMAT: Final = "optuna_peppp.MetaModel"
_VERSION: Final = 1
_DEFAULT_RANK: Final = 3
_ARRAYS: Final = ("errors", "embeddings", "mean", "noise")


@dataclass(frozen=True, slots=True, eq=False)
class MetaModel:
    """Embeddings of configurations, learned from earlier tasks.

    Attributes:
        space: The d configurations.
        tasks: Names of the n tasks it learned from.
        errors: Shape (n, d), the errors it learned from. Read-only, as all arrays here.
        embeddings: Shape (d, k), Y: orthonormal columns, the strongest first.
        mean: Shape (d,), the mean error of every configuration over tasks.
        noise: Shape (d,), what the rank leaves unexplained of every configuration's error, a
            standard deviation.
    """

    space: ConfigurationSpace
    tasks: tuple[str, ...]
    errors: NDArray[np.float64]
    embeddings: NDArray[np.float64]
    mean: NDArray[np.float64]
    noise: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        n, d = len(self.tasks), len(self.space)
        k = self.embeddings.shape[-1]
        for name, shape in zip(_ARRAYS, ((n, d), (d, k), (d,), (d,)), strict=True):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite with shape {shape}; got {array.shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def rank(self) -> int:
        """The number k of embedding dimensions."""
        return int(self.embeddings.shape[1])

    @classmethod
    def fit(cls, matrix: ErrorMatrix, *, rank: int | None = None) -> Self:
        """Learns from complete rows by truncated SVD, E ~ X Y' (paper, Section 3.2).

        Args:
            matrix: Errors of n tasks under d configurations, none missing.
            rank: Dimensions of the embeddings; by default 3, as in the paper's Section 4.2, or
                fewer where there are fewer tasks or configurations.

        Raises:
            ValueError: Entries are missing, or ``rank`` is not between 1 and min(n, d).
        """
        errors = matrix.errors
        missing = errors.size - np.count_nonzero(matrix.observed)
        if missing:
            raise ValueError(
                f"matrix: {missing} of {errors.size} entries are missing; complete rows are "
                "needed. Measure them or leave their tasks out"
            )
        n, d = errors.shape
        if n == 0:
            raise ValueError("matrix must hold at least one task; got none")
        k = min(_DEFAULT_RANK, n, d) if rank is None else rank
        if not 1 <= k <= min(n, d):
            raise ValueError(
                f"rank must be between 1 and {min(n, d)}, as many as there are tasks and "
                f"configurations; got {k}"
            )
        embeddings = np.linalg.svd(errors, full_matrices=False)[2][:k].T
        # The SVD leaves signs open: the largest entry of every dimension is positive.
        largest = np.abs(embeddings).argmax(axis=0)
        embeddings = embeddings * np.sign(embeddings[largest, np.arange(k)])
        residuals = errors - errors @ embeddings @ embeddings.T
        # Of n d entries the fit spends k (n + d - k); (n - k)(d - k) remain, over d columns.
        freedom = (n - k) * (d - k) / d
        if freedom > 0:
            noise = np.sqrt(np.square(residuals).sum(axis=0) / freedom)
        else:
            # A full rank explains everything and tells nothing: stay on the safe side.
            noise = np.full(d, errors.std())
        return cls(matrix.space, matrix.tasks, errors, embeddings, errors.mean(axis=0), noise)

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
            ValueError: A shape is wrong, an index is out of range or an error is not in [0, 1].
        """
        where, measured = check_measurements(indices, errors, len(self.space))
        p = min(self.rank, len(where))
        while p and np.linalg.matrix_rank(self.embeddings[where, :p]) < p:
            p -= 1
        used, unused = self.embeddings[:, :p], self.embeddings[:, p:]
        if p == 0:
            fitted = self.errors @ unused @ unused.T
            return self.mean.copy(), np.sqrt(self.noise**2 + fitted.var(axis=0))
        scatter = np.square(self.errors @ unused @ unused.T).mean(axis=0)
        variance = self.noise**2 + scatter
        estimator = np.linalg.pinv(used[where])
        covariance = estimator * variance[where] @ estimator.T
        mean = used @ (estimator @ measured)
        std = np.sqrt(variance + np.einsum("jp,pq,jq->j", used, covariance, used))
        return np.clip(mean, 0.0, 1.0), std

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the model to exactly ``path``: a NumPy archive without pickled objects.

        The file appears whole or not at all.
        """
        header = json.dumps(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "choices": [[name, values] for name, values in self.space.choices.items()],
                "tasks": self.tasks,
            }
        ).encode()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        target = Path(path)
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                np.savez(
                    file,
                    allow_pickle=False,
                    header=np.frombuffer(header, dtype=np.uint8),
                    checksum=np.frombuffer(_checksum(header, arrays), dtype=np.uint8),
                    **arrays,
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Reads a model that :meth:`save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, was not written by :meth:`save`, or was written by
                a newer version.
        """
        content = Path(path).read_bytes()
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                entries = {name: archive[name] for name in archive.files}
            raw = entries["header"].tobytes()
            header = json.loads(raw)
            name, version = header["format"], header["version"]
        except Exception as problem:  # whatever a foreign file makes the parsers raise
            raise ValueError(
                f"{path} is not a file of MetaModel.save, or it is damaged "
                f"({type(problem).__name__}); fit the model again and save it"
            ) from problem
        if name != _FORMAT:
            raise ValueError(f"{path} holds {name!r}, not {_FORMAT!r}; give a saved MetaModel")
        if version != _VERSION:
            raise ValueError(
                f"{path} has format version {version!r}; this optuna_peppp reads version "
                f"{_VERSION}. Upgrade optuna_peppp or fit the model again"
            )
        try:
            arrays = {name: entries[name] for name in _ARRAYS}
            intact = entries["checksum"].tobytes() == _checksum(raw, arrays)
        except KeyError:
            intact = False
        if not intact:
            raise ValueError(
                f"{path} is damaged: its checksum does not match; fit the model again and save it"
            )
        return cls(ConfigurationSpace(dict(header["choices"])), tuple(header["tasks"]), **arrays)


def check_measurements(
    indices: ArrayLike, errors: ArrayLike, d: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Measured configurations and their errors as arrays, both of shape (m,).

    Raises:
        ValueError: A shape is wrong, an index is out of range or an error is not in [0, 1].
    """
    where, measured = np.asarray(indices), np.asarray(errors, dtype=np.float64)
    if where.size == 0:
        where = where.astype(np.intp)
    if where.ndim != 1 or where.shape != measured.shape or where.dtype.kind not in "iu":
        raise ValueError(
            "indices and errors must be two vectors of one length, indices of integers; got "
            f"shapes {where.shape} and {measured.shape}, indices of {where.dtype}"
        )
    bad = np.flatnonzero((where < 0) | (where >= d))
    if bad.size:
        raise ValueError(f"indices must be between 0 and {d - 1}; got {where[bad[0]]}")
    bad = np.flatnonzero(~((measured >= 0) & (measured <= 1)))
    if bad.size:
        raise ValueError(
            "errors must lie in [0, 1], the ratio of misclassified images; "
            f"errors[{bad[0]}] is {measured[bad[0]]}"
        )
    return where.astype(np.intp), measured


def _checksum(header: bytes, arrays: dict[str, NDArray[np.float64]]) -> bytes:
    """SHA-256 of the header and of every array's shape, type and bytes."""
    digest = hashlib.sha256(header)
    for name in _ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()
