"""Forward and backward passes of any module in low precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from optuna_peppp.lowprecision.scheme import Quantizer, Role, Rounder


class LowPrecisionModule(nn.Module):
    """A module computing in low precision, taken as its author wrote it.

    Weights, the network's input, the output of every submodule and the gradients of those
    outputs are rounded as the quantizer's scheme says; in training and in evaluation alike.
    Rounding happens at module boundaries: what a ``forward`` computes with plain functions
    between two modules stays float32 until the next one returns.

    The wrapped module is not changed: its parameters and buffers are those being trained, and
    hooks are on it only while it runs.

    Args:
        module: Any module.
        quantizer: Rounds its tensors.
    """

    def __init__(self, module: nn.Module, quantizer: Quantizer) -> None:
        super().__init__()
        self.module = module
        self.quantizer = quantizer
        self.outputs = _OutputRounding()

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Calls the module on inputs of any structure; its output is the logits."""
        gradients = torch.is_grad_enabled()
        # Tensors made in inference mode have no version, which tells of a change in place.
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), self.hooked():
            rounder = self.quantizer.rounder(self._device((inputs, named_inputs)))
            return self.compute(rounder, *inputs, **named_inputs)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Puts the hooks on that :meth:`compute` needs."""
        with ExitStack() as stack:
            for submodule in self.module.modules():
                if submodule is not self.module:
                    stack.callback(submodule.register_forward_hook(self.outputs).remove)
            yield

    def compute(self, rounder: Rounder, *inputs: Any, **named_inputs: Any) -> Any:
        """The passes themselves: what of a :meth:`forward` can be compiled."""
        outputs = self.outputs
        outputs.begin(rounder)
        try:
            weights: dict[str, Tensor] = dict(self.module.named_parameters())
            if weights:
                rounded = _Weights.apply(rounder, *weights.values())
                weights = dict(zip(weights, rounded, strict=True))
            inputs, named_inputs = _rounded(rounder, (inputs, named_inputs), "input", None)
            output = functional_call(self.module, weights, inputs, named_inputs)
            output = outputs.before_rounding(output)
            return _rounded(rounder, output, "logits", "logits")
        finally:
            outputs.end()

    def _device(self, inputs: Any) -> torch.device:
        tensors = [*self.module.parameters(), *tree_leaves(inputs)]
        return next((x.device for x in tensors if isinstance(x, Tensor)), torch.device("cpu"))


def _rounded(
    rounder: Rounder, values: Any, forward: Role, backward: Role | None, index: int = 0
) -> Any:
    """The structure with every floating-point tensor rounded, and its gradient."""
    leaves, structure = tree_flatten(values)
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            leaves[place] = _Rounding.apply(leaf, rounder, forward, backward, index + place)
    return tree_unflatten(leaves, structure)


class _OutputRounding:
    """A forward hook that rounds the outputs of submodules.

    It remembers the last output, before and after: a container returns the very tensor of its
    last child, which is not rounded a second time, and the network's own output must be
    rounded as logits instead of as an activation.
    """

    def __init__(self) -> None:
        self.container_in_place = False
        self.end()

    def begin(self, rounder: Rounder) -> None:
        """Rounds the outputs of one forward pass."""
        self._rounder: Rounder | None = rounder

    def end(self) -> None:
        """Lets go of the tensors of the pass."""
        self._rounder = None
        self._before: Any = None
        self._after: Any = None
        self._version = 0
        self._index = 0

    def __call__(self, submodule: nn.Module, inputs: Any, output: Any) -> Any:
        # Every output has a randomness of its own; containers count, since whether one is
        # rounded must not matter to the others.
        start, self._index = self._index, self._index + len(tree_leaves(output))
        if self._rounder is None or self._is_last(output, next(submodule.children(), None)):
            return output
        self._before = output
        self._after = _rounded(self._rounder, output, "activations", "activation_gradients", start)
        self._version = _version(self._after)
        return self._after

    def before_rounding(self, output: Any) -> Any:
        return self._before if self._is_last(output, self) else output

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


def _version(output: Any) -> int:
    known = isinstance(output, Tensor) and not torch.compiler.is_compiling()
    return output._version if known else 0


class _Rounding(torch.autograd.Function):
    """Straight-through estimator: rounds the tensor forward and its gradient backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rounder: Rounder, forward: Role, backward: Role | None, index: int
    ) -> Tensor:
        ctx.rounder, ctx.backward_role, ctx.index = rounder, backward, index
        rounded = rounder(x, forward, index)
        # A copy, for the next module may work in place.
        return x.clone() if rounded is x else rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        role = ctx.backward_role
        # The complement, for the logits have one role forward and backward.
        rounded = gradient if role is None else ctx.rounder(gradient, role, ~ctx.index)
        return rounded, None, None, None, None


class _Weights(torch.autograd.Function):
    """Rounds all weights in one pass; their gradients are left to the optimizer."""

    @staticmethod
    def forward(ctx: Any, rounder: Rounder, *parameters: Tensor) -> tuple[Tensor, ...]:
        # A weight that the network did not use has no gradient instead of one of zeros.
        ctx.set_materialize_grads(False)
        return tuple(rounded_together(parameters, rounder, "weights"))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *gradients


def rounded_together(tensors: Sequence[Tensor], rounder: Rounder, role: Role) -> list[Tensor]:
    """Rounds many tensors of one device in one pass instead of one call each."""
    flat = rounder(torch.cat([tensor.detach().reshape(-1) for tensor in tensors]), role)
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]
