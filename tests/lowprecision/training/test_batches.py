from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from optuna_peppp.lowprecision import ImageData, TextData, load_dataset
from optuna_peppp.lowprecision.training.batches import Batches, TextBatches, batches_of

CPU = torch.device("cpu")


def holding(train: Tensor) -> ImageData:
    """A data set with these images to train on."""
    labels = torch.arange(len(train)) % 2
    return ImageData("some", train, labels, train[:2], labels[:2], 2)


def noise(count: int, channels: int, side: int, levels: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, channels, side, side)
    return torch.randint(0, levels, shape, dtype=torch.uint8, generator=generator)


def standardized(images: Tensor, by: Tensor) -> Tensor:
    """Images as statistics in float64, in one go, make them."""
    pixels = by.transpose(0, 1).flatten(1).double()
    mean = pixels.mean(1).float().view(-1, 1, 1)
    std = pixels.std(1).clamp(min=1.0).float().view(-1, 1, 1)
    return (images.float() - mean) / std


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(
    ("count", "channels", "side"), [(2, 1, 1), (7, 3, 5), (50, 3, 32), (33, 1, 28), (900, 3, 32)]
)
def test_statistics_are_exact_in_any_number_of_chunks(
    count: int, channels: int, side: int, levels: int
) -> None:
    images = noise(count, channels, side, levels)
    ours = Batches(holding(images), CPU).standardized(images)
    assert torch.equal(ours, standardized(images, images))


def test_statistics_by_hand() -> None:
    images = torch.tensor([0, 10, 20, 30], dtype=torch.uint8).view(2, 1, 1, 2)
    ours = Batches(holding(images), CPU).standardized(images)
    deviation = math.sqrt((15**2 + 5**2 + 5**2 + 15**2) / 3)
    assert ours.flatten().tolist() == pytest.approx([x / deviation for x in (-15, -5, 5, 15)])


def test_flat_images_are_not_divided_by_zero() -> None:
    images = torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)
    assert Batches(holding(images), CPU).standardized(images + 1).flatten().tolist() == [1.0] * 96


def test_statistics_of_real_images(shared: Path) -> None:
    paths = sorted((shared / "cifar100").glob("*.npz"))
    assert len(paths) == 20
    for name in ("digits", *(f"npz:{path}" for path in paths)):
        data = load_dataset(name, image_size=16)
        ours = Batches(data, CPU).standardized(data.test_images)
        assert torch.equal(ours, standardized(data.test_images, data.train_images)), name


STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def resident(line: str) -> int:
    """Bytes of this process in memory, now (VmRSS) or at their peak (VmHWM)."""
    (kilobytes,) = [row.split()[1] for row in STATUS.read_text().splitlines() if line in row]
    return 1024 * int(kilobytes)


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """Tells by how many bytes this process grew at most since the block began."""
    gc.collect()
    try:
        RESET.write_text("5")
    except OSError as error:
        pytest.skip(f"the peak of memory is measured through {RESET}: {error}")
    before = resident("VmRSS")
    yield lambda: resident("VmHWM") - before


COUNT, SIDE = 420, 224
BYTES = COUNT * SIDE * SIDE * 3


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """63 MB of images in all forms, 5 of 6 to train on."""
    folder = tmp_path_factory.mktemp("large")
    images = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    labels, train = np.arange(COUNT) % 2, COUNT * 5 // 6
    parts: dict[str, Any] = {
        "train_images": images[:train],
        "train_labels": labels[:train],
        "test_images": images[train:],
        "test_labels": labels[train:],
    }
    np.savez(folder / "stored.npz", **parts)
    shares = {k: v.astype(np.float16) / 255 for k, v in parts.items() if k.endswith("images")}
    np.savez(folder / "shares.npz", **parts | shares)
    for index, image in enumerate(images):
        kind = folder / "folder" / str(labels[index])
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(kind / f"{index}.bmp")
    return folder


@pytest.mark.parametrize("side", [None, 112], ids=["own size", "resized"])
@pytest.mark.parametrize("name", ["npz:stored.npz", "npz:shares.npz", "folder:folder"])
def test_reading_takes_little_more_than_the_images(
    large: Path, name: str, side: int | None
) -> None:
    kind, _, file = name.partition(":")
    with peak() as grown:
        data = load_dataset(f"{kind}:{large / file}", image_size=side)
        assert grown() < 1.5 * BYTES
    assert len(data.train_labels) + len(data.test_labels) == COUNT


def test_batches_take_little_more_than_the_images(large: Path) -> None:
    data = load_dataset(f"npz:{large / 'stored.npz'}")
    with peak() as grown:
        batches = Batches(data, CPU)
        assert grown() < 0.5 * BYTES
    assert batches.sample().shape == (2, 3, SIDE, SIDE)


def text(train: int, test: int, context: int) -> TextData:
    """Bytes that count."""
    numbers = torch.arange(256, dtype=torch.uint8).repeat(4)
    return TextData("counting", numbers[:train], numbers[:test], context)


def test_windows_of_a_text() -> None:
    batches = batches_of(text(14, 5, 3), CPU)
    assert isinstance(batches, TextBatches)
    # 0 1 2 3, 3 4 5 6, 6 7 8 9 and 9 10 11 12: the last byte has no window.
    order = torch.Generator().manual_seed(0)
    steps = list(batches.shuffled(3, order))
    assert len(steps) == batches.steps(3) == 1
    inputs, targets = steps[0]
    assert torch.equal(targets, inputs + 1)
    assert inputs.shape == (3, 3)
    assert {*inputs[:, 0].tolist()} < {0, 3, 6, 9}
    assert batches.steps(4) == 1
    assert batches.steps(50) == 1
    assert [len(given) for given, _ in batches.shuffled(50, order)] == [4]


def test_every_window_comes_once_and_in_a_new_order() -> None:
    batches, order = TextBatches(text(200, 5, 4), CPU), torch.Generator().manual_seed(0)
    first, second = (
        torch.cat([inputs[:, 0] for inputs, _ in batches.shuffled(7, order)]).tolist()
        for _ in range(2)
    )
    assert sorted(first) == sorted(second) == list(range(0, 196, 4))
    assert first != second


def test_loss_and_error_of_a_text() -> None:
    batches = TextBatches(text(20, 13, 4), CPU)

    class Counting(torch.nn.Module):
        """Sure of the next byte, but after 2 and 3."""

        def forward(self, inputs: Tensor) -> Tensor:
            assert inputs.dtype == torch.int64
            told = inputs + 1
            told[(inputs == 2) | (inputs == 3)] = 0
            return 10.0 * torch.nn.functional.one_hot(told, 256)

    assert batches.error(Counting()) == 2 / 12
    inputs, targets = torch.tensor([[0, 2]]).byte(), torch.tensor([[1, 3]]).byte()
    likely, others = math.exp(10), 255
    right, wrong = (-math.log(x / (likely + others)) for x in (likely, 1))
    assert float(batches.loss(Counting(), inputs, targets)) == pytest.approx((right + wrong) / 2)
    assert batches.sample().shape == (2, 4)
