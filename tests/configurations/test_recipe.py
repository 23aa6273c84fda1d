from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from optuna_peppp import Recipe, parse_format
from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.recipe import RECIPES
from optuna_peppp.configurations.roles import ROLES, Exemption, Kept, Role


def test_the_papers_recipe() -> None:
    recipe = Recipe.paper("1-4-3", "1-6-7")
    assert {role: str(fmt) for role, fmt in recipe.items()} == {
        "weights": "1-4-3",
        "activations": "1-4-3",
        "activation_gradients": "1-4-3",
        "weight_gradients": "1-6-7",
        "momentum": "1-6-7",
        "accumulators": "1-6-7",
        "input": "1-6-7",
        "logits": "1-6-7",
    }
    assert (recipe.stochastic, recipe.loss_scale, recipe.exemptions) == (frozenset(), 1000.0, ())
    assert Recipe.paper("1-4-3", "1-6-7", "stochastic").stochastic == {*ROLES}


def test_what_is_computed_and_what_is_only_kept() -> None:
    computed = Recipe.hardware("mxfp6-e3m2", states="dynamic8@256", master="bfloat16")
    assert {str(computed[role]) for role in ROLES[:3]} == {"mxfp6-e3m2"}
    assert "saved" not in computed
    assert (str(computed["momentum"]), str(computed["accumulators"])) == (
        "dynamic8@256",
        "bfloat16",
    )
    assert computed.stochastic == {"accumulators"}
    kept = Recipe.hardware("int4@256/minmax")
    assert {str(kept[role]) for role in ROLES[:3]} == {"bfloat16"}
    assert str(kept["saved"]) == "int4@256/minmax"
    assert kept.stochastic == {"accumulators", "saved"}


def test_gradients_in_nvfp4_are_rounded_stochastically() -> None:
    assert "activation_gradients" in Recipe.hardware("nvfp4").stochastic
    assert "activation_gradients" in Recipe.hardware("bfloat16", "nvfp4").stochastic
    assert "activation_gradients" not in Recipe.hardware("nvfp4", "bfloat16").stochastic


def test_float32_is_float32_throughout() -> None:
    recipe = Recipe.hardware("float32")
    assert {str(fmt) for fmt in recipe.values()} == {"float32"}
    assert {str(f) for e in recipe.exemptions for f in e.formats.values()} == {"float32"}


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_survive_a_pickle_and_hash(name: str) -> None:
    recipe = Recipe.named(name)
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert hash(recipe) == hash(Recipe.named(name))
    assert len({Recipe.named(other) for other in RECIPES}) == len(RECIPES)


def test_the_recipes_that_are_in_use() -> None:
    hybrid = Recipe.named("fp8-hybrid")
    assert str(hybrid["activations"]) == "float8-e4m3@tensor"
    assert str(hybrid["activation_gradients"]) == "float8-e5m2@tensor"
    assert str(Recipe.named("mxfp8")["weights"]) == "mxfp8-e4m3"
    assert isinstance(Recipe.named("float16").loss_scale, DynamicLossScale)
    assert {str(f) for f in Recipe.named("float16").values()} == {"float16", "float32"}
    first = Recipe.named("nvfp4").at("0", frozenset({"first"}))
    assert str(Recipe.named("nvfp4").exempt(first)["weights"]) == "bfloat16"
    with pytest.raises(ValueError, match=r"recipe must be .*; got 'mxfp9'. Did you mean 'mxfp8'"):
        Recipe.named("mxfp9")


def test_who_is_exempt() -> None:
    high: dict[Role | Kept, Format] = {"weights": parse_format("float32")}
    recipe = Recipe.hardware("mxfp4")
    recipe = replace(recipe, exemptions=(*recipe.exemptions, Exemption("layer1", high)))
    assert recipe.at("bn", frozenset({"norm"})) == 0
    assert recipe.at("layer1.0.conv", frozenset()) == recipe.at("layer1", frozenset()) == 2
    assert recipe.at("layer10.conv", frozenset()) is None
    assert str(recipe.exempt(2)["weights"]) == "float32"
    assert str(recipe.exempt(2)["activations"]) == "mxfp4"
    assert recipe.exempt(None) == recipe.formats
    with pytest.raises(ValueError, match=r"role of an exemption must be 'weights'.*got 'input'"):
        Exemption("norm", {"input": parse_format("float32")})


def test_small_states_are_not_rounded() -> None:
    eight = Recipe.hardware(states="dynamic8@256")
    assert [eight.rounds_state(n) for n in (4095, 4096, 4097, 8192)] == [False, True, False, True]
    embedding = eight.exempt(eight.at("words", frozenset({"embedding"})))
    assert str(embedding["momentum"]) == "float32"
    assert Recipe.hardware(states="bfloat16").rounds_state(1)
    assert Recipe.paper("1-4-3", "1-6-7").rounds_state(1)
    assert not Recipe({}).rounds_state(10**6)


def test_a_recipe_is_its_formats_and_more() -> None:
    recipe = Recipe.paper("1-4-3", "1-6-7")
    assert recipe == dict(recipe)
    assert recipe != replace(recipe, loss_scale=1.0)
    assert recipe != Recipe.paper("1-4-3", "1-6-7", "stochastic")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"start": 0.0}, "start must be positive"),
        ({"growth": 1.0}, "growth must be above 1"),
        ({"backoff": 1.0}, "backoff must lie between 0 and 1"),
        ({"interval": 0}, "interval must be at least 1"),
    ],
)
def test_a_loss_scale_that_cannot_be(settings: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DynamicLossScale(**settings)  # type: ignore[arg-type]


def test_what_is_no_recipe() -> None:
    with pytest.raises(ValueError, match=r"role must be .*got 'bias'"):
        Recipe({"bias": parse_format("bfloat16")})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="loss_scale must be positive and finite; got 0"):
        Recipe({}, loss_scale=0.0)
    with pytest.raises(ValueError, match=r"got 'mxfp5'\. Did you mean"):
        Recipe.hardware("mxfp5")
