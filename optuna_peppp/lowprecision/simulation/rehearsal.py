"""One run of a network's copy without data, of which every operation and every call is watched.

What must be known of a network before it trains is found out so: which calls compute its logits,
which tensors there are, and which products lie between them.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from optuna_peppp.configurations.sites import Call
from optuna_peppp.lowprecision.compatibility import (
    FakeTensor,
    FakeTensorMode,
    TorchDispatchMode,
    detect_fake_mode,
    disable_current_modes,
    storage_key,
    tree_leaves,
)
from optuna_peppp.lowprecision.simulation.fast_paths import without_fast_paths
from optuna_peppp.lowprecision.simulation.straight_through import leaves_of, map_leaves

Seen = TypeVar("Seen", bound="Watcher")


class Watcher(TorchDispatchMode):
    """Sees every operation of a pass, and every call of a submodule before and after it.

    Attributes:
        output: What the network returned.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.output: Any = None
        self._writes: dict[int, int] = {}
        self._calls: dict[str, int] = {}
        # A storage keeps its identity while it lives.
        self._alive: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        changed: list[Any] = []
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                changed += tree_leaves(value)
        for key in self.storages(changed):
            self._writes[key] = self._writes.get(key, 0) + 1
        self.operation(func, (args, kwargs), (changed, result))
        return result

    def operation(self, func: Any, read: Any, written: Any) -> None:
        """An operation of PyTorch ran."""

    def within(self) -> AbstractContextManager[object]:
        """In what else the pass runs."""
        return nullcontext()

    def enter(self, name: str, submodule: nn.Module, inputs: Any) -> None:
        """A submodule is called."""

    def leave(self, call: Call, submodule: nn.Module, output: Any) -> None:
        """A submodule returns."""

    def writes(self, key: int) -> int:
        """How often a storage has been written to by operations that change their argument."""
        return self._writes.get(key, 0)

    def storages(self, values: Any) -> list[int]:
        """The identities of all tensors' storages."""
        tensors = [x for x in leaves_of(values) if isinstance(x, Tensor)]
        self._alive += [x.untyped_storage() for x in tensors]
        return list(dict.fromkeys(map(storage_key, tensors)))

    def next_call(self, name: str) -> Call:
        """The next call of what has a name."""
        call = name, self._calls.get(name, 0)
        self._calls[name] = call[1] + 1
        return call

    def watch(self, name: str, submodule: nn.Module) -> None:
        """Puts hooks on a submodule of the copy."""
        submodule.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)
        submodule.register_forward_hook(partial(self._leave, name))

    def _enter(self, name: str, submodule: nn.Module, inputs: Any, named: Any) -> None:
        self.enter(name, submodule, (inputs, named))

    def _leave(self, name: str, submodule: nn.Module, inputs: Any, output: Any) -> None:
        self.leave(self.next_call(name), submodule, output)


def rehearse(
    module: nn.Module,
    inputs: Any,
    watcher: Callable[[nn.Module], Seen],
    *,
    training: bool | None = None,
    raises: bool = False,
) -> Seen | None:
    """Runs a copy of a network without data; where that cannot be, with it.

    Args:
        module: A network; left as it is.
        inputs: Its positional and its named inputs.
        watcher: Makes, of the copy, what sees the run.
        training: Whether the copy is in training mode; None leaves that as it is.
        raises: Whether to raise what the network raises where it runs neither way.

    Returns:
        What saw it, and knows the output; None where the network runs neither way.
    """
    problems = []
    given = detect_fake_mode([*module.parameters(), *leaves_of(inputs)])
    for mode in (given or FakeTensorMode(allow_non_fake_inputs=True), None):
        try:
            with _unseen(), torch.random.fork_rng(enabled=mode is None):
                return _run(module, inputs, watcher, training, mode)
        except Exception as problem:  # it may need what this pass has not got: values, itself
            problems.append(problem)
    if raises:
        # Without data to run on, the second run tells of that alone.
        hollow = any(isinstance(x, Tensor) and x.is_meta for x in leaves_of(inputs))
        raise problems[0 if hollow else -1]
    return None


def _run(
    module: nn.Module,
    inputs: Any,
    watcher: Callable[[nn.Module], Seen],
    training: bool | None,
    mode: FakeTensorMode | None,
) -> Seen:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))

    def without_data(x: Any, index: int = 0) -> Any:
        if mode is None or not isinstance(x, Tensor) or isinstance(x, FakeTensor):
            return x
        if x.is_meta and device.type != "meta":  # shapes, for a network that is somewhere
            with mode:
                return torch.empty_like(x, device=device)
        return mode.from_tensor(x)

    # A tensor that was computed, as a weight that is normalized, cannot be copied.
    kept = [x for m in module.modules() for x in vars(m).values() if isinstance(x, Tensor)]
    if mode is not None:
        kept += [*module.parameters(), *module.buffers()]
    copied = copy.deepcopy(module, {id(x): without_data(x) for x in kept})
    if training is not None:
        copied.train(training)
    positional, named = map_leaves(without_data, inputs)[0]
    watching = watcher(copied)
    for name, submodule in copied.named_modules():
        # The user's own may keep what they see.
        submodule._forward_hooks.clear()
        submodule._forward_pre_hooks.clear()
        if submodule is not copied:
            watching.watch(name, submodule)
    watching.enter("", copied, (positional, named))
    with without_fast_paths(copied), mode or nullcontext(), watching, watching.within():
        watching.output = copied(*positional, **named)
    return watching


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
