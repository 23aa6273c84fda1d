"""Memory of recipes, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from optuna_peppp import ConfigurationSpace, Recipe, parse_format
from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.names import OptimizerName
from optuna_peppp.configurations.roles import Exemption, Kept, Role
from optuna_peppp.lowprecision import MemoryUsage, memory_vector, training_memory

BATCH = 32
WEIGHTS = 128 * 64 + 64 + 64 + 64 + 64 * 2 + 2
"""A layer of 128 to 64, a normalization of 64, a layer of 64 to 2."""

SAVED = BATCH * (128 + 64 + 64) + 2 * 64
"""The input, what is normalized, what is rectified; and the statistics of the normalization."""


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))


def usage(recipe: Recipe, optimizer: OptimizerName = "adamw") -> MemoryUsage:
    return training_memory(network(), (128,), BATCH, recipe, optimizer=optimizer)


def test_scales_count() -> None:
    """8.25 bits, but 16 for the two vectors of the normalization and its statistics."""
    ours = usage(Recipe.hardware("mxfp8-e4m3"))
    assert ours.weights == math.ceil(((WEIGHTS - 128) * 8.25 + 128 * 16) / 8)
    assert ours.activations == math.ceil(((SAVED - 128) * 8.25 + 128 * 16) / 8)
    assert (ours.gradients, ours.states, ours.master) == (2 * WEIGHTS, 8 * WEIGHTS, 4 * WEIGHTS)
    assert ours.optimizer == 14 * WEIGHTS
    assert ours.total == ours.weights + ours.activations + ours.optimizer


def test_states_of_small_tensors_stay_float32() -> None:
    large = 128 * 64
    expected = 2 * (large * 8.125 / 8 + (WEIGHTS - large) * 4)
    assert usage(Recipe.hardware(states="dynamic8@256")).states == expected
    assert usage(Recipe.hardware(states="bfloat16")).states == 2 * WEIGHTS * 2
    assert usage(Recipe.hardware(states="bfloat16"), "sgd").states == WEIGHTS * 2


def test_states_of_embeddings_stay_float32() -> None:
    words, layer = 64 * 64, 64 * 64 + 64
    model = nn.Sequential(nn.Embedding(64, 64), nn.Linear(64, 64))
    inputs = torch.zeros(BATCH, 3, dtype=torch.long)
    recipe = Recipe.hardware(states="dynamic8@256")
    found = training_memory(model, precision=recipe, inputs=inputs, optimizer="adamw")
    assert found.states == 2 * (4 * words + 64 * 64 * 8.125 / 8 + 4 * 64)
    assert found.gradients == 2 * (words + layer)


@pytest.mark.parametrize(
    ("weights", "master", "copies"),
    [
        ("bfloat16", "float32", 2 + 4),
        ("bfloat16", "float24", 3),
        ("bfloat16", "bfloat16", 2),
        ("float32", "float32", 4),
    ],
)
def test_weights_that_the_master_weights_hold_are_kept_once(
    weights: str, master: str, copies: int
) -> None:
    ours = usage(Recipe.hardware(weights, master=master))
    assert ours.weights + ours.master == copies * WEIGHTS


def test_what_is_kept_is_what_counts() -> None:
    ours = usage(Recipe.hardware("int4@256/minmax"))
    assert ours.activations == SAVED * 4.125 / 8
    assert ours.weights == 2 * WEIGHTS


def test_transient_gradients_are_there_one_at_a_time() -> None:
    recipe = replace(Recipe.hardware(), transient_gradients=True)
    assert usage(recipe).gradients == 2 * 128 * 64
    assert usage(recipe).total == usage(Recipe.hardware()).total - 2 * (WEIGHTS - 128 * 64)


def test_first_and_last_layer_in_bfloat16() -> None:
    """And what they read: of three layers, nvfp4 has the second one, and what that reads."""
    layers = nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    recipe = Recipe.named("nvfp4")
    ours = training_memory(nn.Sequential(*layers), (128,), BATCH, recipe)
    ends = 128 * 64 + 64 + 64 * 2 + 2
    assert ours.weights == 2 * ends + (64 * 64 + 64) * 4.5 / 8
    # The input, which no module returned, belongs to the first layer.
    assert ours.activations == BATCH * (2 * 128 + 64 * 4.5 / 8 + 2 * 64)


def test_an_exemption_names_a_module_that_is_there() -> None:
    high: dict[Role | Kept, Format] = {"activations": parse_format("float32")}
    recipe = replace(Recipe.hardware("mxfp4"), exemptions=(Exemption("2", high),))
    rectified = BATCH * 64
    assert usage(recipe).activations == rectified * 4 + (SAVED - rectified) * 4.25 / 8
    with pytest.raises(ValueError, match=r"an exemption must name .*; got '7', which it does not"):
        usage(replace(recipe, exemptions=(Exemption("7", high),)))


def test_the_hardware_space_with_and_without_its_optimizer() -> None:
    shape = (network(), (128,), BATCH)
    adamw = memory_vector(ConfigurationSpace.hardware(), *shape, optimizer="adamw")
    assert len(set(adamw.tolist())) > 100
    choices = ConfigurationSpace.hardware().choices
    both = ConfigurationSpace({**choices, "optimizer": ["adamw", "sgd"]})
    vector = memory_vector(both, *shape)
    assert np.array_equal(vector[::2], adamw)
    assert (vector[1::2] < vector[::2]).all()
