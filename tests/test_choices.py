"""The check of named choices."""

import re
from enum import StrEnum
from typing import get_args

import pytest

from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.choices import Strategy, check_choice


class Letter(StrEnum):
    """As command lines give them."""

    a = "A"


@pytest.mark.parametrize("value", ["A", "B", None, Letter.a])
def test_takes_what_is_a_choice(value: object) -> None:
    check_choice("weights", value, ("A", "B", None))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("C", "weights must be 'A', 'B' or None; got 'C'"),
        ("a", "got 'a'"),
        (0, "got 0"),
        (["A"], "got ['A']"),
        (float("nan"), "got nan"),
    ],
)
def test_refuses_anything_else(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check_choice("weights", value, ("A", "B", None))


def test_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'nearest'"):
        check_choice("rounding", "neerest", ("nearest", "stochastic"))


def test_every_strategy_can_be_named() -> None:
    assert set(get_args(Strategy)) == set(STRATEGIES)
