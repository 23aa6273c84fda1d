"""Operators: functions that are called between modules, and compute.

A ``TorchFunctionMode`` sees every function that a ``forward`` calls, eagerly and while a compiler
makes a graph, under the same names. Modules of PyTorch without submodules compute as one, and what
they call inside is not looked at; whatever moves numbers or makes new ones does not compute. Two
functions compute several tensors, as attention does: these are written out.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]
Run = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]
"""Calls an operator with its arguments; what it returns stands for the result."""

_PAUSED: Final = object()

_ELSEWHERE: Final = """
view view_as reshape reshape_as flatten unflatten ravel transpose transpose_ t t_ permute movedim
moveaxis swapaxes swapdims squeeze squeeze_ unsqueeze unsqueeze_ expand expand_as broadcast_to
broadcast_tensors narrow select chunk split split_with_sizes tensor_split hsplit vsplit dsplit
unbind unfold diagonal as_strided detach detach_ contiguous clone real imag view_as_real
view_as_complex adjoint conj resolve_conj resolve_neg rename refine_names requires_grad_
atleast_1d atleast_2d atleast_3d __getitem__ __get__ __deepcopy__ __reversed__
repeat repeat_interleave tile flip fliplr flipud roll rot90 index_select gather take
take_along_dim masked_select masked_fill masked_fill_ masked_scatter masked_scatter_ where pad
pixel_shuffle pixel_unshuffle channel_shuffle tril tril_ triu triu_ copy_ index_copy index_copy_
index_fill index_fill_ scatter scatter_ diag diag_embed meshgrid sort
"""
_OF_ANOTHER_TYPE: Final = "to type type_as float double half bfloat16 cpu cuda"
_NEW: Final = """
zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_tensor new_zeros
new_ones new_full new_empty new_empty_strided zero_ fill_ normal_ uniform_ exponential_ bernoulli
bernoulli_ set_ resize_ grad backward
"""
_MOVES: Final = frozenset(f"{_ELSEWHERE} {_OF_ANOTHER_TYPE} {_NEW}".split())
"""Functions whose results hold numbers that were there before, or new ones: they compute none."""

_READS: Final = """
linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul
__matmul__ __rmatmul__ mm bmm addmm baddbmm addbmm addmv mv einsum tensordot chain_matmul _scores
"""
PRODUCTS: Final = frozenset(_READS.split())
"""Functions that read tensors as modules do."""


def name_of(function: Function) -> str:
    """What a function is called, be it a method."""
    name: str = getattr(function, "__name__", "")
    return name


def _functions() -> Iterator[Function]:
    """PyTorch's functions and methods."""
    for place in (torch, F, torch.special, torch.linalg, torch.fft):
        yield from (x for x in vars(place).values() if callable(x) and not isinstance(x, type))
    for name in dir(Tensor):
        yield getattr(Tensor, name)


# Sets of names: all that a compiler can tell of a function is whether its name is in a set.
_OPERATORS: Final = frozenset(map(name_of, _functions())) - _MOVES - {""}
"""Functions that compute."""

_IN_PLACE: Final = frozenset(
    {name for name in _OPERATORS if name.endswith("_") and not name.endswith("__")}
    | {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "pow", "matmul")}
)


class Operators(TorchFunctionMode):
    """Within its block, hands operators to a function that calls them.

    Args:
        run: What calls them.
        opaque: Names of modules whose functions are no operators.
        running: The modules that run, the innermost last; ``""`` is the network.

    Attributes:
        opaque, running: Those given, as they change.
    """

    def __init__(
        self, run: Run, opaque: frozenset[str] = frozenset(), running: Iterable[str] = ("",)
    ) -> None:
        super().__init__()
        self.running: list[Any] = list(running)
        self._run = run
        self.opaque: frozenset[Any] = opaque | {_PAUSED}

    def enter(self, name: str) -> None:
        """A module begins."""
        self.running.append(name)

    def pause(self) -> None:
        """What follows is no part of the network, until the module that runs is left."""
        self.running.append(_PAUSED)

    def leave(self, name: str) -> None:
        """A module has ended, and with it those within that were left by an exception."""
        while self.running.pop() != name:
            pass

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.running[-1] in self.opaque:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _MULTI_HEAD_ATTENTION(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attention(self._run, *args, **kwargs)
        return (self._run if func.__name__ in _OPERATORS else call)(func, args, kwargs)


def opaque_modules(network: nn.Module) -> frozenset[str]:
    """Names of the modules of a network that compute as one: PyTorch's without submodules."""
    return frozenset(name for name, module in network.named_modules() if is_opaque(module))


def is_opaque(module: nn.Module) -> bool:
    """Whether a module computes as one, and its output is the first tensor that is seen."""
    forward = getattr(type(module), "forward", None)
    written = str(getattr(forward, "__module__", ""))
    return next(module.children(), None) is None and written.startswith("torch.nn.")


def changed_in_place(function: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor | None:
    """The tensor that a call changes in place, as far as its name or ``inplace`` says so."""
    changes = function.__name__ in _IN_PLACE or kwargs.get("inplace")
    return args[0] if changes and args and isinstance(args[0], Tensor) else None


def call(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls an operator, and does nothing else."""
    return function(*args, **kwargs)


def _attention(
    run: Run,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``F.scaled_dot_product_attention`` as operators: scores, probabilities and products.

    A mask is no number of a format: what it hides has probability 0, in rows that are hidden as a
    whole, too. A mask that adds to the scores does so within their operator.
    """
    if enable_gqa:
        heads = query.size(-3)
        key = key.repeat_interleave(heads // key.size(-3), -3)
        value = value.repeat_interleave(heads // value.size(-3), -3)
    factor = query.size(-1) ** -0.5 if scale is None else scale
    seen = bias = None
    if is_causal:
        sizes = query.size(-2), key.size(-2)
        seen = torch.ones(sizes, dtype=torch.bool, device=query.device).tril()
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        seen = attn_mask
    elif attn_mask is not None:
        seen = attn_mask != -torch.inf
        bias = attn_mask.masked_fill(~seen, 0)
    scores = run(_scores, (query, key, factor, bias), {})
    probabilities = run(_probabilities, (scores, seen), {})
    if dropout_p > 0:
        probabilities = run(F.dropout, (probabilities, dropout_p), {})
    product: Tensor = run(torch.matmul, (probabilities, value), {})
    return product


def _scores(query: Tensor, key: Tensor, factor: float, bias: Tensor | None) -> Tensor:
    scores = torch.matmul(query, key.transpose(-2, -1)) * factor
    return scores if bias is None else scores + bias


def _probabilities(scores: Tensor, seen: Tensor | None) -> Tensor:
    if seen is None:
        return torch.softmax(scores, -1)
    least = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~seen, least), -1).masked_fill(~seen, 0)


def _looked_into(function: Any) -> Function:
    """A function of Python whose own functions are seen: one that asks nobody to stand for it.

    A check whose message is a closure, which no graph can hold, is left to the operation it guards.
    """
    others = {"has_torch_function": _never, "_check_key_padding_mask": _never}
    names = {**function.__globals__, **others}
    copied = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def _never(*values: Any) -> bool:
    return False


_MULTI_HEAD_ATTENTION: Final = _looked_into(F.multi_head_attention_forward)
