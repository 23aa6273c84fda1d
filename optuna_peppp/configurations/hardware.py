"""Configurations by the names of their choices, and what hardware and optimizers offer for each.

A configuration names its formats in one of three ways, from which :func:`recipe_of` makes a recipe:

- the paper's ``format_a`` and ``format_b``;
- ``activations``, ``gradients``, ``weights``, ``states`` and ``master``, the arguments of
  :meth:`Recipe.hardware`, of which any may be left out;
- an assignment's ``format_low`` and ``format_high`` with, where they vary, ``format_gradient`` (of
  demoted gradients), ``demotion``, ``order`` and ``promotion`` (text, such as ``0.01`` or ``off``);
  and ``format_b``, or ``states`` and ``master`` for a recipe that is hardware's otherwise.
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

ASSIGNMENT_NAMES: Final = (
    *("format_low", "format_high", "format_gradient"),
    *("demotion", "order", "promotion"),
)
"""The names of what a precision assignment chooses."""

RECIPE_NAMES: Final = (*FORMAT_NAMES, *HARDWARE_NAMES, *ASSIGNMENT_NAMES)
"""The names that :func:`recipe_of` reads."""

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
    paper, hardware, assignment = (
        given & {*family} for family in (FORMAT_NAMES, HARDWARE_NAMES, ASSIGNMENT_NAMES)
    )
    if assignment:
        rest = paper or hardware
        two = {"format_low", "format_high"} <= assignment and not (paper and hardware)
        return two and rest <= {"format_b", "states", "master"}
    return not hardware if paper == {*FORMAT_NAMES} else bool(hardware) and not paper


WAYS: Final = (
    f"{' and '.join(FORMAT_NAMES)}, or some of {', '.join(HARDWARE_NAMES)}, or format_low and "
    "format_high"
)
"""The names of the three ways, in words."""


def recipe_of(
    params: Mapping[str, object], rounding: Rounding = "nearest", sites: Sites = "modules"
) -> Recipe:
    """The recipe of a configuration; names that are no formats are ignored.

    Args:
        params: The configuration's choices by name, formats as text.
        rounding: How the paper's formats, and those of an assignment with ``format_b``, are rounded
            to; other recipes say it themselves.
        sites: Whose outputs are rounded.

    Raises:
        ValueError: The names are not those of one of the three ways, or a text is no format.
    """
    if not names_formats(params):
        raise ValueError(
            f"a configuration must name {WAYS}, to have a recipe; it names {', '.join(params)}"
        )
    if "format_a" in params:
        recipe = Recipe.paper(str(params["format_a"]), str(params["format_b"]), rounding)
    elif "format_low" in params:
        recipe = _assigned(params, rounding)
    else:
        given = {name: str(params[name]) for name in HARDWARE_NAMES if name in params}
        recipe = Recipe.hardware(**given)
    return replace(recipe, sites=sites)


def _assigned(params: Mapping[str, object], rounding: Rounding) -> Recipe:
    """The recipe of a configuration that is a precision assignment."""
    promotion = str(params.get("promotion", "off"))
    try:
        share = None if promotion == "off" else float(promotion)
        demotion = float(str(params.get("demotion", 1.0)))
    except ValueError:
        raise ValueError(
            "demotion must be a number, and promotion one or 'off'; got "
            f"{params.get('demotion')!r} and {promotion!r}"
        ) from None
    gradient = params.get("format_gradient")
    return Recipe.assigned(
        str(params["format_low"]),
        str(params["format_high"]),
        None if "format_b" not in params else str(params["format_b"]),
        None if gradient is None else str(gradient),
        demotion=demotion,
        order=str(params.get("order", "decreasing")),
        promotion=share,
        rounding=rounding,
        **{name: str(params[name]) for name in ("states", "master") if name in params},
    )
