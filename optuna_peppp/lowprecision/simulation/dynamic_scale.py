"""A loss scale that grows until gradients overflow, without the program waiting for them.

The rule is that of ``torch.amp.GradScaler``: a step whose gradients hold an infinity or NaN is
skipped and the factor shrinks; after ``interval`` steps in turn without one it grows, unless that
were infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from optuna_peppp.configurations.loss_scale import DynamicLossScale


@dataclass(frozen=True, slots=True)
class DynamicScale:
    """A dynamic loss scale as it stands.

    Attributes:
        rule: How it moves.
        factor: float32 scalar, the factor on the loss of the next step.
        streak: int32 scalar, steps in turn without overflow since the factor last changed.
    """

    rule: DynamicLossScale
    factor: Tensor
    streak: Tensor

    @classmethod
    def of(cls, rule: DynamicLossScale, device: torch.device) -> Self:
        """The scale of a first step."""
        factor = torch.tensor(rule.start, dtype=torch.float32, device=device)
        return cls(rule, factor, torch.zeros((), dtype=torch.int32, device=device))

    def after(self, finite: Tensor) -> None:
        """Moves on after a step.

        Args:
            finite: Boolean scalar, whether its gradients were finite.
        """
        rule, streak = self.rule, self.streak + 1
        grown = self.factor * rule.growth
        due = finite & (streak == rule.interval)
        larger = torch.where(due & torch.isfinite(grown), grown, self.factor)
        self.factor.copy_(torch.where(finite, larger, self.factor * rule.backoff))
        self.streak.copy_(torch.where(finite & ~due, streak, 0))


def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether no tensor holds an infinity or NaN, a boolean scalar."""
    finite = [torch.isfinite(x).all() for x in tensors]
    return torch.stack(finite).all() if finite else torch.tensor(True)
