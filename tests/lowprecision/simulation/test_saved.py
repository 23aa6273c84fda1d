from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import LowPrecisionModule, packed_saved_tensors

NEAREST = Recipe.paper("1-4-3", "1-6-9")


class Computing(nn.Module):
    """An activation of what a layer and functions computed, which no format has."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.inner, self.activation = nn.Linear(64, 64), activation
        self.outer = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.outer(self.activation(1.3 * self.inner(x) + x))
        return y


def gradients(network: nn.Module, recipe: Recipe, x: Tensor, *, packed: bool) -> list[Any]:
    network.zero_grad()
    torch.manual_seed(0)  # of stochastic rounding
    x = x.clone().requires_grad_()
    LowPrecisionModule(network, recipe, packed=packed)(x).square().sum().backward()
    return [x.grad, *(p.grad for p in network.parameters())]


def assert_packed_as_without(network: nn.Module, recipe: Recipe, x: Tensor) -> None:
    want, got = (gradients(network, recipe, x, packed=packed) for packed in (False, True))
    for one, other in zip(want, got, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("activations", ["dynamic8@64", "bfloat16", "mxfp8-e4m3"])
def test_a_relu_lets_nan_pass_backward_too(activations: str) -> None:
    x = torch.randn(32, 64)
    x[0], x[1, 3] = torch.nan, torch.inf
    assert_packed_as_without(Computing(nn.ReLU()), Recipe.hardware(activations), x)


def test_what_others_save_of_a_relus_result_is_more_than_its_signs() -> None:
    network = Computing(nn.ReLU())
    of_hook: list[Tensor] = []
    network.activation.register_forward_hook(lambda relu, inputs, y: of_hook.append(y**3))

    def penalty(packed: bool) -> Tensor | None:
        network.zero_grad()
        LowPrecisionModule(network, NEAREST, packed=packed)(torch.ones(32, 64))
        torch.autograd.backward(of_hook.pop().sum())
        return network.inner.weight.grad

    want = penalty(packed=False)
    torch.testing.assert_close(penalty(packed=True), want, rtol=0, atol=0)


def test_slices_of_a_relus_result_are_more_than_its_signs() -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(64, 64))

        def forward(self, x: Tensor) -> Tensor:
            return x[4:28] @ self.weight

    network = Computing(nn.Sequential(nn.ReLU(), Sliced()))
    assert_packed_as_without(network, Recipe.named("mxfp8"), torch.randn(32, 64))


def test_the_signs_of_any_relu_take_a_bit_each() -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x)

    def held(activation: nn.Module) -> int:
        network = LowPrecisionModule(Computing(activation), NEAREST)
        with packed_saved_tensors(NEAREST) as block:
            output = network(torch.ones(32, 64))
        assert output.requires_grad
        return block.nbytes

    assert held(Functional()) == held(nn.ReLU())


def test_what_was_changed_in_place_afterwards_is_refused() -> None:
    class Changing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(x).add_(1)

    for packed, message in ((False, "modified by an inplace operation"), (True, "change a copy")):
        with pytest.raises(RuntimeError, match=message):
            gradients(Computing(Changing()), NEAREST, torch.randn(32, 64), packed=packed)


def test_what_is_kept_of_small_tensors_is_what_is_kept_without_packing() -> None:
    recipe = Recipe.hardware("int4@256/minmax")
    assert_packed_as_without(Computing(nn.Tanh()), recipe, torch.randn(1, 64))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_what_packing_computes_is_no_operator_of_the_network(use_reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = checkpoint(torch.exp, x, use_reentrant=use_reentrant)
            return y

    recipe = replace(Recipe.paper("1-4-3", "1-6-9", "stochastic"), sites="operators")
    assert_packed_as_without(Computing(Checkpointed()), recipe, torch.randn(32, 64))


def test_dropout_draws_what_it_draws_without_packing() -> None:
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 8))
    x, outputs = torch.randn(32, 64), []
    for block in (nullcontext(), packed_saved_tensors("bfloat16")):
        torch.manual_seed(0)
        with block:
            outputs.append(network(x))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Using `torch.compile:UserWarning")  # of PyTorch, of hooks
def test_a_block_is_for_its_own_thread_and_leaves_no_hook() -> None:
    compiled = torch.compile(nn.Linear(4, 4), backend="eager")
    hooks, block = len(module._global_forward_pre_hooks), packed_saved_tensors("mxfp8")
    with block, block, ThreadPoolExecutor(1) as pool:
        assert pool.submit(compiled, torch.ones(2, 4)).result().shape == (2, 4)
    assert len(module._global_forward_pre_hooks) == hooks
