"""Memory of every configuration of a space, whatever it tunes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from optuna_peppp.configurations.hardware import FORMAT_NAMES, RECIPE_NAMES
from optuna_peppp.configurations.names import TUNABLE, Accounting, OptimizerName, Sites
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision.memory.accounting import count
from optuna_peppp.lowprecision.memory.usage import Counts, MemoryUsage
from optuna_peppp.lowprecision.rounding.scheme import DEFAULT_SCHEME, RoundingScheme

if TYPE_CHECKING:
    from optuna_peppp.configurations.space import ConfigurationSpace, Value


def memory_vector(
    space: ConfigurationSpace,
    model: nn.Module | Callable[[dict[str, Value]], nn.Module],
    input_shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    accounting: Accounting = "saved-tensors",
    *,
    inputs: Any = None,
    optimizer: OptimizerName = "sgd",
    scheme: RoundingScheme = DEFAULT_SCHEME,
    sites: Sites = "modules",
) -> NDArray[np.float64]:
    """Memory of training a network at every configuration of a space, in bytes, shape (d,).

    The arguments, errors and warnings are those of :func:`training_memory`, with the ``sites`` of
    every recipe; the space must tune formats, as :meth:`ConfigurationSpace.recipe` reads them.
    Where it tunes ``optimizer`` or ``batch_size``, too, each configuration has its own, and the
    argument does not matter. ``model`` and ``inputs`` may be functions of a configuration's
    parameters, for choices of architecture such as ``width`` and for inputs of its ``batch_size``;
    they must not depend on its formats.

    Raises:
        ValueError: The space tunes a name that is neither a format nor a setting of a training, and
            ``model`` is no function that could heed it; or it tunes ``batch_size``, and ``inputs``
            are of one.
    """
    every = usages(
        space,
        model,
        input_shape,
        batch_size,
        accounting,
        inputs=inputs,
        optimizer=optimizer,
        scheme=scheme,
        sites=sites,
    )
    return np.array([usage.total for usage in every], dtype=float)


def usages(
    space: ConfigurationSpace,
    model: nn.Module | Callable[[dict[str, Value]], nn.Module],
    input_shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    accounting: Accounting = "saved-tensors",
    *,
    inputs: Any = None,
    optimizer: OptimizerName = "sgd",
    scheme: RoundingScheme = DEFAULT_SCHEME,
    sites: Sites = "modules",
) -> list[MemoryUsage]:
    """What :func:`memory_vector` sums up, part by part."""
    _check_names(space, model, inputs)
    ignored = {*RECIPE_NAMES}
    if isinstance(model, nn.Module):
        ignored |= {*TUNABLE} - {"batch_size", "optimizer"}
    counts: dict[tuple[Value, ...], Counts] = {}
    every = []
    for index in range(len(space)):
        params = space.params(index)
        others = tuple(value for name, value in params.items() if name not in ignored)
        if others not in counts:
            given = inputs(params) if callable(inputs) else inputs
            counts[others] = count(
                _network(model, params),
                input_shape,
                cast(int, params.get("batch_size", batch_size)) if given is None else batch_size,
                accounting,
                given,
                cast(OptimizerName, params.get("optimizer", optimizer)),
                sites,
            )
        every.append(counts[others].at(_formats(space, index), scheme))
    return every


def _network(
    model: nn.Module | Callable[[dict[str, Value]], nn.Module], params: dict[str, Value]
) -> nn.Module:
    """The network of a configuration.

    Raises:
        ValueError: ``model`` is neither a network nor a function of the parameters.
    """
    if isinstance(model, nn.Module):
        return model
    try:
        return model(params)
    except TypeError as problem:
        raise ValueError(
            f"model must be a torch.nn.Module; got {model!r}, which is no function of the "
            f"parameters that builds one, either ({problem})"
        ) from problem


def _check_names(space: ConfigurationSpace, model: object, inputs: object) -> None:
    """Refuses names that change the memory in a way that nobody would count.

    Raises:
        ValueError: There is one.
    """
    known = {*RECIPE_NAMES, *TUNABLE}
    unknown = [name for name in space.names if name not in known]
    if unknown and isinstance(model, nn.Module):
        raise ValueError(
            f"model must be a function of the parameters where the space tunes "
            f"{', '.join(unknown)}, which one network cannot know; give lambda params: ..., that "
            "builds the network of a configuration, or always the same one if memory does not "
            "depend on them"
        )
    if "batch_size" in space.names and inputs is not None and not callable(inputs):
        raise ValueError(
            "inputs must be a function of the parameters where the space tunes batch_size: one "
            "batch has one size; give lambda params: ..., or input_shape"
        )


def _formats(space: ConfigurationSpace, index: int) -> Precision | Recipe:
    """The formats of a configuration: two, for a scheme to distribute, or a recipe."""
    paper = {*FORMAT_NAMES} <= {*space.names}
    return space.precision(index) if paper else space.recipe(index)
