"""Random numbers of one training, apart from those of the process.

Dropout draws from the process's default generators, which cannot be handed to a network that its
author wrote; others drop layers with Python's or NumPy's random numbers. So a training owns the
state of all of them, and the process's generators have it only while the training's own code runs.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from numpy.random import mtrand

_LENDING: Final = threading.RLock()
"""Held while the process's generators have the state of one training."""


class RandomStreams:
    """What networks draw from: torch's default generators, ``random`` and ``numpy.random``.

    Args:
        seed: Of all of them.
        device: Whose generator a network there draws from, beside that of the CPU.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generators = default_generators(torch.device(device))
        self._states = [
            torch.Generator(generator.device).manual_seed(seed).get_state()
            for generator in self._generators
        ]
        self._python = random.Random(seed).getstate()
        # The legacy functions of numpy.random draw from whatever is put here.
        self._numpy = mtrand.RandomState(seed % 2**32)._bit_generator

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Puts these streams in the place of the process's own within this block.

        Blocks of two threads take turns. The streams go on where they stopped; afterwards the
        process's generators are as they were before, also when the block raises.
        """
        with _LENDING:
            before = [generator.get_state() for generator in self._generators]
            python, bit_generator = random.getstate(), mtrand.get_bit_generator()
            self._set(self._states)
            random.setstate(self._python)
            mtrand.set_bit_generator(self._numpy)
            try:
                yield
            finally:
                self._states = [generator.get_state() for generator in self._generators]
                self._python = random.getstate()
                self._set(before)
                random.setstate(python)
                mtrand.set_bit_generator(bit_generator)

    def _set(self, states: list[torch.Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)


def default_generators(device: torch.device) -> list[torch.Generator]:
    """The generators that networks on a device draw from: the CPU's and its own."""
    of_kind = getattr(torch.get_device_module(device.type), "default_generators", ())
    index = device.index or 0
    return [torch.default_generator, *of_kind[index : index + 1]]
