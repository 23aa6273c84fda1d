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
