"""What commands print: results on standard output; errors and warnings, a line each, beside it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer
from tqdm import tqdm

from optuna_peppp.text import printable

if TYPE_CHECKING:
    from rich.console import Group

INTERRUPTED: Final = 130
"""Exit code of a command that Ctrl-C ended."""


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines: whatever names they hold, a terminal shows them and obeys none."""
    typer.echo(printable(text, keep="\n"), err=err)


def show(content: Group) -> None:
    """Prints tables and lines: with colour on a terminal that has it, else as plain text."""
    from rich.console import Console

    from optuna_peppp.report.text import plain

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(content)
    else:
        echo(plain(content))


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns what a user can mend into one sentence instead of a traceback."""
    try:
        yield
    except BrokenPipeError:  # who reads what is printed has seen enough
        raise
    except (ValueError, OSError, MemoryError) as error:
        lack = "not enough memory: " if isinstance(error, MemoryError) else ""
        echo(f"Error: {lack}{printable(str(error))}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def clear_warnings() -> Iterator[None]:
    """Shows every warning of this library as a line, without its place, and no other library's.

    What their logs and warnings tell is for programmers; what fails is told by the command itself.
    """

    def shown(message: Warning | str, *_: object, **__: object) -> None:
        tqdm.write(f"Warning: {printable(str(message))}", file=sys.stderr)

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=UserWarning, module=r"optuna_peppp\.")
            warnings.showwarning = shown
            yield
    finally:
        logging.disable(disabled)
