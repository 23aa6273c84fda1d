from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import (
    LowPrecisionModule,
    LowPrecisionOptimizer,
    Quantizer,
    RoundingScheme,
    quantize,
)
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Rounding
from optuna_peppp.lowprecision.simulation.straight_through import rounded_together

PRECISION = Precision.parse("1-4-3", "1-6-7")
WHOLE = Precision.parse("1-8-23", "1-8-23")
"""All bits of float32: rounding changes nothing."""
A, B = PRECISION.format_a, PRECISION.format_b


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Softplus(),
        nn.Conv2d(4, 4, 2),
        nn.Flatten(),
        nn.Linear(4, 1),
    )


@pytest.mark.parametrize("build", [dense, convolutional])
def test_a_gradient_penalty_is_that_of_the_network(build: Any) -> None:
    gradients = []
    for low in (False, True):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = build()
        critic = LowPrecisionModule(network, Quantizer(WHOLE)) if low else network
        x = randn(4, 8, seed=1).requires_grad_()
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        ((slope.norm(dim=1) - 1) ** 2).mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_third_derivatives_are_those_of_the_network() -> None:
    network, answers = dense(), []
    for module in (network, LowPrecisionModule(network, Quantizer(WHOLE))):
        x = randn(4, 8, seed=1).requires_grad_()
        derivative = module(x).sum()
        for _ in range(3):
            (derivative,) = torch.autograd.grad(derivative.sum(), x, create_graph=True)
        answers.append(derivative)
    assert bool(answers[0].any())
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-7)


def test_second_derivatives_are_rounded_by_hand() -> None:
    """y = a w: the derivative of the rounded slope g by w, times v, is v rounded, times 1."""
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(first.weight)
    nn.init.ones_(second.weight)
    x = torch.ones(1, 1, requires_grad=True)
    logits = LowPrecisionModule(nn.Sequential(first, second), Quantizer(PRECISION))(x)
    (slope,) = torch.autograd.grad(logits, x, create_graph=True)
    torch.autograd.backward(slope, torch.tensor([[1.03]]))
    # What flows back through the gradient of the hidden activation is rounded as one: 1.03 to 1.
    assert second.weight.grad is not None
    assert second.weight.grad.tolist() == [[1.0]]
    assert first.weight.grad is not None
    assert first.weight.grad.tolist() == [[pytest.approx(1.03)]]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_weights_are_joined_by_dtype(rounding: Rounding) -> None:
    scheme = RoundingScheme(rounding=rounding)

    def together(tensors: list[Tensor]) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        rounder = Quantizer(PRECISION, scheme, generator).rounder(torch.device("cpu"))
        return rounded_together(tensors, rounder, "weights")

    first, last = randn(5, 3), randn(7, seed=1)
    others = [
        randn(dtype=torch.float64, seed=2),
        torch.tensor([7, 2**40 + 1]),
        randn(4, dtype=torch.float16, seed=3),
        torch.tensor([True, False]),
        randn(4, dtype=torch.bfloat16, seed=4),
        randn(2, 3, dtype=torch.complex64, seed=5),
        randn(2, 3, dtype=torch.complex128, seed=6).conj(),
        randn(0, 3),
    ]
    results = together([first, *others, last])
    expected = together([first, last])
    assert torch.equal(results[0], expected[0])
    assert torch.equal(results[-1], expected[1])
    for result, tensor in zip(results[1:-1], others, strict=True):
        assert (result.dtype, result.shape) == (tensor.dtype, tensor.shape)
        if tensor.is_complex():
            assert not result.is_conj()
            parts = torch.view_as_real(result), torch.view_as_real(tensor.resolve_conj())
        elif tensor.is_floating_point():
            parts = result, tensor
        else:
            assert torch.equal(result, tensor)
            continue
        assert torch.equal(quantize(parts[0], A), parts[0])
        if rounding == "nearest":
            assert torch.equal(parts[0], quantize(parts[1], A))


def test_without_weights() -> None:
    rounder = Quantizer(PRECISION).rounder(torch.device("cpu"))
    assert rounded_together([], rounder, "weights") == []


class Mixed(nn.Module):
    """Uses a parameter of another dtype before or behind a linear layer."""

    def __init__(self, extra: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.extra = nn.Parameter(extra, requires_grad=extra.is_floating_point())

    def forward(self, x: Tensor) -> Any:
        if self.extra.dtype == torch.float64:
            return self.linear(x) * self.extra.exp()
        if self.extra.dtype == torch.int64:
            return self.linear(x[:, self.extra])
        return self.linear((x.bfloat16() @ self.extra).float())


@pytest.mark.parametrize(
    "extra",
    [
        torch.tensor(2.3, dtype=torch.float64),
        torch.tensor([7, 0, 1, 2, 3, 4, 5, 6]),
        torch.eye(8, dtype=torch.bfloat16),
    ],
    ids=lambda x: str(x.dtype),
)
def test_a_parameter_of_another_dtype_trains(extra: Tensor) -> None:
    network = Mixed(extra)
    before = network.extra.detach().clone()
    quantizer = Quantizer(PRECISION, RoundingScheme(loss_scale=1.0))
    low = LowPrecisionModule(network, quantizer)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = LowPrecisionOptimizer(torch.optim.SGD(trained, lr=0.5, momentum=0.9), quantizer)
    torch.autograd.backward(optimizer.scale(low(randn(4, 8)).square().sum()))
    optimizer.step()
    assert network.extra.dtype == extra.dtype
    assert torch.equal(network.extra, before) == (not network.extra.requires_grad)


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(randn(5, dtype=torch.complex64))
        self.conjugate, self.linear = Conjugate(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        spectrum = self.conjugate(torch.fft.rfft(x) * self.weight.conj())
        return self.linear(torch.fft.irfft(spectrum, n=8))


class Conjugate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.conj()


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_complex_weights_are_two_floats(optimizer: Any) -> None:
    network = Spectral()
    x = randn(4, 8, seed=1)
    whole = LowPrecisionModule(network, Quantizer(WHOLE))
    torch.testing.assert_close(whole(x), network(x))
    before = torch.view_as_real(network.weight.detach().clone())
    quantizer = Quantizer(PRECISION, RoundingScheme(loss_scale=1.0))
    update = LowPrecisionOptimizer(optimizer(network.parameters(), lr=0.01), quantizer)
    assert torch.equal(torch.view_as_real(network.weight.detach()), quantize(before, B))
    loss = LowPrecisionModule(network, quantizer)(x).square().sum()
    torch.autograd.backward(update.scale(loss))
    gradient = network.weight.grad
    assert gradient is not None
    update.step()
    assert bool((gradient.imag != 0).any())
    assert bool((network.weight.imag != quantize(before, B)[:, 1]).any())
    after = torch.view_as_real(network.weight.detach())
    assert torch.equal(after, quantize(after, B))


def test_complex_activations_and_their_gradients() -> None:
    z = randn(3, 4, dtype=torch.complex64).requires_grad_()
    network = nn.Sequential(Doubled(), Conjugate(), Doubled())
    seen: list[Tensor] = []
    network[2].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    output = LowPrecisionModule(network, Quantizer(PRECISION))(z)
    for x, fmt in ((seen[0], A), (output, B)):
        assert not x.is_conj()
        parts = torch.view_as_real(x.detach())
        assert torch.equal(parts, quantize(parts, fmt))
    output.backward(randn(3, 4, dtype=torch.complex64, seed=1))
    assert z.grad is not None
    slopes = torch.view_as_real(z.grad.resolve_conj())
    assert torch.equal(slopes, quantize(slopes, A))
    assert bool((slopes[..., 1] != 0).any())
