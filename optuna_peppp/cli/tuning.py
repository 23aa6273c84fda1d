"""``tune`` and ``recommend``: one task, from its trainings to its frontier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optuna_peppp.cli.app import (
    INTERRUPTED,
    BatchSize,
    Data,
    Device,
    Epochs,
    ImageSize,
    Json,
    MemoryCap,
    Network,
    Rank,
    Rounding,
    RoundingOption,
    Seed,
    Storage,
    Strategy,
    StudyName,
    app,
    clear_errors,
)

if TYPE_CHECKING:
    from optuna_peppp.prediction import Prediction


@app.command(
    epilog="Examples: `optuna-peppp tune` | `optuna-peppp tune --data cifar100:flowers "
    "--memory-cap 2.8MB` | `optuna-peppp tune --data npz:pathmnist.npz --network resnet18 "
    "--storage sqlite:///tune.db --trials 12` | `optuna-peppp tune --meta learned.npz`"
)
def tune(
    data: Data = "digits",
    network: Network = "plain3",
    trials: Annotated[
        int, typer.Option(min=1, help="Measurements in all, those of earlier runs included.")
    ] = 6,
    memory_cap: MemoryCap = None,
    measurement_cap: Annotated[
        str | None, typer.Option(help="Never run a training that needs more than this.")
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Past tasks to learn from: a corpus that ships, or a CSV file.",
            show_default="plain3-cifar100",
        ),
    ] = None,
    rank: Rank = None,
    meta: Annotated[
        str | None,
        typer.Option(help="A meta-model that `fit` wrote, instead of --corpus and --rank."),
    ] = None,
    strategy: Annotated[
        Strategy, typer.Option(help="How configurations to measure are chosen.")
    ] = Strategy.bayesian,
    storage: Storage = None,
    study_name: StudyName = "tune",
    epochs: Epochs = 6,
    learning_rate: Annotated[float, typer.Option(help="Step size.")] = 0.001,
    batch_size: BatchSize = 32,
    rounding: RoundingOption = Rounding.stochastic,
    image_size: ImageSize = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json_file: Json = None,
) -> None:
    """Find the error-memory frontier of a data set with a few trainings.

    Learns from past tasks which configurations tell most about the others, trains the network
    with those, predicts the rest, and recommends one. With --storage an interrupted run goes on
    where it stopped.
    """
    with clear_errors():
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
            experiment,
            corpus=corpus,
            rank=rank,
            meta=meta,
            storage=storage,
            study_name=study_name,
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
            raise typer.Exit(INTERRUPTED) from None
        _report(tuning.predict(), memory_cap, json_file)


@app.command(
    epilog="Example: `optuna-peppp recommend --storage sqlite:///tune.db --memory-cap 2.8MB`"
)
def recommend(
    storage: Annotated[str, typer.Option(help="Where `tune` kept the study.")],
    study_name: StudyName = "tune",
    memory_cap: MemoryCap = None,
    json_file: Json = None,
) -> None:
    """Print the frontier and the recommendation of a study that `tune` stored. Trains nothing."""
    with clear_errors():
        from optuna_peppp.tuning import Tuning

        _report(Tuning.load(storage, study_name).predict(), memory_cap, json_file)


def _report(prediction: Prediction, memory_cap: str | None, json_file: Path | None) -> None:
    """Prints the prediction and the recommendation, and writes them as JSON."""
    from optuna_peppp.report import as_json, as_text

    recommendation = prediction.recommend(memory_cap)
    typer.echo(as_text(prediction, recommendation, memory_cap))
    if json_file is not None:
        json_file.write_text(as_json(prediction, recommendation))
