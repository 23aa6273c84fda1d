from __future__ import annotations

import pytest

from optuna_peppp.configurations.blocks import NVFP4, Block, Microscaled, MinMax, Scaled
from optuna_peppp.configurations.elements import DynamicMap, Integer
from optuna_peppp.configurations.formats import MachineFloat


def test_elements_of_blocks_saturate() -> None:
    plain, saturating = MachineFloat("float8-e5m2"), MachineFloat("float8-e5m2", "saturate")
    assert Scaled(plain, Block(32)) == Scaled(saturating, Block(32))
    assert Microscaled(plain) == Microscaled(saturating)
    assert Microscaled(plain).element == saturating


def test_ranges_by_hand() -> None:
    assert Microscaled(MachineFloat("float4-e2m1")).max == 6 * 2.0**127
    assert Microscaled(MachineFloat("float4-e2m1")).min_subnormal == 0.5 * 2.0**-127
    bfloat16_max = (2 - 2.0**-7) * 2.0**127
    assert Scaled(Integer(2), Block(32)).max == bfloat16_max
    assert Scaled(Integer(4), Block(32)).max == 7 * bfloat16_max
    assert Scaled(Integer(8), None).max == 127 * float(2**128 - 2**104)
    assert NVFP4().max == 6 * 448 * float(2**128 - 2**104)
    assert MinMax(Integer(2), Block(256)).max == bfloat16_max
    assert MinMax(Integer(2), Block(256)).steps == 3


def test_scales_of_groups_of_integers_are_short() -> None:
    bfloat16, float32 = MachineFloat("bfloat16"), MachineFloat("float32")
    assert Scaled(Integer(8), Block(32)).scale == bfloat16
    assert Scaled(Integer(8), Block(32, 32)).scale == float32
    assert Scaled(Integer(8), None).scale == float32
    assert Scaled(DynamicMap(8), Block(256)).scale == float32
    assert Scaled(MachineFloat("float8-e4m3"), Block(128)).scale == float32


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="rule must be 'floor' or 'rceil'; got 'rciel'"):
        Microscaled(MachineFloat("float4-e2m1"), "rciel")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name of the element must be 'float8-e4m3'"):
        Microscaled(MachineFloat("bfloat16"))
    with pytest.raises(ValueError, match="a block must hold 1 to 1,048,576 numbers; got 0"):
        Scaled(Integer(4), Block(0))
    with pytest.raises(ValueError, match="a run of one row; got 4x32"):
        MinMax(Integer(4), Block(32, 4))
