"""The text of every format, and reading it.

============================  =====================================================================
``1-e-m``, ``1-4-3b4``        sign, exponent and mantissa bits; every code is a number; ``b4``
                              divides all numbers by 2**4
``bfloat16``, ``float8-e4m3``  as machines have it; with ``/saturate`` nothing becomes Inf or NaN
``mxfp8-e4m3``, ``nvfp4``      blocks with names of their own; ``mxfp4/rceil`` rounds scales up
``ELEMENT@BLOCK``             a scale a block: ``32`` numbers, a tile ``32x32``, or the ``tensor``
``int4@256/minmax``           from the smallest to the largest number of a run
``dynamic8@256/unsigned``     a state that has no negative numbers
============================  =====================================================================
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

from optuna_peppp.configurations.blocks import (
    NVFP4,
    Block,
    BlockFormat,
    Element,
    Microscaled,
    MinMax,
    Scaled,
)
from optuna_peppp.configurations.elements import DynamicMap, Integer
from optuna_peppp.configurations.formats import (
    MACHINE_FLOATS,
    FloatFormat,
    Format,
    MachineFloat,
)
from optuna_peppp.text import quoted

_BLOCKS: Final = re.compile(
    r"(?P<element>[a-z0-9-]+)@(?:(?P<tensor>tensor)|(?:(?P<rows>[1-9]\d{0,6})x)?"
    r"(?P<columns>[1-9]\d{0,6}))(?:/(?P<variant>[a-z]+))?",
    re.ASCII,
)
_SMALL_FLOATS: Final = tuple(name for name in MACHINE_FLOATS if re.match(r"float[864]-", name))

_FORMATS: Final[tuple[Format, ...]] = (
    *map(MachineFloat, MACHINE_FLOATS),
    *(MachineFloat(name, "saturate") for name in MACHINE_FLOATS),
    *(Microscaled(MachineFloat(name)) for name in _SMALL_FLOATS),
    *(Microscaled(MachineFloat(name), "rceil") for name in _SMALL_FLOATS),
    NVFP4(),
)
_NAMED: Final = {str(fmt): fmt for fmt in _FORMATS}
"""The formats that have a name of their own."""

_SCALABLE: Final[tuple[Element, ...]] = (
    *map(MachineFloat, _SMALL_FLOATS),
    *map(Integer, range(2, 9)),
    *map(DynamicMap, (8, 4)),
)
_ELEMENTS: Final = {str(element): element for element in _SCALABLE}
"""What a block may be made of."""

_USUAL: Final = (
    *("int8@32x32", "float8-e4m3@128", "float8-e4m3@tensor", "float8-e5m2@tensor"),
    *("int8@32", "int4@32", "int3@32", "int2@32", "int8@256/minmax"),
    *("int4@256/minmax", "int2@256/minmax", "float8-e4m3@256"),
    *("dynamic8@256", "dynamic4@128", "dynamic8@256/unsigned", "dynamic4@128/unsigned"),
)
"""Blocks that are in use, of all that can be written."""


def parse_format(text: str) -> Format:
    """The format that a text names.

    Raises:
        ValueError: It names none; the message names the nearest.

    >>> parse_format("mxfp8-e4m3").bits
    8.25
    >>> parse_format("mxfp8-e4m4")
    Traceback (most recent call last):
        ...
    ValueError: a format must be written as '1-4-3', 'bfloat16', 'mxfp8-e4m3' or 'int4@32' are; \
got 'mxfp8-e4m4'. Did you mean 'mxfp8-e4m3'?
    """
    plain = text.strip() if isinstance(text, str) else ""
    if plain in _NAMED:
        return _NAMED[plain]
    if plain[:1].isdigit():
        return FloatFormat.parse(text)
    match = _BLOCKS.fullmatch(plain)
    if match is not None:
        try:
            fmt = _block_format(match)
        except ValueError as error:
            raise ValueError(f"format {quoted(text)}: {error}") from None
        if fmt is not None:
            return fmt
    near = [name for name in (*_NAMED, *_USUAL) if plain and name.startswith(plain)]
    near = near or get_close_matches(plain, (*_NAMED, *_USUAL), 1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        "a format must be written as '1-4-3', 'bfloat16', 'mxfp8-e4m3' or 'int4@32' are; "
        f"got {quoted(text)}{hint}"
    )


def _block_format(match: re.Match[str]) -> BlockFormat | None:
    """ELEMENT@BLOCK and its variant; None where there is no such element or variant."""
    element, variant = _ELEMENTS.get(match["element"]), match["variant"]
    if element is None:
        return None
    block = None if match["tensor"] else Block(int(match["columns"]), int(match["rows"] or 1))
    if variant is None:
        return Scaled(element, block)
    if variant == "minmax" and isinstance(element, Integer) and block is not None:
        return MinMax(element, block)
    if variant == "unsigned" and isinstance(element, DynamicMap):
        return Scaled(DynamicMap(element.bits, signed=False), block)
    return None
