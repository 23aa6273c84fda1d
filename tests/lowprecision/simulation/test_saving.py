from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision import (
    ImageData,
    LowPrecisionModule,
    Quantizer,
    build_model,
    low_precision,
    packed_saved_tensors,
    train,
    training_memory,
)

RECIPES = {
    "nearest": Recipe.paper("1-3-1", "1-6-7"),
    "stochastic": Recipe.paper("1-4-3", "1-6-9", "stochastic"),
    "bfloat16": Recipe.named("bfloat16"),
    "fp8-hybrid": Recipe.named("fp8-hybrid"),
    "mxfp8": Recipe.named("mxfp8"),
    "nvfp4": Recipe.named("nvfp4"),
    "saved": Recipe.hardware("int4@256/minmax"),
}
NEAREST = RECIPES["nearest"]


class Block(nn.Module):
    """A residual block with dropout, in place or not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu, self.dropout = nn.ReLU(inplace), nn.Dropout(0.1, inplace)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn(self.conv(x)))
        y = y.add_(x) if self.relu.inplace else y + x
        output: Tensor = self.dropout(self.relu(y))
        return output


def residual(inplace: bool = False) -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), Block(inplace), Block(inplace)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def in_place() -> nn.Module:
    return residual(inplace=True)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Conv2d(3, 8, 3), Block(False), nn.Conv2d(8, 4, 14)

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.block, self.first(x), use_reentrant=False)
        output: Tensor = self.last(x).flatten(1)
        return output


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual,
    "in place": in_place,
    "checkpointed": Checkpointed,
    "vit": lambda: build_model("vit", 4, (3, 16, 16)),
}


def passes(
    build: Callable[[], nn.Module], recipe: Recipe, packed: bool
) -> tuple[list[Tensor], packed_saved_tensors | None]:
    """Gradients of one batch, and what was held."""
    torch.manual_seed(0)
    model, x = build(), torch.randn(4, 3, 16, 16)
    network = LowPrecisionModule(model, Quantizer(recipe))
    torch.manual_seed(1)
    block = packed_saved_tensors(recipe) if packed else None
    if block is None:
        output = network(x)
    else:
        with block:
            output = network(x)
            loss = nn.functional.cross_entropy(output, torch.arange(4))
    loss = nn.functional.cross_entropy(output, torch.arange(4))
    return list(torch.autograd.grad(loss, list(model.parameters()))), block


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_gradients_are_those_without_packing(recipe: str, network: str) -> None:
    plain, _ = passes(NETWORKS[network], RECIPES[recipe], packed=False)
    packed, _ = passes(NETWORKS[network], RECIPES[recipe], packed=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, packed, strict=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_held_is_what_memory_counts(recipe: str) -> None:
    torch.manual_seed(0)
    model, x = build_model("resnet20", 4, (3, 32, 32)), torch.randn(16, 3, 32, 32)
    network = LowPrecisionModule(model, Quantizer(RECIPES[recipe]))
    with packed_saved_tensors(RECIPES[recipe]) as held:
        output = network(x)
    usage = training_memory(model, (3, 32, 32), 16, RECIPES[recipe])
    assert held.nbytes == pytest.approx(usage.activations + usage.weights, rel=0.1)
    assert held.nbytes_unpacked > 2 * held.nbytes
    output.sum().backward()
    gc.collect()
    assert held.nbytes == 0


def test_a_storage_is_held_once_however_many_save_it() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(64, 64, bias=False)
            self.one, self.other = nn.Linear(64, 1, bias=False), nn.Linear(64, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            output: Tensor = self.one(x) * self.other(x.view(8, 4, 64)).view(32, 1)
            return output

    network = LowPrecisionModule(Twice(), NEAREST)
    with packed_saved_tensors(NEAREST) as held:
        output = network(torch.randn(32, 64))
    # The input of 14 bits a number, what first returned of 5; the rest is small.
    assert held.nbytes == pytest.approx((32 * 64 * 14 + 32 * 64 * 5) / 8, abs=300)
    del output


def test_masks_and_indices_take_few_bits() -> None:
    # Sums are float32: of what the ReLU saves, only the signs are needed.
    pooled = nn.Sequential(nn.Conv2d(1, 4, 1), nn.MaxPool2d(2), nn.Flatten())
    with packed_saved_tensors(NEAREST) as held:
        output = LowPrecisionModule(pooled, NEAREST)(torch.randn(4, 1, 32, 32))
    numbers = 4 * 4 * 32 * 32
    bits = 4 * 32 * 32 * 14 + numbers * 5 + numbers // 4 * 10
    assert held.nbytes == pytest.approx(bits / 8, abs=300)
    del output


def test_an_ordinary_training_keeps_what_it_saves_in_few_bits() -> None:
    torch.manual_seed(0)
    network, x = (
        nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)),
        torch.randn(64, 64),
    )
    plain = torch.autograd.grad(network(x).square().mean(), list(network.parameters()))
    with packed_saved_tensors(Recipe.hardware("int8@256/minmax")) as held:
        loss = network(x).square().mean()
    # Parameters are no saved tensors of anybody's: in float32 they would be seven times as much.
    assert held.nbytes < held.nbytes_unpacked / 2
    packed = torch.autograd.grad(loss, list(network.parameters()))
    assert any(not torch.equal(one, other) for one, other in zip(plain, packed, strict=True))
    for one, other in zip(plain, packed, strict=True):
        assert (one - other).norm() < 0.02 * one.norm()


def test_a_loop_of_ones_own_trains_packed_as_without() -> None:
    def trained(packed: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model, x = residual(), torch.randn(4, 3, 16, 16)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        network, optimizer = low_precision(  # type: ignore[assignment]
            model, optimizer, "mxfp8", seed=0, packed=packed
        )
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x), torch.arange(4))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    assert all(torch.equal(*pair) for pair in zip(trained(True), trained(False), strict=True))


def test_train_packed_is_the_eager_training() -> None:
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8)
    data = ImageData("noise", images, torch.arange(24) % 4, images, torch.arange(24) % 4, 4)
    weights = []
    for settings in ({"packed": True}, {"backend": "eager"}):
        torch.manual_seed(0)
        model, own = residual(), dict[str, Any](settings)
        train(model, data, NEAREST, epochs=2, batch_size=8, **own)
        weights.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))


def test_a_recipe_must_say_what_is_kept() -> None:
    with pytest.raises(ValueError, match="recipe must be a Recipe with the role 'saved'"):
        packed_saved_tensors(Recipe({}))
    with pytest.raises(ValueError, match="Did you mean 'mxfp8'"):
        packed_saved_tensors("mxfp9")


@pytest.mark.filterwarnings("ignore:Using `torch.compile:UserWarning")  # of PyTorch, of hooks
def test_a_compiled_module_is_refused() -> None:
    network = torch.compile(nn.Linear(4, 4), backend="eager")
    refused = pytest.raises(ValueError, match="call the module that it was made of")
    with refused, packed_saved_tensors("mxfp8"):
        network(torch.ones(2, 4))
    network(torch.ones(2, 4))
