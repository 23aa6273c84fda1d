"""A loss scale that gradients carry on their way through a network, and no further.

The factor is taken off where a gradient arrives at a leaf, before it is accumulated: whatever
stands in ``.grad`` is the gradient itself, for clipping, for accumulation over several passes, and
after a pass whose loss nobody scaled.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from optuna_peppp.lowprecision.compatibility import at_the_end_of_backward, backward_pass


def scaled(loss: Tensor, scale: float, parameters: Callable[[], Iterable[Tensor]]) -> Tensor:
    """The loss times a factor, which its backward pass takes off the gradients of all leaves.

    Args:
        loss: Tensor of any shape.
        scale: The factor.
        parameters: Gives leaves to take it off at besides all that the loss can be traced back
            to, some of which a reentrant checkpoint may hide. Asked in the backward pass.
    """
    product: Tensor = _ScaledLoss.apply(loss, scale, parameters)
    return product


class _ScaledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: Tensor, scale: float, parameters: Callable[[], Iterable[Tensor]]
    ) -> Tensor:
        ctx.scale, ctx.parameters = scale, parameters
        return loss * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # This runs before anything that the loss was computed from.
        current = _Pass(ctx.scale)
        for leaf in (*_leaves(ctx), *ctx.parameters()):
            current.reach(leaf)
        # The running pass owns it: it goes when the pass ends, be it by an exception.
        at_the_end_of_backward(current.end)
        return gradient * ctx.scale, None, None


class _Pass:
    """One backward pass of a scaled loss: the hooks that take the scale off."""

    def __init__(self, scale: float) -> None:
        self._task = backward_pass()
        self._scale = scale
        self._hooks: list[tuple[dict[int, Any], int]] = []
        self._finalizer = weakref.finalize(self, _remove, self._hooks)

    def reach(self, leaf: Tensor) -> None:
        """Has the scale taken off what arrives at a leaf, once in a pass."""
        hooks: dict[int, Any] | None = leaf._backward_hooks
        others = list(hooks.items()) if hooks else []
        for _, other in others:
            if isinstance(other, _TakeOff) and other.task == self._task:
                if other.scale != self._scale:
                    raise ValueError(
                        "losses that are summed must have one loss scale; got "
                        f"{other.scale!r} and {self._scale!r}: scale the sum"
                    )
                return
        handle = leaf.register_hook(_TakeOff(self._task, self._scale))  # type: ignore[no-untyped-call]
        hooks = leaf._backward_hooks
        assert hooks is not None  # just registered
        # Before all others, which are to see the gradient itself.
        for key, other in others:
            del hooks[key]
            hooks[key] = other
        self._hooks.append((hooks, handle.id))

    def end(self) -> None:
        """Takes the hooks away."""
        self._finalizer()


class _TakeOff:
    """A hook that takes the scale off the gradient of a leaf."""

    __slots__ = ("scale", "task")

    def __init__(self, task: int, scale: float) -> None:
        self.task, self.scale = task, scale

    def __call__(self, gradient: Tensor | None) -> Tensor | None:
        # None arrives where a leaf is part of the graph and had no influence.
        return None if gradient is None else gradient / self.scale


def _remove(hooks: list[tuple[dict[int, Any], int]]) -> None:
    for of_leaf, key in hooks:
        of_leaf.pop(key, None)


def _leaves(root: Any) -> Iterator[Tensor]:
    """The leaves of a graph that want a gradient.

    Raises:
        ValueError: A loss in it was scaled already.
    """
    seen, nodes = {root}, [root]
    while nodes:
        for node, _ in nodes.pop().next_functions:
            if node is None or node in seen:
                continue
            seen.add(node)
            if type(node).__name__ == "AccumulateGrad":
                yield node.variable
                continue
            if getattr(node, "_forward_cls", None) is _ScaledLoss:
                raise ValueError("a loss must be scaled once; got one that was scaled already")
            nodes.append(node)
