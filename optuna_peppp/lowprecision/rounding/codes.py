"""The codes of elements: from numbers of a format to integers of its bits, and back.

A float's code is its sign, and its magnitude's place among the format's magnitudes, ascending: of
a normal number the first bits of its float32, less those of the binade below the smallest one; of
a subnormal number, how many of the smallest ones it is. The latter is larger exactly where the
number is subnormal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from optuna_peppp.configurations.elements import DynamicMap, Integer
from optuna_peppp.configurations.formats import FloatFormat, MachineFloat
from optuna_peppp.lowprecision.rounding.kernels import INFINITY, SIGN

_NAN = 0x7FC00000
_PLACES = 23


class Codes(Protocol):
    """The codes of an element format."""

    @property
    def bits(self) -> int:
        """Bits of each code."""

    def encode(self, x: Tensor) -> Tensor:
        """int32 codes of float32 numbers that the format has."""

    def decode(self, codes: Tensor) -> Tensor:
        """The float32 numbers of int32 codes."""


def codes_of(element: FloatFormat | MachineFloat | Integer | DynamicMap) -> Codes:
    """The codes of an element format.

    All numbers that rounding gives are told apart, zeros of both signs among them; NaN and
    infinity where the format has them, else they are some number.
    """
    if isinstance(element, Integer):
        return _Integers(element.bits)
    if isinstance(element, DynamicMap):
        return _Table(element.bits, torch.from_numpy(element.numbers()))
    special = element.special if isinstance(element, MachineFloat) else None
    return _Floats(element.exponent, element.mantissa, element.min_normal, special)


@dataclass(frozen=True, slots=True)
class _Floats:
    exponent: int
    mantissa: int
    min_normal: float
    special: float | None

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def _base(self) -> int:
        """The first bits of a float32 in the binade below the smallest normal number."""
        return (math.frexp(self.min_normal)[1] + 125) << self.mantissa

    @property
    def _power(self) -> int:
        """The smallest number is two to this power."""
        return math.frexp(self.min_normal)[1] - 1 - self.mantissa

    def encode(self, x: Tensor) -> Tensor:
        bits = x.view(torch.int32)
        magnitude = bits & ~SIGN
        code = magnitude >> (_PLACES - self.mantissa)
        if self._base:
            least = magnitude.clamp(max=_bits(self.min_normal)).view(torch.float32)
            code = torch.maximum(code.sub_(self._base), _times_power(least, -self._power).int())
        if self.special is not None:
            # The place of infinity is that of the next binade; NaN is last.
            if math.isinf(self.special):
                above = ((1 << self.exponent) - 1) << self.mantissa
                code = torch.where(magnitude == INFINITY, above, code)
            last = (1 << (self.bits - 1)) - 1
            code = torch.where(magnitude > INFINITY, last, code)
        return code | ((bits >> 31) & 1) << (self.bits - 1)

    def decode(self, codes: Tensor) -> Tensor:
        last = (1 << (self.bits - 1)) - 1
        magnitude = codes & last
        bits = (magnitude + self._base) << (_PLACES - self.mantissa)
        if self._base:
            least = _times_power(magnitude.float(), self._power).view(torch.int32)
            bits = torch.where(magnitude < (1 << self.mantissa), least, bits)
            if self.special is not None:
                bits = torch.where(magnitude == last, _NAN, bits)
                if math.isinf(self.special):
                    above = ((1 << self.exponent) - 1) << self.mantissa
                    bits = torch.where(magnitude == above, INFINITY, bits)
        return (bits | (codes >> (self.bits - 1)) << 31).view(torch.float32)


@dataclass(frozen=True, slots=True)
class _Integers:
    bits: int

    def encode(self, x: Tensor) -> Tensor:
        return x.int() + ((1 << (self.bits - 1)) - 1)

    def decode(self, codes: Tensor) -> Tensor:
        return (codes - ((1 << (self.bits - 1)) - 1)).float()


@dataclass(frozen=True, slots=True)
class _Table:
    bits: int
    numbers: Tensor

    def encode(self, x: Tensor) -> Tensor:
        numbers = self.numbers.to(x.device)
        codes = torch.searchsorted(numbers, x.contiguous(), out_int32=True)
        return codes.clamp_(max=(1 << self.bits) - 1)

    def decode(self, codes: Tensor) -> Tensor:
        numbers = self.numbers.to(codes.device)
        return numbers.index_select(0, codes.reshape(-1)).view(codes.shape)


def _bits(number: float) -> int:
    return int(torch.tensor(number, dtype=torch.float32).view(torch.int32))


def _times_power(x: Tensor, power: int) -> Tensor:
    """Numbers times a power of two that itself may be out of float32's range."""
    half = power // 2
    return x * 2.0**half * 2.0 ** (power - half)
