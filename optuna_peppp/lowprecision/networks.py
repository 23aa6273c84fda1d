"""The networks that the command line knows by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.architecture import TRANSFORMERS, check_architecture
from optuna_peppp.configurations.names import NETWORKS, Network
from optuna_peppp.lowprecision.transformers import gpt, vit

_SMALL: Final = 64
"""Images up to this size, in pixels, get a network that does not shrink them at once."""

_VGG_MINIMUM: Final = 32
"""VGG halves the image five times."""


def build_model(
    name: Network,
    num_classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int | None = None,
    depth: int | None = None,
) -> nn.Module:
    """A freshly initialized network; seed it with ``torch.manual_seed``.

    Args:
        name: ``plain3``, a small one for CPUs, ``resnet20``, the thin one for CIFAR (He et al.,
            2016, Section 4.2, with projection shortcuts), or torchvision's ``resnet18``,
            ``resnet34``, ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``. For images up to 64
            pixels, as is usual for CIFAR, torchvision's ResNets start with a 3x3 convolution of
            stride 1 and no max pooling, and the VGGs end with global average pooling and one
            linear layer. ``vit`` is a transformer of patches of 4x4 pixels, for images up to 64
            pixels; ``gpt`` a causal one of bytes, whose logits, of every place, are those of the
            next byte. They are sized for a CPU.
        num_classes: Number of logits.
        input_shape: (channels, height, width) of an image; of ``gpt``, (context,), the number of
            bytes that it sees.
        width: Numbers a token of ``vit`` or ``gpt``, a multiple of 16; 64 by default.
        depth: Blocks of ``vit`` or ``gpt``; 2 by default.

    Raises:
        ValueError: Unknown name, fewer than two classes, images too small for the network, or a
            width or depth that it cannot have.
    """
    check_choice("network", name, NETWORKS)
    check_architecture(name, width, depth)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2; got {num_classes}")
    form = ("context",) if name == "gpt" else ("channels", "height", "width")
    if len(input_shape) != len(form) or min(input_shape) < 1:
        expected = f"({', '.join(form)}{',' * (len(form) == 1)})"
        kind = f" of {name}" * (name == "gpt")
        raise ValueError(f"input_shape{kind} must be {expected}; got {input_shape}")
    sizes = {"width": width, "depth": depth} if name in TRANSFORMERS else {}
    return MODELS[name](name, num_classes, input_shape, **sizes)


def _plain3(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for width in (64, 128, 256):
        layers += [
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )


def _resnet20(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    channels = 16
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        shortcut = None
        if stride > 1:
            projection = nn.Conv2d(channels, width, 1, stride, bias=False)
            shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))
        layers.append(BasicBlock(channels, width, stride, shortcut))
        layers += [BasicBlock(width, width) for _ in range(2)]
        channels = width
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _resnet(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    model: Any = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    small = _is_small(input_shape)
    kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
    if small:
        model.maxpool = nn.Identity()
    if small or input_shape[0] != 3:
        model.conv1 = nn.Conv2d(input_shape[0], 64, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return cast(nn.Module, model)


def _vgg(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    if min(input_shape[1:]) < _VGG_MINIMUM:
        raise ValueError(
            f"{name} needs images of at least {_VGG_MINIMUM}x{_VGG_MINIMUM} pixels; "
            f"got {input_shape[1]}x{input_shape[2]}: resize them by image_size={_VGG_MINIMUM} "
            f"(--image-size {_VGG_MINIMUM})"
        )
    model: Any = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    if _is_small(input_shape):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Sequential(nn.Linear(512, num_classes))
    if input_shape[0] != 3:
        model.features[0] = nn.Conv2d(input_shape[0], 64, 3, padding=1)
    return cast(nn.Module, model)


def _is_small(input_shape: tuple[int, ...]) -> bool:
    return max(input_shape[1:]) <= _SMALL


MODELS: Final[dict[Network, Callable[..., nn.Module]]] = {
    "plain3": _plain3,
    "resnet20": _resnet20,
    "resnet18": _resnet,
    "resnet34": _resnet,
    "vgg11": _vgg,
    "vgg13": _vgg,
    "vgg16": _vgg,
    "vgg19": _vgg,
    "vit": vit,
    "gpt": gpt,
}
"""How each of ``NETWORKS`` is built."""
