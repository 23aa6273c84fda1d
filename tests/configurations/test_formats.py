from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_peppp.configurations.formats import FloatFormat, MachineFloat, MachineFloatName
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B, Precision


def positive_values(fmt: FloatFormat) -> tuple[Fraction, list[int]]:
    """The unit in the last place of the subnormals, and every positive number in it, ascending."""
    steps = 2**fmt.mantissa
    values = list(range(1, steps))
    for exponent in range(1, 2**fmt.exponent):
        values += [(steps + code) << (exponent - 1) for code in range(steps)]
    bias = 2 ** (fmt.exponent - 1) - 1
    return Fraction(2) ** (1 - bias - fmt.mantissa), values


@pytest.mark.parametrize("fmt", FORMATS_A + FORMATS_B, ids=str)
def test_limits_are_those_of_the_bit_patterns(fmt: FloatFormat) -> None:
    unit, values = positive_values(fmt)
    assert Fraction(fmt.max) == values[-1] * unit
    assert Fraction(fmt.min_subnormal) == values[0] * unit
    assert Fraction(fmt.min_normal) == values[2**fmt.mantissa - 1] * unit
    # Sign, every positive number, and zero: all codes are used, none for infinity or NaN.
    assert 2 * (len(values) + 1) == 2**fmt.bits


@pytest.mark.parametrize(
    ("text", "bits", "largest", "min_normal", "min_subnormal"),
    [
        ("1-3-1", 5, 24.0, 2.0**-2, 2.0**-3),
        ("1-4-3", 8, 480.0, 2.0**-6, 2.0**-9),
        ("1-5-2", 8, 114688.0, 2.0**-14, 2.0**-16),
        ("1-8-23", 32, 2.0**129 - 2.0**105, 2.0**-126, 2.0**-149),
    ],
)
def test_limits_by_hand(
    text: str, bits: int, largest: float, min_normal: float, min_subnormal: float
) -> None:
    fmt = FloatFormat.parse(text)
    assert (fmt.bits, fmt.max, fmt.min_normal, fmt.min_subnormal) == (
        bits,
        largest,
        min_normal,
        min_subnormal,
    )


def test_table_3() -> None:
    assert [str(fmt) for fmt in FORMATS_A] == [
        *("1-3-1", "1-3-2", "1-3-3", "1-3-4"),
        *("1-4-1", "1-4-2", "1-4-3", "1-4-4"),
        *("1-5-1", "1-5-2", "1-5-3"),
    ]
    assert {fmt.bits for fmt in FORMATS_A} == {5, 6, 7, 8, 9}


def test_table_4() -> None:
    assert [str(fmt) for fmt in FORMATS_B] == [
        *("1-6-7", "1-6-9", "1-6-11"),
        *("1-7-7", "1-7-9", "1-7-11"),
        *("1-8-7", "1-8-9", "1-8-11"),
    ]
    assert {fmt.bits for fmt in FORMATS_B} == {14, 15, 16, 17, 18, 19, 20}


@given(st.integers(2, 8), st.integers(1, 23))
def test_text_and_pickle_give_a_format_back(exponent: int, mantissa: int) -> None:
    fmt = FloatFormat(exponent, mantissa)
    assert FloatFormat.parse(str(fmt)) == fmt
    assert pickle.loads(pickle.dumps(fmt)) == fmt


def test_surrounding_blanks_do_not_matter() -> None:
    assert FloatFormat.parse(" 1-4-3\n") == FloatFormat(4, 3)


@pytest.mark.parametrize(
    "text", ["1-4", "2-4-3", "0-4-3", "", "1-4-3-2", "1--4-3", "1-4-+3", "1_4_3", "1-٤-3", "fp8"]
)
def test_other_texts_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"sign-exponent-mantissa .* such as '1-4-3'") as caught:
        FloatFormat.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1-0-3", "exponent must be between 2 and 8 bits; got 0"),
        (" 1-9-3", "exponent must be between 2 and 8 bits; got 9"),
        ("1-4-0", "mantissa must be between 1 and 23 bits; got 0"),
        ("1-4-24", "mantissa must be between 1 and 23 bits; got 24"),
    ],
)
def test_bit_counts_out_of_range_are_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        FloatFormat.parse(text)
    assert repr(text) in str(caught.value)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="got 143"):
        FloatFormat.parse(143)  # type: ignore[arg-type]


def test_formats_are_ordered_by_exponent_and_then_mantissa() -> None:
    assert sorted(FORMATS_B + FORMATS_A) == [*FORMATS_A, *FORMATS_B]


def test_precision() -> None:
    precision = Precision.parse("1-4-3", "1-6-7")
    assert precision == Precision(FloatFormat(4, 3), FloatFormat(6, 7))
    assert str(precision) == "1-4-3 / 1-6-7"
    assert len({precision, Precision.parse("1-4-3", "1-6-7")}) == 1
    with pytest.raises(ValueError, match="got '1-4'"):
        Precision.parse("1-4-3", "1-4")


@pytest.mark.parametrize(
    ("name", "largest", "min_normal", "min_subnormal"),
    [
        ("float32", 2.0**128 - 2.0**104, 2.0**-126, 2.0**-149),
        ("float24", 2.0**128 - 2.0**112, 2.0**-126, 2.0**-141),
        ("bfloat16", 2.0**128 - 2.0**120, 2.0**-126, 2.0**-133),
        ("float16", 65504.0, 2.0**-14, 2.0**-24),
        ("float8-e4m3", 448.0, 2.0**-6, 2.0**-9),
        ("float8-e5m2", 57344.0, 2.0**-14, 2.0**-16),
        ("float6-e3m2", 28.0, 0.25, 0.0625),
        ("float6-e2m3", 7.5, 1.0, 0.125),
        ("float4-e2m1", 6.0, 1.0, 0.5),
    ],
)
def test_limits_of_machines(
    name: MachineFloatName, largest: float, min_normal: float, min_subnormal: float
) -> None:
    fmt = MachineFloat(name)
    assert (fmt.max, fmt.min_normal, fmt.min_subnormal) == (largest, min_normal, min_subnormal)


def test_overflow_is_written_where_there_is_a_choice() -> None:
    assert str(MachineFloat("bfloat16", "saturate")) == "bfloat16/saturate"
    assert MachineFloat("float4-e2m1", "saturate") == MachineFloat("float4-e2m1")


def test_unknown_names_of_machines_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        MachineFloat("bfloat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="overflow must be 'special' or 'saturate'; got 'inf'"):
        MachineFloat("bfloat16", "inf")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "largest", "overflow", "min_normal", "min_subnormal"),
    [
        ("1-4-3b4", 30, 31, 2**-10, 2**-13),
        ("1-4-3b8", 1.875, 1.9375, 2**-14, 2**-17),
        ("1-4-3b-2", 1920, 1984, 2**-4, 2**-7),
        ("1-5-2", 114688, 122880, 2**-14, 2**-16),
        ("1-6-9", 8581545984, 8585740288, 2**-30, 2**-39),
    ],
)
def test_limits_of_shifted_formats(
    text: str, largest: float, overflow: float, min_normal: float, min_subnormal: float
) -> None:
    fmt = FloatFormat.parse(text)
    assert (fmt.max, fmt.overflow) == (largest, overflow)
    assert (fmt.min_normal, fmt.min_subnormal) == (min_normal, min_subnormal)
    assert (str(fmt), fmt.bits) == (text, FloatFormat(fmt.exponent, fmt.mantissa).bits)


def test_a_shift_of_none_is_not_written() -> None:
    assert FloatFormat.parse("1-4-3b0") == FloatFormat(4, 3)
    assert str(FloatFormat.parse("1-4-3b-0")) == "1-4-3"


def test_a_shift_counts_as_the_range_that_it_reaches() -> None:
    # As many exponents below 1 as 5 bits have.
    assert FloatFormat(4, 3, 8).coordinates == FloatFormat(5, 3).coordinates
    assert FloatFormat(4, 3).coordinates < FloatFormat(4, 3, 4).coordinates


@pytest.mark.parametrize(("text", "room"), [("1-4-3b121", 120), ("1-8-7b1", 0), ("1-8-7b-1", 0)])
def test_a_shift_out_of_range_is_named(text: str, room: int) -> None:
    with pytest.raises(ValueError, match=f"shift must be between -?{room} and {room}; got"):
        FloatFormat.parse(text)
