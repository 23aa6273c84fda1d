"""The four networks of Lee et al. (TMLR 2023) for images of 32 pixels, every operation a module.

Their architectures are those that CIFAR implementations of ResNet (He et al., 2016), MobileNet-v2
(Sandler et al., 2018), ShuffleNet-v2 (Ma et al., 2018) and SqueezeNet (Iandola et al., 2016) share;
sums, concatenations and the loss are modules, since sites are what modules return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """The sum of two tensors."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Tensors of one shape."""
        return x + y


class Cat(nn.Module):
    """Two tensors' channels, one after the other."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Images of one size."""
        return torch.cat((x, y), 1)


class Half(nn.Module):
    """The first or the second half of a tensor's channels."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        """As a tensor of its own, no view."""
        half = x.shape[1] // 2
        return torch.narrow_copy(x, 1, self.number * half, half)


class WithLoss(nn.Module):
    """A classifier, its log-probabilities and its loss."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.log_softmax = nn.LogSoftmax(1)
        self.loss = nn.NLLLoss(reduction="none")

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of every image."""
        loss: Tensor = self.loss(self.log_softmax(self.network(images)), labels)
        return loss


def _conv(
    inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
) -> list[nn.Module]:
    """A convolution that keeps the image's size but for its stride, and its normalization."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=bias)
    return [convolution, nn.BatchNorm2d(outputs)]


class _Residual(nn.Module):
    """A branch, a shortcut that may be one too, their sum, and what follows it."""

    def __init__(
        self, branch: list[nn.Module], shortcut: list[nn.Module], *last: nn.Module
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)
        self.add = Add()
        self.last = nn.Sequential(*last)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        result: Tensor = self.last(self.add(y, self.shortcut(x)))
        return result


def resnet18(classes: int) -> nn.Module:
    """ResNet-18 with a stem of one 3x3 convolution."""
    layers = [*_conv(3, 64, 3), nn.ReLU()]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for step in (stride, 1):
            branch = [*_conv(inputs, outputs, 3, step), nn.ReLU(), *_conv(outputs, outputs, 3)]
            same = step == 1 and inputs == outputs
            shortcut = [] if same else _conv(inputs, outputs, 1, step)
            layers.append(_Residual(branch, shortcut, nn.ReLU()))
            inputs = outputs
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(512, classes))


def mobilenet_v2(classes: int) -> nn.Module:
    """MobileNet-v2 with strides for small images, and shortcuts wherever the stride is 1."""
    layers = [*_conv(3, 32, 3), nn.ReLU()]
    inputs = 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    for expansion, outputs, blocks, stride in (*stages, (6, 160, 3, 2), (6, 320, 1, 1)):
        for step in (stride, *[1] * (blocks - 1)):
            wide = expansion * inputs
            branch = [
                *(*_conv(inputs, wide), nn.ReLU()),
                *(*_conv(wide, wide, 3, step, groups=wide), nn.ReLU()),
                *_conv(wide, outputs),
            ]
            if step == 1:
                shortcut = [] if inputs == outputs else _conv(inputs, outputs)
                layers.append(_Residual(branch, shortcut))
            else:
                layers += branch
            inputs = outputs
    layers += [*_conv(320, 1280), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, classes))


class _Joined(nn.Module):
    """Two branches' channels, joined; ``halves`` gives each one half of the input's."""

    def __init__(self, first: list[nn.Module], second: list[nn.Module], halves: bool) -> None:
        super().__init__()
        self.split = nn.ModuleList([Half(0), Half(1)] if halves else [])
        self.first, self.second = nn.Sequential(*first), nn.Sequential(*second)
        self.cat = Cat()

    def forward(self, x: Tensor) -> Tensor:
        one, other = [half(x) for half in self.split] or (x, x)
        result: Tensor = self.cat(self.first(one), self.second(other))
        return result


class _Shuffle(nn.Module):
    """Channels of two groups by turns: a view, and no site."""

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


def shufflenet_v2(classes: int) -> nn.Module:
    """ShuffleNet-v2 of width 1."""
    layers = [*_conv(3, 24, 3), nn.ReLU()]
    inputs = 24
    for outputs, blocks in ((116, 3), (232, 7), (464, 3)):
        half = outputs // 2
        first = [*_conv(inputs, inputs, 3, 2, groups=inputs), *_conv(inputs, half), nn.ReLU()]
        second = [
            *(*_conv(inputs, half), nn.ReLU()),
            *(*_conv(half, half, 3, 2, groups=half), *_conv(half, half), nn.ReLU()),
        ]
        layers += [_Joined(first, second, halves=False), _Shuffle()]
        for _ in range(blocks):
            second = [
                *(*_conv(half, half), nn.ReLU()),
                *(*_conv(half, half, 3, groups=half), *_conv(half, half), nn.ReLU()),
            ]
            layers += [_Joined([], second, halves=True), _Shuffle()]
        inputs = outputs
    layers += [*_conv(464, 1024), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1024, classes))


def squeezenet(classes: int) -> nn.Module:
    """SqueezeNet with batch normalization, whose convolutions keep their biases."""

    def fire(inputs: int, outputs: int, narrow: int) -> list[nn.Module]:
        half = outputs // 2
        first, second = _conv(narrow, half, bias=True), _conv(narrow, half, 3, bias=True)
        joined = _Joined(first, second, halves=False)
        return [*_conv(inputs, narrow, bias=True), nn.ReLU(), joined, nn.ReLU()]

    layers = [*_conv(3, 96, 3, bias=True), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [*fire(96, 128, 16), *fire(128, 128, 16), *fire(128, 256, 32), nn.MaxPool2d(2)]
    layers += [*fire(256, 256, 32), *fire(256, 384, 48), *fire(384, 384, 48)]
    layers += [*fire(384, 512, 64), nn.MaxPool2d(2), *fire(512, 512, 64)]
    layers += [nn.Conv2d(512, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


NETWORKS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "SqueezeNet": squeezenet,
    "ShuffleNet-v2": shufflenet_v2,
    "MobileNet-v2": mobilenet_v2,
    "ResNet-18": resnet18,
}
