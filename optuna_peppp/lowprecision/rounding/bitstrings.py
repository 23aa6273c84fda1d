"""Numbers of few bits, side by side: eight of b bits in b bytes.

A number of more than eight bits is its whole bytes, and what is left of it. The bytes of all
numbers come first, then the rests, eight at a time: in a 64-bit integer the first number has the
lowest bits, and its first bytes are the string.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_EIGHT: Final = 8
_TYPES: Final = {8: torch.uint8, 16: torch.int16, 32: torch.int32}
"""Types of as many bits."""


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of so many numbers.

    >>> packed_bytes(9, 3), packed_bytes(9, 11)
    (6, 15)
    """
    whole, rest = divmod(bits, _EIGHT)
    return count * whole + -(-count // _EIGHT) * rest


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """The string of numbers, uint8, shape (:func:`packed_bytes`,).

    Args:
        codes: int32, shape (n,): nonnegative but for the sign that 32 bits have.
        bits: Of each number, 1 to 32; no number has more.
    """
    if bits in _TYPES:
        return codes.to(_TYPES[bits]).view(torch.uint8)
    whole, rest = divmod(bits, _EIGHT)
    parts = []
    if whole:
        of_bytes = codes.contiguous().view(torch.uint8).view(-1, 4)[:, :whole]
        parts.append(_cut(of_bytes))
    if rest:
        parts.append(_pack_rest(codes >> (_EIGHT * whole) if whole else codes, rest))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def unpack_bits(string: Tensor, bits: int, count: int) -> Tensor:
    """The numbers of a string, int32, shape (count,)."""
    if bits in _TYPES:
        numbers = string.view(_TYPES[bits]).int()
        return numbers.bitwise_and_(0xFFFF) if bits == 16 else numbers
    whole, rest = divmod(bits, _EIGHT)
    codes = string.new_zeros(count, dtype=torch.int32)
    if whole:
        of_bytes = string[: count * whole].view(count, whole)
        codes.view(torch.uint8).view(-1, 4)[:, :whole] = of_bytes
    if rest:
        high = _unpack_rest(string[count * whole :], rest, count)
        codes = codes.bitwise_or_(high << (_EIGHT * whole)) if whole else high
    return codes


def _pack_rest(codes: Tensor, bits: int) -> Tensor:
    """Numbers of less than eight bits; what is above them is cut off."""
    missing = -len(codes) % _EIGHT
    if missing:
        codes = torch.cat([codes, codes.new_zeros(missing)])
    # Two halves of up to 28 bits, joined: 32-bit arithmetic takes half the time.
    shifts = torch.arange(4, dtype=torch.int32, device=codes.device) * bits
    quarters = (codes & ((1 << bits) - 1)).view(-1, 2, 4)
    halves = (quarters << shifts).sum(-1, dtype=torch.int32)
    words = halves[:, 0].long() | (halves[:, 1].long() << (4 * bits))
    return _cut(words.view(torch.uint8).view(-1, 8)[:, :bits])


def _unpack_rest(string: Tensor, bits: int, count: int) -> Tensor:
    eights = string.view(-1, bits)
    bytes_of = string.new_zeros(len(eights), 8)
    bytes_of[:, :bits] = eights
    words = bytes_of.view(torch.int64)
    halves = torch.cat([words & ((1 << (4 * bits)) - 1), words >> (4 * bits)], 1).int()
    shifts = torch.arange(4, dtype=torch.int32, device=string.device) * bits
    codes = halves[..., None] >> shifts
    return codes.bitwise_and_((1 << bits) - 1).reshape(-1)[:count]


def _cut(x: Tensor) -> Tensor:
    """The first columns of a matrix alone, without what lay behind them."""
    return x.clone(memory_format=torch.contiguous_format).view(-1)
