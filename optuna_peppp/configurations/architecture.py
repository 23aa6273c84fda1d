"""What of networks is chosen besides their names, and which data they take."""

from __future__ import annotations

from numbers import Integral
from typing import Final

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.data import is_own, is_text
from optuna_peppp.configurations.names import NETWORKS, Network, OptimizerName
from optuna_peppp.configurations.plugins import is_plugin

TRANSFORMERS: Final[tuple[Network, ...]] = ("vit", "gpt")
"""Networks of any width and depth."""

HEAD: Final = 16
"""Numbers that one head of attention reads: widths are multiples of it."""


def check_architecture(network: str, width: int | None, depth: int | None) -> None:
    """Refuses a width or depth that a network cannot have; None is its own.

    Raises:
        ValueError: There is no such network, it has one size only, or none of this.
    """
    if not is_plugin(network):
        check_choice("network", network, NETWORKS)
    for name, value, unit in (("width", width, HEAD), ("depth", depth, 1)):
        if value is None:
            continue
        if network not in TRANSFORMERS:
            raise ValueError(
                f"{name} must be left out with network {network}; "
                f"{' and '.join(TRANSFORMERS)} have one"
            )
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1 or value % unit:
            expected = f"a multiple of {unit}" if unit > 1 else "a whole number of at least 1"
            raise ValueError(f"{name} of {network} must be {expected}; got {value!r}")


def check_pair(network: str, data: str) -> None:
    """Refuses data of another kind than a network takes, as far as names tell.

    Raises:
        ValueError: A text with a network for images, or images with one for texts.
    """
    if is_plugin(network) or is_own(data):
        return
    if is_text(data) and network != "gpt":
        raise ValueError(f"network {network} takes images, and data {data} is a text: use gpt")
    if not is_text(data) and network == "gpt":
        raise ValueError(
            f"network gpt takes texts, and data {data} is of images: give text:FILE-OR-FOLDER, or "
            "another network"
        )


def usual_optimizer(network: str) -> OptimizerName:
    """The optimizer that a network is trained with unless another is named."""
    return "adamw" if network in TRANSFORMERS else "sgd"
