"""The file of a meta-model: what it says, checked before a model is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.measurements import check_errors
from optuna_peppp.meta import archive
from optuna_peppp.meta.committee import EVERYONE, MEMBERS, Committee
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.text import quoted

_FORMAT: Final = archive.Format("optuna_peppp.MetaModel", version=5, oldest=3)
"""Version 3 held a checksum of its own, an entry that is not read; up to version 4 there was no
committee."""

_WITH_COMMITTEE: Final = 5

ARRAYS: Final = ("errors", "embeddings", "mean", "noise")
"""The arrays of a meta-model beside its prior."""

_PRIOR_ARRAYS: Final = (
    "prior_mean",
    "prior_loadings",
    "prior_noise",
    "prior_scales",
    "prior_weights",
)


_MEMORY: Final = "memory"

_LARGEST: Final = 1e4
"""No number of a model is larger: errors, and their log odds, are of the order of 1."""

_ROUNDING: Final = 1e-6
_SMALLEST_NOISE: Final = 1e-12
_CLEAREST: Final = 1e15
"""How far the signal of a prior may stand out of its noise, in variances: beyond, posteriors are
lost to rounding."""


class Stored(NamedTuple):
    """What a file holds; the attributes of :class:`~optuna_peppp.MetaModel`.

    Attributes:
        space: The configurations.
        tasks: Names of the tasks.
        arrays: Those of ``ARRAYS`` by name.
        prior: The prior of a new task's errors.
        selection: How it was chosen, in words.
        committee: Who votes on what to measure.
        memory: Of the tasks, shape (n, d), where it is known.
    """

    space: ConfigurationSpace
    tasks: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.float64]]
    prior: TaskPrior
    selection: str
    committee: Committee
    memory: NDArray[np.float64] | None


def write(path: str | PathLike[str], stored: Stored) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
        ValueError: As :func:`read` would.
    """
    check_errors(stored.arrays["errors"])
    models = stored.prior.models
    header = {
        "choices": [[name, values] for name, values in stored.space.choices.items()],
        "tasks": stored.tasks,
        "selection": stored.selection,
        "transform": stored.prior.transform,
        "ranks": [model.rank for model in models],
        "committee": stored.committee.weights.tolist(),
        "farthest": stored.committee.farthest if np.isfinite(stored.committee.farthest) else None,
    }
    arrays = {
        **{name: stored.arrays[name] for name in ARRAYS},
        "prior_mean": np.array([model.mean for model in models]),
        "prior_loadings": np.column_stack([model.loadings for model in models]),
        "prior_noise": np.array([model.noise for model in models]),
        "prior_scales": stored.prior.scales,
        "prior_weights": stored.prior.weights,
    }
    if stored.memory is not None:
        arrays[_MEMORY] = stored.memory
    archive.write(path, _FORMAT, header, arrays)


def read(path: str | PathLike[str]) -> Stored:
    """Reads what :func:`write` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another version, or says what no model can hold.
    """
    header, arrays = archive.read(path, _FORMAT, ARRAYS + _PRIOR_ARRAYS, (_MEMORY,))
    memory = arrays.pop(_MEMORY, None)
    mean, loadings, noise, scales, weights = (arrays.pop(name) for name in _PRIOR_ARRAYS)
    if header["version"] < _WITH_COMMITTEE:
        header |= {"committee": EVERYONE.weights.tolist(), "farthest": None}
    _check_header(header)
    check_errors(arrays["errors"])
    ranks = header["ranks"]
    r, d = len(ranks), loadings.shape[0] if loadings.ndim == 2 else -1
    for name, array, shape in (
        ("prior_loadings", loadings, (d, sum(ranks))),
        ("prior_mean", mean, (r, d)),
        ("prior_noise", noise, (r, d)),
        ("prior_scales", scales, (scales.size // 2, 2)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}; got {array.shape}")
    choices = dict(header["choices"])
    if math.prod(map(len, choices.values())) != d:
        raise ValueError(f"choices must make as many configurations as are predicted, {d}")
    blocks = np.split(loadings, np.cumsum(ranks)[:-1], axis=1)
    return Stored(
        ConfigurationSpace(choices),
        tuple(header["tasks"]),
        arrays,
        TaskPrior(
            tuple(map(FactorModel, mean, blocks, noise)), scales, weights, header["transform"]
        ),
        header["selection"],
        Committee(
            np.array(header["committee"], dtype=np.float64),
            np.inf if header["farthest"] is None else float(header["farthest"]),
        ),
        memory,
    )


def check_usable(d: int, arrays: Sequence[NDArray[np.float64]], prior: TaskPrior) -> None:
    """Refuses numbers of which no prediction could be made.

    Args:
        d: Number of configurations.
        arrays: Those of ``ARRAYS``; the last is a standard deviation.
        prior: The prior of a new task's errors.

    Raises:
        ValueError: A number is too large, a deviation negative, or the prior is of other
            configurations or so certain that its posteriors would be lost to rounding.
    """
    models = prior.models
    if not models or any(len(model.mean) != d for model in models):
        raise ValueError(f"prior must hold models of the {d} configurations of space")
    if not math.isclose(prior.weights.sum(), 1.0, abs_tol=_ROUNDING):
        raise ValueError(f"the prior's weights must add up to 1; got {prior.weights.sum():g}")
    if arrays[1].size == 0:
        raise ValueError("embeddings must have a dimension at least; got none")
    if (arrays[-1] < 0).any():
        raise ValueError(f"noise must not be negative; got {arrays[-1].min()}")
    largest = 1.0
    for numbers in (
        *(*arrays, prior.scales, 1 / prior.scales),
        *(numbers for model in models for numbers in (model.mean, model.loadings, model.noise)),
    ):
        largest = max(largest, float(np.abs(numbers).max(initial=0.0)))
    if largest > _LARGEST:
        raise ValueError(f"its numbers must be at most {_LARGEST:g}; got {largest:g}")
    ratio = float(np.square(prior.scales[:, 0] / prior.scales[:, 1]).max(initial=0.0))
    for model in models:
        if (smallest := model.noise.min()) < _SMALLEST_NOISE:
            raise ValueError(
                f"the prior's noise must be at least {_SMALLEST_NOISE}; got {smallest}"
            )
        clearest = ratio * float((np.square(model.loadings) / model.noise[:, None]).sum())
        if clearest > _CLEAREST:
            raise ValueError(
                f"the prior's signal must be at most {_CLEAREST:g} times its noise; "
                f"got {clearest:g}"
            )


def _check_header(header: Mapping[str, Any]) -> None:
    """Refuses fields that are missing or of another type than :func:`write` gives them."""
    expected = {
        "choices": ("pairs of a name and its values, every name once", _are_choices),
        "tasks": ("a list of names", _are_texts),
        "selection": ("text", lambda field: isinstance(field, str)),
        "transform": ("text", lambda field: isinstance(field, str)),
        "ranks": ("a list of at least one rank from 0", _are_ranks),
        "committee": (f"a weight of each of {', '.join(MEMBERS)}", _are_weights),
        "farthest": ("a positive number, or nothing", _is_distance),
    }
    for name, (words, holds) in expected.items():
        if not holds(header.get(name)):
            raise ValueError(f"{name} must be {words}; got {quoted(header.get(name))}")


def _are_texts(field: object) -> bool:
    return isinstance(field, list) and all(isinstance(text, str) for text in field)


def _are_ranks(field: object) -> bool:
    return (
        isinstance(field, list)
        and bool(field)
        and all(type(rank) is int and rank >= 0 for rank in field)
    )


def _are_choices(field: object) -> bool:
    """Whether it is as a space's choices; the space checks the values."""
    if not isinstance(field, list):
        return False
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in field):
        return False
    names = [name for name, _ in field]
    return (
        _are_texts(names)
        and len(set(names)) == len(names)
        and all(isinstance(values, list) for _, values in field)
        and not any(isinstance(value, list | dict) for _, values in field for value in values)
    )


def _are_weights(field: object) -> bool:
    return (
        isinstance(field, list)
        and len(field) == len(MEMBERS)
        and all(_is_number(weight) and 0 <= weight <= _LARGEST for weight in field)
        and any(field)
    )


def _is_distance(field: object) -> bool:
    return field is None or (_is_number(field) and 0 < field < math.inf)


def _is_number(field: object) -> TypeGuard[int | float]:
    return isinstance(field, int | float) and not isinstance(field, bool)
