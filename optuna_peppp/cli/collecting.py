"""``collect``: measurements of many configurations into a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.options import (
    DATA_HELP,
    BatchSize,
    Device,
    Epochs,
    Fraction,
    ImageSize,
    NetworkOption,
    RoundingOption,
    SchemeOption,
    Seed,
    Threads,
    check_data,
    in_a_folder,
    integer,
    number,
)
from optuna_peppp.cli.output import INTERRUPTED, clear_errors, clear_warnings, echo
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B, Precision
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
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            help="A configuration FORMAT_A/FORMAT_B, such as 1-4-3/1-6-7; give several.",
            show_default="the paper's 99",
        ),
    ] = None,
    learning_rate: _Learning = [0.001],  # noqa: B006 (typer copies it)
    epochs: Epochs = 6,
    batch_size: BatchSize = 32,
    rounding: RoundingOption = "stochastic",
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

        from optuna_peppp.collecting.corpus_file import export as write
        from optuna_peppp.collecting.planning import plan
        from optuna_peppp.collecting.workers import collect as run
        from optuna_peppp.lowprecision import Experiment
        from optuna_peppp.studies.credentials import shown
        from optuna_peppp.threads import chosen_threads

        space = ConfigurationSpace(
            {"format_a": FORMATS_A, "format_b": FORMATS_B, "learning_rate": learning_rate}
        )
        experiments = [
            Experiment(
                data=name,
                network=network,
                image_size=image_size,
                epochs=epochs,
                batch_size=batch_size,
                rounding=rounding,
                seed=seed,
                device=device,
            )
            for name in data
        ]
        measurements = plan(
            experiments,
            space,
            _indices(space, configuration),
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


def _indices(space: ConfigurationSpace, configurations: list[str] | None) -> list[int]:
    """The chosen format pairs at every other choice of the space."""
    if configurations is None:
        return list(range(len(space)))
    precisions = []
    for text in configurations:
        format_a, slash, format_b = text.partition("/")
        if not slash:
            raise ValueError(
                f"a configuration must be FORMAT_A/FORMAT_B, such as 1-4-3/1-6-7; got {text!r}"
            )
        precisions.append(Precision.parse(format_a, format_b))
    every = range(len(space))
    unknown = set(precisions) - {space.precision(index) for index in every}
    if unknown:
        raise ValueError(
            f"configurations must pair a format of Table 3 with one of Table 4; got "
            f"{', '.join(map(str, unknown))}"
        )
    return [index for index in every if space.precision(index) in precisions]
