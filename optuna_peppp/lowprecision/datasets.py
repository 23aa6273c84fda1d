"""Image classification data sets, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

CIFAR100_SUPERCLASSES: Final[dict[str, tuple[str, ...]]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man_made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_sized_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non_insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""The fine classes of every superclass of CIFAR-100 (Krizhevsky, 2009)."""

_FORMS: Final = (
    "digits, cifar10, cifar100, cifar100:SUPERCLASS (such as cifar100:flowers), "
    "npz:FILE (MedMNIST layout) or folder:DIRECTORY (a folder of images per class)"
)


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
        for part, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.dim() != 4 or images.dtype != torch.uint8 or len(images) == 0:
                raise ValueError(
                    f"{part}_images must be uint8 of shape (n, channels, height, width), n > 0; "
                    f"got {images.dtype} of shape {tuple(images.shape)}"
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
) -> ImageData:
    """Loads a data set by name.

    Args:
        name: ``digits`` (scikit-learn's 8x8 images); ``cifar10``, ``cifar100`` or one superclass
            such as ``cifar100:flowers`` (downloaded by torchvision); ``npz:FILE`` in the layout of
            MedMNIST (``train_images``, ``train_labels``, ``test_images``, ``test_labels``);
            ``folder:DIRECTORY`` with a folder of images per class, or with such folders below
            ``train`` and ``test``.
        image_size: Height and width to resize to, in pixels; None keeps the images' own.
        test_fraction: Share of the images to test on, drawn per class, where a set comes without
            a test part (``digits``, and folders without ``train`` and ``test``).
        seed: Seed of that split.
        root: Where downloads are kept; ``~/.cache/optuna_peppp`` by default.

    Raises:
        ValueError: Unknown name, or contents that are not such a data set.
        FileNotFoundError: No such file or folder.
        ConnectionError: The download failed.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel; got {image_size}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1; got {test_fraction}")
    kind, _, argument = name.partition(":")
    root = root or Path.home() / ".cache" / "optuna_peppp"
    if name == "digits":
        return _split("digits", *_digits(image_size), test_fraction, seed)
    if name == "cifar10" or kind == "cifar100":
        return _cifar(kind, argument, root, image_size)
    if kind == "npz" and argument:
        return _npz(Path(argument), image_size)
    if kind == "folder" and argument:
        return _folder(Path(argument), image_size, test_fraction, seed)
    raise ValueError(f"data set must be {_FORMS}; got {name!r}")


def _digits(image_size: int | None) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return _images(pixels, image_size), torch.from_numpy(digits.target.astype(np.int64))


def _cifar(kind: str, superclass: str, root: Path, image_size: int | None) -> ImageData:
    from torchvision.datasets import CIFAR10, CIFAR100

    if superclass and superclass not in CIFAR100_SUPERCLASSES:
        raise ValueError(
            f"the superclass of cifar100 must be one of {', '.join(CIFAR100_SUPERCLASSES)}; "
            f"got {superclass!r}"
        )
    cifar = CIFAR100 if kind == "cifar100" else CIFAR10
    try:
        train, test = (cifar(str(root), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"{kind} could not be downloaded to {root} ({error}); download it elsewhere, put "
            "it there and try again, or use another data set"
        ) from error
    classes = CIFAR100_SUPERCLASSES.get(superclass, tuple(train.classes))
    number = {train.class_to_idx[name]: position for position, name in enumerate(classes)}
    name = f"{kind}:{superclass}" if superclass else kind
    parts: list[tuple[Tensor, Tensor]] = []
    for part in (train, test):
        targets = np.asarray(part.targets)
        kept = np.isin(targets, list(number))
        labels = torch.tensor([number[target] for target in targets[kept].tolist()])
        parts.append((_images(part.data[kept], image_size), labels))
    return ImageData(name, *parts[0], *parts[1], num_classes=len(classes))


def _npz(path: Path, image_size: int | None) -> ImageData:
    names = ("train_images", "train_labels", "test_images", "test_labels")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            arrays = [archive[name] for name in names if not missing]
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds on foreign contents
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    if missing:
        raise ValueError(
            f"{path} must hold {', '.join(names)} (MedMNIST layout); {', '.join(missing)} missing"
        )
    for name, array in zip(names, arrays, strict=True):
        if name.endswith("labels") and array.shape[:1] != (array.size,):
            raise ValueError(f"{path}: {name} must hold one label per image; got {array.shape}")
    train_images, train_labels, test_images, test_labels = arrays
    classes, numbers = np.unique(
        np.concatenate([train_labels.ravel(), test_labels.ravel()]), return_inverse=True
    )
    labels = torch.from_numpy(numbers.astype(np.int64))
    try:
        return ImageData(
            path.stem,
            _images(train_images, image_size),
            labels[: len(train_labels)],
            _images(test_images, image_size),
            labels[len(train_labels) :],
            len(classes),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _folder(path: Path, image_size: int | None, test_fraction: float, seed: int) -> ImageData:
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if (path / "train").is_dir() and (path / "test").is_dir():
        images, labels, classes = _image_folder(path / "train", image_size)
        test_images, test_labels, test_classes = _image_folder(path / "test", image_size)
        if test_classes != classes:
            raise ValueError(
                f"{path}: train and test must hold the same classes; got {classes} and "
                f"{test_classes}"
            )
        return ImageData(path.name, images, labels, test_images, test_labels, len(classes))
    images, labels, _ = _image_folder(path, image_size)
    return _split(path.name, images, labels, test_fraction, seed)


def _image_folder(path: Path, image_size: int | None) -> tuple[Tensor, Tensor, list[str]]:
    from torchvision.datasets import ImageFolder

    try:
        folder = ImageFolder(str(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path} must hold a folder of images per class: {error}") from error
    images: list[Tensor] = []
    for image, _ in folder:
        pixels = _images(np.array(image)[None], image_size)
        if images and pixels.shape != images[0].shape:
            raise ValueError(f"{path} holds images of several sizes: name an image size")
        images.append(pixels)
    return torch.cat(images), torch.tensor(folder.targets), folder.classes


def _images(pixels: NDArray[Any], image_size: int | None) -> Tensor:
    """uint8 (n, height, width[, channels]) as uint8 (n, channels, height, width), resized."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise ValueError(
            "images must be uint8 of shape (n, height, width) or (n, height, width, channels); "
            f"got {pixels.dtype} of shape {pixels.shape}"
        )
    images = torch.from_numpy(pixels if pixels.ndim == 4 else pixels[..., None]).permute(0, 3, 1, 2)
    if image_size is not None and images.shape[2:] != (image_size, image_size):
        images = interpolate(
            images.float(), (image_size, image_size), mode="bilinear", antialias=True
        )
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images.contiguous()


def _split(name: str, images: Tensor, labels: Tensor, test_fraction: float, seed: int) -> ImageData:
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            np.arange(len(labels)), test_size=test_fraction, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise ValueError(f"{name} cannot be split into train and test: {error}") from error
    return ImageData(
        name, images[train], labels[train], images[test], labels[test], int(labels.max()) + 1
    )
