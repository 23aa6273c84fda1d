"""Formats of machines beside ml_dtypes, gfloat and PyTorch's own casts."""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import formats
from numpy.typing import NDArray
from torch import Tensor

from optuna_peppp.configurations.formats import (
    MACHINE_FLOATS,
    MachineFloat,
    MachineFloatName,
    Overflow,
)
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.quantize import Backend
from tests.lowprecision.rounding.conftest import any_patterns, around, assert_equal

ML_DTYPES: Final[dict[MachineFloatName, Any]] = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8-e4m3": ml_dtypes.float8_e4m3fn,
    "float8-e5m2": ml_dtypes.float8_e5m2,
    "float6-e3m2": ml_dtypes.float6_e3m2fn,
    "float6-e2m3": ml_dtypes.float6_e2m3fn,
    "float4-e2m1": ml_dtypes.float4_e2m1fn,
}
GFLOAT: Final[dict[MachineFloatName, Any]] = {
    "bfloat16": formats.format_info_bfloat16,
    "float16": formats.format_info_binary16,
    "float8-e4m3": formats.format_info_ocp_e4m3,
    "float8-e5m2": formats.format_info_ocp_e5m2,
    "float6-e3m2": formats.format_info_ocp_e3m2,
    "float6-e2m3": formats.format_info_ocp_e2m3,
    "float4-e2m1": formats.format_info_ocp_e2m1,
}
SPECIAL: Final = tuple(name for name in ML_DTYPES if MachineFloat(name).special is not None)


@functools.cache
def numbers(name: MachineFloatName) -> NDArray[np.float64]:
    """Every finite number of a format, ascending, by the meaning of its codes."""
    fmt = MachineFloat(name)
    steps = 2**fmt.mantissa
    binades = np.arange(2**fmt.exponent - 1)
    normal = fmt.min_normal * 2.0 ** binades[:, None] * (1 + np.arange(steps) / steps)
    positive = np.concatenate([np.arange(steps) * fmt.min_subnormal, normal.ravel()])
    positive = positive[positive <= fmt.max]
    return np.concatenate([-positive[:0:-1], positive])


@functools.cache
def given(name: MachineFloatName) -> Tensor:
    """All that is rounded: random patterns, every number and its neighbourhood, overflow."""
    largest = MachineFloat(name).max
    beyond = [factor * largest for factor in (1.01, 1.04, 1.07, 1.1, 1.3, 2.0, 5.0)]
    outside = np.array([b for b in beyond if b < 3.4e38] or [3.4e38])
    if len(numbers(name)) > 2**17:  # float16 has fewer; others are too many to list
        return any_patterns()
    return torch.cat([any_patterns(), around(numbers(name)), around(outside), around(-outside)])


def test_every_code_is_known() -> None:
    for name, dtype in ML_DTYPES.items():
        fmt = MachineFloat(name)
        codes = np.arange(2**fmt.bits, dtype=np.uint16 if fmt.bits > 8 else np.uint8)
        with np.errstate(invalid="ignore"):  # NaN
            decoded = codes.view(dtype).astype(np.float64)
        finite = np.unique(decoded[np.isfinite(decoded)])
        np.testing.assert_array_equal(finite, numbers(name))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_nearest_is_ml_dtypes(backend: Backend, name: MachineFloatName) -> None:
    x = given(name)
    if MachineFloat(name).special is None:
        x = x[~x.isnan()]  # which becomes -0.0 there
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = x.numpy().astype(ML_DTYPES[name]).astype(np.float32)
    assert_equal(quantize(x, MachineFloat(name), backend=backend), theirs)


@pytest.mark.parametrize("overflow", ["special", "saturate"])
@pytest.mark.parametrize("name", GFLOAT)
def test_nearest_is_gfloats(backend: Backend, name: MachineFloatName, overflow: Overflow) -> None:
    fmt = MachineFloat(name, overflow)
    saturates = overflow == "saturate" or fmt.special is None
    x = given(name)
    x = x[~x.isnan()] if fmt.special is None else x
    with np.errstate(all="ignore"):
        theirs = gfloat.round_ndarray(GFLOAT[name], x.double().numpy(), sat=saturates)
    assert_equal(quantize(x, fmt, backend=backend), theirs.astype(np.float32))


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8-e5m2"])
def test_nearest_is_pytorchs_cast(backend: Backend, name: MachineFloatName) -> None:
    dtype = getattr(torch, name.replace("-", "_"))
    x = given(name)
    assert_equal(quantize(x, MachineFloat(name), backend=backend), x.to(dtype).float())


def test_saturating_e4m3_is_pytorchs_cast(backend: Backend) -> None:
    # PyTorch's cast saturates since 2.12; ml_dtypes' makes NaN of what is too large.
    x = given("float8-e4m3")
    fmt = MachineFloat("float8-e4m3", "saturate")
    assert_equal(quantize(x, fmt, backend=backend), x.to(torch.float8_e4m3fn).float())


def test_float24_is_the_upper_bits_of_float32(backend: Backend) -> None:
    x = any_patterns()
    bits = x.numpy().view(np.uint32).astype(np.uint64)
    # Ties to even of 8 bits that are dropped; the carry of the largest number makes infinity.
    rounded = ((bits + 127 + ((bits >> 8) & 1)) >> 8 << 8).astype(np.uint32).view(np.float32)
    theirs = np.where(np.isnan(x.numpy()), np.float32(np.nan), rounded)
    assert_equal(quantize(x, "float24", backend=backend), theirs)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_float32_stays_as_it_is(backend: Backend, rounding: Any) -> None:
    x = any_patterns()
    assert_equal(quantize(x, "float32", rounding, backend=backend), x)


@pytest.mark.parametrize("name", MACHINE_FLOATS)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_special_numbers(backend: Backend, name: MachineFloatName, rounding: Any) -> None:
    x = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf])
    for overflow in ("special", "saturate"):
        fmt = MachineFloat(name, overflow)
        over = fmt.max if fmt.overflow == "saturate" or fmt.special is None else fmt.special
        expected = torch.tensor([0.0, -0.0, math.nan, over, -over])
        assert_equal(quantize(x, fmt, rounding, backend=backend), expected)


def test_ties_by_hand(backend: Backend) -> None:
    x = torch.tensor([2.5, 3.5, 5.0, 7.0, 0.25, 0.75, 464.0, 465.0, -0.1])
    four = quantize(x, "float4-e2m1", backend=backend)
    assert four.tolist() == [2, 4, 4, 6, 0, 1, 6, 6, 0]
    assert math.copysign(1, four[-1].item()) == -1
    eight = quantize(x[-3:-1], "float8-e4m3", backend=backend).tolist()
    assert eight[0] == 448
    assert math.isnan(eight[1])


@pytest.mark.parametrize("name", ["float24", *ML_DTYPES])
def test_stochastic_is_unbiased_between_the_neighbours(
    backend: Backend, name: MachineFloatName
) -> None:
    fmt, count = MachineFloat(name), 20_000
    generator = torch.Generator().manual_seed(1)
    step = 2.0**-fmt.mantissa
    for below, unit in ((0.0, fmt.min_subnormal), (1.0, step), (fmt.max - 2 * step, None)):
        if unit is None or below + unit > fmt.max:
            continue
        for share in (0.25, 0.5, 0.875):
            x = torch.full((count,), -(below + share * unit))
            rounded = quantize(x, fmt, "stochastic", generator, backend=backend)
            up = rounded == -(below + unit)
            assert bool((up | (rounded == -below)).all())
            error = math.sqrt(share * (1 - share) / count)
            assert abs(float(up.double().mean()) - share) < 5 * error


@pytest.mark.parametrize("name", SPECIAL)
def test_stochastic_overflow_is_as_of_nearest(backend: Backend, name: MachineFloatName) -> None:
    fmt = MachineFloat(name)
    steps = 2**fmt.mantissa
    ulp = fmt.max / (2 * steps - 1 if fmt.special == math.inf else 2 * steps - 2)
    x = torch.full((1000,), min(fmt.max + 0.5 * ulp, 3.4e38))
    rounded = quantize(x, fmt, "stochastic", torch.Generator().manual_seed(0), backend=backend)
    over = ~(rounded == fmt.max)
    assert 300 < int(over.sum()) < 700
    assert fmt.special is not None
    assert_equal(rounded[over], torch.full_like(rounded[over], fmt.special))
    saturated = quantize(x, MachineFloat(name, "saturate"), "stochastic", backend=backend)
    assert bool((saturated == fmt.max).all())
