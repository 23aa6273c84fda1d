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
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from optuna_peppp.lowprecision import ImageData, load_dataset
from optuna_peppp.lowprecision.datasets import CIFAR100_SUPERCLASSES


def arrays(count: int = 6, channels: int = 3, size: int = 4, seed: int = 0) -> dict[str, Any]:
    """The contents of a small archive in the layout of MedMNIST, labels as columns."""
    rng = np.random.default_rng(seed)
    shape = (count, size, size, channels) if channels > 1 else (count, size, size)
    return {
        "train_images": rng.integers(0, 256, shape, dtype=np.uint8),
        "train_labels": np.arange(count).reshape(-1, 1) % 3,
        "test_images": rng.integers(0, 256, shape, dtype=np.uint8),
        "test_labels": np.arange(count).reshape(-1, 1) % 3,
    }


def saved(path: Path, contents: dict[str, Any]) -> str:
    np.savez(path, **contents)
    return f"npz:{path}"


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


def test_resizing_by_hand(tmp_path: Path) -> None:
    contents = arrays(channels=1)
    contents["train_images"][:2] = 0
    contents["train_images"][0, 0, 0] = 240
    contents["train_images"][1] = 37
    name = saved(tmp_path / "a.npz", contents)
    images = load_dataset(name, image_size=1).train_images
    assert images.shape == (6, 1, 1, 1)
    # Shrinking four pixels to one weighs them 5 : 7 : 7 : 5, so a corner counts (5 / 24)^2.
    assert images[:2].flatten().tolist() == [round(240 * (5 / 24) ** 2), 37]
    enlarged = load_dataset(name, image_size=5).train_images
    assert set(enlarged[1].flatten().tolist()) == {37}


@pytest.mark.parametrize("channels", [1, 3])
def test_npz(tmp_path: Path, channels: int) -> None:
    contents = arrays(channels=channels)
    data = load_dataset(saved(tmp_path / "things.npz", contents))
    assert (data.name, data.num_classes, data.input_shape) == ("things", 3, (channels, 4, 4))
    for part in ("train", "test"):
        images: NDArray[np.uint8] = contents[f"{part}_images"]
        ours: Tensor = getattr(data, f"{part}_images")
        expected = images[:, None] if channels == 1 else images.transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(ours.numpy(), expected)
        assert getattr(data, f"{part}_labels").tolist() == [0, 1, 2, 0, 1, 2]


def test_npz_labels_are_numbered_from_zero(tmp_path: Path) -> None:
    contents = arrays(count=4)
    contents["train_labels"] = np.array([7, 40, 7, 3])  # flat is fine too
    contents["test_labels"] = np.array([[40.0], [40.0], [3.0], [9.0]])
    data = load_dataset(saved(tmp_path / "a.npz", contents))
    # 3, 7, 9 and 40, those that only one part holds included.
    assert data.num_classes == 4
    assert data.train_labels.tolist() == [1, 3, 1, 0]
    assert data.test_labels.tolist() == [3, 3, 0, 2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_labels": None, "test_images": None}, "train_labels, test_images missing"),
        ({"train_labels": np.zeros((6, 2))}, r"train_labels must hold one label per image"),
        ({"test_labels": np.array(3)}, r"test_labels must hold one label per image; got \(\)"),
        ({"test_labels": np.zeros(5)}, r"test_labels must be int64 of shape \(6,\)"),
        ({"train_images": np.zeros((6, 4, 4, 3))}, "images must be uint8 .* got float64"),
        ({"train_images": np.zeros((6, 4), np.uint8)}, r"got uint8 of shape \(6, 4\)"),
        ({"test_images": np.zeros((6, 4, 4), np.uint8)}, "must have one shape"),
        (
            {"train_images": np.zeros((0, 4, 4, 3), np.uint8), "train_labels": np.zeros((0, 1))},
            "train_images must be uint8 .* n > 0",
        ),
        ({"train_labels": np.array([{}] * 6)}, "is not a readable .npz file"),
    ],
    ids=str,
)
def test_npz_with_other_contents(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    contents = {k: v for k, v in (arrays() | changed).items() if v is not None}
    name = saved(tmp_path / "bad.npz", contents)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(name)
    assert "bad.npz" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign.npz is not a readable .npz file"):
        load_dataset(f"npz:{path}")


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match=r"array.npy is not a readable .npz file"):
        load_dataset(f"npz:{path}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent.npz"):
        load_dataset(f"npz:{tmp_path / 'absent.npz'}")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        load_dataset(f"folder:{tmp_path / 'absent'}")


def write_images(folder: Path, classes: dict[str, list[int]], size: int = 4) -> None:
    """One color PNG per number, all pixels that gray, in a folder per class."""
    for name, grays in classes.items():
        (folder / name).mkdir(parents=True)
        for gray in grays:
            image = Image.new("RGB", (size, size), (gray, gray, gray))
            image.save(folder / name / f"{gray}.png")


def grays(images: Tensor) -> list[int]:
    """The images by the gray that they are filled with."""
    assert bool((images == images[:, :1, :1, :1]).all())
    return [int(gray) for gray in images[:, 0, 0, 0]]


def test_a_folder_is_split_by_class(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo", {"ape": list(range(20)), "bat": list(range(100, 140))})
    name = f"folder:{tmp_path / 'zoo'}"
    data = load_dataset(name, test_fraction=0.25)
    assert (data.name, data.num_classes, data.input_shape) == ("zoo", 2, (3, 4, 4))
    train, test = grays(data.train_images), grays(data.test_images)
    assert sorted(train + test) == [*range(20), *range(100, 140)]
    # A quarter of either class, with its labels.
    assert data.test_labels.tolist() == [int(gray >= 100) for gray in test]
    assert data.train_labels.tolist() == [int(gray >= 100) for gray in train]
    assert (len(test), sum(gray >= 100 for gray in test)) == (15, 10)
    # The split is the seed's.
    assert grays(load_dataset(name, test_fraction=0.25).test_images) == test
    assert sorted(grays(load_dataset(name, test_fraction=0.25, seed=1).test_images)) != sorted(test)


def test_a_folder_with_a_test_part(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo" / "train", {"ape": [1, 2], "bat": [3]})
    write_images(tmp_path / "zoo" / "test", {"ape": [4], "bat": [5, 6]})
    data = load_dataset(f"folder:{tmp_path / 'zoo'}", image_size=2)
    assert data.input_shape == (3, 2, 2)
    assert (sorted(grays(data.train_images)), data.train_labels.tolist()) == ([1, 2, 3], [0, 0, 1])
    assert (sorted(grays(data.test_images)), data.test_labels.tolist()) == ([4, 5, 6], [0, 1, 1])


def test_a_folder_with_another_test_part(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"ape": [1, 2], "bat": [3]})
    write_images(tmp_path / "test", {"ape": [4], "cat": [5]})
    with pytest.raises(ValueError, match=r"the same classes; got .*'cat'"):
        load_dataset(f"folder:{tmp_path}")


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo", {"ape": [1, 2, 3]})
    write_images(tmp_path / "zoo", {"bat": [4, 5, 6]}, size=6)
    name = f"folder:{tmp_path / 'zoo'}"
    with pytest.raises(ValueError, match="holds images of several sizes: name an image size"):
        load_dataset(name)
    data = load_dataset(name, image_size=4)
    assert sorted(grays(data.train_images) + grays(data.test_images)) == [1, 2, 3, 4, 5, 6]


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold a folder of images per class"):
        load_dataset(f"folder:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold a folder of images per class"):
        load_dataset(f"folder:{tmp_path}")
    write_images(tmp_path / "zoo", {"ape": [1, 2, 3], "bat": [4]})
    with pytest.raises(ValueError, match="zoo cannot be split into train and test"):
        load_dataset(f"folder:{tmp_path / 'zoo'}")


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
    with pytest.raises(ValueError, match=r"superclass of cifar100 must be one of .*; got 'cars'"):
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


def test_a_real_archive(shared: Path) -> None:
    data = load_dataset(f"npz:{shared / 'cifar100' / 'flowers.npz'}", image_size=16)
    assert (data.name, data.num_classes, data.input_shape) == ("flowers", 5, (3, 16, 16))
    assert data.train_labels.bincount().tolist() == [500] * 5
    assert data.test_labels.bincount().tolist() == [100] * 5


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
    ],
)
def test_images_and_labels_must_fit(
    parts: tuple[Tensor, Tensor, Tensor, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageData("bad", *parts, 2)
