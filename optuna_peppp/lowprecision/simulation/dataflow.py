"""Which calls of modules compute the logits: what follows them are functions only.

The last module of a network need not return the network's output: its logits may be put into a
container, reshaped, or given to a softmax, and there may be several. A call computes logits when
its result reaches the output, and no other call of a module reads it. To find out, the network
runs once, without data, on a copy, and every operation hands on from which calls its inputs came.

Operators compute logits in the same way where they are sites; of these, products read as modules
do. Those that no parameter, no input of numbers and no module had a part in are constants.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from optuna_peppp.lowprecision.compatibility import (
    FakeTensor,
    FakeTensorMode,
    TorchDispatchMode,
    detect_fake_mode,
    disable_current_modes,
    storage_key,
    tree_leaves,
)
from optuna_peppp.lowprecision.rounding.operators import (
    PRODUCTS,
    Operators,
    is_opaque,
    name_of,
    opaque_modules,
)
from optuna_peppp.lowprecision.simulation.fast_paths import without_fast_paths
from optuna_peppp.lowprecision.simulation.sites import Call, Roles
from optuna_peppp.lowprecision.simulation.straight_through import (
    has_numbers,
    is_rounded,
    leaves_of,
    map_leaves,
)

_GIVEN: Final[Call] = ("", -1)
"""Stands for the parameters and the inputs of a network."""


def roles_of(module: nn.Module, inputs: Any, operators: bool = False) -> Roles:
    """Which calls of submodules compute the logits.

    Args:
        module: A network; left as it is.
        inputs: Its positional and its named inputs.
        operators: Whether operators are sites, too.

    Returns:
        The calls; none where the network runs neither without data nor on a copy.
    """
    given = detect_fake_mode([*module.parameters(), *leaves_of(inputs)])
    for mode in (given or FakeTensorMode(allow_non_fake_inputs=True), None):
        try:
            with _unseen(), torch.random.fork_rng(enabled=mode is None):
                return _run(module, inputs, mode, operators)
        except Exception:  # a network may need what this pass has not got: values, itself
            continue
    return Roles()


def _run(module: nn.Module, inputs: Any, mode: FakeTensorMode | None, operators: bool) -> Roles:
    def without_data(x: Any, index: int = 0) -> Any:
        if mode is None or not isinstance(x, Tensor) or isinstance(x, FakeTensor):
            return x
        return mode.from_tensor(x)

    # A tensor that was computed, as a weight that is normalized, cannot be copied.
    kept = [x for m in module.modules() for x in vars(m).values() if isinstance(x, Tensor)]
    if mode is not None:
        kept += [*module.parameters(), *module.buffers()]
    copied = copy.deepcopy(module, {id(x): without_data(x) for x in kept})
    positional, named = map_leaves(without_data, inputs)[0]
    flow = _Flow(opaque_modules(copied) if operators else None)
    if operators:
        flow.given((positional, named, list(copied.parameters())))
    for name, submodule in copied.named_modules():
        # The user's own may keep what they see.
        submodule._forward_hooks.clear()
        submodule._forward_pre_hooks.clear()
        if submodule is not copied:
            submodule.register_forward_pre_hook(partial(flow.enter, name))
            submodule.register_forward_hook(partial(flow.call, name))
    seen = flow.operators or nullcontext()
    with without_fast_paths(copied), mode or nullcontext(), flow, seen:
        output = copied(*positional, **named)
    logits = flow.sources(output) - flow.read - {_GIVEN}
    return Roles(frozenset(logits), frozenset(flow.constants))


@contextmanager
def _unseen() -> Iterator[None]:
    """Hides a pass from what looks at those of the user, and leaves the random states."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with disable_current_modes(), saved_tensors_hooks(_same, _same):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _same(x: Tensor) -> Tensor:
    return x


class _Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps of every storage the calls that what it holds was computed from.

    Args:
        opaque: Modules whose functions are no operators; None where no operator is a site.

    Attributes:
        read: Calls whose results were read by other calls.
        constants: Operators that computed from nothing that was given.
        operators: Calls them, where they are sites.
    """

    def __init__(self, opaque: frozenset[str] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: set[Call] = set()
        self.constants: set[Call] = set()
        self.operators = None if opaque is None else Operators(self._operate, opaque)
        self._sources: dict[int, set[Call]] = {}
        self._writes: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._calls: dict[str, int] = {}
        self._last: Any = None
        # A storage keeps its identity while it lives.
        self._alive: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        sources = self.sources((args, kwargs))
        changed: list[Any] = []
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                changed += tree_leaves(value)
        for key in self._keys(changed):
            self._writes[key] = self._writes.get(key, 0) + 1
        if sources:
            for key in self._keys((changed, result)):
                self._sources.setdefault(key, set()).update(sources)
        return result

    def given(self, values: Any) -> None:
        """Tensors that what is computed from is no constant."""
        tensors = [x for x in leaves_of(values) if isinstance(x, Tensor) and is_rounded(x)]
        for key in self._keys(tensors):
            self._sources[key] = {_GIVEN}

    def enter(self, name: str, submodule: nn.Module, inputs: Any) -> None:
        """A forward hook, before a module runs."""
        if self.operators is not None:
            self.operators.enter(name)

    def call(self, name: str, submodule: nn.Module, inputs: Any, output: Any) -> None:
        """A forward hook: the output of this call comes from it, and from nothing else."""
        if self.operators is not None:
            self.operators.pause()
        self._call(name, output, _hands_on(submodule, self.operators))
        if self.operators is not None:
            self.operators.leave(name)

    def _operate(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls an operator: what it returns comes from it, too."""
        result = function(*args, **kwargs)
        if not has_numbers(result):
            return result
        if name_of(function) in PRODUCTS:
            constant = not self.sources((args, kwargs))
            call = self._call("", result, False)
        else:
            call = "", self._calls.get("", 0)
            self._calls[""] = call[1] + 1
            constant = not self.sources(result)
            for key in self._keys(result):
                self._sources.setdefault(key, set()).add(call)
            self._last = result
        if constant:
            self.constants.add(call)
            for key in self._keys(result):
                self._sources[key] = set()
        return result

    def _call(self, name: str, output: Any, hands_on: bool) -> Call:
        call = name, self._calls.get(name, 0)
        self._calls[name] = call[1] + 1
        if output is self._last and hands_on:
            return call
        self._last = output
        keys = self._keys(output)
        for key in keys:
            sources = self._sources.get(key, set())
            if self._written.get(key) == self._writes.get(key, 0):
                # A view of what was given: it is handed on, and not read.
                self._sources[key] = sources | {call}
            else:
                self.read |= sources - {call}
                self._sources[key] = {call}
            self._written[key] = self._writes.get(key, 0)
        return call

    def sources(self, values: Any) -> set[Call]:
        """The calls that tensors were computed from."""
        return set().union(*(self._sources.get(key, set()) for key in self._keys(values)))

    def _keys(self, values: Any) -> list[int]:
        tensors = [x for x in leaves_of(values) if isinstance(x, Tensor)]
        self._alive += [x.untyped_storage() for x in tensors]
        return list(dict.fromkeys(map(storage_key, tensors)))


def _hands_on(module: nn.Module, operators: Operators | None) -> bool:
    """Whether what a module returns may be what another site returned."""
    if operators is not None:
        return not is_opaque(module)
    return next(module.children(), None) is not None
