"""Ways that a module takes in evaluation only, past the submodules whose outputs are rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_fast_paths(module: nn.Module) -> Iterator[None]:
    """Keeps the transformer encoders of a module from nested tensors, which cannot be rounded.

    Their layers take no fast path while hooks are on them. The switch of PyTorch for all of this
    belongs to the process; this one to the encoder.
    """
    encoders = [
        submodule
        for submodule in module.modules()
        if isinstance(submodule, nn.TransformerEncoder) and submodule.use_nested_tensor
    ]
    for encoder in encoders:
        encoder.use_nested_tensor = False
    try:
        yield
    finally:
        for encoder in encoders:
            encoder.use_nested_tensor = True
