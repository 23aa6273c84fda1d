"""``tune`` and ``recommend``: one task, from its trainings to its frontier."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.checks import check_data, check_network, check_size, check_train
from optuna_peppp.cli.conclusion import next_step, report, write_report
from optuna_peppp.cli.options import (
    BatchSize,
    Data,
    Depth,
    Device,
    Epochs,
    ImageSize,
    Json,
    MemoryCap,
    Momentum,
    NetworkOption,
    OptimizerOption,
    Packed,
    Rank,
    Report,
    RoundingOption,
    ScheduleOption,
    Seed,
    SitesOption,
    Space,
    Storage,
    StrategyOption,
    StudyName,
    Threads,
    TrainOption,
    WeightDecay,
    Width,
    integer,
    number,
)
from optuna_peppp.cli.output import INTERRUPTED, clear_errors, clear_warnings, echo
from optuna_peppp.configurations.architecture import usual_optimizer

if TYPE_CHECKING:
    pass


@app.command(
    epilog="Examples: `optuna-peppp tune` | `optuna-peppp tune --data cifar100:flowers "
    "--memory-cap 2.8MB` | `optuna-peppp tune --data npz:pathmnist.npz --network resnet18 "
    "--storage sqlite:///tune.db --trials 12` | `optuna-peppp tune --meta learned.npz`"
)
def tune(
    data: Data = "digits",
    network: NetworkOption = "plain3",
    width: Width = None,
    depth: Depth = None,
    trials: Annotated[
        int,
        typer.Option(
            parser=integer(1),
            metavar="INTEGER",
            help="Measurements in all, those of earlier runs included.",
        ),
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
    space: Space = None,
    strategy: StrategyOption = "bayesian",
    storage: Storage = None,
    study_name: StudyName = "tune",
    epochs: Epochs = 6,
    learning_rate: Annotated[
        float, typer.Option(parser=number, metavar="FLOAT", help="Step size.")
    ] = 0.001,
    batch_size: BatchSize = 32,
    optimizer: OptimizerOption = None,
    momentum: Momentum = 0.9,
    weight_decay: WeightDecay = 5e-4,
    schedule: ScheduleOption = "constant",
    train: TrainOption = None,
    rounding: RoundingOption = "stochastic",
    sites: SitesOption = "modules",
    packed: Packed = False,
    image_size: ImageSize = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline/--no-baseline", help="Train once in float32 too, at last, to compare with."
        ),
    ] = True,
    json_file: Json = None,
    page: Report = None,
) -> None:
    """Find the error-memory frontier of a data set with a few trainings.

    Learns from past tasks which configurations tell most about the others, trains the network
    with those, predicts the rest, and recommends one. With --storage an interrupted run goes on
    where it stopped.
    """
    with clear_errors(), clear_warnings():
        check_data(data)
        check_network(network, width, depth, data)
        check_train(train)
        check_size("--memory-cap", memory_cap)
        check_size("--measurement-cap", measurement_cap)

        from optuna_peppp.studies.memo import SHIPPED, Source

        source = Source.named(corpus, rank, meta, space)
        past = source.read()
        if storage is not None:
            from optuna_peppp.studies.storage import file_of

            file_of(storage)
        echo(
            f"Tuning {network} on {data}: {trials} trainings of {epochs} epoch"
            f"{'s' * (epochs > 1)} in low precision{', 1 in float32' if baseline else ''}.\n"
            + (
                f"Of {source}, {len(past.space)} configurations, without past tasks"
                f"{f': --corpus {SHIPPED[space]} has some' if space in SHIPPED else ''}."
                if space
                else f"Learning from {source} ({len(past.tasks)} tasks)."
            ),
            err=True,
        )
        from optuna_peppp.lowprecision import Experiment
        from optuna_peppp.lowprecision.training.devices import use_threads
        from optuna_peppp.lowprecision.training.layers import layers_of
        from optuna_peppp.studies.tuning import TrainingsFailed, Tuning
        from optuna_peppp.threads import chosen_threads

        use_threads(chosen_threads(threads))
        experiment = Experiment(
            data=data,
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
            learning_rate=learning_rate,
            rounding=rounding,
            sites=sites,
            packed=packed,
            seed=seed,
            device=device,
        )
        tuning = Tuning.start(
            experiment,
            corpus=corpus,
            rank=rank,
            meta=meta,
            space=space,
            storage=storage,
            study_name=study_name,
        )
        # A cap that no configuration meets is refused before anything is trained.
        tuning.predict().recommend(memory_cap)

        told = {
            **experiment.settings(),
            "device": device,
            "learned_from": None if space else str(source),
            "rank": rank,
            "strategy": strategy,
            "trials": trials,
            "measurement_cap": measurement_cap,
        }

        def conclude() -> None:
            """Tells what the measurements tell, in every form that was asked for."""
            prediction = tuning.predict()
            layers = layers_of(experiment, prediction.recommend(memory_cap).params)
            more = partial(write_report, page, tuning, prediction, told, memory_cap, layers)
            report(prediction, tuning.baseline, memory_cap, json_file, more, layers=layers)
            echo(next_step(prediction, storage, study_name), err=True)

        try:
            tuning.run(
                experiment,
                trials,
                strategy=strategy,
                measurement_cap=measurement_cap,
                seed=seed,
                baseline=baseline,
            )
        except KeyboardInterrupt:
            again = "run the same command to go on" if storage else "use --storage to go on later"
            echo(f"Interrupted, {again}. What the measurements tell so far:", err=True)
            conclude()
            raise typer.Exit(INTERRUPTED) from None
        except TrainingsFailed as problem:
            echo(f"Error: {problem}. What the measurements tell so far:", err=True)
            conclude()
            raise typer.Exit(1) from None
        conclude()
