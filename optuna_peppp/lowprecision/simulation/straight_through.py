"""Straight-through estimators: tensors rounded forward, their gradients backward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from torch import Tensor

from optuna_peppp.configurations.roles import Role
from optuna_peppp.lowprecision.compatibility import tree_flatten, tree_unflatten
from optuna_peppp.lowprecision.rounding.rounder import Rounder

_HIGHER: Final = 2**20
"""Where the streams of second derivatives begin: no network has so many tensors."""


def rounded(
    rounder: Rounder, values: Any, forward: Role, backward: Role | None, index: int = 0
) -> Any:
    """The structure with every tensor of numbers that are not integers rounded, and its gradient.

    Args:
        rounder: Of the pass.
        values: Tensors in containers of any kind, dataclasses among them.
        forward: Role of the tensors.
        backward: Role of their gradients; None leaves those as they are.
        index: Number of the first leaf; the others follow.
    """

    def one(leaf: Any, place: int) -> Any:
        if isinstance(leaf, Tensor) and is_rounded(leaf):
            return _Rounding.apply(leaf, rounder, forward, backward, place)
        return leaf

    return map_leaves(one, values, index)[0]


def is_rounded(x: Tensor) -> bool:
    """Whether a tensor holds numbers that a format can hold: no integers, indices or masks."""
    return x.is_floating_point() or x.is_complex()


def has_numbers(values: Any) -> bool:
    """Whether a structure holds a tensor that a format can hold."""
    if isinstance(values, Tensor):
        return is_rounded(values)
    if not isinstance(values, tuple | list):
        return False
    return any(isinstance(leaf, Tensor) and is_rounded(leaf) for leaf in values)


def map_leaves(function: Callable[[Any, int], Any], values: Any, index: int = 0) -> tuple[Any, int]:
    """Calls a function on every leaf of a structure and its number, from ``index``.

    Returns:
        The structure of what it returned, and the number after the last.
    """
    leaves, structure = tree_flatten(values)
    for place, leaf in enumerate(leaves):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            leaves[place] = copy.copy(leaf)
            for field in fields(leaf):
                value, index = map_leaves(function, getattr(leaf, field.name), index)
                object.__setattr__(leaves[place], field.name, value)  # it may be frozen
        else:
            leaves[place] = function(leaf, index)
            index += 1
    return tree_unflatten(leaves, structure), index


def leaves_of(values: Any) -> list[Any]:
    """What a structure holds, in the order of :func:`map_leaves`."""
    leaves: list[Any] = []
    map_leaves(lambda leaf, _: leaves.append(leaf), values)
    return leaves


class _Rounding(torch.autograd.Function):
    """Rounds the tensor forward and its gradient backward, where that can be derived again."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rounder: Rounder, forward: Role, backward: Role | None, index: int
    ) -> Tensor:
        ctx.rounder, ctx.roles, ctx.index = rounder, (forward, backward), index
        result = rounder(x, forward, index)
        # A copy, for the next module may work in place.
        return x.clone() if result is x else result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        forward, backward = ctx.roles
        if backward is None:
            return gradient, None, None, None, None
        # The complement, for the logits have one role forward and backward.
        index = ~ctx.index if ctx.index >= 0 else ~ctx.index + _HIGHER
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            result = _Rounding.apply(gradient, ctx.rounder, backward, forward, index)
        else:
            result = ctx.rounder(gradient, backward, index)
        return result, None, None, None, None


class _Weights(torch.autograd.Function):
    """Rounds all weights in one pass; their gradients are left to the optimizer."""

    @staticmethod
    def forward(
        ctx: Any,
        rounder: Rounder,
        exempt: Sequence[int | None],
        low: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        # A weight that the network did not use has no gradient instead of one of zeros.
        ctx.set_materialize_grads(False)
        results = list(parameters)
        for group, exemption in enumerate(dict.fromkeys((None, *exempt))):
            places = [place for place, own in enumerate(exempt) if own == exemption]
            given, start = [parameters[place] for place in places], group * len(parameters)
            flags = None
            if low is not None and exemption is None:
                flags = [low[place] for place in places]
            rounded = rounded_together(given, rounder.of(exemption), "weights", start, flags)
            for place, weight in zip(places, rounded, strict=True):
                results[place] = weight
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient of a conjugate is a lazy one, which an optimizer cannot change in place.
        return None, None, None, *(g.resolve_conj() if g is not None else None for g in gradients)


def rounded_weights(
    rounder: Rounder,
    parameters: dict[str, Tensor],
    exempt: Mapping[str, int] | None = None,
    low: Tensor | None = None,
) -> dict[str, Tensor]:
    """The parameters as the passes see them; integers are left out.

    Args:
        rounder: Of the pass.
        parameters: By name.
        exempt: Names of modules that are exempt, and by which exemption.
        low: Boolean, shape (parameters that hold no integers,): which of them have the format of
            their role and not the higher one of the recipe's rule; None for all.
    """
    weights = {name: weight for name, weight in parameters.items() if is_rounded(weight)}
    if not weights:
        return {}
    exempt = exempt or {}
    exemptions = tuple(exempt.get(name.rpartition(".")[0]) for name in weights)
    rounded = _Weights.apply(rounder, exemptions, low, *weights.values())
    return dict(zip(weights, rounded, strict=True))


def rounded_together(
    tensors: Sequence[Tensor],
    rounder: Rounder,
    role: Role,
    start: int = 0,
    low: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Rounds many tensors in one pass a dtype and device instead of one call each.

    Those whose numbers share scales are rounded one by one. Integers are left as they are.

    Args:
        tensors: All of one role.
        rounder: Of the pass.
        role: What they are.
        start: Number of the first; the others follow.
        low: Of each a boolean scalar, whether it has its role's format and not the higher one of
            the recipe's rule; None where all have.
    """
    results = [tensor.detach() for tensor in tensors]
    if role in rounder.blocked or (rounder.high is not None and role in rounder.high.blocked):
        of_each = [rounder] * len(results)
        if low is not None:
            of_each = [rounder.between({role: is_low}) for is_low in low]
        return [
            own(x, role, start + place) if is_rounded(x) else x
            for place, (x, own) in enumerate(zip(results, of_each, strict=True))
        ]
    groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for place, tensor in enumerate(results):
        if is_rounded(tensor):
            groups.setdefault((tensor.dtype, tensor.device), []).append(place)
    for index, places in enumerate(groups.values(), start):
        # Joined by dtype: one that differs would change all the others.
        flat, own = torch.cat([results[place].reshape(-1) for place in places]), rounder
        if low is not None:
            flags = torch.cat([low[place].expand(results[place].numel()) for place in places])
            own = rounder.between({role: flags})
        flat = own(flat, role, index)
        pieces = torch.split(flat, [results[place].numel() for place in places])
        for place, piece in zip(places, pieces, strict=True):
            results[place] = piece.view(results[place].shape)
    return results
