"""What a space may hold as a choice, and what every storage keeps of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from optuna_peppp.configurations.blocks import BlockFormat
from optuna_peppp.configurations.formats import FloatFormat, MachineFloat
from optuna_peppp.configurations.hardware import FORMAT_NAMES, RECIPE_NAMES

Value = str | int | float
"""One value of a tuned name, a truth value too: what every Optuna storage gives back unchanged."""

AnyFormat = FloatFormat | MachineFloat | BlockFormat
"""A format of any family, which a space keeps as its text."""

_BUILTINS: Final[tuple[tuple[tuple[type, ...], Callable[[Any], Value]], ...]] = (
    ((bool, np.bool_), bool),  # before int, which bool is too
    ((str,), str.__str__),  # the text itself, of enumerations too
    ((int, np.integer), int),
    ((float, np.floating), float),
)
"""What a value may be, and the builtin that every storage keeps in its place."""


def builtin_value(name: str, value: Value | AnyFormat) -> Value:
    """The value as every storage keeps it, formats in their one spelling."""
    if name in FORMAT_NAMES:
        return str(value if isinstance(value, FloatFormat) else FloatFormat.parse(str(value)))
    if name in RECIPE_NAMES and isinstance(value, AnyFormat):
        return str(value)
    for kinds, builtin in _BUILTINS:
        if isinstance(value, kinds):
            plain = builtin(value)
            if isinstance(plain, float) and not math.isfinite(plain):
                raise ValueError(f"choices[{name!r}] must hold finite numbers; got {value!r}")
            return plain
    raise ValueError(
        f"choices[{name!r}] must hold strings, ints, floats and truth values; got {value!r} "
        f"of type {type(value).__name__}"
    )
