"""What the options of several commands have in common: how they are read, checked and explained."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Final, get_args

import typer

from optuna_peppp.choices import Scheme, Strategy, check_choice
from optuna_peppp.configurations.names import (
    NETWORKS,
    OPTIMIZER_NAMES,
    ROUNDINGS,
    SCHEDULES,
    SITES,
    OptimizerName,
    Rounding,
    Schedule,
    Sites,
)
from optuna_peppp.numerals import parse_integer, parse_number

_EFFECTIVE: Final = os.access in os.supports_effective_ids


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


def choice(argument: str, choices: Sequence[str]) -> Callable[[str], str]:
    """A parser of one of a few words, which names the nearest to another."""

    def parse(text: str) -> str:
        try:
            check_choice(argument, text, choices)
        except ValueError as problem:
            raise typer.BadParameter(str(problem)) from problem
        return text

    return parse


def listed(choices: Sequence[str]) -> str:
    """Choices as a usage line has them."""
    return f"[{'|'.join(choices)}]"


DATA_HELP = (
    "digits, cifar10, cifar100, cifar100:SUPERCLASS (such as cifar100:flowers), npz:FILE "
    "(MedMNIST layout), folder:DIRECTORY (a folder of images per class), text:FILE-OR-FOLDER or "
    "python:TEXT (bytes, for gpt, which tells the next one), or your own: "
    "package.module:function, called without arguments, which returns an ImageData or TextData."
)
Data = Annotated[str, typer.Option(help=DATA_HELP)]
NetworkOption = Annotated[
    str,
    typer.Option(
        metavar="NETWORK",
        help=f"{', '.join(NETWORKS)}, or your own: package.module:function of the data, which "
        "returns an nn.Module.",
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        parser=integer(1),
        metavar="INTEGER",
        help="Numbers a token of vit or gpt, a multiple of 16.",
        show_default="64",
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        parser=integer(1),
        metavar="INTEGER",
        help="Blocks of vit or gpt.",
        show_default="2",
    ),
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
    int,
    typer.Option(parser=integer(1), metavar="INTEGER", help="Images, or texts, a step."),
]
Epochs = Annotated[
    int, typer.Option(parser=integer(1), metavar="INTEGER", help="Passes over what is trained on.")
]
RoundingOption = Annotated[
    Rounding,
    typer.Option(
        parser=choice("rounding", ROUNDINGS),
        metavar=listed(ROUNDINGS),
        help="How numbers are rounded.",
    ),
]
SitesOption = Annotated[
    Sites,
    typer.Option(
        parser=choice("sites", SITES),
        metavar=listed(SITES),
        help="Whose outputs are rounded: those of modules, or also of functions between them.",
    ),
]
Packed = Annotated[
    bool,
    typer.Option(
        "--packed", help="Hold what forward passes save in its formats: less memory, more time."
    ),
]
OptimizerOption = Annotated[
    OptimizerName | None,
    typer.Option(
        parser=choice("optimizer", OPTIMIZER_NAMES),
        metavar=listed(OPTIMIZER_NAMES),
        help="The optimizer; of SGD, with momentum.",
        show_default="adamw for vit and gpt, else sgd",
    ),
]
ScheduleOption = Annotated[
    Schedule,
    typer.Option(
        parser=choice("schedule", SCHEDULES),
        metavar=listed(SCHEDULES),
        help="How the step size changes during a training.",
    ),
]
Momentum = Annotated[float, typer.Option(parser=number, metavar="FLOAT", help="Momentum of SGD.")]
WeightDecay = Annotated[float, typer.Option(parser=number, metavar="FLOAT", help="Weight decay.")]
TrainOption = Annotated[
    str | None,
    typer.Option(
        help="Your own training: package.module:function of params (settings and choices by name), "
        "recipe and seed, which returns the error, between 0 and 1. Then --data may return one "
        "batch of example inputs of any structure instead.",
        show_default="built in",
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        help="The configurations: the `paper`'s 99, 132 of `hardware`, or a JSON file of the "
        "choices of every name."
    ),
]
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
    typer.Option(
        parser=choice("scheme", get_args(Scheme)),
        metavar=listed(get_args(Scheme)),
        help="Sample all entries alike, or those that need little memory more often.",
    ),
]
StrategyOption = Annotated[
    Strategy,
    typer.Option(
        parser=choice("strategy", get_args(Strategy)),
        metavar=listed(get_args(Strategy)),
        help="How configurations to measure are chosen.",
    ),
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
Threads = Annotated[
    int | None,
    typer.Option(
        parser=integer(1),
        metavar="INTEGER",
        help="Threads to train with on the CPU, in every process.",
        show_default="OMP_NUM_THREADS, else as many as find an idle core",
    ),
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


def _can_be_drawn(path: Path | None) -> Path | None:
    """Refuses a page that could not be drawn or written, before anything is trained."""
    if path is not None:
        from optuna_peppp.visualization.drawing import require_plotly

        try:
            require_plotly()
        except ImportError as problem:
            raise typer.BadParameter(str(problem)) from problem
    return in_a_folder(path)


Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        dir_okay=False,
        callback=_can_be_drawn,
        help="Write one page of HTML with tables and figures here, to read without a network.",
    ),
]
