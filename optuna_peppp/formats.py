"""Low-precision floating-point formats and the paper's Tables 3 and 4."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Self

from optuna_peppp.text import quoted

_TEXT: Final = re.compile(r"1-(\d+)-(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class FloatFormat:
    """A binary floating-point format with one sign bit, written sign-exponent-mantissa.

    The bias is ``2**(exponent - 1) - 1``. No code is reserved for infinity or NaN, so the
    largest exponent is ``2**(exponent - 1)``; subnormal numbers are kept (the formats that
    QPyTorch simulates, and the paper's Figure 3).

    Attributes:
        exponent: Exponent bits, 2 to 8.
        mantissa: Mantissa bits, 1 to 23.

    Raises:
        ValueError: A bit count is out of range.

    >>> fmt = FloatFormat.parse("1-4-3")
    >>> str(fmt), fmt.bits, fmt.max
    ('1-4-3', 8, 480.0)
    """

    exponent: int
    mantissa: int

    def __post_init__(self) -> None:
        if not 2 <= self.exponent <= 8:
            raise ValueError(f"exponent must be between 2 and 8 bits; got {self.exponent!r}")
        if not 1 <= self.mantissa <= 23:
            raise ValueError(f"mantissa must be between 1 and 23 bits; got {self.mantissa!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a format such as ``1-4-3``: one sign bit, 4 exponent bits, 3 mantissa bits.

        Raises:
            ValueError: The text is not sign-exponent-mantissa, or a bit count is out of range.
        """
        match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                "a format must be written sign-exponent-mantissa with one sign bit, "
                f"such as '1-4-3'; got {quoted(text)}"
            )
        try:
            return cls(int(match[1]), int(match[2]))
        except ValueError as error:
            raise ValueError(f"format {quoted(text)}: {error}") from None

    def __str__(self) -> str:
        return f"1-{self.exponent}-{self.mantissa}"

    @property
    def bits(self) -> int:
        """Bits of one number, its sign included."""
        return 1 + self.exponent + self.mantissa

    @property
    def max(self) -> float:
        """Largest finite number. With 8 exponent bits it lies above float32's range."""
        return math.ldexp(2 - math.ldexp(1.0, -self.mantissa), 1 << (self.exponent - 1))

    @property
    def min_normal(self) -> float:
        """Smallest positive normal number."""
        return math.ldexp(1.0, 2 - (1 << (self.exponent - 1)))

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        return math.ldexp(self.min_normal, -self.mantissa)


@dataclass(frozen=True, slots=True)
class Precision:
    """The two formats of one low-precision training (paper, Section 3.1).

    Attributes:
        format_a: Format A, for weights, activations and their gradients.
        format_b: Format B, for the optimizer: weight gradients, momentum, weight accumulators.

    >>> print(Precision.parse("1-4-3", "1-6-7"))
    1-4-3 / 1-6-7
    """

    format_a: FloatFormat
    format_b: FloatFormat

    @classmethod
    def parse(cls, format_a: str, format_b: str) -> Self:
        """Reads both formats.

        Raises:
            ValueError: One of them is not a format.
        """
        return cls(FloatFormat.parse(format_a), FloatFormat.parse(format_b))

    def __str__(self) -> str:
        return f"{self.format_a} / {self.format_b}"


FORMATS_A: Final = tuple(
    FloatFormat(exponent, mantissa)
    for exponent, mantissas in ((3, (1, 2, 3, 4)), (4, (1, 2, 3, 4)), (5, (1, 2, 3)))
    for mantissa in mantissas
)
"""The choices of Format A (paper, Table 3)."""

FORMATS_B: Final = tuple(FloatFormat(e, m) for e in (6, 7, 8) for m in (7, 9, 11))
"""The choices of Format B (paper, Table 4)."""
