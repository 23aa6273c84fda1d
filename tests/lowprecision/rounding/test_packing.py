from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from optuna_peppp import parse_format
from optuna_peppp.configurations.names import ROUNDINGS, Rounding
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.bitstrings import pack_bits, packed_bytes, unpack_bits
from optuna_peppp.lowprecision.rounding.codes import codes_of
from optuna_peppp.lowprecision.rounding.kernels import random_keys
from optuna_peppp.lowprecision.rounding.packing import pack

FLOATS = (
    *("1-2-1", "1-3-1", "1-4-3", "1-4-3b4", "1-4-3b-4", "1-4-6", "1-6-12", "1-7-7", "1-8-11"),
    *("1-4-23b100", "1-8-23", "float32", "float24", "bfloat16", "float16", "float8-e4m3"),
    *("float8-e4m3/saturate", "float8-e5m2", "float6-e3m2", "float6-e2m3", "float4-e2m1"),
)
BLOCKS = (
    *("float8-e4m3@tensor", "mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e2m3", "mxfp4", "mxfp4/rceil"),
    *("nvfp4", "float8-e4m3@128", "int8@32x32", "int8@32", "int4@32", "int3@32", "int2@32"),
    *("int8@256/minmax", "int2@256/minmax", "dynamic8@256", "dynamic4@128"),
    *("dynamic8@256/unsigned", "dynamic4@128/unsigned"),
)


def same(one: Tensor, other: Tensor) -> bool:
    """The same bits in the same places; NaN has many, and any is as good."""
    if one.shape != other.shape or one.stride() != other.stride() or one.dtype != other.dtype:
        return False
    bits = (x.contiguous().view(torch.int32) for x in (one, other))
    return bool((torch.eq(*bits) | (one.isnan() & other.isnan())).all())


@pytest.mark.parametrize("bits", range(1, 33))
def test_eight_numbers_of_b_bits_are_b_bytes(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    for count in (1, 8, 13, 64):
        codes = torch.randint(0, 1 << bits, (count,), generator=generator)
        codes = codes.to(torch.int32)  # of 32 bits, some are negative
        string = pack_bits(codes, bits)
        assert string.untyped_storage().nbytes() == len(string) == packed_bytes(count, bits)
        assert torch.equal(unpack_bits(string, bits, count), codes)
    assert packed_bytes(8, bits) == bits


def test_a_string_by_hand() -> None:
    codes = torch.tensor([1, 2, 3, 4, 5, 6, 7, 0], dtype=torch.int32)
    number = sum(int(code) << (3 * place) for place, code in enumerate(codes))
    assert pack_bits(codes, 3).tolist() == list(number.to_bytes(3, "little"))


@pytest.mark.parametrize("name", FLOATS)
def test_every_number_has_a_code_of_its_own(name: str) -> None:
    fmt = parse_format(name)
    codes = codes_of(fmt)  # type: ignore[arg-type]
    assert codes.bits == fmt.bits
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(-(2**31), 2**31, (20_000,), generator=generator).to(torch.int32)
    ends = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, fmt.min_subnormal])
    x = quantize(torch.cat([raw.view(torch.float32), ends]), fmt, backend="eager")
    if getattr(fmt, "special", None) is None:
        x = x[x.isfinite()]
    found = codes.encode(x)
    assert codes.bits == 32 or 0 <= int(found.min()) <= int(found.max()) < 1 << codes.bits
    assert same(codes.decode(found), x)
    if codes.bits <= 8:
        every = torch.arange(1 << codes.bits, dtype=torch.int32)
        finite = codes.decode(every).isfinite()
        assert torch.equal(codes.encode(codes.decode(every))[finite], every[finite])


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", [*FLOATS, *BLOCKS])
def test_unpacked_is_rounded(name: str, rounding: Rounding) -> None:
    fmt, generator = parse_format(name), torch.Generator().manual_seed(0)
    shapes = ((64, 100), (3, 5, 7, 9), (4, 33, 3, 3), (13,), ())
    for shape, axis in product(shapes, (-1, 1, None)):
        if axis == 1 and len(shape) < 2:
            continue
        x = torch.randn(shape, generator=generator)
        x = x * torch.randn(shape, generator=generator).mul(3).exp()
        if name.endswith("unsigned"):
            x = x.abs()
        if len(shape) == 4:
            x = x.transpose(1, 2) if shape[0] == 3 else x.to(memory_format=torch.channels_last)
        keys = None
        if rounding == "stochastic":
            keys = random_keys(x.device, torch.Generator().manual_seed(1))
        again = torch.Generator().manual_seed(1)
        rounded = quantize(x, fmt, rounding, again, axis, backend="eager")
        assert same(pack(x, fmt, keys, axis).unpack(), rounded), (shape, axis)


@pytest.mark.parametrize("name", [*FLOATS, *BLOCKS])
def test_a_tensor_takes_the_bits_of_its_format(name: str) -> None:
    fmt, x = parse_format(name), torch.randn(8, 256, 4, 4)
    of_tensor = 4 * (name == "nvfp4" or name.endswith("@tensor"))
    axis = None if "256" in name else 1
    assert pack(x, fmt, None, axis).nbytes == x.numel() * fmt.bits / 8 + of_tensor


@pytest.mark.parametrize("name", ["float8-e4m3@tensor", "mxfp8-e4m3", "nvfp4", "int4@32"])
def test_blocks_with_nan_or_infinity_come_back(name: str) -> None:
    for number in (math.nan, math.inf):
        x = torch.randn(4, 64)
        x[1, 5] = number
        assert same(pack(x, parse_format(name)).unpack(), quantize(x, name, backend="eager"))
    nothing = torch.empty(0, 32)
    assert pack(nothing, parse_format(name)).unpack().shape == nothing.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_come_back(dtype: torch.dtype) -> None:
    x = torch.randn(8, 64).to(dtype)
    rounded = quantize(x, "1-4-3", backend="eager")
    unpacked = pack(x, parse_format("1-4-3")).unpack()
    assert unpacked.dtype == dtype
    assert torch.equal(unpacked, rounded)
