from __future__ import annotations

import re

import pytest

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B, Precision, check_precision


def test_the_text_names_both_formats() -> None:
    precision = Precision.parse("1-4-3", "1-6-7")
    assert precision == Precision(FloatFormat(4, 3), FloatFormat(6, 7))
    assert str(precision) == "1-4-3 / 1-6-7"


def test_the_papers_formats() -> None:
    assert [fmt.bits for fmt in FORMATS_A] == [5, 6, 7, 8, 6, 7, 8, 9, 7, 8, 9]
    assert [fmt.bits for fmt in FORMATS_B] == [14, 16, 18, 15, 17, 19, 16, 18, 20]


@pytest.mark.parametrize("text", ["1-4-3/1-6-7", "1-4-3 / 1-6-7", "1-4-3,1-6-7"])
def test_text_is_told_how_to_become_a_precision(text: str) -> None:
    message = f"got {text!r}: give Precision.parse('1-4-3', '1-6-7')"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_precision(text)


@pytest.mark.parametrize("value", ["1-4-3", ("1-4-3", "1-6-7"), FloatFormat(4, 3), 8, None])
def test_what_is_no_precision(value: object) -> None:
    message = (
        f"precision must be a Precision; got {value!r}: give Precision.parse(format_a, format_b), "
        "such as Precision.parse('1-4-3', '1-6-7')"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        check_precision(value)
