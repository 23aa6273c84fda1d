"""Every named choice of a training: one list each, read without torch."""

from __future__ import annotations

from typing import Final, Literal, get_args

Network = Literal[
    "plain3",
    "resnet20",
    "resnet18",
    "resnet34",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vit",
    "gpt",
]
"""The networks that :func:`~optuna_peppp.lowprecision.build_model` builds."""

OptimizerName = Literal["sgd", "adam", "adamw"]
"""The optimizers that have a low-precision form."""

Schedule = Literal["constant", "cosine", "onecycle"]
"""How the step size changes during a training."""

Rounding = Literal["nearest", "stochastic"]
"""How a number between two of a format becomes one of them."""

Backend = Literal["compiled", "eager", "qpytorch"]
"""What rounds: one compiled graph, plain PyTorch, or the kernels of QPyTorch."""

Accounting = Literal["saved-tensors", "paper", "assignment"]
"""What counts as memory."""

Sites = Literal["modules", "operators"]
"""Whose outputs are rounded: those of modules, or also those of functions between them."""

NETWORKS: Final[tuple[Network, ...]] = get_args(Network)
ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
ACCOUNTINGS: Final[tuple[Accounting, ...]] = get_args(Accounting)
OPTIMIZER_NAMES: Final[tuple[OptimizerName, ...]] = get_args(OptimizerName)
SITES: Final[tuple[Sites, ...]] = get_args(Sites)
SCHEDULES: Final[tuple[Schedule, ...]] = get_args(Schedule)

TUNABLE: Final = (
    "batch_size",
    "learning_rate",
    "momentum",
    "optimizer",
    "schedule",
    "weight_decay",
)
"""The settings that a configuration may choose besides its formats."""
