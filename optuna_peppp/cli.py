"""The command ``optuna-peppp``: parses, calls the library, prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from optuna_peppp.formats import FORMATS_A, FORMATS_B, Precision
from optuna_peppp.space import ConfigurationSpace

if TYPE_CHECKING:
    from optuna_peppp.prediction import Prediction

app = typer.Typer(
    help="Pick the perfect precision: find the error-memory frontier of low-precision training "
    "with a handful of trainings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


_INTERRUPTED: Final = 130
"""Exit code of a command that Ctrl-C ended."""


class _Rounding(StrEnum):
    nearest = "nearest"
    stochastic = "stochastic"


class _Accounting(StrEnum):
    saved_tensors = "saved-tensors"
    paper = "paper"


class _Strategy(StrEnum):
    ed_mf = "ed-mf"
    qr_mf = "qr-mf"
    random_mf = "random-mf"


def _in_a_folder(path: Path | None) -> Path | None:
    """Refuses a file that could not be written, before anything is trained."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


_DATA_HELP = (
    "digits, cifar10, cifar100, cifar100:SUPERCLASS (such as cifar100:flowers), npz:FILE "
    "(MedMNIST layout) or folder:DIRECTORY (a folder of images per class)."
)
_Data = Annotated[str, typer.Option(help=_DATA_HELP)]
_Network = Annotated[
    str, typer.Option(help="plain3, resnet18, resnet34, vgg11, vgg13, vgg16 or vgg19.")
]
_ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Resize images to this many pixels.", show_default="16 for plain3, else their own"
    ),
]
_BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
_Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training images.")]
_RoundingOption = Annotated[_Rounding, typer.Option(help="How numbers are rounded.")]
_Seed = Annotated[int, typer.Option(help="Seed of weights, order of images and rounding.")]
_Device = Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1, ...")]
_Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the study is kept, to resume it or to share it between workers: a database "
        "URL such as sqlite:///tune.db, or a journal file such as tune.journal.",
        show_default="in memory",
    ),
]
_StudyName = Annotated[str, typer.Option(help="Name of the study in the storage.")]
_MemoryCap = Annotated[
    str | None,
    typer.Option(help="Recommend a configuration that fits into this, such as 2.5MB or 1.5GiB."),
]
_Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        dir_okay=False,
        callback=_in_a_folder,
        help="Write all configurations, frontier and recommendation here too.",
    ),
]
_Learning = Annotated[
    list[float],
    typer.Option(help="Step size; give several to measure each.", show_default="0.001"),
]


@app.command(
    epilog="Examples: `optuna-peppp tune` | `optuna-peppp tune --data cifar100:flowers "
    "--memory-cap 2.8MB` | `optuna-peppp tune --data npz:pathmnist.npz --network resnet18 "
    "--storage sqlite:///tune.db --trials 12`"
)
def tune(
    data: _Data = "digits",
    network: _Network = "plain3",
    trials: Annotated[
        int, typer.Option(min=1, help="Measurements in all, those of earlier runs included.")
    ] = 6,
    memory_cap: _MemoryCap = None,
    measurement_cap: Annotated[
        str | None, typer.Option(help="Never run a training that needs more than this.")
    ] = None,
    corpus: Annotated[
        str,
        typer.Option(help="Past tasks to learn from: a corpus that ships, or a CSV file."),
    ] = "plain3-cifar100",
    rank: Annotated[
        int | None, typer.Option(help="Rank of the meta-model.", show_default="3")
    ] = None,
    strategy: Annotated[
        _Strategy, typer.Option(help="How configurations to measure are chosen.")
    ] = _Strategy.ed_mf,
    storage: _Storage = None,
    study_name: _StudyName = "tune",
    epochs: _Epochs = 6,
    learning_rate: Annotated[float, typer.Option(help="Step size.")] = 0.001,
    batch_size: _BatchSize = 32,
    rounding: _RoundingOption = _Rounding.stochastic,
    image_size: _ImageSize = None,
    seed: _Seed = 0,
    device: _Device = "cpu",
    json_file: _Json = None,
) -> None:
    """Find the error-memory frontier of a data set with a few trainings.

    Learns from past tasks which configurations tell most about the others, trains the network
    with those, predicts the rest, and recommends one. With --storage an interrupted run goes on
    where it stopped.
    """
    with _clear_errors():
        import optuna

        from optuna_peppp.lowprecision import Experiment
        from optuna_peppp.tuning import Tuning

        # A trial that fails ends the command, which says why.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        experiment = Experiment(
            data=data,
            network=network,
            image_size=image_size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            rounding=rounding.value,
            seed=seed,
            device=device,
        )
        tuning = Tuning.start(
            experiment, corpus=corpus, rank=rank, storage=storage, study_name=study_name
        )
        # A cap that no configuration meets is refused before anything is trained.
        tuning.predict().recommend(memory_cap)
        try:
            tuning.run(
                experiment,
                trials,
                strategy=strategy.value,
                measurement_cap=measurement_cap,
                seed=seed,
            )
        except KeyboardInterrupt:
            again = "run the same command to go on" if storage else "use --storage to go on later"
            typer.echo(f"Interrupted, {again}. What the measurements tell so far:", err=True)
            _report(tuning.predict(), memory_cap, json_file)
            raise typer.Exit(_INTERRUPTED) from None
        _report(tuning.predict(), memory_cap, json_file)


@app.command(
    epilog="Example: `optuna-peppp recommend --storage sqlite:///tune.db --memory-cap 2.8MB`"
)
def recommend(
    storage: Annotated[str, typer.Option(help="Where `tune` kept the study.")],
    study_name: _StudyName = "tune",
    memory_cap: _MemoryCap = None,
    json_file: _Json = None,
) -> None:
    """Print the frontier and the recommendation of a study that `tune` stored. Trains nothing."""
    with _clear_errors():
        from optuna_peppp.tuning import Tuning

        _report(Tuning.load(storage, study_name).predict(), memory_cap, json_file)


@app.command(
    epilog="Examples: `optuna-peppp collect cifar100:flowers cifar100:fish --output corpus.csv "
    "--jobs 2` | `optuna-peppp collect digits --configuration 1-4-3/1-6-7 --output corpus.csv`"
)
def collect(
    data: Annotated[list[str], typer.Argument(help=f"Data sets: {_DATA_HELP}")],
    output: Annotated[Path, typer.Option(help="The CSV file to create or extend.")],
    network: _Network = "plain3",
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            help="A configuration FORMAT_A/FORMAT_B, such as 1-4-3/1-6-7; give several.",
            show_default="the paper's 99",
        ),
    ] = None,
    learning_rate: _Learning = [0.001],  # noqa: B006 (typer copies it)
    epochs: _Epochs = 6,
    batch_size: _BatchSize = 32,
    rounding: _RoundingOption = _Rounding.stochastic,
    image_size: _ImageSize = None,
    seed: _Seed = 0,
    device: _Device = "cpu",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that measure side by side.")] = 1,
) -> None:
    """Measure configurations on data sets into a corpus, to learn from.

    A row is on disk as soon as it is measured: interrupt at any time, and the same command goes
    on where it stopped.
    """
    with _clear_errors():
        from optuna_peppp.collect import collect as run
        from optuna_peppp.collect import plan
        from optuna_peppp.lowprecision import Experiment

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
                rounding=rounding.value,
                seed=seed,
                device=device,
            )
            for name in data
        ]
        measurements = plan(experiments, space, _indices(space, configuration))
        try:
            made = run(measurements, output, jobs=jobs)
        except KeyboardInterrupt:
            typer.echo(f"Interrupted; run the same command to go on from {output}.", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        typer.echo(f"{output}: {len(measurements)} measurements, {made} of them made now.")


@app.command(
    epilog="Example: `optuna-peppp memory --network resnet18 --image-size 32 --classes 10`"
)
def memory(
    network: _Network = "plain3",
    image_size: Annotated[int, typer.Option(min=1, help="Height and width of an image.")] = 16,
    channels: Annotated[int, typer.Option(min=1, help="Channels of an image.")] = 3,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 10,
    batch_size: _BatchSize = 32,
    accounting: Annotated[
        _Accounting, typer.Option(help="What counts: see `training_memory`.")
    ] = _Accounting.saved_tensors,
) -> None:
    """Print the computed memory of every configuration of a network, as CSV in bytes."""
    with _clear_errors():
        from optuna_peppp.lowprecision import build_model, training_memory

        shape = (channels, image_size, image_size)
        model = build_model(network, classes, shape)
        space = ConfigurationSpace.paper()
        lines = ["format_a,format_b,weights,activations,optimizer,total"]
        for index in range(len(space)):
            precision = space.precision(index)
            usage = training_memory(model, shape, batch_size, precision, accounting.value)
            lines.append(
                f"{precision.format_a},{precision.format_b},{usage.weights},{usage.activations},"
                f"{usage.optimizer},{usage.total}"
            )
        typer.echo("\n".join(lines))


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


def _report(prediction: Prediction, memory_cap: str | None, json_file: Path | None) -> None:
    """Prints the prediction and the recommendation, and writes them as JSON."""
    from optuna_peppp.report import as_json, as_text

    recommendation = prediction.recommend(memory_cap)
    typer.echo(as_text(prediction, recommendation, memory_cap))
    if json_file is not None:
        json_file.write_text(as_json(prediction, recommendation))


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turns what a user can mend into one sentence instead of a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
