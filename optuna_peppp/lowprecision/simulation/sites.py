"""The sites of a pass: calls of modules, whose outputs are rounded and numbered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from optuna_peppp.configurations.sites import Call
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.simulation.assigned import Assigned
from optuna_peppp.lowprecision.simulation.keeping import with_kept
from optuna_peppp.lowprecision.simulation.straight_through import map_leaves, rounded


@dataclass(frozen=True, slots=True)
class Part:
    """A pass from where it stands, to be computed again.

    Attributes:
        rounder: Of the pass.
        logits: Calls that compute the logits.
        weights: The weights, rounded.
        index: How many tensors were numbered before.
        logits_index: How many tensors of the logits were.
        calls: How often every module was called.
        assigned: Which activations have the lower format, where a rule says.
    """

    rounder: Rounder
    logits: frozenset[Call]
    weights: dict[str, Tensor]
    index: int
    logits_index: int
    calls: dict[str, int]
    assigned: Assigned | None


class OutputRounding:
    """Forward hooks that round the outputs of submodules, as activations or as logits.

    It remembers the last output, before and after: a container returns the very tensor of its
    last child, which is not rounded a second time, and an activation that turns out to be the
    network's own output must be rounded as logits instead.

    Args:
        exempt: Names of modules that are exempt from the recipe, and by which exemption.

    Attributes:
        container_in_place: Whether a module changed in place what a submodule had returned.
    """

    def __init__(self, exempt: Mapping[str, int]) -> None:
        self.container_in_place = False
        self._exempt = exempt
        self.end()

    def end(self) -> None:
        """Lets go of the tensors of the pass."""
        self._rounder: Rounder | None = None
        self._logits: frozenset[Call] = frozenset()
        self._weights: dict[str, Tensor] = {}
        self._keeps = False
        self._assigned: Assigned | None = None
        self._before: Any = None
        self._after: Any = None
        self._version = 0
        self._finished: list[tuple[Tensor, int]] = []
        self._index = self._logits_index = 0
        self._calls: dict[str, int] = {}

    def begin(
        self,
        rounder: Rounder,
        logits: frozenset[Call],
        weights: dict[str, Tensor],
        keeps: bool = False,
        assigned: Assigned | None = None,
    ) -> None:
        """Rounds the outputs of one forward pass, of which something may be kept."""
        # Containers of this pass: a compiler gives back what it finds in those from before.
        self.end()
        self._rounder = rounder
        self._logits = logits
        self._weights = weights
        self._keeps = keeps
        self._assigned = assigned

    @property
    def running(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._rounder is not None

    def part(self) -> Part:
        """The pass from here on."""
        assert self._rounder is not None
        place = self._index, self._logits_index, dict(self._calls)
        return Part(self._rounder, self._logits, self._weights, *place, self._assigned)

    @contextmanager
    def resumed(self, part: Part) -> Iterator[None]:
        """Goes on with a part of a pass, be it within another, which is left as it is."""
        before = vars(self).copy()
        self.begin(part.rounder, part.logits, part.weights, assigned=part.assigned)
        self._index, self._logits_index = part.index, part.logits_index
        self._calls = dict(part.calls)
        try:
            yield
        finally:
            vars(self).update(before)

    @contextmanager
    def on(self, module: nn.Module) -> Iterator[None]:
        """Puts the hooks on the submodules of a network."""
        handles = [
            submodule.register_forward_hook(partial(self._hook, name))
            for name, submodule in module.named_modules()
            if submodule is not module
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str, submodule: nn.Module, inputs: Any, output: Any) -> Any:
        # Every output has a randomness of its own; containers count, since whether one is
        # rounded must not matter to the others.
        start = self._index
        self._index = map_leaves(_itself, output, start)[1]
        call = name, self._calls.get(name, 0)
        self._calls[name] = call[1] + 1
        if self._rounder is None or self._is_last(output, next(submodule.children(), None)):
            return output
        if call in self._logits and not self._ends:
            self._before = self._after = self._round_logits(output)
        else:
            exemption = self._exempt.get(name)
            rounder = self._rounder.of(exemption)
            if self._assigned is not None and exemption is None:
                rounder = self._assigned.of(rounder, call, output)
            self._before = output
            self._after = rounded(rounder, output, "activations", "activation_gradients", start)
            if self._keeps:
                self._after = with_kept(rounder, output, self._after, "activations", start)
        self._version = _version(self._after)
        return self._after

    def finish(self, output: Any) -> Any:
        """The network's own output, rounded as logits."""
        if self._ends:
            return output
        if self._is_last(output, self) and _has_graph(self._before) == _has_graph(output):
            output = self._before
        return self._round_logits(output)

    @property
    def _ends(self) -> bool:
        """Whether logits are activations like all others."""
        return self._assigned is not None and self._assigned.ends

    def _round_logits(self, output: Any) -> Any:
        assert self._rounder is not None
        rounder = self._rounder

        def one(leaf: Any, index: int) -> Any:
            if not isinstance(leaf, Tensor) or self._is_finished(leaf):
                return leaf
            leaf = rounded(rounder, leaf, "logits", "logits", index)
            self._finished.append((leaf, _version(leaf)))
            return leaf

        output, self._logits_index = map_leaves(one, output, self._logits_index)
        return output

    def _is_finished(self, leaf: Tensor) -> bool:
        """Whether this was rounded as logits, and is as it was."""
        for other, version in self._finished:
            if other is leaf:
                changed = _version(leaf) != version
                self.container_in_place |= changed
                return not changed
        return False

    def _is_last(self, output: Any, contents: object | None) -> bool:
        """Whether this is the last output, as it was rounded; ``contents`` is None for a leaf."""
        if output is not self._after:
            return False
        # An in-place operation keeps the object and changes what it holds. A compiler cannot see
        # that, so an eager pass has to tell it whether one happens outside of a leaf.
        if torch.compiler.is_compiling():
            return contents is not None
        changed = _version(output) != self._version
        self.container_in_place |= changed and contents is not None
        return not changed


def _itself(leaf: Any, index: int) -> Any:
    return leaf


def _has_graph(output: Any) -> bool:
    return isinstance(output, Tensor) and output.requires_grad


def _version(output: Any) -> int:
    known = isinstance(output, Tensor) and not torch.compiler.is_compiling()
    return output._version if known else 0
