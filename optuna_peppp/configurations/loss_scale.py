"""The factor on a loss that keeps small gradients above the smallest number of a format."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DynamicLossScale:
    """A factor on the loss that grows until gradients overflow: the rule of ``torch.amp``.

    A step whose gradients hold an infinity or NaN is skipped, and the factor shrinks.

    Attributes:
        start: The factor of the first step.
        growth: By what it grows.
        backoff: By what it shrinks.
        interval: After so many steps in turn without overflow it grows.

    Raises:
        ValueError: A number is out of range.
    """

    start: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.start < math.inf:
            raise ValueError(f"start must be positive and finite; got {self.start!r}")
        if not 1 < self.growth < math.inf:
            raise ValueError(f"growth must be above 1 and finite; got {self.growth!r}")
        if not 0 < self.backoff < 1:
            raise ValueError(f"backoff must lie between 0 and 1; got {self.backoff!r}")
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1; got {self.interval!r}")


LossScale = float | DynamicLossScale
"""A factor on the loss, taken off the weight gradients again: one for all steps, or dynamic."""


def check_loss_scale(loss_scale: LossScale) -> None:
    """Refuses what is no loss scale.

    Raises:
        ValueError: It is no positive number.
    """
    if not isinstance(loss_scale, DynamicLossScale) and not 0 < loss_scale < math.inf:
        raise ValueError(f"loss_scale must be positive and finite; got {loss_scale!r}")
