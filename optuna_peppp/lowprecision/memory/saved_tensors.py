"""One forward pass of a network's copy, and the floats that it saves for the backward pass.

The pass runs on fake tensors, which know their shape, dtype and device but have no data: nothing
is computed or allocated, and every operation takes the kernel that it takes on that device. Only
a network that asks for values (a branch on a sum, a mask that selects) runs on real numbers.
"""

from __future__ import annotations

import inspect
import logging
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from optuna_peppp.configurations.sites import INPUT, Call
from optuna_peppp.lowprecision.compatibility import (
    FAKE_TENSOR_LOG,
    DataDependentOutputException,
    DynamicOutputShapeException,
    eager_where_compiled,
    is_traceable_wrapper_subclass,
    storage_key,
    tree_leaves,
    unset_fake_temporarily,
)
from optuna_peppp.lowprecision.memory.copies import Copier, OnCpu, WithoutData, is_hollow, is_sparse
from optuna_peppp.lowprecision.rounding.operators import Operators, call

ModuleHook = Callable[[nn.Module, Any, Any], None]
_NEED_VALUES: Final = (DataDependentOutputException, DynamicOutputShapeException)
_STACK: Final = 4
"""Frames from a warning here to the caller of a function of ``memory``."""


class Origin(NamedTuple):
    """Where a saved tensor comes from.

    Attributes:
        module: The name of the module that returned it or, where none did, that saved it.
        call: The call that returned it or, where none did, that returned last before it was saved;
            of the network's input that which stands for it.
    """

    module: str
    call: Call


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """What ran and what it saved.

    Attributes:
        network: The copy that ran; its parameters have their shapes, lazy ones too, but
            may have no data.
        saved: Floats that the pass saved for the backward pass, parameters and buffers aside, by
            where they come from. A storage counts once, however many saved tensors are views of
            it; a complex number counts as two floats. What the network itself keeps elsewhere (on
            the host, by ``save_on_cpu``) or computes again (``checkpoint``) is not counted.
    """

    network: nn.Module
    saved: dict[Origin, int]


def floats_of(tensor: Tensor) -> int:
    """Numbers of a tensor, a complex one being two."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def forward_pass(
    model: nn.Module,
    inputs: Any,
    hook: ModuleHook | None = None,
    *,
    written_out: bool = False,
) -> ForwardPass:
    """Runs a copy of a network in training mode; neither the network nor its inputs change.

    Args:
        model: Any module. Data-parallel and compiled modules run as what they wrap: as one, eager.
        inputs: What the network is called with. A tuple is taken as its arguments and a mapping
            as its keyword arguments, where its ``forward`` takes these; all else, and what
            ``forward`` does not take so, is its one argument. Tensors may lie on the device
            ``meta``, and those on the CPU follow the network to its device.
        hook: Forward hook of every module of the copy.
        written_out: Whether attention runs as the operators that it consists of, which save scores
            and probabilities, and not in one kernel.

    Raises:
        ValueError: The network needs values, which a model on the device ``meta`` has not.
        Exception: Whatever the network raises on these inputs.

    Warns:
        UserWarning: The network needed values: one real forward pass ran on the CPU.
    """
    with (
        _random_state_kept(),
        _quiet(),
        unset_fake_temporarily(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            return _run(model, inputs, hook, WithoutData(model), written_out)
        except Exception as error:  # whatever a network raises where a tensor has no value
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            if any(map(is_hollow, [*model.parameters(), *model.buffers()])):
                if not isinstance(error, _NEED_VALUES):
                    raise
                raise ValueError(
                    f"model must have data, because {type(model).__name__} asks for values "
                    f"({reason}); got parameters without data: build it on the CPU"
                ) from error
        result = _run(model, inputs, hook, OnCpu(), written_out)
    warnings.warn(
        f"{type(model).__name__} cannot run on tensors without data ({reason}); what it saves was "
        "counted in one real forward pass of the whole batch on the CPU",
        UserWarning,
        stacklevel=_STACK,
    )
    return result


def _run(
    model: nn.Module, inputs: Any, hook: ModuleHook | None, copier: Copier, written_out: bool
) -> ForwardPass:
    network = copier.network(model).train()
    arguments, keywords = _arguments(network, copier.inputs(inputs))
    if hook is not None:
        for module in network.modules():
            module.register_forward_hook(hook)
    own = [*network.parameters(), *network.buffers(), *model.parameters(), *model.buffers()]
    # Keeping these and the saved tensors alive keeps the identity of each storage its own.
    own = copier.as_seen(own)
    origins = _Origins(network, (arguments, keywords))
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        for part in _parts(tensor):
            if part.is_floating_point() or part.is_complex():
                saved.setdefault(storage_key(part), part)
                origins.save(part)
        return tensor

    with (
        copier.mode,
        eager_where_compiled(),
        saved_tensors_hooks(save, lambda tensor: tensor),
        Operators(call) if written_out else nullcontext(),
    ):
        output = network(*arguments, **keywords)
    del output
    own += copier.as_seen(copier.materialized)
    storages = {storage_key(part) for tensor in own for part in _parts(tensor)}
    by_origin: dict[Origin, int] = {}
    for storage, tensor in saved.items():
        if storage not in storages:
            origin = origins.of(storage)
            by_origin[origin] = by_origin.get(origin, 0) + _floats(tensor)
    return ForwardPass(network, by_origin)


class _Origins:
    """Which calls of modules return, or save, the tensors of a pass."""

    def __init__(self, network: nn.Module, inputs: Any) -> None:
        self._running = [""]
        self._calls: dict[str, int] = {}
        self._last: Call = INPUT
        self._returned: dict[int, Origin] = {}
        self._saved: dict[int, Origin] = {}
        # A storage keeps its identity while it lives.
        self._alive: list[Any] = []
        given = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
        self._inputs = {storage_key(part) for x in given for part in _parts(x)}
        for name, module in network.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                module.register_forward_pre_hook(partial(self._enter, name))
                module.register_forward_hook(partial(self._leave, name))

    def save(self, tensor: Tensor) -> None:
        """A tensor is saved by the module that runs."""
        storage = storage_key(tensor)
        call = INPUT if storage in self._inputs else self._last
        self._saved.setdefault(storage, Origin(self._running[-1], call))

    def of(self, storage: int) -> Origin:
        """Where what a storage holds comes from."""
        return self._returned.get(storage, self._saved.get(storage, Origin("", INPUT)))

    def _enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        self._running.append(name)

    def _leave(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        while self._running[-1] != name:  # modules that were left by an exception
            self._running.pop()
        self._running.pop()
        if not self._running:  # the network itself
            return
        call = self._last = name, self._calls.get(name, 0)
        self._calls[name] = call[1] + 1
        given = {id(x) for x in tree_leaves(inputs)}
        leaf = next(module.children(), None) is None
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                for part in _parts(tensor):
                    storage = storage_key(part)
                    self._alive.append(part.untyped_storage())
                    # What a module returns that it was given, it has changed in place.
                    if storage not in self._returned or (leaf and id(tensor) in given):
                        self._returned[storage] = Origin(name, call)


def _arguments(network: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    if type(inputs) is tuple:
        arguments, keywords = inputs, {}
    elif isinstance(inputs, Mapping) and all(isinstance(key, str) for key in inputs):
        arguments, keywords = (), dict(inputs)
    else:
        return (inputs,), {}
    try:
        signature = inspect.signature(network.forward)
    except ValueError:  # not written in Python
        return arguments, keywords
    try:
        signature.bind(*arguments, **keywords)
    except TypeError:
        return (inputs,), {}
    return arguments, keywords


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors with a storage that a tensor consists of."""
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    elif is_sparse(tensor):
        yield tensor._values() if tensor.layout == torch.sparse_coo else tensor.values()
    else:
        yield tensor


def _floats(tensor: Tensor) -> int:
    """Numbers that the whole storage of a tensor holds."""
    size = tensor.element_size() // (2 if tensor.is_complex() else 1)
    return tensor.untyped_storage().nbytes() // size


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch logs in this thread of operations that fail: they are raised, too."""
    thread = threading.get_ident()

    def elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger(FAKE_TENSOR_LOG)
    logger.addFilter(elsewhere)
    try:
        yield
    finally:
        logger.removeFilter(elsewhere)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Fixes what is drawn inside (layers that are dropped), and leaves no trace of it."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.default_generator.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
