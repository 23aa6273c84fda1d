"""A tensor that a forward pass saved, and the sites by which it is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.lowprecision.compatibility import storage_key, storage_watch
from optuna_peppp.lowprecision.rounding.bitstrings import pack_bits, unpack_bits
from optuna_peppp.lowprecision.rounding.packing import Packed, pack_elements

SMALL: Final = 1024
"""Numbers of a tensor below which it is kept as it is: statistics, losses."""

Place = tuple[int, int]
"""Where numbers lie in their storage, and how many."""


class Site:
    """A storage whose numbers were rounded."""

    def __init__(
        self,
        x: Tensor,
        formats: Sequence[Format],
        *,
        relu: bool = False,
        kept: bool = False,
    ) -> None:
        self._formats = [f for f in formats if isinstance(f, FloatFormat | MachineFloat)]
        self._relu = relu
        self.kept = kept
        self.packed: dict[Place, Packed] = {}
        self.version = x._version
        self._gone = storage_watch(x)

    def of(self, x: Tensor) -> Site:
        """The same numbers in another storage."""
        other = Site(x, self._formats, relu=self._relu, kept=self.kept)
        other.packed = self.packed
        return other

    @property
    def is_gone(self) -> bool:
        """Whether nobody has the storage any more."""
        return self._gone()

    def settle(self, saved: Saved) -> None:
        """Packs a saved tensor of this storage, if that loses nothing."""
        x, place = saved.numbers, saved.place
        if place is None:
            return
        numbers = flat(x, place)
        packed = self.packed.get(place)
        if packed is not None and packed.like.dtype != x.dtype:
            return
        if packed is not None and (self.kept or same(packed.unpack(), numbers)):
            saved.packed, saved.tensor = packed, None
            return
        for fmt in self._formats:
            packed = pack_elements(numbers, fmt)
            if same(packed.unpack(), numbers):
                self.packed[place] = packed
                saved.packed, saved.tensor = packed, None
                return
        if self._relu:
            saved.bits, saved.count = pack_bits((~(numbers <= 0)).int(), 1), 1
            saved.tensor = None


@dataclass(eq=False)
class Saved:
    """A saved tensor: as it is, packed, or as integers of few bits."""

    tensor: Tensor | None
    packed: Packed | None = None
    bits: Tensor | None = None
    count: int = 0
    storage: int = field(init=False)
    size: int = field(init=False)
    version: int = field(init=False)
    like: Tensor = field(init=False)
    place: Place | None = field(init=False)

    def __post_init__(self) -> None:
        x = self.numbers
        self.storage, self.size = storage_key(x), x.untyped_storage().nbytes()
        self.version = x._version
        self.like = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
        dense = x.numel() > 0 and torch.empty_like(self.like).stride() == x.stride()
        self.place = (
            (x.storage_offset(), x.numel()) if dense and x.layout == torch.strided else None
        )

    @property
    def numbers(self) -> Tensor:
        """The tensor, where it is as it was."""
        assert self.tensor is not None
        return self.tensor

    def parts(self) -> list[Any]:
        """What of it is held, each a thing of its own."""
        held: list[Any] = [self.packed, self.bits]
        if self.tensor is not None:
            held.append(self.tensor.untyped_storage())
        return [part for part in held if part is not None]

    def settle_otherwise(self) -> None:
        """Packs integers and masks."""
        x = self.tensor
        if x is None or self.place is None or x.numel() < SMALL:
            return
        numbers = flat(x, self.place)
        if x.dtype == torch.bool:
            self.bits, self.count = pack_bits(numbers.int(), 1), 1
        elif x.dtype in (torch.int64, torch.int32) and int(numbers.min()) >= 0:
            self.count = max(1, int(numbers.max()).bit_length())
            if self.count < 32:
                self.bits = pack_bits(numbers.int(), self.count)
        if self.bits is not None:
            self.tensor = None

    def unpack(self) -> Tensor:
        """What the backward pass gets."""
        if self.tensor is not None:
            return self.tensor
        if self.packed is not None:
            flat = self.packed.unpack()
        else:
            assert self.bits is not None
            flat = unpack_bits(self.bits, self.count, self.like.numel()).to(self.like.dtype)
        return flat.as_strided(self.like.shape, self.like.stride())


def flat(x: Tensor, place: Place) -> Tensor:
    """Numbers in the order of the memory."""
    offset, count = place
    return x.detach().as_strided((count,), (1,), offset)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether numbers have the same bits, in the order of the memory."""
    if one.dtype != other.dtype or one.numel() != other.numel():
        return False
    one, other = (x.as_strided((x.numel(),), (1,)) if x.dim() != 1 else x for x in (one, other))
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))
