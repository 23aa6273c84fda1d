"""What a number format is, and the formats that write each number by itself.

:func:`~optuna_peppp.configurations.notation.parse_format` reads any of them, and those of
:mod:`~optuna_peppp.configurations.blocks`, whose numbers share a scale.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, Self, get_args

from optuna_peppp.choices import check_choice
from optuna_peppp.text import quoted

_TEXT: Final = re.compile(r"1-(\d+)-(\d+)(?:b(-?\d+))?", re.ASCII)


_LARGEST: Final = 127
"""Exponent of the largest float32."""

_ROOM: Final = 128
"""Exponents on either side of 1 that formats may use, as those of 8 bits do without a shift."""


class Coordinates(NamedTuple):
    """Where a format stands among others: formats that are close make similar errors.

    Attributes:
        exponent: Exponent bits, by which a number's range grows; a scale has some, too. Where
            exponents are shifted, as many as would reach numbers as small.
        mantissa: Mantissa bits, by which a number's precision grows.
        scale: 0 without a scale, 1 where the tensor has one, and a fifth more each time that the
            numbers of a block are halved, from 1,024 on.
    """

    exponent: float
    mantissa: float
    scale: float = 0.0


class Format(Protocol):
    """How numbers are written: what memory, studies and the cold prior ask of a format.

    ``str()`` of it is its canonical text, which
    :func:`~optuna_peppp.configurations.notation.parse_format` reads.
    """

    @property
    def bits(self) -> float:
        """Bits of one number, with its share of the scales."""

    @property
    def max(self) -> float:
        """Largest finite number."""

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""

    @property
    def coordinates(self) -> Coordinates:
        """Where it stands among other formats."""


@dataclass(frozen=True, slots=True, order=True)
class FloatFormat:
    """A binary floating-point format with one sign bit, written sign-exponent-mantissa.

    The bias is ``2**(exponent - 1) - 1``. No code is reserved for infinity or NaN, so the
    largest exponent is ``2**(exponent - 1)``; subnormal numbers are kept (the formats that
    QPyTorch simulates, and the paper's Figure 3). With a shift, every number is that of the
    format without one, times ``2**-shift`` (FP(e, m, b) of Lee et al., TMLR 2023): small numbers
    gain what large ones lose.

    Attributes:
        exponent: Exponent bits, 2 to 8.
        mantissa: Mantissa bits, 1 to 23.
        shift: By how much all exponents are lowered; written ``1-4-3b4``.

    Raises:
        ValueError: A bit count is out of range, or a shift takes numbers out of float32's range.

    >>> fmt = FloatFormat.parse("1-4-3")
    >>> str(fmt), fmt.bits, fmt.max
    ('1-4-3', 8, 480.0)
    """

    exponent: int
    mantissa: int
    shift: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.exponent <= 8:
            raise ValueError(f"exponent must be between 2 and 8 bits; got {self.exponent!r}")
        if not 1 <= self.mantissa <= 23:
            raise ValueError(f"mantissa must be between 1 and 23 bits; got {self.mantissa!r}")
        room = _ROOM - (1 << (self.exponent - 1))
        if not -room <= self.shift <= room:
            raise ValueError(f"shift must be between {-room} and {room}; got {self.shift!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a format such as ``1-4-3``: one sign bit, 4 exponent bits, 3 mantissa bits.

        Raises:
            ValueError: The text is not sign-exponent-mantissa, or a number is out of range.
        """
        match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                "a format must be written sign-exponent-mantissa with one sign bit, "
                f"such as '1-4-3'; got {quoted(text)}"
            )
        try:
            return cls(int(match[1]), int(match[2]), int(match[3] or 0))
        except ValueError as error:
            raise ValueError(f"format {quoted(text)}: {error}") from None

    def __str__(self) -> str:
        shift = f"b{self.shift}" if self.shift else ""
        return f"1-{self.exponent}-{self.mantissa}{shift}"

    @property
    def bits(self) -> int:
        """Bits of one number, its sign included."""
        return 1 + self.exponent + self.mantissa

    @property
    def max(self) -> float:
        """Largest finite number. With 8 exponent bits it lies above float32's range."""
        largest = (1 << (self.exponent - 1)) - self.shift
        return math.ldexp(2 - math.ldexp(1.0, -self.mantissa), largest)

    @property
    def overflow(self) -> float:
        """Smallest float32 number that to nearest is rounded beyond the largest one."""
        largest = min((1 << (self.exponent - 1)) - self.shift, _LARGEST)
        return math.ldexp(2 - math.ldexp(0.5, -self.mantissa), largest)

    @property
    def min_normal(self) -> float:
        """Smallest positive normal number."""
        return math.ldexp(1.0, 2 - (1 << (self.exponent - 1)) - self.shift)

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        return math.ldexp(self.min_normal, -self.mantissa)

    @property
    def coordinates(self) -> Coordinates:
        """Its exponent and mantissa bits; of a shift, how far it reaches to the small."""
        reached = max(2 * self.shift + (1 << self.exponent), 2)
        return Coordinates(math.log2(reached), self.mantissa)


Overflow = Literal["special", "saturate"]
"""What is too large becomes: the infinity or NaN that a format has, or its largest number."""

OVERFLOWS: Final[tuple[Overflow, ...]] = get_args(Overflow)

MachineFloatName = Literal[
    "float32",
    "float24",
    "bfloat16",
    "float16",
    "float8-e4m3",
    "float8-e5m2",
    "float6-e3m2",
    "float6-e2m3",
    "float4-e2m1",
]
"""The floating-point formats that machines have; ``float24`` is a bfloat16 and 8 bits more."""

MACHINE_FLOATS: Final[tuple[MachineFloatName, ...]] = get_args(MachineFloatName)

_PRECISE: Final = 12
"""Mantissa bits that the errors of trainings can tell from more."""


class _Codes(NamedTuple):
    """Exponent bits, mantissa bits, and the special value that the highest codes are taken for.

    With infinity, as in IEEE 754, they are all codes of the largest exponent; NaN alone takes the
    one of all ones; None takes none.
    """

    exponent: int
    mantissa: int
    special: float | None


_CODES: Final[dict[MachineFloatName, _Codes]] = {
    "float32": _Codes(8, 23, math.inf),
    "float24": _Codes(8, 15, math.inf),
    "bfloat16": _Codes(8, 7, math.inf),
    "float16": _Codes(5, 10, math.inf),
    "float8-e4m3": _Codes(4, 3, math.nan),
    "float8-e5m2": _Codes(5, 2, math.inf),
    "float6-e3m2": _Codes(3, 2, None),
    "float6-e2m3": _Codes(2, 3, None),
    "float4-e2m1": _Codes(2, 1, None),
}


@dataclass(frozen=True, slots=True)
class MachineFloat:
    """A floating-point format that machines have, with its reserved codes and subnormal numbers.

    To nearest, ties go to even. FP8, FP6 and FP4 are those of OCP's specifications (8-bit
    Floating Point, 2023; Microscaling Formats, 2023).

    Attributes:
        name: One of :data:`MACHINE_FLOATS`.
        overflow: ``"special"``: what rounds beyond the largest number, and infinity, becomes
            infinity, NaN where the format has no infinity, and the largest number where it has
            neither; ``"saturate"``: the largest number in any case.

    Raises:
        ValueError: An argument is none of its choices.

    >>> fmt = MachineFloat("float8-e4m3", "saturate")
    >>> str(fmt), fmt.bits, fmt.max
    ('float8-e4m3/saturate', 8, 448.0)
    """

    name: MachineFloatName
    overflow: Overflow = "special"

    def __post_init__(self) -> None:
        check_choice("name", self.name, MACHINE_FLOATS)
        check_choice("overflow", self.overflow, OVERFLOWS)
        if self.special is None:  # one spelling of what is the same
            object.__setattr__(self, "overflow", "special")

    def __str__(self) -> str:
        return self.name if self.overflow == "special" else f"{self.name}/saturate"

    @property
    def exponent(self) -> int:
        """Exponent bits."""
        return _CODES[self.name].exponent

    @property
    def mantissa(self) -> int:
        """Mantissa bits."""
        return _CODES[self.name].mantissa

    @property
    def special(self) -> float | None:
        """Infinity; NaN where it has no infinity; None where it has neither."""
        return _CODES[self.name].special

    @property
    def bits(self) -> int:
        """Bits of one number, its sign included."""
        return 1 + self.exponent + self.mantissa

    @property
    def max(self) -> float:
        """Largest finite number."""
        special = self.special
        # Reserved are the codes of the largest exponent, or the last step of its mantissa.
        largest = (1 << (self.exponent - 1)) - (special == math.inf)
        steps = 1 if special is None or math.isinf(special) else 2
        return math.ldexp(2 - math.ldexp(steps, -self.mantissa), largest)

    @property
    def min_normal(self) -> float:
        """Smallest positive normal number."""
        return math.ldexp(1.0, 2 - (1 << (self.exponent - 1)))

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        return math.ldexp(self.min_normal, -self.mantissa)

    @property
    def coordinates(self) -> Coordinates:
        """Its exponent and mantissa bits, as many of these as errors can tell."""
        return Coordinates(self.exponent, min(self.mantissa, _PRECISE))


def overflow_of(fmt: Format | None) -> float:
    """Smallest number that to nearest is rounded beyond a format's largest; infinity for none.

    >>> overflow_of(MachineFloat("float8-e4m3")), overflow_of(FloatFormat.parse("1-4-3b4"))
    (464.0, 31.0)
    """
    if isinstance(fmt, FloatFormat):
        return fmt.overflow
    if isinstance(fmt, MachineFloat):
        return fmt.max + math.ldexp(0.5, math.frexp(fmt.max)[1] - 1 - fmt.mantissa)
    return math.inf
