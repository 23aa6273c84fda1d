"""Data sets in ``.npz`` files, in the layout of MedMNIST."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from optuna_peppp.lowprecision.datasets.images import (
    Levels,
    Parts,
    channel_axis,
    filled,
    rows_at_once,
    to_uint8,
)
from optuna_peppp.lowprecision.datasets.labels import class_numbers
from optuna_peppp.sizes import format_size

_NAMES: Final = ("train_images", "train_labels", "test_images", "test_labels")

_HARMLESS: Final = 2**28
"""Bytes that an array may unpack to, however small it is in the file."""

_MOST_PACKED: Final = 100
"""How many times larger than in the file an array may be; drawings compress to about a 50th."""


def read_archive(path: Path, image_size: int | None, max_bytes: int) -> Parts:
    """Reads an archive of images and labels in two parts.

    What the file says of its arrays is checked before they are unpacked, and images are unpacked
    a few at a time.

    Args:
        path: The file.
        image_size: Height and width to resize to, in pixels; None keeps the images' own.
        max_bytes: What either part may take in memory.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is no such archive, is damaged, or would unpack to too much.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        if not path.is_file():
            raise _UnfitError("it must be a file; a folder of images is read as folder:DIRECTORY")
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            held = set(archive.namelist())
            missing = [name for name in _NAMES if f"{name}.npy" not in held]
            if not missing:
                return _read(archive, path.stat().st_size, image_size, max_bytes)
    except _UnfitError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # numpy and zipfile raise many kinds on foreign contents
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} is not a readable .npz file ({reason}): write it with numpy.savez"
        ) from error
    raise ValueError(
        f"{path} must hold {', '.join(_NAMES)} (MedMNIST layout); {', '.join(missing)} missing"
    )


class _UnfitError(ValueError):
    """What is read, but is no data set."""


@dataclass(frozen=True, slots=True)
class _Member:
    """An array in the archive, of which only the header was read.

    Attributes:
        name: Of the array.
        archive: Where it is.
        shape: Of the array.
        dtype: Of the array.
        fortran: Whether its first axis is the fastest.
        start: Bytes of the header.
    """

    name: str
    archive: zipfile.ZipFile
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @classmethod
    def of(cls, archive: zipfile.ZipFile, name: str, file_size: int) -> Self:
        """Reads the header and holds it against what the archive says of the member's size."""
        info = archive.getinfo(f"{name}.npy")
        packed = min(info.compress_size, file_size)
        if info.file_size > max(_HARMLESS, _MOST_PACKED * packed):
            raise _UnfitError(
                f"{name} unpacks from {format_size(packed)} to {format_size(info.file_size)}, "
                f"more than {_MOST_PACKED} times as much, which images do not: save it without "
                "compression if it is right"
            )
        with archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(file)
            else:
                header = np.lib.format.read_array_header_2_0(file)
            start = file.tell()
        shape, fortran, dtype = header
        if dtype.hasobject:
            raise _UnfitError(f"{name} must hold numbers or text; got Python objects, a pickle")
        expected = start + math.prod(shape) * dtype.itemsize
        if expected != info.file_size or min(shape, default=0) < 0:
            raise _UnfitError(
                f"{name} is damaged: {dtype} of shape {shape} takes {expected} bytes, and the "
                f"file holds {info.file_size}"
            )
        return cls(name, archive, shape, dtype, fortran, start)

    def whole(self) -> NDArray[Any]:
        """The array."""
        with self.archive.open(f"{self.name}.npy") as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array

    def chunks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array, so many rows at a time."""
        if self.fortran:  # no row lies in one piece
            array = self.whole()
            yield from (array[i : i + rows] for i in range(0, len(array), rows))
            return
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.archive.open(f"{self.name}.npy") as file:
            file.read(self.start)
            for i in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - i)
                content = _exactly(file, count * row)
                yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError("it ends before its arrays do")
    return content


def _read(
    archive: zipfile.ZipFile, file_size: int, image_size: int | None, max_bytes: int
) -> Parts:
    members = [_Member.of(archive, name, file_size) for name in _NAMES]
    parts = tuple(zip(members[::2], members[1::2], strict=True))
    try:
        for images, labels in parts:
            with _naming(images):
                channel_axis(images.shape)
            if labels.shape[:1] != images.shape[:1]:
                raise ValueError(
                    f"{labels.name} must hold one label per image; got shape {labels.shape} for "
                    f"images of shape {images.shape}"
                )
        train_labels, test_labels, classes = class_numbers(*(part[1].whole() for part in parts))
        factor = _factor(*(part[0] for part in parts))
        train, test = (_images(part[0], factor, image_size, max_bytes) for part in parts)
    except ValueError as error:
        raise _UnfitError(str(error)) from error
    return train, train_labels, test, test_labels, classes


def _factor(train: _Member, test: _Member) -> float:
    """What brings the pixels of both parts to the range of 0 to 255."""
    if train.dtype == test.dtype == np.uint8:
        return 1.0
    factors = []
    for member in (train, test):
        with _naming(member):
            factors.append(_levels(member).factor)
    if factors[0] != factors[1] and (train.dtype != test.dtype or max(factors) > 1):
        raise ValueError(
            f"{train.name} and {test.name} must be of one range; pixels of the one times "
            f"{factors[0]:g} and of the other times {factors[1]:g} lie between 0 and 255: scale "
            "both alike"
        )
    return min(factors)


def _levels(images: _Member) -> Levels:
    rows = rows_at_once(math.prod(images.shape[1:]) * images.dtype.itemsize)
    return reduce(or_, map(Levels.of, images.chunks(rows)))


def _images(member: _Member, factor: float, image_size: int | None, max_bytes: int) -> Tensor:
    """The images as uint8 (n, channels, height, width), resized."""
    axis = channel_axis(member.shape)
    count, *sides = member.shape
    channels = 1 if axis is None else sides.pop(axis - 1)
    height, width = sides if image_size is None else (image_size, image_size)
    before = math.prod(member.shape[1:]) * member.dtype.itemsize
    chunks = member.chunks(rows_at_once(before, channels * height * width))
    # Channels are moved, not copied, since resizing rounds as the axes lie in memory.
    moved = (part[:, None] if axis is None else np.moveaxis(part, axis, 1) for part in chunks)
    pixels = (to_uint8(part, factor) for part in moved)
    with _naming(member):
        return filled(count, channels, (height, width), pixels, max_bytes)


@contextmanager
def _naming(member: _Member) -> Iterator[None]:
    """Puts the name of an array before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{member.name}: {error}") from error
