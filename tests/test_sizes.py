from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_peppp.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("17b", 17),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("275MB", 275_000_000),
        ("1.5MiB", 1_572_864),
        ("1.5 mib", 1_572_864),
        (" 2. GB ", 2_000_000_000),
        (".5GiB", 536_870_912),
        ("3TB", 3e12),
        ("1TiB", 2.0**40),
        ("0.001kb", 1),
        ("1e9", 1e9),
        ("1E9", 1e9),
        ("2.5e6B", 2_500_000),
        ("1e3MB", 1e9),
        (".5e+1 kB", 5000),
        ("5e-1GiB", 536_870_912),
    ],
)
def test_texts(text: str, expected: float) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "number",
    [
        1,
        4096,
        0.5,
        2**50,
        np.float64(3.5),
        np.float32(0.5),
        np.int64(7),
        np.uint8(3),
        Fraction(1, 2),
    ],
)
def test_numbers_are_bytes(number: float) -> None:
    size = parse_size(number)
    assert size == number
    assert type(size) is float


@pytest.mark.parametrize(
    "bad",
    [
        *("", "MB", "275M", "275 megabytes", "-1MB", "0MB", "1,5MB", "nan", "inf", "٣MB", "1MB2"),
        *(
            "1_0",
            "1_000MB",
            "\uff11\uff10MB",
            "0x10",
            "+1MB",
            "1e",
            "e6",
            "1EB",
            "1e6_0",
            "1e400",
            "1e-400",
        ),
        *("1e1e1", "infinity", "1 0MB", "1\0", "9" * 50 + "XB"),
    ],
)
def test_other_texts_are_refused_with_what_is_expected(bad: str) -> None:
    with pytest.raises(ValueError, match=r"such as '275MB' or '1.5MiB'") as caught:
        parse_size(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        *(0, -1, math.nan, math.inf, -math.inf, 10**400, -(10**400), 10**5000),
        *(True, False, np.True_, np.float64("nan"), np.float32("inf"), np.int64(-3)),
        *(None, b"1MB", bytearray(b"1"), [1], (), {}, 1j, object, np.array([1.0, 2.0]), "9" * 9999),
    ],
    ids=lambda bad: f"{type(bad).__name__}",
)
def test_what_is_no_size_is_refused_in_a_sentence(bad: Any) -> None:
    with pytest.raises(ValueError, match="a size must be a positive number") as caught:
        parse_size(bad)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, "1 B"),
        (999, "999 B"),
        (0.25, "0.25 B"),
        (1000, "1 kB"),
        (189_278_384, "189.3 MB"),
        (275e6, "275 MB"),
        (1e9, "1 GB"),
        (1.5e12, "1.5 TB"),
    ],
)
def test_printed_sizes(size: float, expected: str) -> None:
    assert format_size(size) == expected


@given(st.integers(1, 10**15))
def test_a_printed_size_is_read_back_to_four_digits(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=5e-4)


@given(
    st.integers(1, 10**6),
    st.sampled_from(["", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]),
)
def test_units_scale(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * parse_size(f"1{unit}")


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1.5ms", "s", 0.0015),
        ("1.5 MS", "ms", 1.5),
        ("2", "ms", 2),
        ("2s", "ms", 2000),
        ("90 µs", "us", 90),
        ("2min", "s", 120),
        ("3mJ", "J", 0.003),
        ("3MJ", "J", 3e6),
        ("1.5kWh", "Wh", 1500),
        ("12m", "", 12e6),
        ("1e6", "", 1e6),
        ("0.25 usd", "USD", 0.25),
        ("1GB", "MiB", 1e9 / 2**20),
    ],
)
def test_units_of_other_amounts(text: str, unit: str, expected: float) -> None:
    assert parse_size(text, unit) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit"), [("3mj", "J"), ("1MB", "s"), ("1 EUR", "USD"), ("1ms", ""), ("s", "s")]
)
def test_what_is_in_another_unit_is_refused(text: str, unit: str) -> None:
    with pytest.raises(ValueError, match=f"such as '1.5{unit}'; got {text!r}"):
        parse_size(text, unit)


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (0.0015, "s", "1.5 ms"),
        (1.5, "ms", "1.5 ms"),
        (90, "s", "90 s"),
        (2e-10, "s", "0.2 ns"),
        (2048, "KiB", "2.097 MB"),
        (12_300_000, "", "12.3 M"),
        (7, "", "7"),
        (0.25, "USD", "0.25 USD"),
        (4e12, "FLOP", "4 TFLOP"),
    ],
)
def test_other_amounts_are_printed(size: float, unit: str, expected: str) -> None:
    assert format_size(size, unit) == expected
