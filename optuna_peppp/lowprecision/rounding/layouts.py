"""Where the numbers of a block lie in a tensor: views in which a dimension holds a block.

An axis is split where it is, so that nothing is copied but what has to be filled up: the last block
of an axis is filled with copies of its last number, which no scale depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from optuna_peppp.configurations.blocks import Block


class Layout(Protocol):
    """How a tensor is cut into blocks."""

    def split(self, x: Tensor, axis: int) -> tuple[Tensor, int]:
        """The numbers with blocks in a dimension of their own, and that dimension."""

    def join(self, blocks: Tensor, x: Tensor, axis: int) -> Tensor:
        """What was made of the blocks, as the tensor they were cut from."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The tensor is one block."""

    def split(self, x: Tensor, axis: int) -> tuple[Tensor, int]:
        """Flat."""
        return x.reshape(-1), 0

    def join(self, blocks: Tensor, x: Tensor, axis: int) -> Tensor:
        """In its shape."""
        return blocks.view(x.shape)


@dataclass(frozen=True, slots=True)
class Runs:
    """So many numbers beside one another along an axis."""

    columns: int

    def split(self, x: Tensor, axis: int) -> tuple[Tensor, int]:
        """The axis becomes two."""
        return _divided(_filled(x, axis, self.columns), axis, (-1, self.columns)), axis + 1

    def join(self, blocks: Tensor, x: Tensor, axis: int) -> Tensor:
        """The two become one."""
        return blocks.flatten(axis, axis + 1).narrow(axis, 0, x.shape[axis])


@dataclass(frozen=True, slots=True)
class Tiles:
    """Rows and columns of a matrix: its columns are an axis, its rows all others together."""

    rows: int
    columns: int

    def split(self, x: Tensor, axis: int) -> tuple[Tensor, int]:
        """Tile by tile, in rows of tiles."""
        matrix = x.movedim(axis, -1).flatten(0, -2) if x.dim() > 1 else x[None]
        matrix = _filled(_filled(matrix, 0, self.rows), 1, self.columns)
        tiles = _divided(_divided(matrix, 1, (-1, self.columns)), 0, (-1, self.rows))
        return tiles.transpose(1, 2).flatten(2, 3), 2

    def join(self, blocks: Tensor, x: Tensor, axis: int) -> Tensor:
        """The tiles side by side again."""
        tiles = _divided(blocks, 2, (self.rows, self.columns)).transpose(1, 2)
        matrix = tiles.flatten(2, 3).flatten(0, 1)
        columns = x.shape[axis]
        matrix = matrix[: x.numel() // columns, :columns]
        return _divided(matrix, 0, x.movedim(axis, -1).shape[:-1]).movedim(-1, axis)


def layout_of(block: Block | None) -> Layout:
    """The layout of a format's blocks; None for the whole tensor."""
    if block is None:
        return Whole()
    return Runs(block.columns) if block.rows == 1 else Tiles(block.rows, block.columns)


def _divided(x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """A view with an axis divided into several."""
    return x.view(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


def _filled(x: Tensor, axis: int, multiple: int) -> Tensor:
    """The tensor with copies of its last numbers, until the axis is a multiple long."""
    missing = -x.shape[axis] % multiple
    if missing == 0:
        return x
    last = x.narrow(axis, x.shape[axis] - 1, 1)
    shape = list(x.shape)
    shape[axis] = missing
    return torch.cat([x, last.expand(shape)], axis)
