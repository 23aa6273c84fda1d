"""Memory where a space tunes more than formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.lowprecision import memory_vector

FORMATS = {"format_a": ["1-4-3"], "format_b": ["1-6-9"]}
"""8 and 16 bits."""


def bytes_of(width: int, batch: int) -> int:
    """A linear layer: weights in A, gradients, momentum and accumulators in B; the saved input."""
    parameters = 3 * width + width
    return parameters * (1 + 3 * 2) + 3 * batch


def test_every_width_has_its_memory() -> None:
    space = ConfigurationSpace({**FORMATS, "width": [4, 8, 16]})
    model = lambda params: nn.Linear(3, params["width"])  # noqa: E731
    memory = memory_vector(space, model, (3,), 5)
    assert memory.tolist() == [bytes_of(width, 5) for width in (4, 8, 16)]


def test_a_name_that_one_network_cannot_know_is_refused() -> None:
    space = ConfigurationSpace({**FORMATS, "width": [4, 8], "learning_rate": [0.1, 0.01]})
    with pytest.raises(ValueError, match=r"^model must be a function .* tunes width, which one"):
        memory_vector(space, nn.Linear(3, 4), (3,), 5)
    constant = memory_vector(space, lambda _: nn.Linear(3, 4), (3,), 5)
    assert constant.tolist() == [bytes_of(4, 5)] * 4


def test_every_batch_size_has_its_memory() -> None:
    space = ConfigurationSpace({**FORMATS, "batch_size": [2, 7], "momentum": [0.0, 0.9]})
    memory = memory_vector(space, nn.Linear(3, 4), (3,))
    assert memory.tolist() == [bytes_of(4, size) for size in (2, 2, 7, 7)]
    of_inputs = memory_vector(
        space, nn.Linear(3, 4), inputs=lambda params: torch.zeros(params["batch_size"], 3)
    )
    np.testing.assert_array_equal(of_inputs, memory)
    with pytest.raises(ValueError, match="inputs must be a function of the parameters where"):
        memory_vector(space, nn.Linear(3, 4), inputs=torch.zeros(2, 3))


class Nested(nn.Module):
    """Words and numbers, in a structure."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, width)

    def forward(self, tokens: Tensor, more: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        low, high = more["bounds"]
        embedded: Tensor = self.embedding(tokens)
        return embedded * low + high


def test_inputs_of_any_structure() -> None:
    space = ConfigurationSpace({**FORMATS, "width": [2, 6]})
    bounds = torch.zeros(1), torch.zeros(1)
    inputs = torch.zeros(4, 5, dtype=torch.long), {"bounds": bounds}
    memory = memory_vector(space, lambda params: Nested(int(params["width"])), inputs=inputs)
    # The product saves `low` for the gradient of what is embedded; ids are no floats.
    assert memory.tolist() == [9 * width * (1 + 3 * 2) + 1 for width in (2, 6)]
