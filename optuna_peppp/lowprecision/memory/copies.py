"""Copies of a network and its inputs that can run in their place: without data, or with it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from optuna_peppp.lowprecision.compatibility import (
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    OptimizedModule,
    tree_leaves,
)


def is_hollow(tensor: Tensor) -> bool:
    """Whether a tensor has no data."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def is_sparse(tensor: Tensor) -> bool:
    """Whether a tensor keeps only some of its values, in any order."""
    return str(tensor.layout).startswith("torch.sparse_")


class Copier(ABC):
    """Copies a network with everything that its forward pass can change.

    Whatever holds a tensor twice holds its copy twice. What cannot be copied (a lock, an open
    file) is shared, as are functions and what they close over.
    """

    mode: AbstractContextManager[Any] = nullcontext()

    def __init__(self) -> None:
        self.materialized: list[Tensor] = []
        self._memo: dict[int, Any] = {}

    @abstractmethod
    def tensor(self, tensor: Tensor) -> Tensor:
        """The copy of one tensor."""

    def lazy(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """The copy of a parameter or buffer whose shape the forward pass will tell."""
        lazy = copy.deepcopy(tensor)
        self.materialized.append(lazy)
        return lazy

    def inputs(self, inputs: Any) -> Any:
        """The copy of what the network is called with."""
        return self._value(inputs)

    def as_seen(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors, and what the operations of the pass see in place of them."""
        return [tensor for tensor in tensors if not is_lazy(tensor)]

    def network(self, model: nn.Module) -> nn.Module:
        """The copy of a network."""
        copies: list[tuple[nn.Module, nn.Module]] = []
        # All modules and their tensors first: what else holds them then finds their copies.
        for module in model.modules():
            if _wrapped(module) is not module or hasattr(type(module), "__deepcopy__"):
                continue
            copied = object.__new__(type(module))
            copies.append((module, copied))
            self._memo[id(module)] = copied
            for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                if tensor is not None and is_lazy(tensor):
                    self._memo[id(tensor)] = self.lazy(copied, name, tensor)
        for tensor in [*model.parameters(), *model.buffers()]:
            if not is_lazy(tensor):
                self._value(tensor)
        for module, copied in copies:
            vars(copied).update((name, self._value(value)) for name, value in vars(module).items())
            copied._compiled_call_impl = None
        network = self._value(model)
        assert isinstance(network, nn.Module)
        for parameter in network.parameters():
            if not parameter.is_leaf:  # the copy of a script's
                parameter.detach_().requires_grad_()
        return network

    def _value(self, value: Any) -> Any:
        if id(value) in self._memo:
            return self._memo[id(value)]
        copied: Any
        if isinstance(value, nn.Module) and _wrapped(value) is not value:
            copied = self._value(_wrapped(value))
        elif isinstance(value, Tensor):
            copied = self.tensor(value)
        elif type(value) in (dict, OrderedDict):
            copied = self._memo[id(value)] = type(value)()
            copied.update((self._value(key), self._value(item)) for key, item in value.items())
        elif type(value) is list:
            copied = self._memo[id(value)] = []
            copied.extend(map(self._value, value))
        elif type(value) in (tuple, set):
            copied = type(value)(map(self._value, value))
        else:
            try:
                copied = copy.deepcopy(value, self._memo)
            except Exception:  # whatever the classes of a network raise
                copied = value
        self._memo[id(value)] = copied
        return copied


def _wrapped(module: nn.Module) -> nn.Module:
    """The network inside the wrappers that say how, and not what, it computes."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif isinstance(module, OptimizedModule):
            module = module._orig_mod
        else:
            return module


class OnCpu(Copier):
    """Copies with their values, on the CPU."""

    def tensor(self, tensor: Tensor) -> Tensor:
        """A copy on the CPU; an input without data gets some."""
        if is_hollow(tensor):
            shape, dtype = tensor.shape, tensor.dtype
            if dtype.is_floating_point or dtype.is_complex:
                return torch.randn(shape, dtype=dtype, requires_grad=tensor.requires_grad)
            return torch.zeros(shape, dtype=dtype)
        copied: Tensor = copy.deepcopy(tensor.detach().cpu(), self._memo)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(copied, tensor.requires_grad)
        return copied.requires_grad_(tensor.requires_grad)


class _DenseFakes(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Refuses sparse tensors, whose number of values depends on the values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if any(isinstance(t, Tensor) and is_sparse(t) for t in tree_leaves(output)):
            raise DynamicOutputShapeException(func)
        return output


class WithoutData(Copier):
    """Copies without data, on the devices of the originals; those on none count as on the CPU."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.mode: FakeTensorMode = _DenseFakes(allow_non_fake_inputs=True)
        tensors = [*model.parameters(), *model.buffers()]
        devices = [tensor.device for tensor in tensors if not tensor.is_meta]
        self._device = devices[0] if devices else torch.device("cpu")
        self._follow = False

    def tensor(self, tensor: Tensor) -> Tensor:
        """A fake, on the network's device if it is an input."""
        copied = self._fake(tensor)
        if self._follow and tensor.device.type == "cpu":
            return copied.to(self._device)
        return copied

    def _fake(self, tensor: Tensor) -> Tensor:
        if is_sparse(tensor):
            raise DynamicOutputShapeException(torch.ops.aten.values.default)
        if is_hollow(tensor):
            device = self._device if tensor.is_meta else tensor.device
            with self.mode:
                hollow = torch.empty_strided(
                    tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device
                )
            if isinstance(tensor, nn.Parameter):
                return nn.Parameter(hollow, tensor.requires_grad)
            return hollow.requires_grad_(tensor.requires_grad)
        if tensor.ndim == 0 and tensor.device.type == "cpu" and not tensor.requires_grad:
            # A counter or a scale keeps its value: batch norm divides by its counter.
            converter = self.mode.fake_tensor_converter
            return converter.from_real_tensor(self.mode, tensor.clone(), make_constant=True)
        if not tensor.is_leaf:  # a hook computes it anew
            return self.mode.from_tensor(tensor.detach()).requires_grad_(tensor.requires_grad)
        return self.mode.from_tensor(tensor)

    def lazy(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """A fake that waits for its shape."""
        kind: Any = _LazyParameter if isinstance(tensor, nn.Parameter) else _LazyBuffer
        device = self._device if tensor.is_meta else tensor.device
        lazy: _Lazy = kind(requires_grad=tensor.requires_grad, device=device, dtype=tensor.dtype)
        lazy.home = module, name, self.materialized
        return lazy

    def inputs(self, inputs: Any) -> Any:
        """The inputs as fakes on the device of the network, but for those on yet another."""
        self._follow = True
        return super().inputs(inputs)

    def as_seen(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors, and the fakes through which the pass meets views of real ones."""
        tensors = super().as_seen(tensors)
        real = (tensor for tensor in tensors if not is_hollow(tensor))
        return [*tensors, *map(self.mode.from_tensor, real)]


class _Lazy(Tensor):
    """A parameter or buffer without a shape, which gives its place to one without data."""

    home: tuple[nn.Module, str, list[Tensor]]

    def materialize(
        self,
        shape: tuple[int, ...],
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Called by the lazy module, once it has seen its input."""
        module, name, materialized = self.home
        tensor = torch.empty(shape, device=device or self.device, dtype=dtype or self.dtype)
        if isinstance(self, nn.Parameter):
            tensor = module._parameters[name] = nn.Parameter(tensor, self.requires_grad)
        else:
            module._buffers[name] = tensor
        materialized.append(tensor)


class _LazyParameter(_Lazy, UninitializedParameter):
    pass


class _LazyBuffer(_Lazy, UninitializedBuffer):
    pass
