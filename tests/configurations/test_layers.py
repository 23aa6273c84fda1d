from __future__ import annotations

import json
from dataclasses import replace

from optuna_peppp.configurations.layers import Layers
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import Exemption
from optuna_peppp.configurations.sites import INPUT, Groups, Parameter, Site

# Linear(4, 5), ReLU called twice, Linear(5, 3), on a batch of 7: sizes 106, 246 and 42.
GROUPS = Groups(
    (
        Site(INPUT, 28, 0),
        Site(("0", 0), 35, 1, is_product=True),
        Site(("1", 0), 35, 1),
        Site(("1", 1), 35, 1),
        Site(("2", 0), 21, 2, is_product=True),
    ),
    {INPUT: 0, ("0", 0): 1, ("1", 0): 2, ("1", 1): 3, ("2", 0): 4},
    {"0.weight": Parameter(20, 0), "0.bias": Parameter(5, 0), "2.weight": Parameter(18, 1)},
    frozenset({("2", 0)}),
)
RECIPE = Recipe.assigned("1-3-1", "1-4-3", "1-6-9", "1-5-2", demotion=0.5, promotion=0.01)


def test_every_tensor_has_the_format_of_its_group() -> None:
    layers = Layers.of(RECIPE, GROUPS, {})
    told = json.loads(layers.as_json())
    assert {name: layer["formats"] for name, layer in told["sites"].items()} == {
        "(input)": {"input": "1-6-9"},
        **{
            key: {"activations": "1-3-1", "activation_gradients": "1-5-2"}
            for key in ("0", "1", "1#2")
        },
        "2": {"logits": "1-6-9"},
    }
    of_b = dict.fromkeys(("weight_gradients", "momentum", "accumulators"), "1-6-9")
    assert {name: layer["formats"] for name, layer in told["parameters"].items()} == {
        "0.weight": {"weights": "1-4-3", **of_b},
        "0.bias": {"weights": "1-4-3", **of_b},
        "2.weight": {"weights": "1-3-1", **of_b},
    }
    assert told["parameters"]["2.weight"]["group"] == 1
    assert (told["low"], told["high"], told["promotion"]) == ("1-3-1", "1-4-3", 0.01)
    # Three sites of 35 and their gradients, and 18 weights, of 394 numbers.
    assert told["low_ratio"] == (6 * 35 + 18) / 394
    assert layers.shares == (0.0, 1.0, None)
    assert layers.members(1) == ["0", "1", "1#2"]


def test_what_is_exempt_is_neither_low_nor_high() -> None:
    exempt = replace(RECIPE, exemptions=(Exemption("1", {"activations": RECIPE["input"]}),))
    layers = Layers.of(exempt, GROUPS, {"1": 0})
    assert layers.sites[2].formats == {"activations": "1-6-9", "activation_gradients": "1-5-2"}
    assert layers.ratio == (2 * 35 + 18) / 394


def test_ends_that_follow_their_groups_are_ruled() -> None:
    assert RECIPE.rule is not None
    layers = Layers.of(replace(RECIPE, rule=replace(RECIPE.rule, ends=True)), GROUPS, {})
    assert layers.sites[0].formats["activations"] == "1-4-3"
    assert layers.shares == (0.0, 1.0, 0.0)
