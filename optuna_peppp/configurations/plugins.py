"""Functions of the user's own, named on the command line as ``package.module:function``."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Final, Literal

Plugin = Literal["network", "data", "train"]
"""What a function of the user's own may stand for."""

SIGNATURES: Final[dict[Plugin, tuple[str, ...]]] = {
    "network": ("data",),
    "data": (),
    "train": ("params", "recipe", "seed"),
}
"""What each is called with.

``network(data)`` returns an ``nn.Module`` for what the data set is: an ``ImageData`` or a
``TextData``, whose ``num_classes`` and ``input_shape`` it has, or what an own ``data()`` returned.

``data()`` returns an ``ImageData``, a ``TextData`` or, beside an own ``train``, one batch of
example inputs of any structure, from which memory is computed.

``train(params, recipe, seed)`` returns the error, between 0 and 1. ``params`` holds the settings of
the command and what the configuration chooses, by name; ``recipe`` the format of every role.
"""

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_plugin(name: object) -> bool:
    """Whether a name has the form ``package.module:function``."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def load_plugin(option: Plugin, name: str) -> Callable[..., Any]:
    """The function of a name, found from the working folder on, as ``python -m`` finds modules.

    Args:
        option: What it is given as.
        name: ``package.module:function``.

    Raises:
        ValueError: There is no such module or function, importing it fails, it cannot be called,
            or it takes something else.
    """
    if not is_plugin(name):
        raise ValueError(
            f"{option} must be package.module:function, such as mine:{option} for the function "
            f"{option} in mine.py of the working folder; got {name!r}"
        )
    path, _, attribute = name.partition(":")
    module = _module(f"{option} {name}", path)
    if not hasattr(module, attribute):
        near = get_close_matches(attribute, vars(module), 1)
        hint = f"did you mean {path}:{near[0]}?" if near else "define it there, or name another"
        raise ValueError(f"{option} {name}: module {path} has no {attribute!r}; {hint}")
    function = getattr(module, attribute)
    parameters = SIGNATURES[option]
    form = f"def {attribute}({', '.join(parameters)})"
    if not callable(function):
        kind = type(function).__name__
        raise ValueError(f"{option} {name} must be a function, {form}; it is of type {kind}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of C code, which tells none
        return function  # type: ignore[no-any-return]
    try:
        signature.bind(*parameters)
    except TypeError as problem:
        raise ValueError(
            f"{option} {name} must be callable as {form}; it takes {signature} ({problem})"
        ) from problem
    return function  # type: ignore[no-any-return]


def call_plugin(option: Plugin, name: str, *arguments: Any) -> Any:
    """What the function of a name answers.

    Raises:
        ValueError: As :func:`load_plugin`, or it raises; the message says what, and in which line.
    """
    function = load_plugin(option, name)
    try:
        return function(*arguments)
    except Exception as problem:
        raise ValueError(f"{option} {name} fails: {_told(problem)}") from problem


def _module(named: str, path: str) -> ModuleType:
    if not {"", "."} & {*sys.path}:
        sys.path.insert(0, "")
        importlib.invalidate_caches()
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as problem:
        missing = problem.name or ""
        if path != missing and not path.startswith(f"{missing}."):
            raise ValueError(f"{named}: importing {path} fails: {_told(problem)}") from problem
        raise ValueError(
            f"{named}: there is no module {missing}, neither in the working folder nor installed; "
            f"run the command where {missing.replace('.', '/')}.py is"
        ) from problem
    except Exception as problem:  # whatever its code raises
        raise ValueError(f"{named}: importing {path} fails: {_told(problem)}") from problem


def _told(problem: Exception) -> str:
    """An exception in a line, and where it was raised."""
    first = (str(problem).strip().splitlines() or [""])[0]
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {first} ({frame.filename}, line {frame.lineno})"
