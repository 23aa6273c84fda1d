"""Tensors in the bits of their format: what a training has to hold of them.

Packing rounds as :func:`~optuna_peppp.lowprecision.quantize` does, with the same random keys the
same way, and unpacking gives what that returns, bit for bit. Of blocks, the string holds the
elements, and scales stand beside it in their own formats.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from optuna_peppp.configurations.blocks import NVFP4, BlockFormat, Microscaled, MinMax
from optuna_peppp.configurations.elements import DynamicMap
from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.names import Rounding
from optuna_peppp.lowprecision.compatibility import compiler_settings
from optuna_peppp.lowprecision.rounding import maps, scales
from optuna_peppp.lowprecision.rounding.bitstrings import pack_bits, unpack_bits
from optuna_peppp.lowprecision.rounding.codes import Codes, codes_of
from optuna_peppp.lowprecision.rounding.compiling import AS_EAGERLY, can_compile, may_compile
from optuna_peppp.lowprecision.rounding.layouts import layout_of
from optuna_peppp.lowprecision.rounding.machine import times_scale
from optuna_peppp.lowprecision.rounding.quantize import LARGE, on_device


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor in the bits of its format.

    Attributes:
        string: The elements, uint8.
        scales: Of the blocks, none where the format has no blocks.
        like: The tensor without data: its shape, strides and dtype.
        unpacking: Makes the numbers of the two.
    """

    string: Tensor
    scales: tuple[Tensor, ...]
    like: Tensor
    unpacking: Callable[[Packed], Tensor]

    @property
    def nbytes(self) -> int:
        """What it holds."""
        return sum(x.numel() * x.element_size() for x in (self.string, *self.scales))

    def unpack(self) -> Tensor:
        """The tensor, on the device where it was, in the order of memory that it had."""
        return self.unpacking(self)


def pack(x: Tensor, fmt: Format, keys: Tensor | None = None, axis: int | None = -1) -> Packed:
    """Rounds a tensor and packs it.

    Args:
        x: Floating-point tensor of any shape, layout and device.
        fmt: The format.
        keys: Of stochastic rounding, as
            :func:`~optuna_peppp.lowprecision.rounding.kernels.random_keys` draws them; None to
            round to nearest.
        axis: As of :func:`~optuna_peppp.lowprecision.quantize`.
    """
    x = x.detach()
    if isinstance(fmt, FloatFormat | MachineFloat):
        how: Rounding = "nearest" if keys is None else "stochastic"
        rounded = on_device(fmt, x.device, how, "eager").round(x, keys)
        return pack_elements(rounded, fmt)
    return _pack_blocks(x, cast(BlockFormat, fmt), keys, axis)


def pack_elements(x: Tensor, fmt: FloatFormat | MachineFloat) -> Packed:
    """Packs numbers that a format has, in the order of the memory."""
    codes, like = codes_of(fmt), torch.empty_like(x, device="meta")
    if x.stride() != like.stride():
        x = torch.empty_like(x).copy_(x)
    flat = x.as_strided((x.numel(),), (1,)).float()

    def unpacking(packed: Packed) -> Tensor:
        missing = -like.numel() % 8
        numbers: Tensor = _fast(_decoded, like.numel())(packed.string, codes, missing)
        return numbers.to(like.dtype).as_strided(like.shape, like.stride())

    return Packed(_fast(_encoded, len(flat))(flat, codes), (), like, unpacking)


def _encoded(x: Tensor, codes: Codes) -> Tensor:
    return pack_bits(codes.encode(x), codes.bits)


def _decoded(string: Tensor, codes: Codes, missing: int) -> Tensor:
    """The numbers of a string, to a multiple of eight of which so many are missing."""
    whole = codes.bits // 8 * missing
    count = 8 * (len(string) + whole) // codes.bits - missing
    return codes.decode(unpack_bits(string, codes.bits, count))


def _fast(function: Callable[..., Any], *sizes: int) -> Callable[..., Any]:
    """The function, compiled where a tensor of these sizes is large, once a format."""
    large = math.prod(sizes) >= LARGE and math.prod(sizes) % 8 == 0 and may_compile(*sizes)
    return _compiled(function) if large and can_compile(quiet=True) else function


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(function, dynamic=True, fullgraph=True, options=AS_EAGERLY)

    def call(*arguments: object) -> Any:
        # Bits are constants; sizes are not.
        with compiler_settings(specialize_int=True, recompile_limit=64):
            return compiled(*arguments)

    return call


def _pack_blocks(x: Tensor, fmt: BlockFormat, keys: Tensor | None, axis: int | None) -> Packed:
    like, values = torch.empty_like(x, device="meta"), x.resolve_neg().float()
    if axis is None or x.dim() == 0:
        values, axis = values.reshape(-1), 0
    axis %= values.dim()
    arithmetic, layout, shape = _arithmetic(fmt, x.device), layout_of(fmt.block), values.shape
    codes = _Counts(fmt.element.bits) if isinstance(fmt, MinMax) else codes_of(fmt.element)

    def unpacking(packed: Packed) -> Tensor:
        string = unpack_bits(packed.string, codes.bits, like.numel()).view(shape)
        blocks, dim = layout.split(string, axis)
        rows, last = _rows(blocks, dim)
        numbers = _fast(_restored, *rows.shape)(rows, packed.scales, arithmetic, codes)
        numbers = layout.join(numbers.view(last).movedim(-1, dim), string, axis)
        numbers = numbers.reshape(like.shape).to(like.dtype)
        if numbers.stride() == like.stride():
            return numbers
        result = numbers.new_empty(like.numel()).as_strided(like.shape, like.stride())
        return result.copy_(numbers)

    if values.numel() == 0:
        nothing = torch.empty_like(x)
        return Packed(nothing.new_empty(0, dtype=torch.uint8), (), like, lambda _: nothing)
    blocks, dim = layout.split(values, axis)
    rows, last = _rows(blocks, dim)
    elements, own = _fast(_taken_apart, *rows.shape)(rows, keys, arithmetic, codes)
    string = layout.join(elements.view(last).movedim(-1, dim), values, axis).reshape(-1)
    return Packed(_fast(pack_bits, len(string))(string, codes.bits), own, like, unpacking)


def _rows(blocks: Tensor, dim: int) -> tuple[Tensor, torch.Size]:
    """A matrix of blocks, and the shape that it would have with a block in the last dimension."""
    last = blocks.movedim(dim, -1)
    return last.reshape(-1, last.shape[-1]), last.shape


def _taken_apart(
    rows: Tensor, keys: Tensor | None, arithmetic: _Arithmetic, codes: Codes
) -> tuple[Tensor, tuple[Tensor, ...]]:
    elements, own = arithmetic.parts(rows, keys, -1)
    return codes.encode(elements), own


def _restored(
    rows: Tensor, own: tuple[Tensor, ...], arithmetic: _Arithmetic, codes: Codes
) -> Tensor:
    return arithmetic.whole(codes.decode(rows), own)


class _Arithmetic(Protocol):
    """Blocks as elements and scales, and back."""

    def parts(self, x: Tensor, keys: Tensor | None, dim: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The elements of blocks, and the scales in the bits that they are kept in."""

    def whole(self, elements: Tensor, own: tuple[Tensor, ...]) -> Tensor:
        """The rounded numbers."""


def _arithmetic(fmt: BlockFormat, device: torch.device) -> _Arithmetic:
    if isinstance(fmt, Microscaled):
        return _Powers(scales.microscaled_parameters(fmt, device))
    if isinstance(fmt, NVFP4):
        return _OfTensor(scales.nvfp4_parameters(fmt, device))
    if isinstance(fmt, MinMax):
        return _Steps(scales.minmax_parameters(fmt, device))
    if isinstance(fmt.element, DynamicMap):
        return _Mapped(maps.map_parameters(fmt.element, device))
    of_element = scales.scaled_parameters(fmt.element, fmt.scale, device)
    return _Scaled(of_element, fmt.scale.name == "bfloat16")


@dataclass(frozen=True, slots=True)
class _Scaled:
    tensors: tuple[Tensor, ...]
    halves: bool

    def parts(self, x: Tensor, keys: Tensor | None, dim: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        elements, own = scales.scaled_parts(x, keys, *self.tensors, dim=dim)
        return elements, (_bfloat16(own) if self.halves else own,)

    def whole(self, elements: Tensor, own: tuple[Tensor, ...]) -> Tensor:
        return times_scale(elements, self.tensors[0], own[0].float())


@dataclass(frozen=True, slots=True)
class _Powers:
    tensors: tuple[Tensor, ...]

    def parts(self, x: Tensor, keys: Tensor | None, dim: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        elements, own = scales.microscaled_parts(x, keys, *self.tensors, dim=dim)
        # Of 2^-127 to 2^127 the exponents, 0 to 254; of NaN 255, as E8M0 has it.
        exponents = (own.view(torch.int32) >> 23).clamp(0, 255)
        missing = (elements != elements).any(dim, keepdim=True)
        return elements, (torch.where(missing, 255, exponents).to(torch.uint8),)

    def whole(self, elements: Tensor, own: tuple[Tensor, ...]) -> Tensor:
        exponents = own[0].int()
        bits = torch.where(exponents == 0, 1 << 22, exponents << 23)
        power = torch.where(exponents == 255, torch.nan, bits.view(torch.float32))
        return times_scale(elements, self.tensors[0], power)


@dataclass(frozen=True, slots=True)
class _OfTensor:
    tensors: tuple[Tensor, ...]

    def parts(self, x: Tensor, keys: Tensor | None, dim: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        elements, own, whole = scales.nvfp4_parts(x, keys, *self.tensors, dim=dim)
        return elements, (codes_of(NVFP4.scale).encode(own).to(torch.uint8), whole)

    def whole(self, elements: Tensor, own: tuple[Tensor, ...]) -> Tensor:
        of_block = codes_of(NVFP4.scale).decode(own[0].int())
        return times_scale(elements, self.tensors[0], own[1] * of_block)


@dataclass(frozen=True, slots=True)
class _Steps:
    tensors: tuple[Tensor, ...]

    def parts(self, x: Tensor, keys: Tensor | None, dim: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        code, low, step = scales.minmax_parts(x, keys, *self.tensors, dim=dim)
        return code, (_bfloat16(low), _bfloat16(step))

    def whole(self, elements: Tensor, own: tuple[Tensor, ...]) -> Tensor:
        low, step = own
        return low.float() + elements * step.float()


@dataclass(frozen=True, slots=True)
class _Mapped:
    tensors: tuple[Tensor, ...]

    def parts(self, x: Tensor, keys: Tensor | None, dim: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        elements, own = maps.mapped_parts(x, keys, *self.tensors, dim=dim)
        return elements, (own,)

    def whole(self, elements: Tensor, own: tuple[Tensor, ...]) -> Tensor:
        return elements * own[0]


@dataclass(frozen=True, slots=True)
class _Counts:
    """Codes that are numbers of steps."""

    bits: int

    def encode(self, x: Tensor) -> Tensor:
        return x.int()

    def decode(self, codes: Tensor) -> Tensor:
        return codes.float()


def _bfloat16(x: Tensor) -> Tensor:
    """Numbers that a bfloat16 holds."""
    return x.to(torch.bfloat16)
