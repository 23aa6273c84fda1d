from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from optuna_peppp.configurations.data import CIFAR100_SUPERCLASSES
from optuna_peppp.lowprecision import ImageData, load_dataset


def test_digits() -> None:
    data = load_dataset("digits")
    assert (data.name, data.num_classes, data.input_shape) == ("digits", 10, (1, 8, 8))
    assert (len(data.train_labels), len(data.test_labels)) == (1437, 360)
    # Ink goes from 0 to 16 in the source.
    levels = set(data.train_images.flatten().tolist())
    assert levels == {round(ink * 255 / 16) for ink in range(17)}


def test_digits_resized() -> None:
    small, large = load_dataset("digits"), load_dataset("digits", image_size=16)
    assert large.input_shape == (1, 16, 16)
    assert torch.equal(small.train_labels, large.train_labels)
    means = [data.train_images.float().mean((1, 2, 3)) for data in (small, large)]
    assert float((means[0] - means[1]).abs().max()) < 2


@pytest.mark.parametrize(
    "name",
    ["mnist", "", "digits:x", "cifar10:flowers", "npz:", "npz", "folder:", "folder", "Digits"],
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"data set must be digits, cifar10, .*; got ") as caught:
        load_dataset(name)
    assert repr(name) in str(caught.value)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 1 pixel; got 0"):
        load_dataset("digits", image_size=0)
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="test_fraction must lie between 0 and 1; got"):
            load_dataset("digits", test_fraction=fraction)


def grays(images: Tensor) -> list[int]:
    """The images by the gray that they are filled with."""
    assert bool((images == images[:, :1, :1, :1]).all())
    return [int(gray) for gray in images[:, 0, 0, 0]]


@dataclass
class FakeCIFAR:
    """What torchvision's CIFAR classes give, without a download: 2 images of every class."""

    root: str
    train: bool
    download: bool

    def __post_init__(self) -> None:
        assert self.download
        self.classes = sorted(chain(*CIFAR100_SUPERCLASSES.values()))
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.targets = [*range(100), *reversed(range(100))]
        # Every image is filled with its class, test images one brighter.
        self.data = np.empty((200, 32, 32, 3), np.uint8)
        self.data[:] = np.reshape(self.targets, (-1, 1, 1, 1)) + (not self.train)


def test_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("cifar10", "cifar100"):
        monkeypatch.setattr(torchvision.datasets, name.upper(), FakeCIFAR)
        data = load_dataset(name, root=tmp_path, image_size=2)
        assert (data.name, data.num_classes, data.input_shape) == (name, 100, (3, 2, 2))
        assert grays(data.train_images) == data.train_labels.tolist()
        assert grays(data.test_images) == [label + 1 for label in data.test_labels.tolist()]
        assert len(data.train_labels) == len(data.test_labels) == 200


def test_a_superclass_of_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", FakeCIFAR)
    data = load_dataset("cifar100:flowers", root=tmp_path, image_size=2)
    assert (data.name, data.num_classes) == ("cifar100:flowers", 5)
    classes = sorted(chain(*CIFAR100_SUPERCLASSES.values()))
    flowers = ["orchid", "poppy", "rose", "sunflower", "tulip"]
    assert [classes[gray] for gray in grays(data.train_images)] == flowers + flowers[::-1]
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]


def test_an_unknown_superclass() -> None:
    with pytest.raises(
        ValueError, match=r"superclass of cifar100 must be 'aquatic_mammals', .*; got 'cars'"
    ):
        load_dataset("cifar100:cars")


@pytest.mark.parametrize("name", ["cifar10", "cifar100:flowers"])
def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    def unreachable(*arguments: Any, **options: Any) -> Any:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    kind = name.partition(":")[0]
    message = rf"{kind} could not be downloaded to .*no route to host.*use another data set"
    with pytest.raises(ConnectionError, match=message):
        load_dataset(name, root=tmp_path)


def test_there_are_20_superclasses_of_5() -> None:
    assert len(CIFAR100_SUPERCLASSES) == 20
    assert all(len(classes) == 5 for classes in CIFAR100_SUPERCLASSES.values())
    assert len(set(chain(*CIFAR100_SUPERCLASSES.values()))) == 100


def test_superclasses_are_those_of_the_files(shared: Path) -> None:
    files = sorted((shared / "cifar100").glob("*.npz"))
    named = {}
    for file in files:
        with np.load(file) as archive:
            named[file.stem] = tuple(archive["class_names"].tolist())
    assert named == CIFAR100_SUPERCLASSES


def images(count: int = 2, size: int = 4, channels: int = 1) -> Tensor:
    return torch.zeros(count, channels, size, size, dtype=torch.uint8)


LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            (images().float(), LABELS, images(), LABELS),
            r"train_images must be uint8[^;]*; got torch\.float32",
        ),
        ((images(), LABELS, images()[0], LABELS), r"test_images must be uint8 .* \(1, 4, 4\)"),
        ((images(0), LABELS[:0], images(), LABELS), "train_images must be uint8 .* n > 0"),
        ((images(), LABELS[:1], images(), LABELS), r"train_labels must be int64 of shape \(2,\)"),
        (
            (images(), LABELS, images(), LABELS.float()),
            r"test_labels must be int64[^;]*; got torch\.float32",
        ),
        ((images(), LABELS + 1, images(), LABELS), "must lie between 0 and 1; got 1 to 2"),
        ((images(), LABELS, images(), LABELS - 1), "must lie between 0 and 1; got -1 to 0"),
        ((images(), LABELS, images(channels=3), LABELS), "train and test images must have one"),
        ((images(size=0), LABELS, images(size=0), LABELS), "train_images must be .* with pixels"),
    ],
)
def test_images_and_labels_must_fit(
    parts: tuple[Tensor, Tensor, Tensor, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageData("bad", *parts, 2)


def test_there_are_two_classes_at_least() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2; got 1"):
        ImageData("one", images(), LABELS * 0, images(), LABELS * 0, 1)
