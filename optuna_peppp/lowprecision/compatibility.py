"""PyTorch's private names, all that are used: what for, and where they were tried.

They may change with any release. Those here were tried with PyTorch 2.14.1. Attributes of objects
that have no public reader are read where they are needed: ``Tensor._version``,
``Tensor._backward_hooks``, ``Module._parameters``, ``_buffers`` and ``_forward_hooks``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch._C import (
    DisableTorchFunction,  # calls functions past all modes
)
from torch._dynamo import (
    OptimizedModule,  # what torch.compile wraps a module in, which is looked at in its place
    eval_frame,  # see eager_where_compiled
)
from torch._guards import detect_fake_mode  # the mode that made tensors without data
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,  # raised where a value is asked of a tensor without data
    DynamicOutputShapeException,  # raised where a shape depends on such a value
    FakeTensor,  # a tensor without data
    FakeTensorMode,  # makes them, to run a network for nothing but its shapes
    unset_fake_temporarily,  # leaves the mode of a caller, whose tensors would be in the way
)
from torch.multiprocessing.reductions import (
    StorageWeakRef,  # tells whether a storage lives
)
from torch.overrides import (
    _pop_mode_temporarily as without_function_mode,  # calls functions past the innermost mode
)
from torch.utils import checkpoint  # see checkpoint_classes
from torch.utils._python_dispatch import (
    TorchDispatchMode,  # sees every operation of a pass
    is_traceable_wrapper_subclass,  # tells a tensor that consists of others
)
from torch.utils._python_dispatch import (
    _disable_current_modes as disable_current_modes,  # hides a pass from the modes of a user
)
from torch.utils._python_dispatch import (
    _get_current_dispatch_mode as current_dispatch_mode,  # nothing can be compiled under one
)
from torch.utils._pytree import (
    tree_flatten,  # structures of any kind as a list of their leaves
    tree_leaves,  # the list alone
    tree_unflatten,  # and back
)

__all__ = [
    "FAKE_TENSOR_LOG",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "OptimizedModule",
    "TorchDispatchMode",
    "at_the_end_of_backward",
    "backward_pass",
    "checkpoint_classes",
    "compiled_graphs",
    "compiler_settings",
    "copy_all",
    "current_dispatch_mode",
    "detect_fake_mode",
    "disable_current_modes",
    "eager_where_compiled",
    "in_the_graph",
    "is_traceable_wrapper_subclass",
    "saved_by_relu",
    "saved_tensors_seen",
    "set_checkpoint_classes",
    "storage_key",
    "storage_watch",
    "tree_flatten",
    "tree_leaves",
    "tree_unflatten",
    "unseen",
    "unset_fake_temporarily",
    "without_function_mode",
]

T = TypeVar("T")
U = TypeVar("U")

FAKE_TENSOR_LOG: Final = "torch._subclasses.fake_tensor"
"""The logger of operations that fail without data."""

eager_where_compiled: Callable[[], AbstractContextManager[None]] = getattr(
    eval_frame, "_use_eager_on_nested_compile", nullcontext
)
"""Runs compiled functions eagerly, in this thread only, which ``torch.compiler.set_stance`` does
not; older PyTorch has none."""


def compiler_settings(**settings: Any) -> AbstractContextManager[Any]:
    """Settings of the compiler's front end for a block; ``torch.compile`` takes none of them."""
    patched: AbstractContextManager[Any] = torch._dynamo.config.patch(**settings)
    return patched


def compiled_graphs() -> int:
    """How many graphs this process has compiled."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def backward_pass() -> int:
    """The number of the backward pass that this thread is in, -1 for none."""
    return int(torch._C._current_graph_task_id())


def at_the_end_of_backward(callback: Callable[[], None]) -> None:
    """Has something called when the backward pass that this thread is in ends."""
    engine: Any = torch.autograd.Variable._execution_engine
    engine.queue_callback(callback)


def copy_all(destinations: list[Tensor], sources: list[Tensor]) -> None:
    """Copies tensors of one dtype and device into others, in one kernel."""
    torch._foreach_copy_(destinations, sources)


def storage_key(tensor: Tensor) -> int:
    """What tells the storage of a tensor from others, while it lives."""
    return int(tensor.untyped_storage()._cdata)


def storage_watch(tensor: Tensor) -> Callable[[], bool]:
    """Tells whether the storage of a tensor is gone, without keeping it.

    As long as this is there, no other storage has the same :func:`storage_key`.
    """
    gone: Callable[[], bool] = StorageWeakRef(tensor.untyped_storage()).expired  # type: ignore[no-untyped-call]
    return gone


def unseen(function: Callable[[T], U]) -> Callable[[T], U]:
    """The function as one that calls PyTorch's functions past all modes."""

    def called(x: T) -> U:
        with DisableTorchFunction():
            return function(x)

    return called


def saved_by_relu(x: Tensor) -> Any:
    """What a hook of saved tensors made of the result that a ReLU saved, None of any other tensor.

    Where PyTorch does not tell, it is None, too.
    """
    node = x.grad_fn
    if node is None or node.name() != "ReluBackward0":
        return None
    of_result: Any = node
    return getattr(of_result._raw_saved_result, "data", None)


def checkpoint_classes() -> tuple[Any, Any]:
    """What keeps a checkpoint's function to run it again: not reentrant, and reentrant."""
    return checkpoint._CheckpointFrame, checkpoint.CheckpointFunction


def set_checkpoint_classes(frame: Any, function: Any) -> None:
    """Puts others in their place, as checkpoints have no hook for it."""
    replaced: Any = checkpoint
    replaced._CheckpointFrame, replaced.CheckpointFunction = frame, function


def in_the_graph(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that a compiler calls while it makes a graph, and does not look into."""
    allow: Any = torch._dynamo.allow_in_graph
    allowed: Callable[..., Tensor] = allow(function)
    return allowed


class saved_tensors_seen:  # noqa: N801 (a context manager)
    """Hooks of saved tensors are called in this block, also while a graph is made."""

    def __enter__(self) -> None:
        self._before = torch._C._autograd._saved_tensors_hooks_set_tracing(False)

    def __exit__(self, *error: object) -> None:
        torch._C._autograd._saved_tensors_hooks_set_tracing(self._before)
