"""Forward and backward passes of any module in low precision."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from optuna_peppp.lowprecision.scheme import Quantizer, Role


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

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Calls the module on inputs of any structure; its output is the logits."""
        gradients = torch.is_grad_enabled()
        # Tensors made in inference mode have no version, which tells of a change in place.
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), ExitStack() as stack:
            weights: dict[str, Tensor] = dict(self.module.named_parameters())
            if weights:
                rounded = _Weights.apply(self.quantizer, *weights.values())
                weights = dict(zip(weights, rounded, strict=True))
            inputs, named_inputs = self._rounded((inputs, named_inputs), "input", None)
            outputs = _OutputRounding(self)
            for submodule in self.module.modules():
                if submodule is not self.module:
                    stack.callback(submodule.register_forward_hook(outputs).remove)
            output = functional_call(self.module, weights, inputs, named_inputs)
            return self._rounded(outputs.before_rounding(output), "logits", "logits")

    def _rounded(self, values: Any, forward: Role, backward: Role | None) -> Any:
        """The structure with every floating-point tensor rounded, and its gradient."""
        return tree_map(
            lambda x: (
                _Rounding.apply(x, self.quantizer, forward, backward)
                if isinstance(x, Tensor) and x.is_floating_point()
                else x
            ),
            values,
        )


class _OutputRounding:
    """A forward hook that rounds the outputs of submodules.

    It remembers the last output, before and after: a container returns the very tensor of its
    last child, which is not rounded a second time, and the network's own output must be
    rounded as logits instead of as an activation.
    """

    def __init__(self, owner: LowPrecisionModule) -> None:
        self._owner = owner
        self._before: Any = None
        self._after: Any = None
        self._version = 0

    def __call__(self, submodule: nn.Module, inputs: Any, output: Any) -> Any:
        if self._is_last(output):
            return output
        self._before = output
        self._after = self._owner._rounded(output, "activations", "activation_gradients")
        self._version = _version(self._after)
        return self._after

    def before_rounding(self, output: Any) -> Any:
        return self._before if self._is_last(output) else output

    def _is_last(self, output: Any) -> bool:
        # An in-place operation keeps the object and changes what it holds.
        return output is self._after and _version(output) == self._version


def _version(output: Any) -> int:
    return output._version if isinstance(output, Tensor) else 0


class _Rounding(torch.autograd.Function):
    """Straight-through estimator: rounds the tensor forward and its gradient backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, quantizer: Quantizer, forward: Role, backward: Role | None
    ) -> Tensor:
        ctx.quantizer, ctx.backward_role = quantizer, backward
        rounded = quantizer(x, forward)
        # A copy, for the next module may work in place.
        return x.clone() if rounded is x else rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        role = ctx.backward_role
        return gradient if role is None else ctx.quantizer(gradient, role), None, None, None


class _Weights(torch.autograd.Function):
    """Rounds all weights in one pass; their gradients are left to the optimizer."""

    @staticmethod
    def forward(ctx: Any, quantizer: Quantizer, *parameters: Tensor) -> tuple[Tensor, ...]:
        # A weight that the network did not use has no gradient instead of one of zeros.
        ctx.set_materialize_grads(False)
        return tuple(rounded_together(parameters, quantizer, "weights"))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *gradients


def rounded_together(
    tensors: list[Tensor] | tuple[Tensor, ...], quantizer: Quantizer, role: Role
) -> list[Tensor]:
    """Rounds many tensors of one device in one pass instead of one call each."""
    flat = quantizer(torch.cat([tensor.detach().reshape(-1) for tensor in tensors]), role)
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]
