"""``memory``: what every configuration of a network needs."""

from __future__ import annotations

from typing import Annotated

import typer

from optuna_peppp.cli.app import app
from optuna_peppp.cli.checks import check_network
from optuna_peppp.cli.options import (
    BatchSize,
    Depth,
    NetworkOption,
    OptimizerOption,
    SitesOption,
    Space,
    Width,
    choice,
    integer,
    listed,
)
from optuna_peppp.cli.output import clear_errors, echo
from optuna_peppp.configurations.architecture import usual_optimizer
from optuna_peppp.configurations.named_spaces import named_space
from optuna_peppp.configurations.names import ACCOUNTINGS, Accounting
from optuna_peppp.configurations.plugins import load_plugin

_PARTS = ("weights", "activations", "optimizer", "gradients", "states", "master", "total")
"""What a row names after the configuration; three parts of the optimizer stand after it."""


@app.command(
    epilog="Examples: `optuna-peppp memory --network resnet18 --image-size 32 --classes 10` | "
    "`optuna-peppp memory --space hardware --optimizer adamw`"
)
def memory(
    network: NetworkOption = "plain3",
    width: Width = None,
    depth: Depth = None,
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
    data: Annotated[
        str | None,
        typer.Option(
            help="Your own, in place of these sizes: package.module:function, called without "
            "arguments, which returns an ImageData, a TextData or one batch of example inputs of "
            "any structure.",
            show_default="images of the sizes given, or texts of 64 bytes for gpt",
        ),
    ] = None,
    batch_size: BatchSize = 32,
    space: Space = "paper",
    optimizer: OptimizerOption = None,
    accounting: Annotated[
        Accounting,
        typer.Option(
            parser=choice("accounting", ACCOUNTINGS),
            metavar=listed(ACCOUNTINGS),
            help="What counts: see `training_memory`.",
        ),
    ] = "saved-tensors",
    sites: SitesOption = "modules",
) -> None:
    """Print the computed memory of every configuration of a network, as CSV in bytes.

    Columns are the configuration's choices and the parts of its memory: weights, activations and
    optimizer, whose weight gradients, states and master weights are the three after it; total.
    Where a choice has the name of a part, its column ends in `_choice`.
    """
    with clear_errors():
        check_network(network, width, depth)
        if data is not None:
            load_plugin("data", data)

        from optuna_peppp.lowprecision.memory.spaces import usages
        from optuna_peppp.lowprecision.training.own import counted

        shape = (channels, image_size, image_size)
        model, input_shape, inputs = counted(network, data, classes, shape, width, depth)
        tuned = named_space(space or "paper")
        rows = usages(
            tuned,
            model,
            input_shape,
            batch_size if inputs is None else None,
            accounting,
            inputs=inputs,
            optimizer=optimizer or usual_optimizer(network),
            sites=sites,
        )
        names = [f"{name}_choice" if name in _PARTS else name for name in tuned.names]
        lines = [",".join((*names, *_PARTS))]
        for index, usage in enumerate(rows):
            parts = (getattr(usage, part) for part in _PARTS)
            lines.append(",".join(map(str, (*tuned.params(index).values(), *parts))))
        echo("\n".join(lines))
