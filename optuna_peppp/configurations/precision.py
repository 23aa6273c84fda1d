"""A pair of formats, and the formats of the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from optuna_peppp.configurations.formats import FloatFormat


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
