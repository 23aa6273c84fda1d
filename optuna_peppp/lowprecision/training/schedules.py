"""How the step size changes during a training, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from optuna_peppp.configurations.names import Schedule

_RISE: Final = 0.3
_FIRST: Final = 1 / 25
_LAST: Final = _FIRST / 1e4
"""Of ``onecycle``, those of ``torch.optim.lr_scheduler.OneCycleLR``."""


def _constant(step: int, steps: int) -> float:
    return 1.0


def _cosine(step: int, steps: int) -> float:
    """Falls to zero along half a cosine (Loshchilov and Hutter, 2017, Eq. 5, no restart)."""
    return _between(1.0, 0.0, step / steps)


def _onecycle(step: int, steps: int) -> float:
    """Rises from a 25th in three tenths of the steps, then falls to nearly nothing (Smith, 2018).

    The momentum stays: the compiled step holds it as a number.
    """
    peak, end = max(0.0, _RISE * steps - 1), steps - 1
    if step <= peak and peak > 0:
        return _between(_FIRST, 1.0, step / peak)
    return _between(1.0, _LAST, (step - peak) / max(1, end - peak))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


FACTORS: Final[dict[Schedule, Callable[[int, int], float]]] = {
    "constant": _constant,
    "cosine": _cosine,
    "onecycle": _onecycle,
}
"""By what each schedule multiplies the step size, at a step, from 0 on, of so many."""
