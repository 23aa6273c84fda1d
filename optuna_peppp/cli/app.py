"""The application, and what its commands share: options and errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Final

import typer

from optuna_peppp.numerals import parse_integer, parse_number
from optuna_peppp.text import printable

app = typer.Typer(
    help="Pick the perfect precision: find the error-memory frontier of low-precision training "
    "with a handful of trainings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_EFFECTIVE: Final = os.access in os.supports_effective_ids
INTERRUPTED: Final = 130
"""Exit code of a command that Ctrl-C ended."""


class Rounding(StrEnum):
    """How numbers are rounded."""

    nearest = "nearest"
    stochastic = "stochastic"


class Accounting(StrEnum):
    """What counts as memory."""

    saved_tensors = "saved-tensors"
    paper = "paper"


class Scheme(StrEnum):
    """How entries to measure are sampled."""

    uniform = "uniform"
    memory = "memory"


class Strategy(StrEnum):
    """How configurations to measure are chosen."""

    bayesian = "bayesian"
    ed_mf = "ed-mf"
    qr_mf = "qr-mf"
    random_mf = "random-mf"


def in_a_folder(path: Path | None) -> Path | None:
    """Refuses a file that could not be written, before anything is trained."""
    if path is None:
        return None
    folder = path.resolve().parent
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise typer.BadParameter(f"{path} is no file that can be replaced; name another")
    if path.exists() and not os.access(path, os.W_OK, effective_ids=_EFFECTIVE):
        raise typer.BadParameter(f"the file {path} may not be written; name another")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise typer.BadParameter(
            f"the folder {path.parent} cannot be written to ({problem.strerror}); name another"
        ) from problem
    return path


def integer(smallest: int | None = None) -> Callable[[str], int]:
    """A parser of integers in ASCII digits, of ``smallest`` at least."""

    def parse(text: str) -> int:
        try:
            number = parse_integer(str(text).strip())
        except ValueError as problem:
            raise typer.BadParameter(str(problem)) from problem
        if smallest is not None and number < smallest:
            raise typer.BadParameter(f"must be at least {smallest}; got {number}")
        return number

    return parse


def number(text: str) -> float:
    """A parser of finite numbers in ASCII digits."""
    try:
        return parse_number(str(text).strip())
    except ValueError as problem:
        raise typer.BadParameter(str(problem)) from problem


DATA_HELP = (
    "digits, cifar10, cifar100, cifar100:SUPERCLASS (such as cifar100:flowers), npz:FILE "
    "(MedMNIST layout) or folder:DIRECTORY (a folder of images per class)."
)
Data = Annotated[str, typer.Option(help=DATA_HELP)]
Network = Annotated[
    str, typer.Option(help="plain3, resnet20, resnet18, resnet34, vgg11, vgg13, vgg16 or vgg19.")
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        parser=integer(1),
        metavar="INTEGER",
        help="Resize images to this many pixels.",
        show_default="16 for plain3, else their own",
    ),
]
BatchSize = Annotated[
    int, typer.Option(parser=integer(1), metavar="INTEGER", help="Images a step.")
]
Epochs = Annotated[
    int, typer.Option(parser=integer(1), metavar="INTEGER", help="Passes over the training images.")
]
RoundingOption = Annotated[Rounding, typer.Option(help="How numbers are rounded.")]
Rank = Annotated[
    int | None,
    typer.Option(
        parser=integer(1),
        metavar="INTEGER",
        help="Rank of the meta-model.",
        show_default="by cross-validation",
    ),
]
Fraction = Annotated[
    float | None,
    typer.Option(
        parser=number,
        metavar="FLOAT",
        help="Sample this share of the entries to learn from.",
        show_default="all",
    ),
]
SchemeOption = Annotated[
    Scheme,
    typer.Option(help="Sample all entries alike, or those that need little memory more often."),
]
Seed = Annotated[
    int,
    typer.Option(
        parser=integer(), metavar="INTEGER", help="Seed of weights, order of images and rounding."
    ),
]
Device = Annotated[
    str,
    typer.Option(help="Where to train: cpu, cuda, cuda:1, ..., or auto: a GPU where there is one."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the study is kept, to resume it or to share it between workers: a database "
        "URL such as sqlite:///tune.db or postgresql://host/studies, redis://host:6379/0, "
        "grpc://host:13000, or a journal file such as tune.journal.",
        show_default="in memory",
    ),
]
StudyName = Annotated[str, typer.Option(help="Name of the study in the storage.")]
MemoryCap = Annotated[
    str | None,
    typer.Option(help="Recommend a configuration that fits into this, such as 2.5MB or 1.5GiB."),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        dir_okay=False,
        callback=in_a_folder,
        help="Write all configurations, frontier and recommendation here too.",
    ),
]


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines: whatever names they hold, a terminal shows them and obeys none."""
    typer.echo(printable(text, keep="\n"), err=err)


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
