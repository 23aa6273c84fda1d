"""Whether those who round give the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Backend

METHODS: Final[tuple[Backend, ...]] = ("compiled", "eager", "qpytorch")
SEED: Final = 0


def check(fmt: FloatFormat, device: torch.device, methods: Sequence[Backend]) -> None:
    """Compares answers, also where numbers are tiny or huge.

    Raises:
        RuntimeError: Two of them differ.
    """
    generator = torch.Generator().manual_seed(SEED)
    patterns = torch.randint(-(2**31), 2**31, (2**20,), dtype=torch.int32, generator=generator)
    x = torch.cat([patterns.view(torch.float32), torch.randn(2**20, generator=generator)])
    x = x.to(device)
    for rounding in ROUNDINGS:
        compiled, eager = (
            quantize(x, fmt, rounding, torch.Generator(device).manual_seed(SEED), backend=backend)
            for backend in METHODS[:2]
        )
        require_equal(compiled, eager, f"compiled and eager {rounding} of {fmt}")
    if "qpytorch" in methods:
        # Elsewhere they differ on purpose.
        finite = x[x.isfinite() & (x != 0)]
        ours, theirs = (quantize(finite, fmt, backend=b) for b in ("eager", "qpytorch"))
        require_equal(ours, theirs, f"ours and QPyTorch's nearest of {fmt}")
        check_stochastic(fmt, device)


def check_stochastic(fmt: FloatFormat, device: torch.device) -> None:
    """Compares where, and how often, ours and QPyTorch's go from between two neighbours.

    Raises:
        RuntimeError: To other numbers, or with means more than six standard errors apart.
    """
    count, generator = 2**16, torch.Generator(device).manual_seed(SEED)
    # A subnormal number and a normal one.
    neighbours = (0.0, fmt.min_subnormal), (1.0, 2.0**-fmt.mantissa)
    for (below, step), share in product(neighbours, (0.1, 0.5, 0.8)):
        x = torch.full((count,), below + share * step, device=device)
        ours = quantize(x, fmt, "stochastic", generator, backend="compiled")
        theirs = quantize(x, fmt, "stochastic", backend="qpytorch")
        what = f"stochastic rounding of {float(x[0])} to {fmt}"
        if not set(ours.tolist()) == set(theirs.tolist()) == {below, below + step}:
            raise RuntimeError(f"{what} does not go to both neighbours, and only there")
        error = (2 * share * (1 - share) / count) ** 0.5
        if abs(float(ours.double().mean() - theirs.double().mean())) > 6 * error * step:
            raise RuntimeError(f"{what}: ours and QPyTorch's have different means")


def require_equal(one: Tensor, other: Tensor, what: str) -> None:
    """Compares bits.

    Raises:
        RuntimeError: They differ.
    """
    # Bit patterns tell -0.0 from 0.0; NaN has many, and any is as good.
    equal = (one.view(torch.int32) == other.view(torch.int32)) | (one.isnan() & other.isnan())
    if not bool(equal.all()):
        raise RuntimeError(f"{what} differ in {int((~equal).sum())} of {equal.numel()} numbers")
