"""Recipes in trainings: the compiled step is the eager one, and few graphs serve all recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from optuna_peppp import Recipe
from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import ImageData, RoundingScheme, train

ELEMENTWISE = (
    Recipe.hardware(),
    Recipe.hardware(master="float24"),
    Recipe.hardware(states="bfloat16", master="bfloat16"),
    Recipe.hardware("float8-e4m3/saturate", "float8-e5m2"),
)
RUNS_OF_32 = tuple(map(Recipe.hardware, ("mxfp8-e4m3", "mxfp6-e3m2", "mxfp4")))
GROUPS = tuple(map(Recipe.hardware, ("int3@32", "int2@32")))
KEPT = tuple(Recipe.hardware(f"int{bits}@256/minmax") for bits in (8, 4, 2))
STATES = tuple(Recipe.hardware(states="dynamic8@256", master=m) for m in ("float32", "bfloat16"))
STRUCTURES = {
    "elements": ELEMENTWISE,
    "mx": RUNS_OF_32,
    "groups": GROUPS,
    "kept": KEPT,
    "states": STATES,
    "nvfp4": (Recipe.named("nvfp4"),),
    "fp8-hybrid": (Recipe.named("fp8-hybrid"),),
    "float16": (Recipe.named("float16"),),
}
FAST = ("elements", "mx", "kept")
"""What is tried in every run: an element, a scale of a block, and what is only kept."""


def data() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 3
    images = torch.randint(0, 100, (40, 3, 6, 6), generator=generator) + 50 * labels.view(
        -1, 1, 1, 1
    )
    pixels = images.to(torch.uint8)
    return ImageData("shades", pixels[:32], labels[:32], pixels[32:], labels[32:], 3)


def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 32, 3, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 3),
        )


def weights(recipe: Recipe | Precision, backend: Any = "eager", **settings: Any) -> Tensor:
    model = network()
    # Powers of two: torch's own update multiplies and adds with a single rounding.
    given = {"learning_rate": 2**-5, "weight_decay": 2**-11, "epochs": 2, "batch_size": 8}
    settings = given | {"seed": 3} | settings
    train(model, data(), recipe, backend=backend, **settings)
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


@pytest.mark.parametrize(
    "structure",
    [pytest.param(s, marks=[pytest.mark.slow] * (s not in FAST)) for s in STRUCTURES],
)
def test_a_structure_is_one_graph_and_that_is_the_eager_step(
    traced: CompileCounterWithBackend, structure: str
) -> None:
    answers = []
    for recipe in STRUCTURES[structure]:
        answers.append(weights(recipe))
        assert torch.equal(weights(recipe, "compiled"), answers[-1])
    assert traced.frame_count == 1
    assert len({tuple(answer.tolist()) for answer in answers}) == len(answers)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_the_papers_recipe_is_its_scheme(rounding: Any) -> None:
    recipe = Recipe.paper("1-4-3", "1-6-7", rounding)
    precision = Precision.parse("1-4-3", "1-6-7")
    scheme = RoundingScheme(rounding=rounding)
    assert torch.equal(weights(recipe), weights(precision, scheme=scheme))


def test_a_step_that_overflows_changes_nothing(traced: CompileCounterWithBackend) -> None:
    """A factor at which all gradients overflow, eager and compiled."""
    scale = DynamicLossScale(start=2.0**60, interval=1000)
    recipe = replace(Recipe.named("float16"), loss_scale=scale)
    still = torch.cat([p.detach().flatten() for p in network().parameters()])
    model = network()
    train(model, data(), recipe, learning_rate=0.05, epochs=1, batch_size=8, backend="eager")
    moved = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(moved, still)
    # Once it has shrunk enough, steps update; the compiled ones then follow the same rule.
    many = {"epochs": 16}
    assert torch.equal(weights(recipe, "compiled", **many), weights(recipe, **many))
    assert not torch.equal(weights(recipe, **many), weights(recipe, epochs=1))
    assert traced.frame_count == 1
