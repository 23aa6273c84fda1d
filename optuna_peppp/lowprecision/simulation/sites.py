"""The sites of a pass: calls of modules and operators, whose outputs are rounded and numbered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from optuna_peppp.lowprecision.compatibility import without_function_mode
from optuna_peppp.lowprecision.rounding.operators import (
    Function,
    Operators,
    changed_in_place,
)
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.simulation.assigned import Assigned
from optuna_peppp.lowprecision.simulation.keeping import with_kept
from optuna_peppp.lowprecision.simulation.part import Part, Roles
from optuna_peppp.lowprecision.simulation.saving import packing
from optuna_peppp.lowprecision.simulation.straight_through import (
    has_numbers,
    map_leaves,
    rounded,
)


class OutputRounding:
    """Forward hooks that round the outputs of submodules, as activations or as logits.

    Where operators are sites, too, their results are rounded in the same way.

    It remembers the last output, before and after: a container returns the very tensor of its
    last child, which is not rounded a second time, and an activation that turns out to be the
    network's own output must be rounded as logits instead.

    Args:
        exempt: Names of modules that are exempt from the recipe, and by which exemption.
        opaque: Names of modules whose functions are no operators; None where no operator is a site.

    Attributes:
        container_in_place: Whether a module changed in place what a submodule had returned.
    """

    def __init__(self, exempt: Mapping[str, int], opaque: frozenset[str] | None = None) -> None:
        self.container_in_place = False
        self._exempt = exempt
        self._opaque = opaque
        self.end()

    def end(self) -> None:
        """Lets go of the tensors of the pass."""
        self._rounder: Rounder | None = None
        self._roles = Roles()
        self._weights: dict[str, Tensor] = {}
        self._state: list[Tensor] = []
        self._operators: Operators | None = None
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
        roles: Roles,
        weights: dict[str, Tensor],
        state: list[Tensor],
        keeps: bool = False,
        running: tuple[str, ...] = ("",),
        assigned: Assigned | None = None,
    ) -> None:
        """Rounds the outputs of one forward pass, of which something may be kept."""
        # Containers of this pass: a compiler gives back what it finds in those from before.
        self.end()
        self._rounder = rounder
        self._roles = roles
        self._weights = weights
        self._state = state
        self._keeps = keeps
        self._assigned = assigned
        if self._opaque is not None:
            self._operators = Operators(self._operate, self._opaque, running)

    def operators(self) -> AbstractContextManager[object]:
        """Within this block, operators of the pass are rounded where they are sites."""
        return nullcontext() if self._operators is None else self._operators

    @property
    def running(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._rounder is not None

    def part(self) -> Part:
        """The pass from here on."""
        assert self._rounder is not None
        place = self._index, self._logits_index, dict(self._calls)
        running = () if self._operators is None else tuple(self._operators.running)
        of_pass = self._rounder, self._roles, self._weights, self._state
        return Part(*of_pass, *place, running, self._assigned)

    @contextmanager
    def resumed(self, part: Part) -> Iterator[None]:
        """Goes on with a part of a pass, be it within another, which is left as it is."""
        before, around = vars(self).copy(), self._operators
        if around is not None:
            around.pause()
        self.begin(
            *(part.rounder, part.roles, part.weights, part.state),
            running=part.running,
            assigned=part.assigned,
        )
        self._index, self._logits_index = part.index, part.logits_index
        self._calls = dict(part.calls)
        try:
            with self.operators():
                yield
        finally:
            vars(self).update(before)
            if around is not None:
                around.running.pop()

    @contextmanager
    def on(self, module: nn.Module) -> Iterator[None]:
        """Puts the hooks on the submodules of a network."""
        handles: list[Any] = []
        for name, submodule in module.named_modules():
            if submodule is module:
                continue
            if self._opaque is not None:
                handles.append(submodule.register_forward_pre_hook(partial(self._enter, name)))
            handles.append(submodule.register_forward_hook(partial(self._hook, name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, submodule: nn.Module, inputs: Any) -> None:
        if self._operators is not None:
            self._operators.enter(name)

    def _hook(self, name: str, submodule: nn.Module, inputs: Any, output: Any) -> Any:
        operators = self._operators
        if operators is None:
            contents = next(submodule.children(), None)
            return self._site(name, name, output, contents is not None)
        operators.pause()
        with without_function_mode():
            output = self._site(name, name, output, name not in operators.opaque)
        operators.leave(name)
        return output

    def _operate(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls an operator and rounds what it returns; what it changes in place, in place."""
        target = changed_in_place(function, args, kwargs)
        place = "", self._calls.get("", 0)
        if target is None or place in self._roles.constants or self._is_state(target):
            result = function(*args, **kwargs)
        else:
            # On a copy: the derivative may need what the operator itself has computed.
            result = function(target.clone(), *args[1:], **kwargs)
        if not has_numbers(result):
            return result
        if place in self._roles.constants or (target is not None and self._is_state(target)):
            self._calls[""] = place[1] + 1
            return result
        assert self._operators is not None
        result = self._site("", self._operators.running[-1], result, False)
        if target is None:
            return result
        target.copy_(result)
        self._after, self._version = target, _version(target)
        return target

    def _is_state(self, target: Tensor) -> bool:
        return any(target is tensor for tensor in self._state)

    def _site(self, name: str, module: str, output: Any, hands_on: bool) -> Any:
        """The output of a call as it was rounded.

        Args:
            name: Of what was called.
            module: The module whose exemption counts.
            output: Of the call.
            hands_on: Whether it may be what another site returned.
        """
        # Every output has a randomness of its own; containers count, since whether one is
        # rounded must not matter to the others.
        start = self._index
        self._index = map_leaves(_itself, output, start)[1]
        call = name, self._calls.get(name, 0)
        self._calls[name] = call[1] + 1
        if self._rounder is None or self._is_last(output, hands_on):
            return output
        if call in self._roles.logits and not self._ends:
            self._before = self._after = self._round_logits(output)
        else:
            exemption = self._exempt.get(module)
            rounder = self._rounder.of(exemption)
            if self._assigned is not None and exemption is None:
                rounder = self._assigned.of(rounder, call, output)
            self._before = output
            self._after = rounded(rounder, output, "activations", "activation_gradients", start)
            block = packing()
            if block is not None:
                block.site(rounder, output, self._after, "activations", exemption, start)
            elif self._keeps:
                self._after = with_kept(rounder, output, self._after, "activations", start)
        self._version = _version(self._after)
        return self._after

    def finish(self, output: Any) -> Any:
        """The network's own output, rounded as logits."""
        if self._ends:
            return output
        if self._is_last(output, True) and _has_graph(self._before) == _has_graph(output):
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
            raw, leaf = leaf, rounded(rounder, leaf, "logits", "logits", index)
            block = packing()
            if block is not None:
                block.site(rounder, raw, leaf, "logits", index=index)
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

    def _is_last(self, output: Any, hands_on: bool) -> bool:
        """Whether this is the last output, as it was rounded, if it may be so."""
        if output is not self._after:
            return False
        # An in-place operation keeps the object and changes what it holds. A compiler cannot see
        # that, so an eager pass has to tell it whether one happens outside of a leaf.
        if torch.compiler.is_compiling():
            return hands_on
        changed = _version(output) != self._version
        self.container_in_place |= changed and hands_on
        return not changed


def _itself(leaf: Any, index: int) -> Any:
    return leaf


def _has_graph(output: Any) -> bool:
    return isinstance(output, Tensor) and output.requires_grad


def _version(output: Any) -> int:
    known = isinstance(output, Tensor) and not torch.compiler.is_compiling()
    return output._version if known else 0
