"""A data set on the device, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optuna_peppp.lowprecision.datasets.images import rows_at_once
from optuna_peppp.lowprecision.datasets.loading import ImageData
from optuna_peppp.lowprecision.datasets.text import TextData

_TEST_BATCH: Final = 500

_TEST_BYTES: Final = 2**14
"""Bytes that are told at once: their logits take 16 MiB."""


def batches_of(data: ImageData | TextData, device: torch.device) -> Batches | TextBatches:
    """A data set on the device, in batches of its kind."""
    return Batches(data, device) if isinstance(data, ImageData) else TextBatches(data, device)


class Batches:
    """A data set on the device, standardized with the statistics of its training images."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self.device = device
        self._train = data.train_images.to(device), data.train_labels.to(device)
        self._test = data.test_images.to(device), data.test_labels.to(device)
        mean, std = _statistics(data.train_images)
        self._mean = mean.view(-1, 1, 1).to(device)
        self._std = std.view(-1, 1, 1).to(device)

    def shuffled(self, batch_size: int, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All training images, as they are stored, and labels once, in a new order."""
        images, labels = self._train
        indices = torch.randperm(len(labels), generator=order).to(self.device)
        for batch in torch.split(indices, batch_size):
            # Batch norm cannot train on a single image: one left over waits for the next epoch.
            if len(batch) > 1 or min(batch_size, len(labels)) == 1:
                yield images[batch], labels[batch]

    def steps(self, batch_size: int) -> int:
        """How many batches :meth:`shuffled` yields."""
        number = len(self._train[1])
        left_over = number % batch_size == 1 and min(batch_size, number) > 1
        return math.ceil(number / batch_size) - left_over

    def sample(self) -> Tensor:
        """Two training images as the network takes them."""
        return self.standardized(self._train[0][:2])

    def standardized(self, images: Tensor) -> Tensor:
        """Stored images as the network takes them."""
        return (images.float() - self._mean) / self._std

    def loss(self, network: Callable[..., Any], images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of stored images, a scalar."""
        return cross_entropy(network(self.standardized(images)), labels)

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        """Share of the test images that a network misclassifies."""
        network.eval()
        images, labels = self._test
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        for start in range(0, len(labels), _TEST_BATCH):
            batch = slice(start, start + _TEST_BATCH)
            # The logits of a diverged network are NaN; argmax answers the first class then.
            predicted = network(self.standardized(images[batch])).argmax(1)
            wrong += (predicted != labels[batch]).sum()
        return int(wrong) / len(labels)


class TextBatches:
    """A text on the device, in windows: ``context`` bytes, and the one after each of them.

    A step has as many windows as others have images. Windows do not overlap, but in one byte.
    """

    def __init__(self, data: TextData, device: torch.device) -> None:
        self.device = device
        self._train = _windows(data.train_bytes, data.context).to(device)
        self._test = _windows(data.test_bytes, data.context).to(device)

    def shuffled(self, batch_size: int, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All windows to train on, inputs and targets, once, in a new order.

        Those left over, fewer than a batch, wait for the next epoch.
        """
        count = len(self._train)
        indices = torch.randperm(count, generator=order).to(self.device)
        for batch in torch.split(indices, batch_size)[: self.steps(batch_size)]:
            windows = self._train[batch]
            yield windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def steps(self, batch_size: int) -> int:
        """How many batches :meth:`shuffled` yields."""
        return max(1, len(self._train) // batch_size)

    def sample(self) -> Tensor:
        """Two windows as the network takes them."""
        return self._train[:2, :-1].long()

    def loss(self, network: Callable[..., Any], inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of the next bytes, a scalar."""
        return cross_entropy(network(inputs.long()).flatten(0, 1), targets.flatten().long())

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        """Share of the bytes to test on that a network tells wrongly."""
        network.eval()
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        rows = max(1, _TEST_BYTES // self._test.shape[1])
        for windows in torch.split(self._test, rows):
            predicted = network(windows[:, :-1].long()).argmax(-1)
            wrong += (predicted != windows[:, 1:]).sum()
        return int(wrong) / self._test[:, 1:].numel()


def _windows(text: Tensor, context: int) -> Tensor:
    """uint8 (n, context + 1)."""
    return text.unfold(0, context + 1, context).contiguous()


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel of uint8 images, float32 (channels,).

    They follow from how often each of the 256 values occurs: exact integers, counted a few images
    at a time. A channel of one value, which has no deviation, counts as if it had 1.
    """
    channels = images.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    # Counting widens pixels to int64.
    for chunk in torch.split(images, rows_at_once(8 * images[0].numel())):
        for channel in range(channels):
            pixels = chunk[:, channel].flatten().cpu().numpy()
            counts[channel] += np.bincount(pixels, minlength=256)
    means, deviations = [], []
    for row in counts.tolist():
        number = sum(row)
        total = sum(value * count for value, count in enumerate(row))
        squares = sum(value**2 * count for value, count in enumerate(row))
        means.append(total / number)
        variance = (number * squares - total**2) / (number * max(1, number - 1))
        deviations.append(max(1.0, math.sqrt(variance)))
    return torch.tensor(means), torch.tensor(deviations)
