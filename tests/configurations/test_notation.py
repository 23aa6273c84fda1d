from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest

import optuna_peppp
from optuna_peppp.configurations.blocks import NVFP4, Block, Microscaled, MinMax, Scaled
from optuna_peppp.configurations.elements import DynamicMap, Integer
from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.notation import parse_format

FORMATS: dict[str, tuple[Format, float]] = {
    "1-4-3": (FloatFormat(4, 3), 8),
    "float32": (MachineFloat("float32"), 32),
    "float24": (MachineFloat("float24"), 24),
    "bfloat16": (MachineFloat("bfloat16"), 16),
    "bfloat16/saturate": (MachineFloat("bfloat16", "saturate"), 16),
    "float16": (MachineFloat("float16"), 16),
    "float8-e4m3": (MachineFloat("float8-e4m3"), 8),
    "float8-e4m3/saturate": (MachineFloat("float8-e4m3", "saturate"), 8),
    "float8-e5m2": (MachineFloat("float8-e5m2"), 8),
    "float6-e3m2": (MachineFloat("float6-e3m2"), 6),
    "float6-e2m3": (MachineFloat("float6-e2m3"), 6),
    "float4-e2m1": (MachineFloat("float4-e2m1"), 4),
    "float8-e4m3@tensor": (Scaled(MachineFloat("float8-e4m3"), None), 8),
    "float8-e5m2@tensor": (Scaled(MachineFloat("float8-e5m2"), None), 8),
    "mxfp8-e4m3": (Microscaled(MachineFloat("float8-e4m3")), 8.25),
    "mxfp8-e5m2": (Microscaled(MachineFloat("float8-e5m2")), 8.25),
    "mxfp6-e2m3": (Microscaled(MachineFloat("float6-e2m3")), 6.25),
    "mxfp6-e3m2": (Microscaled(MachineFloat("float6-e3m2")), 6.25),
    "mxfp4": (Microscaled(MachineFloat("float4-e2m1")), 4.25),
    "mxfp4/rceil": (Microscaled(MachineFloat("float4-e2m1"), "rceil"), 4.25),
    "nvfp4": (NVFP4(), 4.5),
    "int8@32x32": (Scaled(Integer(8), Block(32, 32)), 8.03125),
    "float8-e4m3@128": (Scaled(MachineFloat("float8-e4m3"), Block(128)), 8.25),
    "int8@32": (Scaled(Integer(8), Block(32)), 8.5),
    "int4@32": (Scaled(Integer(4), Block(32)), 4.5),
    "int3@32": (Scaled(Integer(3), Block(32)), 3.5),
    "int2@32": (Scaled(Integer(2), Block(32)), 2.5),
    "int4@256/minmax": (MinMax(Integer(4), Block(256)), 4.125),
    "int2@256/minmax": (MinMax(Integer(2), Block(256)), 2.125),
    "dynamic8@256": (Scaled(DynamicMap(8), Block(256)), 8.125),
    "dynamic8@256/unsigned": (Scaled(DynamicMap(8, signed=False), Block(256)), 8.125),
    "dynamic4@128": (Scaled(DynamicMap(4), Block(128)), 4.25),
    "float8-e4m3@256": (Scaled(MachineFloat("float8-e4m3"), Block(256)), 8.125),
}
"""Every family, and the bits of one number with its share of the scales, counted by hand."""


@pytest.mark.parametrize("text", FORMATS)
def test_text_is_read_and_written_back(text: str) -> None:
    fmt, bits = FORMATS[text]
    assert parse_format(text) == parse_format(f" {text}\n") == fmt
    assert (str(fmt), fmt.bits) == (text, bits)
    assert pickle.loads(pickle.dumps(fmt)) == fmt
    assert len({fmt, parse_format(text)}) == 1


@pytest.mark.parametrize("text", FORMATS)
def test_formats_do_not_change(text: str) -> None:
    fmt, _ = FORMATS[text]
    with pytest.raises((FrozenInstanceError, TypeError)):
        fmt.element = None  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", FORMATS)
def test_every_format_has_a_range_and_a_place(text: str) -> None:
    fmt, _ = FORMATS[text]
    assert 0 < fmt.min_subnormal < 1 < fmt.max
    exponent, mantissa, scale = fmt.coordinates
    assert 2 <= exponent <= 8
    assert -1 <= mantissa <= 12
    assert (scale > 0) == ("@" in text or text.startswith(("mx", "nv")))


def test_paper_formats_stand_where_they_stood() -> None:
    assert FloatFormat(4, 3).coordinates == (4, 3, 0)
    assert parse_format("float8-e4m3").coordinates == (4, 3, 0)


def test_coordinates_by_hand() -> None:
    assert parse_format("mxfp8-e4m3").coordinates == (8, 3, 2)  # 1 and five halvings of 1024
    assert parse_format("nvfp4").coordinates == pytest.approx((4, 1, 2.2))
    assert parse_format("int8@32x32").coordinates == (8, 5, 1)
    assert parse_format("float8-e4m3@tensor").coordinates == (4, 3, 1)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("mxfp8-e4m4", "mxfp8-e4m3"),
        ("mxfp8", "mxfp8-e4m3"),
        ("bf16", "bfloat16"),
        ("bfloat", "bfloat16"),
        ("float8-e4m33", "float8-e4m3"),
        ("int9@32", "int8@32"),
        ("int4@256/minmaz", "int4@256/minmax"),
        ("nvfp8", "nvfp4"),
        ("int4@32/unsigned", "dynamic4@128/unsigned"),
        ("int4@tensor/minmax", "int4@256/minmax"),
        ("float8-e4m3@0", "float8-e4m3"),
        ("int8@٣٢", "int8@32"),
        ("bfloat16@32", "bfloat16"),
        ("", None),
    ],
)
def test_misspelt_text_gets_the_nearest_name(text: str, meant: str | None) -> None:
    with pytest.raises(ValueError, match="a format must be written as") as caught:
        parse_format(text)
    message = str(caught.value)
    assert repr(text) in message
    if meant is None:
        assert "Did you mean" not in message
    else:
        assert message.endswith(f"Did you mean {meant!r}?")


def test_bit_counts_and_blocks_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="format '1-9-3': exponent must be between 2 and 8"):
        parse_format("1-9-3")
    with pytest.raises(ValueError, match="must be written sign-exponent-mantissa"):
        parse_format("1-4")
    with pytest.raises(ValueError, match=r"'int4@1048577': a block must hold 1 to 1,048,576"):
        parse_format("int4@1048577")
    with pytest.raises(ValueError, match="got 8"):
        parse_format(8)  # type: ignore[arg-type]


def test_it_is_found_in_the_package() -> None:
    assert optuna_peppp.parse_format is parse_format
