"""Elements that need a scale: integers, and the maps of 8- and 4-bit optimizer states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Integer:
    """A signed integer of few bits; the code that would make it asymmetric is not used.

    Attributes:
        bits: Bits of one number, its sign included, 2 to 8.

    Raises:
        ValueError: ``bits`` is out of range.

    >>> str(Integer(3)), Integer(3).max
    ('int3', 3.0)
    """

    bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits of an integer must be between 2 and 8; got {self.bits!r}")

    def __str__(self) -> str:
        return f"int{self.bits}"

    @property
    def exponent(self) -> int:
        """Exponent bits of a float of as many numbers that are as far apart: none but one."""
        return 1

    @property
    def mantissa(self) -> int:
        """Mantissa bits that its numbers are worth: half of them lack the first bit."""
        return self.bits - 3

    @property
    def max(self) -> float:
        """Largest number."""
        return float((1 << (self.bits - 1)) - 1)

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        return 1.0


@dataclass(frozen=True, slots=True)
class DynamicMap:
    """A table of numbers up to 1 that are the denser, the smaller: dynamic quantization.

    The first zeros of a code count factors of ten, the bits after them divide the decade (Dettmers,
    "8-bit optimizers via block-wise quantization", 2022). The map of 4 bits without a sign is
    linear and has no zero, for second moments are divided by (Li, Chen and Zhu, "Memory efficient
    optimizers with 4-bit states", 2023).

    Attributes:
        bits: Bits of one number, 8 or 4.
        signed: Whether it has negative numbers, as a momentum has and a second moment has not.

    Raises:
        ValueError: ``bits`` is neither.
    """

    bits: int
    signed: bool = True

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise ValueError(f"bits of a dynamic map must be 4 or 8; got {self.bits!r}")

    def __str__(self) -> str:
        return f"dynamic{self.bits}"

    @property
    def exponent(self) -> int:
        """Exponent bits of a float of about the same range: 7 decades, or 3."""
        return 5 if self.bits == 8 else 3

    @property
    def mantissa(self) -> int:
        """Mantissa bits of its largest decade, or of a linear map as of :class:`Integer`."""
        return self.bits - 3

    @property
    def max(self) -> float:
        """Largest number."""
        return 1.0

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        numbers = self.numbers()
        return float(numbers[numbers > 0][0])

    def numbers(self) -> NDArray[np.float32]:
        """All numbers, ascending, shape (2**bits,); float32, computed as torchao 0.18 does."""
        if self.bits == 4 and not self.signed:
            return _linspace(0.0, 17)[1:]
        decades = self.bits - 1
        numbers: list[NDArray[np.float32]] = [np.array([0.0, 1.0], dtype=np.float32)]
        for decade in range(decades):
            boundaries = _linspace(0.1, 2**decade * (1 if self.signed else 2) + 1)
            means = (boundaries[:-1] + boundaries[1:]) / np.float32(2)
            means *= np.float32(10.0 ** (decade + 1 - decades))
            numbers += [means, -means] if self.signed else [means]
        return np.sort(np.concatenate(numbers))


def _linspace(start: float, count: int) -> NDArray[np.float32]:
    """``torch.linspace(start, 1, count)``, bit for bit.

    It counts from both ends to the middle, and rounds a product and its sum once, which float64,
    in which both are exact, does with the last conversion.
    """
    first = np.float32(start)
    step = np.float64((np.float32(1) - first) / np.float32(count - 1))
    places = np.arange(count)
    below, above = np.float64(first) + step * places, 1 - step * places[::-1]
    return np.where(places < count // 2, below, above).astype(np.float32)
