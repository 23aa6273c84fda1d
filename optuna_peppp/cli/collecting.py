"""``collect``: measurements of many configurations into a corpus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.checks import check_data, check_network, check_train
from optuna_peppp.cli.options import (
    DATA_HELP,
    BatchSize,
    Depth,
    Device,
    Epochs,
    Fraction,
    ImageSize,
    Momentum,
    NetworkOption,
    OptimizerOption,
    RoundingOption,
    ScheduleOption,
    SchemeOption,
    Seed,
    SitesOption,
    Space,
    Threads,
    TrainOption,
    WeightDecay,
    Width,
    in_a_folder,
    integer,
    number,
)
from optuna_peppp.cli.output import INTERRUPTED, clear_errors, clear_warnings, echo
from optuna_peppp.configurations.architecture import usual_optimizer
from optuna_peppp.configurations.hardware import FORMAT_NAMES, RECIPE_NAMES
from optuna_peppp.configurations.named_spaces import named_space
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.space import ConfigurationSpace

_Learning = Annotated[
    list[float],
    typer.Option(
        parser=number,
        metavar="FLOAT",
        help="Step size; give several to measure each.",
        show_default="0.001",
    ),
]


@app.command(
    epilog="Examples: `optuna-peppp collect cifar100:flowers cifar100:fish --storage all.journal "
    "--jobs 2 --export corpus.csv` | `optuna-peppp collect digits --configuration 1-4-3/1-6-7 "
    "--storage sqlite:///corpus.db` | `optuna-peppp collect cifar100:flowers cifar100:fish "
    "--fraction 0.2 --scheme memory --storage sampled.journal`"
)
def collect(
    data: Annotated[list[str], typer.Argument(help=f"Data sets: {DATA_HELP}")],
    storage: Annotated[
        str,
        typer.Option(
            help="Where the measurements are kept, a study for every data set: a journal file "
            "such as corpus.journal, a database URL such as sqlite:///corpus.db, a Redis server "
            "such as redis://host:6379/0, or Optuna's gRPC proxy such as grpc://host:13000."
        ),
    ],
    export: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            callback=in_a_folder,
            help="Write what the storage holds of these studies here, as a corpus CSV.",
        ),
    ] = None,
    network: NetworkOption = "plain3",
    width: Width = None,
    depth: Depth = None,
    space: Space = "paper",
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            help="A configuration FORMAT_A/FORMAT_B of the paper's, such as 1-4-3/1-6-7, or the "
            "choices of another space, such as mxfp4/float32/bfloat16; give several.",
            show_default="all of the space",
        ),
    ] = None,
    learning_rate: _Learning = [0.001],  # noqa: B006 (typer copies it)
    epochs: Epochs = 6,
    batch_size: BatchSize = 32,
    optimizer: OptimizerOption = None,
    momentum: Momentum = 0.9,
    weight_decay: WeightDecay = 5e-4,
    schedule: ScheduleOption = "constant",
    train: TrainOption = None,
    rounding: RoundingOption = "stochastic",
    sites: SitesOption = "modules",
    image_size: ImageSize = None,
    fraction: Fraction = None,
    scheme: SchemeOption = "uniform",
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    jobs: Annotated[
        int,
        typer.Option(
            parser=integer(1), metavar="INTEGER", help="Processes that measure side by side."
        ),
    ] = 1,
) -> None:
    """Measure configurations on data sets into a corpus, to learn from.

    Several commands on one storage, on one machine or many, share the work; each returns when all
    of it is done. What is measured is in the storage at once: interrupt at any time, and the same
    command goes on where it stopped. Learn from it with `fit --storage`, or from the --export.
    """
    with clear_errors(), clear_warnings():
        for name in data:
            check_data(name)
        check_network(network, width, depth, *data)
        check_train(train)

        from optuna_peppp.collecting.corpus_file import export as write
        from optuna_peppp.collecting.planning import plan
        from optuna_peppp.collecting.workers import collect as run
        from optuna_peppp.lowprecision import Experiment
        from optuna_peppp.studies.credentials import shown
        from optuna_peppp.threads import chosen_threads

        choices = named_space(space or "paper").choices
        rates = {} if "learning_rate" in choices else {"learning_rate": learning_rate}
        tuned = ConfigurationSpace({**choices, **rates})
        experiments = [
            Experiment(
                data=name,
                network=network,
                width=width,
                depth=depth,
                image_size=image_size,
                epochs=epochs,
                batch_size=batch_size,
                momentum=momentum,
                weight_decay=weight_decay,
                schedule=schedule,
                train=train,
                optimizer=optimizer or usual_optimizer(network),
                rounding=rounding,
                sites=sites,
                seed=seed,
                device=device,
            )
            for name in data
        ]
        measurements = plan(
            experiments,
            tuned,
            _indices(tuned, configuration),
            fraction=fraction,
            scheme=scheme,
            seed=seed,
        )
        try:
            made = run(measurements, storage, jobs=jobs, threads=chosen_threads(threads, jobs))
        except KeyboardInterrupt:
            echo("Interrupted; run the same command to go on.", err=True)
            if export is not None:
                echo(f"{export}: {write(measurements, storage, export)} measurements so far.")
            raise typer.Exit(INTERRUPTED) from None
        echo(f"{shown(storage)}: {len(measurements)} measurements, {made} of them made now.")
        if export is None:
            echo("The same command with --export corpus.csv writes them as a corpus CSV.")
        else:
            echo(f"{export}: {write(measurements, storage, export)} measurements.")


_SHARES: Final = ("demotion", "order", "promotion")
"""Choices of an assignment that are no formats."""


def _indices(space: ConfigurationSpace, configurations: list[str] | None) -> list[int]:
    """The chosen formats at every other choice of the space."""
    every = range(len(space))
    if configurations is None:
        return list(every)
    names = [name for name in space.names if name in RECIPE_NAMES]
    chosen = {_formats(text, names) for text in configurations}
    own = {index: _named(space, index, names) for index in every}
    unknown = chosen - {*own.values()}
    if unknown:
        tables = "pair a format of Table 3 with one of Table 4"
        expected = tables if names == [*FORMAT_NAMES] else f"choose {', '.join(names)} of the space"
        raise ValueError(
            f"configurations must {expected}; got {', '.join(map(' / '.join, unknown))}"
        )
    return [index for index in every if own[index] in chosen]


def _named(space: ConfigurationSpace, index: int, names: list[str]) -> tuple[str, ...]:
    params = space.params(index)
    return tuple(str(params[name]) for name in names)


def _formats(text: str, names: list[str]) -> tuple[str, ...]:
    """The formats of a configuration, each as its space spells it."""
    # A format may hold a slash, too: int4@256/minmax.
    parts = re.sub(r"/(?=minmax|saturate|rceil|unsigned)", "\0", text).split("/")
    if len(parts) != len(names):
        form = "/".join(map(str.upper, names))
        raise ValueError(f"a configuration must be {form}, such as 1-4-3/1-6-7; got {text!r}")
    if names == [*FORMAT_NAMES]:
        precision = Precision.parse(*parts)
        return str(precision.format_a), str(precision.format_b)
    return tuple(
        part if name in _SHARES else str(parse_format(part.replace("\0", "/")))
        for name, part in zip(names, parts, strict=True)
    )
