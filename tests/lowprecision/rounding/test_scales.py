"""Blocks beside torchao and gfloat, and beside NumPy where no library has them."""

from __future__ import annotations

import importlib
import math
import warnings
from types import SimpleNamespace
from typing import Any, Final

import gfloat
import numpy as np
import pytest
import torch
from gfloat import formats
from numpy.typing import NDArray
from torch import Tensor

from optuna_peppp.configurations.blocks import Microscaled
from optuna_peppp.configurations.formats import MachineFloat, MachineFloatName
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.quantize import BACKENDS, ROUNDINGS, Backend, Rounding
from tests.lowprecision.rounding.conftest import any_patterns, assert_equal

MX: Final[dict[str, MachineFloatName]] = {
    "mxfp8-e4m3": "float8-e4m3",
    "mxfp8-e5m2": "float8-e5m2",
    "mxfp6-e3m2": "float6-e3m2",
    "mxfp6-e2m3": "float6-e2m3",
    "mxfp4": "float4-e2m1",
}
SPREAD: Final = 2.0 ** torch.arange(-140, 120).float()
"""Sizes of blocks."""


@pytest.fixture(scope="module")
def torchao() -> SimpleNamespace:
    """What torchao computes, an oracle that needs no CUDA."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mx = importlib.import_module("torchao.prototype.mx_formats.mx_tensor")
            nv = importlib.import_module("torchao.prototype.mx_formats.nvfp4_tensor")
            fp8 = importlib.import_module("torchao.optim.subclass_fp8")
        except ImportError as error:
            pytest.skip(f"torchao cannot be imported here: {error}")
    return SimpleNamespace(mx=mx, nv=nv, fp8=fp8)


def rows(columns: int, count: int = 2000) -> Tensor:
    """Blocks of normal numbers of all sizes, some with zeros, numbers of a format, or extremes."""
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(count, columns, generator=generator)
    x *= SPREAD[torch.randint(len(SPREAD), (count, 1), generator=generator)]
    x[::10] = torch.randn(len(x[::10]), columns, generator=generator)
    x[1::10] = (x[1::10] * 0 + torch.randint(-33, 33, x[1::10].shape, generator=generator)) / 4
    x[2::40] = 0
    x[3::40, 1:] = 0
    x[4::40, ::2] = -0.0
    x[5] = 3.4e38
    x[6] = 1e-44
    return x


def patterns(columns: int) -> Tensor:
    """Blocks of random bit patterns, which hold infinities and NaN among the rest."""
    x = any_patterns()
    return x[: len(x) // columns * columns].view(-1, columns)


def as_to_mx(ao: SimpleNamespace, x: Tensor, name: MachineFloatName, rule: str) -> Tensor:
    """What torchao makes of MX blocks."""
    kinds: dict[str, Any] = {
        "float6-e3m2": "fp6_e3m2",
        "float6-e2m3": "fp6_e2m3",
        "float8-e4m3": torch.float8_e4m3fn,
        "float8-e5m2": torch.float8_e5m2,
        "float4-e2m1": torch.float4_e2m1fn_x2,
    }
    mode = ao.mx.ScaleCalculationMode(rule)
    scale, data = ao.mx.to_mx(x.contiguous(), kinds[name], 32, mode)
    result: Tensor = ao.mx.to_dtype(data, scale, kinds[name], 32, torch.float32)
    return result


BLOCKS = (
    *("float8-e4m3@tensor", "float8-e4m3@128", "int8@32x32", "int4@32", "int2@32", "nvfp4"),
    *("mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp4", "mxfp4/rceil", "int8@256/minmax"),
    *("int2@256/minmax", "dynamic8@256", "dynamic4@128"),
)
"""A format of every kind of scale."""


@pytest.mark.parametrize("rule", ["floor", "rceil"])
@pytest.mark.parametrize("name", MX.values())
def test_mx_is_torchaos(
    torchao: SimpleNamespace, backend: Backend, name: MachineFloatName, rule: Any
) -> None:
    fmt = Microscaled(MachineFloat(name), rule)
    for x in (rows(32), patterns(32)):
        amax = x.abs().amax(1)
        # Differences on purpose, see below.
        if rule == "floor":
            x = x[~(amax < fmt.element.max * 2.0**-125)]
        else:
            power = (amax / fmt.element.max).view(torch.int32)
            just_above = ((power & 0x7FFFFF) < 256) & ((power & 0x7FFFFF) > 0)
            x = x[~(power <= 0x400000) & ~just_above]
        assert len(x) > 1000
        assert_equal(quantize(x, fmt, backend=backend), as_to_mx(torchao, x, name, rule))


def test_small_blocks_are_not_halved_as_torchaos(torchao: SimpleNamespace) -> None:
    x = torch.full((1, 32), 1.5 * 2.0**-124)
    assert torch.equal(quantize(x, "mxfp8-e4m3"), x)
    assert torch.equal(as_to_mx(torchao, x, "float8-e4m3", "floor"), x / 2)


def test_rounding_a_scale_up_is_exact(torchao: SimpleNamespace) -> None:
    x = torch.zeros(1, 32)
    # A sixth of it lies just above 2^100, so that the scale is 2^101, and a quarter is a tie.
    x[0, 0] = torch.nextafter(torch.tensor(6 * 2.0**100), torch.tensor(math.inf))
    x[0, 1] = 2.0**99
    assert quantize(x, "mxfp4/rceil")[0, :2].tolist() == [6 * 2.0**100, 0]
    theirs = as_to_mx(torchao, x, "float4-e2m1", "rceil")
    assert theirs[0, :2].tolist() == [6 * 2.0**100, 2.0**99]
    x = torch.full((1, 32), 448 * 2.0**-127)
    assert torch.equal(quantize(x, "mxfp8-e4m3/rceil"), x)
    assert bool((as_to_mx(torchao, x, "float8-e4m3", "rceil") == 0).all())


@pytest.mark.parametrize("name", MX)
def test_mx_is_gfloats(backend: Backend, name: str) -> None:
    infos: dict[str, Any] = {
        "mxfp8-e4m3": formats.format_info_mxfp8_e4m3,
        "mxfp8-e5m2": formats.format_info_mxfp8_e5m2,
        "mxfp6-e3m2": formats.format_info_mxfp6_e3m2,
        "mxfp6-e2m3": formats.format_info_mxfp6_e2m3,
        "mxfp4": formats.format_info_mxfp4_e2m1,
    }
    x = rows(32, 100)
    x[5] = 1e38  # beyond what float64 tells from float32's infinity
    with np.errstate(all="ignore"):
        theirs = np.array(
            [
                gfloat.quantize_block(infos[name], row, gfloat.compute_scale_amax)
                for row in x.double().numpy()
            ]
        )
    assert_equal(quantize(x, name, backend=backend), theirs.astype(np.float32))


def test_mx_by_hand(backend: Backend) -> None:
    x = torch.zeros(2, 32)
    x[:, :4] = torch.tensor([7.0, 1.3, -0.24, 0.26])
    # floor: 2^(2 - 2) and 7 saturates at 6; rceil: 2^1, as 7 / 6 > 1.
    floor, rceil = (quantize(x, name, backend=backend)[0, :4] for name in ("mxfp4", "mxfp4/rceil"))
    assert floor.tolist() == [6.0, 1.5, 0.0, 0.5]
    assert rceil.tolist() == [8.0, 1.0, 0.0, 0.0]


def test_infinity_and_nan_in_mx(backend: Backend) -> None:
    x = torch.ones(4, 32)
    x[0, 3], x[1, 3], x[2, 3] = math.inf, -math.inf, math.nan
    rounded = quantize(x, "mxfp8-e4m3", backend=backend)
    assert (rounded[0, 3].item(), rounded[1, 3].item()) == (math.inf, -math.inf)
    assert bool((rounded[:2, :3] == 0).all())
    assert bool(rounded[2].isnan().all())
    assert bool((rounded[3] == 1).all())


def as_nvfp4(ao: SimpleNamespace, x: Tensor) -> Tensor:
    """What torchao makes of NVFP4 blocks with the scale of the tensor."""
    whole = ao.nv.per_tensor_amax_to_scale(x.abs().amax())
    scales, data = ao.nv.nvfp4_quantize(x.contiguous(), 16, whole)
    numbers: Tensor = ao.mx.f4_unpacked_to_f32(ao.mx.unpack_uint4(data))
    result: Tensor = numbers.view(-1, 16) * (whole * scales.float()).view(-1, 1)
    return result.view(x.shape)


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e20])
def test_nvfp4_is_torchaos(torchao: SimpleNamespace, backend: Backend, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=generator) * torch.randn(64, 512, generator=generator).exp()
    x[5], x[6, :16] = 0, -0.0
    x[7] *= 1e-6
    assert_equal(quantize(x * size, "nvfp4", backend=backend), as_nvfp4(torchao, x * size))


def test_nvfp4_of_any_numbers_is_torchaos(torchao: SimpleNamespace, backend: Backend) -> None:
    everything = torch.where(patterns(16).isfinite(), patterns(16), 0.0)
    assert_equal(quantize(everything, "nvfp4", backend=backend), as_nvfp4(torchao, everything))


def test_zeros_stay_zeros_in_nvfp4(torchao: SimpleNamespace, backend: Backend) -> None:
    zeros = torch.zeros(4, 32)
    assert_equal(quantize(zeros, "nvfp4", backend=backend), zeros)
    assert bool(as_nvfp4(torchao, zeros).isnan().all())


def test_infinity_and_nan_in_nvfp4(torchao: SimpleNamespace, backend: Backend) -> None:
    for special in (math.inf, math.nan):
        x = torch.ones(4, 32)
        x[1, 20] = special
        rounded = quantize(x, "nvfp4", backend=backend)
        assert bool(rounded.isnan().all())
        assert bool(as_nvfp4(torchao, x).isnan().all())


@pytest.mark.parametrize("columns", [128, 256])
def test_float8_with_scales_is_torchaos(
    torchao: SimpleNamespace, backend: Backend, columns: int
) -> None:
    for x in (rows(columns, 500), patterns(columns)):
        codes, scale = torchao.fp8.quantize_fp8(x, columns)
        theirs = codes.float() * scale[:, None]
        assert_equal(quantize(x, f"float8-e4m3@{columns}", backend=backend), theirs)


def test_a_tensor_with_a_scale_is_one_block(torchao: SimpleNamespace, backend: Backend) -> None:
    x = rows(100, 20)
    codes, scale = torchao.fp8.quantize_fp8(x, x.numel())
    theirs = codes.float() * scale
    assert_equal(quantize(x, "float8-e4m3@tensor", backend=backend), theirs)


def integers(x: NDArray[np.float32], largest: int, short: bool) -> NDArray[np.float32]:
    """Rows of integers, each with a scale, by NumPy."""
    amax = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-12))
    scale = amax / np.float32(largest)
    if short:
        bits = scale.view(np.uint32)
        scale = ((bits + 0xFFFF) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    codes = np.clip(np.rint(x / scale), -largest, largest) + np.float32(0)
    result: NDArray[np.float32] = codes * scale
    return result


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_integers_in_groups(backend: Backend, bits: int) -> None:
    x = rows(32)
    x = x[x.abs().amax(1) < 3e38]
    theirs = integers(x.numpy(), 2 ** (bits - 1) - 1, short=True)
    assert_equal(quantize(x, f"int{bits}@32", backend=backend), theirs)


def test_integers_in_tiles(backend: Backend) -> None:
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    theirs = torch.empty_like(x)
    for top in (0, 32):
        for left in (0, 32, 64):
            tile = x[top : top + 32, left : left + 32]
            whole = integers(tile.reshape(1, -1).numpy(), 127, short=False)
            theirs[top : top + 32, left : left + 32] = torch.from_numpy(whole).view(32, 32)
    assert_equal(quantize(x, "int8@32x32", backend=backend), theirs)


def test_integers_by_hand(backend: Backend) -> None:
    x = torch.tensor([[7.0, 3.5, -0.5, 0.4, -7.0]])
    # The scale is 1, and ties go to even.
    assert quantize(x, "int4@32", backend=backend).tolist() == [[7, 4, 0, 0, -7]]
    assert quantize(x, "int3@tensor", backend=backend)[0, 0] == 7
    # The largest is not lost where its scale is rounded: 1 + 2^-8 becomes 1 + 2^-7 in bfloat16.
    assert quantize(torch.tensor([1 + 2.0**-8]), "int2@32", backend=backend).item() == 1 + 2.0**-7


def test_infinity_makes_nan_of_its_block(backend: Backend) -> None:
    for name in ("int4@32", "float8-e4m3@32", "int4@32/minmax"):
        for special in (math.inf, -math.inf, math.nan):
            x = torch.ones(3, 64)
            x[1, 40] = special
            rounded = quantize(x, name, backend=backend)
            assert bool(rounded[1, 32:].isnan().all())
            assert not bool(rounded[1, :32].isnan().any() | rounded[::2].isnan().any())


def test_minmax_by_hand(backend: Backend) -> None:
    x = torch.tensor([[1.0, 2.0, 3.4, 4.0], [-3.0, -3.0, -3.0, -3.0]])
    rounded = quantize(x, "int2@4/minmax", backend=backend)
    assert rounded.tolist() == [[1, 2, 3, 4], [-3, -3, -3, -3]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_minmax_keeps_the_range(backend: Backend, bits: int) -> None:
    x = rows(256, 400)
    amax = x.abs().amax(1)
    x = x[(amax < 1e38) & ((amax > 1e-30) | (amax == 0))]  # a bfloat16 step is not subnormal
    rounded = quantize(x, f"int{bits}@256/minmax", backend=backend)
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    # Both ends and the step lose up to 2^-7 in bfloat16, and a number half a step.
    span = (high - low) * (1 + 2.0**-7) + low.abs() * 2.0**-7
    near = (rounded - x).abs() <= span / (2**bits - 1) * 0.501 + 1e-44
    assert bool(near.all())


@pytest.mark.parametrize(
    "name",
    ["mxfp8-e4m3", "mxfp4/rceil", "nvfp4", "int8@32", "int3@32", "int2@32", "int2@32/minmax"],
)
def test_stochastic_is_unbiased(backend: Backend, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(1, 32, generator=generator).clamp(-2, 2)
    block[0, 0] = 3.0  # a scale that is exact in every format: nothing saturates
    x = block.expand(40_000, 32).contiguous()
    rounded = quantize(x, name, "stochastic", generator, backend=backend).double()
    error = rounded.std(0) / 200 + 1e-7
    assert bool(((rounded.mean(0) - block[0].double()).abs() < 5 * error).all())
    assert len(torch.unique(rounded[:, 5])) <= 2


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", ["mxfp8-e4m3", "nvfp4", "int4@32", "int8@32x32", "int2@32/minmax"])
def test_eager_and_compiled_are_one(name: str, rounding: Rounding) -> None:
    for x in (patterns(32), rows(96)):
        one, other = (
            quantize(x, name, rounding, torch.Generator().manual_seed(0), backend=backend)
            for backend in BACKENDS[:2]
        )
        assert_equal(one, other)


@pytest.mark.parametrize("name", [*MX, "nvfp4", "int4@32", "float8-e4m3@128"])
def test_what_was_rounded_stays(backend: Backend, name: str) -> None:
    x = rows(128, 200)
    x = x[x.abs().amax(1) < 1e37]
    if name == "nvfp4":
        x = x[::10]  # of one size, as the scale is the tensor's
    rounded = quantize(x, name, backend=backend)
    again = quantize(rounded, name, backend=backend)
    if isinstance(parse_format(name), Microscaled):
        assert_equal(again, rounded)
    else:  # a scale in float32 may move by its last bits
        torch.testing.assert_close(again, rounded, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize("size", [1e-45, 1e-39, 1e-35, 1e-30, 1e30, 1e38])
@pytest.mark.parametrize("name", BLOCKS)
def test_numbers_of_every_size_stay_finite(name: str, size: float) -> None:
    x = torch.linspace(-1, 1, 512) * size
    for axis in (-1, None):
        rounded = quantize(x, name, axis=axis, backend="eager")
        assert rounded.isfinite().all()
        assert rounded.abs().max() <= 1.25 * size + 2.0**-127  # half a step of FP4
