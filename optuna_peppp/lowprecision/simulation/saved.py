"""A tensor that a forward pass saved, and the sites by which it is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import RULED, Role
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
        kept: bool = False,
    ) -> None:
        self._formats = [f for f in formats if isinstance(f, FloatFormat | MachineFloat)]
        # What a ReLU saved of its result, and that as it was rounded, until the former is settled.
        self.of_relu: tuple[Saved, Tensor] | None = None
        self.kept = kept
        self.packed: dict[Place, Packed] = {}
        self.version = x._version
        self._gone = storage_watch(x)

    def of(self, x: Tensor) -> Site:
        """The same numbers in another storage."""
        other = Site(x, self._formats, kept=self.kept)
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
        if self.of_relu is not None and saved is self.of_relu[0]:
            self._settle_signs(saved, numbers, self.of_relu[1])

    def _settle_signs(self, saved: Saved, numbers: Tensor, rounded: Tensor) -> None:
        """Packs where a ReLU let pass."""
        passed = _passed(numbers)
        saved.bits, saved.count, saved.tensor = pack_bits(passed.int(), 1), 1, None
        if rounded.stride() == saved.like.stride():
            # Rounded, some became zero, or NaN for another's sake with which they share a scale.
            passed.logical_xor_(_passed(flat(rounded, (0, len(numbers)))))
            changed = passed.nonzero()[:, 0].int()
            if changed.nbytes < saved.bits.nbytes:
                saved.signs = self.packed, changed


@dataclass(eq=False)
class Saved:
    """A saved tensor: as it is, packed, or as integers of few bits."""

    tensor: Tensor | None
    packed: Packed | None = None
    signs: tuple[dict[Place, Packed], Tensor] | None = None
    bits: Tensor | None = None
    count: int = 0
    factor: Tensor | None = None
    changed: Tensor | None = None
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
        self.place = (int(x.storage_offset()), x.numel()) if _is_dense(x) else None

    @property
    def numbers(self) -> Tensor:
        """The tensor, where it is as it was."""
        assert self.tensor is not None
        return self.tensor

    @property
    def is_stale(self) -> bool:
        """Whether the tensor was changed in place since: no backward pass may read it."""
        return self.numbers._version != self.version

    def parts(self) -> list[Any]:
        """What of it is held, each a thing of its own."""
        held: list[Any] = [self.packed, self.bits, self.changed]
        if self.tensor is not None:
            held.append(self.tensor.untyped_storage())
        return [part for part in held if part is not None]

    def settle_otherwise(self) -> None:
        """Packs integers, masks, and masks with a factor, as dropout has them."""
        x = self.tensor
        if x is None:
            return
        if self.place is None or x.numel() < SMALL:
            if x.nbytes < self.size:  # the rest of the storage is not needed
                self.tensor = x.detach().clone()
                self.version = self.tensor._version
            return
        numbers = flat(x, self.place)
        if x.dtype == torch.bool:
            self.bits, self.count = pack_bits(numbers.int(), 1), 1
        elif x.dtype in (torch.int64, torch.int32) and int(numbers.min()) >= 0:
            self.count = max(1, int(numbers.max()).bit_length())
            if self.count < 32:
                self.bits = pack_bits(numbers.int(), self.count)
        elif x.is_floating_point():
            factor, zero = numbers.amax(), numbers.new_zeros(())
            if same(torch.where(numbers > 0, factor, zero), numbers):
                self.bits, self.count, self.factor = pack_bits((numbers > 0).int(), 1), 1, factor
        if self.bits is not None:
            self.tensor = None

    def share(self) -> None:
        """Has signs read from the rounded numbers, where another operation saved those."""
        if self.signs is not None and self.place is not None:
            packed, changed = self.signs
            found = packed.get((0, self.place[1]))
            if found is not None:
                self.packed, self.changed, self.bits = found, changed, None
            self.signs = None

    def unpack(self) -> Tensor:
        """What the backward pass gets.

        Raises:
            RuntimeError: It is as it was, but not any more what it was.
        """
        if self.tensor is not None:
            if self.is_stale:
                raise RuntimeError(
                    f"a tensor of shape {(*self.like.shape,)} that the forward pass saved was "
                    "changed in place afterwards; change a copy of it, or after the backward pass"
                )
            return self.tensor
        if self.packed is not None:
            numbers = self.packed.unpack()
            if self.changed is not None:
                passed = _passed(flat(numbers, (0, self.like.numel())))
                places = self.changed.long()
                passed[places] = ~passed[places]
                numbers = passed.to(self.like.dtype)
        else:
            assert self.bits is not None
            numbers = unpack_bits(self.bits, self.count, self.like.numel()).to(self.like.dtype)
            numbers = numbers if self.factor is None else numbers.mul_(self.factor)
        return numbers.as_strided(self.like.shape, self.like.stride())


def _is_dense(x: Tensor) -> bool:
    """Whether the numbers fill a piece of memory."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return expected > 0


def flat(x: Tensor, place: Place) -> Tensor:
    """Numbers in the order of the memory."""
    offset, count = place
    return x.detach().as_strided((count,), (1,), offset)


def _passed(x: Tensor) -> Tensor:
    """Where a ReLU lets pass: NaN too."""
    return ~(x <= 0)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether numbers have the same bits, in the order of the memory."""
    if one.dtype != other.dtype or one.numel() != other.numel():
        return False
    one, other = (x.as_strided((x.numel(),), (1,)) if x.dim() != 1 else x for x in (one, other))
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def unpacked(saved: Saved | Tensor) -> Tensor:
    """What the backward pass gets."""
    return saved.unpack() if isinstance(saved, Saved) else saved


def nbytes_of(part: Any) -> int:
    """Bytes of one of :meth:`Saved.parts`."""
    return int(part.nbytes() if isinstance(part, torch.UntypedStorage) else part.nbytes)


def formats_of(recipe: Recipe, role: Role, exemption: int | None) -> list[Format]:
    """The formats of a role, of which a recipe's rule chooses one."""
    fmt = recipe.exempt(exemption).get(role)
    formats = [] if fmt is None else [fmt]
    if recipe.rule is not None and exemption is None and role in RULED:
        formats.append(recipe.rule.high)
    return formats
