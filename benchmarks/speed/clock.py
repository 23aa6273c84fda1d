"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from benchmarks.harness.turns import synchronize

TURN: Final = 0.002
"""Seconds that a turn lasts, or one call if that is longer."""


def seconds(call: Callable[[], Tensor], device: torch.device) -> float:
    """Time of a call: the mean of a turn."""

    def mean(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        return (time.perf_counter() - begin) / calls

    return mean(max(1, round(TURN / mean(1))))
