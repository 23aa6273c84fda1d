"""What the backward pass gets of activations that are kept in another format."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from optuna_peppp import Recipe, parse_format
from optuna_peppp.lowprecision import LowPrecisionModule, quantize
from optuna_peppp.lowprecision.simulation.keeping import _passes

KEPT = parse_format("1-3-1")
RECIPE = Recipe({"saved": KEPT})


def layers(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("inplace", [False, True])
def test_the_forward_pass_is_exact_and_the_backward_pass_reads_what_is_kept(inplace: bool) -> None:
    model, x = layers(inplace), torch.randn(5, 6)
    low = LowPrecisionModule(model, RECIPE)
    output = low(x)
    assert torch.equal(output, layers()(x))
    output.sum().backward()
    first, last = model[0], model[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    hidden = quantize(first(x).relu().detach(), KEPT)
    ones = torch.ones(5, 3)
    assert torch.equal(_gradient(last.weight), ones.T @ hidden)
    # Where what is kept is zero, nothing passes back.
    back = (ones @ last.weight.detach()) * (hidden > 0)
    assert torch.allclose(_gradient(first.weight), back.T @ quantize(x, KEPT), atol=1e-6)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_kept_stochastically_gradients_have_no_bias() -> None:
    recipe = Recipe({"saved": parse_format("1-3-1")}, frozenset({"saved"}))
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    x, total = torch.randn(3, 4), torch.zeros(2, 4)
    low = LowPrecisionModule(model, recipe)
    for _ in range(400):
        model.zero_grad()
        low(x).sum().backward()
        total += _gradient(list(model.parameters())[1])
    exact = x @ next(model.parameters()).detach().T
    expected = exact.sum(0).expand(2, 4)
    # A number is rounded by half a unit of a quarter of itself at most: 400 passes of 3 inputs.
    bound = 5 * 0.25 * float(exact.abs().max()) * (3 / 400) ** 0.5
    assert float((total / 400 - expected).abs().max()) < bound


def test_nothing_is_kept_without_a_backward_pass_or_after_an_error() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError

    low = LowPrecisionModule(layers(), RECIPE)
    with torch.no_grad():
        low(torch.randn(5, 6))
    assert not _passes()
    with pytest.raises(KeyError):
        LowPrecisionModule(nn.Sequential(nn.Linear(6, 8), Failing()), RECIPE)(torch.randn(5, 6))
    assert not _passes()
    plain = torch.randn(3, requires_grad=True)
    torch.autograd.backward(plain.square().sum())
    assert torch.equal(_gradient(plain), 2 * plain.detach())


def test_what_functions_compute_is_kept_as_it_is() -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 8)

        def forward(self, x: Tensor) -> Tensor:
            hidden: Tensor = self.linear(x) * 1.1
            return hidden.square()

    torch.manual_seed(0)
    model, x = Squared(), torch.randn(5, 6)
    LowPrecisionModule(model, RECIPE)(x).sum().backward()
    gradient = 2.2 * 1.1 * model.linear(x).detach()
    kept = quantize(x, KEPT)
    assert torch.allclose(_gradient(model.linear.weight), gradient.T @ kept, rtol=1e-5)


def test_of_a_slice_the_slice_is_kept() -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.weight = nn.Linear(6, 8), nn.Parameter(torch.randn(8, 3))
            self.outer = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            hidden: Tensor = self.inner(x)
            output: Tensor = self.outer(hidden[1:4] @ self.weight)
            return output

    model, x = Sliced(), torch.randn(5, 6)
    LowPrecisionModule(model, RECIPE)(x).sum().backward()
    hidden = quantize(model.inner(x).detach(), KEPT)[1:4]
    back = model.outer.weight.detach().expand(3, 3)
    torch.testing.assert_close(_gradient(model.weight), hidden.T @ back)
