"""What is kept of activations for the backward pass, where that is not the activations themselves.

Operations save their operands; those that are outputs of modules, or inputs of the network, are
replaced by what a recipe keeps of them (role ``saved``) when the backward pass asks. So the
forward pass computes with activations as they are, and the backward pass with what was kept, as in
ActNN (Chen et al., 2021) and GACT (Liu et al., 2022).

Saved tensors pass through hooks of autograd, which know their storage alone. What is done to the
hooks are operations of a compiled graph, and happens while that is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from optuna_peppp.configurations.roles import Role
from optuna_peppp.lowprecision.compatibility import (
    in_the_graph,
    saved_tensors_seen,
    storage_key,
)
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.simulation.straight_through import (
    is_rounded,
    leaves_of,
    map_leaves,
)


class _Kept:
    """Of one pass, what is kept of each storage."""

    def __init__(self) -> None:
        # A storage keeps its identity while it lives.
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._hooks = saved_tensors_hooks(_same, self.unpack), saved_tensors_seen()

    def begin(self) -> None:
        """Puts the hooks on."""
        for hooks in self._hooks:
            hooks.__enter__()

    def end(self) -> None:
        """Takes them off; what was saved till now remembers them."""
        for hooks in reversed(self._hooks):
            hooks.__exit__(None, None, None)

    def remember(self, x: Tensor, kept: Tensor) -> None:
        """What is kept of a tensor that has a storage of its own."""
        if x.numel() * x.element_size() == x.untyped_storage().nbytes():
            self._kept[storage_key(x)] = x, kept

    def unpack(self, saved: Tensor) -> Tensor:
        """What the backward pass gets in place of a saved tensor."""
        _, kept = self._kept.get(storage_key(saved), (saved, saved))
        if kept is saved or kept.dtype != saved.dtype:
            return saved
        if (kept.shape, kept.stride()) == (saved.shape, saved.stride()):
            return kept
        return kept.as_strided(saved.shape, saved.stride(), saved.storage_offset())


_PASSES: Final = threading.local()
"""The passes of a thread that keep something, the innermost last."""


def _passes() -> list[_Kept]:
    if not hasattr(_PASSES, "running"):
        _PASSES.running = []
    running: list[_Kept] = _PASSES.running
    return running


def begun(values: Any) -> Any:
    """The inputs of a pass, from which on something is kept of activations."""
    return _first_tensor(_begin, values)


def ended(values: Any) -> Any:
    """The output of a pass; what is computed from it is saved as it is."""
    return _first_tensor(_end, values)


def with_kept(rounder: Rounder, raw: Any, values: Any, role: Role, index: int = 0) -> Any:
    """Activations, of which something else is kept.

    Args:
        rounder: Of the pass.
        raw: As they were computed.
        values: As they were rounded.
        role: What they are.
        index: Number of the first tensor; the others follow.
    """
    computed = iter(leaves_of(raw))

    def one(leaf: Any, place: int) -> Any:
        before = next(computed)
        if not isinstance(leaf, Tensor) or not is_rounded(leaf):
            return leaf
        return _remember(before, leaf, rounder.kept(leaf.detach(), role, place))

    return map_leaves(one, values, index)[0]


@in_the_graph
def _begin(x: Tensor) -> Tensor:
    _passes().append(_Kept())
    _passes()[-1].begin()
    return x.clone()


@in_the_graph
def _remember(raw: Tensor, x: Tensor, kept: Tensor) -> Tensor:
    for same in (raw, x):
        _passes()[-1].remember(same, kept)
    return x


@in_the_graph
def _end(x: Tensor) -> Tensor:
    _passes().pop().end()
    return x.clone()


def _first_tensor(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    """The values with the first tensor replaced: what a graph does not need, it does not do."""
    seen = False

    def one(leaf: Any, place: int) -> Any:
        nonlocal seen
        if seen or not isinstance(leaf, Tensor):
            return leaf
        seen = True
        return function(leaf)

    return map_leaves(one, values)[0]


@contextmanager
def abandoned_where_it_fails() -> Iterator[None]:
    """Ends what a pass in this block began and, as it failed, did not end."""
    depth = len(_passes())
    try:
        yield
    finally:
        while len(_passes()) > depth:
            _passes().pop().end()


def _same(x: Any) -> Any:
    return x
