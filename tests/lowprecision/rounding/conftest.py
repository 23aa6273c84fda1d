"""What the tests of rounding share."""

from __future__ import annotations

import functools
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from optuna_peppp.lowprecision.rounding.compiling import can_compile
from optuna_peppp.lowprecision.rounding.quantize import Backend


@pytest.fixture(params=["eager", "compiled"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Both of our own backends."""
    name = cast(Backend, request.param)
    if name == "compiled" and not can_compile(quiet=True):
        pytest.skip("torch.compile does not work here: it needs a C++ compiler")
    return name


@functools.cache
def any_patterns() -> Tensor:
    """A million random bit patterns, and every special number."""
    raw = np.random.default_rng(0).integers(0, 2**32, 2**20, dtype=np.uint32).view(np.float32)
    special = np.array([np.inf, np.nan, 0, 3.4028235e38, 1.1754944e-38, 1e-45], dtype=np.float32)
    return torch.from_numpy(np.concatenate([raw, special, -special]))


def around(numbers: NDArray[np.float64]) -> Tensor:
    """Numbers of a format, the middles between them, and the neighbours of both in float32."""
    exact = np.concatenate([numbers, (numbers[1:] + numbers[:-1]) / 2]).astype(np.float32)
    sides = [np.nextafter(exact, np.float32(end)) for end in (-np.inf, np.inf)]
    return torch.from_numpy(np.concatenate([exact, *sides]))


def assert_equal(ours: Tensor, theirs: Tensor | NDArray[np.float32]) -> None:
    """The same bits; NaN has many, and any is as good."""
    one, other = ours.numpy(), np.asarray(theirs)
    differ = one.view(np.int32) != other.view(np.int32)
    differ &= ~(np.isnan(one) & np.isnan(other))
    where = np.flatnonzero(differ)[:5]
    assert len(where) == 0, (one.ravel()[where], other.ravel()[where])
