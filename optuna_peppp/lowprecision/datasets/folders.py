"""Data sets in folders of images: which folders are classes, and which are parts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from optuna_peppp.lowprecision.datasets.images import Parts
from optuna_peppp.lowprecision.datasets.labels import draw_test_part, listed
from optuna_peppp.lowprecision.datasets.pictures import SUFFIXES, read_pictures

_PARTS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
"""What folders of parts are called, in any case, and the part that each means."""

_NOT_DATA: Final = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found"})
"""Folders that systems make beside the user's; the others of that kind start with a dot."""

_Classes = dict[str, list[Path]]
"""The images of every class."""


def read_folder(
    path: Path, image_size: int | None, test_fraction: float, seed: int, max_bytes: int
) -> Parts:
    """Reads a folder of images per class, or such folders in folders of parts.

    Parts are called train or training, test or testing, and val, valid or validation, in any
    case. Without a folder to test on, the validation part is the test part; without either, one
    is drawn.

    Args:
        path: The folder.
        image_size: Height and width to resize to, in pixels; None keeps the images' own.
        test_fraction: Share of the images to draw as the test part, per class.
        seed: Of that draw.
        max_bytes: What either part may take in memory.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: It is unclear which folders are classes, there are fewer than two of them, or
            an image cannot be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    train, test = _parts(path)
    classes = _classes(train)
    files, labels = _in_order(classes)
    if test is None:
        try:
            drawn = draw_test_part(labels, test_fraction, seed)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        parts = [([files[index] for index in part], labels[part]) for part in drawn]
    else:
        tested = _classes(test)
        if tested.keys() != classes.keys():
            only = sorted(tested.keys() ^ classes.keys())
            raise ValueError(
                f"{path}: {train.name} and {test.name} must hold the same classes; got "
                f"{listed(only)} in only one of them"
            )
        parts = [(files, labels), _in_order(tested)]
    images = read_pictures(path, [part for part, _ in parts], image_size, max_bytes)
    train_labels, test_labels = (torch.from_numpy(numbers) for _, numbers in parts)
    return images[0], train_labels, images[1], test_labels, len(classes)


def _in_order(classes: _Classes) -> tuple[list[Path], NDArray[np.int64]]:
    """All files and the numbers of their classes."""
    files = [file for images in classes.values() for file in images]
    counts = [len(images) for images in classes.values()]
    return files, np.repeat(np.arange(len(classes)), counts)


def _parts(path: Path) -> tuple[Path, Path | None]:
    """The folder that holds the classes to train on, and that of those to test on."""
    named = [folder for folder in _folders(path) if folder.name.lower() in _PARTS]
    # A class may be called train, too: it holds images, where a part holds folders of them.
    parts = [folder for folder in named if not _directly(folder) and _images(folder)]
    others = [folder for folder in _folders(path) if folder not in parts and _images(folder)]
    if not parts:
        if named and len(named) == len(others):
            _refuse(path, f"{_names(named)} hold images, but no folder per class")
        return path, None
    if others:
        _refuse(path, f"it holds {_names(parts)} beside {_names(others)}")
    roles: dict[str, Path] = {}
    for folder in parts:
        role = _PARTS[folder.name.lower()]
        if role in roles:
            _refuse(path, f"{_names([roles[role], folder])} are two of a kind")
        roles[role] = folder
    if "train" not in roles:
        _refuse(path, f"it holds {_names(parts)}, but nothing to train on")
    return roles["train"], roles.get("test", roles.get("validation"))


def _classes(path: Path) -> _Classes:
    """The classes of a folder by name, in alphabetical order."""
    folders = _folders(path)
    classes = {folder.name: _images(folder) for folder in folders}
    empty = [name for name, images in classes.items() if not images]
    if empty or not classes:
        _refuse(path, f"there is no image in {listed(empty)}" if empty else "there is no folder")
    if not any(map(_directly, folders)):
        inner = [{below.name for below in _folders(folder)} for folder in folders]
        common = set.intersection(*inner)
        if common:
            _refuse(
                path,
                f"{_names(folders)} hold folders in turn, {listed(sorted(common))}, and either "
                "could be the classes; name the folder of those that are",
            )
    if len(classes) < 2:
        _refuse(path, f"there is one class only, {_names(folders)}")
    return classes


def _folders(path: Path) -> list[Path]:
    return sorted(below for below in path.iterdir() if below.is_dir() and not _hidden(below.name))


def _directly(folder: Path) -> bool:
    """Whether a folder holds images itself."""
    return any(map(_is_image, folder.iterdir()))


def _images(folder: Path) -> list[Path]:
    """All images in a folder and those below, folder by folder."""
    found: list[tuple[str, list[str]]] = []
    for root, below, names in os.walk(folder, onerror=_raise, followlinks=True):
        found.append((root, names))
        resolved = Path(root).resolve()
        around = {resolved, *resolved.parents}
        # A link to a folder that it is in would be followed for ever.
        below[:] = [
            name
            for name in below
            if not _hidden(name) and (resolved / name).resolve() not in around
        ]
    paths = (Path(root, name) for root, names in sorted(found) for name in sorted(names))
    return list(filter(_is_image, paths))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not _hidden(path.name) and not path.is_dir()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_DATA


def _names(folders: list[Path]) -> str:
    return listed([folder.name for folder in folders])


def _raise(error: OSError) -> NoReturn:
    raise error


def _refuse(path: Path, reason: str) -> NoReturn:
    raise ValueError(
        f"{path} must hold a folder of images per class, or such folders in each of train and "
        f"test (or val): {reason}"
    )
