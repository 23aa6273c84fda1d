"""Image classification data sets, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from optuna_peppp.configurations.data import TEXT_KINDS, parse_name
from optuna_peppp.lowprecision.datasets.archives import read_archive
from optuna_peppp.lowprecision.datasets.cifar import read_cifar
from optuna_peppp.lowprecision.datasets.folders import read_folder
from optuna_peppp.lowprecision.datasets.images import MAX_BYTES, Parts, filled, rows_at_once
from optuna_peppp.lowprecision.datasets.labels import draw_test_part


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """A classification data set with its train/test split.

    Attributes:
        name: What the task is called.
        train_images: uint8 (n, channels, height, width).
        train_labels: int64 (n,), classes 0 to ``num_classes - 1``.
        test_images: uint8 (m, channels, height, width).
        test_labels: int64 (m,).
        num_classes: Number of classes.

    Raises:
        ValueError: Shapes, dtypes or labels that do not fit, or no images.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2; got {self.num_classes}")
        for part, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.dim() != 4 or images.dtype != torch.uint8 or images.numel() == 0:
                raise ValueError(
                    f"{part}_images must be uint8 of shape (n, channels, height, width), n > 0, "
                    f"with pixels; got {images.dtype} of shape {tuple(images.shape)}"
                )
            if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
                raise ValueError(
                    f"{part}_labels must be int64 of shape ({len(images)},), one per image; "
                    f"got {labels.dtype} of shape {tuple(labels.shape)}"
                )
            if not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
                raise ValueError(
                    f"{part}_labels must lie between 0 and {self.num_classes - 1}; "
                    f"got {int(labels.min())} to {int(labels.max())}"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(
                "train and test images must have one shape; got "
                f"{tuple(self.train_images.shape[1:])} and {tuple(self.test_images.shape[1:])}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


def load_dataset(
    name: str,
    *,
    image_size: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    root: Path | None = None,
    max_bytes: int = MAX_BYTES,
) -> ImageData:
    """Loads a data set by name.

    Args:
        name: ``digits`` (scikit-learn's 8x8 images); ``cifar10``, ``cifar100`` or one superclass
            such as ``cifar100:flowers`` (downloaded by torchvision); ``npz:FILE`` in the layout of
            MedMNIST (``train_images``, ``train_labels``, ``test_images``, ``test_labels``), gray
            or with at most 4 channels, which come last or first; ``folder:DIRECTORY`` with a
            folder of images per class, or with such folders below ``train`` and ``test``. Either
            may start with ``~``. Pixels of more than 8 bits, and fractions between 0 and 1, are
            brought to the range of 0 to 255.
        image_size: Height and width to resize to, in pixels; None keeps the images' own.
        test_fraction: Share of the images to test on, drawn per class, where a set comes without
            a test part (``digits``, and folders without ``test`` or ``val``).
        seed: Seed of that split.
        root: Where downloads are kept; ``~/.cache/optuna_peppp`` by default.
        max_bytes: What the images of either part may take in memory, as uint8.

    Raises:
        ValueError: Unknown name, contents that are not such a data set or that it is unclear how
            to read, or more than ``max_bytes``.
        FileNotFoundError: No such file or folder.
        ConnectionError: The download failed.
    """
    kind, argument = parse_name(name)
    if kind in TEXT_KINDS:
        raise ValueError(f"name must be one of images; {name} is a text, for load_text")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel; got {image_size}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1; got {test_fraction}")
    task = name
    if kind == "npz":
        path = _path(argument)
        task, parts = path.stem, read_archive(path, image_size, max_bytes)
    elif kind == "folder":
        path = _path(argument)
        task = path.resolve().name if path.name in ("", "..") else path.name
        parts = read_folder(path, image_size, test_fraction, seed, max_bytes)
    elif kind == "digits":
        parts = _digits(image_size, test_fraction, seed, max_bytes)
    else:
        root = root or Path.home() / ".cache" / "optuna_peppp"
        parts = read_cifar(kind, argument, root, image_size, max_bytes)
    try:
        data = ImageData(task, *parts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if data.train_images.min() == data.train_images.max():
        raise ValueError(
            f"{name} must hold images; every pixel of those to train on is "
            f"{int(data.train_images.max())}"
        )
    return data


def _path(argument: str) -> Path:
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder for {argument!r}") from error


def _digits(image_size: int | None, test_fraction: float, seed: int, max_bytes: int) -> Parts:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    height, width = pixels.shape[2:] if image_size is None else (image_size, image_size)
    rows = rows_at_once(height * width)
    parts: list[tuple[Tensor, Tensor]] = []
    for part in draw_test_part(labels, test_fraction, seed):
        chunks = (pixels[part[i : i + rows]] for i in range(0, len(part), rows))
        images = filled(len(part), 1, (height, width), chunks, max_bytes)
        parts.append((images, torch.from_numpy(labels[part])))
    return *parts[0], *parts[1], len(digits.target_names)
