"""What commands refuse before they load anything: sizes, networks, data and own functions."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Final

from optuna_peppp.configurations.architecture import check_architecture, check_pair
from optuna_peppp.configurations.data import is_own, parse_name
from optuna_peppp.configurations.plugins import is_plugin, load_plugin
from optuna_peppp.numerals import is_number
from optuna_peppp.sizes import parse_size

_SMALLEST: Final = 1000
"""Bytes below which a number without a unit is taken for one whose unit was forgotten."""


_ON_DISK: Final = {"npz": "file", "folder": "folder", "text": "file or folder"}
"""What has to be there of the kinds that name it."""


def check_size(option: str, size: str | None) -> None:
    """Refuses what is no amount of memory, and what lacks its unit.

    Raises:
        ValueError: It cannot be meant.
    """
    if size is not None and parse_size(size) < _SMALLEST and is_number(size.strip()):
        raise ValueError(
            f"{option} {size} is {size} bytes, too few for any training; did you mean "
            f"{size.strip()}MB?"
        )


def check_network(
    name: str, width: int | None = None, depth: int | None = None, *data: str
) -> None:
    """Refuses what names no network, sizes that it cannot have, and data that it does not take.

    Raises:
        ValueError: There is none of that name, the function of one's own cannot be called, or one
            of them does not fit.
    """
    if is_plugin(name):
        load_plugin("network", name)
    check_architecture(name, width, depth)
    for each in data:
        check_pair(name, each)


def check_train(name: str | None) -> None:
    """Refuses a training of one's own that cannot be called.

    Raises:
        ValueError: There is no such function, or it takes something else.
    """
    if name is not None:
        load_plugin("train", name)


def check_data(name: str) -> None:
    """Refuses what names no data set, and files and functions that are not there.

    Raises:
        ValueError: There is no such data set.
    """
    if is_own(name):
        load_plugin("data", name)
        return
    kind, argument = parse_name(name)
    if kind not in _ON_DISK:
        return
    what = _ON_DISK[kind]
    try:
        path = Path(argument).expanduser()
    except RuntimeError as problem:
        raise ValueError(f"data set {name}: there is no home folder for it") from problem
    if path.exists():
        return
    parent = path.parent
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    near = get_close_matches(path.name, beside, 1)
    hint = f". Did you mean {kind}:{Path(argument).parent / near[0]}?" if near else ""
    raise ValueError(f"data set {name}: there is no {what} {argument}{hint}")
