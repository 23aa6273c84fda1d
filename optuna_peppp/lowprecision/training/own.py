"""What functions of the user's own return for an experiment, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor, nn

from optuna_peppp.configurations.names import Network
from optuna_peppp.configurations.plugins import call_plugin, is_plugin, load_plugin
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision.datasets.loading import ImageData
from optuna_peppp.lowprecision.datasets.text import CONTEXT, TextData
from optuna_peppp.lowprecision.networks import build_model


def own_data(name: str, image_size: int | None, *, examples: bool) -> ImageData | TextData | Any:
    """The data set of a function ``data()``.

    Args:
        name: Of the function.
        image_size: What it cannot heed.
        examples: Whether it may be one batch of example inputs.

    Raises:
        ValueError: It raises, or returns something else; or ``image_size`` is given.
    """
    if image_size is not None:
        raise ValueError(f"image_size must be left out with data {name}, which sizes its images")
    data = call_plugin("data", name)
    if data is None or not (examples or isinstance(data, ImageData | TextData)):
        raise ValueError(
            f"data {name} must return an ImageData or TextData of optuna_peppp.lowprecision or, "
            f"beside a train of your own, one batch of example inputs; got {type(data).__name__}"
        )
    return data


def own_network(name: str, data: ImageData | TextData | Any, *, logits: bool) -> nn.Module:
    """The network of a function ``network(data)``.

    Args:
        name: Of the function.
        data: The data set.
        logits: Whether it must classify images, or bytes: it runs once on two inputs.

    Raises:
        ValueError: It raises, returns something else, or cannot classify.
    """
    network = call_plugin("network", name, data)
    if not isinstance(network, nn.Module):
        raise ValueError(f"network {name} must return a torch.nn.Module; got {network!r}")
    if logits:
        _check_logits(name, network, data)
    return network


def network_of(
    name: str,
    data: ImageData | TextData | Any,
    *,
    logits: bool,
    width: int | None = None,
    depth: int | None = None,
) -> nn.Module:
    """The network of a name, built in or the user's own, for a data set.

    Raises:
        ValueError: As ``build_model`` and :func:`own_network`, or it takes other data.
    """
    if is_plugin(name):
        return own_network(name, data, logits=logits)
    if not isinstance(data, TextData if name == "gpt" else ImageData):
        kind = "texts" if name == "gpt" else "images"
        raise ValueError(
            f"network {name} takes {kind}, not {type(data).__name__}; beside such data name a "
            "network of your own, package.module:function"
        )
    classes, shape = data.num_classes, data.input_shape
    return build_model(cast(Network, name), classes, shape, width=width, depth=depth)


def counted(
    network: str,
    data: str | None,
    classes: int,
    shape: tuple[int, int, int],
    width: int | None,
    depth: int | None,
) -> tuple[nn.Module, tuple[int, ...] | None, Any]:
    """The network whose memory is counted, the shape of its inputs, or a batch of examples.

    Args:
        network: Built in or the user's own.
        data: A function of the user's own, or None for images of the sizes that follow or, of
            ``gpt``, a text.
        classes: Number of classes.
        shape: (channels, height, width) of an image.
        width: Of the network, None for its own.
        depth: Likewise.

    Raises:
        ValueError: As :func:`own_data` and :func:`network_of`.
    """
    if data is None and network == "gpt":
        text = torch.zeros(CONTEXT + 1, dtype=torch.uint8)
        source: Any = TextData("text", text, text)
    elif data is None:
        image, label = torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
        source = ImageData("images", image, label, image, label, classes)
    else:
        source = own_data(data, None, examples=True)
    built_in = isinstance(source, ImageData | TextData)
    model = network_of(network, source, logits=built_in, width=width, depth=depth)
    return (model, source.input_shape, None) if built_in else (model, None, source)


def own_error(name: str, params: Mapping[str, object], recipe: Recipe, seed: int) -> float:
    """The error that a function ``train(params, recipe, seed)`` returns.

    Raises:
        ValueError: It returns no error.
    """
    error = load_plugin("train", name)(dict(params), recipe, seed)
    if isinstance(error, Tensor) and error.numel() == 1:
        error = error.item()
    if not isinstance(error, Real) or not 0 <= float(error) <= 1:
        raise ValueError(
            f"train {name} must return the error, a number between 0 and 1 (of a training that "
            f"diverged, that of guessing); got {error!r}"
        )
    return float(error)


@torch.no_grad()
def _check_logits(name: str, network: nn.Module, data: ImageData | TextData) -> None:
    was_training = network.training
    if isinstance(data, ImageData):
        kind, form, inputs = "images", "(batch, classes)", data.train_images[:2].float() / 255
        expected: tuple[int, ...] = len(inputs), data.num_classes
    else:
        kind, form = "texts", "(batch, context, 256)"
        inputs = data.train_bytes[: data.context].long().repeat(2, 1)
        expected = 2, data.context, data.num_classes
    try:
        output = network.eval()(inputs)
    except Exception as problem:
        reason = (str(problem).strip().splitlines() or [""])[0]
        raise ValueError(
            f"network {name} must take {kind} of shape (batch, {str(data.input_shape)[1:]}; on "
            f"two it raises {type(problem).__name__}: {reason}"
        ) from problem
    finally:
        network.train(was_training)
    if not isinstance(output, Tensor) or output.shape != expected:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"network {name} must return logits {form}, {expected} of two {kind}; got {got}"
        )
