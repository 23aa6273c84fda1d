"""Spaces by a text: those that have a name, and those that a file tells."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from optuna_peppp.configurations.hardware import RECIPE_NAMES, recipe_of
from optuna_peppp.configurations.space import ConfigurationSpace

SPACES: Final = ("paper", "hardware", "assignments")
"""Spaces that have a name."""


def named_space(text: str) -> ConfigurationSpace:
    """The space of a name, or of a JSON file that holds the choices of every name.

    Args:
        text: ``"paper"``, ``"hardware"``, ``"assignments"``, or the path of a file such as
            ``{"activations": ["bfloat16", "mxfp4"], "states": ["float32", "dynamic8@256"]}``.

    Raises:
        ValueError: It names neither, or the file holds no space whose configurations have recipes.
    """
    if text in SPACES:
        made: ConfigurationSpace = getattr(ConfigurationSpace, text)()
        return made
    path = Path(text)
    if not path.is_file():
        near = get_close_matches(text, SPACES, 1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"space must be {', '.join(map(repr, SPACES))} or a JSON file of the choices of "
            f"every name; got {text!r}, which is no file{hint}"
        )
    try:
        choices = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(f"space {text} must be a file of JSON ({problem})") from problem
    if not isinstance(choices, dict):
        raise ValueError(
            f"space {text} must hold an object of lists, the choices of every name, such as "
            f'{{"activations": ["bfloat16", "mxfp4"]}}; got {type(choices).__name__}'
        )
    try:
        space = ConfigurationSpace(choices)
        first = space.params(0)
        for name in {*RECIPE_NAMES} & {*space.names} or space.names[:1]:
            for value in space.choices[name]:
                recipe_of({**first, name: value})  # which says what is wrong
    except ValueError as problem:
        raise ValueError(f"space {text}: {problem}") from problem
    return space
