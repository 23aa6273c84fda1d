"""``memory``: what every configuration of a network needs."""

from __future__ import annotations

from typing import Annotated

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.options import BatchSize, NetworkOption, choice, integer, listed
from optuna_peppp.cli.output import clear_errors, echo
from optuna_peppp.configurations.names import ACCOUNTINGS, Accounting
from optuna_peppp.configurations.space import ConfigurationSpace


@app.command(
    epilog="Example: `optuna-peppp memory --network resnet18 --image-size 32 --classes 10`"
)
def memory(
    network: NetworkOption = "plain3",
    image_size: Annotated[
        int,
        typer.Option(parser=integer(1), metavar="INTEGER", help="Height and width of an image."),
    ] = 16,
    channels: Annotated[
        int, typer.Option(parser=integer(1), metavar="INTEGER", help="Channels of an image.")
    ] = 3,
    classes: Annotated[
        int, typer.Option(parser=integer(2), metavar="INTEGER", help="Number of classes.")
    ] = 10,
    batch_size: BatchSize = 32,
    accounting: Annotated[
        Accounting,
        typer.Option(
            parser=choice("accounting", ACCOUNTINGS),
            metavar=listed(ACCOUNTINGS),
            help="What counts: see `training_memory`.",
        ),
    ] = "saved-tensors",
) -> None:
    """Print the computed memory of every configuration of a network, as CSV in bytes."""
    with clear_errors():
        from optuna_peppp.lowprecision import build_model
        from optuna_peppp.lowprecision.memory.accounting import count

        shape = (channels, image_size, image_size)
        model = build_model(network, classes, shape)
        counts = count(model, shape, batch_size, accounting)
        space = ConfigurationSpace.paper()
        lines = ["format_a,format_b,weights,activations,optimizer,total"]
        for index in range(len(space)):
            precision = space.precision(index)
            usage = counts.at(precision)
            lines.append(
                f"{precision.format_a},{precision.format_b},{usage.weights},{usage.activations},"
                f"{usage.optimizer},{usage.total}"
            )
        echo("\n".join(lines))
