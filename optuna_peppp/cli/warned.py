"""Warnings of the library as a command shows them: a line each."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from optuna_peppp.text import printable


@contextmanager
def clear_warnings() -> Iterator[None]:
    """Shows every warning of this library as a line on standard error, without its place."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        tqdm.write(f"Warning: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module=r"optuna_peppp\.")
        warnings.showwarning = show
        yield
