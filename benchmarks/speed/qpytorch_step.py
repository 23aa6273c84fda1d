"""The rival: a training step in low precision as a user of QPyTorch 0.3 writes it.

A ``Quantizer`` follows every module but containers and those that hand on what they got, one is
before the network, another takes its logits, and ``OptimLP`` is around ``torch.optim.SGD``: the
same boundaries as those of :class:`~optuna_peppp.lowprecision.LowPrecisionModule`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision.rounding.quantize import Rounding
from optuna_peppp.lowprecision.training.batches import Batches


def why_missing() -> str:
    """Why QPyTorch cannot be used here; empty where it can be.

    The first import on a machine compiles C++, and CUDA where there is a device.
    """
    try:
        import qtorch.optim
        import qtorch.quant  # noqa: F401
    except Exception as error:  # what a failed build raises differs between compilers
        return f"{type(error).__name__}: {error}"
    return ""


class QPyTorchStep:
    """Trains a network on one batch at a time: its parameters become the rounded weights."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.SGD,
        batches: Batches,
        precision: Precision,
        rounding: Rounding,
        loss_scale: float,
    ) -> None:
        from qtorch import FloatingPoint
        from qtorch.optim import OptimLP
        from qtorch.quant import Quantizer, quantizer

        def number(fmt: FloatFormat) -> Any:
            return FloatingPoint(exp=fmt.exponent, man=fmt.mantissa)

        both: dict[str, Rounding] = {"forward_rounding": rounding, "backward_rounding": rounding}
        a, b = number(precision.format_a), number(precision.format_b)
        activations = Quantizer(a, a, **both)
        *inner, _ = (
            module
            for module in network.modules()
            if not list(module.children()) and not isinstance(module, nn.Identity)
        )
        for module in inner:
            module.register_forward_hook(lambda *call: activations(call[-1]))
        self._input, self._logits = Quantizer(b, **both), Quantizer(b, b, **both)
        to_a, to_b = quantizer(a, **both), quantizer(b, **both)
        self._parameters = list(network.parameters())
        for parameter in self._parameters:
            parameter.data = to_b(parameter.data)
        # It copies the parameters as they are now: they become the weight accumulators.
        self._optimizer = OptimLP(
            optimizer,
            weight_quant=to_a,
            grad_scaling=1 / loss_scale,
            grad_quant=to_b,
            momentum_quant=to_b,
            acc_quant=to_b,
        )
        for parameter in self._parameters:
            parameter.data = to_a(parameter.data)
        self._network, self._batches, self._loss_scale = network, batches, loss_scale

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Trains on a batch of images, as they are stored."""
        self._optimizer.zero_grad()
        inputs = self._input(self._batches.standardized(images))
        loss = cross_entropy(self._logits(self._network(inputs)), labels)
        torch.autograd.backward(loss * self._loss_scale)
        self._optimizer.step()

    def accumulators(self) -> list[Tensor]:
        """The weight accumulators, which the optimizer updates."""
        return [self._optimizer.weight_acc[parameter] for parameter in self._parameters]
