"""Formats whose numbers share a scale: an element format, a block of numbers, and a scale a block.

What a number is written as is ``scale * element``. Which scale a block gets is the class:

* :class:`Scaled`: largest magnitude / largest element, in float32, or in bfloat16 for a run of
  integers.
* :class:`Microscaled`: a power of two, 8 bits (MX of OCP's Microscaling Formats, 2023).
* :class:`NVFP4`: FP8, times a float32 of the tensor.
* :class:`MinMax`: smallest number and step of a run, in bfloat16; not symmetric.

Blocks of one row run along the axis that products are summed over; tiles have several rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple, get_args

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.elements import DynamicMap, Integer
from optuna_peppp.configurations.formats import Coordinates, MachineFloat

_FLOAT32: Final = MachineFloat("float32")
_BFLOAT16: Final = MachineFloat("bfloat16")
_LARGEST_BLOCK: Final = 2**20

Element = MachineFloat | Integer | DynamicMap
"""What is scaled."""

ScaleRule = Literal["floor", "rceil"]
"""How a power of two is chosen: ``"floor"`` of OCP's specification may saturate a block's largest
numbers; ``"rceil"`` of newer hardware rounds up, so that it does not."""

SCALE_RULES: Final[tuple[ScaleRule, ...]] = get_args(ScaleRule)


class Block(NamedTuple):
    """Numbers that share a scale: so many beside one another, in so many rows.

    >>> str(Block(32)), str(Block(32, 32))
    ('32', '32x32')
    """

    columns: int
    rows: int = 1

    @property
    def numbers(self) -> int:
        """How many share a scale."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return str(self.columns) if self.rows == 1 else f"{self.rows}x{self.columns}"


def _check_block(block: Block) -> None:
    if min(block) < 1 or block.numbers > _LARGEST_BLOCK:
        raise ValueError(f"a block must hold 1 to {_LARGEST_BLOCK:,} numbers; got {block}")


def _coordinates(element: Element, exponent: int, numbers: float) -> Coordinates:
    """Where a scaled format stands, by the exponent bits and the numbers of its scale."""
    halvings = max(0.0, 10 - math.log2(numbers))
    return Coordinates(max(element.exponent, exponent), element.mantissa, 1 + halvings / 5)


def _saturating(element: Element) -> Element:
    """The element as it is used in a block, where nothing overflows."""
    return MachineFloat(element.name, "saturate") if isinstance(element, MachineFloat) else element


@dataclass(frozen=True, slots=True)
class Scaled:
    """An element format with a scale for each block, or for the tensor.

    The scale is the block's largest magnitude over the element's largest number, a float32. Groups
    of integers, which are runs of one row, have a bfloat16, rounded up so that nothing saturates
    and stochastic rounding has no bias.

    Attributes:
        element: The element format.
        block: The numbers that share a scale; None for all numbers of the tensor.

    Raises:
        ValueError: The block holds no number, or too many.

    >>> fmt = Scaled(Integer(4), Block(32))
    >>> str(fmt), fmt.bits
    ('int4@32', 4.5)
    """

    element: Element
    block: Block | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "element", _saturating(self.element))
        if self.block is not None:
            _check_block(self.block)

    def __str__(self) -> str:
        name = self.element.name if isinstance(self.element, MachineFloat) else str(self.element)
        unsigned = isinstance(self.element, DynamicMap) and not self.element.signed
        block = "tensor" if self.block is None else self.block
        return f"{name}@{block}{'/unsigned' * unsigned}"

    @property
    def scale(self) -> MachineFloat:
        """The format of a scale."""
        group = self.block is not None and self.block.rows == 1
        return _BFLOAT16 if group and isinstance(self.element, Integer) else _FLOAT32

    @property
    def bits(self) -> float:
        """Bits of one number, with its share of a block's scale; a tensor's is not counted."""
        if self.block is None:
            return float(self.element.bits)
        return self.element.bits + self.scale.bits / self.block.numbers

    @property
    def max(self) -> float:
        """Largest finite number."""
        return self.element.max * self.scale.max

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number of a block with the smallest scale that is normal."""
        return self.element.min_subnormal * self.scale.min_normal

    @property
    def coordinates(self) -> Coordinates:
        """Where it stands among other formats."""
        if self.block is None:
            return _coordinates(self.element, 0, math.inf)
        return _coordinates(self.element, self.scale.exponent, self.block.numbers)


@dataclass(frozen=True, slots=True)
class Microscaled:
    """MX: 32 elements beside one another share a power of two, written in 8 bits.

    Attributes:
        element: A float of 8, 6 or 4 bits.
        rule: How the power of two is chosen.

    Raises:
        ValueError: An argument is none of its choices.

    >>> fmt = Microscaled(MachineFloat("float8-e4m3"))
    >>> str(fmt), fmt.bits
    ('mxfp8-e4m3', 8.25)
    """

    element: MachineFloat
    rule: ScaleRule = "floor"
    block: ClassVar[Block] = Block(32)

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, SCALE_RULES)
        check_choice("name of the element", self.element.name, _MX)
        object.__setattr__(self, "element", _saturating(self.element))

    def __str__(self) -> str:
        return _MX[self.element.name] + "/rceil" * (self.rule == "rceil")

    @property
    def bits(self) -> float:
        """Bits of one number, with its share of the scale."""
        return self.element.bits + 8 / self.block.numbers

    @property
    def max(self) -> float:
        """Largest finite number."""
        return math.ldexp(self.element.max, 127)

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        return math.ldexp(self.element.min_subnormal, -127)

    @property
    def coordinates(self) -> Coordinates:
        """Where it stands among other formats."""
        return _coordinates(self.element, 8, self.block.numbers)


_MX: Final[dict[str, str]] = {
    "float8-e4m3": "mxfp8-e4m3",
    "float8-e5m2": "mxfp8-e5m2",
    "float6-e3m2": "mxfp6-e3m2",
    "float6-e2m3": "mxfp6-e2m3",
    "float4-e2m1": "mxfp4",
}
"""The name with a scale of every element of MX."""


@dataclass(frozen=True, slots=True)
class NVFP4:
    """NVFP4: 16 FP4 elements share an FP8 scale, and all scales a float32 of the tensor.

    >>> str(NVFP4()), NVFP4().bits
    ('nvfp4', 4.5)
    """

    element: ClassVar[MachineFloat] = MachineFloat("float4-e2m1", "saturate")
    scale: ClassVar[MachineFloat] = MachineFloat("float8-e4m3", "saturate")
    block: ClassVar[Block] = Block(16)

    def __str__(self) -> str:
        return "nvfp4"

    @property
    def bits(self) -> float:
        """Bits of one number, with its share of the scale; that of the tensor is not counted."""
        return self.element.bits + self.scale.bits / self.block.numbers

    @property
    def max(self) -> float:
        """Largest finite number."""
        return self.element.max * self.scale.max * _FLOAT32.max

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number of a tensor with the smallest scale that is normal."""
        return self.element.min_subnormal * self.scale.min_subnormal * _FLOAT32.min_normal

    @property
    def coordinates(self) -> Coordinates:
        """Where it stands among other formats."""
        return _coordinates(self.element, self.scale.exponent, self.block.numbers)


@dataclass(frozen=True, slots=True)
class MinMax:
    """Steps from the smallest to the largest number of a run: what activations are kept in.

    Codes count from the run's smallest number, rounded down, in steps that are rounded up, both
    bfloat16: nothing saturates, so that stochastic rounding has no bias (ActNN, Chen et al., 2021).

    Attributes:
        element: As many codes as the integer has, the one that is not used there among them.
        block: The numbers of a run.

    Raises:
        ValueError: The block holds no number or too many, or has several rows.

    >>> fmt = MinMax(Integer(2), Block(256))
    >>> str(fmt), fmt.bits
    ('int2@256/minmax', 2.125)
    """

    element: Integer
    block: Block

    def __post_init__(self) -> None:
        _check_block(self.block)
        if self.block.rows != 1:
            raise ValueError(f"block of a MinMax must be a run of one row; got {self.block}")

    def __str__(self) -> str:
        return f"{self.element}@{self.block}/minmax"

    @property
    def steps(self) -> int:
        """Steps from the smallest to the largest number of a run."""
        return (1 << self.element.bits) - 1

    @property
    def bits(self) -> float:
        """Bits of one number, with its share of smallest number and step."""
        return self.element.bits + 2 * _BFLOAT16.bits / self.block.numbers

    @property
    def max(self) -> float:
        """Largest finite number."""
        return _BFLOAT16.max

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number."""
        return _BFLOAT16.min_subnormal

    @property
    def coordinates(self) -> Coordinates:
        """Where it stands among other formats."""
        return _coordinates(self.element, _BFLOAT16.exponent, self.block.numbers)


BlockFormat = Scaled | Microscaled | NVFP4 | MinMax
"""A format whose numbers share scales."""
