"""The application, and what its commands share: options and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

app = typer.Typer(
    help="Pick the perfect precision: find the error-memory frontier of low-precision training "
    "with a handful of trainings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

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
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


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
        help="Resize images to this many pixels.", show_default="16 for plain3, else their own"
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training images.")]
RoundingOption = Annotated[Rounding, typer.Option(help="How numbers are rounded.")]
Rank = Annotated[
    int | None,
    typer.Option(min=1, help="Rank of the meta-model.", show_default="by cross-validation"),
]
Fraction = Annotated[
    float | None,
    typer.Option(help="Sample this share of the entries to learn from.", show_default="all"),
]
SchemeOption = Annotated[
    Scheme,
    typer.Option(help="Sample all entries alike, or those that need little memory more often."),
]
Seed = Annotated[int, typer.Option(help="Seed of weights, order of images and rounding.")]
Device = Annotated[
    str,
    typer.Option(help="Where to train: cpu, cuda, cuda:1, ..., or auto: a GPU where there is one."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the study is kept, to resume it or to share it between workers: a database "
        "URL such as sqlite:///tune.db, or a journal file such as tune.journal.",
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


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns what a user can mend into one sentence instead of a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
