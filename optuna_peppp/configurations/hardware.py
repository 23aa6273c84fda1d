"""Configurations by the names of their choices, and what hardware and optimizers offer for each.

A configuration names its formats in one of two ways, from which :func:`recipe_of` makes a recipe:
the paper's ``format_a`` and ``format_b``, or ``activations``, ``gradients``, ``weights``,
``states`` and ``master``, the arguments of :meth:`Recipe.hardware`, of which any may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from optuna_peppp.configurations.names import Rounding, Sites
from optuna_peppp.configurations.recipe import Recipe

T = TypeVar("T")

FORMAT_NAMES: Final = ("format_a", "format_b")
"""The names of the paper's two formats."""

HARDWARE_NAMES: Final = ("activations", "gradients", "weights", "states", "master")
"""The names of formats that :meth:`Recipe.hardware` takes."""

ACTIVATIONS: Final = (
    *("bfloat16", "float8-e4m3@tensor", "mxfp8-e4m3", "mxfp6-e3m2", "nvfp4", "mxfp4"),
    *("int3@32", "int2@32", "int8@256/minmax", "int4@256/minmax", "int2@256/minmax"),
)
"""What activations are computed in or, with ``minmax``, kept in."""

STATES: Final = ("float32", "bfloat16", "dynamic8@256", "dynamic4@128")
"""What optimizer states are kept in."""

MASTERS: Final = ("float32", "float24", "bfloat16")
"""What the weights that the optimizer updates are kept in."""

_OFFERED: Final = {"activations": ACTIVATIONS, "states": STATES, "master": MASTERS}


def in_order(name: str, values: Iterable[T]) -> list[T]:
    """Choices of a name as they are offered, one after the other; what is not offered, behind.

    >>> in_order("states", ["float8-e4m3@256", "dynamic4@128", "float32"])
    ['float32', 'dynamic4@128', 'float8-e4m3@256']
    """
    place = {value: number for number, value in enumerate(_OFFERED.get(name, ()))}
    # Sorting leaves what is equal as it was.
    return sorted(values, key=lambda value: place.get(str(value), len(place)))


def names_formats(names: Iterable[str]) -> bool:
    """Whether a configuration of these names has a recipe."""
    given = set(names)
    paper, hardware = given & {*FORMAT_NAMES}, given & {*HARDWARE_NAMES}
    return not hardware if paper == {*FORMAT_NAMES} else bool(hardware) and not paper


def recipe_of(
    params: Mapping[str, object], rounding: Rounding = "nearest", sites: Sites = "modules"
) -> Recipe:
    """The recipe of a configuration; names that are no formats are ignored.

    Args:
        params: The configuration's choices by name, formats as text.
        rounding: How the paper's formats are rounded to; other recipes say it themselves.
        sites: Whose outputs are rounded.

    Raises:
        ValueError: The names are not those of one of the two ways, or a text is no format.
    """
    if not names_formats(params):
        raise ValueError(
            f"a configuration must name {' and '.join(FORMAT_NAMES)}, or some of "
            f"{', '.join(HARDWARE_NAMES)}, to have a recipe; it names {', '.join(params)}"
        )
    if "format_a" in params:
        recipe = Recipe.paper(str(params["format_a"]), str(params["format_b"]), rounding)
    else:
        given = {name: str(params[name]) for name in HARDWARE_NAMES if name in params}
        recipe = Recipe.hardware(**given)
    return replace(recipe, sites=sites)
