from __future__ import annotations

import pytest

from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.formats import FloatFormat, MachineFloat
from optuna_peppp.configurations.hardware import names_formats, recipe_of
from optuna_peppp.configurations.recipe import Recipe

MIXED = {"format_low": "1-3-1", "format_high": "1-4-3"}


def test_an_assignment_by_name() -> None:
    params = {**MIXED, "format_b": "1-6-9", "demotion": 0.4, "order": "random-1"}
    recipe = recipe_of({**params, "promotion": "0.01", "learning_rate": 0.1}, "stochastic")
    assert recipe.rule == Rule(FloatFormat(4, 3), 0.4, "random-1", 0.01)
    assert recipe.formats == Recipe.paper("1-3-1", "1-6-9").formats
    assert recipe.stochastic == Recipe.paper("1-3-1", "1-6-9", "stochastic").stochastic


def test_what_an_assignment_leaves_out_is_fixed() -> None:
    recipe = recipe_of({**MIXED, "format_b": "1-6-9"})
    assert recipe == Recipe.assigned("1-3-1", "1-4-3", "1-6-9")
    assert recipe.rule == Rule(FloatFormat(4, 3), 1.0, "decreasing", None)


def test_a_gradient_of_its_own() -> None:
    recipe = recipe_of({**MIXED, "format_b": "1-6-9", "format_gradient": "1-5-2"})
    assert str(recipe["activation_gradients"]) == "1-5-2"
    assert str(recipe["activations"]) == "1-3-1"


def test_an_assignment_without_format_b_is_hardwares() -> None:
    params = {"format_low": "nvfp4", "format_high": "bfloat16", "states": "dynamic8@256"}
    recipe = recipe_of({**params, "master": "float24", "demotion": 0.5})
    plain = Recipe.hardware("nvfp4", states="dynamic8@256", master="float24")
    assert recipe.formats == plain.formats
    assert recipe.exemptions == plain.exemptions
    assert recipe.rule == Rule(MachineFloat("bfloat16"), 0.5)


@pytest.mark.parametrize(
    ("names", "sound"),
    [
        (["format_a", "format_b"], True),
        (["states"], True),
        (["format_low", "format_high"], True),
        (["format_low", "format_high", "format_b", "demotion"], True),
        (["format_low", "format_high", "states", "master"], True),
        (["format_low"], False),
        (["demotion"], False),
        (["format_low", "format_high", "format_a"], False),
        (["format_low", "format_high", "activations"], False),
        (["format_low", "format_high", "format_b", "states"], False),
        (["format_a", "format_b", "order"], False),
    ],
)
def test_which_names_have_a_recipe(names: list[str], sound: bool) -> None:
    assert names_formats(names) == sound


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"demotion": "much"}, "demotion must be a number"),
        ({"promotion": "on"}, "promotion one or 'off'; got .* and 'on'"),
        ({"demotion": 2.0}, "demotion must be between 0 and 1"),
        ({"order": "size"}, "order must be one of"),
    ],
)
def test_bad_assignments_are_refused(params: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        recipe_of({**MIXED, "format_b": "1-6-9", **params})
