"""A pair of formats, and the formats of the paper's tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.text import quoted

_FORMATS: Final = re.compile(r"1-\d+-\d+(?:b-?\d+)?", re.ASCII)


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


def check_precision(precision: object) -> None:
    """Refuses what is no precision, and says how to make one.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(precision, Precision):
        raise ValueError(
            f"precision must be a Precision; got {quoted(precision)}: {_remedy(precision)}"
        )


def _remedy(precision: object) -> str:
    formats = _FORMATS.findall(precision) if isinstance(precision, str) else ()
    if len(formats) == 2:
        return f"give Precision.parse({formats[0]!r}, {formats[1]!r})"
    return (
        "give Precision.parse(format_a, format_b), such as Precision.parse('1-4-3', '1-6-7'), or a "
        "Recipe, such as Recipe.named('mxfp8')"
    )


FORMATS_A: Final = tuple(
    FloatFormat(exponent, mantissa)
    for exponent, mantissas in ((3, (1, 2, 3, 4)), (4, (1, 2, 3, 4)), (5, (1, 2, 3)))
    for mantissa in mantissas
)
"""The choices of Format A (paper, Table 3)."""


FORMATS_B: Final = tuple(FloatFormat(e, m) for e in (6, 7, 8) for m in (7, 9, 11))
"""The choices of Format B (paper, Table 4)."""
