from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock

from optuna_peppp.configurations.names import NETWORKS, Network
from optuna_peppp.lowprecision import build_model
from optuna_peppp.lowprecision.networks import MODELS

SMALLEST = [
    ("plain3", (1, 1, 1)),
    ("plain3", (3, 8, 8)),
    ("resnet20", (1, 1, 1)),
    ("resnet18", (1, 1, 1)),
    ("resnet34", (3, 1, 1)),
    ("vgg11", (1, 32, 32)),
    ("vgg13", (3, 32, 32)),
    ("vgg16", (3, 32, 32)),
    ("vgg19", (3, 32, 32)),
    ("vit", (1, 4, 8)),
]


@pytest.mark.parametrize(("name", "shape"), SMALLEST, ids=str)
def test_every_network_trains_on_its_smallest_images(
    name: Network, shape: tuple[int, int, int]
) -> None:
    model = build_model(name, 4, shape)
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 4)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_every_network_was_tried() -> None:
    assert {name for name, _ in SMALLEST} == set(MODELS) - {"gpt"}  # which takes no images


def test_the_names_are_those_of_the_command_line() -> None:
    names = "plain3 resnet20 resnet18 resnet34 vgg11 vgg13 vgg16 vgg19 vit gpt"
    assert list(MODELS) == names.split()


def test_plain3_by_hand() -> None:
    model = build_model("plain3", 5, (3, 16, 16))
    weights = [3 * 64 * 9, 64 * 128 * 9, 128 * 256 * 9, 2 * (64 + 128 + 256), 256 * 5 + 5]
    assert sum(p.numel() for p in model.parameters()) == sum(weights)
    sizes: list[tuple[int, ...]] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda m, x, y: sizes.append(tuple(y.shape[1:])))
    model(torch.randn(2, 3, 16, 16))
    assert sizes == [(64, 8, 8), (128, 4, 4), (256, 2, 2)]


def test_resnet20_by_hand() -> None:
    model = build_model("resnet20", 10, (3, 32, 32))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    # 19 of 3x3 and two projections; the authors' 0.27 million weights, and those of the latter.
    assert len(convolutions) == 21
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert sum(p.numel() for p in model.parameters()) == 269_722 + projections
    sizes: list[tuple[int, ...]] = []
    for layer in model.children():
        if isinstance(layer, BasicBlock):
            layer.register_forward_hook(lambda m, x, y: sizes.append(tuple(y.shape[1:])))
    model(torch.randn(2, 3, 32, 32))
    assert sizes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_a_small_resnet_keeps_its_pixels() -> None:
    model = build_model("resnet18", 7, (3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == 11168832 + 513 * 7  # the paper's
    stem = model.get_submodule("maxpool")(model.get_submodule("conv1")(torch.randn(1, 3, 32, 32)))
    assert stem.shape == (1, 64, 32, 32)


@pytest.mark.parametrize(("size", "small"), [(64, True), (65, False)])
def test_large_images_get_torchvisions_own_network(size: int, small: bool) -> None:
    with torch.device("meta"):
        model = build_model("resnet18", 1000, (3, size, size))
        own = resnet18(weights=None)
        vgg = build_model("vgg11", 1000, (3, size, size))
    shapes = [p.shape for p in model.parameters()]
    assert (shapes == [p.shape for p in own.parameters()]) != small
    assert isinstance(model.get_submodule("maxpool"), nn.Identity) == small
    assert len([m for m in vgg.modules() if isinstance(m, nn.Linear)]) == (1 if small else 3)


def test_large_gray_images() -> None:
    model = build_model("resnet18", 3, (1, 72, 72)).eval()
    assert model(torch.randn(1, 1, 72, 72)).shape == (1, 3)


def test_a_seed_decides_the_weights() -> None:
    models = []
    with torch.random.fork_rng([]):
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            models.append([p.detach() for p in build_model("resnet18", 3, (3, 8, 8)).parameters()])
    assert all(map(torch.equal, models[0], models[1]))
    assert not all(map(torch.equal, models[0], models[2]))


def test_every_name_is_built() -> None:
    assert tuple(MODELS) == NETWORKS


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"network must be 'plain3', .*'gpt'; got 'alexnet'"):
        build_model("alexnet", 10, (3, 32, 32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes must be at least 2; got 1"):
        build_model("plain3", 1, (3, 16, 16))
    for shape in ((3, 16), (0, 16, 16), (3, 16, 0)):
        with pytest.raises(ValueError, match=r"input_shape must be \(channels, height, width\)"):
            build_model("plain3", 10, shape)
    for text in ((3, 16, 16), (0,), ()):
        with pytest.raises(ValueError, match=r"input_shape of gpt must be \(context,\); got"):
            build_model("gpt", 256, text)
    with pytest.raises(ValueError, match=r"vit needs images of at most 64x64 pixels, .* 68x64"):
        build_model("vit", 2, (1, 68, 64))


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
@pytest.mark.parametrize("shape", [(3, 31, 32), (3, 32, 31), (1, 8, 8)], ids=str)
def test_vgg_needs_32_pixels(name: Network, shape: tuple[int, int, int]) -> None:
    message = (
        f"{name} needs images of at least 32x32 pixels; got {shape[1]}x{shape[2]}: resize them by "
        "image_size=32 (--image-size 32)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model(name, 10, shape)
