"""Pixels of any kind as the uint8 images that are trained on, a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from optuna_peppp.sizes import format_size

Parts = tuple[Tensor, Tensor, Tensor, Tensor, int]
"""Training images and labels, test images and labels, and the number of classes."""

CHUNK: Final = 2**21
"""Pixel bytes that are converted at once: what reading takes besides the images themselves."""

MAX_BYTES: Final = 16 * 2**30
"""Bytes of the largest data set that is read, unless the caller says otherwise."""

_MAX_CHANNELS: Final = 4
"""Gray, with transparency, in color, in color with transparency; what has more is a volume."""

_NOISE: Final = 1e-3
"""By how much floats may leave their range: interpolation overshoots by rounding errors."""

_FEWEST_LEVELS: Final = 64
"""Floats between 0 and less than this are no pixel values; rounding would leave few of them."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The values that pixels take, from which follows what they mean.

    Attributes:
        low: The smallest.
        high: The largest.
        floating: Whether they are stored as fractions (or truth values) instead of integers.
        whole: Whether all of them are whole numbers.
    """

    low: float
    high: float
    floating: bool
    whole: bool

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Self:
        """The levels of some pixels, at least one.

        Raises:
            ValueError: NaN or infinite pixels, or such as are no real numbers.
        """
        if pixels.dtype.kind in "ui":
            return cls(int(pixels.min()), int(pixels.max()), False, True)
        if pixels.dtype.kind not in "bf":
            raise ValueError(f"pixels must be numbers; got {pixels.dtype}")
        if not np.isfinite(pixels).all():
            raise ValueError("pixels must be finite; got NaN or infinite ones")
        whole = bool((np.rint(pixels) == pixels).all())
        return cls(float(pixels.min()), float(pixels.max()), True, whole)

    def __or__(self, other: Levels) -> Levels:
        """The levels of both."""
        return Levels(
            min(self.low, other.low),
            max(self.high, other.high),
            self.floating or other.floating,
            self.whole and other.whole,
        )

    @property
    def factor(self) -> float:
        """What brings the pixels to the range of 0 to 255.

        Fractions between 0 and 1 are spread over it, values up to 255 stay, and of larger ones
        the upper 8 of the bits in use remain.

        Raises:
            ValueError: Negative pixels, or fractions of an unclear range.
        """
        shown = f"got {self.low:g} to {self.high:g}; scale them to 0 to 255"
        if self.low < (-_NOISE if self.floating else 0):
            raise ValueError(f"pixels must not be negative; {shown}")
        if self.floating and self.high <= 1 + _NOISE:
            return 255.0
        if self.high < _FEWEST_LEVELS and not self.whole:
            raise ValueError(f"pixels must lie between 0 and 1 or reach up to 255; {shown}")
        return 2.0 ** min(0, 8 - int(self.high).bit_length())


def to_uint8(pixels: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    """Pixels times a factor of :class:`Levels`, between 0 and 255."""
    if pixels.dtype == np.uint8 and factor == 1:
        return pixels
    scaled = pixels * factor
    # The upper bits of integers are a floor; fractions are rounded to the nearest level.
    scaled = np.floor(scaled) if factor < 1 else np.rint(scaled)
    return scaled.clip(0, 255).astype(np.uint8)


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Which axis of (n, height, width) with or without channels holds them; None for none.

    Raises:
        ValueError: No such shape, no pixels, or a shape that could be of volumes.
    """
    described = (
        "images must be of shape (n, height, width), (n, height, width, channels) or "
        f"(n, channels, height, width), with at most {_MAX_CHANNELS} channels and n > 0"
    )
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(f"{described}; got shape {shape}")
    if len(shape) == 3:
        return None
    axes = [axis for axis in (3, 1) if shape[axis] <= _MAX_CHANNELS]
    if not axes:
        raise ValueError(
            f"{described}; got shape {shape}: volumes and images of more channels are not read; "
            "a program can give images of any channels to train() as an ImageData"
        )
    # Where both could be, the sides of a square tell; else channels come last.
    if len(axes) == 2 and shape[2] == shape[3] != shape[1]:
        return 1
    return axes[0]


def filled(
    count: int,
    channels: int,
    size: tuple[int, int],
    chunks: Iterable[NDArray[np.uint8]],
    max_bytes: int,
) -> Tensor:
    """Images that come in chunks as one tensor, resized.

    Args:
        count: How many there are.
        channels: Channels of every image.
        size: Height and width to resize to, in pixels.
        chunks: uint8 (k, channels, height, width) of any k; all are of one height and width, or
            need resizing.
        max_bytes: What the tensor may take.

    Returns:
        uint8 (count, channels, *size).

    Raises:
        ValueError: It would take more, or this machine has not enough memory.
    """
    shape = (count, channels, *size)
    needed = count * channels * size[0] * size[1]
    problem = (
        f"the images would take {format_size(needed)} of memory as {count} of "
        f"{channels}x{size[0]}x{size[1]}"
    )
    if needed > max_bytes:
        raise ValueError(
            f"{problem}, more than {format_size(max_bytes)}: ask for a smaller image_size, or "
            "for fewer images"
        )
    try:
        images = torch.empty(shape, dtype=torch.uint8)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{problem}, which this machine does not have") from error
    start = 0
    for chunk in chunks:
        # Copied as it lies, since resizing rounds differently for other orders of the axes.
        images[start : start + len(chunk)] = _resized(torch.from_numpy(chunk.copy("K")), size)
        start += len(chunk)
    return images


def rows_at_once(*row_bytes: int) -> int:
    """How many rows make a chunk, where each takes so much before and after its conversion."""
    return max(1, CHUNK // max(row_bytes))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    resized = interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
