from __future__ import annotations

import math

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
    ],
)
def test_texts(text: str, expected: float) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("number", [1, 4096, 0.5, 2**50, np.float64(3.5)])
def test_numbers_are_bytes(number: float) -> None:
    assert parse_size(number) == number


@pytest.mark.parametrize(
    "bad",
    ["", "MB", "275M", "275 megabytes", "-1MB", "0MB", "1,5MB", "1e6", "nan", "inf", "٣MB", "1MB2"],
)
def test_other_texts_are_refused_with_what_is_expected(bad: str) -> None:
    with pytest.raises(ValueError, match=r"such as '275MB' or '1.5MiB'") as caught:
        parse_size(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, -math.inf])
def test_numbers_that_are_no_size_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="a size must be a positive number"):
        parse_size(bad)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, "1 B"),
        (999, "999 B"),
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
