"""Image files of any format and mode as uint8 color images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from optuna_peppp.lowprecision.datasets.images import Levels, filled, to_uint8

SUFFIXES: Final = (
    *(".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""How the names of image files end, in any case."""

_MAX_PIXELS: Final = 2**26
"""Pixels of the largest image that is decoded, 192 MiB in color; Pillow warns of a few more."""

_STILLS: Final = ("JPEG", "MPO")
"""Formats whose further pictures, such as previews, are of the same scene."""

_WHITE: Final = (255, 255, 255, 255)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What the head of an image file tells.

    Attributes:
        path: The file.
        size: Height and width, the right way up.
        deep: ``"I"`` where pixels are integers of more than 8 bits, ``"F"`` where they are
            fractions, None otherwise.
    """

    path: Path
    size: tuple[int, int]
    deep: str | None


def read_pictures(
    folder: Path, parts: Sequence[Sequence[Path]], image_size: int | None, max_bytes: int
) -> list[Tensor]:
    """Images in color, the right way up; what is transparent is laid on white.

    Of files with more than 8 bits a pixel the upper 8 of the bits that are used by any of them
    remain.

    Args:
        folder: What they are of, for messages.
        parts: Files, of every part at least one.
        image_size: Height and width to resize to, in pixels; None keeps the images' own.
        max_bytes: What a part may take in memory.

    Returns:
        uint8 (n, 3, height, width) of every part.

    Raises:
        ValueError: A file that cannot be read, which is named, or images of several sizes.
    """
    inspected = [[_inspected(path) for path in part] for part in parts]
    pictures = [picture for part in inspected for picture in part]
    size = pictures[0].size if image_size is None else (image_size, image_size)
    for picture in pictures if image_size is None else ():
        if picture.size != size:
            raise ValueError(
                f"{folder} holds images of several sizes: name an image size; {pictures[0].path} "
                f"has {_shown(size)} pixels and {picture.path} has {_shown(picture.size)}"
            )
    factors = _factors(folder, pictures)
    images = []
    for part in inspected:
        decoded = (_decoded(picture, factors)[None].transpose(0, 3, 1, 2) for picture in part)
        try:
            images.append(filled(len(part), 3, size, decoded, max_bytes))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
    return images


def _inspected(path: Path) -> _Picture:
    with _opened(path) as image:
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"it has {image.width}x{image.height} pixels, more than {_MAX_PIXELS}")
        pictures = getattr(image, "n_frames", 1)
        if pictures > 1 and image.format not in _STILLS:
            raise ValueError(f"it holds {pictures} pictures; split it into files of one each")
        size = image.height, image.width
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF's orientation
        deep = image.mode[0] if image.mode.startswith(("I", "F")) else None
        return _Picture(path, size[::-1] if turned else size, deep)


def _factors(folder: Path, pictures: Sequence[_Picture]) -> dict[str, float]:
    """What brings the deep pixels to the range of 0 to 255, one for all images of a kind."""
    factors = {}
    for deep in ("I", "F"):
        levels = [_levels(picture.path) for picture in pictures if picture.deep == deep]
        try:
            if levels:
                factors[deep] = reduce(or_, levels).factor
        except ValueError as error:
            raise ValueError(f"{folder}, in images of mode {deep}: {error}") from error
    return factors


def _levels(path: Path) -> Levels:
    with _opened(path) as image:
        return Levels.of(np.asarray(image))


def _decoded(picture: _Picture, factors: dict[str, float]) -> NDArray[np.uint8]:
    """(height, width, 3)."""
    with _opened(picture.path) as image:
        upright: Any = ImageOps.exif_transpose(image)
        if (upright.height, upright.width) != picture.size:
            raise ValueError("it changes while it is read")
        if picture.deep is not None:
            gray = to_uint8(np.asarray(upright), factors[picture.deep])
            return np.repeat(gray[..., None], 3, axis=2)
        if upright.has_transparency_data:
            visible = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", visible.size, _WHITE), visible)
        return np.asarray(upright.convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file; what goes wrong with it in this block names the file."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities of files that it reads all the same.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a readable image: its format is unknown") from error
    except Exception as error:  # Pillow raises many kinds on damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a readable image: {reason}") from error


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
