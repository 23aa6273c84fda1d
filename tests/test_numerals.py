from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_peppp.numerals import is_number, parse_integer, parse_number, resembles_number

FOREIGN = [
    *(
        "1_0",
        "1e5_0",
        "\uff11\uff10",
        "0.\uff15",
        "٣",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "infinity",
        "+.5",
        "+1",
        "0x1",
    ),
    *("0b1", "0o7", "-0x1f", " 0.5", "0.5 ", "1e400", "9" * 400, "-1e999", "\u00a01", "0X_1"),
]
WORDS = [
    "adam",
    "",
    "1-4-3",
    "e5",
    "1e",
    ".",
    "-",
    "--1",
    "1,5",
    "1.2.3",
    "sgd-0.9",
    "infinite",
    "²",
]


@pytest.mark.parametrize("text", [*FOREIGN, *WORDS], ids=lambda text: ascii(text)[:12])
def test_no_number_but_ours(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a number such as 0\.5 or 1e-3; got") as caught:
        parse_number(text)
    assert len(str(caught.value)) < 130
    if text != "9" * 400:
        with pytest.raises(ValueError, match="expected an integer such as 12; got"):
            parse_integer(text)
    assert resembles_number(text) == (text in FOREIGN and text != "9" * 400)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5),
        ("-1E+3", -1000),
        ("1e-05", 1e-5),
        ("007", 7),
        ("-0", 0),
    ],
)
def test_numbers_by_hand(text: str, number: float) -> None:
    assert parse_number(text) == number
    assert is_number(text)
    assert not resembles_number(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_is_read_back(number: float) -> None:
    read = parse_number(repr(number))
    assert read == number
    assert math.copysign(1, read) == math.copysign(1, number)


@given(st.integers())
def test_integers_are_read_back(number: int) -> None:
    assert parse_integer(str(number)) == number


def test_integers_beyond_what_python_reads_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="expected an integer such as 12; got '999") as caught:
        parse_integer("9" * 5000)
    assert len(str(caught.value)) < 130
