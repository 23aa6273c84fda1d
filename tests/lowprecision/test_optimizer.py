from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer

from optuna_peppp.formats import FloatFormat, Precision
from optuna_peppp.lowprecision import (
    LowPrecisionModule,
    LowPrecisionOptimizer,
    Quantizer,
    RoundingScheme,
    quantize,
)
from optuna_peppp.lowprecision.optimizer import OPTIMIZERS

A, B = FloatFormat(4, 3), FloatFormat(6, 7)
PRECISION = Precision(A, B)
Build = Callable[[Any], Optimizer]


def sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)


def adam(parameters: Any) -> Optimizer:
    return Adam(parameters, lr=0.01, weight_decay=5e-4)


def adamw(parameters: Any) -> Optimizer:
    return AdamW(parameters, lr=0.01)


def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(16, 6, generator=generator),
            torch.randint(0, 3, (16,), generator=generator),
        )
        for _ in range(count)
    ]


def is_in(x: Tensor, fmt: FloatFormat) -> bool:
    return torch.equal(quantize(x, fmt), x)


def states(optimizer: Optimizer) -> list[Tensor]:
    """Everything but the step count."""
    return [
        value
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]


@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_steps_are_those_of_qpytorch(qtorch: ModuleType, build: Build) -> None:
    """OptimLP multiplies by the inverse of the loss scale: the same for a power of two."""
    scale = 1024.0
    ours, theirs = network(), network()
    scheme = RoundingScheme(
        activations=None, activation_gradients=None, input=None, logits=None, loss_scale=scale
    )
    quantizer = Quantizer(PRECISION, scheme)
    module = LowPrecisionModule(ours, quantizer)
    optimizer = build(ours.parameters())
    update = LowPrecisionOptimizer(optimizer, quantizer)

    def rounding(fmt: FloatFormat) -> Callable[[Tensor], Tensor]:
        number = qtorch.FloatingPoint(exp=fmt.exponent, man=fmt.mantissa)
        rounded: Callable[[Tensor], Tensor] = qtorch.quant.quantizer(
            forward_number=number, forward_rounding="nearest"
        )
        return rounded

    # OptimLP leaves the initial accumulators and weights to the user.
    for p in theirs.parameters():
        p.data = rounding(B)(p.data)
    inner = build(theirs.parameters())
    reference = qtorch.optim.OptimLP(
        inner,
        weight_quant=rounding(A),
        grad_scaling=1 / scale,
        grad_quant=rounding(B),
        momentum_quant=rounding(B),
        acc_quant=rounding(B),
    )
    for p in theirs.parameters():
        p.data = rounding(A)(p.data)
    start = [p.detach().clone() for p in ours.parameters()]
    for images, labels in batches(10):
        update.zero_grad()
        loss = cross_entropy(module(images), labels)
        torch.autograd.backward(update.scale(loss))
        update.step()
        inner.zero_grad()
        torch.autograd.backward(cross_entropy(theirs(images), labels) * scale)
        reference.step()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, reference.weight_acc[other])
            assert torch.equal(quantize(one, A), other)
        assert all(map(torch.equal, states(optimizer), states(inner)))
    assert not any(map(torch.equal, ours.parameters(), start))


def test_two_steps_of_sgd_by_hand() -> None:
    # In 1-2-1 numbers are 0, 0.5, 1, 1.5, 2, 3, 4, 6; the learning rate is 1. What stands in .grad
    # has no loss scale.
    weight = nn.Parameter(torch.tensor([1.2]))
    optimizer = SGD([weight], lr=1.0, momentum=0.5)
    quantizer = Quantizer(Precision(A, FloatFormat(2, 1)), RoundingScheme(loss_scale=4.0))
    update = LowPrecisionOptimizer(optimizer, quantizer)
    assert weight.tolist() == [1.0]  # an accumulator from the start
    weight.grad = torch.tensor([0.8])
    update.step()
    # 0.8 becomes 1; 1 - 1 = 0.
    assert weight.grad.tolist() == [1.0]
    assert weight.tolist() == [0.0]
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [1.0]
    weight.grad = torch.tensor([-0.75])
    update.step()
    # -0.75 becomes -1; the momentum 0.5 - 1 = -0.5; 0 + 0.5 = 0.5.
    assert weight.grad.tolist() == [-1.0]
    assert weight.tolist() == [0.5]
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [-0.5]


@pytest.mark.parametrize("build", [sgd, adam, adamw])
def test_everything_is_kept_in_b(build: Build) -> None:
    model = network()
    optimizer = build(model.parameters())
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    assert all(is_in(p, B) for p in model.parameters())
    for images, labels in batches(3):
        update.zero_grad()
        torch.autograd.backward(update.scale(cross_entropy(model(images), labels)))
        update.step()
        assert all(is_in(p, B) for p in model.parameters())
        assert all(p.grad is not None and is_in(p.grad, B) for p in model.parameters())
        kept = states(optimizer)
        assert len(kept) == 4 * (1 if build is sgd else 2)
        assert all(is_in(state, B) for state in kept)
        assert all(bool(state.any()) for state in kept)


@pytest.mark.parametrize("choice", ["A", None])
@pytest.mark.parametrize("role", ["weight_gradients", "momentum", "accumulators"])
def test_every_choice_of_the_scheme(role: str, choice: str | None) -> None:
    """Against the loop written out."""
    scheme = replace(RoundingScheme(), **{role: choice})  # type: ignore[arg-type]

    def rounded(x: Tensor, choice: str | None) -> Tensor:
        return x if choice is None else quantize(x, A if choice == "A" else B)

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    gradients = 0.1 * torch.randn(4, 50, generator=generator)
    weight = nn.Parameter(start.clone())
    optimizer = SGD([weight], lr=0.1, momentum=0.9)
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION, scheme))
    accumulator, momentum = rounded(start, scheme.accumulators), torch.zeros(50)
    for gradient in gradients:
        weight.grad = gradient.clone()
        update.step()
        momentum = 0.9 * momentum + rounded(gradient, scheme.weight_gradients)
        accumulator = rounded(torch.add(accumulator, momentum, alpha=-0.1), scheme.accumulators)
        momentum = rounded(momentum, scheme.momentum)
        assert torch.equal(weight, accumulator)
    for kept, format_choice in (
        (weight.grad, scheme.weight_gradients),
        (optimizer.state[weight]["momentum_buffer"], scheme.momentum),
        (weight.detach(), scheme.accumulators),
    ):
        assert kept is not None
        assert is_in(kept, A) == (format_choice == "A")
        assert is_in(kept, B) == (format_choice is not None)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.full((3,), 1.1))
    optimizer = SGD([used, unused], lr=0.1, momentum=0.9, weight_decay=0.1)
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    before = unused.detach().clone()
    used.grad = torch.ones(3)
    update.step()
    assert torch.equal(unused, before)
    assert not optimizer.state[unused]
    assert bool((used < 1).all())
    update.zero_grad()
    assert used.grad is None
    update.step()  # with no gradient at all


@pytest.mark.parametrize("build", [sgd, adam])
def test_the_momentum_of_a_single_number_is_rounded(build: Build) -> None:
    weight = nn.Parameter(torch.tensor(1.1))
    optimizer = build([weight])
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    weight.grad = torch.tensor(123.4)
    update.step()
    weight.grad = torch.tensor(77.7)
    update.step()
    assert all(is_in(state, B) for state in states(optimizer))


@pytest.mark.parametrize("build", [adam, adamw])
def test_the_step_count_is_no_momentum(build: Build) -> None:
    weight = nn.Parameter(torch.tensor(1.1))
    optimizer = build([weight])
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))
    for _ in range(257):  # 1-6-7 holds 256, but not 257
        weight.grad = torch.tensor(1.0)
        update.step()
    assert optimizer.state[weight]["step"] == 257


def test_all_parameter_groups_are_updated() -> None:
    first, second = nn.Parameter(torch.tensor([1.1])), nn.Parameter(torch.tensor([1.1]))
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.25}]
    optimizer = SGD(groups, lr=0.5)
    update = LowPrecisionOptimizer(optimizer, Quantizer(PRECISION, RoundingScheme(loss_scale=1.0)))
    start = quantize(torch.tensor([1.1]), B)
    assert torch.equal(first, start)
    assert torch.equal(second, start)
    first.grad, second.grad = torch.ones(1), torch.ones(1)
    update.step()
    assert torch.equal(first, quantize(start - 0.5, B))
    assert torch.equal(second, quantize(start - 0.25, B))


def test_without_a_precision_it_is_the_optimizer_itself() -> None:
    ours, theirs = network(), network()
    quantizer = Quantizer(None, RoundingScheme(loss_scale=1024.0))
    update = LowPrecisionOptimizer(sgd(ours.parameters()), quantizer)
    plain = sgd(theirs.parameters())
    for images, labels in batches(5):
        update.zero_grad()
        torch.autograd.backward(update.scale(cross_entropy(ours(images), labels)))
        update.step()
        plain.zero_grad()
        torch.autograd.backward(cross_entropy(theirs(images), labels))
        plain.step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_other_optimizers_are_refused() -> None:
    optimizer = torch.optim.RMSprop(network().parameters())
    with pytest.raises(TypeError, match=r"must be torch.optim.SGD, Adam or AdamW; got RMSprop"):
        LowPrecisionOptimizer(optimizer, Quantizer(PRECISION))


def test_optimizers_by_name() -> None:
    weight = nn.Parameter(torch.ones(1))
    built = {name: type(build([weight], lr=0.1)) for name, build in OPTIMIZERS.items()}
    assert built == {"sgd": SGD, "adam": Adam, "adamw": AdamW}
