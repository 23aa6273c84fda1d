"""Named choices: one check for every argument that takes one of a few words."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Literal

Strategy = Literal["bayesian", "portfolio", "ed-mf", "qr-mf", "random-mf"]
"""How configurations are chosen: by what past tasks and measurements tell, in the fixed order that
past tasks would have wanted, by D-optimal design (the paper's), pivoted QR, at random."""

Scheme = Literal["uniform", "memory"]
"""How entries to measure are sampled: all alike, or those that need little memory more often."""


def check_choice(argument: str, value: object, choices: Collection[str | None]) -> None:
    """Refuses a value that is none of the choices, and names the nearest.

    Args:
        argument: The argument's name, for the message.
        value: What came.
        choices: What was expected; None where it may be left out.

    Raises:
        ValueError: ``value`` is not among ``choices``.

    >>> check_choice("rounding", "stochasitc", ("nearest", "stochastic"))
    Traceback (most recent call last):
        ...
    ValueError: rounding must be 'nearest' or 'stochastic'; got 'stochasitc'. Did you mean \
'stochastic'?
    """
    if isinstance(value, str | None) and value in choices:
        return
    *others, last = map(repr, choices)
    expected = f"{', '.join(others)} or {last}" if others else last
    words = [choice for choice in choices if choice is not None]
    near = get_close_matches(value, words, 1) if isinstance(value, str) else []
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} must be {expected}; got {value!r}{hint}")
